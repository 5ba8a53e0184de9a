//! MQTT 5 against mosquitto: the same promises as with 3.1.1, and the dead letters beside a daemon and without.

use crate::{
    broker::Mosquitto,
    cloud::Cloud,
    field::Devices,
    gateway::{Gateway, counting_device, uplink},
    wait::secs,
};

#[test]
fn mqtt_5_delivers_over_a_restart_of_the_broker() {
    let devices = Devices::start(1);
    let mut broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "five");
    let config = uplink(broker.port).replace("reconnect_max", "version = \"5\"\nreconnect_max");
    let mut gateway = Gateway::started("five", &(config + &counting_device("d0", devices.ports[0], 4, "200ms")));
    cloud.wait_online();
    cloud.wait("a first value", secs(20), |s| (!s.counters("d0").is_empty()).then_some(()));
    broker.kill();
    broker.restart();
    let before = cloud.seen().counters("d0").len();
    cloud.wait("values after the restart", secs(30), |s| (s.counters("d0").len() > before + 5).then_some(()));
    assert!(cloud.seen().faults.is_empty(), "{:?}", cloud.seen().faults);
    let say = |gateway: &Gateway, args: &[&str]| {
        let output = gateway.command(args);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let nothing = (Some(0), "no dead letters".to_owned());
    assert_eq!(say(&gateway, &["dead-letters"]), nothing);
    assert_eq!(say(&gateway, &["dead-letters", "show", "17"]).0, Some(2));
    gateway.stop();
    assert_eq!(say(&gateway, &["dead-letters", "list"]), nothing);
    assert_eq!(say(&gateway, &["dead-letters", "purge", "--all"]), (Some(0), "0 dead letters thrown away".to_owned()));
}
