//! Who holds which token, and what each may do. Pure.

use crate::{
    config::api::{Rights, Role, Token},
    system::secret::same,
};
use axum::http::{HeaderMap, header};
use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

/// What a route asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A person or program of this role or a higher one.
    Role(Role),
    /// The device that the address names.
    Device,
    /// Also nobody; a token that is sent must be known all the same.
    Anyone,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub name: Arc<str>,
    pub rights: Rights,
}

impl Caller {
    pub fn is_admin(&self) -> bool {
        self.rights == Rights::Person(Role::Admin)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    Unknown,
    Missing(&'static str),
}

#[derive(Debug, Default)]
pub struct Access {
    holders: Vec<(String, Caller)>,
    /// Where the tokens of a device are, so that thousands of them are not looked through for each heartbeat.
    devices: BTreeMap<String, Vec<usize>>,
    others: Vec<usize>,
}

impl Access {
    pub fn new(tokens: &[Token]) -> Access {
        let mut access = Access::default();
        for token in tokens.iter().filter(|t| !t.secret.0.is_empty()) {
            let n = access.holders.len();
            match &token.rights {
                Rights::Device(device) => access.devices.entry(device.to_string()).or_default().push(n),
                Rights::Devices(_) | Rights::Person(_) => access.others.push(n),
            }
            let caller = Caller { name: token.name.as_str().into(), rights: token.rights.clone() };
            access.holders.push((token.secret.0.clone(), caller));
        }
        access
    }

    /// `device`: the one that the address names.
    pub fn admit(&self, headers: &HeaderMap, device: Option<&str>, need: Need) -> Result<Caller, Refused> {
        let presented = presented(headers).ok_or(Refused::Unknown)?;
        let caller = self.holder(&presented, device).ok_or(Refused::Unknown)?;
        match (need, &caller.rights) {
            (Need::Device, rights) => {
                if rights.speaks_for(device.unwrap_or_default()) {
                    Ok(caller.clone())
                } else {
                    Err(Refused::Missing("a token with role = \"device\" for this device"))
                }
            }
            (Need::Anyone, _) => Ok(caller.clone()),
            (Need::Role(role), Rights::Person(own)) if *own >= role => Ok(caller.clone()),
            (Need::Role(Role::Viewer), _) => Err(Refused::Missing("role = \"viewer\" or above")),
            (Need::Role(Role::Operator), _) => Err(Refused::Missing("role = \"operator\" or above")),
            (Need::Role(Role::Admin), _) => Err(Refused::Missing("role = \"admin\"")),
        }
    }

    /// Whether the request says who it is, truly or not.
    pub fn is_claimed(headers: &HeaderMap) -> bool {
        headers.contains_key(header::AUTHORIZATION) || headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL)
    }

    /// Whether anybody holds this token.
    pub fn knows(&self, headers: &HeaderMap) -> bool {
        presented(headers).is_some_and(|token| self.holder(&token, None).is_some())
    }

    /// Every token that could be meant is compared to its end, also when one has matched.
    fn holder(&self, presented: &str, device: Option<&str>) -> Option<&Caller> {
        let own = device.and_then(|device| self.devices.get(device)).into_iter().flatten();
        let likely = self.matching(presented, own.chain(&self.others).copied());
        likely.or_else(|| self.matching(presented, 0..self.holders.len()))
    }

    fn matching(&self, presented: &str, candidates: impl Iterator<Item = usize>) -> Option<&Caller> {
        let mut found = None;
        for (secret, caller) in candidates.filter_map(|n| self.holders.get(n)) {
            if same(secret.as_bytes(), presented.as_bytes()) {
                found = Some(caller);
            }
        }
        found
    }
}

/// `Authorization: Bearer …`; a browser's WebSocket cannot set that and names it among its protocols, as `token.…`.
fn presented(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        return Some(token.trim()).filter(|t| scheme.eq_ignore_ascii_case("bearer") && !t.is_empty()).map(Cow::Borrowed);
    }
    let protocols = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    protocols.split(',').find_map(|p| p.trim().strip_prefix("token.")).filter(|t| !t.is_empty()).map(unescaped)
}

