//! The house rules that a compiler does not keep: who names whom, what is never used, how long a file may be, and that
//! the documents speak of what exists. Plain text search, no parsing: it takes a second and says file and line.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Each room and the rooms that it may name with `crate::`. `app` and `cli` may name everything.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("limits", &[]),
    ("system", &["model", "limits"]),
    ("config", &["model", "limits"]),
    ("logic", &["model", "limits"]),
    ("drivers", &["model", "config", "limits", "system"]),
    ("store", &["model", "config", "limits", "system"]),
    ("uplink", &["model", "config", "limits", "system"]),
    ("engine", &["model", "config", "logic", "store", "limits", "system"]),
    ("api", &["model", "config", "store", "engine", "limits", "system"]),
];

/// Single files that may name one room more. The pump is where the spool meets the connection.
const BESIDES: &[(&str, &[&str])] = &[("src/uplink/", &["store", "logic"])];

/// Rooms and files that hold no `async`: pure, so that simulation and property tests can drive them.
const PURE: &[&str] = &["src/model/", "src/logic/", "src/drivers/modbus/", "src/drivers/ascii/", "src/uplink/dialect/"];

/// Longer than 600 lines, and why that is one concern.
const LONG: &[(&str, &str)] = &[];
const LINES_MAX: usize = 600;

/// Words that name where this was made instead of what it is: a reader has none of these.
const FOREIGN: &[&str] = &["/work/", "/root/", "/home/", "co-authored-by"];

struct Source {
    name: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below `folder` with this ending, in order of name, with their text.
fn files(folder: &str, ending: &str) -> Vec<Source> {
    let mut paths: Vec<PathBuf> = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path => paths.push(path),
            }
        }
    }
    paths.retain(|p| p.to_string_lossy().ends_with(ending));
    paths.sort();
    paths
        .into_iter()
        .map(|path| Source {
            name: path.strip_prefix(root()).unwrap_or(&path).display().to_string(),
            text: fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())),
        })
        .collect()
}

/// The program without its test files.
fn sources() -> Vec<Source> {
    files("src", ".rs").into_iter().filter(|s| !s.is_test()).collect()
}

impl Source {
    fn is_test(&self) -> bool {
        self.name.ends_with("tests.rs") || self.name.contains("/tests/")
    }

    /// Line numbers with what they hold, without comments and without test modules, which stand at the end of a file.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let begins = |n: usize| lines[n].starts_with("#[cfg(test)]") && lines.get(n + 1).is_some_and(|next| next.ends_with('{'));
        let end = (0..lines.len()).find(|n| begins(*n)).unwrap_or(lines.len());
        let code = lines.into_iter().take(end).enumerate();
        code.map(|(n, l)| (n + 1, l.split("//").next().unwrap_or_default())).filter(|(_, l)| !l.trim().is_empty())
    }

    fn room(&self) -> &str {
        let inside = self.name.strip_prefix("src/").unwrap_or(&self.name);
        inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
    }
}

/// The rooms that a line names: `crate::model::Boot`, `use crate::{model::Boot, limits};`.
fn named(line: &str) -> Vec<String> {
    let mut out = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let rest = &line[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => out.extend(top_level(list)),
            None => out.push(first_word(rest)),
        }
    }
    out
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

