//! Rules and analytics: what they may say, and what is wrong with the rest.

use super::*;
use crate::model::{Figure, Pace, PointId, RuleAction, Urgency, Value};

/// A boiler with a temperature and a counter, and a relay that may be written.
const FIELD: &str = "[device.boiler]\ntcp = \"a:502\"\nunit = 1\n\
    [device.boiler.point.flow_temp]\nregister = \"input:1\"\ntype = \"i16\"\n\
    [device.boiler.point.energy]\nregister = \"input:2\"\ntype = \"u32\"\ncounter = { delta = true }\n\
    [device.relays]\ntcp = \"b:502\"\nunit = 1\n\
    [device.relays.point.k1]\nregister = \"coil:1\"\nwrite = true\n\
    [device.relays.point.k2]\nregister = \"coil:2\"\n";
const CLOSE: &str = "write = { device = \"relays\", point = \"k1\", value = true }\n";

#[track_caller]
fn rule(lines: &str, want: &[&str]) -> Vec<Problem> {
    check(&format!("{lines}\n{GATEWAY}{UPLINK}{FIELD}"), want)
}

#[test]
fn a_rule_has_a_condition_a_pace_and_what_follows() {
    let toml = format!(
        "{GATEWAY}{UPLINK}{FIELD}[rule.frost]\nwhen = \"boiler.flow_temp < 5 and not relays is offline\"\nunless = \"relays.k2\"\n\
         for = \"30s\"\nhysteresis = 1\ncooldown = \"5m\"\n{CLOSE}\
         then = [{{ alarm = {{ severity = \"critical\", text = \"cold\" }} }}, {{ write = {{ device = \"relays\", point = \"k1\", value = 1 }} }}]\n\
         [rule.all]\nwhen = \"boiler.energy_delta > 3\"\nthen = {{ alarm = {{ text = \"much\" }} }}\n"
    );
    let loaded = load(&toml);
    assert_eq!(said(&loaded), [""; 0], "{}", render::text(&loaded.problems, render::Style::default()));
    let config = loaded.config.unwrap();
    assert_eq!(config.rules.iter().map(|r| r.id.as_str()).collect::<Vec<_>>(), ["all", "frost"]);
    let frost = &config.rules[1];
    assert_eq!(frost.pace, Pace { hold: Duration::from_secs(30), hysteresis: 1.0, cooldown: Duration::from_secs(300) });
    assert_eq!((frost.when.tests.len(), frost.unless.as_ref().map(|u| u.text.as_str())), (2, Some("relays.k2")));
    let value = |a: &RuleAction| match a {
        RuleAction::Write { value, .. } => Some(value.clone()),
        _ => None,
    };
    assert_eq!(frost.actions.iter().map(value).collect::<Vec<_>>(), [Some(Value::Bool(true)), None, Some(Value::Int(1))]);
    assert!(matches!(&frost.actions[1], RuleAction::Alarm { severity: Urgency::Critical, text } if text == "cold"));
}

#[test]
fn what_is_wrong_with_a_rule_is_said_at_its_place() {
    let when = |text: &str| format!("[rule.r]\nwhen = \"{text}\"\n{CLOSE}");
    rule(&when("boiler.flow_temp < 5"), &[]);
    rule(&when("boiler.flow_temp = 5"), &["bad-condition 2:26+1"]);
    rule(&when("boiler.flow_temp < 5 && relays.k2"), &["bad-condition 2:30+2"]);
    rule(&when("boiler.flow_tmp < 5"), &["unknown-point 2:8+21"]);
    rule(&when("boler.flow_temp < 5"), &["unknown-device 2:8+21"]);
    rule(&when("boler is offline"), &["unknown-device 2:8+18"]);
    rule(&when("relays.k1 == false"), &["rule-loop 2:1+4"]);
    rule(&format!("[rule.r]\nunless = \"relays.k1\"\nwhen = \"relays.k2\"\n{CLOSE}"), &["rule-loop 3:1+4"]);
    rule("[rule.r]\nwhen = \"relays.k2\"", &["missing-key 1:7+1"]);
    rule("[rule.r]\nwhen = \"relays.k2\"\nthen = [{}]", &["missing-key 3:1+4"]);
    rule(&format!("[rule.r]\n{CLOSE}"), &["missing-key 1:7+1"]);
    rule(&format!("{}hysteresis = -1", when("boiler.flow_temp < 5")), &["out-of-range 4:14+2"]);
    rule(&format!("{}hysteresis = 1", when("relays.k2")), &["no-effect 4:1+10"]);
    rule(&format!("{}for = \"8d\"", when("relays.k2")), &["out-of-range 4:7+4"]);
    rule(&format!("{}wenn = 1", when("relays.k2")), &["unknown-key 4:1+4"]);
    let with = |line: &str| format!("[rule.r]\nwhen = \"boiler.flow_temp < 5\"\n{line}");
    rule(&with("write = { device = \"relays\", point = \"k2\", value = true }"), &["bad-write 3:38+4"]);
    rule(&with("write = { device = \"relays\", point = \"k9\", value = true }"), &["unknown-point 3:38+4"]);
    rule(&with("write = { device = \"relais\", point = \"k1\", value = true }"), &["unknown-device 3:20+8"]);
    rule(&with("write = { device = \"relays\", point = \"k1\" }"), &["missing-key 3:1+5"]);
    rule(&with("write = { device = \"relays\", point = \"k1\", value = [1] }"), &["wrong-type 3:52+3"]);
    rule(&with("alarm = { severity = \"major\", text = \"x\" }"), &["bad-value 3:22+7"]);
    rule(&with("alarm = { severity = \"info\" }"), &["missing-key 3:1+5"]);
    rule(&with("publish = { topic = \"a\" }"), &["no-effect 3:1+7"]);
    let mqtt = |line: &str, want: &[&str]| {
        let local = "[mqtt]\nlisten = \"127.0.0.1:1883\"\n[mqtt.route.r]\nkind = \"telemetry\"\ntopic = \"a/{device}\"\n";
        rule(&format!("{}\n{local}", with(line)), want);
    };
    mqtt("publish = { topic = \"a/b\", payload = \"1\" }", &[]);
    mqtt("publish = { topic = \"a/+\" }", &["bad-topic 3:21+5"]);
    // A message may register any device.
    mqtt("write = { device = \"plug\", point = \"power\", value = \"ON\" }", &[]);
    mqtt("alarm = [1]", &["wrong-type 3:9+3"]);
    rule(&with("webhook = \"ops\""), &["unknown-target 3:11+5"]);
    rule(&with("webhook = { name = \"ops\" }"), &["wrong-type 3:11+16"]);
    let hook = "[webhook.ops]\nurl = \"https://example.com/\"\nsecret = { env = \"HOOK\" }\n";
    rule(&format!("{}\n{hook}", with("webhook = \"op\"")), &["unknown-target 3:11+4"]);
    rule(&format!("{}\n{hook}", with("then = [{ webhook = \"ops\" }]")), &[]);
}

