//! A device that says itself what it has: no map is written, and its values are right.

use crate::{
    broker::Mosquitto,
    cloud::Cloud,
    field::SunSpec,
    gateway::{Gateway, uplink},
    process::host,
    wait::secs,
};
use serde_json::{Value as Json, json};

#[test]
fn sunspec_devices_without_a_map_are_read_with_their_scale_factors() {
    let mut field = SunSpec::start(&[40_000, 50_000]);
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "sunspec");
    let mut config = uplink(broker.port);
    for (n, port) in field.ports.iter().enumerate() {
        config.push_str(&format!(
            "[device.inv{n}]\ntcp = \"{}:{port}\"\nunit = 1\npoll = \"300ms\"\ntimeout = \"5s\"\nkind = \"sunspec\"\n\n",
            host()
        ));
    }
    let mut gateway = Gateway::started("sunspec", &config);
    cloud.wait_online();
    let latest = |device: &str, point: &str| -> Option<Json> {
        cloud.seen().rows.iter().rev().filter(|r| r.device == device).find_map(|r| r.values.get(point).cloned())
    };
    for (n, base) in [(0, 40_000), (1, 50_000)] {
        let device = format!("inv{n}");
        cloud.wait("a value of every model", secs(20), |s| {
            let has = |point: &str| s.rows.iter().any(|r| r.device == device && r.values.contains_key(point));
            (has("inverter_W") && has("mppt_2_DCW") && has("meter_W")).then_some(())
        });
        for (point, want) in [
            ("common_SN", json!(format!("SN{base}"))),
            ("inverter_A", json!(10.02)),
            ("inverter_PhVphA", json!(230.1)),
            ("inverter_W", json!(2301.2)),
            ("inverter_WH", json!(123_456)),
            ("inverter_TmpCab", json!(41.2)),
            ("inverter_VA", Json::Null),
            ("mppt_1_DCV", json!(610.1)),
            ("mppt_2_DCA", json!(5.02)),
            ("meter_W", json!(-1234)),
            ("meter_TotWhImp", json!(1_048_576)),
            ("meter_TotWhExp", Json::Null),
        ] {
            let got = latest(&device, point).unwrap_or_else(|| panic!("{device} has no {point}"));
            let same = got == want || got.as_f64().zip(want.as_f64()).is_some_and(|(a, b)| a == b);
            assert!(same, "{device} {point}: {got}, want {want}");
        }
    }
    cloud.wait("the cloud is told which points there are", secs(5), |s| {
        let card = s.retained.get("devices")?.to_string();
        (card.contains("inverter_W") && card.contains("mppt_2_DCV")).then_some(())
    });

    // The inverter rescales while it runs: no reading mixes an old factor with a new value.
    for power_of_ten in [0, 1, -1, 0] {
        field.scale(0, power_of_ten);
        let before = cloud.seen().rows.len();
        cloud.wait("further readings", secs(10), |s| {
            (s.rows.iter().skip(before).filter(|r| r.device == "inv0" && r.values.contains_key("inverter_W")).count() >= 3).then_some(())
        });
    }
    let powers: Vec<f64> =
        cloud.seen().rows.iter().filter(|r| r.device == "inv0").filter_map(|r| r.values.get("inverter_W")?.as_f64()).collect();
    assert!(powers.iter().all(|w| (w - 2301.2).abs() < 2.0), "{powers:?}");

    // Restarted, it confirms the chain that it remembers with one read.
    let walked = field.reads(1);
    assert!(walked.contains(&(40_000, 2)) && walked.contains(&(50_000, 2)), "{walked:?}");
    gateway.stop();
    let before = field.reads(1).len();
    let rows = cloud.seen().rows.len();
    gateway.start();
    cloud.wait("values after the restart", secs(20), |s| {
        s.rows.iter().skip(rows).any(|r| r.device == "inv1" && r.values.contains_key("meter_W")).then_some(())
    });
    let again = field.reads(1).split_off(before);
    assert_eq!(again[0], (50_000, 68), "{again:?}");
    assert!(!again.contains(&(40_000, 2)), "{again:?}");
    cloud.seen().assert_sound();
}
