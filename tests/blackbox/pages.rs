//! The pages in a real browser: on a phone and on a desktop, light and dark, while devices come and go, while the daemon is
//! away, with a wrong token, and with texts from a device that look like markup. axe-core finds nothing in any of them.

use crate::{
    field::{Browser, Devices},
    gateway::{Gateway, counting_device},
    http::{HOT, OPERATOR, PUMP, VIEWER, started},
    process::host,
    wait::{now, pause, punctual, secs, until},
    web::ask,
};
use serde_json::Value as Json;
use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// A browser is a heavy guest: one at a time.
static ONE: Mutex<()> = Mutex::new(());

const PHONE: (u32, u32) = (500, 900);
const SMALL: (u32, u32) = (320, 640);
const DESK: (u32, u32) = (1280, 900);
/// A word of the page's script for a node, its text, its class.
const TEXT: &str = "(q) => document.querySelector(q)?.innerText ?? ''";

struct Visit {
    browser: Browser,
    port: u16,
    /// What a connection that is refused leaves in the console is no mistake of a page.
    away: bool,
    _one: MutexGuard<'static, ()>,
}

impl Visit {
    fn start(port: u16) -> Visit {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        Visit { browser: Browser::start(), port, away: false, _one: one }
    }

    /// A new profile, with the token typed as a person does.
    fn open(&mut self, path: &str, size: (u32, u32), dark: bool) {
        self.open_as(VIEWER, path, size, dark);
    }

    fn open_as(&mut self, token: &str, path: &str, size: (u32, u32), dark: bool) {
        self.browser.open(&format!("http://{}:{}{path}", host(), self.port), size, dark);
        self.wait("the access card", "document.activeElement?.id === 'token'");
        self.browser.enter(token);
        self.browser.press("Enter");
        self.wait("the page is live", "document.querySelector('#link').innerText.includes('live')");
    }

    #[track_caller]
    fn wait(&mut self, what: &str, js: &str) -> Json {
        self.wait_within(what, js, secs(30))
    }

    #[track_caller]
    fn wait_within(&mut self, what: &str, js: &str, within: Duration) -> Json {
        let mut last = now();
        until(what, within, || {
            // The browser has work to do as well.
            pause((last + Duration::from_millis(100)) - now());
            last = now();
            Some(self.browser.eval(js)).filter(|v| !matches!(v, Json::Null | Json::Bool(false)))
        })
    }

    fn text(&mut self, query: &str) -> String {
        self.browser.eval(&format!("({TEXT})({})", Json::from(query))).as_str().unwrap_or_default().to_owned()
    }

    /// What must hold of each page in each state.
    #[track_caller]
    fn check(&mut self, name: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/pages");
        std::fs::create_dir_all(&folder).expect("target takes a folder");
        self.browser.shot(&folder.join(format!("{name}.png")));
        assert_eq!(self.browser.violations(), Vec::<Json>::new(), "{name}: axe-core");
        let wide = self.browser.eval("document.documentElement.scrollWidth - innerWidth");
        assert!(wide.as_i64().is_some_and(|n| n <= 0), "{name} scrolls sideways by {wide}");
        let small =
            "[...document.querySelectorAll('a, button, input')].map((e) => e.closest('label') ?? e).filter((e) => e.checkVisibility())
            .map((e) => [e.outerHTML.slice(0, 120), e.getBoundingClientRect()])
            .filter(([, r]) => Math.min(r.width, r.height) < 43.5).map(([html, r]) => `${html} ${r.width} x ${r.height}`)";
        assert_eq!(self.browser.eval(small), Json::Array(vec![]), "{name}: small targets");
        assert_eq!(self.browser.eval("document.querySelectorAll('main h1').length"), 1, "{name}: one heading");
        let said: Vec<String> = self.browser.said().into_iter().filter(|s| !(self.away && s.contains("WebSocket"))).collect();
        assert_eq!(said, Vec::<String>::new(), "{name}: the console");
    }
}

