//! One mistake in, its code and place out. A base that checks is prepended or appended, so each case is a line or two.

mod mqtt;
mod rules;
mod schedules;
mod types;
mod writes;

use super::{Code, Loaded, Problem, Secrets, Severity, Surroundings, load_with, render, words};
use proptest::prelude::*;
use std::{
    fmt::Write,
    path::{Path, PathBuf},
    time::Duration,
};

const GATEWAY: &str = "[gateway]\nid = \"g\"\n";
const UPLINK: &str = "[uplink.cloud]\nurl = \"mqtt://127.0.0.1:1883\"\n";
const SERIAL: &str = "[line.bus]\nserial = { path = \"/dev/serial/by-id/x\", baud = 9600, parity = \"even\" }\n";
const DEVICE: &str = "[device.d]\ntcp = \"plc:502\"\nunit = 1\n";
const POINT: &str = "[device.d.point.p]\nregister = \"holding:1\"\ntype = \"u16\"\n";

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn around() -> Surroundings {
    Surroundings {
        env: Box::new(|_| None),
        machine_id: Some("0123456789abcdef0123456789abcdef\n".into()),
        profile_dirs: vec![repository("config/profiles")],
        secrets: Secrets::Unread,
    }
}

/// Loads files written below a fresh directory; the first is the main one.
fn load_files(files: &[(&str, &str)], around: &Surroundings) -> (Loaded, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    (load_with(&dir.path().join(files[0].0), around), dir)
}

fn load(toml: &str) -> Loaded {
    load_files(&[("fieldgate.toml", toml)], &around()).0
}

/// `code line:column+length` of every problem, in order.
fn said(loaded: &Loaded) -> Vec<String> {
    loaded.problems.iter().map(|p| format!("{} {}:{}+{}", p.code.word(), p.at.line, p.at.column, p.at.length)).collect()
}

/// The problems of `toml`, as `code line:column+length`.
#[track_caller]
fn check(toml: &str, want: &[&str]) -> Vec<Problem> {
    let loaded = load(toml);
    assert_eq!(said(&loaded), want, "{toml}\n{}", render::text(&loaded.problems, render::Style::default()));
    for p in loaded.problems.iter().filter(|p| p.severity != Severity::Note) {
        assert!(!p.want.is_empty() && !p.found.is_empty(), "{} has no remedy", p.code.word());
    }
    assert_eq!(loaded.config.is_none(), loaded.has_errors(), "{toml}");
    loaded.problems
}

/// One line in front of which the rest is right: problems are given with the line counted from 1.
#[track_caller]
fn point(lines: &str, want: &[&str]) {
    check(&format!("[device.d.point.p]\n{lines}\n{GATEWAY}{UPLINK}{DEVICE}"), want);
}

#[track_caller]
fn device(lines: &str, want: &[&str]) {
    check(&format!("[device.d]\n{lines}\n{POINT}{GATEWAY}{UPLINK}"), want);
}

#[track_caller]
fn section(lines: &str, want: &[&str]) {
    check(&format!("{lines}\n{GATEWAY}{UPLINK}{DEVICE}{POINT}"), want);
}

#[test]
fn what_is_right_is_quiet() {
    section("", &[]);
    section("[buffer]\nwindow = \"0s\"\nack_within = \"50ms\"\ndisk_max = \"64MiB\"\nwhen_full = \"drop\"", &[]);
    section("[buffer]\nwhen_full = \"thin\"\nthin_window = \"5m\"", &[]);
    section("[buffer]\nthin_window = \"2h\"", &["out-of-range 2:15+4"]);
    check(GATEWAY, &["no-uplink 0:0+0"]);
    point("register = \"coil:5\"\nwrite = true", &[]);
    point(
        "register = \"holding:0x65\"\ntype = \"f32\"\norder = \"CDAB\"\nscale = 0.1\noffset = -40\nunit = \"°C\"\nna = [0x7FC00000]\nread_alone = true",
        &[],
    );
}

