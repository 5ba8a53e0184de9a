//! `[device.*]` and what groups make: on which line, how often, with which points.

use super::{
    Desk, PollPlaces, counter, fixed, framed, group, id, line, line::Lines, point, profile, register::Notation, things, watching, writes,
};
use crate::{
    config::{
        Device, Line, Point, Transport,
        keys::{Keys, Trail},
        problem::Code,
        source::Place,
        table::{Entry, Table},
        tree::{self, Content, Node},
        words,
    },
    limits,
    model::{DeviceId, LineId},
};
use std::{borrow::Cow, collections::BTreeMap, time::Duration};

pub const KEYS: &[&str] = &[
    "line",
    "tcp",
    "rtu_over_tcp",
    "unit",
    "poll",
    "offline_after",
    "alarm_after",
    "max_words",
    "max_bits",
    "max_gap",
    "timeout",
    "retries",
    "min_gap",
    "connect_delay",
    "framing",
    "accept_any_unit",
    "bits",
    "stop",
    "setup",
    "setup_required",
    "turnaround",
    "profile",
    "kind",
    "models",
    "notation",
    "point",
];
const DAY: Duration = Duration::from_secs(86_400);

/// What is known of all devices so far.
#[derive(Default)]
struct Seen {
    devices: BTreeMap<DeviceId, Device>,
    places: BTreeMap<DeviceId, Place>,
    polls: PollPlaces,
    units: BTreeMap<(LineId, u8), DeviceId>,
    points: usize,
}

pub fn check(root: &Keys<'_>, mut lines: Lines, desk: &mut Desk<'_>) -> (Vec<Device>, Vec<Line>, PollPlaces) {
    let mut seen = Seen::default();
    let section = root.trail.then("device");
    for (name, table, at) in things(root, "device", desk) {
        one(name, at, Cow::Borrowed(table), &section.then(name), &mut lines, &mut seen, desk);
    }
    let section = root.trail.then("group");
    for made in group::expand(root, desk) {
        let trail = section.then(&made.group);
        one(&made.id, made.at, Cow::Owned(made.table), &trail, &mut lines, &mut seen, desk);
    }
    (seen.devices.into_values().collect(), lines.finish(desk), seen.polls)
}

fn one(name: &str, at: Place, table: Cow<'_, Table>, trail: &Trail<'_>, lines: &mut Lines, seen: &mut Seen, desk: &mut Desk<'_>) {
    let device_id = id(name, at, trail, DeviceId::parse, desk);
    if let Some(first) = device_id.as_ref().and_then(|id| seen.places.get(id)).copied() {
        let first = desk.out.sources.spot(first);
        desk.out
            .error(Code::DuplicateId, at, trail, format!("there are two devices `{name}`"))
            .because(format!("the first one is at {}:{}", first.file.display(), first.line))
            .want("give one of them another id");
        return;
    }
    if let Some(id) = &device_id {
        seen.places.insert(id.clone(), at);
    }
    if lines.is_ascii(&table) {
        return framed::check(device_id, at, &table, trail, lines, &mut seen.points, desk);
    }
    let (table, profile) = with_profile(table, trail, desk);
    let keys = Keys::open(&table, at, trail, "a device", KEYS, &mut desk.out);
    let line = place_on_line(&keys, lines, desk);
    let (line_id, rtu) = (line.as_ref().map(|l| l.0.clone()), line.as_ref().map(|l| l.1));
    let unit = unit(&keys, rtu, desk);
    let (poll, offline_after) = times(&keys, desk);
    let alarm_after = watching::alarm_after(&keys, desk);
    if let (Some(id), Some(line), Some(unit)) = (&device_id, &line_id, unit)
        && let Some(other) = seen.units.insert((line.clone(), unit), id.clone())
    {
        desk.out
            .warning(
                Code::SameUnit,
                keys.value_at("unit"),
                keys.key("unit"),
                format!("{other} and {id} are both unit {unit} on line {line}"),
            )
            .because("two devices with one address answer at once; one device read twice costs twice")
            .want_when("another `unit` on one of them", "if they are two devices")
            .want_when("one [device.…] with all points", "if it is one device");
    }
    let sunspec = sunspec(&keys, desk);
    let points = points(&keys, profile.is_err() || sunspec.is_some(), poll, seen, desk);
    let out = &mut desk.out;
    let word =
        |key: &str, range, default: u16, out: &mut _| keys.integer(key, range, out).and_then(|n| u16::try_from(n).ok()).unwrap_or(default);
    let max_words = word("max_words", 1..=125, 125, out);
    let max_bits = word("max_bits", 1..=2000, 2000, out);
    let max_gap = word("max_gap", 0..=124, 0, out);
    let timeout = keys.duration("timeout", line::TIMEOUT, out);
    let retries = keys.integer("retries", line::RETRIES, out).and_then(|n| u8::try_from(n).ok());
    let min_gap = keys.duration("min_gap", line::GAP, out);
    let accept_any_unit = keys.flag("accept_any_unit", out).unwrap_or(false);
    for key in ["bits", "stop"].into_iter().filter(|k| keys.has(k)) {
        out.error(Code::NotInVersion, keys.key_at(key), keys.key(key), format!("`{key}` of one device is not in this version"))
            .because("all devices of a line share its framing")
            .want(format!("{key} = … on the line"));
    }
    too_wide(&keys, &points, max_words, desk);
    let points = desk.points.one_of(points.into());
    let profile = profile.unwrap_or(None);
    let (Some(id), Some(line), Some(unit)) = (device_id, line_id, unit) else { return };
    seen.polls.insert(id.clone(), keys.value_at("poll"));
    let mut device = Device {
        poll,
        offline_after,
        alarm_after,
        max_words,
        max_bits,
        max_gap,
        timeout,
        retries,
        min_gap,
        accept_any_unit,
        profile,
        sunspec,
        points,
        setup: fixed::check(&keys, "setup", desk),
        setup_required: keys.flag("setup_required", &mut desk.out).unwrap_or(false),
        broadcast: unit == 0 && rtu == Some(true),
        turnaround: keys.duration("turnaround", line::GAP, &mut desk.out).unwrap_or(Duration::from_millis(100)),
        ..Device::new(id.clone(), line, unit)
    };
    writes::check(&keys, &mut device, desk);
    seen.devices.insert(id, device);
}