fn beat(port: u16, body: &str) {
    let answer = ask(port, "POST", "/api/v1/devices/pump/heartbeat", Some(PUMP), Some(body));
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// A Modbus TCP device by pymodbus, and a pump that reports by HTTP and may be silent for 3 s.
fn site(id: &str) -> (Gateway, u16, Devices) {
    let meter = Devices::start(1);
    let (mut gateway, port) = started(id, &counting_device("meter-1", meter.ports[0], 5, "1s"));
    // Started anew with more in its file: a key of the section that is there already.
    gateway.stop();
    let file = std::fs::read_to_string(gateway.config()).expect("it was written");
    std::fs::write(gateway.config(), file.replace("[api]\n", "[api]\noffline_after = \"3s\"\n")).expect("it takes a file");
    gateway.start();
    (gateway, port, meter)
}

#[test]
fn each_page_at_each_size_and_in_each_theme() {
    let (_gateway, port, _meter) = site("pages-sizes");
    beat(port, r#"{"versions":{"firmware":"1.4.2"},"temp":21.5}"#);
    let mut visit = Visit::start(port);
    for (name, size, dark) in [("phone", PHONE, false), ("small", SMALL, true), ("desk", DESK, false), ("desk-dark", DESK, true)] {
        visit.open("/", size, dark);
        visit.wait("both devices", "document.querySelectorAll('a.row').length === 2");
        // The pump says nothing more: from here on nothing changes but values and ages.
        visit.wait("the pump is offline", "document.querySelector('a.row.offline') !== null");
        visit.wait("a value", "document.querySelector('a.row').scrollIntoView() ?? [...document.querySelectorAll('.row .reading')].some((r) => /\\d/.test(r.innerText))");
        visit.browser.eval("scrollTo(0, 0)");
        visit.wait("events", "document.querySelectorAll('.events li').length > 0");
        visit.browser.eval("window.moved = 0; new PerformanceObserver((l) => l.getEntries().forEach((e) => { moved += e.value; })).observe({type: 'layout-shift'}); 0");
        visit.wait("some ticks", "new Promise((done) => setTimeout(() => done(true), 6000))");
        let moved = visit.browser.eval("moved");
        assert!(moved.as_f64().is_some_and(|m| m < 0.01), "the layout of {name} moves by {moved}");
        // A picture of the whole page changes the window, and so the layout.
        visit.check(&format!("overview-{name}"));
        // By keys alone: to the row, into the device, and back.
        visit.browser.eval("[...document.querySelectorAll('a.row')].find((a) => a.href.endsWith('meter-1')).focus()");
        visit.browser.press("Enter");
        visit.wait("the device", "location.pathname === '/devices/meter-1' && document.activeElement.tagName === 'H1'");
        visit.wait("its chart", "document.querySelector('.chart path.line') !== null");
        visit.wait("its past", "document.querySelector('.events.wide li') !== null && document.querySelector('.timeline rect') !== null");
        let said = visit.text("main .said");
        assert!(said.contains("Last heard") && said.contains("Online since"), "{said}");
        visit.check(&format!("device-{name}"));
        visit.browser.eval("history.back()");
        visit.wait("the overview again", "document.querySelectorAll('a.row').length === 2");
        visit.browser.eval("document.querySelector('nav a[href=\"/devices\"]').click()");
        visit.wait("the list", "location.pathname === '/devices' && document.querySelectorAll('a.row').length === 2");
        visit.check(&format!("devices-{name}"));
    }
}

#[test]
fn a_page_follows_devices_that_come_and_go() {
    let (_gateway, port, meter) = site("pages-live");
    let mut visit = Visit::start(port);
    visit.open("/", PHONE, false);
    visit.wait("all well", "document.querySelector('h1').innerText === 'All well'");
    beat(port, r#"{"temp":21.5}"#);
    visit
        .wait("the new device, without asking", "[...document.querySelectorAll('a.row.online .name')].some((n) => n.innerText === 'pump')");
    visit.wait(
        "its value",
        "[...document.querySelectorAll('a.row')].some((r) => r.innerText.includes('pump') && r.innerText.includes('21.5'))",
    );
    // It says nothing more.
    visit.wait("the pump is offline", "document.querySelector('a.row.offline .name')?.innerText === 'pump'");
    visit.wait("the verdict", "document.querySelector('h1').innerText === '1 device needs you'");
    assert!(visit.text(".verdict p").contains("pump has been silent for"), "{}", visit.text(".verdict"));
    assert_eq!(visit.text(".verdict .btn"), "Look at pump");
    visit.wait("the event", "[...document.querySelectorAll('.events li')].some((e) => e.innerText.includes('offline: silent'))");
    visit.check("overview-trouble");
    visit.browser.eval("document.querySelector('.verdict .btn').click()");
    visit.wait("its page", "document.querySelector('.title')?.innerText.includes('offline')");
    assert!(visit.text("main .said").contains("silent"));
    visit.wait("old digits stay and look old", "document.querySelector('.points .old')?.innerText === '21.5'");
    visit.check("device-offline");
    beat(port, r#"{"temp":22}"#);
    visit.wait("it is back", "document.querySelector('.title .pill').innerText.includes('online')");
    // The meter's server ends: a connection that is refused is a line that is down, and its device is not blamed.
    visit.browser.eval("history.back()");
    drop(meter);
    visit.wait(
        "the line is down",
        "[...document.querySelectorAll('.card .pill.offline')].some((p) => p.checkVisibility() && p.innerText.includes('down'))",
    );
    visit.wait("its device is unknown", "document.querySelector('a.row.unknown')?.innerText.includes('is down')");
    visit.check("overview-line-down");
}

#[test]
fn a_page_keeps_what_it_has_while_the_daemon_is_away() {
    let (mut gateway, port, _meter) = site("pages-lost");
    beat(port, r#"{"temp":21.5}"#);
    let mut visit = Visit::start(port);
    for (name, path, size) in [("overview", "/", PHONE), ("device", "/devices/meter-1", DESK)] {
        visit.away = false;
        visit.open(path, size, name == "device");
        visit.wait("values", "/\\d/.test(document.querySelector('.reading b')?.innerText ?? '')");
        gateway.kill();
        visit.away = true;
        let killed = now();
        visit.wait("it notices", "document.querySelector('#link').innerText.includes('connecting')");
        visit.wait("the banner", "!document.querySelector('#lost').hidden");
        assert!(now() - killed > secs(5), "after 12 s without anything");
        punctual("a lost daemon noticed", now() - killed, secs(30));
        assert!(visit.text("#lost").contains("This page lost pages-lost at"), "{}", visit.text("#lost"));
        assert!(visit.text("#lost").contains("Trying"), "{}", visit.text("#lost"));
        assert!(visit.text("#link").contains("not connected"));
        assert_eq!(visit.browser.eval("/\\d/.test(document.querySelector('.reading b').innerText)"), true, "old values stay");
        visit.check(&format!("{name}-lost"));
        gateway.start();
        visit.wait_within(
            "it is back by itself",
            "document.querySelector('#lost').hidden && document.querySelector('#link').innerText.includes('live')",
            secs(40),
        );
        visit.wait(
            "fresh values",
            "!document.body.classList.contains('is-lost') && [...document.querySelectorAll('.age')].some((a) => /now|\\ds/.test(a.innerText.replaceAll('\u{a0}', '')))",
        );
    }
}

#[test]
fn a_wrong_token_is_told_and_a_text_from_a_device_stays_a_text() {
    let (_gateway, port, _meter) = site("pages-text");
    let mut visit = Visit::start(port);
    visit.browser.open(&format!("http://{}:{port}/devices/pump", host()), PHONE, false);
    visit.wait("the access card", "document.activeElement?.id === 'token'");
    visit.check("access");
    visit.browser.enter("viewer-0123456789abcdeF");
    visit.browser.press("Enter");
    visit.wait("the reason", "document.querySelector('#token-why').innerText.includes('not known here')");
    visit.check("access-wrong");
    visit.browser.eval("document.querySelector('#token').select()");
    visit.browser.enter(PUMP);
    visit.browser.press("Enter");
    visit.wait("a device's token is none", "document.querySelector('#token-why').innerText.includes('may not look')");
    assert_eq!(visit.browser.eval("sessionStorage.length + localStorage.length"), 0, "a refused token is not kept");

    let evil = "<img src=x onerror=window.hit=1>";
    let body = serde_json::json!({"name": evil, "deep": {"html": format!("<b>{evil}</b><script>window.hit=1</script>")}}).to_string();
    beat(port, &body);
    // A heading, a title and an address that somebody else wrote.
    visit.open(&format!("/devices/{}", evil.replace(' ', "%20").replace('<', "%3C").replace('>', "%3E")), PHONE, false);
    visit.wait("it says that there is none", "document.querySelector('main').innerText.includes('There is no device <img')");
    for path in ["/devices/pump", "/", "/devices"] {
        visit.open(path, PHONE, true);
        visit.wait("the text", "document.querySelector('main').innerText.includes('<img src=x') || location.pathname !== '/devices/pump' && document.querySelector('a.row') !== null");
        visit.wait("some draws", "new Promise((done) => setTimeout(() => done(true), 2500))");
        assert_eq!(
            visit.browser.eval("[document.querySelectorAll('main img, main script').length, window.hit ?? 0]"),
            serde_json::json!([0, 0]),
            "{path}"
        );
    }
    visit.browser.eval("document.querySelector('#foot .btn:last-child').click()");
    visit.wait("the token is forgotten", "document.activeElement?.id === 'token' && sessionStorage.length === 0");
}

#[test]
fn an_alarm_and_the_past_are_on_the_pages_and_only_an_operator_acknowledges() {
    let (_gateway, port) = started("pages-alarms", &format!("[history]\n{HOT}"));
    // The last 50 minutes, and then too hot.
    let samples: Vec<Json> = (0..50u32)
        .map(|n| serde_json::json!({"age_ms": (50 - n) * 60_000, "values": {"temp": 40.0 + f64::from(n % 7) / 2.0, "on": n > 20}}))
        .chain([serde_json::json!({"values": {"temp": 71.5, "on": true}})])
        .collect();
    let body = serde_json::json!({"seq": 1, "samples": samples}).to_string();
    assert_eq!(ask(port, "POST", "/api/v1/devices/pump/telemetry", Some(PUMP), Some(&body)).status, 200);
    let mut visit = Visit::start(port);
    for (name, size, dark) in [("phone", PHONE, false), ("small", SMALL, true), ("desk", DESK, false)] {
        // A slow machine must not make it silent.
        beat(port, "{}");
        visit.open("/", size, dark);
        visit.wait("the verdict", "document.querySelector('h1').innerText === '1 alarm needs you'");
        assert!(visit.text(".verdict p").contains("too hot"), "{}", visit.text(".verdict"));
        visit.check(&format!("overview-alarm-{name}"));
        visit.browser.eval("document.querySelector('.verdict .btn').click()");
        visit.wait("the alarm", "document.querySelector('.alarms li') !== null");
        assert!(visit.text(".alarms").contains("Operators may acknowledge it"), "{}", visit.text(".alarms"));
        assert_eq!(visit.browser.eval("document.querySelector('.alarms .btn').checkVisibility()"), false);
        visit.wait("the last hour", "document.querySelector('.ranges .btn[aria-pressed=true]')?.checkVisibility() && document.querySelector('.chart path.line') !== null");
        let drawn = visit.browser.eval("document.querySelector('.chart path.line').getAttribute('d').split('L').length");
        assert!(drawn.as_u64().is_some_and(|n| n > 40), "{drawn} points of an hour");
        visit.browser.eval("document.querySelector('.numbers summary').click()");
        visit.wait("the numbers", "document.querySelectorAll('.numbers tbody tr').length > 40");
        visit.check(&format!("device-alarm-{name}"));
        visit.browser.press("2");
        visit.wait(
            "a day",
            "location.search === '?range=24h' && document.querySelector('.ranges [aria-pressed=true]').innerText.includes('24')",
        );
        visit.wait("its chart", "document.querySelector('.chart path.line, .chart .dot') !== null");
    }
    visit.check("device-day");
    beat(port, "{}");
    visit.open_as(OPERATOR, "/devices/pump", DESK, true);
    visit.wait("the button", "document.querySelector('.alarms .btn')?.checkVisibility()");
    visit.check("device-alarm-operator");
    visit.browser.eval("document.querySelector('.alarms .btn').click()");
    visit.wait("who has seen it", "document.querySelector('.alarms').innerText.includes('seen by otto')");
    assert_eq!(visit.browser.eval("document.querySelector('.alarms .btn').checkVisibility()"), false);
    visit.check("device-alarm-seen");
    visit.browser.eval("document.querySelector('nav a[href=\"/\"]').click()");
    visit.wait("all is well again", "document.querySelector('h1').innerText === 'All well'");
    visit.wait("what happened", "[...document.querySelectorAll('.events li')].some((e) => e.innerText.includes('acknowledged by otto'))");
}