#[test]
fn keys_and_their_kinds() {
    section("[gatewy]\nid = \"x\"", &["unknown-key 1:2+6"]);
    device("tcp = \"plc\"\nunit = 1\noffline_afer = \"10s\"", &["unknown-key 4:1+12"]);
    device("tcp = \"plc\"\nunit = \"1\"", &["wrong-type 3:8+3"]);
    device("tcp = \"plc\"\nunit = 1\npoll = 5", &["wrong-type 4:8+1"]);
    device("tcp = 502\nunit = 1", &["wrong-type 2:7+3"]);
    device("tcp = \"plc\"", &["missing-key 1:9+1"]);
    device("unit = 1", &["missing-key 1:9+1"]);
    device("tcp = \"plc\"\nunit = 1\npoll = \"5 sec\"", &["bad-duration 4:8+7"]);
    device("tcp = \"plc\"\nunit = 1\npoll = \"60d\"", &["out-of-range 4:8+5"]);
    device("tcp = \"plc\"\nunit = 1\nmax_words = 126", &["out-of-range 4:13+3"]);
    device("tcp = \"plc\"\nunit = 1\nmax_gap = 99999999999999999999", &["out-of-range 4:11+20"]);
    section("[buffer]\ndisk_max = \"512M\"", &["bad-size 2:12+6"]);
    section("[buffer]\ndisk_max = \"1kB\"", &["out-of-range 2:12+5"]);
    section("[buffer]\nwhen_full = \"drob\"", &["bad-value 2:13+6"]);
    check(&format!("device = 1\n{GATEWAY}{UPLINK}"), &["wrong-type 1:10+1"]);
    section("[buffer]\nwindow = 2025-01-01", &["wrong-type 2:10+10"]);
}

#[test]
fn did_you_mean_shows_the_line_as_it_should_be() {
    let p = &check(&format!("{GATEWAY}{UPLINK}{DEVICE}offline_afer = \"10s\"\n{POINT}"), &["unknown-key 8:1+12"])[0];
    assert_eq!(p.found, "`offline_afer` is no key of a device");
    assert_eq!(p.because, "did you mean `offline_after`?");
    assert_eq!(p.want[0].write, "offline_after = \"10s\"");
    assert_eq!(p.key, "device.d.offline_afer");
}

#[test]
fn ids() {
    check("[gateway]\nid = \"plant 7\"", &["bad-id 2:6+9"]);
    section("[line.\"a/b\"]\ntcp = \"h\"", &["bad-id 1:7+5"]);
    section("[device.\"ä\"]\ntcp = \"h\"\nunit = 2\npoint.x = { register = \"coil:1\" }", &["bad-id 1:9+3"]);
    let mut around = around();
    around.machine_id = None;
    let (loaded, _dir) = load_files(&[("f.toml", UPLINK)], &around);
    assert_eq!(said(&loaded)[0], "no-gateway-id 0:0+0");
}

#[test]
fn the_gateway_is_named_by_its_machine() {
    let config = load(UPLINK).config.unwrap();
    assert_eq!(config.gateway.id.as_str(), "gw-0123456789ab");
    assert_eq!(config.uplink().unwrap().topic_prefix, "fieldgate/gw-0123456789ab");
    assert_eq!(config.gateway.data_dir, Path::new("/var/lib/fieldgate"));
}

#[test]
fn registers_and_types() {
    point("register = 40001\ntype = \"u16\"", &["ambiguous-register 2:12+5"]);
    point("register = \"hr:1\"\ntype = \"u16\"", &["modicon-register 2:12+6"]);
    point("register = \"400101\"\ntype = \"u16\"", &["modicon-register 2:12+8"]);
    point("register = 400101\ntype = \"u16\"", &["modicon-register 2:12+6"]);
    point("register = \"coil:1\"\ntype = \"f32\"", &["type-mismatch 3:8+5"]);
    point("register = \"holding:1\"", &["missing-key 1:17+1"]);
    point("type = \"u16\"", &["missing-key 1:17+1"]);
    point("register = \"holding:1\"\ntype = \"float\"", &["bad-value 3:8+7"]);
    point("register = \"holding:1\"\ntype = \"string\"", &["bad-value 3:8+8"]);
    point("register = \"holding:65535\"\ntype = \"u32\"", &["out-of-range 2:12+15"]);
    point("register = \"holding:1\"\ntype = \"u16\"\nscale = 0", &["out-of-range 4:9+1"]);
    point("register = \"holding:1\"\ntype = \"u16\"\nscale = nan", &["out-of-range 4:9+3"]);
    point("register = \"holding:1\"\ntype = \"u16\"\norder = \"abcd\"", &["bad-value 4:9+6"]);
    point("register = \"holding:1\"\ntype = \"u16\"\nna = [0x8000, 0x10000]", &["out-of-range 4:15+7"]);
    point("register = \"holding:1\"\ntype = \"u16\"\nreport = { deadband = -1 }", &["out-of-range 4:23+2"]);
    point("register = \"holding:1\"\ntype = \"u16\"\nreport = { deadband = 1, on_change = false }", &["no-effect 4:38+5"]);
    point("register = \"holding:1\"\ntype = \"u16\"\nreport = { at_least_every = \"1s\" }", &["no-effect 4:29+4"]);
}

