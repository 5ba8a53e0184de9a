//! `/ws/devices`: the list of devices, then each move of one; every few seconds a `tick` with the time, so that silence is
//! told apart from calm. `{"watch":"boiler"}` adds that device's values once a second, `{"watch":null}` ends it.
//!
//! A follower that takes nothing for a while, or that is too far behind, is cut off: it connects again and gets the list.

use super::{Desk, devices, problem::Problem};
use crate::{api::status, limits, model::DeviceId};
use axum::{
    extract::{
        State,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    response::Response,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{
        OwnedSemaphorePermit,
        broadcast::error::{RecvError, TryRecvError},
    },
    time::{MissedTickBehavior, interval, timeout},
};

const TICK: Duration = Duration::from_secs(5);
const VALUES: Duration = Duration::from_secs(1);
/// Moves in one message.
const TOGETHER: usize = 256;
/// What a follower says is short.
const SAID_BYTES: usize = 4096;
const PROTOCOL: &str = "fieldgate";

/// The codes of RFC 6455 for who goes away and for who is to try again.
const GOING: u16 = 1001;
const TRY_AGAIN: u16 = 1013;

pub async fn follow(
    State(desk): State<Arc<Desk>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|e| Problem::upgrade(e.to_string()))?;
    let Ok(place) = Arc::clone(&desk.followers).try_acquire_owned() else {
        return Err(Problem::busy(format!("{} follow already", limits::API_FOLLOWERS)).after(TICK));
    };
    let upgrade = upgrade.protocols([PROTOCOL]).max_message_size(SAID_BYTES).max_frame_size(SAID_BYTES);
    Ok(upgrade.on_upgrade(move |socket| tell(socket, desk, place)))
}

/// Why a follower is let go.
enum End {
    /// It went by itself, or takes nothing.
    Gone,
    Stopping,
    Behind,
}

async fn tell(mut socket: WebSocket, desk: Arc<Desk>, place: OwnedSemaphorePermit) {
    let (code, reason) = match talk(&mut socket, &desk).await {
        End::Gone => return drop(place),
        End::Stopping => (GOING, "the gateway is stopping"),
        End::Behind => (TRY_AGAIN, "too slow: connect again"),
    };
    let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
    let _ = timeout(Duration::from_secs(1), socket.send(close)).await;
    drop(place);
}

async fn talk(socket: &mut WebSocket, desk: &Desk) -> End {
    // Before the list, so that no move falls between.
    let mut moves = desk.sources.engine.live();
    let Some(mut list) = devices::document(desk).await else { return End::Stopping };
    list["type"] = json!("device_list");
    if !send(socket, &list).await {
        return End::Gone;
    }
    let mut watched: Option<DeviceId> = None;
    let (mut tick, mut values) = (interval(TICK), interval(VALUES));
    values.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            biased;
            () = desk.stop.cancelled() => return End::Stopping,
            moved = moves.recv() => {
                let mut rows = match moved {
                    Ok(first) => vec![first],
                    Err(RecvError::Lagged(_)) => return End::Behind,
                    Err(RecvError::Closed) => return End::Stopping,
                };
                while rows.len() < TOGETHER {
                    match moves.try_recv() {
                        Ok(more) => rows.push(more),
                        Err(TryRecvError::Lagged(_)) => return End::Behind,
                        Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                    }
                }
                let now = desk.sources.clock.now();
                json!({"type": "device_update", "devices": rows.iter().map(|d| status::device(d, now)).collect::<Vec<_>>()})
            }
            said = socket.recv() => {
                match said {
                    Some(Ok(Message::Text(text))) => watched = wanted(text.as_str()),
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_))) => {}
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return End::Gone,
                }
                continue;
            }
            _ = tick.tick() => {
                let clock = desk.sources.store.clock().0;
                json!({"type": "tick", "server_time": clock.wall(desk.sources.clock.now()).0, "clock": clock.quality})
            }
            _ = values.tick(), if watched.is_some() => {
                let Some(device) = &watched else { continue };
                let Some(shown) = desk.sources.engine.device(device).await else { continue };
                let mut rows = devices::rows(desk, &shown);
                rows["type"] = json!("values");
                rows
            }
        };
        if !send(socket, &message).await {
            return End::Gone;
        }
    }
}

/// What is no wish ends the watching.
fn wanted(text: &str) -> Option<DeviceId> {
    let said: Value = serde_json::from_str(text).ok()?;
    DeviceId::parse(said.get("watch")?.as_str()?).ok()
}

/// `false`: it takes nothing any more.
async fn send(socket: &mut WebSocket, message: &Value) -> bool {
    let message = Message::Text(message.to_string().into());
    matches!(timeout(limits::API_FOLLOWER_WITHIN, socket.send(message)).await, Ok(Ok(())))
}
