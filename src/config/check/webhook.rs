//! `[webhook.*]`: whom events are told by HTTP.

use super::{Desk, id, secret, things};
use crate::{
    config::{
        Webhook,
        keys::{Keys, Placed},
        nearest::nearest,
        problem::Code,
        uplink::{Tls, Uplink},
        webhook::{COMMON, EVENTS, key},
        words,
    },
    limits,
    model::UplinkId,
};

const KEYS: &[&str] = &["url", "events", "secret", "ca"];

pub fn check(root: &Keys<'_>, uplinks: &[Uplink], desk: &mut Desk<'_>) -> Vec<Webhook> {
    if !root.has("webhook") {
        return Vec::new();
    }
    let section = root.trail.then("webhook");
    let mut all: Vec<Webhook> = Vec::new();
    for (n, (name, table, at)) in things(root, "webhook", desk).into_iter().enumerate() {
        let trail = section.then(name);
        if n == limits::WEBHOOKS {
            desk.out
                .error(Code::OutOfRange, at, trail, format!("webhook {name} is one too many"))
                .because(format!("there are at most {}", limits::WEBHOOKS))
                .want("keep those that you need");
        }
        let keys = Keys::open(table, at, &trail, "a webhook", KEYS, &mut desk.out);
        let named = id(name, at, trail, parse, desk);
        let Some(hook) = one(&keys, name, named, desk) else { continue };
        if uplinks.iter().any(|u| u.id == hook.id) {
            desk.out
                .error(Code::DuplicateId, at, trail, format!("there is an uplink {} already", hook.id))
                .because("webhooks and uplinks read the event stream side by side")
                .want("[webhook.other]");
        }
        all.push(hook);
    }
    all
}

/// Its place in the event stream has room for so much of a name.
fn parse(name: &str) -> Result<UplinkId, crate::model::BadId> {
    let why = crate::model::BadId("use 1 to 24 letters, digits, '-' or '_'");
    if name.is_empty() { Err(why) } else { UplinkId::parse(&format!("webhook-{name}")).map_err(|_| why) }
}

fn one(keys: &Keys<'_>, name: &str, id: Option<UplinkId>, desk: &mut Desk<'_>) -> Option<Webhook> {
    keys.require("url", "url = \"https://example.com/hooks/fieldgate\"", &mut desk.out);
    keys.require("secret", "secret = { file = \"/etc/fieldgate/secrets/webhook\" }", &mut desk.out);
    let events = events(keys, desk);
    let secret = secret::check(keys, "secret", desk);
    // One that was not read here is empty.
    if secret.as_ref().is_some_and(|s| !s.0.is_empty() && key(s).is_none()) {
        desk.out
            .error(Code::BadSecret, keys.value_at("secret"), keys.key("secret"), "what follows whsec_ is no base64")
            .because("a secret that begins with whsec_ is the base64 of its bytes")
            .want("the secret as the receiver shows it, or any other text");
    }
    let url = keys.text("url", &mut desk.out).and_then(|text| url(&text, keys, desk));
    let ca = keys.text("ca", &mut desk.out).map(|path| desk.resolve(path.at, path.it));
    let (host, port, is_tls, path) = url?;
    if let (Some(_), false) = (&ca, is_tls) {
        desk.out
            .error(Code::MisplacedKey, keys.key_at("ca"), keys.key("ca"), "`ca` is for https://")
            .because("http:// has no certificates")
            .want("url = \"https://…\"");
    }
    let tls = is_tls.then(|| Tls { ca, ..Tls::default() });
    Some(Webhook { name: name.to_owned(), id: id?, host, port, tls, path, events, secret: secret? })
}

fn events(keys: &Keys<'_>, desk: &mut Desk<'_>) -> Vec<&'static str> {
    if !keys.has("events") {
        return COMMON.to_vec();
    }
    let mut wanted = Vec::new();
    for text in keys.texts("events", &mut desk.out) {
        if let Some(known) = EVENTS.iter().find(|e| **e == text.it) {
            wanted.push(*known);
            continue;
        }
        let near = nearest(text.it, EVENTS.iter().copied());
        let because = near.map_or_else(|| format!("there are {}", EVENTS.join(", ")), |n| format!("did you mean `{n}`?"));
        desk.out
            .error(Code::BadValue, text.at, keys.key("events"), format!("`{}` is no event", text.it))
            .because(because)
            .want(format!("events = [\"{}\"]", near.unwrap_or("device.offline")));
    }
    wanted
}

/// Host, port, whether it is encrypted, and the path.
fn url(text: &Placed<&str>, keys: &Keys<'_>, desk: &mut Desk<'_>) -> Option<(String, u16, bool, String)> {
    let mut bad = |because: &str| {
        desk.out
            .error(Code::BadUrl, text.at, keys.key("url"), format!("`{}` is no address of a webhook", text.it))
            .because(because)
            .want("url = \"https://example.com/hooks/fieldgate\"");
    };
    let (scheme, rest) = text.it.split_once("://").unwrap_or(("", text.it));
    let is_tls = match scheme {
        "https" => true,
        "http" => false,
        _ => {
            bad("it begins with https:// or http://");
            return None;
        }
    };
    let (authority, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
    if authority.contains('@') {
        bad("addresses appear in logs: no name and no password in them");
        return None;
    }
    let printable = path.bytes().all(|b| b.is_ascii_graphic()) && !path.contains('#') && path.len() <= 2048;
    match words::endpoint(authority) {
        Ok((host, port)) if printable => {
            let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
            Some((host, port.unwrap_or(if is_tls { 443 } else { 80 }), is_tls, path))
        }
        Ok(_) => {
            bad("a path of printable ASCII characters, others as %…");
            None
        }
        Err(why) => {
            bad(why);
            None
        }
    }
}
