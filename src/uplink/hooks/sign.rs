//! What a webhook's request says and how it is signed, as Standard Webhooks 1.0 defines it. Pure.

use crate::{
    model::{ClockReading, Event, EventKind, GatewayId, Key},
    uplink::dialect::told,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::hmac;

/// The word by which a webhook asks for an event. `None`: nobody may.
pub fn word(kind: &EventKind) -> Option<&'static str> {
    use crate::model::State;
    Some(match kind {
        EventKind::Status { state, .. } => match state {
            State::Online => "device.online",
            State::Suspect => "device.suspect",
            State::Offline => "device.offline",
            State::Unknown => "device.unknown",
        },
        EventKind::Registered { .. } => "device.registered",
        EventKind::Changed { .. } => "device.changed",
        EventKind::Alarm { .. } => "alarm",
        EventKind::Maintenance { .. } => "maintenance",
        EventKind::Command { .. } => "command",
        EventKind::Line { .. } => "line",
        EventKind::RefreshStopped { .. } => "refresh_stopped",
        EventKind::Uplink { .. } => "uplink",
        EventKind::Rule { .. } => "rule",
        EventKind::Schedule { .. } => "schedule",
        EventKind::DeadLetter { .. } => "dead_letter",
        EventKind::Gap { .. } => "gap",
        EventKind::Epoch { .. } => "start",
        EventKind::Clock { .. } => "clock",
        EventKind::Store { .. } => "store",
        EventKind::Progress { .. } => return None,
    })
}

/// The same for every sending of an event: its place in the stream.
pub fn id(gateway: &GatewayId, key: Key, n: usize) -> String {
    format!("{gateway}-{}-{}-{n}", key.epoch, key.seq)
}

/// `{"type":…,"gateway":…,"data":{…}}`, the data as in the cloud's event messages.
pub fn body(word: &str, gateway: &GatewayId, event: &Event, clock: ClockReading) -> String {
    let mut data = Vec::new();
    told(&mut data, event, clock);
    format!("{{\"type\":\"{word}\",\"gateway\":\"{gateway}\",\"data\":{}}}", String::from_utf8_lossy(&data))
}

/// `v1,` and the base64 of HMAC-SHA256 over id, seconds and body, with dots between them.
pub fn signature(key: &[u8], id: &str, seconds: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let tag = hmac::sign(&key, format!("{id}.{seconds}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{uplink::Secret, webhook},
        model::{AlarmKind, Boot, DeviceId, Epoch, Stream},
    };

    /// The example of the reference implementations of Standard Webhooks.
    #[test]
    fn a_known_signature() {
        let key = webhook::key(&Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into())).unwrap();
        let got = signature(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(got, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn an_event_is_told_as_the_cloud_hears_it() {
        let gateway = GatewayId::parse("plant-7").unwrap();
        let device = DeviceId::parse("plug-1").unwrap();
        let kind = EventKind::Alarm {
            device,
            alarm: AlarmKind::Offline,
            raised: true,
            reason: "offline for \"9\" s".into(),
            severity: None,
            rule: None,
            point: None,
            by: None,
        };
        let event = Event { at: Boot(2_000_000), kind };
        let word = word(&event.kind).unwrap();
        assert!(webhook::EVENTS.contains(&word));
        let body = body(word, &gateway, &event, ClockReading::synchronised(0));
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((json["type"].as_str(), json["gateway"].as_str()), (Some("alarm"), Some("plant-7")));
        assert_eq!((json["data"]["device"].as_str(), json["data"]["state"].as_str()), (Some("plug-1"), Some("raised")));
        let key = Key { epoch: Epoch(0xab), stream: Stream::Event, seq: 7 };
        assert_eq!(id(&gateway, key, 2), format!("plant-7-{}-7-2", Epoch(0xab)));
    }
}
