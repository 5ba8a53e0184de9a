//! `fieldgate dead-letters`: what could not be read, or what the cloud does not take; kept here with the reason.
//!
//! Through the running daemon's socket, or with the daemon stopped in its files.

use super::{EXIT_REFUSED, EXIT_UNREACHABLE, Global, Out, agree, moment, out::count, status};
use crate::{
    api::{control, letters},
    config::{self, Config, Secrets, Surroundings},
    engine,
    model::{Receipt, Settled},
    store::{self, Backing, Change, DeadLetterRow, Holder, Options, Store},
    system::clock::Clock,
    uplink,
};
use serde_json::{Value, json};
use std::{fmt::Write, io, process::ExitCode, sync::mpsc, time::Duration};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fieldgate dead-letters                            the newest, with their reasons\n  fieldgate dead-letters show 17                    one with its content\n  fieldgate dead-letters replay 17 18               hand them in again where they came from\n  fieldgate dead-letters purge --older 30d          throw away what is old\n\nExit: 0 done, 1 some could not be replayed or nobody agreed, 2 no such letter, 3 the files of fieldgate cannot be read, 5 refused."
)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The newest first
    #[command(after_help = "Examples:\n  fieldgate dead-letters list --source \"uplink cloud\"")]
    List(Which),
    /// One with its whole content
    #[command(after_help = "Examples:\n  fieldgate dead-letters show 17")]
    Show { id: i64 },
    /// Hand them in again: samples to the spool, local messages to the MQTT door
    #[command(after_help = "Examples:\n  fieldgate dead-letters replay 17\n  fieldgate dead-letters replay --source \"uplink cloud\"")]
    Replay(Chosen),
    /// Throw them away
    #[command(after_help = "Examples:\n  fieldgate dead-letters purge --older 30d\n  fieldgate dead-letters purge --all")]
    Purge {
        #[command(flatten)]
        chosen: Chosen,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Clone, Default, clap::Args)]
struct Which {
    /// Only those whose source begins so
    #[arg(long, value_name = "TEXT")]
    source: Option<String>,
    /// Only those that are older
    #[arg(long, value_name = "TIME", value_parser = super::duration)]
    older: Option<Duration>,
    /// So many at most
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
}

#[derive(Debug, Clone, clap::Args)]
struct Chosen {
    #[arg(value_name = "ID")]
    ids: Vec<i64>,
    #[command(flatten)]
    which: Which,
    /// All of them
    #[arg(long)]
    all: bool,
}

pub fn run(global: &Global, out: &Out, args: &Args) -> ExitCode {
    match args.what.as_ref() {
        None => list(global, out, &args.which),
        Some(What::List(which)) => list(global, out, which),
        Some(What::Show { id }) => show(global, out, *id),
        Some(What::Replay(chosen)) => act(global, out, "replay", chosen),
        Some(What::Purge { chosen, yes }) => match agreed(global, out, chosen, *yes) {
            Ok(()) => act(global, out, "purge", chosen),
            Err(code) => code,
        },
    }
}

fn request(what: &str, ids: &[i64], which: &Which) -> Value {
    let older = which.older.map(|older| i64::try_from(older.as_millis()).unwrap_or(i64::MAX));
    let ids = if ids.is_empty() { Value::Null } else { json!(ids) };
    json!({"do": what, "ids": ids, "source": which.source, "older_ms": older, "limit": which.limit})
}

fn list(global: &Global, out: &Out, which: &Which) -> ExitCode {
    let shown = Which { limit: Some(which.limit.unwrap_or(50)), ..which.clone() };
    let Some(answer) = ask(global, out, &request("list", &[], &shown)) else { return ExitCode::from(EXIT_UNREACHABLE) };
    if out.json {
        let letters: Vec<Value> = answer["letters"].as_array().into_iter().flatten().map(with_time).collect();
        out.say(&json!({"v": 1, "letters": letters}).to_string());
        return ExitCode::SUCCESS;
    }
    let letters = answer["letters"].as_array().map_or(&[][..], Vec::as_slice);
    if letters.is_empty() {
        out.say("no dead letters");
        return ExitCode::SUCCESS;
    }
    out.table(table(letters).trim_end());
    if let Some(id) = letters[0]["id"].as_i64() {
        out.next(&format!("fieldgate dead-letters show {id}"));
    }
    ExitCode::SUCCESS
}

