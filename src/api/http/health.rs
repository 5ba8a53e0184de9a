//! `GET /health`: whether it lives and works, for who looks every few seconds; with a token, what is wrong and why.
//!
//! Live: the engine answers and the thread that writes comes round. Ready: what comes in is kept, too. A cloud that is away, a line
//! that is down and a device that is silent are what the gateway is for: they are said, and it is ready all the same. So a
//! supervisor that acts on this never restarts a gateway that holds what the cloud has not got yet.

use super::{Desk, access::Caller, gate::Asker};
use crate::{
    api::status,
    config::api::Rights,
    engine::Figures,
    model::{Boot, LineState, StoreHealth, UplinkState},
};
use axum::{
    Extension,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Json, Response},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::timeout};

/// An engine that answers nothing for so long has hung; it answers within milliseconds.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// As the watchdog judges.
const WRITER_WITHIN: Duration = Duration::from_secs(30);
/// Who looks more often is told the same again: strangers may ask, and a question to the engine is work.
const FRESH: Duration = Duration::from_secs(1);

/// The last answer of the engine, and when it came. `None` of it: there was none.
#[derive(Default)]
pub struct Pulse(Mutex<Option<(Boot, Option<Arc<Figures>>)>>);

impl Pulse {
    /// Not older than a second.
    pub async fn feel(&self, desk: &Desk) -> Option<Arc<Figures>> {
        let mut last = self.0.lock().await;
        if let Some((at, figures)) = &*last
            && desk.sources.clock.now().since(*at) < FRESH
        {
            return figures.clone();
        }
        let figures = timeout(ANSWERS_WITHIN, desk.sources.engine.figures()).await.ok().flatten().map(Arc::new);
        *last = Some((desk.sources.clock.now(), figures.clone()));
        figures
    }
}

/// What decides.
struct Judged {
    live: bool,
    ready: bool,
    /// Each with its part.
    errors: Vec<(String, String)>,
}

fn judge(engine: Option<&Figures>, writer_age: Duration, files: &[StoreHealth], stopping: bool) -> Judged {
    let mut errors = Vec::new();
    if engine.is_none() {
        errors.push(("engine".to_owned(), format!("it did not answer within {} s", ANSWERS_WITHIN.as_secs())));
    }
    if writer_age >= WRITER_WITHIN {
        errors.push(("store".to_owned(), format!("the disk has not answered for {} s", writer_age.as_secs())));
    }
    let live = errors.is_empty();
    for file in files.iter().filter(|file| !file.state.is_written()) {
        errors.push((file.file.to_owned(), said(&file.state.word().replace('_', " "), &file.detail)));
    }
    if stopping {
        errors.push(("gateway".to_owned(), "it is stopping".to_owned()));
    }
    Judged { live, ready: errors.is_empty(), errors }
}

fn said(state: &str, why: &str) -> String {
    if why.is_empty() { state.to_owned() } else { format!("{state}: {why}") }
}

pub fn ready(desk: &Desk, engine: Option<&Figures>) -> bool {
    judge(engine, desk.sources.store.writer_age(), &desk.sources.store.health(), desk.stop.is_cancelled()).ready
}

pub async fn document(State(desk): State<Arc<Desk>>, Extension(Asker(caller)): Extension<Asker>) -> Response {
    let engine = desk.pulse.feel(&desk).await;
    let store = &desk.sources.store;
    let judged = judge(engine.as_deref(), store.writer_age(), &store.health(), desk.stop.is_cancelled());
    let code = if judged.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut document = json!({"v": 1, "live": judged.live, "ready": judged.ready});
    // A stranger and a device learn no more than that.
    if let Some(Caller { rights: Rights::Person(_), .. }) = caller {
        more(&desk, engine.as_deref(), judged, &mut document);
    }
    (code, Json(document)).into_response()
}

