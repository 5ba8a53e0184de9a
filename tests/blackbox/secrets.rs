//! Secrets stay where they were put: in every place that a configuration can name one stands a marker, and no surface shows any.

use crate::{
    broker::{Certificates, Mosquitto},
    cloud::Cloud,
    field::Devices,
    gateway::{Gateway, PROGRAM, counting_device, uplink},
    http::addresses,
    links::certificates,
    process::{free_port, host},
    wait::{secs, until},
    web::raw,
};
use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Which file of the configuration's checks reads it, the key, and the marker. A number is outside of the ports that the
/// system hands out.
const PLANTED: &[(&str, &str, &str)] = &[
    ("uplink.rs", "password", "marker-uplink-5f1c0a77"),
    ("mqtt.rs", "password", "marker-mqtt-91be4d20"),
    ("webhook.rs", "secret", "marker-webhook-77aa03cd"),
    ("api.rs", "token", "marker-token-0d6c2b9e41"),
    ("api.rs", "device_tokens", "marker-devices-3c55e8a6"),
    ("fixed.rs", "value", "64651"),
];
/// The user of local MQTT, which is another marker under the key of an external broker.
const USER: &str = "marker-user-b7703f1d";

/// Where the checks ask for a secret: file and key.
fn keys() -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    let mut folders = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/check"))];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).expect("the sources are here").map(|e| e.expect("readable").path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).expect("a source");
            let name = path.file_name().expect("a file").to_string_lossy().into_owned();
            for call in text.split("secret::check(").skip(1) {
                let key = call.split('"').nth(1).expect("the key stands in the call");
                found.insert((name.clone(), key.to_owned()));
            }
        }
    }
    found
}

#[test]
fn no_secret_key_is_forgotten_by_these_tests() {
    let planted = PLANTED.iter().map(|(file, key, _)| ((*file).to_owned(), (*key).to_owned())).collect();
    assert_eq!(keys(), planted, "plant a marker for a new key, and let the tests below show it nowhere");
}

struct Markers(Vec<String>);

impl Markers {
    #[track_caller]
    fn absent(&self, surface: &str, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        for marker in &self.0 {
            let is_number = marker.bytes().all(|b| b.is_ascii_digit());
            let beside = |c: Option<char>| c.is_some_and(|c| is_number && (c.is_ascii_digit() || c == '.'));
            let found = text
                .match_indices(marker.as_str())
                .find(|(at, m)| !beside(text[..*at].chars().next_back()) && !beside(text[at + m.len()..].chars().next()));
            if let Some((at, _)) = found {
                let from = (0..=at.saturating_sub(80)).rev().find(|n| text.is_char_boundary(*n)).unwrap_or(0);
                panic!("{surface} shows {marker}: …{}", &text[from..at]);
            }
        }
    }

    #[track_caller]
    fn absent_from(&self, surface: &str, output: &Output) {
        self.absent(surface, &output.stdout);
        self.absent(surface, &output.stderr);
    }
}

fn keep(path: &Path, secret: &str) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
    fs::write(path, secret).expect("the folder takes a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("it is ours");
}

/// A gateway with every secret in its folder, and the markers.
fn planted(id: &str, cloud: u16, tls: &str, api: u16, device: &str, mqtt: &str) -> (Gateway, Markers) {
    let login = "username = \"anna\"\npassword = { file = \"secrets/uplink.rs-password\" }\n\n";
    let mut config = uplink(cloud).trim_end().to_owned() + "\n" + login + tls;
    let hook = free_port();
    config.push_str(&format!(
        "[webhook.ops]\nurl = \"http://{0}:{hook}/hook\"\nsecret = {{ file = \"secrets/webhook.rs-secret\" }}\n\n\
         [api]\nlisten = \"{0}:{api}\"\ndevice_tokens = {{ file = \"secrets/api.rs-device_tokens\" }}\n\
         [api.token.anna]\nrole = \"admin\"\ntoken = {{ file = \"secrets/api.rs-token\" }}\n\n{mqtt}{device}",
        host()
    ));
    let gateway = Gateway::new(id, &config);
    let folder = gateway.config().with_file_name("secrets");
    for (file, key, marker) in PLANTED {
        let line = if *key == "device_tokens" { format!("pump {marker}\n") } else { format!("{marker}\n") };
        keep(&folder.join(format!("{file}-{key}")), &line);
    }
    keep(&folder.join("user"), USER);
    let mut markers: Vec<String> = PLANTED.iter().map(|(_, _, marker)| (*marker).to_owned()).collect();
    markers.push(USER.to_owned());
    (gateway, Markers(markers))
}

