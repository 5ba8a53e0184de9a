//! What may be said of writes, one mistake at a time.

use super::*;

const WORD: &str = "register = \"holding:1\"\ntype = \"u16\"\n";

/// A write rule of a register, the rest being right.
#[track_caller]
fn rule(text: &str, want: &[&str]) {
    point(&format!("{WORD}write = {{ {text} }}"), want);
}

#[test]
fn a_write_rule_says_where_and_how() {
    for text in [
        "register = \"holding:9\"",
        "register = \"holding:9\", verify_register = \"input:3\"",
        "function = 16",
        "function = 22",
        "if_changed = true, min_interval = \"1h\"",
        "group = \"g\"",
        "pre = [{ register = \"holding:0\", value = 2014 }, { register = \"coil:3\", value = true }]",
        "pre = [{ register = \"holding:0\", words = [1, -2], function = 16 }]",
        "pre = [{ register = \"holding:0\", value = { env = \"PIN\" } }]",
        "refresh = \"10s\"",
        "refresh = \"10s\", refresh_for = \"1h\", refresh_stop = \"30s\"",
    ] {
        rule(text, &[]);
    }
    rule("function = 5", &["bad-write 4:22+1"]);
    rule("register = \"input:9\"", &["bad-write 4:1+5"]);
    rule("group = \"g\", function = 6", &["bad-write 4:35+1"]);
    rule("verify_register = \"coil:9\"", &["type-mismatch 4:29+8"]);
    rule("refresh_for = \"5m\"", &["no-effect 4:11+11"]);
    rule("refresh = \"10s\", if_changed = true", &["no-effect 4:41+4"]);
    rule("refresh = \"10s\", refresh_for = \"5s\"", &["no-effect 4:42+4"]);
}

#[test]
fn what_is_read_here_may_be_written_there() {
    point("register = \"input:1\"\ntype = \"u16\"\nwrite = { register = \"holding:1\" }", &[]);
    point("register = \"discrete:1\"\nwrite = { register = \"coil:1\" }", &[]);
    point("register = \"holding:1\"\ntype = \"bits:4-7\"\nwrite = { function = 22 }", &[]);
    point("register = \"holding:1\"\ntype = \"f32\"\nwrite = { register = \"coil:1\" }", &["type-mismatch 4:22+8"]);
}

#[test]
fn fixed_writes_fit_one_request() {
    let pre = |one: &str, want: &[&str]| rule(&format!("pre = [{one}]"), want);
    pre("{ register = \"input:0\", value = 1 }", &["bad-write 4:31+9"]);
    pre("{ register = \"holding:0\" }", &["missing-key 4:18+26"]);
    pre("{ register = \"holding:0\", value = 1, words = [1] }", &["missing-key 4:18+50"]);
    pre("{ register = \"holding:0\", value = 70000 }", &["out-of-range 4:52+5"]);
    pre("{ register = \"holding:0\", words = [] }", &["no-effect 4:52+2"]);
    pre("{ register = \"holding:65535\", words = [1, 2] }", &["out-of-range 4:18+46"]);
    pre("{ register = \"coil:0\", value = 2 }", &["out-of-range 4:18+34"]);
    pre("{ register = \"holding:0\", words = [1, 2], function = 6 }", &["bad-write 4:71+1"]);
}

#[test]
fn an_unlock_code_may_be_a_secret_and_is_never_shown() {
    let around =
        || Surroundings { env: Box::new(|name| (name == "PIN").then(|| "27182".to_owned())), secrets: Secrets::Needed, ..super::around() };
    let toml = |how: &str| {
        format!("{GATEWAY}{UPLINK}{DEVICE}{POINT}write = {{ pre = [{{ register = \"holding:0\", value = {{ env = \"{how}\" }} }}] }}\n")
    };
    let (loaded, _dir) = load_files(&[("f.toml", &toml("PIN"))], &around());
    assert_eq!(said(&loaded), [""; 0]);
    assert!(!format!("{loaded:?}").contains("27182"));
    let rule = loaded.config.and_then(|c| c.devices[0].points[0].write.clone()).expect("it checks");
    assert_eq!((rule.pre[0].words.as_slice(), rule.pre[0].secret), (&[27182][..], true));
    let (loaded, _dir) = load_files(&[("f.toml", &toml("ABSENT"))], &around());
    assert_eq!(loaded.problems.iter().map(|p| p.code).collect::<Vec<_>>(), [Code::SecretMissing]);
}

