//! `{"site":{"line":"meters","ask":{…}}}`: one request of a site tool in its turn on a line; the answer is its report.

use crate::{
    api::{control::refuse, status::Sources},
    limits,
    model::{SiteAsk, SiteJob},
};
use serde_json::Value;
use tokio::sync::oneshot;

#[derive(serde::Deserialize)]
struct Asked {
    line: String,
    ask: SiteAsk,
}

pub async fn answer(asked: &Value, sources: &Sources) -> Value {
    let Asked { line, ask } = match serde_json::from_value(asked.clone()) {
        Ok(asked) => asked,
        Err(e) => return refuse("unreadable", &format!("a site request is {{\"line\":ID,\"ask\":{{…}}}}: {e}")),
    };
    let Some(door) = sources.doors.iter().find(|d| d.line.id.as_str() == line) else {
        return refuse("unknown-line", &format!("no line {line} runs here"));
    };
    let (tell, told) = oneshot::channel();
    let tell = Box::new(move |report| {
        let _ = tell.send(report);
    });
    let job = SiteJob { ask, deadline: sources.clock.now() + limits::SITE_WAIT, tell };
    if (door.site)(job).is_err() {
        return refuse("busy", &format!("line {line} takes no more requests now; try again"));
    }
    match told.await {
        Ok(report) => serde_json::to_value(report).unwrap_or_else(|e| refuse("unreadable", &e.to_string())),
        Err(_) => refuse("stopping", &format!("line {line} has ended")),
    }
}
