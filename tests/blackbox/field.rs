//! The Python servers of tests/field: one process each, which announces itself in JSON and obeys lines on its stdin.

use crate::{
    process::{Process, host},
    wait::secs,
};
use serde_json::{Value as Json, json};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tempfile::TempDir;

struct Server {
    process: Process,
    announced: Json,
    lines: usize,
}

impl Server {
    fn start(script: &str, args: &[&str]) -> Server {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = std::env::var_os("FIELDGATE_PYTHON").map_or_else(|| root.join("target/field-venv/bin/python"), PathBuf::from);
        let mut process = Process::start(script, Command::new(python).arg(root.join("tests/field").join(script)).args(args));
        let line = process.line(0, secs(60));
        let announced = serde_json::from_str(&line).expect("a server announces itself in JSON");
        Server { process, announced, lines: 1 }
    }

    fn ask(&mut self, line: &str) -> Json {
        self.ask_within(line, secs(10))
    }

    fn ask_within(&mut self, line: &str, within: Duration) -> Json {
        self.process.tell(line);
        let answer = self.process.line(self.lines, within);
        self.lines += 1;
        let answer: Json = serde_json::from_str(&answer).expect("a server answers in JSON");
        assert!(answer.get("error").is_none(), "{line}: {answer}");
        answer
    }
}

fn number(json: &Json) -> u64 {
    json.as_u64().unwrap_or_else(|| panic!("{json} is no count"))
}

/// N Modbus TCP devices by pymodbus that write down what they held at every read.
pub struct Devices {
    server: Server,
    pub ports: Vec<u16>,
    dir: TempDir,
}

/// One read of all registers of one device, as its server saw it.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct Read {
    pub device: usize,
    pub counter: u64,
    pub values: Vec<u64>,
    pub at_ms: i64,
}

impl Devices {
    pub fn start(count: usize) -> Devices {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let log = dir.path().join("reads.jsonl");
        let server =
            Server::start("pymodbus_devices.py", &["--host", host(), "--devices", &count.to_string(), "--log", &log.to_string_lossy()]);
        let ports = serde_json::from_value(server.announced["ports"].clone()).expect("ports are numbers");
        Devices { server, ports, dir }
    }

    /// All writes so far, in order: function, address, values.
    pub fn writes(&mut self) -> Vec<(u64, u64, Vec<u64>)> {
        let journal = self.server.ask("journal");
        let entries = journal["journal"].as_array().expect("a list");
        let values = |e: &Json| e["values"].as_array().expect("a list").iter().map(number).collect();
        entries.iter().map(|e| (number(&e["function"]), number(&e["address"]), values(e))).collect()
    }

    /// Closes the connections to a device.
    pub fn part(&mut self, device: usize) {
        self.server.ask(&format!("part {device}"));
    }

    /// All reads so far.
    pub fn reads(&self) -> Vec<Read> {
        let text = std::fs::read_to_string(self.dir.path().join("reads.jsonl")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|l| serde_json::from_str(l).expect("the log is JSON lines")).collect()
    }
}

/// Many pymodbus units on one paced RTU line.
pub struct Bus {
    server: Server,
    pub path: String,
    _dir: TempDir,
}

impl Bus {
    pub fn start(units: usize, baud: u32) -> Bus {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let args = ["--units", &units.to_string(), "--baud", &baud.to_string(), "--dir", &dir.path().to_string_lossy()];
        let server = Server::start("pymodbus_rtu.py", &args);
        let path = server.announced["port"].as_str().expect("a path").to_owned();
        Bus { server, path, _dir: dir }
    }

    pub fn silence(&mut self, unit: usize) {
        self.server.ask(&format!("silence {unit}"));
    }

    pub fn speak(&mut self, unit: usize) {
        self.server.ask(&format!("speak {unit}"));
    }

    /// Reads per unit so far.
    pub fn reads(&mut self) -> BTreeMap<usize, u64> {
        let answer = self.server.ask("stats");
        let reads = answer["reads"].as_object().expect("reads by unit");
        reads.iter().map(|(unit, n)| (unit.parse().expect("units are numbers"), number(n))).collect()
    }
}

/// Servers that misbehave on purpose; the modes are described in tests/field/fault_server.py.
pub struct Faults {
    server: Server,
    _dir: TempDir,
}

#[derive(Debug)]
pub struct Counted {
    pub requests: u64,
    pub writes: u64,
    pub faults: u64,
}

impl Faults {
    pub fn start(tcp: usize, pty: usize, timeout_ms: u32) -> Faults {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let args = ["--host", host(), "--tcp", &tcp.to_string(), "--pty", &pty.to_string(), "--timeout-ms", &timeout_ms.to_string()];
        let server = Server::start("fault_server.py", &[&args[..], &["--dir", &dir.path().to_string_lossy()]].concat());
        Faults { server, _dir: dir }
    }

    /// A scale, a scale on TCP and a weather station that speaks by itself; see tests/field/framed_devices.py.
    pub fn of_text() -> Faults {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let server = Server::start("framed_devices.py", &["--host", host(), "--dir", &dir.path().to_string_lossy()]);
        Faults { server, _dir: dir }
    }

    fn announced(&self, name: &str) -> &Json {
        let servers = self.server.announced["servers"].as_array().expect("a list of servers");
        servers.iter().find(|s| s["name"] == name).unwrap_or_else(|| panic!("no server {name}"))
    }

    pub fn port(&self, name: &str) -> u16 {
        u16::try_from(number(&self.announced(name)["port"])).expect("a port")
    }