fn asked(socket: &Path, question: &str) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket).expect("the daemon listens");
    stream.set_read_timeout(Some(secs(20))).expect("a positive time");
    writeln!(stream, "{question}").expect("it is sent");
    let mut line = Vec::new();
    let _ = BufReader::new(stream).read_until(b'\n', &mut line);
    line
}

#[test]
fn no_secret_is_in_a_log_an_answer_a_metric_an_event_or_a_database() {
    let certs = tempfile::tempdir().expect("a temporary directory");
    let (ca, cert, key) = certificates(certs.path(), "own");
    let tls_broker = Mosquitto::start_tls(&Certificates { ca: &ca, cert: &cert, key: &key });
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "planted");
    let mut devices = Devices::start(1);
    let (api, local) = (free_port(), free_port());
    // A second uplink that has a key, and a third that nobody answers, for what errors say.
    let tls = format!(
        "[uplink.second]\nurl = \"mqtts://localhost:{}\"\nrequired = false\nusername = \"anna\"\n\
         password = {{ file = \"secrets/uplink.rs-password\" }}\ntls = {{ ca = \"{}\", cert = \"{}\", key = \"{}\" }}\n\n\
         [uplink.third]\nurl = \"mqtt://{}:{}\"\nrequired = false\nusername = \"anna\"\n\
         password = {{ file = \"secrets/uplink.rs-password\" }}\n\n",
        tls_broker.port,
        ca.display(),
        cert.display(),
        key.display(),
        host(),
        free_port()
    );
    let pin = "setup = [{ register = \"holding:120\", value = { file = \"secrets/fixed.rs-value\" } }]\n";
    let device = counting_device("d0", devices.ports[0], 10, "300ms").replacen("poll =", &format!("{pin}poll ="), 1);
    let mqtt = format!(
        "[mqtt]\nlisten = \"{}:{local}\"\n[mqtt.user.plugs]\npassword = {{ file = \"secrets/user\" }}\n[mqtt.preset.devices]\n\n",
        host()
    );
    let (mut gateway, mut markers) = planted("planted", broker.port, &tls, api, &device, &mqtt);
    let pem = fs::read_to_string(&key).expect("a key");
    markers.0.push(pem.lines().nth(1).expect("a line of the key").to_owned());
    gateway.start();
    until("the number is written", secs(20), || (!devices.writes().is_empty()).then_some(()));
    cloud.wait("values", secs(20), |s| (!s.rows.is_empty()).then_some(()));
    // Wrong logins, a wrong command, a device's own words: what is said of failures.
    raw(api, b"GET /api/v1/status HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer wrong-wrong-wrong-wrong\r\nConnection: close\r\n\r\n");
    let token = PLANTED[3].2;
    for (method, path) in addresses() {
        let length = if method == "GET" { "" } else { "Content-Length: 2\r\n" };
        let body = if method == "GET" { "" } else { "{}" };
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n{length}\r\n{body}");
        if !path.starts_with("/ws") {
            markers.absent(&format!("{method} {path}"), raw(api, head.as_bytes()).as_bytes());
        }
    }
    let socket = gateway.config().with_file_name("run").join("control.sock");
    for question in [
        r#"{"get":"status"}"#,
        r#"{"get":"lines"}"#,
        r#"{"learned":{}}"#,
        r#"{"frames":{"line":"d0"}}"#,
        r#"{"commands":{}}"#,
        r#"{"events":{}}"#,
        r#"{"devices":{}}"#,
        r#"{"alarms":{}}"#,
        r#"{"rules":{}}"#,
        r#"{"schedules":{}}"#,
        r#"{"dead_letters":{"do":"list"}}"#,
        r#"{"command":{"run":"diagnostics","id":"one","from":"x"}}"#,
        r#"{"nonsense":1}"#,
    ] {
        markers.absent(question, &asked(&socket, question));
    }
    let saved = gateway.config().with_file_name("saved.tar");
    let saved = saved.to_str().expect("a plain path");
    for words in [
        &["check"][..],
        &["check", "--json"],
        &["check", "--plan", "--routes"],
        &["plan"],
        &["plan", "--json", "--measured"],
        &["status", "--all"],
        &["status", "--all", "--json"],
        &["devices", "--json"],
        &["devices", "d0"],
        &["events", "--json"],
        &["commands", "--json"],
        &["dead-letters", "--json"],
        &["schedules", "--json"],
        &["alarms", "--json"],
        &["rules", "--json"],
        &["history", "d0"],
        &["read", "d0", "--json", "-vv"],
        &["listen", "d0", "--for", "1s", "-vv"],
        &["backup", saved, "--json"],
    ] {
        markers.absent_from(&words.join(" "), &gateway.command(words));
    }
    let command_line = fs::read(format!("/proc/{}/cmdline", gateway.pid())).expect("it runs");
    markers.absent("its command line", &command_line);
    gateway.signal(rustix::process::Signal::HUP);
    until("it has looked at its configuration", secs(10), || gateway.log().contains("says what it said").then_some(()));
    markers.absent("its log", gateway.log().as_bytes());
    for file in fs::read_dir(gateway.data_dir()).expect("it has data") {
        let path = file.expect("readable").path();
        // A number of five digits may stand in a database by chance.
        let words = Markers(markers.0.iter().filter(|m| m.parse::<u32>().is_err()).cloned().collect());
        words.absent(&path.display().to_string(), &fs::read(&path).unwrap_or_default());
    }
    let sent: Vec<String> = cloud.seen().events_of("status").iter().map(|e| e.to_string()).collect();
    markers.absent("events", sent.concat().as_bytes());
    gateway.stop();
}