fn more(desk: &Desk, engine: Option<&Figures>, judged: Judged, document: &mut Value) {
    let sources = &desk.sources;
    let now = sources.clock.now();
    let age = |at: Boot| now.since(at).as_secs();
    let mut errors = judged.errors;
    let uplinks: Vec<Value> = sources
        .uplinks
        .iter()
        .map(|(id, required, figures)| {
            let f = figures.borrow();
            if f.state == UplinkState::Down {
                errors.push((format!("uplink {id}"), said("down", &f.reason)));
            }
            let mut row = status::uplink(id, &f, now);
            row["required"] = json!(required);
            row["acknowledged_age_s"] = json!(f.acknowledged.map(age));
            row
        })
        .collect();
    let lines = engine.map_or(&[][..], |e| e.lines.as_slice());
    for (id, _, reason) in lines.iter().filter(|(_, state, _)| *state == LineState::Down) {
        errors.push((format!("line {id}"), said("down", reason)));
    }
    if let Some(n) = engine.map(|e| e.count("offline")).filter(|n| *n > 0) {
        errors.push(("devices".to_owned(), format!("{n} offline")));
    }
    let spool = sources.store.spool().figures(now);
    if !spool.trouble.is_empty() {
        errors.push(("spool".to_owned(), spool.trouble.clone()));
    }
    let history = sources.samples.as_ref().map(|s| s.figures());
    if let Some(why) = history.as_ref().and_then(|h| h.trouble.clone()) {
        errors.push(("history".to_owned(), why));
    }
    document["gateway"] = json!(sources.gateway);
    document["version"] = json!(env!("CARGO_PKG_VERSION"));
    document["running_s"] = json!(age(sources.started));
    document["errors"] = errors.iter().map(|(part, cause)| json!({"part": part, "cause": cause})).collect();
    document["parts"] = json!({
        "engine": engine.map(|e| json!({
            "devices": e.devices, "messages": e.urgent + e.bulk, "readings": e.readings, "samples": e.samples,
            "last_reading_age_s": e.heard.map(age), "waiting": e.urgent_waiting + e.bulk_waiting,
            "commands_open": e.commands_open, "alarms_unseen": e.alarms_unseen,
        })),
        "uplinks": uplinks,
        "lines": lines.iter().map(|(id, state, reason)| json!({"id": id, "state": state, "reason": reason})).collect::<Vec<_>>(),
        "store": sources.store.health().iter().map(|file| status::store(file, now)).collect::<Vec<_>>(),
        "spool": {
            "waiting": spool.waiting_samples, "oldest_age_s": spool.oldest_age_ms.map(|ms| ms / 1000), "dropped": spool.dropped_samples,
            "bytes": spool.disk_bytes, "max": spool.disk_max,
        },
        "history": history.as_ref().map(status::history),
        "clock": {"quality": sources.store.clock().0.quality},
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::StoreState;

    fn file(state: StoreState) -> StoreHealth {
        StoreHealth { file: "state.db", state, since: Boot(0), detail: "no space left".into() }
    }

    #[track_caller]
    fn check(engine: bool, writer_s: u64, state: StoreState, stopping: bool, want: (bool, bool), errors: &[&str]) {
        let figures = Figures::default();
        let judged = judge(engine.then_some(&figures), Duration::from_secs(writer_s), &[file(state)], stopping);
        assert_eq!((judged.live, judged.ready), want);
        assert_eq!(judged.errors.iter().map(|(part, cause)| format!("{part}: {cause}")).collect::<Vec<_>>(), errors);
    }

    #[test]
    fn it_is_ready_while_what_comes_in_is_kept() {
        check(true, 0, StoreState::Ok, false, (true, true), &[]);
        check(true, 5, StoreState::Slow, false, (true, true), &[]);
        check(true, 0, StoreState::Full, false, (true, false), &["state.db: full: no space left"]);
        check(true, 0, StoreState::Ok, true, (true, false), &["gateway: it is stopping"]);
        check(false, 0, StoreState::Ok, false, (false, false), &["engine: it did not answer within 2 s"]);
        check(true, 31, StoreState::Ok, false, (false, false), &["store: the disk has not answered for 31 s"]);
    }
}
