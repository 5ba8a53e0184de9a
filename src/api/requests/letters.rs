//! `{"dead_letters":{"do":"list"|"replay"|"purge","ids":[…],"source":…,"older_ms":…,"limit":…}}`.

use crate::{
    api::{control::refuse, letters, status::Sources},
    model::Settled,
    store::{Change, DeadLetterRow},
    system::receipt::awaited,
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::oneshot;

/// What a letter that is replayed may take until it is durable again.
const KEPT_WITHIN: Duration = Duration::from_secs(5);

pub async fn answer(asked: &Value, sources: &Sources) -> Value {
    let asked = &asked["dead_letters"];
    let now = sources.clock.reading().wall(sources.clock.now());
    let Some((filter, limit)) = letters::filter(asked, now) else {
        return refuse("unreadable", "ids are numbers, source is text, older_ms and limit are numbers");
    };
    let store = sources.store.clone();
    // Reads from the disk.
    let found = match tokio::task::spawn_blocking(move || store.dead_letters_of(&filter, limit)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return refuse("unreadable", &error.to_string()),
        Err(_) => return refuse("stopping", "the daemon is stopping"),
    };
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    match asked["do"].as_str() {
        None | Some("list") => return letters::document(&found),
        Some("purge") => done.extend(found.iter().map(|letter| letter.id)),
        Some("replay") => {
            for letter in found.iter().rev() {
                match replay(letter, sources).await {
                    Ok(()) => done.push(letter.id),
                    Err(why) => failed.push(json!({"id": letter.id, "why": why})),
                }
            }
        }
        Some(_) => return refuse("unreadable", "`do` is list, replay or purge"),
    }
    let (tell, told) = oneshot::channel();
    sources.store.submit(vec![Change::ForgetLetters(done.clone())], |result| _ = tell.send(result.is_ok())).await;
    if !done.is_empty() && told.await != Ok(true) {
        return refuse("not-stored", "state.db cannot be written, so the letters are still here");
    }
    json!({"v": 1, "done": done, "failed": failed})
}

async fn replay(letter: &DeadLetterRow, sources: &Sources) -> Result<(), String> {
    let (receipt, told) = awaited();
    (sources.replay)(letter, receipt).await?;
    match tokio::time::timeout(KEPT_WITHIN, told).await {
        Ok(Ok(Settled::Kept)) => Ok(()),
        _ => Err("it could not be kept; it stays among the dead letters".into()),
    }
}
