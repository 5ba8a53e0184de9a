//! The past of a device: its transitions, and how long it was there in a range.

use super::{
    Desk,
    commands::read,
    devices::shown,
    problem::Problem,
    status::{limit, said},
};
use crate::{
    engine::history::{Slot, past_of, transitions},
    model::{DeviceId, WallMs},
};
use axum::{
    extract::{Path, RawQuery, State},
    response::Json,
};
use serde_json::{Value, json};
use std::sync::Arc;

const DAY: i64 = 86_400_000;
/// A range that is asked for at once.
const MOST_DAYS: i64 = 400;
/// Parts of a range in a bar.
const SLOTS: u32 = 90;

pub async fn history(State(desk): State<Arc<Desk>>, Path(id): Path<String>, RawQuery(query): RawQuery) -> Result<Json<Value>, Problem> {
    let limit = limit(query.as_deref())? as usize;
    let (device, from, to) = asked(&desk, &id, query.as_deref()).await?;
    let (store, of) = (desk.sources.store.clone(), device.clone());
    let found = read(move || transitions(&store, &of, from, to)).await?;
    let row = |t: &crate::engine::history::Transition| json!({"at_ms": t.at.0, "state": t.state, "cause": t.cause, "missed": t.missed});
    let rows: Vec<Value> = found.iter().rev().take(limit).map(row).collect();
    Ok(Json(json!({"v": 1, "device": device, "from_ms": from.0, "to_ms": to.0, "transitions": rows})))
}

pub async fn uptime(State(desk): State<Arc<Desk>>, Path(id): Path<String>, RawQuery(query): RawQuery) -> Result<Json<Value>, Problem> {
    let (device, from, to) = asked(&desk, &id, query.as_deref()).await?;
    let (store, of, now) = (desk.sources.store.clone(), device.clone(), desk.sources.clock.now());
    let (up, slots) = read(move || past_of(&store, &of, (from, to), SLOTS, now)).await?;
    Ok(Json(json!({
        "v": 1, "device": device, "from_ms": from.0, "to_ms": to.0,
        "online_s": up.online_ms / 1000, "offline_s": up.offline_ms / 1000, "maintenance_s": up.maintenance_ms / 1000,
        "observed_s": up.observed_ms() / 1000, "online_share": up.online_share(), "observed_share": up.observed_share(),
        "changes": up.changes, "longest_outage": up.longest_outage.map(|o| json!({"from_ms": o.from.0, "s": o.ms / 1000})),
        "slots": slots.into_iter().map(Slot::letter).collect::<String>(),
    })))
}

/// The device, and the range: the last day if nothing is said.
async fn asked(desk: &Desk, id: &str, query: Option<&str>) -> Result<(DeviceId, WallMs, WallMs), Problem> {
    let now = desk.sources.store.clock().0.wall(desk.sources.clock.now()).0;
    let (from, to) = range(query, now)?;
    Ok((shown(desk, id).await?.card.status.device, WallMs(from), WallMs(to)))
}

fn range(query: Option<&str>, now: i64) -> Result<(i64, i64), Problem> {
    let moment = |key: &str| {
        let said = said(query, key).map(str::parse::<i64>).transpose();
        said.map_err(|_| Problem::unreadable(format!("`{key}` is a moment in milliseconds since 1970")))
    };
    let to = moment("to")?.unwrap_or(now).min(now);
    let from = moment("from")?.unwrap_or(to.saturating_sub(DAY));
    if from < to && to.saturating_sub(from) <= MOST_DAYS * DAY {
        return Ok((from, to));
    }
    Err(Problem::unreadable(format!("`from` lies before `to` and before now, and at most {MOST_DAYS} days before `to`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, want: Option<(i64, i64)>) {
        assert_eq!(range(Some(query), 100 * DAY).ok(), want, "{query}");
    }

    #[test]
    fn a_range_is_the_last_day_or_what_is_asked_within_bounds() {
        let now = 100 * DAY;
        check("", Some((99 * DAY, now)));
        check("from=5&to=7", Some((5, 7)));
        check("from=5", Some((5, now)));
        check(&format!("to={}", i64::MAX), Some((99 * DAY, now)));
        check("from=7&to=7", None);
        check("from=7&to=5", None);
        check("from=x", None);
        check(&format!("from={}", i64::MIN), None);
        check(&format!("from={}&to=1", 1 - MOST_DAYS * DAY), Some((1 - MOST_DAYS * DAY, 1)));
        check(&format!("from={}&to=1", -MOST_DAYS * DAY), None);
    }
}