/// Its time for people and scripts.
fn with_time(letter: &Value) -> Value {
    let mut shown = letter.clone();
    if let Some(fields) = shown.as_object_mut() {
        let at = fields.remove("at_ms").and_then(|at| at.as_i64());
        fields.insert("at".into(), at.map(moment::rfc3339).into());
    }
    shown
}

fn table(letters: &[Value]) -> String {
    let text = |letter: &Value, key: &str| letter[key].as_str().unwrap_or_default().to_owned();
    let rows: Vec<[String; 5]> = letters
        .iter()
        .map(|l| {
            let at = moment::rfc3339(l["at_ms"].as_i64().unwrap_or_default());
            [l["id"].to_string(), at, text(l, "source"), text(l, "topic"), text(l, "reason")]
        })
        .collect();
    let wide = |n: usize, head: &str| rows.iter().map(|row| row[n].chars().count()).max().unwrap_or(0).max(head.len());
    let (id, at, source, topic) = (wide(0, "ID"), wide(1, "AT"), wide(2, "SOURCE"), wide(3, "TOPIC"));
    let mut all = format!("{:>id$}  {:at$}  {:source$}  {:topic$}  REASON\n", "ID", "AT", "SOURCE", "TOPIC");
    for row in &rows {
        let _ = writeln!(all, "{:>id$}  {:at$}  {:source$}  {:topic$}  {}", row[0], row[1], row[2], row[3], row[4]);
    }
    all
}

fn show(global: &Global, out: &Out, id: i64) -> ExitCode {
    let Some(answer) = ask(global, out, &request("list", &[id], &Which::default())) else { return ExitCode::from(EXIT_UNREACHABLE) };
    let letter = &answer["letters"][0];
    if letter.is_null() {
        return unknown(out, id);
    }
    if out.json {
        let mut shown = with_time(letter);
        shown["v"] = 1.into();
        out.say(&shown.to_string());
        return ExitCode::SUCCESS;
    }
    let text = |key: &str| letter[key].as_str().unwrap_or_default();
    let at = moment::rfc3339(letter["at_ms"].as_i64().unwrap_or_default());
    let bytes = count(letter["bytes"].as_u64().unwrap_or_default());
    out.say(&format!(
        "dead letter {id}\n\n  at      {at}\n  source  {}\n  topic   {}\n  reason  {}\n  content {bytes} bytes\n\n{}",
        text("source"),
        text("topic"),
        text("reason"),
        text("body")
    ));
    out.next(&format!("fieldgate dead-letters replay {id}"));
    ExitCode::SUCCESS
}

fn unknown(out: &Out, id: i64) -> ExitCode {
    out.error("unknown", &format!("there is no dead letter {id}"), "fieldgate dead-letters lists them");
    ExitCode::from(2)
}

/// Who names each letter has seen it. Who names many at once is told how many they are.
fn agreed(global: &Global, out: &Out, chosen: &Chosen, yes: bool) -> Result<(), ExitCode> {
    let is_open = chosen.all || chosen.which.source.is_some() || chosen.which.older.is_some();
    if yes || !chosen.ids.is_empty() || !is_open {
        return Ok(());
    }
    let answer = ask(global, out, &request("list", &[], &chosen.which)).ok_or(ExitCode::from(EXIT_UNREACHABLE))?;
    let found = answer["letters"].as_array().map_or(0, Vec::len);
    if found == 0 {
        return Ok(());
    }
    let letters = letters_of(found);
    let unasked = (&*format!("this throws away {letters}"), "add --yes, or see them with fieldgate dead-letters list");
    agree::or_end(out, &format!("throw away {letters}, for good?"), "nothing was thrown away", unasked)
}

fn letters_of(n: usize) -> String {
    format!("{} dead {}", count(n as u64), if n == 1 { "letter" } else { "letters" })
}

