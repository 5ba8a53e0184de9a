//! Exact bytes. `docs/protocol.md` shows these; `the_protocol_document_shows_exact_output` keeps it so.

use super::*;
use crate::model::{
    AlarmKind, Cause, ClockChange, ClockQuality, DeviceStatus, EventKind, Evidence, EvidenceKind, LineId, LineState, Phase, PointId,
    Replaced, Row, RuleId, State, Stream, UplinkId, Urgency, Value, event::Alive,
};
use proptest::prelude::*;
use std::sync::Arc;

const EPOCH: Epoch = Epoch(0x8f3a_01c2_9b4d_e677);
const CLOCK: ClockReading = ClockReading::synchronised(1_795_254_200_000);

fn native() -> Native {
    Native::new(GatewayId::parse("plant-7").unwrap(), "0.1.0", "fieldgate/plant-7")
}

fn device_id(id: &str) -> DeviceId {
    DeviceId::parse(id).unwrap()
}

fn points(ids: &[&str]) -> Arc<[PointId]> {
    ids.iter().map(|id| PointId::parse(id).unwrap()).collect()
}

fn row(at_ms: u64, values: &[Value], quality: Option<&[Quality]>) -> Row {
    Row { at: Boot::from_ms(at_ms), values: values.to_vec(), quality: quality.map(<[Quality]>::to_vec) }
}

fn sealed(seq: u64, frames: Vec<Frame>) -> Sealed {
    Sealed { key: Key { epoch: EPOCH, stream: Stream::Telemetry, seq }, boot: BootIndex(3), frames }
}

fn telemetry_example() -> Sealed {
    let meter = |points, rows| Frame { device: device_id("meter-1"), points, rows, thin: None };
    let (one, three) = (points(&["power", "voltage"]), points(&["energy", "relay", "mode"]));
    sealed(
        412,
        vec![
            meter(
                one,
                vec![
                    row(1_000_000, &[Value::Float(64.2), Value::Int(231)], None),
                    row(1_001_000, &[Value::Null, Value::Int(230)], Some(&[Quality::NotAvailable, Quality::Good])),
                    row(1_002_004, &[Value::Float(64.0), Value::Int(-1)], None),
                ],
            ),
            Frame {
                device: device_id("boiler"),
                points: points(&["flow_temp"]),
                rows: vec![row(1_000_500, &[Value::Float(0.1)], None)],
                thin: None,
            },
            meter(three, vec![row(1_002_100, &[Value::Uint(u64::MAX), Value::Bool(true), Value::Text("auto \"2\"".into())], None)]),
        ],
    )
}

fn event(kind: EventKind) -> Event {
    Event { at: Boot::from_ms(1_000_000), kind }
}

fn events_example() -> Vec<Event> {
    vec![event(EventKind::Status {
        device: device_id("meter-4"),
        line: Some(LineId::parse("meters").unwrap()),
        state: State::Offline,
        cause: Some(Cause::Silent),
        since: Boot::from_ms(1_000_000),
        evidence: Some(Evidence { kind: EvidenceKind::Poll, at: Boot::from_ms(984_000) }),
        missed: 3,
    })]
}

fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

fn events_text(seq: u64, events: &[Event]) -> String {
    text(|out| native().events(Key { epoch: EPOCH, stream: Stream::Event, seq }, events, BootIndex(3), CLOCK, out))
}

const TELEMETRY: &str = concat!(
    r#"{"v":1,"gateway":"plant-7","epoch":"8f3a01c29b4de677","stream":"telemetry","seq":412,"backlog":false,"#,
    r#""clock":{"offset_ms":1795254200000,"quality":"synchronised","boot":3},"devices":{"#,
    r#""boiler":[{"at":1795255200500,"dt":[0],"v":{"flow_temp":[0.1]}}],"#,
    r#""meter-1":[{"at":1795255200000,"dt":[0,1000,2004],"v":{"power":[64.2,null,64.0],"voltage":[231,230,-1]},"#,
    r#""q":{"power":["good","not_available","good"]}},"#,
    r#"{"at":1795255202100,"dt":[0],"v":{"energy":[18446744073709551615],"relay":[true],"mode":["auto \"2\""]}}]}}"#,
);