/// The device that a profile alone makes, on a line that does not exist.
pub fn of_profile(table: &Table, at: Place, desk: &mut Desk<'_>) -> Option<Device> {
    let mut table = table.clone();
    let node = |value| Entry { at, node: Node { at, value, filled: false } };
    table.insert("tcp", node(Content::Text("127.0.0.1".into())));
    table.insert("unit", node(Content::Int(1)));
    let mut seen = Seen::default();
    one("profile", at, Cow::Owned(table), &Trail::ROOT, &mut Lines::default(), &mut seen, desk);
    seen.devices.into_values().next()
}

/// The device's table over its profile's. `Err`: it names one that is not there, so that missing points follow from that.
fn with_profile<'t>(table: Cow<'t, Table>, trail: &Trail<'_>, desk: &mut Desk<'_>) -> (Cow<'t, Table>, Result<Option<String>, ()>) {
    let Some(node) = table.get("profile").map(|e| &e.node) else { return (table, Ok(None)) };
    let Content::Text(name) = &node.value else {
        Keys { table: &table, at: node.at, trail }.text("profile", &mut desk.out);
        return (table, Err(()));
    };
    let name = name.clone();
    match profile::find(&name, node.at, trail.then("profile").to_string(), desk) {
        Some(base) => (Cow::Owned(tree::overlay(&base, &table)), Ok(Some(name))),
        None => (table, Err(())),
    }
}

/// The line's id, and whether RTU's unit range holds there.
fn place_on_line(keys: &Keys<'_>, lines: &mut Lines, desk: &mut Desk<'_>) -> Option<(LineId, bool)> {
    let given: Vec<&str> = ["line", "tcp", "rtu_over_tcp"].into_iter().filter(|k| keys.has(k)).collect();
    if keys.has("connect_delay") && keys.has("line") {
        desk.out
            .error(Code::MisplacedKey, keys.key_at("connect_delay"), keys.key("connect_delay"), "`connect_delay` belongs to the line")
            .because("all devices of a line share its connection")
            .want("connect_delay = … on the line");
    }
    if keys.has("framing") && keys.has("line") {
        desk.out
            .error(Code::MisplacedKey, keys.key_at("framing"), keys.key("framing"), "`framing` belongs to the line")
            .because("all devices of a line share its connection")
            .want("framing = … on the line");
    }
    let delay = keys.duration("connect_delay", line::DELAY, &mut desk.out);
    let line = match given[..] {
        ["line"] => {
            let name = keys.text("line", &mut desk.out)?;
            lines.named(&name, &keys.key("line"), desk)?
        }
        [key] => {
            let transport = line::over_tcp(keys, key, desk)?;
            let (transport, auto) = line::framing(keys, transport, "device", desk);
            let place = (keys.value_at(key), keys.key(key));
            let line = lines.in_place(transport, delay, place.0, &place.1, desk)?;
            line.auto_framing |= auto;
            line
        }
        [] => {
            desk.out
                .error(Code::MissingKey, keys.at, keys.trail, format!("{} is on no line", keys.trail))
                .because("`line`, `tcp` or `rtu_over_tcp` is missing")
                .want_when("line = \"name\"", "one of the [line.…] tables")
                .want_when("tcp = \"192.168.1.20:502\"", "Modbus TCP");
            return None;
        }
        [.., second] => {
            desk.out
                .error(
                    Code::TwoPlaces,
                    keys.key_at(second),
                    keys.key(second),
                    format!("{} has two places: {}", keys.trail, given.join(" and ")),
                )
                .because("a device is on one line")
                .want("keep one");
            return None;
        }
    };
    Some((line.id.clone(), !matches!(line.transport, Transport::Tcp { .. })))
}

