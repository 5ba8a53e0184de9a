//! A row becomes a point of a file in conf.d that `check` accepts. What was there stays, and nothing is kept that would not
//! check.

use super::guess::{Guess, order_word};
use crate::{
    cli::{
        config::draft::quoted,
        site::{Place, is_same},
    },
    config::{self, Register, Secrets, Surroundings, Transport, WordOrder},
    model::{DeviceId, Parity, PointId},
};
use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

/// What is saved.
pub struct Saving<'a> {
    pub device: &'a DeviceId,
    pub unit: u8,
    /// Where it was found, for a device that is new.
    pub place: &'a Place,
    pub point: PointId,
    pub register: Register,
    pub guess: &'a Guess,
    pub unit_of_measure: String,
}

/// Writes it; the file, or why not.
pub fn save(main: &Path, saving: &Saving<'_>) -> Result<PathBuf, String> {
    let around = Surroundings::real(Secrets::Unread);
    let before = config::load_with(main, &around);
    let dir = main.parent().unwrap_or(Path::new("")).join("conf.d");
    let id = whose(saving, before.config.as_ref());
    let saving = &Saving { device: &id, point: saving.point.clone(), unit_of_measure: saving.unit_of_measure.clone(), ..*saving };
    let known = known_in(main, &dir, saving.device);
    let is_known = known.is_some();
    let file = known.unwrap_or_else(|| dir.join(format!("{}.toml", saving.device)));
    let old = fs::read_to_string(&file).unwrap_or_default();
    let mut text = old.clone();
    if !is_known {
        text += &device(saving, before.config.as_ref());
    }
    text += &point(saving);
    let cannot = |e: std::io::Error| format!("{} cannot be written: {e}", file.display());
    fs::create_dir_all(&dir).map_err(cannot)?;
    fs::write(&file, &text).map_err(cannot)?;
    let after = config::load_with(main, &around);
    let count = |loaded: &config::Loaded| config::render::count(&loaded.problems).0;
    if count(&after) > count(&before) {
        let why = after.problems.iter().find(|p| p.at.file == file || !before.problems.contains(p)).map(|p| p.found.clone());
        let _ = if old.is_empty() { fs::remove_file(&file) } else { fs::write(&file, &old) };
        return Err(why.unwrap_or_else(|| "the configuration would not check".into()));
    }
    Ok(file)
}

/// The file in which a device stands: its points come there, for a table may not be in two files.
fn known_in(main: &Path, dir: &Path, device: &DeviceId) -> Option<PathBuf> {
    let beside = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = beside.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    files.insert(0, main.to_owned());
    let is_here = |file: &PathBuf| {
        let table = fs::read_to_string(file).ok().and_then(|text| text.parse::<toml::Table>().ok());
        table.is_some_and(|t| t.get("device").and_then(|devices| devices.get(device.as_str())).is_some())
    };
    files.into_iter().find(is_here)
}

/// A unit that the configuration knows under a name keeps it, so that it is polled once. A name that stands for another
/// unit is not taken.
fn whose(saving: &Saving<'_>, config: Option<&config::Config>) -> DeviceId {
    let Some(config) = config.filter(|_| saving.place.device.is_none()) else { return saving.device.clone() };
    let is_here = |device: &&config::Device| {
        let line = config.lines.iter().find(|l| l.id == device.line);
        line.is_some_and(|line| is_same_place(&line.transport, &saving.place.line.transport))
    };
    let on_place = || config.devices.iter().filter(|d| d.unit == saving.unit).filter(is_here);
    let of_that_name = on_place().find(|d| d.id == *saving.device);
    if let Some(known) = of_that_name.or_else(|| on_place().next()) {
        return known.id.clone();
    }
    let is_taken = |id: &DeviceId| config.devices.iter().any(|d| d.id == *id);
    let mut names = (2..).filter_map(|n| DeviceId::parse(&format!("{}-{n}", saving.device)).ok());
    if is_taken(saving.device) { names.find(|id| !is_taken(id)).unwrap_or_else(|| saving.device.clone()) } else { saving.device.clone() }
}

fn is_same_place(a: &Transport, b: &Transport) -> bool {
    match (a, b) {
        (Transport::Serial(a), Transport::Serial(b)) => is_same(&a.path, &b.path),
        (
            Transport::Tcp { host, port } | Transport::RtuOverTcp { host, port },
            Transport::Tcp { host: h, port: p } | Transport::RtuOverTcp { host: h, port: p },
        ) => host.eq_ignore_ascii_case(h) && port == p,
        _ => false,
    }
}

fn device(saving: &Saving<'_>, config: Option<&config::Config>) -> String {
    let id = saving.device;
    let mut text = String::new();
    let place = match &saving.place.line.transport {
        Transport::Serial(s) => {
            let line = if saving.place.is_configured {
                saving.place.line.id.to_string()
            } else {
                let names = |id: &str| config.is_some_and(|c| c.lines.iter().any(|l| l.id.as_str() == id));
                let line =
                    (1..).map(|n| if n == 1 { "bus".to_owned() } else { format!("bus-{n}") }).find(|id| !names(id)).unwrap_or_default();
                let parity = match s.parity {
                    Parity::None => "none",
                    Parity::Even => "even",
                    Parity::Odd => "odd",
                };
                let path = quoted(&s.path.to_string_lossy());
                let _ = write!(
                    text,
                    "[line.{line}]\nserial = {{ path = {path}, baud = {}, parity = \"{parity}\", stop = {} }}\n\n",
                    s.baud, s.stop
                );
                line
            };
            format!("line = \"{line}\"")
        }
        Transport::Tcp { host, port } => format!("tcp = {}", quoted(&format!("{host}:{port}"))),
        Transport::RtuOverTcp { host, port } => format!("rtu_over_tcp = {}", quoted(&format!("{host}:{port}"))),
    };
    let _ = write!(text, "[device.{id}]\n{place}\nunit = {}\npoll = \"5s\"\n", saving.unit);
    text
}

