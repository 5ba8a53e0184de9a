//! From what a scan found to the text of a configuration file. Pure; what cannot be polled as it was found is written as a
//! comment that says why and what to do.

use crate::{
    cli::scan::found::Found,
    config::{Config, Transport},
    model::{Parity, Settings},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

#[derive(Debug, Clone, Default)]
pub struct Wishes<'a> {
    /// Of the line; `None`: chosen.
    pub line: Option<&'a str>,
    /// As it is written, such as `5s`.
    pub poll: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Draft {
    pub text: String,
    /// The file's name without its ending.
    pub name: String,
    /// Ids of the devices that it adds.
    pub devices: Vec<String>,
    /// What was left out and why, one sentence each.
    pub left_out: Vec<String>,
}

/// `stable`: a port's name that survives a replug.
pub fn draft(found: &[Found], config: Option<&Config>, wishes: &Wishes<'_>, stable: &dyn Fn(&str) -> String) -> Draft {
    let mut taken = Taken::of(config);
    let mut draft =
        Draft { text: "# Written by fieldgate config add --from-scan. Compare the values with the displays.\n".into(), ..Draft::default() };
    let (serial, net): (Vec<&Found>, Vec<&Found>) = found.iter().partition(|f| f.settings().is_some());
    let mut ports: BTreeMap<&str, Vec<&Found>> = BTreeMap::new();
    for f in serial {
        ports.entry(&f.place).or_default().push(f);
    }
    for (port, units) in ports {
        one_port(&mut draft, &mut taken, port, &units, config, wishes, stable);
    }
    for f in net {
        let key = if f.framing.as_deref() == Some("rtu") { "rtu_over_tcp" } else { "tcp" };
        if is_known(config, &f.place, f.unit, &|p| p.to_owned()) {
            draft.left_out.push(format!("unit {} at {} is configured already", f.unit, f.place));
        } else {
            device(&mut draft, &mut taken, f, &format!("{key} = {}", quoted(&f.place)), wishes, None);
        }
    }
    if draft.name.is_empty() {
        draft.name = draft.devices.first().cloned().unwrap_or_else(|| "found".into());
    }
    draft
}

/// One port is one line, and a line has one set of settings: those of most of its units.
fn one_port(
    draft: &mut Draft,
    taken: &mut Taken,
    port: &str,
    units: &[&Found],
    config: Option<&Config>,
    wishes: &Wishes<'_>,
    stable: &dyn Fn(&str) -> String,
) {
    let path = stable(port);
    let known = config
        .and_then(|c| c.lines.iter().find(|l| matches!(&l.transport, Transport::Serial(s) if stable(&s.path.to_string_lossy()) == path)));
    let settings = match known.map(|l| &l.transport) {
        Some(Transport::Serial(s)) => Settings { baud: s.baud, parity: s.parity, bits: s.bits, stop: s.stop },
        _ => most(units),
    };
    let line = match known {
        Some(line) => line.id.to_string(),
        None => {
            let id = taken.line(wishes.line.unwrap_or("bus"));
            let parity = parity(settings.parity);
            let stop = if settings.stop == 1 { String::new() } else { format!(", stop = {}", settings.stop) };
            let (baud, path) = (settings.baud, quoted(&path));
            let _ = write!(draft.text, "\n[line.{id}]\nserial = {{ path = {path}, baud = {baud}, parity = \"{parity}\"{stop} }}\n");
            id
        }
    };
    if draft.name.is_empty() {
        draft.name.clone_from(&line);
    }
    for f in units {
        let own = f.settings().unwrap_or(settings);
        if is_known(config, port, f.unit, stable) {
            draft.left_out.push(format!("unit {} on {port} is configured already", f.unit));
        } else {
            let why = (own != settings).then(|| format!("it speaks {own}, the line {settings}: set the device to {settings} first"));
            device(draft, taken, f, &format!("line = \"{line}\""), wishes, why);
        }
    }
}

fn device(draft: &mut Draft, taken: &mut Taken, f: &Found, place: &str, wishes: &Wishes<'_>, why: Option<String>) {
    let Some(profile) = &f.profile else {
        let explore = format!("fieldgate explore {} -u {}", f.place, f.unit);
        draft.left_out.push(format!("unit {} has no profile: {}; find out what it holds: {explore}", f.unit, f.title));
        let _ = write!(draft.text, "\n# Unit {} at {}: {}. What it holds: {explore}\n", f.unit, f.place, f.title);
        return;
    };
    let why = why.or_else(|| (f.confidence == "low").then(|| format!("it may be {}: compare, then take the # away", f.title)));
    let id = taken.device(&id_of(profile, f.unit));
    let mut text = format!("[device.{id}]\n{place}\nunit = {}\nprofile = {}\npoll = {}\n", f.unit, quoted(profile), quoted(wishes.poll));
    if let Some(why) = why {
        draft.left_out.push(format!("unit {} is written as a comment: {why}", f.unit));
        text = format!("# {why}\n{}", text.lines().map(|l| format!("# {l}\n")).collect::<String>());
    } else {
        draft.devices.push(id);
    }
    let _ = write!(draft.text, "\n{text}");
}

/// The settings that most units have; of equally many the first.
fn most(units: &[&Found]) -> Settings {
    let all: Vec<Settings> = units.iter().filter_map(|f| f.settings()).collect();
    let count = |s: &Settings| all.iter().filter(|o| *o == s).count();
    let first = Settings { baud: 9600, parity: Parity::None, bits: 8, stop: 1 };
    all.iter().rev().max_by_key(|s| count(s)).copied().unwrap_or(first)
}

fn is_known(config: Option<&Config>, place: &str, unit: u8, stable: &dyn Fn(&str) -> String) -> bool {
    let Some(config) = config else { return false };
    let here = |transport: &Transport| match transport {
        Transport::Serial(s) => stable(&s.path.to_string_lossy()) == stable(place),
        Transport::Tcp { host, port } | Transport::RtuOverTcp { host, port } => format!("{host}:{port}") == place,
    };
    let line = |id| config.lines.iter().find(|l| l.id == id);
    config.devices.iter().any(|d| d.unit == unit && line(d.line.clone()).is_some_and(|l| here(&l.transport)))
}

/// `eastron-sdm120` at unit 3 is `sdm120-3`.
fn id_of(profile: &str, unit: u8) -> String {
    let base = profile.split('@').next().unwrap_or(profile);
    let model = base.split_once('-').map_or(base, |(_, model)| model);
    let clean: String = model.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("{clean}-{unit}")
}

/// Ids that are in use.
#[derive(Debug, Default)]
struct Taken {
    lines: BTreeSet<String>,
    devices: BTreeSet<String>,
}

impl Taken {
    fn of(config: Option<&Config>) -> Taken {
        let Some(config) = config else { return Taken::default() };
        let lines = config.lines.iter().map(|l| l.id.to_string()).collect();
        Taken { lines, devices: config.devices.iter().map(|d| d.id.to_string()).collect() }
    }

    fn line(&mut self, wanted: &str) -> String {
        free(&mut self.lines, wanted)
    }

    fn device(&mut self, wanted: &str) -> String {
        free(&mut self.devices, wanted)
    }
}

fn free(taken: &mut BTreeSet<String>, wanted: &str) -> String {
    let numbered = (2..).map(|n| format!("{wanted}-{n}"));
    let id = std::iter::once(wanted.to_owned()).chain(numbered).find(|id| !taken.contains(id)).unwrap_or_default();
    taken.insert(id.clone());
    id
}

const fn parity(parity: Parity) -> &'static str {
    match parity {
        Parity::None => "none",
        Parity::Even => "even",
        Parity::Odd => "odd",
    }
}