#[test]
fn telemetry_exactly() {
    assert_eq!(text(|out| native().telemetry(&telemetry_example(), false, CLOCK, out)), TELEMETRY);
}

#[test]
fn a_resend_differs_in_backlog_and_clock_alone() {
    let later = ClockReading::synchronised(CLOCK.offset_ms + 12_345);
    let send = |backlog, clock: ClockReading| {
        let mut json: serde_json::Value =
            serde_json::from_str(&text(|out| native().telemetry(&telemetry_example(), backlog, clock, out))).unwrap();
        json.as_object_mut().unwrap().remove("backlog");
        json.as_object_mut().unwrap().remove("clock");
        for frames in json["devices"].as_object_mut().unwrap().values_mut() {
            for frame in frames.as_array_mut().unwrap() {
                frame["at"] = (frame["at"].as_i64().unwrap() - clock.offset_ms).into();
            }
        }
        json
    };
    assert_eq!(send(false, CLOCK), send(true, later));
}

#[test]
fn the_clock_says_how_good_it_is() {
    let check = |clock: ClockReading, want: &str| {
        let sent = text(|out| native().telemetry(&telemetry_example(), false, clock, out));
        assert!(sent.contains(&format!(r#""clock":{want}"#)), "{sent}");
    };
    check(ClockReading::estimated(-5), r#"{"offset_ms":-5,"quality":"estimated","boot":3}"#);
    check(ClockReading { error_ms: Some(12), ..CLOCK }, r#"{"offset_ms":1795254200000,"quality":"synchronised","error_ms":12,"boot":3}"#);
    let interval = ClockReading { quality: ClockQuality::Interval, error_ms: Some(3_400_000), ..CLOCK };
    check(interval, r#"{"offset_ms":1795254200000,"quality":"interval","error_ms":3400000,"boot":3}"#);
}

#[test]
fn events_exactly() {
    let head = concat!(
        r#"{"v":1,"gateway":"plant-7","epoch":"8f3a01c29b4de677","stream":"event","seq":9,"#,
        r#""clock":{"offset_ms":1795254200000,"quality":"synchronised","boot":3},"events":["#,
    );
    let check = |kind: EventKind, want: &str| {
        assert_eq!(events_text(9, &[event(kind)]), format!("{head}{want}]}}"));
    };
    check(events_example().remove(0).kind, STATUS);
    check(
        EventKind::Status {
            device: device_id("plug"),
            line: None,
            state: State::Online,
            cause: None,
            since: Boot::from_ms(999_000),
            evidence: None,
            missed: 0,
        },
        r#"{"type":"status","at":1795255200000,"device":"plug","line":null,"state":"online","cause":null,"since":1795255199000,"evidence":null,"evidence_at":null,"missed":0}"#,
    );
    check(
        EventKind::Line { line: LineId::parse("192.168.1.20:502").unwrap(), state: LineState::Down, reason: "cable \"A\"\n".into() },
        r#"{"type":"line","at":1795255200000,"line":"192.168.1.20:502","state":"down","reason":"cable \"A\"\n"}"#,
    );
    check(
        EventKind::Registered { device: device_id("plug"), via: "route status".into() },
        r#"{"type":"registered","at":1795255200000,"device":"plug","via":"route status"}"#,
    );
    check(command_event(), COMMAND_RESULT);
    check(fan_event(), FAN_RESULT);
    check(
        EventKind::RefreshStopped {
            device: device_id("charger"),
            point: PointId::parse("limit").unwrap(),
            reason: "no new command for 300 s".into(),
        },
        r#"{"type":"refresh_stopped","at":1795255200000,"device":"charger","point":"limit","reason":"no new command for 300 s"}"#,
    );
    check(
        EventKind::Uplink {
            uplink: UplinkId::parse("cloud").unwrap(),
            state: LineState::Up,
            reason: String::new(),
            down_for_ms: Some(840_000),
            changes: 1,
        },
        r#"{"type":"uplink","at":1795255200000,"uplink":"cloud","state":"up","reason":"","down_for_ms":840000,"changes":1}"#,
    );
    check(
        EventKind::Rule { rule: RuleId::parse("frost").unwrap(), webhook: "ops".into(), reason: "boiler.flow_temp < 5 (4.5)".into() },
        r#"{"type":"rule","at":1795255200000,"rule":"frost","webhook":"ops","reason":"boiler.flow_temp < 5 (4.5)"}"#,
    );
    check(
        EventKind::Gap {
            uplink: None,
            epoch: Epoch(1),
            stream: Stream::Telemetry,
            from: 100,
            to: 180,
            samples: 4050,
            reason: "disk_max reached; the oldest went".into(),
            replaced_by: None,
        },
        GAP,
    );
    check(
        EventKind::Gap {
            uplink: None,
            epoch: Epoch(1),
            stream: Stream::Telemetry,
            from: 100,
            to: 180,
            samples: 4050,
            reason: "disk_max reached; thinned".into(),
            replaced_by: Some(Replaced { epoch: EPOCH, from: 900, to: 903 }),
        },
        GAP_REPLACED,
    );
    check(EventKind::Epoch { epoch: EPOCH, before: Some(Epoch(1)), telemetry: 812, event: 44, may_have_lost_ms: 500 }, EPOCH_EVENT);
    check(
        EventKind::Epoch { epoch: EPOCH, before: None, telemetry: 0, event: 0, may_have_lost_ms: 0 },
        r#"{"type":"epoch","at":1795255200000,"epoch":"8f3a01c29b4de677","before":null,"telemetry":0,"event":0,"may_have_lost_ms":0}"#,
    );
    check(
        EventKind::Progress {
            alive: vec![
                Alive { epoch: Epoch(1), stream: Stream::Telemetry, lowest: 700, highest: 812 },
                Alive { epoch: EPOCH, stream: Stream::Event, lowest: 10, highest: 9 },
            ],
        },
        PROGRESS,
    );
    check(
        EventKind::DeadLetter { source: "uplink cloud".into(), reason: "not JSON".into(), count: 1 },
        r#"{"type":"dead_letter","at":1795255200000,"source":"uplink cloud","reason":"not JSON","count":1}"#,
    );
    check(
        EventKind::Store { file: "spool.db".into(), state: crate::model::StoreState::ReadOnly, detail: "no \"luck\"".into() },
        r#"{"type":"store","at":1795255200000,"file":"spool.db","state":"read_only","detail":"no \"luck\""}"#,
    );
    let after = ClockReading { error_ms: Some(12), ..CLOCK };
    let change = ClockChange { boot: BootIndex(3), before: Some(ClockReading::estimated(1_700_000_000_000)), after };
    check(EventKind::clock(&change), CLOCK_EVENT);
    // As an older version has stored it.
    let stored: Event =
        serde_json::from_str(r#"{"at":1000000000,"type":"clock","offset_ms":1,"before_ms":null,"synchronised":false}"#).unwrap();
    check(stored.kind, r#"{"type":"clock","at":1795255200000,"offset_ms":1,"before_ms":null,"synchronised":false}"#);
}

fn command_event() -> EventKind {
    EventKind::Command {
        id: crate::model::CommandId::parse("7f9c").unwrap(),
        device: device_id("boiler"),
        phase: Phase::Confirmed,
        reason: String::new(),
        values: [(PointId::parse("setpoint").unwrap(), Value::Int(60))].into(),
        results: [].into(),
    }
}

/// To two devices, one of which said nothing.
fn fan_event() -> EventKind {
    let done = crate::model::Outcome::new(Phase::Confirmed, "").with([(PointId::parse("setpoint").unwrap(), Value::Int(60))].into());
    let lost = crate::model::Outcome::new(Phase::Unknown, "no answer to the write");
    EventKind::Command {
        id: crate::model::CommandId::parse("7f9e").unwrap(),
        device: DeviceId::gateway(),
        phase: Phase::Unknown,
        reason: "1 confirmed, 1 unknown".into(),
        values: [].into(),
        results: [(device_id("boiler"), done), (device_id("pump"), lost)].into(),
    }
}

const STATUS: &str = concat!(
    r#"{"type":"status","at":1795255200000,"device":"meter-4","line":"meters","state":"offline","cause":"silent","#,
    r#""since":1795255200000,"evidence":"poll","evidence_at":1795255184000,"missed":3}"#,
);
const COMMAND_RESULT: &str =
    r#"{"type":"command","at":1795255200000,"id":"7f9c","device":"boiler","phase":"confirmed","reason":"","values":{"setpoint":60}}"#;
const FAN_RESULT: &str = concat!(
    r#"{"type":"command","at":1795255200000,"id":"7f9e","device":null,"phase":"unknown","reason":"1 confirmed, 1 unknown","values":{},"#,
    r#""results":{"boiler":{"phase":"confirmed","reason":"","values":{"setpoint":60}},"#,
    r#""pump":{"phase":"unknown","reason":"no answer to the write","values":{}}}}"#,
);
const GAP: &str = concat!(
    r#"{"type":"gap","at":1795255200000,"epoch":"0000000000000001","stream":"telemetry","from":100,"to":180,"samples":4050,"#,
    r#""reason":"disk_max reached; the oldest went"}"#,
);
const GAP_REPLACED: &str = r#"{"type":"gap","at":1795255200000,"epoch":"0000000000000001","stream":"telemetry","from":100,"to":180,"samples":4050,"reason":"disk_max reached; thinned","replaced_by":{"epoch":"8f3a01c29b4de677","from":900,"to":903}}"#;
const EPOCH_EVENT: &str = concat!(
    r#"{"type":"epoch","at":1795255200000,"epoch":"8f3a01c29b4de677","before":"0000000000000001","#,
    r#""telemetry":812,"event":44,"may_have_lost_ms":500}"#,
);
const PROGRESS: &str = concat!(
    r#"{"type":"progress","at":1795255200000,"alive":[{"epoch":"0000000000000001","stream":"telemetry","lowest":700,"highest":812},"#,
    r#"{"epoch":"8f3a01c29b4de677","stream":"event","lowest":10,"highest":9}]}"#,
);
const CLOCK_EVENT: &str = concat!(
    r#"{"type":"clock","at":1795255200000,"boot":3,"offset_ms":1795254200000,"before_ms":1700000000000,"synchronised":true,"#,
    r#""quality":"synchronised","error_ms":12,"source":"ntp"}"#,
);

fn presence(online: bool, reason: Option<&str>) -> Presence<'_> {
    Presence { online, epoch: EPOCH, session: 2, since: WallMs(1_795_255_200_000), reason }
}

const BIRTH: &str =
    r#"{"v":1,"gateway":"plant-7","state":"online","epoch":"8f3a01c29b4de677","session":2,"version":"0.1.0","since":1795255200000}"#;
const WILL: &str = concat!(
    r#"{"v":1,"gateway":"plant-7","state":"offline","reason":"connection lost","epoch":"8f3a01c29b4de677","session":2,"#,
    r#""version":"0.1.0","since":1795255200000}"#,
);

#[test]
fn birth_and_will_exactly() {
    assert_eq!(String::from_utf8(native().state(presence(true, None))).unwrap(), BIRTH);
    assert_eq!(String::from_utf8(native().state(presence(false, Some("connection lost")))).unwrap(), WILL);
}

fn card(id: &str, points: usize) -> DeviceCard {
    let status = DeviceStatus {
        device: device_id(id),
        line: Some(LineId::parse("192.168.1.20:502").unwrap()),
        state: State::Unknown,
        cause: Some(Cause::LineDown),
        since: Boot::from_ms(1_000_000),
        evidence: None,
        missed: 0,
    };
    let point = |n| PointCard {
        id: PointId::parse(["setpoint", "flow_temp"].get(n).copied().unwrap_or(&format!("p{n}"))).unwrap(),
        unit: "°C".into(),
        kind: "i16",
        writable: n == 0,
    };
    DeviceCard { status, profile: Some("heat-pump".into()), points: (0..points).map(point).collect() }
}

const DEVICES: &str = concat!(
    r#"{"v":1,"gateway":"plant-7","part":1,"parts":1,"hash":"HASH","devices":{"boiler":{"state":"unknown","cause":"line_down","#,
    r#""since":1795255200000,"line":"192.168.1.20:502","profile":"heat-pump","points":{"#,
    r#""setpoint":{"unit":"°C","type":"i16","writable":true},"flow_temp":{"unit":"°C","type":"i16","writable":false}}}}}"#,
);

#[test]
fn devices_exactly_and_the_hash_follows_the_content() {
    let parts = native().devices(&[card("boiler", 2)], CLOCK);
    assert_eq!(parts.len(), 1);
    assert_eq!(parts[0].topic, "fieldgate/plant-7/devices");
    let want = DEVICES.replace("HASH", &format!("{:016x}", parts[0].hash));
    assert_eq!(String::from_utf8(parts[0].body.clone()).unwrap(), want);
    assert_eq!(native().devices(&[card("boiler", 2)], CLOCK), parts);
    assert_ne!(native().devices(&[card("boiler", 3)], CLOCK)[0].hash, parts[0].hash);
    assert!(native().devices(&[], CLOCK)[0].body.ends_with(br#""devices":{}}"#));
}

#[test]
fn a_long_device_list_is_cut_between_devices() {
    let cards: Vec<DeviceCard> = (0..500).map(|n| card(&format!("d{n}"), 20)).collect();
    let parts = native().devices(&cards, CLOCK);
    assert!(parts.len() > 3, "{}", parts.len());
    let mut seen = 0;
    for (n, part) in parts.iter().enumerate() {
        assert!(part.body.len() <= limits::MESSAGE_BYTES, "{}", part.body.len());
        let json: serde_json::Value = serde_json::from_slice(&part.body).unwrap();
        assert_eq!((json["part"].as_u64(), json["parts"].as_u64()), (Some(n as u64 + 1), Some(parts.len() as u64)));
        seen += json["devices"].as_object().unwrap().len();
    }
    assert_eq!((seen, parts[1].topic.as_str()), (500, "fieldgate/plant-7/devices/2"));
}

const THINNED: &str = r#"{"at":1795255200000,"dt":[0,24000,59000],"v":{"power":[64.2,11.5,64.0]},"thin":{"window_ms":60000,"of":60}}"#;

#[test]
fn a_thinned_frame_exactly() {
    let rows = [(0, 64.2), (24_000, 11.5), (59_000, 64.0)].map(|(after, v)| row(1_000_000 + after, &[Value::Float(v)], None));
    let thin = Some(crate::model::Thin { window_ms: 60_000, of: 60 });
    let frame = Frame { device: device_id("meter-1"), points: points(&["power"]), rows: rows.into(), thin };
    let sealed = sealed(1, vec![frame]);
    assert_eq!(sealed.samples(), 60);
    let mut out = Vec::new();
    native().telemetry(&sealed, true, CLOCK, &mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains(THINNED), "{text}");
}

#[test]
fn the_protocol_document_shows_exact_output() {
    let document = include_str!("../../../../docs/protocol.md");
    let shown: Vec<String> = document.split("```json\n").skip(1).filter_map(|rest| rest.split("\n```").next()).map(compact).collect();
    let devices = native().devices(&[card("boiler", 2)], CLOCK).remove(0);
    let command = events_text(9, &[event(command_event())]);
    let want = [
        TELEMETRY.to_owned(),
        events_text(9, &events_example()),
        BIRTH.into(),
        WILL.into(),
        String::from_utf8(devices.body).unwrap(),
        command,
        GAP.into(),
        GAP_REPLACED.into(),
        THINNED.into(),
        EPOCH_EVENT.into(),
        PROGRESS.into(),
        CLOCK_EVENT.into(),
    ];
    for text in want {
        assert!(shown.contains(&text), "docs/protocol.md does not show\n{text}");
    }
    for command in shown.iter().filter(|text| text.starts_with(r#"{"id":"#)) {
        crate::uplink::dialect::command::parse(command.as_bytes()).expect(command);
    }
}

/// Blanks and line breaks outside of strings away: the document may be laid out for people.
fn compact(text: &str) -> String {
    let (mut out, mut inside, mut escaped) = (String::new(), false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => inside = !inside,
            _ => {}
        }
        if inside || !c.is_whitespace() {
            out.push(c);
        }
    }
    out
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(Value::Uint),
        any::<f64>().prop_map(Value::float),
        any::<String>().prop_map(|s| Value::Text(s.into())),
    ]
}

fn any_quality() -> impl Strategy<Value = Quality> {
    use Quality::{Bad, Good, NotAvailable, Pending, Stale, Suspect, Unsupported};
    prop::sample::select(vec![Good, Stale, NotAvailable, Pending, Unsupported, Bad, Suspect])
}

fn any_frame() -> impl Strategy<Value = Frame> {
    (0..4usize, 1..5usize, 1..5usize).prop_flat_map(|(device, width, height)| {
        let row = (0..1u64 << 40, prop::collection::vec(any_value(), width), prop::option::of(prop::collection::vec(any_quality(), width)));
        prop::collection::vec(row, height).prop_map(move |rows| Frame {
            device: device_id(&format!("d{device}")),
            points: (0..width).map(|n| PointId::parse(&format!("p{n}")).unwrap()).collect(),
            rows: rows.into_iter().map(|(at, values, quality)| Row { at: Boot(at), values, quality }).collect(),
            thin: None,
        })
    })
}

fn same(json: &serde_json::Value, value: &Value) -> bool {
    match value {
        Value::Null => json.is_null(),
        Value::Bool(b) => json.as_bool() == Some(*b),
        Value::Int(i) => json.as_i64() == Some(*i),
        Value::Uint(u) => json.as_u64() == Some(*u),
        Value::Float(f) => json.as_f64().is_some_and(|j| j.to_bits() == f.to_bits()),
        Value::Text(t) => json.as_str() == Some(t),
    }
}

proptest! {
    /// A JSON parser that is not ours finds every value, moment and quality again.
    #[test]
    fn what_is_sealed_can_be_read_back(frames in prop::collection::vec(any_frame(), 0..8)) {
        let sealed = sealed(1, frames);
        let json: serde_json::Value = serde_json::from_str(&text(|out| native().telemetry(&sealed, true, CLOCK, out))).unwrap();
        let mut cells = 0;
        for id in ["d0", "d1", "d2", "d3"] {
            let frames: Vec<&Frame> = sealed.frames.iter().filter(|f| f.device.as_str() == id).collect();
            let got = json["devices"][id].as_array().cloned().unwrap_or_default();
            prop_assert_eq!(got.len(), frames.len());
            for (got, frame) in got.iter().zip(frames) {
                for (r, row) in frame.rows.iter().enumerate() {
                    let at = got["at"].as_i64().unwrap() + got["dt"][r].as_i64().unwrap();
                    prop_assert_eq!(at, CLOCK.wall(row.at).0);
                    for (n, point) in frame.points.iter().enumerate() {
                        prop_assert!(same(&got["v"][point.as_str()][r], &row.values[n]), "{:?}", row.values[n]);
                        let quality = row.quality.as_ref().map_or(Quality::Good, |q| q[n]);
                        prop_assert_eq!(got["q"][point.as_str()][r].as_str().unwrap_or("good"), quality.word());
                        cells += 1;
                    }
                }
            }
        }
        prop_assert_eq!(cells, sealed.samples());
    }
}

/// `cargo test --release -- --ignored --nocapture nanoseconds`
#[test]
#[ignore = "a measurement, for a release build"]
fn nanoseconds_per_sample() {
    let frames = |n| {
        let rows = (0..10).map(|r| row(1_000_000 + r * 1000, &[Value::Float(64.2), Value::Int(231), Value::Uint(7)], None)).collect();
        Frame { device: device_id(&format!("meter-{n}")), points: points(&["power", "voltage", "count"]), rows, thin: None }
    };
    let sealed = sealed(1, (0..100).map(frames).collect());
    let (mut native, mut out) = (native(), Vec::new());
    let began = tokio::time::Instant::now();
    for _ in 0..1000 {
        out.clear();
        native.telemetry(&sealed, false, CLOCK, &mut out);
    }
    let each = began.elapsed().as_nanos() as f64 / (1000 * sealed.samples()) as f64;
    println!("{each:.1} ns and {:.1} bytes per sample", out.len() as f64 / sealed.samples() as f64);
}

#[test]
fn alarms_maintenance_and_attributes_exactly() {
    let check = |kind: EventKind, want: &str| {
        let sent = events_text(9, &[event(kind)]);
        assert!(sent.ends_with(&format!("\"events\":[{want}]}}")), "{sent}");
    };
    let device = || device_id("meter-4");
    check(
        EventKind::Alarm {
            device: device(),
            alarm: AlarmKind::Flapping,
            raised: true,
            reason: "more than 10 changes in 600 s".into(),
            severity: None,
            rule: None,
            point: None,
            by: None,
        },
        r#"{"type":"alarm","at":1795255200000,"device":"meter-4","alarm":"flapping","state":"raised","severity":"warning","reason":"more than 10 changes in 600 s","point":null,"rule":null,"by":null}"#,
    );
    check(
        EventKind::Alarm {
            device: device(),
            alarm: AlarmKind::Rule,
            raised: true,
            reason: "too \"hot\"".into(),
            severity: Some(Urgency::Critical),
            rule: RuleId::parse("hot").ok(),
            point: PointId::parse("flow").ok(),
            by: Some("anna".into()),
        },
        r#"{"type":"alarm","at":1795255200000,"device":"meter-4","alarm":"rule","state":"acknowledged","severity":"critical","reason":"too \"hot\"","point":"flow","rule":"hot","by":"anna"}"#,
    );
    check(
        EventKind::Maintenance {
            device: device(),
            on: true,
            until: Some(Boot::from_ms(1_060_000)),
            by: "anna".into(),
            reason: "a \"b\"".into(),
        },
        r#"{"type":"maintenance","at":1795255200000,"device":"meter-4","on":true,"until":1795255260000,"by":"anna","reason":"a \"b\""}"#,
    );
    check(
        EventKind::Maintenance { device: device(), on: false, until: None, by: "anna".into(), reason: String::new() },
        r#"{"type":"maintenance","at":1795255200000,"device":"meter-4","on":false,"until":null,"by":"anna","reason":""}"#,
    );
    let attributes = [("fw", Some("1.3".to_owned())), ("ip", None)].map(|(name, value)| (PointId::parse(name).unwrap(), value));
    check(
        EventKind::Changed { device: device(), attributes: attributes.into() },
        r#"{"type":"changed","at":1795255200000,"device":"meter-4","attributes":{"fw":"1.3","ip":null}}"#,
    );
}
