//! One profile, as text and as JSON: what it says of itself, its points, and the requests that they make.

use crate::{
    cli::{
        Out,
        out::{self, Paint},
    },
    config::{Expect, Point, Profile, WordOrder, device::DataType},
    drivers::modbus::{Request, plan},
};
use serde_json::{Value, json};
use std::fmt::Write;

pub fn text(profile: &Profile, variants: &[&Profile], out: &Out) -> String {
    let about = &profile.about;
    let mut s = format!("{}   {}\n\n", out.paint(Paint::Bold, &profile.id), about.title);
    row(&mut s, "file", &profile.file.display().to_string());
    for (n, source) in about.source.iter().enumerate() {
        row(&mut s, if n == 0 { "source" } else { "" }, source);
    }
    let verified = match about.verified.word() {
        "none" => "none: compare with the device's display before you trust a value",
        word => word,
    };
    row(&mut s, "verified", verified);
    if let Some(factory) = factory(profile) {
        row(&mut s, "factory", &factory);
    }
    row(&mut s, "limits", &limits(profile));
    for (n, probe) in profile.probes.iter().enumerate() {
        let says = format!("{} {} is {}", probe.point.register, kind(&probe.point), expect(&probe.expect, &probe.point.unit));
        row(&mut s, if n == 0 { "probes" } else { "" }, &says);
    }
    for (n, variant) in variants.iter().enumerate() {
        row(&mut s, if n == 0 { "related" } else { "" }, &format!("{}  {}", variant.id, variant.about.title));
    }
    for (n, note) in about.notes.iter().enumerate() {
        row(&mut s, if n == 0 { "notes" } else { "" }, note);
    }
    s.push('\n');
    if profile.device.sunspec.is_some() {
        s.push_str("Its points are found on the device itself when the line is up.\n");
        return s;
    }
    points(&mut s, profile);
    let requests = plan(&profile.device);
    let words: u64 = requests.iter().map(|r| u64::from(r.count)).sum();
    let _ = writeln!(s, "\n{} in one poll, {} registers or bits:", requests_of(requests.len()), out::count(words));
    let each: Vec<String> = requests.iter().map(request).collect();
    for line in each.chunks(6) {
        let _ = writeln!(s, "  {}", line.join("  "));
    }
    s
}

fn row(s: &mut String, name: &str, value: &str) {
    let _ = writeln!(s, "  {name:9} {value}");
}

fn requests_of(n: usize) -> String {
    if n == 1 { "1 request".into() } else { format!("{} requests", out::count(n as u64)) }
}

fn request(r: &Request) -> String {
    format!("{}:{}+{}", r.table.word(), r.start, r.count)
}

/// `2400 8N1, unit 1`, `port 502, unit 100`.
fn factory(profile: &Profile) -> Option<String> {
    let about = &profile.about;
    let serial = about.serial.map(|s| s.to_string());
    let port = about.port.map(|p| format!("port {p}"));
    let unit = about.unit.map(|u| format!("unit {u}"));
    let parts: Vec<String> = [serial, port, unit].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn limits(profile: &Profile) -> String {
    let d = &profile.device;
    let mut parts = vec![format!("{} registers a read", d.max_words)];
    if d.max_bits < 2000 {
        parts.push(format!("{} bits a read", d.max_bits));
    }
    parts.push(if d.max_gap == 0 { "no unasked registers".into() } else { format!("up to {} unasked registers", d.max_gap) });
    if let Some(gap) = d.min_gap {
        parts.push(format!("{} ms between answer and request", gap.as_millis()));
    }
    if let Some(timeout) = d.timeout {
        parts.push(format!("{} ms for an answer", timeout.as_millis()));
    }
    parts.join(", ")
}

pub fn expect(expect: &Expect, unit: &str) -> String {
    let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
    match expect {
        Expect::Equals(value) => format!("{value}{unit}"),
        Expect::Begins(text) => format!("text that begins with `{text}`"),
        Expect::Between { min, max } => format!("{min} to {max}{unit}"),
    }
}

/// `f32`, `i32/CDAB`.
fn kind(point: &Point) -> String {
    let word = match point.kind {
        DataType::Text(chars) => format!("string:{}", chars.registers),
        DataType::Bits(b) if b.count == 1 => format!("bit:{}", b.first),
        DataType::Bits(b) => format!("bits:{}-{}", b.first, b.first + b.count - 1),
        kind => kind.word().to_owned(),
    };
    match order(point) {
        "ABCD" => word,
        order => format!("{word}/{order}"),
    }
}

const fn order(point: &Point) -> &'static str {
    match point.order {
        WordOrder::Abcd => "ABCD",
        WordOrder::Cdab => "CDAB",
        WordOrder::Badc => "BADC",
        WordOrder::Dcba => "DCBA",
    }
}

fn points(s: &mut String, profile: &Profile) {
    let points = &profile.device.points;
    let id = points.iter().map(|p| p.id.as_str().len()).max().unwrap_or(0).max(5);
    let _ = writeln!(s, "{:id$}  {:14}  {:>6}  {:10}  {:>7}  {:6}  NOTE", "POINT", "REGISTER", "WIRE", "TYPE", "SCALE", "UNIT");
    for p in points.iter() {
        let register = p.register.to_string();
        let wire = format!("{:#06x}", p.register.address);
        let scale = if p.scale == 1.0 { String::new() } else { p.scale.to_string() };
        let mut note = Vec::new();
        if p.write.is_some() {
            note.push("may be written");
        }
        if p.read_alone {
            note.push("read alone");
        }
        let line =
            format!("{:id$}  {register:14}  {wire:>6}  {:10}  {scale:>7}  {:6}  {}", p.id.as_str(), kind(p), p.unit, note.join(", "));
        let _ = writeln!(s, "{}", line.trim_end());
    }
}

/// As in the list.
pub fn summary(p: &Profile) -> Value {
    json!({
        "id": p.id, "title": p.about.title, "vendor": p.about.vendor, "model": p.about.model,
        "verified": p.about.verified.word(), "source": p.about.source, "points": p.device.points.len(), "file": p.file,
    })
}

pub fn json(p: &Profile, variants: &[&Profile]) -> Value {
    let points = p.device.points.iter().map(|point| {
        json!({
            "id": point.id, "register": point.register.to_string(), "type": point.kind.word(), "order": order(point),
            "scale": point.scale, "offset": point.offset, "unit": point.unit, "writable": point.write.is_some(),
            "read_alone": point.read_alone,
        })
    });
    let probes = p.probes.iter().map(|probe| {
        let expect = match &probe.expect {
            Expect::Equals(value) => json!({"equals": value}),
            Expect::Begins(text) => json!({"begins": text}),
            Expect::Between { min, max } => json!({"min": min, "max": max}),
        };
        json!({"register": probe.point.register.to_string(), "type": probe.point.kind.word(), "expect": expect})
    });
    let requests = plan(&p.device);
    let requests = requests.iter().map(|r| json!({"kind": r.table.word(), "at": r.start, "count": r.count}));
    let mut all = summary(p);
    all["v"] = json!(1);
    all["notes"] = json!(p.about.notes);
    all["factory"] = json!({"serial": p.about.serial, "port": p.about.port, "unit": p.about.unit});
    all["max_words"] = json!(p.device.max_words);
    all["max_gap"] = json!(p.device.max_gap);
    all["points"] = points.collect();
    all["probes"] = probes.collect();
    all["requests"] = requests.collect();
    all["related"] = variants.iter().map(|v| v.id.as_str()).collect();
    all
}