/// The first words of the items of a use-list: `model::{Boot, Key}, limits}` gives model and limits.
fn top_level(list: &str) -> Vec<String> {
    let (mut depth, mut begins, mut out) = (0, true, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            _ if begins && c.is_ascii_alphabetic() => {
                out.push(first_word(&list[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    out
}

/// A `use crate::{` that goes over several lines, joined; other lines as they are.
fn joined(source: &Source) -> Vec<(usize, String)> {
    let mut out: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (n, line) in source.code() {
        match out.last_mut() {
            Some((_, text)) if open => text.push_str(line.trim()),
            _ => out.push((n, line.to_owned())),
        }
        let text = out.last().map(|(_, t)| t.as_str()).unwrap_or_default();
        open = text.trim_start().trim_start_matches("pub ").starts_with("use ") && !text.contains(';');
    }
    out
}

#[track_caller]
fn none(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn rooms_name_only_the_rooms_below_them() {
    let mut wrong = Vec::new();
    for source in sources() {
        let room = source.room().to_owned();
        let Some((_, may)) = MAY_NAME.iter().find(|(r, _)| *r == room) else { continue };
        let besides = BESIDES.iter().filter(|(prefix, _)| source.name.starts_with(prefix)).flat_map(|(_, rooms)| rooms.iter());
        let may: Vec<&str> = may.iter().chain(besides).copied().collect();
        for (n, line) in joined(&source) {
            for to in named(&line) {
                let is_room = MAY_NAME.iter().any(|(r, _)| *r == to) || to == "app" || to == "cli";
                if is_room && to != room && !may.contains(&to.as_str()) {
                    wrong.push(format!("{}:{n}: {room} must not name {to}", source.name));
                }
            }
        }
    }
    none("docs/ARCHITECTURE.md says who may name whom", wrong);
}

#[test]
fn drivers_do_not_name_each_other() {
    let drivers = ["ascii", "line", "modbus", "mqtt", "push"];
    let mut wrong = Vec::new();
    for source in files("src/drivers", ".rs") {
        let own = source.name.split('/').nth(2).unwrap_or_default().trim_end_matches(".rs").to_owned();
        for (n, line) in joined(&source) {
            for other in drivers.iter().filter(|d| **d != own) {
                // A line speaks Modbus, and framed text is driven by a line's owners; there are no other acquaintances.
                let known = own == "line" && *other == "modbus" || own == "ascii" && *other == "line";
                if !known && own != "mod" && line.contains(&format!("drivers::{other}")) {
                    wrong.push(format!("{}:{n}: {own} must not name {other}", source.name));
                }
            }
        }
    }
    none("drivers stand side by side", wrong);
}

/// Where boot time is turned into wall time, for people and the cloud. What decides (`logic`, `drivers`, `engine`) is not
/// here; rows of the store carry it beside the boot clock.
const WALL: &[&str] = &[
    "src/api/http/",
    "src/api/requests/",
    "src/cli/",
    // The past is asked for by wall time, and what was to end in an earlier boot has no other.
    "src/engine/history.rs",
    "src/engine/upkeep.rs",
    // Told to whoever pings; nothing comes of it.
    "src/engine/own.rs",
    // What is meant by the clock on the wall; only while that is trusted.
    "src/engine/schedules.rs",
    "src/model/time.rs",
    "src/store/boots.rs",
    // Across boots there is nothing else: how long ago the disk began to fail.
    "src/store/omen.rs",
    "src/store/queries.rs",
    // The past is asked for in wall time, and kept for days of it.
    "src/store/samples/",
    "src/store/spool/mod.rs",
    "src/store/state/",
    "src/system/clock.rs",
    "src/system/steps.rs",
    "src/uplink/dialect/",
    // A signature says when it was made.
    "src/uplink/hooks/",
    "src/uplink/pump/",
];

#[test]
fn wall_time_is_written_and_decides_nothing() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| !WALL.iter().any(|w| s.name.starts_with(w))) {
        for (n, line) in source.code() {
            for word in [".wall(", "SystemTime", "UNIX_EPOCH", "ClockId::Realtime", ".modified("] {
                if line.contains(word) {
                    wrong.push(format!("{}:{n}: {word}", source.name));
                }
            }
        }
    }
    none("deadlines, backoff and evidence are on the boot clock (docs/ARCHITECTURE.md)", wrong);
}

#[test]
fn pure_rooms_hold_no_async_and_read_no_clock() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| PURE.iter().any(|p| s.name.starts_with(p))) {
        for (n, line) in source.code() {
            for word in ["async ", ".await", "tokio::", "clock_gettime", "Clock::Real"] {
                if line.contains(word) {
                    wrong.push(format!("{}:{n}: {}", source.name, word.trim()));
                }
            }
        }
    }
    none("these rooms are driven by whoever brings the time", wrong);
}

#[test]
fn every_queue_has_a_limit() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (n, line) in source.code() {
            // std's `mpsc::channel()` without a size is the same thing under another name.
            if line.contains("unbounded_channel") || line.contains("mpsc::unbounded") || line.contains("mpsc::channel()") {
                wrong.push(format!("{}:{n}: {}", source.name, line.trim()));
            }
        }
    }
    none("sizes are in limits.rs, each with its reason", wrong);
}

#[test]
fn every_limit_is_used() {
    let limits = fs::read_to_string(root().join("src/limits.rs")).expect("src/limits.rs is there");
    let names: Vec<&str> = limits.lines().filter_map(|l| l.strip_prefix("pub const ")?.split(':').next()).collect();
    assert!(names.len() > 10, "the constants of limits.rs are not found: {names:?}");
    let elsewhere: Vec<Source> = sources().into_iter().filter(|s| s.name != "src/limits.rs").collect();
    let said: BTreeSet<&str> = elsewhere.iter().flat_map(|s| s.code().flat_map(|(_, l)| words(l))).collect();
    let used = |name: &str| said.contains(name);
    none("a limit that nobody keeps", names.into_iter().filter(|n| !used(n)).map(str::to_owned).collect());
}

