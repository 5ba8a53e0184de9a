//! `[line.*]`, and the lines that devices name in place.

use super::{Desk, id, things};
use crate::{
    config::{
        Line, Parity, Protocol, Serial, Transport,
        keys::{Keys, Placed},
        problem::Code,
        source::Place,
        table::Table,
        tree::Content,
        words,
    },
    model::LineId,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

const KEYS: &[&str] = &[
    "protocol",
    "serial",
    "tcp",
    "rtu_over_tcp",
    "bits",
    "stop",
    "timeout",
    "retries",
    "min_gap",
    "connect_delay",
    "framing",
    "idle_close",
    "connect_per_poll",
];
const SERIAL: &[&str] = &["path", "baud", "parity", "bits", "stop"];
const BAUDS: &[i64] =
    &[300, 600, 1200, 2400, 4800, 9600, 14_400, 19_200, 28_800, 38_400, 57_600, 76_800, 115_200, 230_400, 460_800, 921_600];
pub const TIMEOUT: std::ops::RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);
pub const GAP: std::ops::RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(10);
pub const DELAY: std::ops::RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60);
const IDLE_CLOSE: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(86_400);
pub const RETRIES: std::ops::RangeInclusive<i64> = 0..=10;

/// All lines so far. Equal host and port are one line, however many devices name it.
#[derive(Debug, Default)]
pub struct Lines {
    by_id: BTreeMap<LineId, (Line, Place)>,
    by_end: BTreeMap<(String, u16), LineId>,
    /// Every name under `[line.*]`, also of those with problems: a device on one has no further problem.
    declared: BTreeSet<String>,
    used: BTreeSet<LineId>,
    /// Those with `protocol = "ascii"`, also with problems.
    ascii: BTreeSet<String>,
}

pub fn check(root: &Keys<'_>, desk: &mut Desk<'_>) -> Lines {
    let mut lines = Lines::default();
    let mut ports: BTreeMap<PathBuf, String> = BTreeMap::new();
    let section = root.trail.then("line");
    for (name, table, at) in things(root, "line", desk) {
        lines.declared.insert(name.to_owned());
        let trail = section.then(name);
        let keys = Keys::open(table, at, &trail, "a line", KEYS, &mut desk.out);
        let line_id = id(name, at, trail, LineId::parse, desk);
        let protocol = protocol(&keys, desk);
        if protocol == Protocol::Ascii {
            lines.ascii.insert(name.to_owned());
        }
        let Some((transport, end)) = transport(&keys, protocol, desk) else { continue };
        // A line whose id has a problem is checked all the same.
        let line = Line::new(line_id.clone().unwrap_or_else(|| LineId::parse("x").expect("a constant that fits")), transport);
        let (timeout, retries, min_gap, connect_delay) = timings(&keys, line.timeout, desk);
        let Some(line_id) = line_id else { continue };
        match (&line.transport, host_port(&line.transport)) {
            (Transport::Serial(serial), _) => {
                if let Some(other) = ports.insert(serial.path.clone(), name.to_owned()) {
                    desk.out
                        .error(Code::SamePort, end, trail, format!("lines {other} and {name} have one port"))
                        .because("two masters on one bus disturb each other")
                        .want(format!("line = \"{other}\" on the devices of both"));
                }
            }
            (_, Some(end_point)) => {
                if let Some(other) = lines.by_end.get(&end_point) {
                    desk.out
                        .warning(Code::SameEndpoint, end, trail, format!("lines {other} and {name} have one host and port"))
                        .because("many devices take one connection only")
                        .want(format!("line = \"{other}\" on the devices of both"));
                } else {
                    lines.by_end.insert(end_point, line_id.clone());
                }
            }
            _ => {}
        }
        let line = Line { protocol, timeout, retries, min_gap, connect_delay, ..connection(&keys, line, desk) };
        lines.by_id.insert(line_id, (line, at));
    }
    lines
}

fn protocol(keys: &Keys<'_>, desk: &mut Desk<'_>) -> Protocol {
    let words = [("modbus", Protocol::Modbus), ("ascii", Protocol::Ascii)];
    let protocol = if keys.has("protocol") { keys.word("protocol", &words, &mut desk.out) } else { None };
    let protocol = protocol.unwrap_or_default();
    if protocol == Protocol::Ascii && keys.has("rtu_over_tcp") {
        desk.out
            .error(Code::MisplacedKey, keys.key_at("rtu_over_tcp"), keys.key("rtu_over_tcp"), "`rtu_over_tcp` is Modbus")
            .because("this line has protocol = \"ascii\"")
            .want_when("tcp = \"192.168.1.20:4001\"", "a serial server that passes bytes through");
    }
    protocol
}

