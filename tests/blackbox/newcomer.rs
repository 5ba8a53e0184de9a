//! Promise of the site tools: from a box of unknown devices to values in the cloud, by commands that a newcomer can type.

use crate::{
    broker::Mosquitto,
    cloud::Cloud,
    gateway::PROGRAM,
    process::{Process, host},
    turn,
    wait::{pause, punctual, scaled, secs, until},
};
use fieldgate::drivers::modbus::rtu::crc16;
use serde_json::Value as Json;
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Output},
    time::Duration,
};
use tempfile::TempDir;

/// A directory with a simulated line, a home for what the tools remember, and the shipped profiles.
struct Site {
    dir: TempDir,
    line: Process,
}

impl Site {
    fn new(simulate: &[&str]) -> Site {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let bus = dir.path().join("bus").display().to_string();
        let mut command = Command::new(PROGRAM);
        command.args(["simulate", "--json", "--parity", "none", "--rtu", &bus]).args(simulate);
        let mut line = Process::start("simulate", &mut command);
        line.line(0, secs(20));
        Site { dir, line }
    }

    fn bus(&self) -> String {
        self.dir.path().join("bus").display().to_string()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        let profiles = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/profiles");
        command.args(args).arg("--config").arg(self.dir.path().join("fieldgate.toml"));
        command.env("XDG_STATE_HOME", self.dir.path().join("state")).env("FIELDGATE_PROFILES", profiles);
        command
    }

    /// Runs to its end; what it said on stdout.
    #[track_caller]
    fn run(&self, args: &[&str], code: i32) -> String {
        let Output { status, stdout, stderr } = self.command(args).output().expect("the program runs");
        let (stdout, stderr) = (String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr).into_owned());
        assert_eq!(status.code(), Some(code), "{args:?}: {stdout}\n{stderr}");
        stdout
    }
}

#[test]
fn a_meter_that_was_never_configured_is_in_the_cloud_after_four_commands() {
    let _turn = turn::shared();
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "newcomer");
    let site = Site::new(&["--units", "3"]);
    let url = format!("mqtt://{}:{}", host(), broker.port);
    // `ports` comes first in the story; a pseudo-terminal is none of its ports.
    let found = site.run(&["scan", &site.bus(), "-b", "9600", "--parity", "none", "--units", "1-10"], 0);
    assert!(found.contains("Eastron SDM120") && found.contains("high"), "{found}");
    let added = site.run(&["config", "add", "--from-scan", "--cloud", &url], 0);
    assert!(added.contains("1 device: sdm120-3"), "{added}");
    // The cloud of this test listens for one gateway's name.
    let main = site.dir.path().join("fieldgate.toml");
    let text = std::fs::read_to_string(&main).expect("it was written").replace("[gateway]\n", "[gateway]\nid = \"newcomer\"\n");
    std::fs::write(&main, text).expect("the temporary directory takes a file");
    let checked = site.run(&["check"], 0);
    assert!(checked.contains("1 line, 1 device"), "{checked}");
    let _gateway = Process::start("fieldgate", &mut site.command(&["run"]));
    let voltage = cloud.wait("a voltage in the cloud", secs(20), |seen| {
        seen.rows.iter().find(|r| r.device == "sdm120-3").and_then(|r| r.values.get("voltage").and_then(Json::as_f64))
    });
    assert!((220.0..240.0).contains(&voltage), "{voltage} V");
    // And the way of one value can be looked at.
    let trace: Json = serde_json::from_str(&site.run(&["trace", "sdm120-3/power", "--json"], 0)).expect("one document");
    let steps: Vec<&str> = trace["steps"].as_array().into_iter().flatten().filter_map(|s| s["step"].as_str()).collect();
    assert_eq!(steps, ["asked", "answered", "decoded", "reported", "sealed", "sent", "acknowledged"], "{trace}");
    let verbose = site.run(&["trace", "sdm120-3/power", "-v"], 0);
    let frames: Vec<&str> = verbose.lines().map(str::trim).filter(|l| l.starts_with("03 04 ")).collect();
    assert!(frames.len() == 2 && frames[0].len() == 8 * 3 - 1, "the frames of request and answer: {verbose}");
    // Site tools take turns with the daemon.
    let table = site.run(&["explore", "sdm120-3", "input:0", "--count", "20"], 0);
    assert!(table.contains(" V") && table.contains('*'), "{table}");
}

