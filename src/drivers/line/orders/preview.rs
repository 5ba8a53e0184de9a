//! What a write would do, without doing it: for a dry run.

use super::{
    steps::{Look, Step, Write, writes},
    words::fixed,
};
use crate::{
    config::Device,
    drivers::modbus::Ask,
    model::{PointId, Value},
};
use std::collections::BTreeMap;

/// One request of a write and the reply that it needs, in the order of the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewStep {
    pub words: String,
    /// The PDU, without unit and checksum. Empty if it holds a secret.
    pub request: Vec<u8>,
    /// The reply's PDU, where it is known beforehand.
    pub expect: Option<Vec<u8>>,
}

/// The steps of writing these values, or why they cannot be written. Limits (`min`, `max`, `min_interval`) are the
/// engine's and not looked at here.
pub fn preview(device: &Device, values: &BTreeMap<PointId, Value>) -> Result<Vec<PreviewStep>, String> {
    let is_verified = |id: &&PointId| {
        let rule = device.points.iter().find(|p| p.id == **id).and_then(|p| p.write.as_ref());
        rule.is_some_and(|w| w.verify) && !device.broadcast
    };
    let verify: Vec<PointId> = values.keys().filter(is_verified).cloned().collect();
    let mut out = Vec::new();
    for step in writes(device, values, &verify)? {
        match step {
            Step::Write(write) => write_steps(device, &write, &mut out),
            Step::Check(check) => {
                let point = check.request.points.first().map(PointId::as_str).unwrap_or_default();
                let words = format!("read {point} back from {}:{} and compare", check.request.table.word(), check.request.start);
                out.push(step_of(words, &check.request.ask(), false));
            }
            Step::Read { request } => out.push(step_of("read".into(), &request.ask(), false)),
        }
    }
    Ok(out)
}

fn write_steps(device: &Device, write: &Write, out: &mut Vec<PreviewStep>) {
    let names: Vec<&str> = write.points.iter().map(PointId::as_str).collect();
    let names = names.join(", ");
    if let Some(look) = &write.look {
        out.push(step_of(look_words(look), &look.at, false));
    }
    for pre in &write.pre {
        let mut step = step_of(format!("write {} first, as {names} asks for", pre.register), &fixed(pre), !device.broadcast);
        if pre.secret {
            (step.request, step.expect) = (Vec::new(), None);
            step.words += "; its value is a secret and not shown";
        }
        out.push(step);
    }
    let function = write.ask.function();
    let mut words = match &write.ask {
        Ask::Raw(_) => format!("send the request of {names}"),
        ask => format!("write {names} at {} by function {function}", ask.start()),
    };
    let is_partial = write.look.as_ref().is_some_and(|l| l.masks.iter().any(|m| *m != u16::MAX));
    if is_partial && !matches!(write.ask, Ask::MaskWrite { .. }) {
        words += ", the bits that are not commanded filled in from what was read";
    }
    if device.broadcast {
        words += ", to all units; none answers";
    }
    out.push(step_of(words, &write.ask, !device.broadcast));
}

fn look_words(look: &Look) -> String {
    let reason = if look.if_changed { "to write only what differs" } else { "to keep what is not commanded" };
    format!("read what is there, {reason}")
}

fn step_of(words: String, ask: &Ask, is_echoed: bool) -> PreviewStep {
    let mut request = Vec::with_capacity(ask.request_len());
    ask.encode(&mut request);
    let expect = match ask {
        Ask::Read { .. } => None,
        _ if !is_echoed => None,
        Ask::Raw(raw) => raw.reply.iter().copied().collect(),
        _ => Some(request[..ask.reply_len().min(request.len())].to_vec()),
    };
    PreviewStep { words, request, expect }
}