#[test]
fn writing() {
    point("register = \"input:1\"\ntype = \"u16\"\nwrite = true", &["bad-write 4:1+5"]);
    point("register = \"discrete:1\"\nwrite = true", &["bad-write 3:1+5"]);
    point("register = \"holding:1\"\ntype = \"u16\"\nwrite = { min = 80, max = 20 }", &["min-above-max 4:17+2"]);
    point("register = \"holding:1\"\ntype = \"f32\"\nwrite = { function = 6 }", &["bad-write 4:22+1"]);
    point("register = \"holding:1\"\ntype = \"bit:3\"\nwrite = true", &[]);
    point("register = \"holding:1\"\ntype = \"u16\"\nwrite = \"yes\"", &["wrong-type 4:9+5"]);
    point("register = \"holding:1\"\ntype = \"u16\"\nwrite = { min = 20, max = 80, verify = true, min_interval = \"5s\" }", &[]);
}

#[test]
fn devices_and_lines() {
    device("line = \"metres\"\nunit = 1\n[line.meters]\ntcp = \"h\"", &["unknown-line 2:8+8"]);
    device("tcp = \"h\"\nrtu_over_tcp = \"h:1\"\nunit = 1", &["two-places 3:1+12"]);
    device("rtu_over_tcp = \"h:1\"\nframing = \"auto\"\nunit = 1", &["two-places 3:11+6"]);
    device("rtu_over_tcp = \"h\"\nunit = 1", &["bad-address 2:16+3"]);
    device("tcp = \"http://h\"\nunit = 1", &["bad-address 2:7+10"]);
    device("tcp = \"h\"\nunit = 255", &[]);
    device("rtu_over_tcp = \"h:4196\"\nunit = 248", &["out-of-range 3:8+3"]);
    device("tcp = \"h\"\nunit = 1\npoll = \"10s\"\noffline_after = \"10s\"", &["flaps 5:17+5"]);
    device("tcp = \"h\"\nunit = 1\nstop = 2", &["not-in-version 4:1+4"]);
    device("tcp = \"h\"\nunit = 1\nmax_words = 1\npoint.w = { register = \"holding:9\", type = \"f32\" }", &["out-of-range 4:13+1"]);
    device("tcp = \"h\"\nunit = 1\nprofile = \"eastron-sdm12\"", &["unknown-profile 4:11+15"]);
    section("[device.e]\ntcp = \"h\"\nunit = 1", &["no-points 1:9+1"]);
    section("[device.e]\ntcp = \"plc\"\nunit = 1\npoint.p = { register = \"coil:1\" }", &["same-unit 3:8+1"]);
    section("[device.e]\nrtu_over_tcp = \"plc:502\"\nunit = 2\npoint.p = { register = \"coil:1\" }", &["same-endpoint 2:16+9"]);
    section("[line.a]\ntimeout = \"1s\"", &["missing-key 1:7+1"]);
    section("[line.a]\nserial = { path = \"/dev/ttyUSB0\" }", &["unused-line 1:7+1", "unstable-path 2:19+14"]);
    section("[line.a]\nserial = { path = \"/dev/x\", baud = 9800 }", &["bad-value 2:36+4", "unused-line 1:7+1"]);
    section("[line.a]\ntcp = \"h\"\nstop = 2", &["misplaced-key 3:1+4", "unused-line 1:7+1"]);
    let two = format!("{SERIAL}[line.twin]\nserial = {{ path = \"/dev/serial/by-id/x\" }}");
    section(&two, &["same-port 4:10+32", "unused-line 1:7+3", "unused-line 3:7+4"]);
}

