//! `GET /api/v1/status`: the document of `fieldgate status --json`; with `?all=true` every device.

use super::{Desk, problem::Problem};
use axum::{
    extract::{RawQuery, State},
    response::Json,
};
use serde_json::Value;
use std::sync::Arc;

pub async fn document(State(desk): State<Arc<Desk>>, RawQuery(query): RawQuery) -> Result<Json<Value>, Problem> {
    let all = said(query.as_deref(), "all") == Some("true");
    desk.sources.document(all).await.map(Json).ok_or_else(|| Problem::stopping("the engine has stopped"))
}

/// A value of the query, as it is written there.
pub fn said<'q>(query: Option<&'q str>, key: &str) -> Option<&'q str> {
    query?.split('&').filter_map(|pair| pair.split_once('=')).find_map(|(k, value)| (k == key).then_some(value))
}

/// Rows wanted, within what one answer may have.
pub fn limit(query: Option<&str>) -> Result<u32, Problem> {
    let most = crate::limits::API_ROWS;
    match said(query, "limit").map(str::parse::<u32>) {
        None => Ok(most.min(100)),
        Some(Ok(n)) => Ok(n.min(most)),
        Some(Err(_)) => Err(Problem::unreadable("`limit` is a whole number")),
    }
}
