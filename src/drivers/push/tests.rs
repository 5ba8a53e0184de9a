//! The driver with an engine of a few lines behind its doors.

use super::*;
use crate::model::{Action, CommandId, Order, Phase, PointId};
use tokio::sync::mpsc;

/// What the engine of the tests got.
#[derive(Debug, PartialEq)]
enum Got {
    /// Values, and whether somebody waits for them.
    Heartbeat(usize, bool),
    Telemetry(usize),
    Ended(Phase),
    Letter(String),
    Done(Phase),
}

struct Rig {
    push: PushHandle,
    got: mpsc::Receiver<Got>,
    stop: CancellationToken,
}

/// Takes all devices but `stranger`; telemetry of `broken` is never kept.
fn rig() -> Rig {
    let (urgent, mut urgent_rx) = mpsc::channel(16);
    let (bulk, mut bulk_rx) = mpsc::channel(16);
    let (told, got) = mpsc::channel(64);
    let stop = CancellationToken::new();
    let push = start(Doors::new(urgent, bulk), Clock::Real, Arc::new(|| ClockReading::estimated(0)), stop.clone());
    tokio::spawn(async move {
        loop {
            let (got, state, values) = tokio::select! {
                Some(message) = urgent_rx.recv() => match message {
                    Urgent::Heartbeat(p) => {
                        if p.device.as_str() == "stranger" {
                            p.refusal.set("nobody knows it".into()).unwrap();
                            continue;
                        }
                        let values = p.readings.iter().map(|r| r.values.len()).sum();
                        (Got::Heartbeat(values, p.values.is_awaited()), p.state, p.values)
                    }
                    Urgent::Acknowledged { done, receipt } => (Got::Ended(done.outcome.phase), receipt, Receipt::none()),
                    Urgent::DeadLetter(letter) => (Got::Letter(format!("{}: {}", letter.topic, letter.reason)), Receipt::none(), Receipt::none()),
                    Urgent::Done(done) => (Got::Done(done.outcome.phase), Receipt::none(), Receipt::none()),
                    other => panic!("{other:?}"),
                },
                Some(message) = bulk_rx.recv() => match message {
                    Bulk::Pushed(p) if p.device.as_str() == "broken" => continue,
                    Bulk::Pushed(p) => (Got::Telemetry(p.readings.iter().map(|r| r.values.len()).sum()), p.state, p.values),
                    other => panic!("{other:?}"),
                },
                else => return,
            };
            told.send(got).await.unwrap();
            state.keep();
            values.keep();
        }
    });
    Rig { push, got, stop }
}

impl Rig {
    async fn ask(&self, device: &str, what: PushWhat, body: &str) -> PushAnswer {
        let device = DeviceId::parse(device).unwrap();
        (self.push.port)(PushAsk { device, what, body: body.into(), from: "test".into() }).await
    }

    fn got(&mut self) -> Vec<Got> {
        std::iter::from_fn(|| self.got.try_recv().ok()).collect()
    }

    fn order(&self, id: &str, device: &str) {
        let (id, device) = (CommandId::parse(id).unwrap(), DeviceId::parse(device).unwrap());
        let action = Action::Write([(PointId::parse("k1").unwrap(), Value::Bool(true))].into());
        let deadline = Clock::Real.now() + Duration::from_secs(60);
        (self.push.orders)(Order { id, device, action, deadline, verify: vec![] }).unwrap();
    }
}

