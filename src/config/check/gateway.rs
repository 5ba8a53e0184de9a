//! `[gateway]`.

use super::{Desk, id};
use crate::{
    config::{Gateway, keys::Keys, problem::Code, source::Place},
    model::GatewayId,
};
use std::{path::PathBuf, time::Duration};

pub fn check(root: &Keys<'_>, desk: &mut Desk<'_>) -> Option<Gateway> {
    let empty = Default::default();
    let (table, at) = root.sub("gateway", "[gateway]", &mut desk.out).unwrap_or((&empty, root.at));
    let trail = root.trail.then("gateway");
    let keys = Keys::open(table, at, &trail, "[gateway]", &["id", "data_dir", "run_dir", "clock_hold", "trust_rtc"], &mut desk.out);
    let gateway_id = if keys.has("id") {
        let text = keys.text("id", &mut desk.out);
        text.and_then(|t| id(t.it, t.at, keys.key("id"), GatewayId::parse, desk))
    } else {
        from_machine(at, desk)
    };
    let data_dir = directory(&keys, "data_dir", "STATE_DIRECTORY", "/var/lib/fieldgate", desk);
    let run_dir = directory(&keys, "run_dir", "RUNTIME_DIRECTORY", "/run/fieldgate", desk);
    let hold = keys.duration("clock_hold", Duration::ZERO..=Duration::from_secs(86_400), &mut desk.out);
    let clock_hold = hold.unwrap_or(Duration::from_secs(60));
    let trust_rtc = keys.flag("trust_rtc", &mut desk.out).unwrap_or(false);
    Some(Gateway { id: gateway_id?, data_dir, run_dir, clock_hold, trust_rtc })
}

/// `gw-` and the first 12 hex digits of the machine id: stable over restarts, different on every machine.
fn from_machine(at: Place, desk: &mut Desk<'_>) -> Option<GatewayId> {
    let digits = desk.around.machine_id.as_deref().map(str::trim).filter(|m| m.len() >= 12 && m.bytes().all(|b| b.is_ascii_hexdigit()));
    if let Some(digits) = digits {
        return GatewayId::parse(&format!("gw-{}", &digits[..12])).ok();
    }
    desk.out
        .error(Code::NoGatewayId, at, "gateway.id", "this gateway has no id")
        .because("no `id` under [gateway], and /etc/machine-id holds none")
        .want("[gateway] with id = \"plant-7\"")
        .want("systemd-machine-id-setup");
    None
}

fn directory(keys: &Keys<'_>, key: &str, variable: &str, default: &str, desk: &mut Desk<'_>) -> PathBuf {
    match keys.text(key, &mut desk.out) {
        Some(text) if text.it.is_empty() => {
            desk.out.error(Code::BadValue, text.at, keys.key(key), format!("`{key}` is empty")).want(format!("{key} = \"{default}\""));
            default.into()
        }
        Some(text) => desk.resolve(text.at, text.it),
        // systemd separates several directories by colons; ours is the first.
        None => desk.around.var(variable).and_then(|v| v.split(':').next().map(PathBuf::from)).unwrap_or_else(|| default.into()),
    }
}
