//! One reading as a table or an object.

use super::{
    ask::{All, Taken},
    is_float,
};
use crate::{
    api::json::plain,
    cli::{
        Out, moment,
        out::{Paint, count, hex},
        site::Place,
        table::{Table, left, right},
    },
    config::{Device, Point},
    model::{Quality, Value},
    system::clock::Clock,
};
use serde_json::{Value as Json, json};
use std::fmt::Write;

pub struct Reading<'a> {
    pub args_raw: bool,
    pub device: &'a Device,
    pub place: &'a Place,
    /// Points in the order they were asked for.
    pub order: &'a [usize],
    pub taken: &'a All,
}

impl Reading<'_> {
    fn in_order(&self) -> impl Iterator<Item = &Taken> {
        self.order.iter().filter_map(|n| self.taken.values.iter().find(|v| v.point == *n))
    }
}

pub fn print(out: &Out, reading: &Reading<'_>, before: &[Taken]) {
    if reading.taken.values.is_empty() && !reading.taken.troubles.is_empty() {
        return;
    }
    if out.json {
        let at = Clock::Real.reading().wall(Clock::Real.now()).0;
        out.say(&document(reading, at).to_string());
    } else {
        out.table(render(out, reading, before).trim_end());
    }
}

fn document(reading: &Reading<'_>, at_ms: i64) -> Json {
    let values: Vec<Json> = reading
        .in_order()
        .map(|v| {
            let point = &reading.device.points[v.point];
            json!({
                "point": point.id, "value": plain(&v.value), "unit": point.unit, "quality": v.quality.word(),
                "register": point.register.to_string(), "raw": hex(&v.raw),
            })
        })
        .collect();
    let took = u64::try_from(reading.taken.took.as_millis()).unwrap_or(u64::MAX);
    json!({"v": 1, "device": reading.device.id, "at": moment::rfc3339(at_ms), "values": values, "took_ms": took})
}

/// Pure but for the colours: one line about the device, one per point.
fn render(out: &Out, reading: &Reading<'_>, before: &[Taken]) -> String {
    let device = reading.device;
    let on = if reading.place.is_configured { reading.place.line.id.to_string() } else { reading.place.name() };
    let took = reading.taken.took.as_millis();
    let mut s = String::new();
    let name = out.paint(Paint::Bold, device.id.as_str());
    let _ = writeln!(s, "{name}   unit {} on {on}, answered in {took} ms", device.unit);
    let rows: Vec<(&Point, &Taken, String)> =
        reading.in_order().map(|v| (&device.points[v.point], v, number(&device.points[v.point], &v.value))).collect();
    let columns = [left("POINT"), right("VALUE"), left("UNIT"), left("QUALITY").least(13), left("REGISTER").rank(1), left("RAW").rank(2)];
    let mut table = Table::headless(&columns);
    for (p, v, text) in rows {
        let changed = before.iter().any(|b| b.point == v.point && b.value != v.value);
        let quality = v.quality.word().replace('_', " ");
        let bytes = if reading.args_raw || v.quality != Quality::Good { format!(" raw {}", hex(&v.raw)) } else { String::new() };
        let cells = [p.id.to_string(), text, p.unit.clone(), quality, p.register.to_string(), bytes];
        let bold = |cell: String| if changed && !cell.is_empty() { out.paint(Paint::Bold, &cell) } else { cell };
        table.row(if changed { bold("* ".into()) } else { "  ".into() }, cells.map(bold));
    }
    s.push_str(&table.text(out));
    if reading.args_raw {
        for (sent, heard) in &reading.taken.sent {
            let _ = writeln!(s, "  > {}\n  < {}", hex(sent), hex(heard));
        }
    }
    s
}

/// With the decimals that its scale gives, or those that a floating point number needs; never more.
fn number(point: &Point, value: &Value) -> String {
    match value {
        Value::Null => "—".into(),
        Value::Bool(b) => b.to_string(),
        Value::Text(t) => t.to_string(),
        Value::Uint(n) => count(*n),
        Value::Int(n) => format!("{}{}", if *n < 0 { "-" } else { "" }, count(n.unsigned_abs())),
        Value::Float(f) => float(*f, decimals(point)),
    }
}