fn ids(answer: &PushAnswer) -> Vec<&str> {
    match answer {
        PushAnswer::Alive { orders } | PushAnswer::Ended { orders } => orders.iter().map(|o| o.id.as_str()).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_fields_of_a_heartbeat_are_told_when_they_change_and_then_they_are_durable() {
    let mut rig = rig();
    for (body, want) in [
        (r#"{"seq":1,"fw":"1.2","free":10}"#, Got::Heartbeat(2, true)),
        (r#"{"seq":2,"fw":"1.2","free":9}"#, Got::Heartbeat(0, false)),
        (r#"{"seq":3,"fw":"1.3","free":9}"#, Got::Heartbeat(2, true)),
        ("", Got::Heartbeat(0, false)),
        (r#"{"seq":4}"#, Got::Heartbeat(0, false)),
    ] {
        assert_eq!(ids(&rig.ask("pump", PushWhat::Heartbeat, body).await), [""; 0]);
        assert_eq!(rig.got(), [want], "{body}");
    }
}

#[tokio::test]
async fn a_repeated_message_counts_once() {
    let mut rig = rig();
    let body = r#"{"seq":5,"samples":[{"values":{"a":1,"b":2}},{"values":{"a":3}}]}"#;
    for again in [false, true, true] {
        let answer = rig.ask("pump", PushWhat::Telemetry, body).await;
        assert_eq!(answer, PushAnswer::Kept { samples: 2, values: 3, stamped: 0, again });
    }
    assert_eq!(rig.got(), [Got::Telemetry(3)]);
    let without_number = r#"{"values":{"a":1}}"#;
    rig.ask("pump", PushWhat::Telemetry, without_number).await;
    rig.ask("pump", PushWhat::Telemetry, without_number).await;
    assert_eq!(rig.got(), [Got::Telemetry(1), Got::Telemetry(1)]);
}

#[tokio::test]
async fn what_was_not_kept_is_not_answered_as_kept_and_may_come_again() {
    let rig = rig();
    let body = r#"{"seq":5,"values":{"a":1}}"#;
    for _ in 0..2 {
        assert_eq!(rig.ask("broken", PushWhat::Telemetry, body).await, PushAnswer::Refused(PushRefusal::NotKept));
    }
    let unwelcome = PushAnswer::Refused(PushRefusal::Unwelcome("nobody knows it".into()));
    assert_eq!(rig.ask("stranger", PushWhat::Heartbeat, "{}").await, unwelcome);
}

#[tokio::test]
async fn what_cannot_be_read_is_put_aside_and_said() {
    let mut rig = rig();
    let refused = |answer| matches!(answer, PushAnswer::Refused(PushRefusal::Unreadable(_)));
    assert!(refused(rig.ask("pump", PushWhat::Heartbeat, "[]").await));
    assert!(refused(rig.ask("pump", PushWhat::Telemetry, "{}").await));
    tokio::task::yield_now().await;
    let got = rig.got();
    assert!(matches!(&got[..], [Got::Letter(a), Got::Letter(_)] if a.starts_with("devices/pump/heartbeat: a heartbeat is")), "{got:?}");
}

#[tokio::test]
async fn an_order_comes_with_each_answer_until_its_end_is_durable() {
    let mut rig = rig();
    rig.order("one", "pump");
    rig.order("else", "valve");
    for _ in 0..2 {
        assert_eq!(ids(&rig.ask("pump", PushWhat::Heartbeat, "").await), ["one"]);
    }
    let ack = || PushWhat::Acknowledge(CommandId::parse("one").unwrap());
    assert_eq!(rig.ask("valve", ack(), "").await, PushAnswer::Refused(PushRefusal::NoOrder), "it is another's");
    rig.order("two", "pump");
    assert_eq!(ids(&rig.ask("pump", ack(), r#"{"result":"failed"}"#).await), ["two"]);
    assert_eq!(rig.ask("pump", ack(), "").await, PushAnswer::Refused(PushRefusal::NoOrder));
    assert_eq!(rig.got(), [Got::Heartbeat(0, false), Got::Heartbeat(0, false), Got::Ended(Phase::Failed)]);
    rig.stop.cancel();
    let mut ends = vec![rig.got.recv().await, rig.got.recv().await];
    ends.sort_by_key(|end| format!("{end:?}"));
    assert_eq!(ends, [Some(Got::Done(Phase::Failed)), Some(Got::Done(Phase::Unknown))]);
    let stopping = PushAnswer::Refused(PushRefusal::Stopping);
    while rig.ask("pump", PushWhat::Telemetry, r#"{"values":{"a":1}}"#).await != stopping {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_large_batch_goes_in_parts_that_are_messages() {
    let device = DeviceId::parse("pump").unwrap();
    let point = |n: usize| PointId::parse(&format!("p{n}")).unwrap();
    let sample = |values: Vec<Value>| Sample { at: Boot(1), leaves: Leaves { points: (0..values.len()).map(point).collect(), values } };
    let sizes = |samples| parts(&device, samples).iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(sizes(vec![]), [0]);
    assert_eq!(sizes((0..5).map(|_| sample(vec![Value::Int(1); 400])).collect()), [2, 2, 1]);
    let text = Value::Text("x".repeat(PART_TEXT / 2 + 1).as_str().into());
    assert_eq!(sizes(vec![sample(vec![text.clone()]), sample(vec![text.clone()]), sample(vec![text])]), [1, 1, 1]);
}
