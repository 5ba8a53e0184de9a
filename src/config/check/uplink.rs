//! `[uplink.*]`: clouds' brokers.

use super::{Desk, id, secret, things};
use crate::{
    config::{
        Dialect, LocalMqtt, Mqtt, Uplink,
        keys::{Keys, Placed},
        mqtt::Mode,
        problem::Code,
        source::Place,
        surroundings::Secrets,
        uplink::{Address, Tls},
        words,
    },
    limits,
    model::UplinkId,
};
use std::{path::PathBuf, time::Duration};

const KEYS: &[&str] = &[
    "url",
    "fallback",
    "tls",
    "username",
    "password",
    "client_id",
    "dialect",
    "required",
    "topic_prefix",
    "linger",
    "reconnect_max",
    "keep_alive",
    "version",
    "replay_share",
    "replay_rate",
];

pub fn check(root: &Keys<'_>, gateway: &str, local: Option<&LocalMqtt>, whole: Place, desk: &mut Desk<'_>) -> Vec<Uplink> {
    let all = if root.has("uplink") { things(root, "uplink", desk) } else { Vec::new() };
    if all.is_empty() && !desk.out.has_errors() {
        desk.out
            .warning(Code::NoUplink, whole, "uplink", "there is no uplink")
            .because("everything is kept here and nothing is sent")
            .want("[uplink.cloud] with url = \"mqtts://broker.example.com:8883\"");
    }
    let section = root.trail.then("uplink");
    let mut uplinks: Vec<Uplink> = Vec::new();
    let mut optional = None;
    for (n, (name, table, at)) in all.into_iter().enumerate() {
        let trail = section.then(name);
        if n == limits::UPLINKS {
            desk.out
                .error(Code::OutOfRange, at, trail, format!("uplink {name} is one too many"))
                .because(format!("there are at most {}", limits::UPLINKS))
                .want("keep those that you need");
        }
        let keys = Keys::open(table, at, &trail, "an uplink", KEYS, &mut desk.out);
        let uplink_id = id(name, at, trail, UplinkId::parse, desk);
        let Some(uplink) = one(&keys, uplink_id, gateway, desk) else { continue };
        if !uplink.required {
            optional.get_or_insert((keys.value_at("required"), keys.key("required")));
        }
        let client = (uplink.host.as_str(), uplink.port, uplink.client_id.as_str());
        let twin = uplinks.iter().find(|u| (u.host.as_str(), u.port, u.client_id.as_str()) == client);
        let twin = twin.map(|u| format!("uplinks {} and {name}", u.id));
        if let Some(both) = twin.or_else(|| is_local(local, client).then(|| format!("[mqtt] and uplink {name}"))) {
            let place = if keys.has("client_id") { keys.value_at("client_id") } else { at };
            desk.out
                .error(Code::TwinUplinks, place, keys.key("client_id"), format!("{both} are one client of one broker"))
                .because("a broker ends the older of two connections with the same client id, for ever in turn")
                .want(format!("client_id = \"{}-{name}\"", uplink.client_id));
        }
        uplinks.push(uplink);
    }
    if let (Some((at, key)), true) = (optional, uplinks.iter().all(|u| !u.required)) {
        desk.out
            .error(Code::NoRequiredUplink, at, key, "no uplink is required")
            .because("an optional one keeps nothing from being forgotten, and no publisher would ever be acknowledged")
            .want("required = true");
    }
    uplinks
}

/// Whether the devices are heard at this broker by this name.
fn is_local(local: Option<&LocalMqtt>, client: (&str, u16, &str)) -> bool {
    let mode = local.map(|local| &local.mode);
    matches!(mode, Some(Mode::Broker { host, port, client_id, .. }) if (host.as_str(), *port, client_id.as_str()) == client)
}