fn act(global: &Global, out: &Out, what: &str, chosen: &Chosen) -> ExitCode {
    if chosen.ids.is_empty() && !chosen.all && chosen.which.source.is_none() && chosen.which.older.is_none() {
        let remedy = format!("fieldgate dead-letters {what} ID, or --source, --older or --all");
        out.error("usage", &format!("which ones to {what}?"), &remedy);
        return ExitCode::from(2);
    }
    let Some(answer) = ask(global, out, &request(what, &chosen.ids, &chosen.which)) else { return ExitCode::from(EXIT_UNREACHABLE) };
    if let Some(message) = answer["error"]["message"].as_str() {
        out.error("refused", message, "fieldgate status says what is wrong");
        return ExitCode::from(EXIT_REFUSED);
    }
    let list = |key: &str| answer[key].as_array().cloned().unwrap_or_default();
    let (done, failed) = (list("done"), list("failed"));
    if let Some(id) = chosen.ids.iter().find(|id| !done.iter().chain(failed.iter().map(|f| &f["id"])).any(|known| known == **id)) {
        return unknown(out, *id);
    }
    if out.json {
        out.say(&answer.to_string());
    } else {
        let word = if what == "replay" { "handed in again" } else { "thrown away" };
        out.say(&format!("{} {word}", letters_of(done.len())));
        for one in &failed {
            out.say(&format!("  {} stays: {}", one["id"], one["why"].as_str().unwrap_or_default()));
        }
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The daemon, or its files while it is stopped. `None`: neither, and that was said.
fn ask(global: &Global, out: &Out, request: &Value) -> Option<Value> {
    let socket = status::socket(global);
    let why = match control::ask(&socket, &json!({"dead_letters": request}), global.timeout.max(Duration::from_secs(30))) {
        Ok(answer) => return Some(answer),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            match config::load_with(&global.config, &Surroundings::real(Secrets::Unread)).config {
                Some(config) => match direct(&config, request) {
                    Ok(answer) => return Some(answer),
                    Err(why) => why,
                },
                None => format!("fieldgate does not run, and {} cannot be used", global.config.display()),
            }
        }
        Err(e) => e.to_string(),
    };
    out.error("not-running", &why, "run it with sudo, or as a member of the group fieldgate");
    None
}

fn direct(config: &Config, request: &Value) -> Result<Value, String> {
    let now = Clock::Real.reading().wall(Clock::Real.now());
    let (filter, limit) = letters::filter(request, now).ok_or("a number is too large")?;
    let dir = &config.gateway.data_dir;
    let found = store::dead_letters(dir, &filter, limit).map_err(|e| e.to_string())?;
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    match request["do"].as_str() {
        Some("replay") => replay(config, &found, &mut done, &mut failed)?,
        Some("purge") => {
            done.extend(found.iter().map(|letter| letter.id));
            store::forget_letters(dir, &done).map_err(|e| e.to_string())?;
        }
        _ => return Ok(letters::document(&found)),
    }
    Ok(json!({"v": 1, "done": done, "failed": failed}))
}

/// With a store of our own, closed in order. Local messages need the daemon's door.
fn replay(config: &Config, found: &[DeadLetterRow], done: &mut Vec<i64>, failed: &mut Vec<Value>) -> Result<(), String> {
    let clock = Clock::Real;
    let options = Options {
        data_dir: config.gateway.data_dir.clone(),
        buffer: config.buffer.clone(),
        clock,
        backing: Backing::Inline,
        linger: engine::unsealed(config),
        uplinks: Holder::with_hooks(&config.uplinks, &config.webhooks),
        epoch_seed: None,
    };
    let (store, _) = Store::open(options).map_err(|e| e.to_string())?;
    for letter in found.iter().rev() {
        let (tell, told) = mpsc::sync_channel(1);
        let receipt = Receipt::new(1, std::sync::Arc::new(move |_, how| _ = tell.try_send(how)));
        let handed = if letter.source.starts_with("uplink ") {
            uplink::replay::replay(&store, letter, receipt, clock.now())
        } else {
            Err("it goes in at the local MQTT door; start fieldgate first")
        };
        match handed {
            Ok(()) if told.recv_timeout(Duration::from_secs(5)) == Ok(Settled::Kept) => done.push(letter.id),
            Ok(()) => failed.push(json!({"id": letter.id, "why": "it could not be written"})),
            Err(why) => failed.push(json!({"id": letter.id, "why": why})),
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        store.submit(vec![Change::ForgetLetters(done.clone())], drop).await;
        store.close().await;
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_a_table_with_the_reason_last() {
        let letters = letters::document(&[DeadLetterRow {
            id: 17,
            source: "uplink cloud".into(),
            topic: "fieldgate/plant-7/telemetry".into(),
            reason: "the broker does not take it: it closes the connection on it".into(),
            body: b"{}".to_vec(),
            wall: crate::model::WallMs(1_795_255_200_000),
        }]);
        let shown = table(letters["letters"].as_array().unwrap());
        let json = with_time(&letters["letters"][0]);
        assert_eq!((json["at"].as_str(), json.get("at_ms")), (Some("2026-11-21T10:00:00.000Z"), None));
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["ID", "AT", "SOURCE", "TOPIC", "REASON"]);
        assert!(lines[1].starts_with("17  20") && lines[1].ends_with("closes the connection on it"), "{shown}");
    }
}
