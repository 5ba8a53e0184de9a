//! `[mqtt]`: our own endpoint or an external broker, its users and its routes.

use super::{Desk, preset, route, secret, things, uplink};
use crate::config::{
    LocalMqtt, Mode, User,
    keys::{Keys, Placed},
    problem::Code,
    source::Place,
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const KEYS: &[&str] = &["listen", "broker", "insecure", "username", "password", "client_id", "user", "route", "preset"];

pub fn check(root: &Keys<'_>, gateway: &str, desk: &mut Desk<'_>) -> Option<LocalMqtt> {
    let (table, at) = root.sub("mqtt", "[mqtt]", &mut desk.out)?;
    let trail = root.trail.then("mqtt");
    let keys = Keys::open(table, at, &trail, "[mqtt]", KEYS, &mut desk.out);
    let users = users(&keys, desk);
    let mut routes = route::check(&keys, desk);
    preset::check(&keys, &mut routes, desk);
    if routes.is_empty() && !keys.has("route") && !keys.has("preset") {
        desk.out
            .warning(Code::NoRoutes, at, trail, "[mqtt] has no routes")
            .because("nothing says which topics are devices")
            .want_when("[mqtt.preset.tasmota]", "devices with a known firmware")
            .want_when("[mqtt.route.telemetry] with topic = \"tele/{device}/SENSOR\", kind = \"telemetry\"", "anything else");
    }
    let mode = match (keys.has("listen"), keys.has("broker")) {
        (true, false) => listen(&keys, users, desk),
        (false, true) => broker(&keys, gateway, desk),
        (true, true) => {
            desk.out
                .error(Code::TwoPlaces, keys.key_at("broker"), keys.key("broker"), "[mqtt] has both `listen` and `broker`")
                .because("devices connect to us, or to a broker that is already there")
                .want("keep one");
            None
        }
        (false, false) => {
            desk.out
                .error(Code::MissingKey, at, trail, "[mqtt] needs `listen` or `broker`")
                .because("where do the devices publish?")
                .want_when("listen = \"192.168.1.2:1883\"", "fieldgate is their broker")
                .want_when("broker = \"mqtt://127.0.0.1:1883\"", "a mosquitto is already there");
            None
        }
    };
    Some(LocalMqtt { mode: mode?, routes })
}

fn listen(keys: &Keys<'_>, users: Vec<User>, desk: &mut Desk<'_>) -> Option<Mode> {
    for key in ["username", "password", "client_id"].into_iter().filter(|k| keys.has(k)) {
        desk.out
            .error(Code::MisplacedKey, keys.key_at(key), keys.key(key), format!("`{key}` is for `broker`"))
            .because("on our own endpoint the devices log in")
            .want("[mqtt.user.NAME] with password = { file = … }");
    }
    let insecure = keys.flag("insecure", &mut desk.out).unwrap_or(false);
    let text = keys.text("listen", &mut desk.out)?;
    let Some(at) = address(text.it) else {
        desk.out
            .error(Code::BadAddress, text.at, keys.key("listen"), format!("`{}` is no address to listen on", text.it))
            .because("an IP address of this machine and a port")
            .want_when("listen = \"127.0.0.1:1883\"", "programs on this machine")
            .want_when("listen = \"0.0.0.0:1883\"", "devices on every network");
        return None;
    };
    let closed = at.ip().is_loopback() || !users.is_empty() || keys.has("user");
    if !closed && !insecure {
        desk.out
            .error(Code::OpenEndpoint, text.at, keys.key("listen"), format!("{at} would take messages from anyone"))
            .because("a network address, and no [mqtt.user.…]")
            .want_when("[mqtt.user.plugs] with password = { file = … }", "who may publish")
            .want_when("listen = \"127.0.0.1:1883\"", "this machine only")
            .want_when("insecure = true", "if it is meant so");
    } else if !closed {
        desk.out
            .warning(Code::InsecureEndpoint, keys.key_at("insecure"), keys.key("insecure"), format!("{at} takes messages from anyone"))
            .because("said with insecure = true")
            .want("[mqtt.user.plugs] with password = { file = … }");
    }
    Some(Mode::Listen { at, users })
}

/// An address with a port; the port may be left out.
fn address(text: &str) -> Option<SocketAddr> {
    let local = text.strip_prefix("localhost").map(|rest| format!("{}{rest}", Ipv4Addr::LOCALHOST));
    let text = local.as_deref().unwrap_or(text);
    let bare = || text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 1883));
    text.parse::<SocketAddr>().ok().or_else(bare).filter(|a| a.port() > 0)
}

fn broker(keys: &Keys<'_>, gateway: &str, desk: &mut Desk<'_>) -> Option<Mode> {
    for key in ["insecure", "user"].into_iter().filter(|k| keys.has(k)) {
        desk.out
            .error(Code::MisplacedKey, keys.key_at(key), keys.key(key), format!("`{key}` is for `listen`"))
            .because("an external broker has its own users")
            .want("take it out");
    }
    let username = keys.text("username", &mut desk.out).map(|t| t.it.to_owned());
    let password = secret::check(keys, "password", desk);
    // Another than an uplink's: the cloud's broker may be the same.
    let client_id = keys.text("client_id", &mut desk.out).map_or_else(|| format!("fieldgate-{gateway}-local"), |t| t.it.to_owned());
    let url = keys.text("broker", &mut desk.out)?;
    let url = uplink::url(&url, &keys.key("broker"), "broker", desk)?;
    Some(Mode::Broker { host: url.host, port: url.port, tls: url.tls, username, password, client_id })
}

fn users(keys: &Keys<'_>, desk: &mut Desk<'_>) -> Vec<User> {
    let section = keys.trail.then("user");
    let mut users = Vec::new();
    if !keys.has("user") {
        return users;
    }
    for (name, table, at) in things(keys, "user", desk) {
        let trail = section.then(name);
        let inner = Keys::open(table, at, &trail, "a user", &["password", "topics"], &mut desk.out);
        inner.require("password", "password = { file = \"/etc/fieldgate/secrets/name\" }", &mut desk.out);
        let password = secret::check(&inner, "password", desk);
        let mut topics = Vec::new();
        if inner.has("topics") {
            for topic in inner.texts("topics", &mut desk.out) {
                filter(&topic, &inner, desk);
                topics.push(topic.it.to_owned());
            }
        }
        if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
            complain(at, &trail.to_string(), name, desk);
        }
        users.extend(password.map(|password| User { name: name.to_owned(), password, topics }));
    }
    users
}

fn complain(at: Place, key: &str, name: &str, desk: &mut Desk<'_>) {
    desk.out
        .error(Code::BadId, at, key, format!("`{}` is no user name", name.escape_debug()))
        .because("1 to 128 printable characters")
        .want("[mqtt.user.plugs]");
}

fn filter(topic: &Placed<&str>, keys: &Keys<'_>, desk: &mut Desk<'_>) {
    if let Err(why) = route::filter_fault(topic.it) {
        desk.out
            .error(Code::BadTopic, topic.at, keys.key("topics"), format!("`{}` is no topic filter", topic.it))
            .because(why)
            .want("topics = [\"tele/#\"]");
    }
}