#[test]
fn rules_that_feed_each_other_in_a_circle_are_a_warning() {
    let one = |id: &str, when: &str, write: &str| {
        format!("[rule.{id}]\nwhen = \"{when}\"\nwrite = {{ device = \"relays\", point = \"{write}\", value = true }}\n")
    };
    let field = FIELD.replace("register = \"coil:2\"\n", "register = \"coil:2\"\nwrite = true\n");
    let of = |rules: &str, want: &[&str]| drop(check(&format!("{rules}{GATEWAY}{UPLINK}{field}"), want));
    of(&(one("a", "relays.k1", "k2") + &one("b", "boiler.flow_temp > 3", "k1")), &[]);
    of(&(one("a", "relays.k1", "k2") + &one("b", "relays.k2", "k1")), &["rule-loop 1:7+1"]);
}

#[test]
fn analytics_make_points_that_rules_may_watch() {
    let toml = format!(
        "{GATEWAY}{UPLINK}{FIELD}[analytics.flow]\npoint = \"boiler.flow_temp\"\nwindow = \"5m\"\nfigures = [\"max\", \"mean\"]\n\
         replace = true\nrate = \"1m\"\nstuck_after = \"1h\"\nabove = 80\nhysteresis = 2\n\
         [rule.hot]\nwhen = \"boiler.flow_temp.mean > 70 or boiler.flow_temp.above\"\n{CLOSE}"
    );
    let loaded = load(&toml);
    assert_eq!(said(&loaded), [""; 0], "{}", render::text(&loaded.problems, render::Style::default()));
    let config = loaded.config.unwrap();
    let flow = &config.analytics[0];
    assert_eq!((flow.figures.as_slice(), flow.replace), (&[Figure::Max, Figure::Mean][..], true));
    let made: Vec<PointId> = flow.made().collect();
    assert_eq!(
        made.iter().map(PointId::as_str).collect::<Vec<_>>(),
        ["flow_temp.max", "flow_temp.mean", "flow_temp.rate", "flow_temp.stuck", "flow_temp.above"]
    );
}

#[test]
fn what_is_wrong_with_analytics_is_said_at_its_place() {
    let with = |lines: &str| format!("[analytics.a]\npoint = \"boiler.flow_temp\"\n{lines}");
    rule(&with("window = \"5m\""), &[]);
    rule(&with(""), &["missing-key 1:12+1"]);
    rule("[analytics.a]\nwindow = \"5m\"", &["missing-key 1:12+1"]);
    rule("[analytics.a]\npoint = \"boiler\"\nwindow = \"5m\"", &["bad-id 2:9+8"]);
    rule("[analytics.a]\npoint = \"boiler.flow\"\nwindow = \"5m\"", &["unknown-point 2:9+13"]);
    rule(&with("window = \"10ms\""), &["out-of-range 3:10+6"]);
    rule(&with("rate = \"1m\"\nreplace = true"), &["no-effect 4:1+7"]);
    rule(&with("rate = \"1m\"\nhysteresis = 1"), &["no-effect 4:1+10"]);
    rule(&with("window = \"5m\"\nfigures = [\"median\"]"), &["bad-value 4:12+8"]);
    rule(&with("window = \"5m\"\nfigures = []"), &["bad-value 4:11+2"]);
    rule(&with("above = 5\nbelow = 6"), &["min-above-max 4:9+1"]);
    rule(&with("window = \"2h\"\nreplace = true"), &["no-effect 4:1+7"]);
    rule(
        &format!("{}\n[analytics.b]\npoint = \"boiler.flow_temp\"\nwindow = \"1m\"\nfigures = [\"last\"]", with("window = \"5m\"")),
        &["duplicate-id 4:12+1"],
    );
}