#[test]
fn groups() {
    let group = |rest: &str| format!("[group.m]\ntcp = \"h\"\npoint.p = {{ register = \"coil:1\" }}\n{rest}");
    section(&group("each = \"1..3\"\nunit = \"{n}\""), &[]);
    section(&group("unit = \"{n}\""), &["bad-each 1:8+1"]);
    section(&group("each = \"8..1\"\nunit = \"{n}\""), &["bad-each 4:8+6"]);
    section(&group("each = \"1..3\"\nunit = \"{m}\""), &["unknown-placeholder 5:8+5", "wrong-type 5:8+5"]);
    section(&group("each = \"1..3\"\nunit = \"{n}00\""), &["out-of-range 5:8+7"]);
    section(&group("each = \"1..2\"\nid = \"same\"\nunit = \"{n}\""), &["duplicate-id 5:6+6"]);
    section(&group("each = \"1..99999\"\nunit = 1"), &["bad-each 4:8+10"]);
    section(&group("csv = \"missing.csv\""), &["unreadable 4:7+13"]);
    section(
        "[group.d]\neach = \"1..2\"\nid = \"d\"\ntcp = \"h\"\nunit = \"{n}\"\npoint.p = { register = \"coil:1\" }",
        &["duplicate-id 3:6+3"],
    );
}

#[test]
fn groups_make_devices() {
    let toml = format!(
        "{GATEWAY}{UPLINK}{SERIAL}[group.meter]\neach = \"1,3,5-6\"\nid = \"meter-{{n}}\"\nline = \"bus\"\nunit = \"{{n}}\"\nprofile = \"eastron-sdm120\"\npoll = \"5s\"\n"
    );
    let config = load(&toml).config.unwrap();
    let ids: Vec<(&str, u8)> = config.devices.iter().map(|d| (d.id.as_str(), d.unit)).collect();
    assert_eq!(ids, [("meter-1", 1), ("meter-3", 3), ("meter-5", 5), ("meter-6", 6)]);
    assert_eq!(config.devices[0].max_words, 80);
    assert!(config.devices[0].points.len() > 10);
    assert_eq!(config.devices[0].offline_after, Duration::from_secs(15));
}

#[test]
fn csv_rows_make_devices_and_problems_point_into_the_csv() {
    let main = format!(
        "{GATEWAY}{UPLINK}[group.m]\ncsv = \"m.csv\"\noffline_after = \"{{patience}}\"\npoint.p = {{ register = \"coil:1\", unit = \"{{label}}\" }}\n"
    );
    let csv = "id,tcp,unit,label,patience\na,10.0.0.1,1,first,20s\nb,10.0.0.1:502,2,second,30s\n";
    let (loaded, _dir) = load_files(&[("f.toml", &main), ("m.csv", csv)], &around());
    assert_eq!(said(&loaded), [""; 0]);
    let config = loaded.config.unwrap();
    assert_eq!(config.lines.len(), 1, "equal host and port share a line");
    assert_eq!(config.devices[1].points[0].unit, "second");
    assert_eq!(config.devices[1].offline_after, Duration::from_secs(30));

    let bad = "id,tcp,unit,label,patience,uint\na,h,300,x,20s,1\nb/c,h,2,y,soon,1\n";
    let (loaded, dir) = load_files(&[("f.toml", &main), ("m.csv", bad)], &around());
    let want = ["out-of-range 2:5+3", "bad-id 3:1+3", "bad-duration 3:11+4", "unused-column 1:28+4"];
    assert_eq!(said(&loaded), want);
    assert!(loaded.problems.iter().all(|p| p.at.file == dir.path().join("m.csv")));
}

#[test]
fn uplinks() {
    let with = |rest: &str, want: &[&str]| {
        check(&format!("[uplink.cloud]\n{rest}\n{GATEWAY}"), want);
    };
    with("url = \"mqtts://broker.example.com\"", &[]);
    with("", &["missing-key 1:9+5"]);
    with("url = \"http://h\"", &["bad-url 2:7+10"]);
    with("url = \"wss://h\"", &["not-in-version 2:7+9"]);
    with("url = \"h:1883\"", &["bad-url 2:7+8"]);
    with("url = \"mqtt://u:p@h\"", &["bad-url 2:7+14"]);
    with("url = \"mqtt://h\"\ndialect = \"sparkplug\"", &["not-in-version 3:11+11"]);
    with("url = \"mqtt://h\"\nrequired = false", &["no-required-uplink 3:12+5"]);
    with("url = \"mqtt://h\"\nfallback = [\"mqtts://i\", \"mqtt://j:1884\"]\nreplay_share = 20\nreplay_rate = 5000", &[]);
    with("url = \"mqtt://h\"\nfallback = [\"http://i\"]", &["bad-url 3:13+10"]);
    with("url = \"mqtt://h\"\nreplay_share = 100", &["out-of-range 3:16+3"]);
    with("url = \"mqtt://h\"\ntls = { ca = \"/x\" }", &["misplaced-key 3:1+3"]);
    with("url = \"mqtts://h\"\ntls = { cert = \"/x\" }", &["missing-key 3:9+4"]);
    with("url = \"mqtt://h\"\ntopic_prefix = \"a/#\"", &["bad-topic 3:16+5"]);
    with("url = \"mqtt://h\"\nusername = \"u\"\npassword = { env = \"P\" }", &["plain-password 2:7+10"]);
    with("url = \"mqtts://h\"\npassword = { env = \"P\" }", &["missing-key 3:1+8"]);
    with("url = \"mqtts://h\"\nusername = \"u\"\npassword = { env = \"P\", file = \"/p\" }", &["bad-secret 4:1+8"]);
    with("url = \"mqtt://h\"\nkeep_alive = \"1s\"", &["out-of-range 3:14+4"]);
    with("url = \"mqtt://h\"\n[uplink.second]\nurl = \"mqtt://i\"\nrequired = false", &[]);
    with("url = \"mqtt://h\"\n[uplink.second]\nurl = \"mqtt://h\"", &["twin-uplinks 3:9+6"]);
    with("url = \"mqtt://h\"\n[uplink.second]\nurl = \"mqtt://h\"\nclient_id = \"other\"", &[]);
    with("url = \"mqtt://h\"\n[mqtt]\nbroker = \"mqtt://h\"\n[mqtt.preset.homie]", &[]);
    with("url = \"mqtt://h\"\n[mqtt]\nbroker = \"mqtt://h\"\nclient_id = \"fieldgate-g\"\n[mqtt.preset.homie]", &["twin-uplinks 1:9+5"]);
}

