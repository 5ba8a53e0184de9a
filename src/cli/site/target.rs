//! What a site tool is pointed at: a configured device or line, a serial port, a host.

use super::Trouble;
use crate::{
    cli::{EXIT_CONFIG, Global},
    config::{self, Config, Device, Line, Serial, Transport},
    model::{LineId, Parity, Settings},
};
use std::path::{Path, PathBuf};

/// Modbus TCP.
const PORT: u16 = 502;

/// As the user names it, with what the flags say about it.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// A device, a line, `/dev/…`, `host` or `host:port`.
    pub what: String,
    pub baud: Option<u32>,
    pub parity: Option<Parity>,
    pub stop: Option<u8>,
    pub bits: Option<u8>,
    pub framing: Framing,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
// No doc comments: --help would become several screens.
pub enum Framing {
    // As the configuration says, else whichever is answered.
    #[default]
    Auto,
    // Modbus TCP.
    Mbap,
    // RTU frames over TCP, as transparent serial servers carry them.
    Rtu,
}

/// The flags of a tool that asks with one set of settings.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "How")]
pub struct Wiring {
    /// With --parity and --stop [default: the configuration's, else 9600 even 1]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(300..=4_000_000))]
    pub baud: Option<u32>,
    /// none, even or odd
    #[arg(long, value_name = "WORD", value_parser = parity)]
    pub parity: Option<Parity>,
    /// Stop bits: 1 or 2
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=2))]
    pub stop: Option<u8>,
    /// Data bits: 7 or 8
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(7..=8))]
    pub bits: Option<u8>,
    /// What a TCP connection carries: mbap (Modbus TCP), rtu, or auto: as configured, else what is answered
    #[arg(long, value_enum, default_value_t = Framing::Auto, value_name = "WHAT", hide_possible_values = true)]
    pub framing: Framing,
}

impl Wiring {
    pub fn target(&self, what: &str) -> Target {
        let Wiring { baud, parity, stop, bits, framing } = *self;
        Target { what: what.to_owned(), baud, parity, stop, bits, framing }
    }
}

/// `none`, `even`, `odd`, also by their letters.
pub fn parity(text: &str) -> Result<Parity, String> {
    match text.to_ascii_lowercase().as_str() {
        "none" | "n" => Ok(Parity::None),
        "even" | "e" => Ok(Parity::Even),
        "odd" | "o" => Ok(Parity::Odd),
        _ => Err("write none, even or odd".into()),
    }
}

/// What a target was found to be.
#[derive(Debug, Clone)]
pub struct Place {
    /// With the settings that the flags ask for.
    pub line: Line,
    /// The configuration knows this line.
    pub is_configured: bool,
    /// The target is this device.
    pub device: Option<Device>,
}

impl Place {
    pub fn settings(&self) -> Option<Settings> {
        match &self.line.transport {
            Transport::Serial(Serial { baud, parity, bits, stop, .. }) => {
                Some(Settings { baud: *baud, parity: *parity, bits: *bits, stop: *stop })
            }
            _ => None,
        }
    }

    /// `/dev/ttyUSB0`, `192.168.1.20:502`.
    pub fn name(&self) -> String {
        name(&self.line.transport)
    }
}

pub fn name(transport: &Transport) -> String {
    match transport {
        Transport::Serial(serial) => serial.path.display().to_string(),
        Transport::Tcp { host, port } | Transport::RtuOverTcp { host, port } => format!("{host}:{port}"),
    }
}

/// Finds out what is meant, from the configuration where it can be read.
pub fn resolve(global: &Global, target: &Target) -> Result<Place, Trouble> {
    let surroundings = config::Surroundings::real(config::Secrets::IfReachable);
    let config = config::load_with(&global.config, &surroundings).config;
    find(config.as_ref(), &global.config, target)
}

fn find(config: Option<&Config>, file: &Path, target: &Target) -> Result<Place, Trouble> {
    let what = target.what.as_str();
    let lines = config.map_or(&[][..], |c| &c.lines);
    if what.starts_with('/') || what.starts_with("./") {
        let path = PathBuf::from(what);
        let line = lines.iter().find(|l| matches!(&l.transport, Transport::Serial(s) if is_same(&s.path, &path)));
        let serial = Serial { path, baud: 9600, parity: Parity::Even, bits: 8, stop: 1 };
        return Ok(place(line, Transport::Serial(serial), target, None));
    }
    let device = config.and_then(|c| c.devices.iter().find(|d| d.id.as_str() == what));
    let id = device.map_or(what, |d| d.line.as_str());
    if let Some(line) = lines.iter().find(|l| l.id.as_str() == id) {
        return Ok(place(Some(line), line.transport.clone(), target, device));
    }
    if let Some((host, port)) = host(what) {
        let is_there = |t: &Transport| matches!(t, Transport::Tcp { host: h, port: p } | Transport::RtuOverTcp { host: h, port: p } if *h == host && *p == port);
        let line = lines.iter().find(|l| is_there(&l.transport));
        return Ok(place(line, Transport::Tcp { host, port }, target, None));
    }
    let file = file.display();
    Err(match config {
        Some(_) => Trouble::new(
            "unknown-target",
            2,
            format!("{what} is no device or line of {file}, no port and no address"),
            "fieldgate ports     lists the ports here; an address is host:port",
        ),
        None => Trouble::new(
            "configuration",
            EXIT_CONFIG,
            format!("{what} may be a device or line of {file}, which cannot be used"),
            format!("fieldgate check --config {file}     says why; a port (/dev/…) or host:port needs no configuration"),
        ),
    })
}

