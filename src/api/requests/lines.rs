//! `{"get":"lines"}`: the ports and connections that this daemon holds, so that site tools take turns instead of disturbing.

use crate::{api::status::Sources, config::Transport, model::Settings};
use serde_json::{Value, json};

pub fn answer(sources: &Sources) -> Value {
    let lines: Vec<Value> = sources
        .doors
        .iter()
        .map(|door| {
            let line = &door.line;
            let mut row = json!({"id": line.id, "timeout_ms": line.timeout.as_millis().try_into().unwrap_or(u64::MAX)});
            match &line.transport {
                Transport::Serial(s) => {
                    row["path"] = json!(s.path);
                    row["settings"] = json!(Settings { baud: s.baud, parity: s.parity, bits: s.bits, stop: s.stop });
                }
                Transport::Tcp { host, port } | Transport::RtuOverTcp { host, port } => {
                    row["host"] = json!(host);
                    row["port"] = json!(port);
                }
            }
            row
        })
        .collect();
    json!({"lines": lines})
}
