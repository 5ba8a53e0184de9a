//! `[schedule.*]`, above a device whose point `w` may be written from 10 to 90.

use super::*;
use crate::model::{Missed, Timing, Value};

const W: &str = "[device.d.point.w]\nregister = \"holding:2\"\ntype = \"u16\"\nwrite = { min = 10, max = 90 }\n";
const WRITE: &str = "write = { device = \"d\", point = \"w\", value = 50 }";

#[track_caller]
fn with(lines: &str, want: &[&str]) {
    section(&format!("[schedule.s]\n{lines}\n{W}"), want);
}

#[test]
fn schedules_that_are_right() {
    for lines in [
        "cron = \"0 22 * * *\"\nzone = \"Europe/Berlin\"\nmissed = \"once\"",
        "cron = \"@daily\"\nuntrusted_clock = true\nenabled = false",
        "at = \"2026-12-24T18:00:00\"\nzone = \"America/New_York\"",
        "at = 2026-12-24T18:00:00",
        "at = 2026-12-24T18:00:00+01:00",
        "every = \"15m\"\nanchor = 2026-01-01T00:05:00Z",
    ] {
        with(&format!("{lines}\n{WRITE}"), &[]);
    }
    with("every = \"1s\"\nwrite = [{ device = \"d\", point = \"w\", value = 10.5 }]", &[]);
    let toml = format!("[schedule.s]\nevery = \"90s\"\nmissed = \"all\"\n{WRITE}\n{W}{GATEWAY}{UPLINK}{DEVICE}{POINT}");
    let one = load(&toml).config.unwrap().schedules.remove(0);
    let Timing::Every { every, anchor: 0 } = one.is.timing else { panic!("{one:?}") };
    assert_eq!((one.id.as_str(), every.as_secs(), one.is.missed, one.enabled), ("s", 90, Missed::All, true));
    assert_eq!((one.is.zone.as_str(), &one.is.write[0].value), ("UTC", &Value::Int(50)));
}

#[test]
fn when_is_said_once_and_understood() {
    with(WRITE, &["missing-key 1:11+1"]);
    with(&format!("cron = \"0 22 * * *\"\nevery = \"1h\"\n{WRITE}"), &["two-places 3:1+5"]);
    with(&format!("cron = \"0 25 * * *\"\n{WRITE}"), &["bad-schedule 2:8+12"]);
    with(&format!("cron = \"0 0 30 2 *\"\n{WRITE}"), &["bad-schedule 2:8+12"]);
    with(&format!("cron = 5\n{WRITE}"), &["wrong-type 2:8+1"]);
    with(&format!("at = \"noon\"\n{WRITE}"), &["bad-schedule 2:6+6"]);
    with(&format!("at = 2026-12-24\n{WRITE}"), &["bad-schedule 2:6+10"]);
    with(&format!("every = \"500ms\"\n{WRITE}"), &["out-of-range 2:9+7"]);
    with(&format!("every = \"1500ms\"\n{WRITE}"), &["out-of-range 2:9+8"]);
    with(&format!("every = \"1h\"\nanchor = \"2026-01-01T00:00:00\"\n{WRITE}"), &["bad-schedule 3:10+21"]);
    with(&format!("cron = \"@daily\"\nanchor = 2026-01-01T00:00:00Z\n{WRITE}"), &["no-effect 3:1+6"]);
    with(&format!("cron = \"@daily\"\nzone = \"Europe/Berlim\"\n{WRITE}"), &["unknown-zone 3:8+15"]);
    with(&format!("cron = \"@daily\"\nzone = \"../etc\"\n{WRITE}"), &["unknown-zone 3:8+8"]);
    with(&format!("cron = \"@daily\"\nmissed = \"twice\"\n{WRITE}"), &["bad-value 3:10+7"]);
    with(&format!("cron = \"@daily\"\nzones = \"UTC\"\n{WRITE}"), &["unknown-key 3:1+5"]);
}

#[test]
fn what_is_written_is_there_and_may_be_written() {
    let write = |what: &str, want: &[&str]| with(&format!("cron = \"@daily\"\nwrite = {what}"), want);
    with("cron = \"@daily\"", &["missing-key 1:11+1"]);
    write("false", &["wrong-type 3:9+5"]);
    write("[]", &["out-of-range 3:1+5"]);
    write("{ device = \"d\", point = \"w\" }", &["missing-key 3:9+29"]);
    write("{ device = \"d\", point = \"w\", value = [1] }", &["wrong-type 3:46+3"]);
    write("{ device = \"e\", point = \"w\", value = 50 }", &["unknown-target 3:20+3"]);
    write("{ device = \"d\", point = \"v\", value = 50 }", &["unknown-target 3:33+3"]);
    write("{ device = \"d\", point = \"p\", value = 50 }", &["unknown-target 3:33+3"]);
    write("{ device = \"d\", point = \"w\", value = 95 }", &["out-of-range 3:46+2"]);
    write("{ device = \"d\", point = \"w\", value = 50, unit = 1 }", &["unknown-key 3:50+4"]);
    let twice = "[{ device = \"d\", point = \"w\", value = 50 }, { device = \"d\", point = \"w\", value = 60 }]";
    write(twice, &["duplicate-key 3:53+41"]);
    section(&format!("[schedule.\"a b\"]\ncron = \"@daily\"\n{WRITE}\n{W}"), &["bad-id 1:11+5"]);
    let api = "[api.token.anna]\nrole = \"viewer\"\ntoken = { env = \"T\" }\n";
    write(&format!("{{ device = \"plug\", point = \"on\", value = true }}\n{api}"), &[]);
}

#[test]
fn limits_the_wrong_way_round_are_told_and_do_not_end_the_check() {
    let point = "[device.d.point.w]\nregister = \"holding:2\"\ntype = \"u16\"\nwrite = { min = 90, max = 10 }\n";
    section(&format!("[schedule.s]\ncron = \"@daily\"\n{WRITE}\n{point}"), &["out-of-range 3:46+2", "min-above-max 7:17+2"]);
}
