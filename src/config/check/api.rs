//! `[api]`: where the HTTP surface listens, and its tokens.

use super::{Desk, id, secret, things};
use crate::{
    config::{
        Api, Secret,
        api::{Rights, Role, Token},
        keys::{Keys, Placed},
        mqtt::Unknown,
        problem::Code,
        source::Place,
        tree::Content,
    },
    limits,
    model::DeviceId,
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

const KEYS: &[&str] = &["listen", "unknown", "offline_after", "device_tokens", "token"];
const PORT: u16 = 8080;
/// Shorter ones are guessed: 16 random letters are 80 bits and more.
const SHORTEST: usize = 16;
const LONGEST: usize = 512;
const HOW: &str = "openssl rand -hex 24";

#[derive(Clone, Copy)]
enum Kind {
    Person(Role),
    Device,
}

pub fn check(root: &Keys<'_>, desk: &mut Desk<'_>) -> Option<Api> {
    let (table, at) = root.sub("api", "[api]", &mut desk.out)?;
    let trail = root.trail.then("api");
    let keys = Keys::open(table, at, &trail, "[api]", KEYS, &mut desk.out);
    let listen = listen(&keys, desk);
    let choices = [("register", Unknown::Register), ("quarantine", Unknown::Quarantine), ("refuse", Unknown::Refuse)];
    let unknown = keys.word("unknown", &choices, &mut desk.out).unwrap_or(Unknown::Register);
    let allowed = keys.duration("offline_after", Duration::from_secs(1)..=Duration::from_secs(365 * 86_400), &mut desk.out);
    let offline_after = allowed.unwrap_or(Duration::from_secs(300));
    let mut tokens = tokens(&keys, desk);
    tokens.append(&mut device_tokens(&keys, desk));
    if !keys.has("token") && !keys.has("device_tokens") {
        desk.out
            .warning(Code::NoEffect, at, trail, "[api] has no tokens")
            .because("so it refuses everybody")
            .want("[api.token.anna] with role = \"viewer\" and token = { file = \"/etc/fieldgate/secrets/anna\" }");
    }
    Some(Api { listen, unknown, offline_after, tokens: told_apart(tokens, desk) })
}

fn listen(keys: &Keys<'_>, desk: &mut Desk<'_>) -> Vec<SocketAddr> {
    let texts: Vec<Placed<&str>> = match keys.entry("listen").map(|e| &e.node.value) {
        None => return vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT)],
        Some(Content::List(_)) => keys.texts("listen", &mut desk.out),
        Some(_) => keys.text("listen", &mut desk.out).into_iter().collect(),
    };
    if texts.len() > limits::API_ADDRESSES {
        desk.out
            .error(Code::TooMany, keys.value_at("listen"), keys.key("listen"), format!("{} addresses to listen on", texts.len()))
            .because(format!("at most {}", limits::API_ADDRESSES))
            .want("listen = \"0.0.0.0:8080\"");
    }
    let mut all = Vec::new();
    for text in texts {
        let Some(address) = address(text.it) else {
            desk.out
                .error(Code::BadAddress, text.at, keys.key("listen"), format!("`{}` is no address to listen on", text.it))
                .because("an IP address of this machine and a port")
                .want_when("listen = \"127.0.0.1:8080\"", "programs on this machine")
                .want_when("listen = \"0.0.0.0:8080\"", "devices and people on every network");
            continue;
        };
        if !address.ip().is_loopback() {
            desk.out
                .warning(Code::InsecureEndpoint, text.at, keys.key("listen"), format!("tokens go to {address} in the clear"))
                .because("there is no TLS on it in this version: whoever listens on that network learns them")
                .want("listen = \"127.0.0.1:8080\", and a proxy with TLS in front");
        }
        all.push(address);
    }
    all
}

/// An address with a port; the port may be left out.
fn address(text: &str) -> Option<SocketAddr> {
    let local = text.strip_prefix("localhost").map(|rest| format!("{}{rest}", Ipv4Addr::LOCALHOST));
    let text = local.as_deref().unwrap_or(text);
    let bare = || text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, PORT));
    text.parse::<SocketAddr>().ok().or_else(bare).filter(|a| a.port() > 0)
}

