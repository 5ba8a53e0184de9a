//! `fieldgate profiles`: what is there, what one says, whether one is right, and what other programs' files give.

mod import;
mod show;
#[cfg(test)]
mod tests;

use super::{
    EXIT_CONFIG, Global, Out, out,
    table::{Table, left, right},
};
use crate::config::{self, Profile, Secrets, Surroundings, profile::Found, render::Style};
use std::{fmt::Write, path::PathBuf, process::ExitCode};

/// Wrong usage: the profile that was asked for is not there.
const EXIT_USAGE: u8 = 2;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fieldgate profiles                         what is there\n  fieldgate profiles show eastron-sdm120     its points, requests and sources\n  fieldgate profiles check my-meter.toml     before it is put in /etc/fieldgate/profiles\n  fieldgate profiles import telegraf telegraf.conf > my-meter.toml\n\nExit: 0 good, 2 no such profile, 78 a profile with an error. How to write one: docs/profiles.md"
)]
pub struct Args {
    #[command(subcommand)]
    pub what: Option<What>,
}

#[derive(Debug, clap::Subcommand)]
pub enum What {
    /// One profile: points with wire addresses, the requests they make, sources and notes
    Show {
        /// As in `profile = "…"`; a variant stands behind an @
        id: String,
    },
    /// Every problem of these files at once, with place and remedy
    #[command(after_help = "Examples:\n  fieldgate profiles check my-meter.toml\n\nExit: 0 good, 78 with an error.")]
    Check {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// A profile from another program's file, on stdout; what could not be carried over is in its comments
    #[command(
        after_help = "Examples:\n  fieldgate profiles import telegraf telegraf.conf > my-meter.toml\n  fieldgate profiles import evcc eastron.yaml > eastron.toml\n\nExit: 0 written, 2 nothing in it that is Modbus, 78 what came out does not check."
    )]
    Import {
        format: import::Format,
        file: PathBuf,
        /// The slave to take, where a Telegraf configuration has several
        #[arg(short, long, value_name = "N")]
        unit: Option<u8>,
    },
}

pub fn run(global: &Global, out: &Out, args: &Args) -> ExitCode {
    let around = Surroundings::real(Secrets::Unread);
    match &args.what {
        None => list(out, &config::profile::profiles(&global.config, &around)),
        Some(What::Show { id }) => show_one(out, &config::profile::profiles(&global.config, &around), id),
        Some(What::Import { format, file, unit }) => import::run(out, *format, file, *unit),
        Some(What::Check { files }) => check(out, &around, files),
    }
}

fn list(out: &Out, found: &Found) -> ExitCode {
    if out.json {
        let all: Vec<serde_json::Value> = found.profiles.iter().map(show::summary).collect();
        out.say(&serde_json::json!({"v": 1, "profiles": all, "problems": config::render::json(&found.problems)}).to_string());
    } else {
        out.table(list_text(found, out).trim_end());
        if let Some(first) = found.profiles.first() {
            out.next(&format!("fieldgate profiles show {}", first.id));
        }
        broken(out, found);
    }
    ExitCode::SUCCESS
}

/// A profile with an error is not offered: say that it is there.
fn broken(out: &Out, found: &Found) {
    let files: std::collections::BTreeSet<_> =
        found.problems.iter().filter(|p| p.severity == config::Severity::Error).map(|p| p.at.file.display().to_string()).collect();
    for file in files {
        out.error("bad-profile", &format!("{file} does not check"), &format!("fieldgate profiles check {file}"));
    }
}

fn list_text(found: &Found, out: &Out) -> String {
    let columns =
        [left("PROFILE"), right("POINTS").rank(2), left("VERIFIED").rank(3), left("DEVICE").text(20), left("SOURCE").text(20).rank(4)];
    let mut table = Table::new(&columns);
    for p in &found.profiles {
        // A SunSpec device says itself how many it has.
        let points = if p.device.sunspec.is_some() { "-".into() } else { out::count(p.device.points.len() as u64) };
        let source = p.about.source.first().map_or("", String::as_str);
        let more = match p.about.source.len() {
            0 | 1 => String::new(),
            n => format!(" (+{})", n - 1),
        };
        table.row("", [p.id.clone(), points, p.about.verified.word().into(), p.about.title.clone(), format!("{source}{more}")]);
    }
    let mut text = table.text(out);
    if found.profiles.is_empty() {
        text.push_str("none; the package puts them into /usr/share/fieldgate/profiles\n");
    }
    text
}

fn show_one(out: &Out, found: &Found, id: &str) -> ExitCode {
    let Some(profile) = found.profiles.iter().find(|p| p.id == id) else {
        let near = config::nearest(id, found.profiles.iter().map(|p| p.id.as_str()));
        let remedy = near.map_or_else(|| "fieldgate profiles".to_owned(), |near| format!("fieldgate profiles show {near}"));
        out.error("unknown-profile", &format!("there is no profile `{id}`"), &remedy);
        broken(out, found);
        return ExitCode::from(EXIT_USAGE);
    };
    let base = id.split('@').next().unwrap_or(id);
    let variants: Vec<&Profile> = found.profiles.iter().filter(|p| p.id != id && p.id.split('@').next() == Some(base)).collect();
    if out.json {
        out.say(&show::json(profile, &variants).to_string());
    } else {
        out.table(show::text(profile, &variants, out).trim_end());
    }
    ExitCode::SUCCESS
}

fn check(out: &Out, around: &Surroundings, files: &[PathBuf]) -> ExitCode {
    let mut problems = Vec::new();
    let mut good = Vec::new();
    for file in files {
        let found = config::profile::profile_file(file, around);
        problems.extend(found.problems);
        good.extend(found.profiles);
    }
    problems.sort_by_key(|p| p.severity);
    let (errors, warnings) = config::render::count(&problems);
    if out.json {
        let ids: Vec<&str> = good.iter().map(|p| p.id.as_str()).collect();
        out.say(&serde_json::json!({"v": 1, "ok": errors == 0, "profiles": ids, "problems": config::render::json(&problems)}).to_string());
    } else {
        let mut text = config::render::text(&problems, Style { color: out.color, ascii: out.ascii });
        for p in &good {
            let _ = writeln!(text, "{} {} is good: {}", out.glyph("good"), p.id, some(p.device.points.len(), "point"));
        }
        if errors + warnings > 0 {
            let _ = writeln!(text, "{}, {}.", some(errors, "error"), some(warnings, "warning"));
        }
        out.say(text.trim_end());
    }
    if errors == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_CONFIG) }
}

/// `1 error`, `3 errors`.
fn some(n: usize, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{} {what}{plural}", out::count(n as u64))
}