#[test]
fn the_local_history_is_bounded_and_has_exceptions() {
    section("[history]", &[]);
    section("[history]\nkeep = \"0s\"\n[history.points]\nboiler = \"30d\"\n\"boiler.flow\" = \"90d\"", &[]);
    section("[history]\ncommit_every = \"1ms\"\ndisk_max = \"1\"", &["out-of-range 2:16+5", "bad-size 3:12+3"]);
    section("[history.points]\n\"a b\" = \"1d\"\nx = 5", &["bad-id 2:1+5", "wrong-type 3:5+1"]);
}

#[test]
fn the_http_surface_and_its_tokens() {
    section("[api]\nlisten = \"127.0.0.1:8080\"", &["no-effect 1:2+3"]);
    let with = |rest: &str, want: &[&str]| section(&format!("[api]\n{rest}"), want);
    let token = |role: &str, more: &str| format!("[api.token.anna]\nrole = \"{role}\"\ntoken = {{ env = \"T\" }}\n{more}");
    with(&token("viewer", ""), &[]);
    with(&token("device", ""), &[]);
    with(&token("device", "device = \"pump-*\""), &[]);
    with(&token("device", "device = \"a b*\""), &["bad-id 5:10+6"]);
    with(&token("viewer", "device = \"pump-1\""), &["misplaced-key 5:1+6"]);
    with(&token("boss", ""), &["bad-value 3:8+6"]);
    with("[api.token.a]\nrole = \"viewer\"", &["missing-key 2:12+1"]);
    with(&format!("listen = \"192.168.1.2\"\n{}", token("admin", "")), &["insecure-endpoint 2:10+13"]);
    with(&format!("listen = [\"::1\", \"here\"]\n{}", token("admin", "")), &["bad-address 2:18+6"]);
}

/// `[api]` with this device file and two tokens, each with what it holds.
#[track_caller]
fn tokens(many: &str, anna: &'static str, bert: &'static str, want: &[&str]) {
    let toml = format!(
        "[api]\ndevice_tokens = {{ env = \"MANY\" }}\n[api.token.anna]\nrole = \"admin\"\ntoken = {{ env = \"ANNA\" }}\n\
         [api.token.bert]\nrole = \"viewer\"\ntoken = {{ env = \"BERT\" }}\n{GATEWAY}{UPLINK}{DEVICE}{POINT}"
    );
    let many = many.to_owned();
    let env = move |name: &str| match name {
        "MANY" => Some(many.clone()),
        "ANNA" => Some(anna.to_owned()),
        _ => Some(bert.to_owned()),
    };
    let around = Surroundings { env: Box::new(env), secrets: Secrets::Needed, ..around() };
    let loaded = load_files(&[("fieldgate.toml", &toml)], &around).0;
    let said: Vec<String> = loaded.problems.iter().map(|p| format!("{} {}", p.code.word(), p.key)).collect();
    assert_eq!(said, want, "{}", render::text(&loaded.problems, render::Style::default()));
}

