//! Other ways in and out: TLS to the cloud, an external local broker, users on our own endpoint.

use crate::{
    broker::{Certificates, Mosquitto},
    cloud::Cloud,
    field::Devices,
    gateway::{Gateway, counting_device, uplink},
    mqtt::{Client, Login},
    process::{free_port, host},
    publishers::ROUTES,
    wait::{pause, secs},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A root and a server certificate for localhost, made by openssl in `dir`.
pub fn certificates(dir: &Path, name: &str) -> (PathBuf, PathBuf, PathBuf) {
    let file = |what: &str| dir.join(format!("{name}.{what}"));
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").args(args).output().expect("openssl is installed");
        assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let (ca, ca_key, cert, key, csr, ext) = (file("ca"), file("cakey"), file("crt"), file("key"), file("csr"), file("ext"));
    let text = |path: &Path| path.display().to_string();
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let root = ["-days", "2", "-subj", "/CN=test root", "-addext", "basicConstraints=critical,CA:TRUE"];
    openssl(&[&["req", "-x509"], &curve[..], &root, &["-keyout", &text(&ca_key), "-out", &text(&ca)]].concat());
    openssl(&[&["req"], &curve[..], &["-subj", "/CN=localhost", "-keyout", &text(&key), "-out", &text(&csr)]].concat());
    fs::write(&ext, "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n").expect("a file");
    let sign = ["x509", "-req", "-in", &text(&csr), "-CA", &text(&ca), "-CAkey", &text(&ca_key), "-CAcreateserial"];
    openssl(&[&sign[..], &["-days", "2", "-extfile", &text(&ext), "-out", &text(&cert)]].concat());
    (ca, cert, key)
}

fn tls_uplink(port: u16, ca: &Path) -> String {
    format!("[uplink.cloud]\nurl = \"mqtts://localhost:{port}\"\ntls = {{ ca = \"{}\" }}\nreconnect_max = \"1s\"\n\n", ca.display())
}

/// The collector speaks no TLS: a second mosquitto bridges nothing, so the judge is the broker's retained state, read by
/// mosquitto_sub over TLS.
fn heard_over_tls(port: u16, ca: &Path, topic: &str) -> Option<String> {
    let port = port.to_string();
    let args =
        ["-h", "localhost", "-p", &port, "--cafile", &ca.display().to_string(), "-t", topic, "-C", "1", "-W", "1"].map(str::to_owned);
    let output = Command::new("mosquitto_sub").args(args).output().expect("mosquitto-clients is installed");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn an_uplink_over_tls_trusts_its_root_and_no_other() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (ca, cert, key) = certificates(dir.path(), "right");
    let (other_ca, _, _) = certificates(dir.path(), "other");
    let broker = Mosquitto::start_tls(&Certificates { ca: &ca, cert: &cert, key: &key });
    let devices = Devices::start(1);
    let device = counting_device("d0", devices.ports[0], 10, "500ms");

    let wrong = Gateway::started("untrusting", &(tls_uplink(broker.port, &other_ca) + &device));
    let right = Gateway::started("trusting", &(tls_uplink(broker.port, &ca) + &device));
    crate::wait::until("telemetry over TLS", secs(20), || heard_over_tls(broker.port, &ca, "fieldgate/trusting/telemetry"));
    assert_eq!(heard_over_tls(broker.port, &ca, "fieldgate/untrusting/state"), None, "a broker with an unknown root was trusted");
    drop((wrong, right));
}

#[test]
fn messages_through_an_external_broker_reach_the_cloud_across_a_kill() {
    let local = Mosquitto::start();
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "external");
    let config = uplink(broker.port) + &format!("[mqtt]\nbroker = \"mqtt://{}:{}\"\n\n{ROUTES}", host(), local.port);
    let mut gateway = Gateway::started("external", &config);
    cloud.wait_online();
    // The subscription is persistent: from its first connection on, the broker keeps what we have not acknowledged.
    cloud.wait("the local broker is up", secs(20), |s| {
        s.events_of("line").iter().any(|e| e["line"] == "mqtt" && e["state"] == "up").then_some(())
    });
    let mut client = Client::connect(local.port, &Login { id: "plug", ..Login::default() }).expect("mosquitto accepts");
    let mut publish = |from: u64, to: u64| {
        for n in from..to {
            client.publish("tele/plug-1/SENSOR", format!("{{\"n\":{n}}}").as_bytes()).expect("mosquitto reads");
        }
    };
    publish(0, 50);
    gateway.kill();
    publish(50, 100);
    gateway.start();
    cloud.wait("all hundred", secs(20), |s| {
        let arrived: std::collections::BTreeSet<u64> = s.rows.iter().filter_map(|r| r.values.get("n")?.as_u64()).collect();
        (0..100).all(|n| arrived.contains(&n)).then_some(())
    });
    cloud.seen().assert_sound();
}

#[test]
fn a_user_may_do_what_its_topics_say_and_nobody_else_gets_in() {
    let port = free_port();
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "users");
    let secret = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(secret.path(), "s3cret\n").expect("a file");
    let users = format!(
        "[mqtt]\nlisten = \"{}:{port}\"\n\n[mqtt.user.plugs]\npassword = {{ file = \"{}\" }}\ntopics = [\"tele/plug-1/#\"]\n\n{ROUTES}",
        host(),
        secret.path().display()
    );
    let gateway = Gateway::started("users", &(uplink(broker.port) + &users));
    assert!(Client::connect(port, &Login { id: "a", ..Login::default() }).is_err(), "nobody without a name");
    assert!(
        Client::connect(port, &Login { id: "b", user: Some(("plugs", "wrong")), ..Login::default() }).is_err(),
        "nor with a wrong password"
    );
    let mut plug =
        Client::connect(port, &Login { id: "c", user: Some(("plugs", "s3cret")), ..Login::default() }).expect("the user gets in");
    let _ = plug.publish("tele/other/SENSOR", b"{\"n\":1}");
    pause(secs(1));
    let mut plug =
        Client::connect(port, &Login { id: "d", user: Some(("plugs", "s3cret")), ..Login::default() }).expect("the user gets in");
    plug.publish("tele/plug-1/SENSOR", b"{\"n\":2}").expect("the endpoint reads");
    cloud.wait("the permitted message", secs(10), |s| s.rows.iter().any(|r| r.device == "plug-1").then_some(()));
    assert!(!cloud.seen().rows.iter().any(|r| r.device == "other"), "a forbidden topic was taken");
    assert!(!gateway.log().contains("s3cret"), "the password is in the log");
}