/// A protocol's name has no `=` and no `/`: those are written as `%3D` and `%2F`. What is no escape stays as it is.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return text.into();
    }
    let byte = |hex: &str| u8::from_str_radix(hex, 16).ok().filter(u8::is_ascii).map(char::from);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let escaped = after.get(..2).and_then(byte);
        out.push(escaped.unwrap_or('%'));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    (out + rest).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Secret, model::DeviceId};

    fn access() -> Access {
        let token = |name: &str, secret: &str, rights| Token { name: name.into(), secret: Secret(secret.into()), rights };
        Access::new(&[
            token("v", "viewer-0123456789", Rights::Person(Role::Viewer)),
            token("o", "operator-0123456789", Rights::Person(Role::Operator)),
            token("pump-1", "pump-0123456789", Rights::Device(DeviceId::parse("pump-1").unwrap())),
            token("many", "many-0123456789", Rights::Devices("many-".into())),
            token("unread", "", Rights::Person(Role::Admin)),
        ])
    }

    #[track_caller]
    fn check(header: (&'static str, &str), device: &str, need: Need, want: Result<&str, Option<&str>>) {
        let mut headers = HeaderMap::new();
        headers.insert(header.0, header.1.parse().unwrap());
        let got = access().admit(&headers, Some(device), need);
        let got = got.map(|caller| caller.name.to_string()).map_err(|why| match why {
            Refused::Unknown => None,
            Refused::Missing(what) => Some(what),
        });
        assert_eq!(got.as_deref().map_err(|e| *e), want, "{header:?} {device} {need:?}");
    }

    #[test]
    fn a_token_opens_what_its_role_may() {
        let (view, operate) = (Need::Role(Role::Viewer), Need::Role(Role::Operator));
        let bearer = |token: &str| ("authorization", format!("Bearer {token}"));
        let with = |token: &str, device, need, want| {
            let (name, value) = bearer(token);
            check((name, &value), device, need, want);
        };
        with("viewer-0123456789", "x", view, Ok("v"));
        with("viewer-0123456789", "x", operate, Err(Some("role = \"operator\" or above")));
        with("operator-0123456789", "x", view, Ok("o"));
        with("operator-0123456789", "x", Need::Role(Role::Admin), Err(Some("role = \"admin\"")));
        with("operator-0123456789", "pump-1", Need::Device, Err(Some("a token with role = \"device\" for this device")));
        with("pump-0123456789", "pump-1", Need::Device, Ok("pump-1"));
        with("pump-0123456789", "pump-2", Need::Device, Err(Some("a token with role = \"device\" for this device")));
        with("pump-0123456789", "pump-1", view, Err(Some("role = \"viewer\" or above")));
        with("many-0123456789", "many-7", Need::Device, Ok("many"));
        with("many-0123456789", "pump-1", Need::Device, Err(Some("a token with role = \"device\" for this device")));
        for wrong in ["viewer-012345678", "viewer-01234567890", "Viewer-0123456789", "x", ""] {
            with(wrong, "pump-1", view, Err(None));
        }
        check(("authorization", "Basic viewer-0123456789"), "x", view, Err(None));
        check(("authorization", "viewer-0123456789"), "x", view, Err(None));
        check(("sec-websocket-protocol", "fieldgate, token.viewer-0123456789"), "x", view, Ok("v"));
        check(("sec-websocket-protocol", "fieldgate, token."), "x", view, Err(None));
        check(("sec-websocket-protocol", "fieldgate, token.viewer%2D0123456789"), "x", view, Ok("v"));
        for (escaped, text) in [("a%3D%2Fb", "a=/b"), ("100%", "100%"), ("%zz%3", "%zz%3"), ("%ff", "%ff"), ("%é", "%é"), ("%25", "%")] {
            assert_eq!(unescaped(escaped), text);
        }
        check(("x-other", "viewer-0123456789"), "x", view, Err(None));
    }
}