#[test]
fn a_token_is_long_its_holder_known_and_a_device_file_read_line_by_line() {
    let (one, two) = ("0123456789abcdef", "0123456789abcdeF");
    tokens("# devices\npump-1 0123456789abcdeX\n\npump-2\t0123456789abcdeY", one, two, &[]);
    tokens("", one, "secret", &["bad-secret api.token.bert.token"]);
    tokens("", one, "0123456789 abcdef", &["bad-secret api.token.bert.token"]);
    tokens("", one, one, &["bad-secret api.token"]);
    tokens("pump-1 0123456789abcdef", one, two, &["bad-secret api.token"]);
    tokens("pump-1", one, two, &["bad-secret api.device_tokens"]);
    tokens("pump/1 0123456789abcdeX\npump-2 short", one, two, &["bad-secret api.device_tokens"; 2]);
}

#[test]
fn what_comes_later_is_said() {
    section("[limits]\nbulk = 10", &["not-in-version 2:1+4"]);
    section("[buffer]\nwhen_full = \"hold\"", &["not-in-version 2:13+6"]);
}

#[test]
fn broken_toml_does_not_hide_the_rest() {
    let toml =
        format!("[buffer]\nwindow = \n[device.x]\ntcp = \"h\"\nunit = 300\npoint.p = {{ register = \"coil:1\" }}\n{GATEWAY}{UPLINK}");
    check(&toml, &["syntax 2:10+1", "out-of-range 5:8+3"]);
    check(&format!("{GATEWAY}{UPLINK}{GATEWAY}"), &["duplicate-key 5:2+7", "duplicate-key 6:1+2"]);
}

#[test]
fn five_mistakes_are_named_in_one_run() {
    let toml = "[gateway]\nid = \"plant 7\"\n\n[device.boiler]\ntcp = \"192.168.1.20:502\"\nunit = 300\nofline_after = \"10s\"\n\n[device.boiler.point.flow]\nregister = 40001\ntype = \"i16\"\n\n[device.boiler.point.setpoint]\nregister = \"holding:101\"\ntype = \"u16\"\nwrite = { min = 80, max = 20 }\n\n[uplink.cloud]\nurl = \"mqtts://broker.example.com:8883\"\n";
    let problems =
        check(toml, &["bad-id 2:6+9", "out-of-range 6:8+3", "unknown-key 7:1+12", "ambiguous-register 10:12+5", "min-above-max 16:17+2"]);
    let shown = render::text(&problems, render::Style::default());
    for remedy in ["plant-7", "unit = 255", "offline_after = \"10s\"", "register = \"holding:0\"", "min = 20, max = 80"] {
        assert!(shown.contains(remedy), "{remedy} in\n{shown}");
    }
}

#[test]
fn conf_d_is_read_in_order_and_doubles_name_both_places() {
    let device = "[device.a]\ntcp = \"h\"\nunit = 1\npoint.p = { register = \"coil:1\" }\n";
    let main = format!("{GATEWAY}{UPLINK}");
    let (loaded, _dir) = load_files(
        &[("f.toml", &main), ("conf.d/20.toml", device), ("conf.d/10.toml", "[buffer]\nwindow = \"2s\"\n"), ("conf.d/notes.txt", "x")],
        &around(),
    );
    assert_eq!(said(&loaded), [""; 0]);
    assert_eq!(loaded.files.len(), 3);
    assert!(loaded.files[1].ends_with("conf.d/10.toml"));
    assert_eq!(loaded.config.unwrap().buffer.window, Duration::from_secs(2));

    let again = "[device.a]\ntcp = \"h\"\nunit = 2\n[gateway]\nid = \"other\"\n";
    let (loaded, _dir) = load_files(&[("f.toml", &main), ("conf.d/1.toml", device), ("conf.d/2.toml", again)], &around());
    assert_eq!(said(&loaded), ["duplicate-id 1:9+1", "duplicate-key 5:1+2"]);
    assert!(loaded.problems[0].because.contains("1.toml:1"), "{:?}", loaded.problems[0]);
    assert!(loaded.problems[1].because.contains("f.toml:2"), "{:?}", loaded.problems[1]);

    let (loaded, _dir) =
        load_files(&[("f.toml", &main), ("conf.d/1.toml", "x = = 1"), ("conf.d/2.toml", "[buffer]\nwindow = 1")], &around());
    assert_eq!(said(&loaded), ["syntax 1:5+1", "wrong-type 2:10+1"]);
}