fn timings(keys: &Keys<'_>, default: Duration, desk: &mut Desk<'_>) -> (Duration, u8, Duration, Duration) {
    let out = &mut desk.out;
    let timeout = keys.duration("timeout", TIMEOUT, out).unwrap_or(default);
    let retries = keys.integer("retries", RETRIES, out).and_then(|n| u8::try_from(n).ok()).unwrap_or(0);
    let min_gap = keys.duration("min_gap", GAP, out).unwrap_or_default();
    let connect_delay = keys.duration("connect_delay", DELAY, out).unwrap_or_default();
    (timeout, retries, min_gap, connect_delay)
}

/// What only a TCP connection has.
fn connection(keys: &Keys<'_>, mut line: Line, desk: &mut Desk<'_>) -> Line {
    let is_serial = matches!(line.transport, Transport::Serial(_));
    for key in ["framing", "idle_close", "connect_per_poll"].into_iter().filter(|k| is_serial && keys.has(k)) {
        desk.out
            .error(Code::MisplacedKey, keys.key_at(key), keys.key(key), format!("`{key}` is for TCP lines"))
            .because("this line is a serial port")
            .want("take it out");
    }
    (line.transport, line.auto_framing) = framing(keys, line.transport, "line", desk);
    line.idle_close = keys.duration("idle_close", IDLE_CLOSE, &mut desk.out);
    line.connect_per_poll = keys.flag("connect_per_poll", &mut desk.out).unwrap_or(false);
    line
}

fn host_port(transport: &Transport) -> Option<(String, u16)> {
    match transport {
        Transport::Serial(_) => None,
        Transport::Tcp { host, port } | Transport::RtuOverTcp { host, port } => Some((host.clone(), *port)),
    }
}

/// What `framing` makes of a transport, and whether it is to be found out. `of`: a line, or a device that names its place.
pub fn framing(keys: &Keys<'_>, transport: Transport, of: &str, desk: &mut Desk<'_>) -> (Transport, bool) {
    let framings = [("mbap", "mbap"), ("rtu", "rtu"), ("auto", "auto")];
    match (keys.word("framing", &framings, &mut desk.out), transport) {
        (Some("auto"), transport @ Transport::Tcp { .. }) => (transport, true),
        (Some("rtu"), Transport::Tcp { host, port }) => (Transport::RtuOverTcp { host, port }, false),
        (Some("auto" | "mbap"), transport @ Transport::RtuOverTcp { .. }) => {
            desk.out
                .error(Code::TwoPlaces, keys.value_at("framing"), keys.key("framing"), "`rtu_over_tcp` says the framing already")
                .because(format!("the {of} names two framings"))
                .want("tcp = \"host:port\", with `framing`");
            (transport, false)
        }
        (_, transport) => (transport, false),
    }
}

/// The one of `serial`, `tcp` and `rtu_over_tcp` that a line has, with its place.
fn transport(keys: &Keys<'_>, protocol: Protocol, desk: &mut Desk<'_>) -> Option<(Transport, Place)> {
    let given: Vec<&str> = ["serial", "tcp", "rtu_over_tcp"].into_iter().filter(|k| keys.has(k)).collect();
    match given[..] {
        [] => {
            desk.out
                .error(Code::MissingKey, keys.at, keys.trail, format!("{} leads nowhere", keys.trail))
                .because("`serial`, `tcp` or `rtu_over_tcp` is missing")
                .want("serial = { path = \"/dev/serial/by-id/…\", baud = 9600, parity = \"even\" }")
                .want("tcp = \"192.168.1.20:502\"");
            None
        }
        ["serial"] => serial(keys, desk).map(|s| (Transport::Serial(s), keys.value_at("serial"))),
        [key] => {
            for serial_only in ["bits", "stop"].into_iter().filter(|k| keys.has(k)) {
                desk.out
                    .error(
                        Code::MisplacedKey,
                        keys.key_at(serial_only),
                        keys.key(serial_only),
                        format!("`{serial_only}` is for serial lines"),
                    )
                    .because("this line is a TCP connection")
                    .want("take it out");
            }
            let found = over_tcp(keys, key, desk)?;
            portless(keys, key, protocol, desk).then(|| (found, keys.value_at(key)))
        }
        [.., second] => {
            desk.out
                .error(
                    Code::TwoPlaces,
                    keys.key_at(second),
                    keys.key(second),
                    format!("{} has two places: {}", keys.trail, given.join(" and ")),
                )
                .because("a line is one of them")
                .want("keep one");
            None
        }
    }
}

