//! Devices: the list, one with its points, and its last values with their age.

use super::{Desk, problem::Problem};
use crate::{
    api::{json::plain, status},
    engine::Shown,
    model::DeviceId,
};
use axum::{
    extract::{Path, State},
    response::Json,
};
use serde_json::{Value, json};
use std::sync::Arc;

pub async fn list(State(desk): State<Arc<Desk>>) -> Result<Json<Value>, Problem> {
    document(&desk).await.map(Json).ok_or_else(stopping)
}

/// `None`: the engine has stopped.
pub async fn document(desk: &Desk) -> Option<Value> {
    let snapshot = desk.sources.engine.snapshot().await?;
    let now = desk.sources.clock.now();
    let lines = snapshot.lines.iter().map(|(id, state, reason)| json!({"id": id, "state": state, "reason": reason}));
    Some(json!({
        "v": 1,
        "gateway": desk.sources.gateway,
        "server_time": desk.sources.store.clock().0.wall(now).0,
        "devices": snapshot.devices.iter().map(|d| status::device(d, now)).collect::<Vec<_>>(),
        "quarantined": snapshot.quarantined,
        "lines": lines.collect::<Vec<_>>(),
    }))
}

pub async fn one(State(desk): State<Arc<Desk>>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let Shown { card, quarantined, .. } = shown(&desk, &id).await?;
    let mut row = status::device(&card.status, desk.sources.clock.now());
    row["v"] = json!(1);
    row["profile"] = json!(card.profile);
    row["quarantined"] = json!(quarantined);
    let point = |p: &crate::model::PointCard| json!({"id": p.id, "unit": p.unit, "type": p.kind, "writable": p.writable});
    row["points"] = card.points.iter().map(point).collect();
    Ok(Json(row))
}

pub async fn values(State(desk): State<Arc<Desk>>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(rows(&desk, &shown(&desk, &id).await?)))
}

/// Each point that has a value, in the order of the device's card.
pub fn rows(desk: &Desk, shown: &Shown) -> Value {
    let (now, clock) = (desk.sources.clock.now(), desk.sources.store.clock().0);
    let rows = shown.values.iter().map(|(point, at, value)| {
        let unit = shown.card.points.iter().find(|p| p.id == *point).map_or("", |p| p.unit.as_str());
        let age = now.since(*at).as_secs_f64();
        json!({"point": point, "value": plain(value), "unit": unit, "at_ms": clock.wall(*at).0, "age_s": (age * 1000.0).round() / 1000.0})
    });
    json!({"v": 1, "device": shown.card.status.device, "values": rows.collect::<Vec<_>>()})
}

async fn shown(desk: &Desk, id: &str) -> Result<Shown, Problem> {
    let unknown = || Problem::unknown_device(format!("there is no device {id:?} here"));
    let device = DeviceId::parse(id).map_err(|_| unknown())?;
    desk.sources.engine.device(&device).await.ok_or_else(unknown)
}

pub fn stopping() -> Problem {
    Problem::stopping("the engine has stopped")
}
