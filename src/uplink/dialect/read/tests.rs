//! Real messages read whole; what strangers send is a reason, never a crash; every sending of a key has one content.

use super::*;
use proptest::prelude::*;

fn telemetry(offset: i64, backlog: bool, value: &str) -> String {
    format!(
        r#"{{"v":1,"gateway":"g","epoch":"00000000000000aa","stream":"telemetry","seq":7,"backlog":{backlog},"clock":{{"offset_ms":{offset},"quality":"synchronised","boot":3}},"devices":{{"d":[{{"at":{},"dt":[0,5],"v":{{"c":[1,{value}],"t":["x",true]}}}}]}},"new":[1]}}"#,
        1_000 + offset
    )
}

fn event(members: &str) -> String {
    format!(
        r#"{{"v":1,"gateway":"g","epoch":"00000000000000aa","stream":"event","seq":1,"clock":{{"offset_ms":0,"quality":"estimated","boot":3}},"events":[{members}]}}"#
    )
}

fn read(text: &str) -> Message {
    message(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn a_message_is_read_whole_and_what_is_new_in_it_is_ignored() {
    let m = read(&telemetry(500, true, "18446744073709551615"));
    assert_eq!((m.gateway.as_str(), m.epoch, m.stream, m.seq, m.backlog), ("g", Epoch(0xaa), Stream::Telemetry, 7, true));
    assert_eq!((m.clock.offset_ms, m.clock.boot, m.samples(), m.is_estimated()), (500, 3, 4, false));
    let Body::Telemetry(devices) = &m.body else { panic!("{m:?}") };
    let frame = &devices[&DeviceId::parse("d").unwrap()][0];
    assert_eq!((frame.at, &frame.dt[..]), (1_500, &[0, 5][..]));
    assert_eq!(frame.v[&PointId::parse("c").unwrap()], [Value::Int(1), Value::Uint(u64::MAX)]);
}

#[test]
fn a_sending_changes_nothing_of_the_content_and_a_value_does() {
    let content = |text: &str| read(text).content();
    assert_eq!(content(&telemetry(500, false, "2")), content(&telemetry(-77, true, "2")));
    for other in ["3", "2.0", "\"2\"", "true", "-2"] {
        assert_ne!(content(&telemetry(500, false, "2")), content(&telemetry(500, false, other)), "{other}");
    }
    // An all good column of qualities says nothing; a bad word does.
    let with = |q: &str| telemetry(0, false, "2").replace("]}}]},\"new\"", &format!("]}},\"q\":{{\"c\":[\"good\",\"{q}\"]}}}}]}},\"new\""));
    assert_eq!(content(&with("good")), content(&telemetry(0, false, "2")));
    assert_ne!(content(&with("suspect")), content(&telemetry(0, false, "2")));
    let status = |at: i64, offset: i64, missed: u32| {
        event(&format!(r#"{{"type":"status","at":{at},"since":{at},"evidence_at":null,"missed":{missed}}}"#))
            .replace("\"offset_ms\":0", &format!("\"offset_ms\":{offset}"))
    };
    assert_eq!(content(&status(10, 0, 3)), content(&status(30, 20, 3)));
    assert_ne!(content(&status(10, 0, 3)), content(&status(10, 0, 4)));
}

#[test]
fn what_a_consumer_acts_on_is_typed() {
    let known = |members: &str| read(&event(members)).events()[0].known.clone();
    let Known::Gap(gap) = known(
        r#"{"type":"gap","at":1,"epoch":"0000000000000001","stream":"telemetry","from":100,"to":180,"samples":4050,"reason":"thinned","replaced_by":{"epoch":"0000000000000002","from":900,"to":903}}"#,
    ) else {
        panic!("no gap")
    };
    assert_eq!((gap.from, gap.to, gap.samples, gap.replaced_by.unwrap().to), (100, 180, 4050, 903));
    assert_eq!(
        known(r#"{"type":"clock","at":1,"offset_ms":5,"before_ms":null,"synchronised":true}"#),
        Known::Clock { boot: None, offset_ms: 5, synchronised: true }
    );
    assert_eq!(
        known(r#"{"type":"clock","at":1,"boot":2,"offset_ms":5,"before_ms":null,"synchronised":false,"quality":"interval"}"#),
        Known::Clock { boot: Some(2), offset_ms: 5, synchronised: false }
    );
    assert!(matches!(known(r#"{"type":"progress","at":1,"alive":[]}"#), Known::Progress(a) if a.is_empty()));
    assert_eq!(known(r#"{"type":"of a later version","at":1}"#), Known::Other);
}

#[test]
fn what_is_no_message_is_refused_with_the_reason() {
    let good = telemetry(0, false, "2");
    refuse("", "EOF");
    refuse("[]", "invalid length");
    refuse(&format!("{good} {good}"), "trailing characters");
    refuse(&good.replace("\"v\":1", "\"v\":2"), "version 2, and only 1 is known here");
    refuse(&good.replace("\"seq\":7", "\"seq\":0"), "0 is no sequence number");
    refuse(&good.replace("\"seq\":7", "\"seq\":18446744073709551615"), "is no sequence number");
    refuse(&good.replace("00000000000000aa", "aa"), "16 hex digits");
    refuse(&good.replace("\"gateway\":\"g\"", "\"gateway\":\"a/b\""), "use 1 to 64 letters");
    refuse(&good.replace("\"t\":", "\"c\":"), "c comes twice in one object");
    refuse(&good.replace("[1,2]", "[1]"), "c has 1 values for 2 rows");
    refuse(&good.replace("[1,2]", "[1,null]"), "c is null without a quality");
    refuse(&good.replace("[1,2]", "[1,[]]"), "a number, a text");
    refuse(&good.replace("\"dt\":[0,5]", "\"dt\":[0,9223372036854775807]"), "a time that no clock shows");
    refuse(&good.replace("\"stream\":\"telemetry\"", "\"stream\":\"event\""), "no list of events");
    refuse(&event(r#"{"at":1}"#), "without a type");
    refuse(&event(r#"{"type":"status"}"#), "without a time");
    refuse(&event(r#"{"type":"gap","at":1}"#), "a gap event: missing field");
    refuse(
        &event(
            r#"{"type":"epoch","at":1,"epoch":"00000000000000aa","before":null,"telemetry":18446744073709551615,"event":0,"may_have_lost_ms":0}"#,
        ),
        "no number of a message",
    );
}

#[track_caller]
fn refuse(text: &str, want: &str) {
    let got = message(text.as_bytes()).map(|_| ()).expect_err(text).to_string();
    assert!(got.contains(want), "{text}: {got}");
}

#[test]
fn topics_say_what_they_carry() {
    for (topic, want) in [
        ("fieldgate/g/telemetry", Some(Kind::Stream(Stream::Telemetry))),
        ("a/b/c/event", Some(Kind::Stream(Stream::Event))),
        ("fieldgate/g/state", Some(Kind::State)),
        ("fieldgate/g/devices", Some(Kind::Devices)),
        ("fieldgate/g/devices/12", Some(Kind::Devices)),
        ("fieldgate/g/devices/x", None),
        ("fieldgate/g/command", Some(Kind::Command)),
        ("", None),
    ] {
        assert_eq!(kind(topic), want, "{topic}");
    }
}

proptest! {
    /// A broker has other tenants: bytes of any kind, and real messages with a hole in them.
    #[test]
    fn nothing_that_arrives_is_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..400, put: u8) {
        let _ = message(&bytes);
        let mut real = telemetry(5, false, "2").into_bytes();
        let at = cut % real.len();
        real[at] = put;
        let _ = message(&real);
        let _ = message(&real[..at]);
    }
}
