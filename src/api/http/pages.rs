//! The pages: one shell for each address that a browser shows, and the files it loads, all from this program.
//!
//! They hold no data and need no token. The files are under an address with a digest of them all, so they are kept for ever and
//! a new version is loaded whole; the shell that names the digest is asked for anew each time. A page more is one module
//! in `FILES` and one address in `SHELLS`.

use axum::{
    Router,
    extract::Path,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use flate2::{Compression, write::GzEncoder};
use std::{borrow::Cow, io::Write, sync::LazyLock};

const SHELL: &str = include_str!("../web/shell.html");
const SHELLS: &[&str] = &["/", "/devices", "/devices/{id}"];

macro_rules! files {
    ($($name:literal)*) => { &[$(($name, include_bytes!(concat!("../web/", $name)))),*] };
}

pub(super) const FILES: &[(&str, &[u8])] = files![
    "style.css" "main.js" "gateway.js" "words.js" "parts.js" "charts.js" "rows.js" "access.js" "overview.js" "devices.js" "device.js"
];

const HTML: &str = "text/html; charset=utf-8";

/// Scripts, styles and connections of this program alone, nothing inline; no other page frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Of all files and the shell (FNV-1a: against mixing up versions, not against anybody).
static DIGEST: LazyLock<String> = LazyLock::new(|| {
    let all = FILES.iter().flat_map(|(_, bytes)| *bytes).chain(SHELL.as_bytes());
    format!("{:016x}", all.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)))
});

/// As it is, and packed.
struct Ready {
    plain: Cow<'static, [u8]>,
    packed: Vec<u8>,
}

impl Ready {
    fn new(plain: Cow<'static, [u8]>) -> Ready {
        Ready { packed: gzip(&plain), plain }
    }
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    // Writing to memory does not fail.
    let _ = packed.write_all(plain);
    packed.finish().unwrap_or_default()
}

static FILLED: LazyLock<Ready> = LazyLock::new(|| Ready::new(SHELL.replace("DIGEST", &DIGEST).into_bytes().into()));
static READY: LazyLock<Vec<Ready>> = LazyLock::new(|| FILES.iter().map(|(_, bytes)| Ready::new((*bytes).into())).collect());

pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    SHELLS.iter().fold(Router::new(), |router, path| router.route(path, get(shell))).route("/pages/{digest}/{name}", get(file))
}

async fn shell(headers: HeaderMap) -> Response {
    answer(&headers, HTML, &FILLED, "no-cache")
}

/// An old digest is a page of the version before: it is told that there is nothing, and loads itself anew.
async fn file(Path((digest, name)): Path<(String, String)>, headers: HeaderMap) -> Response {
    let found = FILES.iter().zip(&*READY).find(|((known, _), _)| *known == name).filter(|_| digest == *DIGEST);
    let Some((_, ready)) = found else { return with_policy(StatusCode::NOT_FOUND.into_response()) };
    let kind = if name.ends_with(".css") { "text/css; charset=utf-8" } else { "text/javascript; charset=utf-8" };
    answer(&headers, kind, ready, "public, max-age=31536000, immutable")
}

fn answer(asked: &HeaderMap, kind: &'static str, file: &'static Ready, keep: &'static str) -> Response {
    let tag = format!("\"{}\"", *DIGEST);
    let has = asked.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains(&tag));
    let unpacks = asked.get(header::ACCEPT_ENCODING).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains("gzip"));
    let body: &'static [u8] = if unpacks { &file.packed } else { &file.plain };
    let mut response = if has { StatusCode::NOT_MODIFIED.into_response() } else { body.into_response() };
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if unpacks && !has {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(keep));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    with_policy(response)
}

fn with_policy(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str) -> &'static str {
        let (_, bytes) = FILES.iter().find(|(n, _)| *n == name).unwrap();
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn all_files_together_are_small_and_each_is_embedded() {
        let all = READY.iter().map(|r| r.packed.len()).sum::<usize>() + FILLED.packed.len();
        println!("{all} bytes packed, {} as they are", READY.iter().map(|r| r.plain.len()).sum::<usize>() + SHELL.len());
        assert!(all < 60 * 1024, "{all} bytes: docs/decisions/0025 says what the pages may weigh");
        let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/api/web")).unwrap();
        let mut there: Vec<String> = folder.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
        let mut embedded: Vec<String> = FILES.iter().map(|(n, _)| (*n).to_owned()).chain(["shell.html".to_owned()]).collect();
        there.sort();
        embedded.sort();
        assert_eq!(there, embedded);
    }

    #[test]
    fn nothing_is_inline_and_no_text_becomes_markup() {
        assert!(!SHELL.contains("style=") && !SHELL.contains("onclick") && SHELL.matches("<script").count() == 1);
        for (name, bytes) in FILES.iter().filter(|(n, _)| n.ends_with(".js")) {
            let code = std::str::from_utf8(bytes).unwrap();
            for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http://", "https://"] {
                assert!(!code.replace("http://www.w3.org/2000/svg", "").contains(word), "{name} has {word}");
            }
        }
    }

    /// A token of the style sheet in both palettes, as linear red, green and blue.
    fn token(name: &str) -> [[f64; 3]; 2] {
        let css = text("style.css");
        let value =
            css.split(&format!("--{name}:")).nth(1).and_then(|rest| rest.split(';').next()).unwrap_or_else(|| panic!("no --{name}"));
        let colours: Vec<[f64; 3]> = value.split('#').skip(1).map(linear).collect();
        colours.try_into().unwrap_or_else(|_| panic!("--{name} has two colours: {value}"))
    }

    fn linear(hex: &str) -> [f64; 3] {
        [0, 2, 4].map(|at| {
            let c = f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
            if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        })
    }

    /// WCAG 2.2.
    fn contrast(a: [f64; 3], b: [f64; 3]) -> f64 {
        let light = |c: [f64; 3]| 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2] + 0.05;
        let (a, b) = (light(a), light(b));
        a.max(b) / a.min(b)
    }

    #[track_caller]
    fn check(names: &[&str], floor: f64, own_tint: bool) {
        for name in names {
            let tint = own_tint.then(|| format!("{}-tint", name.trim_end_matches("-mark")));
            for ground in ["bg", "surface", "sunk"].map(str::to_owned).into_iter().chain(tint) {
                for theme in [0, 1] {
                    let got = contrast(token(name)[theme], token(&ground)[theme]);
                    assert!(got >= floor, "{name} on {ground}: {got:.2} in theme {theme}");
                }
            }
        }
    }

    #[test]
    fn each_colour_can_be_read_on_each_ground() {
        check(&["ink", "ink-2", "ink-3"], 4.5, false);
        check(&["accent", "online", "suspect", "offline", "unknown", "maint"], 4.5, true);
        check(&["online-mark", "suspect-mark", "offline-mark", "unknown-mark", "maint-mark"], 3.0, true);
        check(&["edge", "series-1", "series-2", "focus"], 3.0, false);
        for theme in [0, 1] {
            assert!(contrast(token("on-accent")[theme], token("accent")[theme]) >= 4.5);
        }
    }
}
