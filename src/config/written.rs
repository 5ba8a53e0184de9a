//! Routes as an operator could have written them: what presets become, to be read or to be changed and kept.

use super::{
    Route, RouteKind, Shape,
    mqtt::{Reply, Unknown},
    words::duration_text,
};
use std::fmt::Write;

/// A table of `[mqtt.route]`.
pub fn route(route: &Route) -> String {
    let mut lines = Lines::default();
    lines.put("topic", text(&route.topic));
    match &route.kind {
        RouteKind::Telemetry { values, time, shape } => {
            lines.put("kind", text("telemetry"));
            lines.put_some("time", time.as_deref().map(text));
            lines.put_some("values", table(values.iter().map(|(point, pointer)| (point.as_str(), text(pointer)))));
            shaped(&mut lines, shape);
        }
        RouteKind::Status { online, offline } => {
            lines.put("kind", text("status"));
            lines.put_some("online", list(online));
            lines.put_some("offline", list(offline));
        }
        RouteKind::Attributes { at, name } => {
            lines.put("kind", text("attributes"));
            lines.put_some("at", at.as_deref().map(text));
            lines.put_some("name", name.as_deref().map(text));
        }
        RouteKind::Command { payload, reply, qos, name } => {
            lines.put("kind", text("command"));
            lines.put_some("name", name.as_deref().map(text));
            lines.put_some("payload", table(payload.iter().map(|(value, sent)| (value.as_str(), text(sent)))));
            lines.put_some("reply", reply.as_ref().and_then(answered));
            lines.put_some("qos", (*qos != 1).then(|| qos.to_string()));
        }
    }
    let unknown = match route.unknown {
        Unknown::Register => None,
        Unknown::Quarantine => Some("quarantine"),
        Unknown::Refuse => Some("refuse"),
    };
    lines.put_some("unknown", unknown.map(text));
    let defaults = [("offline_after", route.offline_after), ("alarm_after", route.alarm_after)];
    lines.put_some("defaults", table(defaults.iter().filter_map(|(key, after)| Some((*key, text(&duration_text((*after)?)))))));
    let ping = route.ping.as_ref().and_then(|p| table([("topic", text(&p.topic)), ("payload", text(&p.payload))]));
    lines.put_some("ping", ping);
    format!("[mqtt.route.{}]\n{}", route.id, lines.0)
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn put(&mut self, key: &str, value: String) {
        let _ = writeln!(self.0, "{key} = {value}");
    }

    fn put_some(&mut self, key: &str, value: Option<String>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }
}

fn shaped(lines: &mut Lines, shape: &Shape) {
    let Shape { at, name, only, except, switches, words } = shape;
    lines.put_some("at", at.as_deref().map(text));
    lines.put_some("name", name.as_deref().map(text));
    lines.put_some("only", list(only));
    lines.put_some("except", list(except));
    lines.put_some("switches", list(switches));
    lines.put_some("words", table(words.iter().map(|(word, on)| (word.as_str(), on.to_string()))));
}

fn answered(reply: &Reply) -> Option<String> {
    let within = text(&duration_text(reply.within));
    let fields = [("topic", Some(text(&reply.topic))), ("value", reply.value.as_deref().map(text)), ("within", Some(within))];
    table(fields.into_iter().filter_map(|(key, value)| Some((key, value?))))
}

/// What JSON escapes, TOML understands.
fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// `None`: it has nothing in it.
fn list(texts: &[String]) -> Option<String> {
    (!texts.is_empty()).then(|| format!("[{}]", texts.iter().map(|t| text(t)).collect::<Vec<_>>().join(", ")))
}

fn table<'a>(fields: impl IntoIterator<Item = (&'a str, String)>) -> Option<String> {
    let bare = |key: &str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    let one = |(key, value): (&str, String)| format!("{} = {value}", if bare(key) { key.to_owned() } else { text(key) });
    let fields: Vec<String> = fields.into_iter().map(one).collect();
    (!fields.is_empty()).then(|| format!("{{ {} }}", fields.join(", ")))
}
