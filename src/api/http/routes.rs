//! Every address with its method and who may use it, in one list: what is not in it is refused.

use super::{
    Desk,
    access::Need,
    commands, devices, events,
    gate::{Gate, gate},
    health, letters, live, metrics, pages, past,
    problem::Problem,
    push, relay, samples, status,
};
use crate::config::api::Role;
use axum::{
    Router,
    extract::State,
    http::HeaderMap,
    middleware::from_fn_with_state,
    routing::{MethodRouter, delete, get, post},
};
use std::sync::Arc;

pub struct Route {
    #[cfg_attr(not(test), expect(dead_code, reason = "for the test that walks all routes"))]
    pub method: &'static str,
    pub path: &'static str,
    pub need: Need,
    handler: MethodRouter<Arc<Desk>>,
}

const VIEW: Need = Need::Role(Role::Viewer);
const OPERATE: Need = Need::Role(Role::Operator);

/// What only one role above may use has its own line.
pub fn routes() -> Vec<Route> {
    let read = |path, handler| Route { method: "GET", path, need: VIEW, handler };
    let device = |path, handler| Route { method: "POST", path, need: Need::Device, handler };
    vec![
        read("/api/v1/status", get(status::document)),
        read("/api/v1/devices", get(devices::list)),
        read("/api/v1/devices/{id}", get(devices::one)),
        read("/api/v1/devices/{id}/values", get(devices::values)),
        read("/api/v1/devices/{id}/samples", get(samples::past)),
        read("/api/v1/devices/{id}/history", get(past::history)),
        read("/api/v1/devices/{id}/uptime", get(past::uptime)),
        device("/api/v1/devices/{id}/heartbeat", post(push::heartbeat)),
        device("/api/v1/devices/{id}/telemetry", post(push::telemetry)),
        device("/api/v1/devices/{id}/commands/{command}/ack", post(push::acknowledge)),
        read("/api/v1/commands", get(commands::list)),
        read("/api/v1/commands/{command}", get(commands::one)),
        Route { method: "POST", path: "/api/v1/commands", need: OPERATE, handler: post(commands::send) },
        Route { method: "DELETE", path: "/api/v1/commands/{command}", need: OPERATE, handler: delete(commands::cancel) },
        read("/api/v1/schedules", get(relay::schedules)),
        read("/api/v1/schedules/{schedule}", get(relay::schedule)),
        Route { method: "POST", path: "/api/v1/schedules", need: OPERATE, handler: post(relay::change_schedules) },
        Route { method: "POST", path: "/api/v1/devices/{id}/maintenance", need: OPERATE, handler: post(relay::maintain) },
        read("/api/v1/alarms", get(relay::alarms)),
        Route { method: "POST", path: "/api/v1/alarms/{alarm}/acknowledge", need: OPERATE, handler: post(relay::acknowledge) },
        read("/api/v1/rules", get(relay::rules)),
        read("/api/v1/rules/{rule}", get(relay::rule)),
        Route { method: "POST", path: "/api/v1/rules/{rule}", need: OPERATE, handler: post(relay::switch_rule) },
        read("/api/v1/caller", get(relay::caller)),
        read("/api/v1/dead-letters", get(letters::list)),
        read("/api/v1/events", get(events::list)),
        read("/ws/devices", get(live::follow)),
        read("/metrics", get(metrics::page)),
        Route { method: "GET", path: "/health", need: Need::Anyone, handler: get(health::document) },
    ]
}

pub(super) fn router(desk: Arc<Desk>) -> Router {
    let mut router = Router::new();
    for Route { path, need, handler, .. } in routes() {
        let gate_here = Gate { desk: Arc::clone(&desk), need };
        router = router.route(path, handler.route_layer(from_fn_with_state(gate_here, gate)));
    }
    // They hold no data, so they need no token: what shows on them is asked for with one.
    router = router.merge(pages::router());
    router.fallback(nowhere).method_not_allowed_fallback(otherwise).with_state(desk)
}

/// Who has no token does not learn what there is.
async fn nowhere(State(desk): State<Arc<Desk>>, headers: HeaderMap) -> Problem {
    known(&desk, &headers).err().unwrap_or_else(|| Problem::not_found("no such address"))
}

async fn otherwise(State(desk): State<Arc<Desk>>, headers: HeaderMap) -> Problem {
    known(&desk, &headers).err().unwrap_or_else(|| Problem::method("not with this method"))
}

fn known(desk: &Desk, headers: &HeaderMap) -> Result<(), Problem> {
    let known = desk.access.knows(headers);
    if known { Ok(()) } else { Err(Problem::unauthorized("the request carries no token that is known here")) }
}