fn point(saving: &Saving<'_>) -> String {
    let Saving { device, point, register, guess, unit_of_measure, .. } = saving;
    let mut text = format!("\n[device.{device}.point.{point}]\nregister = \"{register}\"\ntype = \"{}\"\n", guess.reading.kind.word());
    if guess.reading.kind.words() > 1 && guess.reading.order != WordOrder::Abcd {
        let _ = writeln!(text, "order = \"{}\"", order_word(guess.reading.order));
    }
    if guess.scale < 1.0 {
        let _ = writeln!(text, "scale = {}", guess.scale);
    }
    if !unit_of_measure.is_empty() {
        let _ = writeln!(text, "unit = {}", quoted(unit_of_measure));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::explore::guess,
        config::{Line, Serial, Table},
        model::LineId,
    };

    /// Saves `power` of unit 7 on the place; the devices after it, with their points.
    #[track_caller]
    fn after_saving(text: &str, transport: Transport, want: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("fieldgate.toml");
        fs::write(&main, format!("[gateway]\nid = \"g\"\n[uplink.cloud]\nurl = \"mqtt://127.0.0.1\"\n{text}")).unwrap();
        let guess = guess::best(0x44a0, Some(0x8666), None, None);
        let line = Line::new(LineId::parse("site").unwrap(), transport);
        let place = Place { line, is_configured: false, device: None };
        let device = DeviceId::parse("unit-7").unwrap();
        let saving = Saving {
            device: &device,
            unit: 7,
            place: &place,
            point: PointId::parse("power").unwrap(),
            register: Register { table: Table::Input, address: 12 },
            unit_of_measure: String::new(),
            guess: &guess,
        };
        save(&main, &saving).unwrap();
        let loaded = config::load_with(&main, &Surroundings::real(Secrets::Unread));
        let config = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.problems));
        let shown = |d: &config::Device| {
            let points: Vec<&str> = d.points.iter().map(|p| p.id.as_str()).collect();
            format!("{} {} on {}: {}", d.id, d.unit, d.line, points.join(" "))
        };
        let mut got: Vec<String> = config.devices.iter().map(shown).collect();
        got.sort();
        assert_eq!(got, want);
    }

    #[test]
    fn a_unit_that_is_configured_under_a_name_gets_the_point_and_no_second_device() {
        let port = |path: &str| Transport::Serial(Serial { path: path.into(), baud: 9600, parity: Parity::None, bits: 8, stop: 1 });
        let tcp = |host: &str| Transport::Tcp { host: host.into(), port: 502 };
        let meter = "[line.bus]\nserial = { path = \"/dev/ttyUSB1\", baud = 9600, parity = \"none\" }\n\
            [device.meter-1]\nline = \"bus\"\nunit = 7\npoll = \"5s\"\npoint.voltage = { register = \"input:0\", type = \"f32\" }\n";
        after_saving(meter, port("/dev/ttyUSB1"), &["meter-1 7 on bus: voltage power"]);
        let plc = "[device.plc]\ntcp = \"10.0.0.5:502\"\nunit = 7\npoll = \"5s\"\npoint.on = { register = \"input:0\", type = \"u16\" }\n";
        after_saving(plc, tcp("10.0.0.5"), &["plc 7 on 10.0.0.5:502: on power"]);
        let other =
            "[device.unit-7]\ntcp = \"10.0.0.6:502\"\nunit = 7\npoll = \"5s\"\npoint.on = { register = \"input:0\", type = \"u16\" }\n";
        after_saving(other, tcp("10.0.0.5"), &["unit-7 7 on 10.0.0.6:502: on", "unit-7-2 7 on 10.0.0.5:502: power"]);
    }

    #[test]
    fn saved_points_make_a_file_that_checks() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("fieldgate.toml");
        fs::write(&main, "[gateway]\nid = \"g\"\n[uplink.cloud]\nurl = \"mqtt://127.0.0.1\"\n").unwrap();
        let serial = Serial { path: "/dev/ttyUSB1".into(), baud: 9600, parity: Parity::None, bits: 8, stop: 1 };
        let line = Line::new(LineId::parse("site").unwrap(), Transport::Serial(serial));
        let place = Place { line, is_configured: false, device: None };
        let device = DeviceId::parse("meter-x").unwrap();
        for (name, address, a, b) in
            [("power", 12, 0x44a0, Some(0x8666)), ("voltage", 20, 2301, Some(7)), ("swapped", 30, 0x23d7, Some(0x4366))]
        {
            let guess = guess::best(a, b, None, None);
            let saving = Saving {
                device: &device,
                unit: 7,
                place: &place,
                point: PointId::parse(name).unwrap(),
                register: Register { table: Table::Input, address },
                unit_of_measure: guess.unit.to_owned(),
                guess: &guess,
            };
            save(&main, &saving).unwrap();
            // The same point a second time is refused, and the file stays good.
            assert!(save(&main, &saving).is_err());
        }
        let loaded = config::load_with(&main, &Surroundings::real(Secrets::Unread));
        let config = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.problems));
        let points: Vec<String> = config.devices[0]
            .points
            .iter()
            .map(|p| format!("{} {} {} {:?} {}", p.id, p.register, p.kind.word(), p.order, p.unit))
            .collect();
        assert_eq!(points, ["power input:12 f32 Abcd ", "voltage input:20 u16 Abcd V", "swapped input:30 f32 Cdab V"]);
    }
}
