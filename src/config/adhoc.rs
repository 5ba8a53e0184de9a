//! A point that is described on a command line (`input:12`, `f32/CDAB`): checked by the rules of a file, with its words.

use super::{
    Point,
    check::{self, Desk, Profiles},
    problem::{Problems, Severity},
    surroundings::{Secrets, Surroundings},
    tree,
};
use crate::model::Shared;

/// The point, or what is wrong with it and what to write instead.
pub fn point(register: &str, kind: Option<&str>, order: Option<&str>) -> Result<Point, String> {
    let mut text = String::from("[gateway]\nid = \"site\"\n[device.site]\ntcp = \"127.0.0.1:502\"\nunit = 1\n[device.site.point.value]\n");
    for (key, value) in [("register", Some(register)), ("type", kind), ("order", order)] {
        let Some(value) = value else { continue };
        if value.contains(['"', '\\', '\n']) {
            return Err(format!("{value} is no {key}"));
        }
        text.push_str(&format!("{key} = \"{value}\"\n"));
    }
    let around = Surroundings { env: Box::new(|_| None), machine_id: None, profile_dirs: Vec::new(), secrets: Secrets::Unread };
    let mut out = Problems::default();
    let file = out.sources.add("command line".into(), text);
    let root = tree::parse(file, &mut out);
    let mut desk = Desk { out, around: &around, profiles: Profiles::new(Vec::new()), framed: Vec::new(), points: Shared::default() };
    let (config, _) = check::document(&root, file, &mut desk);
    let (problems, _) = desk.out.finish();
    if let Some(problem) = problems.iter().find(|p| p.severity == Severity::Error) {
        let wants: Vec<&str> = problem.want.iter().map(|w| w.write.as_str()).collect();
        let wants = if wants.is_empty() { String::new() } else { format!("; write {}", wants.join(" or ")) };
        return Err(format!("{}: {}{wants}", problem.found, problem.because));
    }
    let device = config.and_then(|c| c.devices.into_iter().next());
    device.and_then(|d| d.points.first().cloned()).ok_or_else(|| format!("{register} is no register"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DataType, Table, WordOrder};

    #[test]
    fn a_point_in_words_is_what_a_file_would_make_of_it() {
        let p = point("input:12", Some("f32"), Some("CDAB")).expect("right");
        assert_eq!((p.register.table, p.register.address, p.kind, p.order), (Table::Input, 12, DataType::F32, WordOrder::Cdab));
        assert_eq!(point("coil:3", None, None).expect("right").kind, DataType::Bool);
        for (register, kind, says) in [
            ("register:1", "u16", "holding"),
            ("holding:1", "float32", "f32"),
            ("40001", "u16", "two ways"),
            ("a\"b", "u16", "no register"),
        ] {
            let why = point(register, Some(kind), None).expect_err("wrong");
            assert!(why.contains(says), "{register} {kind}: {why}");
        }
    }
}
