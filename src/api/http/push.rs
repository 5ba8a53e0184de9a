//! What devices send: heartbeats, telemetry, the ends of orders. Handed to the driver as it came; its answer as JSON.

use super::{Desk, access::Caller, problem::Problem};
use crate::{
    api::json::plain,
    model::{Action, Boot, CommandId, DeviceId, PushAnswer, PushAsk, PushRefusal, PushWhat, WaitingOrder},
};
use axum::{
    Extension,
    body::Bytes,
    extract::{Path, State},
    response::Json,
};
use serde_json::{Map, Value, json};
use std::{sync::Arc, time::Duration};

type Answer = Result<Json<Value>, Problem>;

pub async fn heartbeat(
    State(desk): State<Arc<Desk>>,
    Extension(caller): Extension<Caller>,
    Path(device): Path<String>,
    body: Bytes,
) -> Answer {
    ask(&desk, &caller, &device, PushWhat::Heartbeat, body).await
}

pub async fn telemetry(
    State(desk): State<Arc<Desk>>,
    Extension(caller): Extension<Caller>,
    Path(device): Path<String>,
    body: Bytes,
) -> Answer {
    ask(&desk, &caller, &device, PushWhat::Telemetry, body).await
}

pub async fn acknowledge(
    State(desk): State<Arc<Desk>>,
    Extension(caller): Extension<Caller>,
    Path((device, command)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let Ok(id) = CommandId::parse(&command) else { return Err(Problem::unknown_command(format!("{command:?} is no id of a command"))) };
    match ask(&desk, &caller, &device, PushWhat::Acknowledge(id), body).await {
        // It has ended before: whoever says so again is not told that it never was.
        Err(problem) if problem.is_unknown_command() => super::commands::ended(&desk, &device, &command).await.ok_or(problem),
        answer => answer,
    }
}

async fn ask(desk: &Desk, caller: &Caller, device: &str, what: PushWhat, body: Bytes) -> Answer {
    let id = DeviceId::parse(device).map_err(|e| Problem::unknown_device(format!("{device:?} is no id of a device: {e}")))?;
    let answer = (desk.push)(PushAsk { device: id, what, body: body.into(), from: caller.name.to_string() }).await;
    // Looked at after the answer, so that the time is the one at which it leaves.
    let (clock, now) = (desk.sources.store.clock().0, desk.sources.clock.now());
    let mut document = match answer {
        PushAnswer::Alive { orders } => json!({"status": "ok", "commands": commands(&orders, now)}),
        PushAnswer::Ended { orders } => json!({"status": "ended", "commands": commands(&orders, now)}),
        PushAnswer::Kept { samples, values, stamped, again } => {
            json!({"status": if again { "known" } else { "kept" }, "samples": samples, "values": values, "stamped": stamped})
        }
        PushAnswer::Refused(refusal) => return Err(problem(refusal, device)),
    };
    document["server_time"] = json!(clock.wall(now).0);
    document["clock"] = json!(clock.quality);
    Ok(Json(document))
}

fn commands(orders: &[WaitingOrder], now: Boot) -> Vec<Value> {
    let one = |order: &WaitingOrder| {
        let mut row = json!({"id": order.id, "expires_in_ms": u64::try_from(order.deadline.since(now).as_millis()).unwrap_or(u64::MAX)});
        match &order.action {
            Action::Write(values) => {
                row["write"] = values.iter().map(|(p, v)| (p.to_string(), plain(v))).collect::<Map<String, Value>>().into();
            }
            Action::Read(points) => row["read"] = json!(points),
            // Of the gateway: no device gets one.
            Action::Run(_) | Action::Acknowledge(_) | Action::Each(_) | Action::Cancel(_) | Action::Own(_) => {}
        }
        row
    };
    orders.iter().map(one).collect()
}

fn problem(refusal: PushRefusal, device: &str) -> Problem {
    let soon = Duration::from_secs(1);
    match refusal {
        PushRefusal::Unreadable(why) => Problem::unreadable(why),
        PushRefusal::Unwelcome(why) => Problem::unknown_device(why),
        PushRefusal::NoOrder => Problem::unknown_command(format!("no such command waits for {device}")),
        PushRefusal::Underway => Problem::underway("its first copy is not answered yet").after(soon),
        PushRefusal::NotKept => Problem::not_kept("the disk did not take it in time, and the cloud did not acknowledge it").after(soon),
        PushRefusal::Stopping => Problem::stopping("nothing is taken in any more").after(soon),
    }
}
