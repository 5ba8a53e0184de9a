//! What a write says: the dry run, the question, and how it ended.

use super::{EXIT_UNKNOWN, End, Wish, plain};
use crate::{
    cli::{
        EXIT_REFUSED, Out, moment,
        out::{Paint, hex},
    },
    config::{Point, WriteRule},
    model::{Phase, PointId, Value},
};
use serde_json::{Map, json};
use std::{fmt::Write, process::ExitCode, time::Duration};

fn text(value: &Value) -> String {
    match value {
        Value::Null => "no value".into(),
        Value::Bool(on) => if *on { "on" } else { "off" }.into(),
        Value::Int(n) => n.to_string(),
        Value::Uint(n) => n.to_string(),
        Value::Float(n) => n.to_string(),
        Value::Text(text) => text.to_string(),
    }
}

fn with_unit(value: &str, unit: &str) -> String {
    if unit.is_empty() { value.to_owned() } else { format!("{value} {unit}") }
}

fn point<'a>(wish: &'a Wish, id: &PointId) -> Option<&'a Point> {
    wish.device.points.iter().find(|p| p.id == *id)
}

/// `allowed 20 to 80, every 5 s at most`.
fn limits(rule: &WriteRule) -> String {
    let mut says = match (rule.min, rule.max) {
        (Some(min), Some(max)) => format!("allowed {min} to {max}"),
        (Some(min), None) => format!("allowed from {min}"),
        (None, Some(max)) => format!("allowed to {max}"),
        (None, None) => String::new(),
    };
    if !rule.min_interval.is_zero() {
        let every = format!("every {} s at most", rule.min_interval.as_secs_f64());
        says = if says.is_empty() { every } else { format!("{says}, {every}") };
    }
    says
}

/// One line per point: `setpoint   65 °C → 67 °C      allowed 20 to 80`.
fn changes(wish: &Wish, ascii: bool) -> Vec<(String, String)> {
    let arrow = if ascii { "->" } else { "→" };
    let change = |(id, value): (&PointId, &Value)| {
        let point = point(wish, id);
        let unit = point.map_or("", |p| p.unit.as_str());
        let new = with_unit(&text(value), unit);
        let change = match wish.before.get(id) {
            Some(before) => format!("{id}   {} {arrow} {new}", with_unit(&text(before), unit)),
            None => format!("{id} {arrow} {new}"),
        };
        (change, point.and_then(|p| p.write.as_deref()).map(limits).unwrap_or_default())
    };
    wish.values.iter().map(change).collect()
}

pub fn question(wish: &Wish) -> String {
    let says: Vec<String> = wish
        .values
        .iter()
        .map(|(id, value)| {
            let unit = point(wish, id).map_or("", |p| p.unit.as_str());
            let from = wish.before.get(id).map(|b| format!(" from {}", with_unit(&text(b), unit))).unwrap_or_default();
            format!("{id}{from} to {}", with_unit(&text(value), unit))
        })
        .collect();
    format!("Set {} {}?", wish.device.id, says.join(", "))
}

pub fn dry(out: &Out, wish: &Wish, expires: Duration) -> ExitCode {
    if out.json {
        let steps = wish.steps.iter().map(|s| json!({"step": s.words, "pdu": hex(&s.request), "expect": s.expect.as_deref().map(hex)}));
        let mut document = body(wish, &End::default());
        document["dry_run"] = json!(true);
        document["steps"] = steps.collect();
        out.say(&document.to_string());
        return ExitCode::SUCCESS;
    }
    let mut s = String::from("Nothing is sent. This would happen:\n\n");
    for (change, limits) in changes(wish, out.ascii) {
        let limits = if limits.is_empty() { limits } else { format!("      {}", out.paint(Paint::Dim, &limits)) };
        let _ = writeln!(s, "  {}  {change}{limits}", wish.device.id);
    }
    let _ = writeln!(s, "  unit {} on {} ({})", wish.device.unit, wish.device.line, wish.place);
    for step in &wish.steps {
        let _ = writeln!(s, "\n  {}", step.words);
        if !step.request.is_empty() {
            let _ = writeln!(s, "    request   {}", hex(&step.request));
        }
        if let Some(expect) = &step.expect {
            let _ = writeln!(s, "    expect    {}", hex(expect));
        }
    }
    let _ = write!(s, "\n  expires after {} s", expires.as_secs_f64());
    out.say(&s);
    ExitCode::SUCCESS
}

fn body(wish: &Wish, end: &End) -> serde_json::Value {
    let values = |of: &std::collections::BTreeMap<PointId, Value>| -> Map<String, serde_json::Value> {
        of.iter().filter(|(p, _)| wish.values.contains_key(*p)).map(|(p, v)| (p.to_string(), plain(v))).collect()
    };
    let phases: Vec<_> = end.phases.iter().map(|(phase, at)| json!({"phase": phase, "at": moment::rfc3339(*at)})).collect();
    let pdu = wish.steps.iter().map(|s| hex(&s.request)).find(|s| !s.is_empty());
    json!({
        "v": 1, "id": end.id, "phase": end.phase, "device": wish.device.id, "write": values(&wish.values), "before": values(&wish.before),
        "read_back": end.read_back, "phases": phases, "pdu": pdu, "reason": end.reason,
    })
}