/// 502 is Modbus; serial servers have no common port.
fn portless(keys: &Keys<'_>, key: &str, protocol: Protocol, desk: &mut Desk<'_>) -> bool {
    let Some(text) = keys.text(key, &mut desk.out).filter(|_| protocol == Protocol::Ascii) else { return true };
    let Ok((host, None)) = words::endpoint(text.it) else { return true };
    desk.out
        .error(Code::BadAddress, text.at, keys.key(key), format!("`{}` names no port", text.it))
        .because("serial servers have no common port")
        .want(format!("{key} = \"{host}:4001\""));
    false
}

/// `tcp = "host:port"` or `rtu_over_tcp = "host:port"`, on a line or on a device.
pub fn over_tcp(keys: &Keys<'_>, key: &str, desk: &mut Desk<'_>) -> Option<Transport> {
    let Placed { it: text, at } = keys.text(key, &mut desk.out)?;
    let rtu = key == "rtu_over_tcp";
    match words::endpoint(text) {
        Ok((host, Some(port))) if rtu => Some(Transport::RtuOverTcp { host, port }),
        Ok((host, port)) if !rtu => Some(Transport::Tcp { host, port: port.unwrap_or(502) }),
        Ok((host, _)) => {
            desk.out
                .error(Code::BadAddress, at, keys.key(key), format!("`{text}` names no port"))
                .because("serial servers have no common port")
                .want(format!("{key} = \"{host}:4196\""));
            None
        }
        Err(why) => {
            desk.out
                .error(Code::BadAddress, at, keys.key(key), format!("`{text}` is no address"))
                .because(why)
                .want(format!("{key} = \"192.168.1.20:502\""));
            None
        }
    }
}

fn serial(keys: &Keys<'_>, desk: &mut Desk<'_>) -> Option<Serial> {
    let (table, at) = keys.sub("serial", "{ path = \"/dev/serial/by-id/…\", baud = 9600, parity = \"even\" }", &mut desk.out)?;
    let trail = keys.trail.then("serial");
    let inner = Keys::open(table, at, &trail, "a serial port", SERIAL, &mut desk.out);
    let baud = inner.integer("baud", 300..=4_000_000, &mut desk.out);
    if let Some(odd) = baud.filter(|b| !BAUDS.contains(b)) {
        let near = BAUDS.iter().min_by_key(|b| (**b - odd).abs()).unwrap_or(&9600);
        desk.out
            .error(Code::BadValue, inner.value_at("baud"), inner.key("baud"), format!("{odd} is no usual baud rate"))
            .because("serial ports have fixed rates")
            .want(format!("baud = {near}"));
    }
    let parity = inner.word("parity", &[("none", Parity::None), ("even", Parity::Even), ("odd", Parity::Odd)], &mut desk.out);
    let both = |key: &str, range, default: u8, desk: &mut Desk<'_>| {
        if inner.has(key) && keys.has(key) {
            desk.out
                .error(Code::DuplicateKey, inner.key_at(key), inner.key(key), format!("`{key}` stands on the line too"))
                .want("keep one of the two");
        }
        let from = if inner.has(key) { &inner } else { keys };
        from.integer(key, range, &mut desk.out).and_then(|n| u8::try_from(n).ok()).unwrap_or(default)
    };
    let bits = both("bits", 7..=8, 8, desk);
    let stop = both("stop", 1..=2, 1, desk);
    if !inner.require("path", "path = \"/dev/serial/by-id/…\"", &mut desk.out) {
        return None;
    }
    let path = inner.text("path", &mut desk.out)?;
    unstable(&path, &inner, desk);
    let baud = baud.and_then(|b| u32::try_from(b).ok()).unwrap_or(9600);
    Some(Serial { path: PathBuf::from(path.it), baud, parity: parity.unwrap_or(Parity::Even), bits, stop })
}

/// The kernel numbers USB adapters as they come: after a replug the number may be another bus's.
fn unstable(path: &Placed<&str>, keys: &Keys<'_>, desk: &mut Desk<'_>) {
    let numbered = ["/dev/ttyUSB", "/dev/ttyACM"]
        .iter()
        .any(|p| path.it.strip_prefix(p).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())));
    if !numbered {
        return;
    }
    let stable = stable_name(Path::new(path.it)).map_or_else(|| "/dev/serial/by-id/…".to_owned(), |p| p.display().to_string());
    desk.out
        .warning(Code::UnstablePath, path.at, keys.key("path"), format!("{} may be another port after a replug", path.it))
        .because("the kernel numbers adapters as they come")
        .want_when(format!("path = \"{stable}\""), "names the adapter: ls -l /dev/serial/by-id")
        .want_when("path = \"/dev/serial/by-path/…\"", "names the socket, for adapters without a serial number");
}