#[test]
fn profiles_of_the_operator_win_and_devices_override() {
    let main = format!(
        "{GATEWAY}{UPLINK}[device.d]\ntcp = \"h\"\nunit = 1\nprofile = \"p\"\n[device.d.point.a]\nscale = 2.0\n[device.d.point.c]\nregister = \"coil:1\"\n"
    );
    let shipped = "max_words = 10\n[point.a]\nregister = \"holding:1\"\ntype = \"u16\"\nscale = 0.1\n";
    let own = "max_words = 20\nvendor = \"x\"\nverified = \"none\"\n[point.a]\nregister = \"holding:7\"\ntype = \"u16\"\nscale = 0.1\n";
    let files = [("f.toml", main.as_str()), ("shipped/p.toml", shipped), ("profiles/p.toml", own)];
    let (loaded, dir) = load_files(&files, &around());
    assert_eq!(said(&loaded), [""; 0]);
    drop(dir);
    let device = &loaded.config.unwrap().devices[0];
    assert_eq!((device.max_words, device.points.len()), (20, 2));
    let a = device.points.iter().find(|p| p.id.as_str() == "a").unwrap();
    assert_eq!((a.register.address, a.scale), (7, 2.0));

    let broken = "max_word = 20\n[point.a]\nregister = \"holding:7\"\ntype = \"u61\"\n";
    let main = main.replace("[device.d]\n", "[device.e]\ntcp = \"h\"\nunit = 2\nprofile = \"p\"\n[device.d]\n");
    let (loaded, dir) = load_files(&[("f.toml", &main), ("profiles/p.toml", broken)], &around());
    assert_eq!(said(&loaded), ["unknown-key 1:1+8", "bad-value 4:8+5"], "told once for two devices");
    assert!(loaded.problems.iter().all(|p| p.at.file == dir.path().join("profiles/p.toml")));
}

