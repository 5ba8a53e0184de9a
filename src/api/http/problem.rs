//! Errors as RFC 9457 problem documents: what happened, to what, and what to do.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use std::time::Duration;

#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    /// Stable; docs/protocol.md lists them.
    kind: &'static str,
    title: &'static str,
    detail: String,
    remedy: &'static str,
    retry_after: Option<Duration>,
}

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident = $status:ident $kind:literal $title:literal $remedy:literal;)*) => {
        impl Problem {
            $($(#[$doc])* pub fn $name(detail: impl Into<String>) -> Problem {
                Problem { status: StatusCode::$status, kind: $kind, title: $title, detail: detail.into(), remedy: $remedy, retry_after: None }
            })*

            /// All kinds, for the test that docs/protocol.md lists them.
            #[cfg(test)]
            pub const KINDS: &[&str] = &[$($kind),*];
        }
    };
}

problems! {
    unauthorized = UNAUTHORIZED "unauthorized" "No valid token" "send `Authorization: Bearer TOKEN` with a token of [api.token.…]";
    forbidden = FORBIDDEN "forbidden" "This token may not do that" "use a token with the role that is named";
    not_found = NOT_FOUND "not-found" "There is nothing here" "docs/protocol.md lists the addresses";
    method = METHOD_NOT_ALLOWED "method-not-allowed" "This address knows other methods" "docs/protocol.md lists the methods";
    unknown_device = NOT_FOUND "unknown-device" "No such device" "name a device of GET /api/v1/devices, or let [api] `unknown` register it";
    no_history = NOT_FOUND "no-history" "Values are not kept here" "add [history] to the configuration";
    unknown_command = NOT_FOUND "unknown-command" "No such command" "do not send it again";
    too_late = CONFLICT "too-late" "It cannot be cancelled any more" "GET /api/v1/commands/{command} says what came of it";
    unknown_schedule = NOT_FOUND "unknown-schedule" "No such schedule" "GET /api/v1/schedules lists them";
    unknown_alarm = NOT_FOUND "unknown-alarm" "No such alarm is raised" "GET /api/v1/alarms lists them";
    unknown_rule = NOT_FOUND "unknown-rule" "No such rule" "GET /api/v1/rules lists them";
    configured = CONFLICT "configured" "The configuration says otherwise" "change it in the file, or only enable or disable it here";
    full = INSUFFICIENT_STORAGE "full" "There is no room for another one" "remove one first";
    unreadable = UNPROCESSABLE_ENTITY "unreadable" "The content cannot be used" "correct it; the same content is refused again";
    upgrade = UPGRADE_REQUIRED "upgrade-required" "This address speaks WebSocket" "open it as a WebSocket";
    too_large = PAYLOAD_TOO_LARGE "too-large" "The content is too large" "send it in parts";
    too_slow = REQUEST_TIMEOUT "too-slow" "The content did not arrive" "send it again on a better connection";
    too_many = TOO_MANY_REQUESTS "too-many-requests" "Too many requests" "wait, then send it again; put several samples into one request";
    underway = CONFLICT "underway" "The same message is being stored" "wait a second, then send it again";
    not_kept = INSUFFICIENT_STORAGE "not-kept" "It could not be stored in time" "keep it and send it again later";
    busy = SERVICE_UNAVAILABLE "busy" "The gateway has too much to do" "wait, then send it again";
    stopping = SERVICE_UNAVAILABLE "stopping" "The gateway is stopping" "wait, then send it again";
    failed = INTERNAL_SERVER_ERROR "failed" "The gateway could not do it" "look at its log: journalctl -u fieldgate";
}

impl Problem {
    pub fn is_unknown_command(&self) -> bool {
        self.kind == "unknown-command"
    }

    pub fn after(self, wait: Duration) -> Problem {
        Problem { retry_after: Some(wait), ..self }
    }

    /// What the control socket would say; `code` is one of its words.
    pub fn of_control(code: &str, message: &str) -> Problem {
        match code {
            "unreadable" => Problem::unreadable(message),
            "unknown-device" => Problem::unknown_device(message),
            "unknown-command" => Problem::unknown_command(message),
            "unknown-schedule" => Problem::unknown_schedule(message),
            "unknown-alarm" => Problem::unknown_alarm(message),
            "unknown-rule" => Problem::unknown_rule(message),
            "no-history" => Problem::no_history(message),
            "configured" => Problem::configured(message),
            "rejected" => Problem::unreadable(message),
            "full" => Problem::full(message),
            "stopping" => Problem::stopping(message),
            "busy" => Problem::busy(message),
            "not-stored" => Problem::not_kept(message),
            _ => Problem::failed(message),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = json!({
            "type": format!("urn:fieldgate:problem:{}", self.kind), "title": self.title, "status": self.status.as_u16(),
            "detail": self.detail, "remedy": self.remedy,
        });
        let mut response = (self.status, document.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)));
        }
        response
    }
}