#[test]
fn files_are_one_concern_long() {
    let mut wrong = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > LINES_MAX && !LONG.iter().any(|(name, _)| *name == source.name) {
            wrong.push(format!("{}: {lines} lines", source.name));
        }
    }
    none("split it, or list it in tests/tidy.rs with a reason", wrong);
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent = sources().into_iter().filter(|s| !s.text.starts_with("//!")).map(|s| s.name);
    none("a file begins with //!", silent.collect());
}

#[test]
fn nothing_is_left_for_later() {
    let mut wrong = Vec::new();
    for source in files("src", ".rs") {
        for (n, line) in source.text.lines().enumerate() {
            for word in ["TODO", "FIXME", "XXX", "HACK", "todo!(", "unimplemented!("] {
                if line.contains(word) {
                    wrong.push(format!("{}:{}: {word}", source.name, n + 1));
                }
            }
        }
    }
    none("do it or open an issue", wrong);
}

#[test]
fn documents_speak_of_the_product_alone() {
    let mut wrong = Vec::new();
    let top = ["README.md", "CHANGELOG.md"].map(|name| Source {
        name: name.to_owned(),
        text: fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}")),
    });
    let docs = files("docs", ".md").into_iter().chain(top).chain(files("src", ".rs")).chain(files("config", ".toml"));
    for source in docs.chain(files("systemd", "")).chain(files("tests/field", ".py")) {
        for (n, line) in source.text.lines().enumerate() {
            let line = line.to_lowercase();
            for word in FOREIGN.iter().filter(|w| line.contains(**w)) {
                wrong.push(format!("{}:{}: {word}", source.name, n + 1));
            }
        }
    }
    none("a reader is told what it is, not how it came about", wrong);
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut wrong = Vec::new();
    let readme = Source { name: "README.md".into(), text: fs::read_to_string(root().join("README.md")).expect("README.md is there") };
    for source in files("docs", ".md").into_iter().chain([readme]) {
        let folder = root().join(&source.name).parent().map(Path::to_path_buf).unwrap_or_default();
        for (n, line) in source.text.lines().enumerate() {
            for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let path = link.split('#').next().unwrap_or_default();
                if !path.is_empty() && !path.contains("://") && !folder.join(path).exists() {
                    wrong.push(format!("{}:{}: {link}", source.name, n + 1));
                }
            }
        }
    }
    none("dead links", wrong);
}

#[test]
fn every_example_is_named_in_the_documents() {
    let documents: String = files("docs", ".md").into_iter().map(|s| s.text).collect();
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md is there");
    let silent = files("config/examples", ".toml").into_iter().map(|s| s.name).filter(|name| {
        let file = name.rsplit('/').next().unwrap_or(name);
        !documents.contains(file) && !readme.contains(file)
    });
    none("say in docs/ what the example is for", silent.collect());
}

/// What a table of the configuration is called in problems, and the heading of docs/configuration.md that has its keys.
const KEYS_OF: &[(&str, &str)] = &[
    ("[api]", "## [api]"),
    ("[buffer]", "## [buffer]"),
    ("[gateway]", "## [gateway]"),
    ("[history]", "## [history]"),
    ("[history.points]", "## [history]"),
    ("[mqtt]", "## [mqtt]"),
    ("[watch]", "## [watch]"),
    ("`defaults`", "### [mqtt.route.NAME]"),
    ("`end`", "## Framed serial"),
    ("`ping`", "### [mqtt.route.NAME]"),
    ("`report`", "## [device.NAME.point.NAME]"),
    ("`tls`", "## [uplink.NAME]"),
    ("`then`", "## [rule.NAME]"),
    ("`write` of a rule", "## [rule.NAME]"),
    ("`alarm` of a rule", "## [rule.NAME]"),
    ("`publish` of a rule", "## [rule.NAME]"),
    ("`reply`", "### [mqtt.route.NAME]"),
    ("a checksum", "## Framed serial"),
    ("a configuration", "# Configuration"),
    ("a counter", "### Counters"),
    ("a device", "## [device.NAME]"),
    ("a device on an ascii line", "## Framed serial"),
    ("a fixed write", "### Unlocking"),
    ("a line", "## [line.NAME]"),
    ("a network place", "## Profiles"),
    ("a point", "## [device.NAME.point.NAME]"),
    ("a point of an ascii device", "## Framed serial"),
    ("a preset", "### [mqtt.preset.NAME]"),
    ("a profile", "## Profiles"),
    ("a rule", "## [rule.NAME]"),
    ("a route", "### [mqtt.route.NAME]"),
    ("a schedule", "## [schedule.NAME]"),
    ("a secret", "## Values"),
    ("a serial port", "## [line.NAME]"),
    ("a serial setting", "## Profiles"),
    ("a token", "### [api.token.NAME]"),
    ("a user", "### [mqtt.user.NAME]"),
    ("a variant", "## Profiles"),
    ("a write", "## Framed serial"),
    ("a write of a schedule", "## [schedule.NAME]"),
    ("a write rule", "## [device.NAME.point.NAME]"),
    ("a write rule of `raw`", "### Requests of a device's own"),
    ("a webhook", "## [webhook.NAME]"),
    ("an uplink", "## [uplink.NAME]"),
    ("analytics", "## [analytics.NAME]"),
];