fn tokens(keys: &Keys<'_>, desk: &mut Desk<'_>) -> Vec<(Token, Place)> {
    if !keys.has("token") {
        return Vec::new();
    }
    let section = keys.trail.then("token");
    let mut out = Vec::new();
    for (name, table, at) in things(keys, "token", desk) {
        let trail = section.then(name);
        let inner = Keys::open(table, at, &trail, "a token", &["role", "token", "device"], &mut desk.out);
        inner.require("token", "token = { file = \"/etc/fieldgate/secrets/name\" }", &mut desk.out);
        let secret = secret::check(&inner, "token", desk);
        inner.require("role", "role = \"viewer\"", &mut desk.out);
        let roles = [
            ("viewer", Kind::Person(Role::Viewer)),
            ("operator", Kind::Person(Role::Operator)),
            ("admin", Kind::Person(Role::Admin)),
            ("device", Kind::Device),
        ];
        let rights = match inner.word("role", &roles, &mut desk.out) {
            None => None,
            Some(Kind::Device) => device(&inner, name, at, desk),
            Some(Kind::Person(role)) => {
                if inner.has("device") {
                    desk.out
                        .error(Code::MisplacedKey, inner.key_at("device"), inner.key("device"), "`device` is for role = \"device\"")
                        .because("a person's token is good for all devices")
                        .want("take it out");
                }
                Some(Rights::Person(role))
            }
        };
        if let (Some(secret), Some(rights)) = (secret, rights)
            && strong(&secret, inner.value_at("token"), &inner.key("token"), desk)
        {
            out.push((Token { name: name.to_owned(), secret, rights }, inner.value_at("token")));
        }
    }
    out
}

/// Whom a device token speaks for: its own name, or what `device` says; a star at the end stands for the rest.
fn device(keys: &Keys<'_>, name: &str, at: Place, desk: &mut Desk<'_>) -> Option<Rights> {
    let text = if keys.has("device") { keys.text("device", &mut desk.out)? } else { Placed { it: name, at } };
    if let Some(begin) = text.it.strip_suffix('*') {
        return match begin.is_empty() || DeviceId::parse(begin).is_ok() {
            true => Some(Rights::Devices(begin.to_owned())),
            false => id(begin, text.at, keys.key("device"), DeviceId::parse, desk).map(Rights::Device),
        };
    }
    id(text.it, text.at, keys.key("device"), DeviceId::parse, desk).map(Rights::Device)
}

/// A file with a device and its token on each line, for sites with hundreds of them.
fn device_tokens(keys: &Keys<'_>, desk: &mut Desk<'_>) -> Vec<(Token, Place)> {
    let Some(file) = secret::check(keys, "device_tokens", desk) else { return Vec::new() };
    let (at, key) = (keys.value_at("device_tokens"), keys.key("device_tokens"));
    let mut out = Vec::new();
    for (n, line) in (1..).zip(file.0.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let parsed = line.split_once([' ', '\t']).and_then(|(device, token)| Some((DeviceId::parse(device).ok()?, token.trim())));
        let Some((device, token)) = parsed else {
            desk.out
                .error(Code::BadSecret, at, key.as_str(), format!("line {n} of the file names no device and its token"))
                .because("each line is a device's id, a blank and its token")
                .want(format!("pump-1 {}", "0123456789abcdef".repeat(2)));
            continue;
        };
        let secret = Secret(token.to_owned());
        if strong(&secret, at, &key, desk) {
            out.push((Token { name: device.to_string(), secret, rights: Rights::Device(device) }, at));
        }
    }
    out
}

fn strong(secret: &Secret, at: Place, key: &str, desk: &mut Desk<'_>) -> bool {
    let length = secret.0.len();
    // Not read here: it cannot be judged.
    if length == 0
        || (SHORTEST..=LONGEST).contains(&length) && secret.0.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b))
    {
        return true;
    }
    desk.out
        .error(Code::BadSecret, at, key, "this is no token")
        .because(format!("{SHORTEST} to {LONGEST} of the letters, digits and -._~+/= that a header can carry, drawn by chance"))
        .want(HOW);
    false
}

/// Who holds a token is known by it, so no two are the same.
fn told_apart(tokens: Vec<(Token, Place)>, desk: &mut Desk<'_>) -> Vec<Token> {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    let mut out = Vec::new();
    for (token, at) in tokens {
        let before = if token.secret.0.is_empty() { None } else { seen.insert(token.secret.0.clone(), token.name.clone()) };
        if let Some(before) = before {
            desk.out
                .error(Code::BadSecret, at, "api.token", format!("{} and {before} have the same token", token.name))
                .because("nobody could say who did what")
                .want(HOW);
        }
        out.push(token);
    }
    out
}