fn one(keys: &Keys<'_>, id: Option<UplinkId>, gateway: &str, desk: &mut Desk<'_>) -> Option<Uplink> {
    let second = Duration::from_secs(1);
    keys.require("url", "url = \"mqtts://broker.example.com:8883\"", &mut desk.out);
    let url = keys.text("url", &mut desk.out).and_then(|t| url(&t, &keys.key("url"), "url", desk));
    let tls = tls(keys, url.as_ref(), desk);
    let username = keys.text("username", &mut desk.out).map(|t| t.it.to_owned());
    let password = secret::check(keys, "password", desk);
    if keys.has("password") && !keys.has("username") {
        desk.out
            .error(Code::MissingKey, keys.key_at("password"), keys.key("username"), "`password` needs `username`")
            .because("MQTT 3.1.1 has no password without a name")
            .want(format!("username = \"{gateway}\""));
    }
    if let Some(u) = url.as_ref().filter(|u| keys.has("password") && !u.tls && !local(&u.host)) {
        desk.out
            .warning(
                Code::PlainPassword,
                keys.value_at("url"),
                keys.key("url"),
                format!("the password for {} crosses the network in the open", u.host),
            )
            .because("mqtt:// is not encrypted")
            .want(format!("url = \"mqtts://{}:8883\"", u.host));
    }
    let fallback = fallback(keys, tls.as_ref(), desk);
    let client_id = keys.text("client_id", &mut desk.out);
    let dialect = dialect(keys, desk);
    let versions = [("3.1.1", Mqtt::V311), ("5", Mqtt::V5)];
    let version = keys.word("version", &versions, &mut desk.out).unwrap_or_default();
    let required = keys.flag("required", &mut desk.out).unwrap_or(true);
    let topic_prefix = prefix(keys, gateway, desk);
    let out = &mut desk.out;
    let linger = keys.duration("linger", Duration::ZERO..=300 * second, out).unwrap_or(Duration::from_millis(50));
    let reconnect_max = keys.duration("reconnect_max", second..=3600 * second, out).unwrap_or(60 * second);
    let keep_alive = keys.duration("keep_alive", 5 * second..=65_535 * second, out).unwrap_or(30 * second);
    let replay_share = keys.integer("replay_share", 1..=90, out).and_then(|n| u8::try_from(n).ok()).unwrap_or(50);
    let replay_rate = keys.integer("replay_rate", 1..=1_000_000_000, out).and_then(|n| u64::try_from(n).ok());
    let client_id = client_id.map_or_else(|| format!("fieldgate-{gateway}"), |t| t.it.to_owned());
    let url = url?;
    Some(Uplink {
        id: id?,
        required,
        host: url.host,
        port: url.port,
        tls,
        fallback,
        username,
        password,
        client_id,
        dialect: dialect?,
        version,
        topic_prefix,
        linger,
        reconnect_max,
        keep_alive,
        replay_share,
        replay_rate,
    })
}

/// Further brokers, in order. They share the certificates of the first.
fn fallback(keys: &Keys<'_>, tls: Option<&Tls>, desk: &mut Desk<'_>) -> Vec<Address> {
    if !keys.has("fallback") {
        return Vec::new();
    }
    let texts = keys.texts("fallback", &mut desk.out);
    if texts.len() > limits::BROKERS {
        desk.out
            .error(Code::OutOfRange, keys.value_at("fallback"), keys.key("fallback"), format!("{} further brokers", texts.len()))
            .because(format!("at most {} are tried beside the first", limits::BROKERS))
            .want("those that are reachable when the first one is not");
    }
    let mut all = Vec::new();
    for text in texts {
        let Some(Url { host, port, tls: wanted }) = url(&text, &keys.key("fallback"), "fallback", desk) else { continue };
        all.push(Address { host, port, tls: wanted.then(|| tls.cloned().unwrap_or_default()) });
    }
    all
}