/// Decimals of a scale of 0.1, 0.01, …; 0 for whole numbers; `None`: as many as it takes.
fn decimals(point: &Point) -> Option<usize> {
    if is_float(point.kind) && point.scale >= 1.0 {
        return None;
    }
    (0..=6).find(|n| {
        let scaled = point.scale * 10f64.powi(i32::try_from(*n).unwrap_or(0));
        (scaled - scaled.round()).abs() < 1e-9 && scaled.round() >= 1.0
    })
}

fn float(f: f64, decimals: Option<usize>) -> String {
    let text = match decimals {
        Some(n) => format!("{f:.n$}"),
        None if f != 0.0 && !(1e-3..1e15).contains(&f.abs()) => return format!("{f:e}"),
        None => {
            let text = format!("{f:.3}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    };
    let (sign, text) = text.strip_prefix('-').map_or(("", text.as_str()), |rest| ("-", rest));
    let (whole, rest) = text.split_once('.').map_or((text, None), |(w, r)| (w, Some(r)));
    let whole = whole.parse().map_or_else(|_| whole.to_owned(), count);
    match rest {
        Some(rest) => format!("{sign}{whole}.{rest}"),
        None => format!("{sign}{whole}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{self, DataType, Line, Transport},
        model::{DeviceId, LineId},
    };
    use std::time::Duration;

    fn point(register: &str, kind: &str, id: &str, unit: &str, scale: f64) -> Point {
        let point = config::adhoc_point(register, Some(kind), None).expect("right");
        Point { id: crate::model::PointId::parse(id).expect("valid"), unit: unit.into(), scale, ..point }
    }

    #[test]
    fn a_reading_is_a_table_of_what_was_asked() {
        let mut device = Device::new(DeviceId::parse("meter-1").expect("valid"), LineId::parse("meters").expect("valid"), 1);
        device.points = [
            point("input:0", "f32", "voltage", "V", 1.0),
            point("input:2", "f32", "phase_2", "", 1.0),
            point("input:12", "u16", "power", "W", 0.1),
        ]
        .into();
        let line = Line::new(LineId::parse("meters").expect("valid"), Transport::Tcp { host: "h".into(), port: 502 });
        let place = Place { line, is_configured: true, device: None };
        let value = |point, value, quality| Taken { point, value, quality, raw: vec![0x7f, 0xc0, 0, 0] };
        let taken = All {
            values: vec![
                value(0, Value::Float(230.1), Quality::Good),
                value(1, Value::Null, Quality::NotAvailable),
                value(2, Value::Float(1284.0), Quality::Good),
            ],
            troubles: Vec::new(),
            took: Duration::from_millis(21),
            sent: Vec::new(),
        };
        let reading = Reading { args_raw: false, device: &device, place: &place, order: &[2, 0, 1], taken: &taken };
        assert_eq!(
            render(&Out::plain(), &reading, &[value(0, Value::Float(229.0), Quality::Good)]),
            "meter-1   unit 1 on meters, answered in 21 ms\n  \
             power    1,284.0  W  good           input:12\n\
             * voltage    230.1  V  good           input:0\n  \
             phase_2        —     not available  input:2    raw 7f c0 00 00\n"
        );
        let d = document(&reading, 1_774_106_588_104);
        assert_eq!(d["at"], "2026-03-21T15:23:08.104Z");
        assert_eq!(d["values"][0]["value"], 1284.0);
        assert_eq!((&d["values"][2]["value"], &d["values"][2]["quality"]), (&Json::Null, &json!("not_available")));
    }

    #[test]
    fn numbers_have_the_decimals_of_their_scale() {
        let check = |kind: DataType, scale: f64, value: Value, want: &str| {
            let point = Point { kind, ..point("holding:0", "u16", "p", "", scale) };
            assert_eq!(number(&point, &value), want, "{kind:?} {scale} {value:?}");
        };
        check(DataType::U16, 1.0, Value::Uint(17_254), "17,254");
        check(DataType::I16, 1.0, Value::Int(-5), "-5");
        check(DataType::U16, 0.1, Value::Float(64.0), "64.0");
        check(DataType::I16, 0.01, Value::Float(-1234.5), "-1,234.50");
        check(DataType::U16, 0.5, Value::Float(2.5), "2.5");
        check(DataType::F32, 1.0, Value::Float(50.013), "50.013");
        check(DataType::F32, 1.0, Value::Float(1e-40), "1e-40");
        check(DataType::F32, 1.0, Value::Float(0.0), "0");
        check(DataType::Bool, 1.0, Value::Bool(true), "true");
    }
}
