//! What every request passes before its route: a place, a token with the right role, its caller's rate, a body within its
//! size and time. And what every answer carries.

use super::{
    Desk,
    access::{Access, Caller, Need, Refused},
    problem::Problem,
    rates,
};
use crate::{config::api::Rights, limits};
use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

/// A route's door.
#[derive(Clone)]
pub struct Gate {
    pub desk: Arc<Desk>,
    pub need: Need,
}

/// Who asks where anyone may. `None`: nobody said.
#[derive(Clone)]
pub struct Asker(pub Option<Caller>);

pub async fn gate(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let mut response = match pass(&gate, request).await {
        Ok((request, place)) => {
            let response = next.run(request).await;
            drop(place);
            response
        }
        Err(problem) => problem.into_response(),
    };
    // An address with escapes that are no text never reaches its route.
    if response.status() == StatusCode::BAD_REQUEST {
        response = Problem::unreadable("the address cannot be read").into_response();
    }
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn pass(gate: &Gate, request: Request) -> Result<(Request, tokio::sync::OwnedSemaphorePermit), Problem> {
    let desk = &gate.desk;
    let (mut parts, body) = request.into_parts();
    let nobody = gate.need == Need::Anyone && !Access::is_claimed(&parts.headers);
    let caller = if nobody { None } else { Some(admit(desk, &parts, gate.need)?) };
    let Ok(place) = Arc::clone(&desk.requests).try_acquire_owned() else {
        return Err(Problem::busy("too many requests are being answered").after(Duration::from_secs(1)));
    };
    let (who, rate) = match (&caller, device_of(&parts)) {
        // All of them together: they cannot be told apart.
        (None, _) => ("-".to_owned(), rates::PERSON),
        (Some(Caller { rights: Rights::Device(_) | Rights::Devices(_), .. }), Some(device)) => (format!("d {device}"), rates::DEVICE),
        (Some(caller), _) => (format!("p {}", caller.name), rates::PERSON),
    };
    let now = desk.sources.clock.now();
    let taken = desk.rates.lock().unwrap_or_else(PoisonError::into_inner).take(&who, rate, now);
    taken.map_err(|wait| Problem::too_many(format!("at most {} a second, {} at once", rate.a_second, rate.at_once)).after(wait))?;
    parts.extensions.insert(Asker(caller.clone()));
    if let Some(caller) = caller {
        parts.extensions.insert(caller);
    }
    let body = if parts.method == Method::POST { Body::from(whole(&parts, body).await?) } else { Body::empty() };
    Ok((Request::from_parts(parts, body), place))
}

fn admit(desk: &Desk, parts: &Parts, need: Need) -> Result<Caller, Problem> {
    desk.access.admit(&parts.headers, device_of(parts), need).map_err(|refused| match refused {
        Refused::Unknown => Problem::unauthorized("the request carries no token that is known here"),
        Refused::Missing(what) => Problem::forbidden(format!("this needs {what}")),
    })
}

/// The device that the address names, as it is written there: an id needs no escapes.
fn device_of(parts: &Parts) -> Option<&str> {
    parts.uri.path().strip_prefix("/api/v1/devices/")?.split('/').next()
}

async fn whole(parts: &Parts, body: Body) -> Result<axum::body::Bytes, Problem> {
    let large = || Problem::too_large(format!("at most {} bytes", limits::PAYLOAD_BYTES));
    let said = parts.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if said.is_some_and(|n| n > limits::PAYLOAD_BYTES as u64) {
        return Err(large());
    }
    match tokio::time::timeout(limits::API_BODY_WITHIN, to_bytes(body, limits::PAYLOAD_BYTES)).await {
        Err(_) => Err(Problem::too_slow(format!("it was not here within {} s", limits::API_BODY_WITHIN.as_secs()))),
        Ok(Ok(bytes)) => Ok(bytes),
        // Without a length it is known only when the limit is reached.
        Ok(Err(error)) if error.to_string().contains("limit") => Err(large()),
        Ok(Err(error)) => Err(Problem::unreadable(format!("the content broke off: {error}"))),
    }
}