/// The text from a heading to the next one of its level or above.
fn below<'a>(text: &'a str, heading: &str) -> Option<&'a str> {
    let from = text.find(&format!("{heading}\n"))?;
    let level = heading.chars().take_while(|c| *c == '#').count();
    let ends = |line: &str| (1..=level).any(|n| line.starts_with(&format!("{} ", "#".repeat(n))));
    let body = from + heading.len() + 1;
    let mut end = body;
    for line in text[body..].split_inclusive('\n') {
        if ends(line) {
            break;
        }
        end += line.len();
    }
    Some(&text[from..end])
}

/// The strings of `&["a", "b"]`, or of the constant of that name in the file.
fn strings(list: &str, text: &str) -> Vec<String> {
    let list = list.trim();
    let list = match list.strip_prefix("&[") {
        Some(inner) => inner,
        None => text.split(&format!("const {list}: &[&str] =")).nth(1).unwrap_or_default(),
    };
    list.split(']').next().unwrap_or_default().split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_key_is_documented_where_its_table_is() {
    let document = fs::read_to_string(root().join("docs/configuration.md")).expect("docs/configuration.md is there");
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for source in files("src/config/check", ".rs") {
        for call in source.text.split("Keys::open(").skip(1) {
            let Some((what, rest)) = call.split_once('"').and_then(|(_, rest)| rest.split_once('"')) else { continue };
            let list = rest.trim_start_matches(", ");
            let list = if list.starts_with("&[") { list } else { list.split(',').next().unwrap_or_default() };
            let Some((_, heading)) = KEYS_OF.iter().find(|(name, _)| *name == what) else {
                wrong.push(format!("{}: {what} is not in KEYS_OF of tests/tidy.rs", source.name));
                continue;
            };
            let Some(section) = below(&document, heading) else {
                wrong.push(format!("docs/configuration.md has no {heading}"));
                continue;
            };
            // Their keys are put together from other lists.
            let keys = if list == "&known" { strings("ABOUT", &source.text) } else { strings(list, &source.text) };
            seen += keys.len();
            let said = |key: &str| {
                let forms = [format!("`{key}`"), format!("[{key}."), format!("[{key}]"), format!("{{ {key} = "), format!(", {key} = ")];
                forms.iter().any(|form| section.contains(form))
            };
            let missing = keys.into_iter().filter(|key| !said(key));
            wrong.extend(missing.map(|key| format!("{heading} does not say what `{key}` of {what} is")));
        }
    }
    assert!(seen > 150, "the lists of keys are not found: {seen}");
    none("each key has its place in docs/configuration.md", wrong);
}

#[test]
fn tests_that_documents_name_are_there() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for source in files("docs", ".md") {
        for name in source.text.split('`').filter(|word| word.contains(".rs::")) {
            seen += 1;
            let (path, function) = name.split_once("::").expect("it was looked for");
            let text = fs::read_to_string(root().join(path)).unwrap_or_default();
            if !text.contains(&format!("fn {function}(")) {
                wrong.push(format!("{}: {name}", source.name));
            }
        }
    }
    assert!(seen > 50, "docs/field.md names the tests of its rows: {seen}");
    none("a test was renamed or never there", wrong);
}

#[test]
fn the_rules_find_what_they_look_for() {
    let source = |text: &str| Source { name: "src/logic/x.rs".into(), text: text.into() };
    let rooms = |text: &str| joined(&source(text)).iter().flat_map(|(_, l)| named(l)).collect::<Vec<_>>();
    assert_eq!(rooms("use crate::{\n    limits,\n    model::{Boot, Key},\n    store::Store,\n};"), ["limits", "model", "store"]);
    assert_eq!(rooms("let x = crate::engine::Engine::new();"), ["engine"]);
    assert_eq!(rooms("// crate::engine is not named in a comment\n#[cfg(test)]\nmod tests {\n    use crate::app;\n}"), [""; 0]);
}