fn unit(keys: &Keys<'_>, rtu: Option<bool>, desk: &mut Desk<'_>) -> Option<u8> {
    if !keys.require("unit", "unit = 1", &mut desk.out) {
        return None;
    }
    let range = if rtu == Some(true) { 0..=247 } else { 0..=255 };
    keys.integer("unit", range, &mut desk.out).and_then(|n| u8::try_from(n).ok())
}

/// Poll period and the silence that makes a device offline.
fn times(keys: &Keys<'_>, desk: &mut Desk<'_>) -> (Duration, Duration) {
    let out = &mut desk.out;
    let poll = keys.duration("poll", Duration::ZERO..=30 * DAY, out).unwrap_or(Duration::from_secs(5));
    let default = (poll * 3).max(Duration::from_secs(2));
    let after = keys.duration("offline_after", Duration::from_millis(100)..=365 * DAY, out);
    if let Some(after) = after.filter(|after| *after < poll * 2) {
        let (after, poll) = (words::duration_text(after), words::duration_text(poll));
        out.error(
            Code::Flaps,
            keys.value_at("offline_after"),
            keys.key("offline_after"),
            format!("{after} with poll = \"{poll}\" would flap"),
        )
        .because("one missed poll would make it offline; use at least twice the poll")
        .want_when(format!("offline_after = \"{}\"", words::duration_text(default)), "three polls, the default");
    }
    (poll, after.unwrap_or(default))
}

/// `kind = "sunspec"`: it says itself what it has, so that no points are needed. `models` narrows that.
fn sunspec(keys: &Keys<'_>, desk: &mut Desk<'_>) -> Option<Vec<u16>> {
    let kind = keys.word("kind", &[("sunspec", ())], &mut desk.out);
    if !keys.has("models") {
        return kind.map(|()| Vec::new());
    }
    if !keys.has("kind") {
        desk.out
            .error(Code::MisplacedKey, keys.key_at("models"), keys.key("models"), "`models` is for devices that say what they have")
            .because("they are numbers of SunSpec models")
            .want("kind = \"sunspec\"");
    }
    let list = keys.list("models", "[103, 160]", &mut desk.out)?;
    let mut models = Vec::new();
    for node in list {
        match node.value {
            Content::Int(n) if (2..=65_534).contains(&n) => models.extend(u16::try_from(n)),
            _ => keys.wrong("models", node, "a list of model numbers", "[103, 160]", &mut desk.out),
        }
    }
    kind.map(|()| models)
}

fn points(keys: &Keys<'_>, profile_missing: bool, poll: Duration, seen: &mut Seen, desk: &mut Desk<'_>) -> Vec<Point> {
    let trail = keys.trail.then("point");
    let table = keys.sub("point", "[device.name.point.power]", &mut desk.out);
    let Some((table, at)) = table.filter(|(t, _)| !t.is_empty()) else {
        if !profile_missing && keys.entry("point").is_none_or(|e| e.node.table().is_some()) {
            desk.out
                .error(Code::NoPoints, keys.at, keys.trail, format!("{} has no points", keys.trail))
                .because("there is nothing to read, so it would never be seen")
                .want_when(format!("[{}.point.power]", keys.trail), "with register and type")
                .want_when("profile = \"eastron-sdm120\"", "a profile that has them");
        }
        return Vec::new();
    };
    seen.points += table.len();
    if seen.points > limits::CONFIG_POINTS {
        desk.out
            .error(Code::TooMany, at, trail, format!("more than {} points", limits::CONFIG_POINTS))
            .because("one gateway takes so many")
            .want("spread them over several gateways");
        return Vec::new();
    }
    let notation = keys.word("notation", &[("modicon", Notation::Modicon), ("wire", Notation::Wire)], &mut desk.out).unwrap_or_default();
    let of = point::Of { poll, notation };
    let mut points = Vec::with_capacity(table.len());
    for (name, entry) in table.iter() {
        match entry.node.table() {
            Some(t) => points.extend(point::check(name, t, entry.at, &trail, of, desk)),
            None => {
                desk.out
                    .error(Code::WrongType, entry.at, trail.then(name), format!("`{name}` must be a table"))
                    .because("a point has a register and a type")
                    .want(format!("{name} = {{ register = \"holding:100\", type = \"u16\" }}"));
            }
        }
    }
    counter::deltas(&keys.trail.then("point"), table, &points, desk);
    points.sort_by(|a, b| (a.register, &a.id).cmp(&(b.register, &b.id)));
    points
}

/// A value of two or four registers must fit into one read, or it would be torn.
fn too_wide(keys: &Keys<'_>, points: &[Point], max_words: u16, desk: &mut Desk<'_>) {
    if let Some(p) = points.iter().find(|p| !p.register.table.is_bits() && p.kind.words() > max_words) {
        desk.out
            .error(
                Code::OutOfRange,
                keys.value_at("max_words"),
                keys.key("max_words"),
                format!("max_words = {max_words} cannot read {}", p.id),
            )
            .because(format!("{} takes {} registers, which must be read at once", p.kind.word(), p.kind.words()))
            .want(format!("max_words = {}", p.kind.words()));
    }
}