#[test]
fn the_password_of_an_external_broker_is_not_said_when_it_is_away() {
    let broker = Mosquitto::start();
    let mqtt = format!(
        "[mqtt]\nbroker = \"mqtt://{}:{}\"\nusername = \"anna\"\npassword = {{ file = \"secrets/mqtt.rs-password\" }}\n\n",
        host(),
        free_port()
    );
    let (mut gateway, markers) = planted("planted-too", broker.port, "", free_port(), "", &mqtt);
    gateway.start();
    until("it is told that the broker is away", secs(20), || gateway.log().contains("mqtt").then_some(()));
    markers.absent_from("status", &gateway.command(&["status", "--all", "--json"]));
    markers.absent("its log", gateway.log().as_bytes());
    gateway.stop();
}

/// The service's own words go to the journal, which more people read than the configuration.
#[test]
fn a_secret_that_stands_in_the_open_is_refused_and_not_repeated() {
    let hush = "marker-open-2b81f0";
    let text = format!(
        "[uplink.cloud]\nurl = \"mqtt://anna:{hush}@127.0.0.1:1\"\nusername = \"a\"\npassword = \"{hush}\"\n\n\
         [webhook.a]\nurl = \"https://localhost/h\"\nsecret = \"{hush}\"\n\n[api.token.a]\nrole = \"vewer\"\ntokn = \"{hush}\"\n\n\
         [api.token.b]\nrole = \"viewer\"\ntoken = \"{hush}\n"
    );
    let gateway = Gateway::new("open", &text);
    for words in [&["run"][..], &["check"], &["check", "--json"]] {
        let output = gateway.command(words);
        assert_eq!(output.status.code(), Some(78), "{output:?}");
        Markers(vec![hush.to_owned()]).absent_from(&words.join(" "), &output);
    }
}

#[test]
fn a_crash_leaves_no_core_with_secrets() {
    let gateway = Gateway::started("coreless", "");
    let limits = fs::read_to_string(format!("/proc/{}/limits", gateway.pid())).expect("it runs");
    let core = limits.lines().find(|l| l.starts_with("Max core file size")).expect("a limit").to_owned();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
}

#[test]
fn help_names_no_secret_on_a_command_line() {
    let output = Command::new(PROGRAM).arg("--help").output().expect("the program runs");
    for word in ["--password", "--token", "--secret"] {
        assert!(!String::from_utf8_lossy(&output.stdout).contains(word), "{word}: every user of a machine sees command lines");
    }
}