/// Three speeds on one line; parity is tried in the unit tests, because a pseudo-terminal carries none.
#[test]
fn a_scan_finds_units_of_three_speeds_on_one_line() {
    let _turn = turn::shared();
    let site = Site::new(&["-b", "9600", "--units", "1,2,20", "--also", "19200:1,17,33", "--also", "38400:5,24"]);
    let units = scaled("1-40", "1-247");
    let args = ["scan", &site.bus(), "-b", "9600,19200,38400", "--parity", "none", "--units", units, "--json"];
    let lines: Vec<Json> = site.run(&args, 0).lines().map(|l| serde_json::from_str(l).expect("JSON lines")).collect();
    let mut found: Vec<(u64, u64)> = lines
        .iter()
        .filter(|l| l["profile"] == "eastron-sdm120")
        .filter_map(|l| Some((l["baud"].as_u64()?, l["unit"].as_u64()?)))
        .collect();
    found.sort_unstable();
    assert_eq!(found, [(9600, 1), (9600, 2), (9600, 20), (19_200, 1), (19_200, 17), (19_200, 33), (38_400, 5), (38_400, 24)]);
    let done = lines.last().expect("a last line");
    let (took, least) = (done["elapsed_s"].as_f64().expect("a time"), done["minimum_s"].as_f64().expect("a time"));
    println!("scan: {} tries in {took:.1} s, at least {least:.1} s needed; 8 units were asked who they are", done["tried"]);
    assert!(took >= least, "{took} s is faster than the wire: {least} s");
    // Asking eight units who they are takes a second or two each; the sweep itself keeps to the wire's pace.
    punctual("a scan", Duration::from_secs_f64(took), Duration::from_secs_f64(least * 1.25 + 8.0 * 3.0));
}

/// A server for which each connection is served by a thread of its own; its port.
fn served(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind((host(), 0)).expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        for peer in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(peer));
        }
    });
    port
}

/// A serial server that passes RTU frames through, with one unit behind it that refuses every register.
fn serial_server(unit: u8) -> u16 {
    served(move |mut peer| {
        let mut bytes = [0; 256];
        while let Ok(count @ 1..) = peer.read(&mut bytes) {
            let (body, sum) = bytes[..count].split_at(count.saturating_sub(2));
            // What is no RTU frame of the unit goes over the bus and nobody answers.
            if body.first() == Some(&unit) && crc16(body).to_le_bytes() == sum {
                let mut reply = vec![unit, body[1] | 0x80, 2];
                reply.extend(crc16(&reply).to_le_bytes());
                let _ = peer.write_all(&reply);
            }
        }
    })
}

#[test]
fn a_scan_of_a_network_finds_units_in_either_framing() {
    let _turn = turn::shared();
    let tcp = format!("{}:0", host());
    let mut site = Site::new(&["--units", "2,5", "--tcp", &tcp]);
    let mbap = site.line.line(0, secs(20));
    let mbap: Json = serde_json::from_str(&mbap).expect("one object");
    let mbap = mbap["tcp"][0].as_str().expect("an address").to_owned();
    let rtu = format!("{}:{}", host(), serial_server(3));
    for (place, want) in [(mbap, vec![("mbap", 2), ("mbap", 5)]), (rtu, vec![("rtu", 3)])] {
        let said = site.run(&["scan", &place, "--units", "1-5", "--json"], 0);
        let lines: Vec<Json> = said.lines().map(|l| serde_json::from_str(l).expect("JSON lines")).collect();
        let found: Vec<(&str, u64)> = lines.iter().filter_map(|l| Some((l["framing"].as_str()?, l["unit"].as_u64()?))).collect();
        assert_eq!(found, want, "{place}: {said}");
    }
}

/// A SunSpec gateway: it takes a second for its first answer to anybody.
fn slow_gateway(unit: u8) -> u16 {
    served(move |mut peer| {
        let (mut bytes, mut is_awake) = ([0; 260], false);
        while let Ok(count @ 8..) = peer.read(&mut bytes) {
            let is_mbap = bytes[2..4] == [0, 0] && usize::from(bytes[5]) + 6 == count;
            if !is_mbap || bytes[6] != unit {
                continue;
            }
            if !std::mem::replace(&mut is_awake, true) {
                pause(std::time::Duration::from_secs(1));
            }
            let reply = [bytes[0], bytes[1], 0, 0, 0, 3, unit, bytes[7] | 0x80, 2];
            if peer.write_all(&reply).is_err() {
                return;
            }
        }
    })
}