#[test]
fn a_point_that_is_never_read_is_written() {
    let hidden = |rest: &str, want: &[&str]| point(&format!("{WORD}read = false\n{rest}"), want);
    hidden("write = true", &[]);
    hidden("write = { verify_register = \"holding:5\", if_changed = true }", &[]);
    hidden("", &["missing-key 1:17+1"]);
    hidden("write = { verify = true }", &["bad-write 5:20+4"]);
    hidden("write = { if_changed = true }", &["bad-write 5:24+4"]);
    point("register = \"holding:1\"\ntype = \"bit:3\"\nread = false\nwrite = true", &["bad-write 5:1+5"]);
    point("register = \"holding:1\"\ntype = \"bit:3\"\nread = false\nwrite = { function = 22 }", &[]);
    point("register = \"coil:1\"\ntype = \"u16\"\nread = false\nwrite = { function = 5 }", &[]);
    point("register = \"coil:1\"\ntype = \"u16\"\nwrite = { function = 5 }", &["bad-write 3:1+4"]);
}

#[test]
fn listed_requests() {
    point("raw = \"42\"", &[]);
    point("raw = \"41 01 02\"\nraw_reply = \"41 ..\"\nwrite = { min_interval = \"1m\" }", &[]);
    point("raw = \"4\"", &["bad-value 2:7+3"]);
    point("raw = \"\"", &["bad-value 2:7+2"]);
    point("raw = \"03 00 00 00 01\"", &["bad-write 2:7+16"]);
    point("raw = \"c2\"", &["bad-write 2:7+4"]);
    point("raw = \"42\"\nraw_reply = \"43\"", &["bad-value 3:13+4"]);
    point("raw = \"42\"\nregister = \"holding:1\"", &["no-effect 3:1+8"]);
    point("raw_reply = \"42\"\nregister = \"coil:1\"", &["missing-key 1:17+1"]);
}

#[test]
fn a_write_group_is_one_request() {
    let points = |list: &[(&str, &str)]| {
        let one = |(n, (register, kind)): (usize, &(&str, &str))| {
            format!("[device.d.point.p{n}]\nregister = \"{register}\"\ntype = \"{kind}\"\nwrite = {{ group = \"g\" }}\n")
        };
        list.iter().enumerate().map(one).collect::<String>()
    };
    let group = |list: &[(&str, &str)], want: &[&str]| check(&format!("{}{GATEWAY}{UPLINK}{DEVICE}", points(list)), want);
    group(&[("holding:1", "u16"), ("holding:2", "f32"), ("holding:4", "u16")], &[]);
    group(&[("holding:1", "bits:0-3"), ("holding:1", "bits:4-7"), ("holding:2", "u16")], &[]);
    group(&[("holding:1", "u16"), ("holding:3", "u16")], &["bad-write-group 5:17+2"]);
    group(&[("holding:1", "f32"), ("holding:2", "u16")], &["bad-write-group 5:17+2"]);
    let many: Vec<(String, &str)> = (0..32).map(|n| (format!("holding:{}", n * 4), "u64")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(r, k)| (r.as_str(), *k)).collect();
    group(&many, &["bad-write-group 1:17+2"]);
    // A device that takes short requests takes no longer group.
    let three = points(&[("holding:1", "u16"), ("holding:2", "u16"), ("holding:3", "u16")]);
    for (most, want) in [(3, &[][..]), (2, &["bad-write-group 1:17+2"])] {
        check(&format!("{three}{GATEWAY}{UPLINK}{DEVICE}max_words = {most}\n"), want);
    }
}

#[test]
fn all_units_at_once_are_written_only() {
    let all = |point: &str, want: &[&str]| {
        let text =
            format!("[device.all]\nline = \"bus\"\nunit = 0\n[device.all.point.p]\n{point}\n{SERIAL}{GATEWAY}{UPLINK}{DEVICE}{POINT}");
        check(&text, want)
    };
    all(&format!("{WORD}write = true"), &[]);
    all("register = \"coil:1\"\nwrite = { function = 15 }", &[]);
    all(WORD, &["bad-write 4:19+1"]);
    all(&format!("{WORD}write = {{ function = 22 }}"), &["bad-write 4:19+1"]);
    all(&format!("{WORD}write = {{ if_changed = true }}"), &["bad-write 4:19+1"]);
    all("raw = \"42\"", &["bad-write 4:19+1"]);
    let loaded = load(&format!("[device.d]\ntcp = \"plc\"\nunit = 0\n{GATEWAY}{UPLINK}{POINT}"));
    assert!(!loaded.config.expect("unit 0 is a unit on TCP").devices[0].broadcast);
}
