//! `GET /api/v1/events`: what happened, newest first.

use super::{Desk, problem::Problem, relay::told, status::limit};
use crate::api::requests::events;
use axum::{
    extract::{RawQuery, State},
    response::Json,
};
use serde_json::{Value, json};
use std::sync::Arc;

pub async fn list(State(desk): State<Arc<Desk>>, RawQuery(query): RawQuery) -> Result<Json<Value>, Problem> {
    told(events::answer(&json!({"limit": limit(query.as_deref())?}), &desk.sources).await)
}