#[test]
fn a_gateway_that_needs_a_second_is_found_by_the_second_look() {
    let _turn = turn::shared();
    let site = Site::new(&["--units", "3"]);
    let place = format!("{}:{}", host(), slow_gateway(1));
    site.run(&["scan", &place, "--units", "1", "--fast"], 1);
    for extra in [&[][..], &["--wait", "2s"]] {
        let said = site.run(&[&["scan", &place, "--units", "1", "--json"], extra].concat(), 0);
        let found: Json = serde_json::from_str(said.lines().next().expect("a line")).expect("JSON lines");
        assert!(found["unit"] == 1 && found["answer_ms"].as_u64() >= Some(900), "{said}");
    }
}

#[test]
fn read_and_explore_of_an_address_find_rtu_over_tcp_by_themselves() {
    let _turn = turn::shared();
    let site = Site::new(&["--units", "3"]);
    let place = format!("{}:{}", host(), serial_server(3));
    // It refuses every register: it was heard.
    site.run(&["read", &place, "-u", "3", "holding:0"], 5);
    site.run(&["explore", &place, "-u", "3", "holding:0", "--count", "2"], 5);
    site.run(&["read", &place, "-u", "3", "holding:0", "--framing", "mbap"], 4);
}

#[test]
fn a_scan_of_units_that_no_serial_line_has_is_refused() {
    let _turn = turn::shared();
    let site = Site::new(&["--units", "3"]);
    assert_eq!(site.run(&["scan", &site.bus(), "--units", "248"], 2), "");
}

#[test]
fn a_write_shows_its_bytes_first_and_is_read_back() {
    let _turn = turn::shared();
    let site = Site::new(&["--units", "3"]);
    let bus = site.bus();
    let config = format!(
        "[gateway]\nid = \"w\"\ndata_dir = \"{0}/data\"\nrun_dir = \"{0}/run\"\n[line.bus]\nserial = {{ path = \"{bus}\", baud = 9600, parity = \"none\" }}\n\
         [device.boiler]\nline = \"bus\"\nunit = 3\npoll = \"1s\"\n[device.boiler.point.setpoint]\nregister = \"holding:101\"\ntype = \"u16\"\nunit = \"°C\"\n\
         write = {{ min = 20, max = 80 }}\n[uplink.cloud]\nurl = \"mqtt://127.0.0.1:1\"\n",
        site.dir.path().display()
    );
    std::fs::write(site.dir.path().join("fieldgate.toml"), config).expect("the temporary directory takes a file");
    let dry = site.run(&["write", "boiler", "setpoint=67", "--dry-run"], 0);
    assert!(dry.starts_with("Nothing is sent.") && dry.contains("06 00 65 00 43"), "{dry}");
    site.run(&["write", "boiler", "setpoint=95", "--yes"], 5);
    // Nobody is there to be asked.
    site.run(&["write", "boiler", "setpoint=67"], 2);
    let alone: Json = serde_json::from_str(&site.run(&["write", "boiler", "setpoint=67", "--yes", "--json"], 0)).expect("one document");
    assert_eq!(
        (&alone["phase"], &alone["read_back"]["setpoint"], &alone["before"]["setpoint"]),
        (&"confirmed".into(), &67.into(), &0.into())
    );
    let raw = site.run(&["write", &bus, "-u", "3", "-b", "9600", "--parity", "none", "holding:102=7", "--yes"], 0);
    assert!(raw.contains("confirmed"), "{raw}");
    let _gateway = Process::start("fieldgate", &mut site.command(&["run"]));
    until("fieldgate has read the point", secs(20), || {
        let status = site.command(&["status", "--json"]).output().expect("the program runs");
        let status: Json = serde_json::from_slice(&status.stdout).ok()?;
        (status["devices"]["online"] == 1).then_some(())
    });
    let through: Json = serde_json::from_str(&site.run(&["write", "boiler", "setpoint=70", "--yes", "--json"], 0)).expect("one document");
    assert_eq!(
        (&through["phase"], &through["read_back"]["setpoint"], &through["before"]["setpoint"]),
        (&"confirmed".into(), &70.into(), &67.into())
    );
    let phases: Vec<&str> = through["phases"].as_array().into_iter().flatten().filter_map(|p| p["phase"].as_str()).collect();
    assert_eq!(phases, ["accepted", "sent", "confirmed"]);
    site.run(&["write", "boiler", "setpoint=95", "--yes"], 5);
}