#[test]
fn secrets_are_read_and_never_shown() {
    use std::os::unix::fs::PermissionsExt;
    let main = |how: &str| format!("{GATEWAY}[uplink.cloud]\nurl = \"mqtts://h\"\nusername = \"u\"\npassword = {how}\n");
    let mut around = around();
    around.secrets = Secrets::Needed;
    around.env = Box::new(|name| (name == "PASS").then(|| "hunter2".to_owned()));
    let password = |loaded: &Loaded| loaded.config.as_ref().and_then(|c| c.uplink()?.password.clone()).map(|s| s.0);

    let (loaded, _dir) = load_files(&[("f.toml", &main("{ env = \"PASS\" }"))], &around);
    assert_eq!(password(&loaded).as_deref(), Some("hunter2"));
    assert!(!format!("{loaded:?}").contains("hunter2"));

    let (loaded, dir) = load_files(&[("f.toml", &main("{ file = \"s\" }")), ("s", "hunter3\n")], &around);
    assert_eq!(said(&loaded), ["secret-readable 6:21+3"]);
    assert_eq!(password(&loaded).as_deref(), Some("hunter3"));
    std::fs::set_permissions(dir.path().join("s"), std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(said(&load_with(&dir.path().join("f.toml"), &around)), [""; 0]);

    for how in ["{ file = \"absent\" }", "{ env = \"ABSENT\" }", "{ credential = \"cloud\" }"] {
        around.secrets = Secrets::Needed;
        let (loaded, _dir) = load_files(&[("f.toml", &main(how))], &around);
        assert_eq!(loaded.problems.iter().map(|p| p.code).collect::<Vec<_>>(), [Code::SecretMissing], "{how}");
        assert!(loaded.config.is_none());
    }
    around.secrets = Secrets::IfReachable;
    let (loaded, _dir) = load_files(&[("f.toml", &main("{ credential = \"cloud\" }"))], &around);
    assert_eq!(said(&loaded), ["secret-unread 6:27+7"]);
    assert!(loaded.config.is_some());
}

#[test]
fn a_file_that_is_not_there_is_a_problem() {
    let loaded = load_with(Path::new("/nonexistent/fieldgate.toml"), &around());
    assert!(loaded.config.is_none());
    assert_eq!(loaded.problems[0].code, Code::Unreadable);
}

#[test]
fn shipped_files_check() {
    let mut count = 0;
    let template = repository("config/fieldgate.toml");
    let examples = std::fs::read_dir(repository("config/examples")).unwrap().map(|e| e.unwrap().path());
    for path in examples.filter(|p| p.extension().is_some_and(|e| e == "toml")).chain([template]) {
        let loaded = load_with(&path, &around());
        let shown = render::text(&loaded.problems, render::Style::default());
        assert!(loaded.config.is_some(), "{}\n{shown}", path.display());
        let loud =
            loaded.problems.iter().filter(|p| p.severity != Severity::Note && p.code != Code::NotInVersion && p.code != Code::NoUplink);
        assert_eq!(loud.count(), 0, "{}\n{shown}", path.display());
        count += 1;
    }
    assert!(count >= 8, "{count} files");
}

#[test]
fn shipped_profiles_check() {
    let mut count = 0;
    for path in std::fs::read_dir(repository("config/profiles")).unwrap().map(|e| e.unwrap().path()) {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let loaded = load(&format!("{GATEWAY}{UPLINK}{DEVICE}profile = \"{name}\"\n"));
        assert!(
            loaded.config.is_some() && loaded.problems.is_empty(),
            "{name}\n{}",
            render::text(&loaded.problems, render::Style::default())
        );
        count += 1;
    }
    assert!(count >= 3);
}

#[test]
fn every_code_has_a_heading() {
    let docs = std::fs::read_to_string(repository("docs/configuration.md")).unwrap();
    for code in Code::ALL {
        assert!(docs.lines().any(|l| l.starts_with('#') && l.contains(code.word())), "docs/configuration.md lacks {}", code.word());
    }
}

/// As the benchmark writes it: 200 devices with 100 points each.
fn large() -> String {
    let mut toml = format!("{GATEWAY}data_dir = \"/tmp/d\"\nrun_dir = \"/tmp/r\"\n");
    for n in 0..200 {
        let _ = write!(
            toml,
            "[line.line{n}]\ntcp = \"127.0.0.1:{}\"\n\n[device.d{n}]\nline = \"line{n}\"\nunit = 1\npoll = \"1000ms\"\n\n",
            20_000 + n
        );
        for i in 0..100 {
            let _ = write!(toml, "[device.d{n}.point.t{i}]\nregister = \"holding:{i}\"\ntype = \"u16\"\n");
        }
    }
    toml + "[mqtt]\nbroker = \"mqtt://127.0.0.1:1884\"\n\n[mqtt.route.telemetry]\ntopic = \"dev/{device}/telemetry\"\nkind = \"telemetry\"\n\n[uplink.cloud]\nurl = \"mqtt://127.0.0.1:1883\"\ndialect = \"native\"\n\n[api]\nlisten = \"127.0.0.1:8080\"\n"
}

#[test]
fn the_benchmark_configuration_loads() {
    let toml = large();
    let start = tokio::time::Instant::now();
    let loaded = load(&toml);
    println!("{} bytes in {:?}", toml.len(), start.elapsed());
    assert_eq!(said(&loaded).len(), 1, "only that [api] has no tokens is worth a warning");
    let config = loaded.config.unwrap();
    assert_eq!((loaded.counts.lines, loaded.counts.devices, loaded.counts.points), (200, 200, 20_000));
    assert_eq!(config.devices[0].poll, Duration::from_secs(1));
}

#[test]
fn deep_nesting_is_a_problem_and_no_crash() {
    for toml in [format!("a = {}", "[".repeat(100_000)), format!("[{}a]", "a.".repeat(100_000)), format!("{}a = 1", "a.".repeat(100_000))] {
        let loaded = load(&toml);
        assert!(loaded.config.is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.toml");
        std::fs::write(&path, bytes).unwrap();
        let loaded = load_with(&path, &around());
        render::text(&loaded.problems, render::Style::default());
    }

    /// The full sample with some bytes changed, cut out or doubled.
    #[test]
    fn mutated_samples_never_panic(edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..4u8, any::<u8>()), 1..12)) {
        let mut bytes = std::fs::read(repository("config/examples/full.toml")).unwrap();
        for (at, what, byte) in edits {
            let n = at.index(bytes.len());
            match what {
                0 => bytes[n] = byte,
                1 => { bytes.remove(n); }
                2 => bytes.insert(n, byte),
                _ => bytes[n] = b"\"'[]{}=.,#\n"[usize::from(byte) % 11],
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.toml");
        std::fs::write(&path, bytes).unwrap();
        let loaded = load_with(&path, &around());
        render::text(&loaded.problems, render::Style::default());
        prop_assert_eq!(loaded.config.is_none(), loaded.has_errors());
    }

    #[test]
    fn words_never_panic(text in "\\PC{0,24}") {
        let _ = (words::duration(&text), words::size(&text), words::endpoint(&text), words::numbers(&text, 50));
    }
}