/// As TOML writes a text.
pub fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Secrets, Surroundings};
    use std::path::Path;

    fn found(place: &str, unit: u8, settings: Option<(u32, Parity)>, profile: Option<&str>, sure: &str) -> Found {
        let settings = settings.map(|(baud, parity)| Settings { baud, parity, bits: 8, stop: 1 });
        let mut found = Found::new(place, unit, settings, settings.is_none().then_some("mbap"), Default::default());
        (found.profile, found.title, found.confidence) = (profile.map(str::to_owned), "Eastron SDM120".into(), sure.into());
        found
    }

    const N: Option<(u32, Parity)> = Some((9600, Parity::None));

    fn wishes() -> Wishes<'static> {
        Wishes { line: None, poll: "5s" }
    }

    /// What is written is what `check` takes, beside a main file that has only a gateway.
    #[track_caller]
    fn checked(text: &str) -> Config {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("conf.d")).unwrap();
        let main = dir.path().join("fieldgate.toml");
        std::fs::write(&main, "[gateway]\nid = \"g\"\n[uplink.cloud]\nurl = \"mqtt://127.0.0.1\"\n").unwrap();
        std::fs::write(dir.path().join("conf.d/bus.toml"), text).unwrap();
        let profiles = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/profiles");
        let around = Surroundings { env: Box::new(|_| None), machine_id: None, profile_dirs: vec![profiles], secrets: Secrets::Unread };
        let loaded = crate::config::load_with(&main, &around);
        loaded.config.unwrap_or_else(|| panic!("{text}\n{:?}", loaded.problems))
    }

    #[test]
    fn found_devices_become_a_file_that_checks() {
        let all = [
            found("/dev/ttyUSB1", 1, N, Some("eastron-sdm120"), "high"),
            found("/dev/ttyUSB1", 2, N, Some("eastron-sdm120"), "high"),
            found("/dev/ttyUSB1", 7, N, None, "low"),
            found("/dev/ttyUSB1", 9, Some((19_200, Parity::Even)), Some("eastron-sdm630"), "high"),
            found("192.168.1.20:502", 1, None, Some("eastron-sdm120"), "high"),
        ];
        let draft = draft(&all, None, &wishes(), &|p| p.replace("/dev/ttyUSB1", "/dev/serial/by-id/usb-1"));
        assert_eq!(draft.name, "bus");
        assert_eq!(draft.devices, ["sdm120-1", "sdm120-2", "sdm120-1-2"]);
        let config = checked(&draft.text);
        assert_eq!(config.devices.len(), 3);
        assert!(draft.text.contains("path = \"/dev/serial/by-id/usb-1\", baud = 9600, parity = \"none\""), "{}", draft.text);
        assert_eq!(draft.left_out.len(), 2, "{:?}", draft.left_out);
        assert!(draft.left_out[0].starts_with("unit 7 has no profile"));
        assert!(draft.left_out[1].contains("it speaks 19200 8E1, the line 9600 8N1"));
    }

    #[test]
    fn what_is_configured_already_is_not_written_twice() {
        let first = draft(&[found("/dev/ttyUSB1", 1, N, Some("eastron-sdm120"), "high")], None, &wishes(), &str::to_owned);
        let config = checked(&first.text);
        let again =
            [found("/dev/ttyUSB1", 1, N, Some("eastron-sdm120"), "high"), found("/dev/ttyUSB1", 3, N, Some("eastron-sdm120"), "high")];
        let second = draft(&again, Some(&config), &wishes(), &str::to_owned);
        assert_eq!(second.devices, ["sdm120-3"]);
        assert!(!second.text.contains("[line."), "its line is there: {}", second.text);
        assert_eq!(second.left_out, ["unit 1 on /dev/ttyUSB1 is configured already"]);
    }
}
