use super::*;
use crate::config::{self, Point, Secrets, Surroundings};

/// The points of a profile that was written, after it passed the check without a word.
#[track_caller]
fn points(facts: &Facts) -> Vec<String> {
    let text = write(facts);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("imported.toml");
    std::fs::write(&path, &text).unwrap();
    let around = Surroundings { env: Box::new(|_| None), machine_id: None, profile_dirs: vec![], secrets: Secrets::Unread };
    let found = config::profile::profile_file(&path, &around);
    assert_eq!(found.problems, [], "{text}");
    let show = |p: &Point| format!("{} {} {} {:?} {} {}", p.id, p.register, p.kind.word(), p.order, p.scale, p.unit).trim_end().to_owned();
    found.profiles[0].device.points.iter().map(show).collect()
}

#[test]
fn a_telegraf_configuration_gives_the_first_device_and_names_the_others() {
    let facts = telegraf::read(include_str!("example.conf"), "example.conf", None).unwrap();
    assert_eq!(
        points(&facts),
        [
            "on coil:5 bool Abcd 1",
            "voltage input:0 f32 Abcd 1",
            "energy input:20 u64 Abcd 0.001",
            "power holding:40 i32 Cdab 0.1",
            "serial holding:100 string Abcd 1",
        ]
    );
    let text = write(&facts);
    for wanted in [
        "model = \"Meter\"",
        "serial = { baud = 9600, parity = \"even\", unit = 3 }",
        "min_gap = \"20ms\"",
        "bytes = \"low\"",
        "# Not carried over: oddity at holding:50: byte order `ACBD` has no kin here",
        "# Not carried over: level at input:30: type `INT8H` has no kin here",
        "# Not carried over: one_request_per_field",
        "# Not carried over: slave 7, another device: import it with --unit 7",
    ] {
        assert!(text.contains(wanted), "{wanted} in\n{text}");
    }
}

#[test]
fn requests_and_metrics_of_a_named_slave_are_taken() {
    let facts = telegraf::read(include_str!("example.conf"), "example.conf", Some(7)).unwrap();
    assert_eq!(
        points(&facts),
        [
            "pump coil:2 bool Abcd 1",
            "flow input:10 f32 Dcba 1",
            "count input:12 u32 Dcba 10",
            "flow_2 input:15 bits Dcba 1",
            "text holding:60 string Abcd 1",
        ]
    );
    assert!(write(&facts).contains("net = { port = 1502, unit = 7 }"));
}

#[test]
fn an_evcc_template_gives_its_registers() {
    let facts = evcc::read(include_str!("example.yaml"), "acme-hybrid.yaml");
    assert_eq!(
        points(&facts),
        [
            "pv_power input:30775 i32 Abcd -1 W",
            "pv_currents_1 holding:12 i32 Cdab 0.001 A",
            "pv_currents_2 holding:14 i32 Cdab 0.001 A",
            "battery_power_1 holding:100 f32 Cdab 1 W",
            "battery_soc holding:200 u16 Abcd 0.1 %",
            "battery_running holding:201 bits Abcd 1",
        ]
    );
    let text = write(&facts);
    for wanted in [
        "vendor = \"Acme\"",
        "model = \"Hybrid 5\"",
        "net = { port = 1502, unit = 3 }",
        "na = [0x80000000, 0x7FFFFFFF]",
        "type = \"bit:3\"",
        "# Not carried over: battery_power_2: its address is `{{ .address }}`",
        "# Not carried over: battery_mode_1: a write to 40236 (writemultiple, uint32)",
        "# Not carried over: battery_power_1: evcc combines it with others (`add`)",
    ] {
        assert!(text.contains(wanted), "{wanted} in\n{text}");
    }
}

#[test]
fn what_is_no_such_file_is_said() {
    assert!(telegraf::read("this is = = no toml", "x", None).is_err());
    assert_eq!(telegraf::read("[agent]\n", "x", None).unwrap().points, []);
    let facts = evcc::read("template: x\nrender: |\n  type: modbus\n  model: sdm\n", "x");
    assert_eq!((facts.points.len(), facts.left.len()), (0, 1));
}

proptest::proptest! {
    /// Whatever the files hold, reading them ends and what is written can be read.
    #[test]
    fn no_text_is_too_odd(text in "[ a-z:{}#\"\\-\n0-9]{0,400}") {
        let _ = telegraf::read(&text, "x", None);
        let facts = evcc::read(&format!("render: |\n{text}"), "x");
        let _: toml::Table = write(&facts).parse().expect("it is TOML");
    }
}