fn place(line: Option<&Line>, other: Transport, target: &Target, device: Option<&Device>) -> Place {
    let mut found = line.cloned().unwrap_or_else(|| Line::new(LineId::parse("site").expect("a constant that fits"), other));
    match &mut found.transport {
        Transport::Serial(serial) => {
            serial.baud = target.baud.unwrap_or(serial.baud);
            serial.parity = target.parity.unwrap_or(serial.parity);
            serial.stop = target.stop.unwrap_or(serial.stop);
            serial.bits = target.bits.unwrap_or(serial.bits);
        }
        Transport::Tcp { host, port } | Transport::RtuOverTcp { host, port } => {
            let (host, port) = (host.clone(), *port);
            match target.framing {
                Framing::Auto => found.auto_framing |= line.is_none(),
                Framing::Mbap => found.transport = Transport::Tcp { host, port },
                Framing::Rtu => found.transport = Transport::RtuOverTcp { host, port },
            }
            found.auto_framing &= target.framing == Framing::Auto;
        }
    }
    Place { line: found, is_configured: line.is_some(), device: device.cloned() }
}

/// The same port under two names.
pub fn is_same(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// `10.0.0.5`, `plc.local:1502`, `[::1]:502`. A bare word without a dot is no address: it is a misspelt device.
fn host(text: &str) -> Option<(String, u16)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        let port = if port.is_empty() { PORT } else { port.strip_prefix(':')?.parse().ok()? };
        return Some((host.to_owned(), port));
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && !host.contains(':') => Some((host.to_owned(), port.parse().ok()?)),
        Some(_) => None,
        None => (text.contains('.') || text == "localhost").then(|| (text.to_owned(), PORT)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(what: &str) -> Target {
        Target { what: what.into(), ..Target::default() }
    }

    #[track_caller]
    fn check(what: &str, want: Result<(&str, Option<&str>), u8>) {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("fieldgate.toml");
        let text = "[gateway]\nid = \"g\"\n[line.meters]\nserial = { path = \"/dev/ttyUSB0\", baud = 19200, parity = \"none\" }\n\
            [line.plc]\ntcp = \"10.0.0.5:1502\"\n\
            [device.meter-1]\nline = \"meters\"\nunit = 1\npoint.power = { register = \"input:12\", type = \"f32\" }\n";
        std::fs::write(&file, text).expect("written");
        let loaded = config::load(&file);
        let config = loaded.config.as_ref().unwrap_or_else(|| panic!("{:?}", loaded.problems));
        let got = find(Some(config), &file, &target(what));
        let got = got
            .as_ref()
            .map(|p| (p.name() + &p.settings().map_or_else(String::new, |s| format!(" {s}")), p.device.as_ref().map(|d| d.id.as_str())));
        match (got, want) {
            (Ok(got), Ok(want)) => assert_eq!((got.0.as_str(), got.1), want, "{what}"),
            (Err(got), Err(want)) => assert_eq!(got.exit, want, "{what}"),
            (got, want) => panic!("{what}: {got:?}, want {want:?}"),
        }
    }

    #[test]
    fn targets_are_found_as_people_name_them() {
        check("meter-1", Ok(("/dev/ttyUSB0 19200 8N1", Some("meter-1"))));
        check("meters", Ok(("/dev/ttyUSB0 19200 8N1", None)));
        check("/dev/ttyUSB0", Ok(("/dev/ttyUSB0 19200 8N1", None)));
        check("/dev/ttyUSB9", Ok(("/dev/ttyUSB9 9600 8E1", None)));
        check("plc", Ok(("10.0.0.5:1502", None)));
        check("10.0.0.5:1502", Ok(("10.0.0.5:1502", None)));
        check("10.0.0.6", Ok(("10.0.0.6:502", None)));
        check("plc.local:99", Ok(("plc.local:99", None)));
        check("[::1]:5020", Ok(("::1:5020", None)));
        check("meter-2", Err(2));
        check("a:b", Err(2));
    }

    #[test]
    fn flags_change_the_settings_and_nothing_is_needed_from_a_broken_configuration() {
        let wanted = Target { baud: Some(4800), parity: Some(Parity::Odd), stop: Some(2), ..target("/dev/ttyS0") };
        let place = find(None, Path::new("f.toml"), &wanted).expect("a port needs no configuration");
        assert_eq!(place.settings().expect("serial").to_string(), "4800 8O2");
        assert_eq!(find(None, Path::new("f.toml"), &target("meter-1")).expect_err("unknown").exit, EXIT_CONFIG);
        let rtu = Target { framing: Framing::Rtu, ..target("10.0.0.5") };
        assert!(matches!(find(None, Path::new("f.toml"), &rtu).expect("found").line.transport, Transport::RtuOverTcp { port: 502, .. }));
    }
}
