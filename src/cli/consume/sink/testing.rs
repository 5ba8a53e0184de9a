//! Messages for the tests of both sinks.

use super::{Delivery, Sink, Took};
use crate::uplink::dialect::read;

/// Two rows of the point `c`, one and `value`, at 1 s on the boot clock.
pub fn telemetry(seq: u64, offset: i64, value: &str) -> String {
    format!(
        r#"{{"v":1,"gateway":"g","epoch":"00000000000000aa","stream":"telemetry","seq":{seq},"backlog":false,"clock":{{"offset_ms":{offset},"quality":"synchronised","boot":3}},"devices":{{"d":[{{"at":{},"dt":[0,5],"v":{{"c":[1,{value}]}}}}]}}}}"#,
        1_000 + offset
    )
}

pub fn event(seq: u64, members: &str) -> String {
    format!(
        r#"{{"v":1,"gateway":"g","epoch":"00000000000000aa","stream":"event","seq":{seq},"clock":{{"offset_ms":0,"quality":"synchronised","boot":3}},"events":[{members}]}}"#
    )
}

pub fn epoch_event(seq: u64) -> String {
    event(seq, r#"{"type":"epoch","at":1,"epoch":"00000000000000aa","before":null,"telemetry":0,"event":0,"may_have_lost_ms":0}"#)
}

pub fn clock_event(seq: u64, offset_ms: i64) -> String {
    event(seq, &format!(r#"{{"type":"clock","at":1,"offset_ms":{offset_ms},"before_ms":5,"synchronised":true}}"#))
}

#[track_caller]
pub fn put(sink: &mut dyn Sink, text: &str) -> Took {
    let message = read::message(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e}"));
    let topic = format!("fieldgate/g/{}", message.stream.word());
    sink.take(&Delivery { topic: &topic, body: text.as_bytes(), received_ms: 7 }, &message).unwrap()
}
