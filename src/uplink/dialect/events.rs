//! Events as the cloud reads them: boot times turned into wall milliseconds, words as on every other surface.

use super::json::{Object, list, value};
use crate::model::{Boot, ClockReading, Event, EventKind, Missed, Outcome, PointId, Value};
use std::collections::BTreeMap;

/// `{"type":…,"at":…,…}`. Members of a type are always there; what is not known is null.
pub fn event(out: &mut Vec<u8>, event: &Event, clock: ClockReading) {
    let mut object = Object::begin(out);
    object.word("type", word(&event.kind)).number("at", wall(clock, event.at));
    members(&mut object, &event.kind, clock);
    object.end();
}

const fn word(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::Status { .. } => "status",
        EventKind::Line { .. } => "line",
        EventKind::Registered { .. } => "registered",
        EventKind::Changed { .. } => "changed",
        EventKind::Alarm { .. } => "alarm",
        EventKind::Maintenance { .. } => "maintenance",
        EventKind::Command { .. } => "command",
        EventKind::Schedule { .. } => "schedule",
        EventKind::RefreshStopped { .. } => "refresh_stopped",
        EventKind::Uplink { .. } => "uplink",
        EventKind::Rule { .. } => "rule",
        EventKind::Gap { .. } => "gap",
        EventKind::Epoch { .. } => "epoch",
        EventKind::Progress { .. } => "progress",
        EventKind::DeadLetter { .. } => "dead_letter",
        EventKind::Clock { .. } => "clock",
        EventKind::Store { .. } => "store",
    }
}

fn wall(clock: ClockReading, at: Boot) -> i64 {
    clock.wall(at).0
}

fn members(o: &mut Object<'_>, kind: &EventKind, clock: ClockReading) {
    match kind {
        EventKind::Status { device, line, state, cause, since, evidence, missed } => {
            o.word("device", device.as_str()).maybe_word("line", line.as_ref().map(|l| l.as_str()));
            o.word("state", state.word()).maybe_word("cause", cause.map(|c| c.word())).number("since", wall(clock, *since));
            o.maybe_word("evidence", evidence.map(|e| e.kind.word()));
            match evidence {
                Some(e) => o.number("evidence_at", wall(clock, e.at)),
                None => o.null("evidence_at"),
            };
            o.number("missed", missed);
        }
        EventKind::Line { line, state, reason } => {
            o.word("line", line.as_str()).word("state", state.word()).text("reason", reason);
        }
        EventKind::Registered { device, via } => {
            o.word("device", device.as_str()).text("via", via);
        }
        EventKind::Changed { device, attributes } => {
            let mut values = Object::begin(o.word("device", device.as_str()).key("attributes"));
            for (name, now) in attributes {
                match now {
                    Some(text) => values.text(name.as_str(), text),
                    None => values.null(name.as_str()),
                };
            }
            values.end();
        }
        EventKind::Alarm { device, alarm, raised, reason, severity, rule, point, by } => {
            let state = match (raised, by) {
                (false, _) => "cleared",
                (true, Some(_)) => "acknowledged",
                (true, None) => "raised",
            };
            o.word("device", device.as_str()).word("alarm", alarm.word()).word("state", state);
            o.word("severity", severity.unwrap_or(alarm.severity()).word()).text("reason", reason);
            o.maybe_word("point", point.as_ref().map(|p| p.as_str())).maybe_word("rule", rule.as_ref().map(|r| r.as_str()));
            match by {
                Some(by) => o.text("by", by),
                None => o.null("by"),
            };
        }
        EventKind::Maintenance { device, on, until, by, reason } => {
            o.word("device", device.as_str()).flag("on", *on);
            match until {
                Some(until) => o.number("until", wall(clock, *until)),
                None => o.null("until"),
            };
            o.text("by", by).text("reason", reason);
        }
        EventKind::Command { id, device, phase, reason, values, results } => {
            let device = (!device.is_gateway()).then_some(device.as_str());
            o.text("id", id.as_str()).maybe_word("device", device).word("phase", phase.word()).text("reason", reason);
            points(o.key("values"), values);
            if !results.is_empty() {
                let mut each = Object::begin(o.key("results"));
                for (device, Outcome { phase, reason, values, .. }) in results {
                    let mut one = Object::begin(each.key(device.as_str()));
                    one.word("phase", phase.word()).text("reason", reason);
                    points(one.key("values"), values);
                    one.end();
                }
                each.end();
            }
        }
        EventKind::Schedule { schedule, news, by, missed, first, last, policy, ran } => {
            o.word("schedule", schedule.as_str()).word("news", news.word()).text("by", by).number("missed", missed);
            o.number("first", first.map(|at| at.0)).number("last", last.map(|at| at.0));
            o.maybe_word("policy", policy.map(Missed::word)).number("ran", ran);
        }
        EventKind::RefreshStopped { device, point, reason } => {
            o.word("device", device.as_str()).word("point", point.as_str()).text("reason", reason);
        }
        EventKind::Uplink { uplink, state, reason, down_for_ms, changes } => {
            o.word("uplink", uplink.as_str()).word("state", state.word()).text("reason", reason);
            o.number("down_for_ms", down_for_ms).number("changes", changes);
        }
        EventKind::Rule { rule, webhook, reason } => {
            o.word("rule", rule.as_str()).text("webhook", webhook).text("reason", reason);
        }
        EventKind::Gap { epoch, stream, from, to, samples, reason, uplink, replaced_by } => {
            o.word("epoch", &epoch.to_string()).word("stream", stream.word());
            o.number("from", from).number("to", to).number("samples", samples).text("reason", reason);
            if let Some(uplink) = uplink {
                o.word("uplink", uplink.as_str());
            }
            if let Some(by) = replaced_by {
                let mut one = Object::begin(o.key("replaced_by"));
                one.word("epoch", &by.epoch.to_string()).number("from", by.from).number("to", by.to);
                one.end();
            }
        }
        EventKind::Epoch { epoch, before, telemetry, event, may_have_lost_ms } => {
            o.word("epoch", &epoch.to_string()).maybe_word("before", before.map(|b| b.to_string()).as_deref());
            o.number("telemetry", telemetry).number("event", event).number("may_have_lost_ms", may_have_lost_ms);
        }
        EventKind::Progress { alive } => list(o.key("alive"), alive.iter(), |out, a| {
            let mut one = Object::begin(out);
            one.word("epoch", &a.epoch.to_string()).word("stream", a.stream.word());
            one.number("lowest", a.lowest).number("highest", a.highest);
            one.end();
        }),
        EventKind::DeadLetter { source, reason, count } => {
            o.text("source", source).text("reason", reason).number("count", count);
        }
        EventKind::Clock { boot, offset_ms, before_ms, synchronised, reading } => {
            if let Some(boot) = boot {
                o.number("boot", boot.0);
            }
            o.number("offset_ms", offset_ms).number("before_ms", before_ms).flag("synchronised", *synchronised);
            if let Some(r) = reading {
                o.word("quality", r.quality.word()).number("error_ms", r.error_ms).word("source", r.source.word());
            }
        }
        EventKind::Store { file, state, detail } => {
            o.word("file", file).word("state", state.word()).text("detail", detail);
        }
    }
}

fn points(out: &mut Vec<u8>, values: &BTreeMap<PointId, Value>) {
    let mut object = Object::begin(out);
    for (point, v) in values {
        value(object.key(point.as_str()), v);
    }
    object.end();
}
