//! `GET /api/v1/dead-letters`: what was put aside, newest first.

use super::{Desk, commands::read, problem::Problem, status::limit};
use crate::{api::letters, store::LetterFilter};
use axum::{
    extract::{RawQuery, State},
    response::Json,
};
use serde_json::Value;
use std::sync::Arc;

pub async fn list(State(desk): State<Arc<Desk>>, RawQuery(query): RawQuery) -> Result<Json<Value>, Problem> {
    let limit = limit(query.as_deref())?;
    let store = desk.sources.store.clone();
    let found = read(move || store.dead_letters_of(&LetterFilter::default(), limit)).await?;
    Ok(Json(letters::document(&found)))
}