fn stable_name(path: &Path) -> Option<PathBuf> {
    let device = std::fs::canonicalize(path).ok()?;
    let mut names: Vec<PathBuf> = std::fs::read_dir("/dev/serial/by-id").ok()?.filter_map(|e| Some(e.ok()?.path())).collect();
    names.sort();
    names.into_iter().find(|n| std::fs::canonicalize(n).is_ok_and(|d| d == device))
}

impl Lines {
    /// Whether the device of this table is on a line with `protocol = "ascii"`.
    pub fn is_ascii(&self, device: &Table) -> bool {
        matches!(device.get("line").map(|e| &e.node.value), Some(Content::Text(name)) if self.ascii.contains(name))
    }

    /// The line that a device names by id.
    pub fn named(&mut self, name: &Placed<&str>, key: &str, desk: &mut Desk<'_>) -> Option<&Line> {
        let known = LineId::parse(name.it).ok().filter(|id| self.by_id.contains_key(id));
        if let Some(id) = known {
            self.used.insert(id.clone());
            return self.by_id.get(&id).map(|(line, _)| line);
        }
        if !self.declared.contains(name.it) {
            let near = super::super::nearest::nearest(name.it, self.declared.iter().map(String::as_str));
            let all: Vec<&str> = self.declared.iter().map(String::as_str).take(8).collect();
            let because = near.map_or_else(
                || if all.is_empty() { "there is no [line.…] table".to_owned() } else { format!("lines here: {}", all.join(", ")) },
                |n| format!("did you mean `{n}`?"),
            );
            let p = desk.out.error(Code::UnknownLine, name.at, key, format!("there is no line `{}`", name.it)).because(because);
            // The line that was meant is not unused.
            self.used.extend(near.and_then(|n| LineId::parse(n).ok()));
            match near {
                Some(n) => p.want(format!("line = \"{n}\"")),
                None => p.want(format!("[line.{}] with serial = {{ path = … }} or tcp = \"host:port\"", name.it)),
            };
        }
        None
    }

    /// The line that a device names in place; made if nobody has named that host and port before.
    pub fn in_place(
        &mut self,
        transport: Transport,
        delay: Option<Duration>,
        at: Place,
        key: &str,
        desk: &mut Desk<'_>,
    ) -> Option<&mut Line> {
        let end = host_port(&transport)?;
        let id = match self.by_end.get(&end) {
            Some(id) => id.clone(),
            None => {
                let id = self.fresh_id(&end);
                let line = Line::new(id.clone(), transport.clone());
                self.by_end.insert(end, id.clone());
                self.by_id.insert(id.clone(), (line, at));
                id
            }
        };
        self.used.insert(id.clone());
        let (line, first) = self.by_id.get_mut(&id)?;
        if line.transport != transport {
            let first = desk.out.sources.spot(*first);
            desk.out
                .error(Code::SameEndpoint, at, key, "one host and port with two framings")
                .because(format!("{}:{} says otherwise", first.file.display(), first.line))
                .want_when("tcp = …", "on both, if it speaks Modbus TCP")
                .want_when("rtu_over_tcp = …", "on both, if it passes RTU frames through");
        }
        line.connect_delay = line.connect_delay.max(delay.unwrap_or_default());
        Some(line)
    }

    /// `host:port` with the characters that an id may have.
    fn fresh_id(&self, (host, port): &(String, u16)) -> LineId {
        let host: String = host.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':') { c } else { '_' }).collect();
        let tail = &host[host.len().saturating_sub(52)..];
        (0..)
            .map(|n| if n == 0 { format!("{tail}:{port}") } else { format!("{tail}:{port}_{n}") })
            .filter_map(|text| LineId::parse(&text).ok())
            .find(|id| !self.by_id.contains_key(id))
            .expect("one of endless names is free")
    }

    /// In order of id. A line that no device is on is said.
    pub fn finish(self, desk: &mut Desk<'_>) -> Vec<Line> {
        for (id, (_, at)) in self.by_id.iter().filter(|(id, _)| !self.used.contains(*id)) {
            desk.out
                .warning(Code::UnusedLine, *at, format!("line.{id}"), format!("no device is on line {id}"))
                .because("it is opened for nothing")
                .want(format!("line = \"{id}\" on a device, or take it out"));
        }
        self.by_id.into_values().map(|(line, _)| line).collect()
    }
}