pub const fn code(phase: Phase) -> u8 {
    match phase {
        Phase::Confirmed | Phase::Accepted | Phase::Sent => 0,
        Phase::Failed | Phase::Expired => 1,
        Phase::Rejected => EXIT_REFUSED,
        Phase::Unknown => EXIT_UNKNOWN,
    }
}

/// Before a phase. One that is not the last has none.
pub fn glyph(phase: Phase, out: &Out) -> String {
    match phase {
        Phase::Accepted | Phase::Sent => " ".to_owned(),
        Phase::Confirmed => out.glyph("good"),
        Phase::Unknown => out.glyph("unknown"),
        Phase::Failed | Phase::Expired | Phase::Rejected => out.glyph("offline"),
    }
}

pub fn end(out: &Out, wish: &Wish, end: &End) -> ExitCode {
    let phase = end.phase.unwrap_or(Phase::Unknown);
    let code = code(phase);
    if out.json {
        out.say(&body(wish, end).to_string());
        return ExitCode::from(code);
    }
    let mut before = None;
    for (n, (phase, at)) in end.phases.iter().enumerate() {
        let last = n + 1 == end.phases.len() && phase.is_terminal();
        let glyph = if last { glyph(*phase, out) } else { " ".to_owned() };
        let detail = match (phase, before) {
            (Phase::Sent, Some(earlier)) => format!("   waited {} ms for its turn", at - earlier),
            (Phase::Confirmed, _) => read_back(wish, end),
            (_, _) if last && !end.reason.is_empty() => format!("   {}", end.reason),
            _ => String::new(),
        };
        before = Some(*at);
        out.say(&format!("{glyph} {:9} {}{detail}", phase.word(), moment::time(*at)));
    }
    match phase {
        Phase::Rejected => out.error("rejected", &format!("rejected, {}\n  nothing was sent", end.reason), ""),
        Phase::Unknown => out.error(
            "unknown",
            &format!("nobody knows whether {} carried it out: {}", wish.device.id, end.reason),
            &format!("fieldgate read {}     before you send it again", wish.device.id),
        ),
        _ => {}
    }
    ExitCode::from(code)
}

fn read_back(wish: &Wish, end: &End) -> String {
    let says: Vec<String> = wish
        .values
        .keys()
        .filter_map(|id| {
            let value = end.read_back.get(id.as_str())?;
            Some(with_unit(&text(&crate::api::json::value(value).unwrap_or(Value::Null)), point(wish, id).map_or("", |p| p.unit.as_str())))
        })
        .collect();
    if says.is_empty() { String::new() } else { format!("   read back {}", says.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{DataType, Device, FixedWrite, Register, Table},
        model::{DeviceId, LineId},
    };
    use std::sync::Arc;

    fn wish() -> Wish {
        let id = PointId::parse("setpoint").unwrap();
        let mut point = Point::new(id.clone(), Register { table: Table::Holding, address: 101 }, DataType::U16);
        point.unit = "°C".into();
        let rule = WriteRule { min: Some(20.0), max: Some(80.0), min_interval: Duration::from_secs(5), ..WriteRule::default() };
        point.write = Some(Box::new(rule));
        let mut device = Device::new(DeviceId::parse("boiler").unwrap(), LineId::parse("plc").unwrap(), 1);
        device.points = [point].into();
        let values = [(id.clone(), Value::Int(67))].into();
        let steps = crate::drivers::line::orders::preview(&device, &values).unwrap();
        Wish { device, place: "192.168.1.20:502".into(), values, before: [(id, Value::Int(65))].into(), steps }
    }

    #[test]
    fn the_question_names_device_point_old_and_new_value() {
        assert_eq!(question(&wish()), "Set boiler setpoint from 65 °C to 67 °C?");
        assert_eq!(changes(&wish(), false), [("setpoint   65 °C → 67 °C".to_owned(), "allowed 20 to 80, every 5 s at most".to_owned())]);
    }

    #[test]
    fn a_dry_run_does_not_show_a_secret() {
        let Wish { mut device, values, .. } = wish();
        let place = Register { table: Table::Holding, address: 0 };
        let code = FixedWrite { register: place, words: vec![0xbeef], function: 6, secret: true };
        Arc::make_mut(&mut device.points)[0].write.as_mut().unwrap().pre = vec![code];
        let steps = crate::drivers::line::orders::preview(&device, &values).unwrap();
        assert!(steps[0].words.ends_with("its value is a secret and not shown"), "{steps:?}");
        assert!(steps[0].request.is_empty() && steps[0].expect.is_none(), "{steps:?}");
        assert_eq!(steps[1].request, [6, 0, 101, 0, 67]);
    }

    #[test]
    fn the_document_has_the_bytes_of_the_write() {
        let document = body(&wish(), &End::default());
        assert_eq!(document["pdu"], "06 00 65 00 43");
        assert_eq!(document["before"]["setpoint"], 65);
    }
}