fn local(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn dialect(keys: &Keys<'_>, desk: &mut Desk<'_>) -> Option<Dialect> {
    let choices = [("native", Some(Dialect::Native)), ("thingsboard", None), ("thingspanel", None), ("sparkplug", None)];
    if !keys.has("dialect") {
        return Some(Dialect::Native);
    }
    let found = keys.word("dialect", &choices, &mut desk.out)?;
    if found.is_none() {
        let name = keys.text("dialect", &mut desk.out).map_or("", |t| t.it);
        desk.out
            .error(Code::NotInVersion, keys.value_at("dialect"), keys.key("dialect"), format!("dialect `{name}` is not in this version"))
            .because("version 0.1 speaks native; thingsboard, thingspanel and sparkplug come in a later one")
            .want("dialect = \"native\"");
    }
    found
}

fn prefix(keys: &Keys<'_>, gateway: &str, desk: &mut Desk<'_>) -> String {
    let default = format!("fieldgate/{gateway}");
    let Some(text) = keys.text("topic_prefix", &mut desk.out) else { return default };
    let bad = text.it.is_empty()
        || text.it.len() > 512
        || text.it.contains(['+', '#', '\0'])
        || text.it.starts_with(['/', '$'])
        || text.it.ends_with('/');
    if bad {
        let clean = text.it.trim_matches('/').replace(['+', '#'], "").replace("//", "/");
        let clean = if clean.is_empty() || clean.starts_with('$') { default.clone() } else { clean };
        desk.out
            .error(Code::BadTopic, text.at, keys.key("topic_prefix"), format!("`{}` cannot begin a topic", text.it))
            .because("no wildcards, no slash at the ends, no $ in front")
            .want(format!("topic_prefix = \"{clean}\""));
    }
    text.it.to_owned()
}

fn tls(keys: &Keys<'_>, url: Option<&Url>, desk: &mut Desk<'_>) -> Option<Tls> {
    let wanted = url.is_some_and(|u| u.tls);
    let Some((table, at)) = keys.sub("tls", "{ ca = \"/etc/fieldgate/ca.pem\" }", &mut desk.out) else { return wanted.then(Tls::default) };
    let trail = keys.trail.then("tls");
    let inner = Keys::open(table, at, &trail, "`tls`", &["ca", "cert", "key"], &mut desk.out);
    if let Some(u) = url.filter(|u| !u.tls) {
        desk.out
            .error(Code::MisplacedKey, at, trail, "`tls` with an mqtt:// address")
            .because("mqtt:// is not encrypted, so nothing would be verified")
            .want(format!("url = \"mqtts://{}:8883\"", u.host));
    }
    let ca = file(&inner, "ca", desk);
    let (cert, key) = (file(&inner, "cert", desk), file(&inner, "key", desk));
    for (one, other) in [("cert", "key"), ("key", "cert")] {
        if inner.has(one) && !inner.has(other) {
            desk.out
                .error(Code::MissingKey, inner.key_at(one), inner.key(other), format!("`{one}` needs `{other}` beside it"))
                .because("a client certificate is a pair")
                .want(format!("{other} = \"/etc/fieldgate/{other}.pem\""));
        }
    }
    wanted.then_some(Tls { ca, cert, key })
}

/// A file that must be there when the uplink connects.
fn file(keys: &Keys<'_>, key: &str, desk: &mut Desk<'_>) -> Option<PathBuf> {
    let text = keys.text(key, &mut desk.out)?;
    let path = desk.resolve(text.at, text.it);
    if desk.around.secrets == Secrets::Unread {
        return Some(path);
    }
    match std::fs::metadata(&path) {
        Ok(m) if m.is_file() => {}
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied && desk.around.secrets == Secrets::IfReachable => {}
        found => {
            let why = found.err().map_or_else(|| "it is no file".to_owned(), |e| e.to_string());
            desk.out
                .error(Code::FileMissing, text.at, keys.key(key), format!("{} cannot be used", path.display()))
                .because(why)
                .want(format!("{key} = a PEM file; relative paths count from this file's directory"));
        }
    }
    Some(path)
}

pub struct Url {
    pub host: String,
    pub port: u16,
    pub tls: bool,
}

/// `mqtt://host[:port]` or `mqtts://host[:port]`.
pub fn url(text: &Placed<&str>, key: &str, name: &str, desk: &mut Desk<'_>) -> Option<Url> {
    let example = format!("{name} = \"mqtts://broker.example.com:8883\"");
    let (scheme, rest) = text.it.split_once("://").unwrap_or(("", text.it));
    let meant = match scheme {
        "mqtt" | "mqtts" => scheme,
        "tcp" | "" => "mqtt",
        "ssl" | "tls" => "mqtts",
        _ => {
            let (code, because) = if matches!(scheme, "ws" | "wss") {
                (Code::NotInVersion, "MQTT over WebSocket is not in this version")
            } else {
                (Code::BadUrl, "an address begins with mqtt:// or mqtts://")
            };
            desk.out.error(code, text.at, key, format!("`{scheme}://` cannot be used")).because(because).want(example);
            return None;
        }
    };
    if rest.contains('@') {
        desk.out
            .error(Code::BadUrl, text.at, key, "an address with a name or a password in it")
            .because("addresses appear in logs")
            .want(format!("{name} = \"{meant}://{}\"", rest.rsplit('@').next().unwrap_or("")))
            .want("username = \"…\" and password = { file = … }");
        return None;
    }
    let end = rest.trim_end_matches('/');
    let parsed = words::endpoint(end);
    if scheme != meant {
        desk.out
            .error(Code::BadUrl, text.at, key, format!("`{}` does not say how to connect", text.it))
            .because("an address begins with mqtt:// or, encrypted, mqtts://")
            .want(if parsed.is_ok() { format!("{name} = \"{meant}://{end}\"") } else { example });
        return None;
    }
    match parsed {
        Ok((host, port)) => {
            let tls = meant == "mqtts";
            Some(Url { host, port: port.unwrap_or(if tls { 8883 } else { 1883 }), tls })
        }
        Err(why) => {
            desk.out.error(Code::BadUrl, text.at, key, format!("`{}` is no address", text.it)).because(why).want(example);
            None
        }
    }
}