    pub fn path(&self, name: &str) -> String {
        self.announced(name)["path"].as_str().expect("a path").to_owned()
    }

    pub fn mode(&mut self, name: &str, mode: &str) {
        self.server.ask(&format!("mode {name} {mode}"));
    }

    pub fn counted(&mut self, name: &str) -> Counted {
        let answer = self.server.ask(&format!("stats {name}"));
        Counted { requests: number(&answer["requests"]), writes: number(&answer["writes"]), faults: number(&answer["faults"]) }
    }
}

/// SunSpec devices by pymodbus, one per base.
pub struct SunSpec {
    server: Server,
    pub ports: Vec<u16>,
}

impl SunSpec {
    pub fn start(bases: &[u16]) -> SunSpec {
        let bases: Vec<String> = bases.iter().map(u16::to_string).collect();
        let server = Server::start("sunspec_devices.py", &["--host", host(), "--bases", &bases.join(",")]);
        let ports = serde_json::from_value(server.announced["ports"].clone()).expect("ports are numbers");
        SunSpec { server, ports }
    }

    /// The power of ten of its power; the power stays.
    pub fn scale(&mut self, device: usize, power_of_ten: i16) {
        self.server.ask(&format!("scale {device} {power_of_ten}"));
    }

    /// Start and count of every read of a device so far.
    pub fn reads(&mut self, device: usize) -> Vec<(u64, u64)> {
        let answer = self.server.ask("stats");
        let reads = answer["reads"][device].as_array().expect("reads of each device");
        reads.iter().map(|r| (number(&r[0]), number(&r[1]))).collect()
    }
}

/// libmodbus's own test server, odd on purpose: see tests/field/libmodbus_servers.py.
pub struct LibModbus {
    server: Server,
    _dir: TempDir,
}

impl LibModbus {
    fn program() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/libmodbus/unit-test-server")
    }

    pub fn is_built() -> bool {
        LibModbus::program().exists()
    }

    pub fn start(tcp: usize, rtu: usize) -> LibModbus {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (program, path) = (LibModbus::program().display().to_string(), dir.path().display().to_string());
        let args = ["--server", &program, "--host", host(), "--tcp", &tcp.to_string(), "--rtu", &rtu.to_string(), "--dir", &path];
        LibModbus { server: Server::start("libmodbus_servers.py", &args), _dir: dir }
    }

    fn announced(&self, name: &str) -> &Json {
        let servers = self.server.announced["servers"].as_array().expect("a list of servers");
        servers.iter().find(|s| s["name"] == name).unwrap_or_else(|| panic!("no server {name}"))
    }

    pub fn port(&self, name: &str) -> u16 {
        u16::try_from(number(&self.announced(name)["port"])).expect("a port")
    }

    pub fn path(&self, name: &str) -> String {
        self.announced(name)["path"].as_str().expect("a path").to_owned()
    }

    /// Servers started so far: one per connection.
    pub fn starts(&mut self) -> u64 {
        number(&self.server.ask("stats")["starts"])
    }
}

/// pymodbus's simulator with addresses that it refuses.
pub struct Simulator {
    server: Server,
    pub port: u16,
}

impl Simulator {
    pub fn start(registers: u16, invalid: &str) -> Simulator {
        let args = ["--host", host(), "--registers", &registers.to_string(), "--invalid", invalid];
        let server = Server::start("pymodbus_simulator.py", &args);
        let port = u16::try_from(number(&server.announced["port"])).expect("a port");
        Simulator { server, port }
    }

    /// Requests and refusals.
    pub fn counted(mut self) -> (u64, u64) {
        let said = self.server.ask("stats");
        (number(&said["requests"]), number(&said["refused"]))
    }
}

/// A headless Chromium with axe-core; see tests/field/chromium.py.
pub struct Browser {
    server: Server,
}

impl Browser {
    pub fn start() -> Browser {
        let axe = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/axe/axe.min.js");
        let axe = axe.to_string_lossy();
        let mut args = vec!["--axe", &axe];
        // For whoever changes a page: its files without a build. Everyday runs have those of the program.
        let pages = std::env::var("FIELDGATE_PAGES").unwrap_or_default();
        if !pages.is_empty() {
            args.extend(["--pages", &pages]);
        }
        Browser { server: Server::start("chromium.py", &args) }
    }

    fn ask(&mut self, what: &Json) -> Json {
        self.server.ask_within(&what.to_string(), secs(60))
    }

    /// A tab in a profile of its own.
    pub fn open(&mut self, url: &str, (width, height): (u32, u32), dark: bool) {
        self.ask(&json!({"do": "open", "url": url, "width": width, "height": height, "dark": dark}));
    }

    pub fn eval(&mut self, js: &str) -> Json {
        self.ask(&json!({"do": "eval", "js": js}))["value"].clone()
    }

    pub fn enter(&mut self, text: &str) {
        self.ask(&json!({"do": "type", "text": text}));
    }

    pub fn press(&mut self, key: &str) {
        self.ask(&json!({"do": "type", "key": key}));
    }

    /// What axe-core finds, in words.
    pub fn violations(&mut self) -> Vec<Json> {
        self.ask(&json!({"do": "axe"}))["violations"].as_array().cloned().unwrap_or_default()
    }

    /// Errors in its console, exceptions, and what the policy of the page refused.
    pub fn said(&mut self) -> Vec<String> {
        serde_json::from_value(self.ask(&json!({"do": "said"}))["said"].clone()).expect("texts")
    }

    pub fn shot(&mut self, path: &Path) {
        self.ask(&json!({"do": "shot", "path": path.display().to_string()}));
    }
}
