//! What a package carries beside the program, from the definitions that the program itself uses: man pages, completions of
//! three shells, and the schema of each database. `cargo run --example papers -- DIRECTORY`; `packaging/build-deb` does it.

use clap::Command;
use clap_complete::{Shell, generate};
use clap_mangen::Man;
use fieldgate::{cli, store};
use std::{
    env, fs,
    io::{self, Write},
    path::Path,
};

const FILES: &[(&str, &str)] = &[
    ("/etc/fieldgate/fieldgate.toml", "the configuration; *.toml in conf.d beside it is read too"),
    ("/etc/fieldgate/profiles/", "your device profiles"),
    ("/usr/share/fieldgate/profiles/", "the device profiles that were shipped"),
    ("/var/lib/fieldgate/", "devices, events, and telemetry that waits for the cloud"),
    ("/run/fieldgate/control.sock", "where status and the site tools ask the running daemon"),
    ("/usr/share/doc/fieldgate/", "the guides: operations.md, configuration.md, field.md and others"),
];

fn main() -> io::Result<()> {
    let dir = env::args().nth(1).ok_or_else(|| io::Error::other("name a directory to write to"))?;
    let dir = Path::new(&dir);
    let mut command = cli::command();
    command.build();
    let man = dir.join("man1");
    fs::create_dir_all(&man)?;
    pages(&command, "fieldgate", &date(), &man)?;
    for (shell, file) in [(Shell::Bash, "fieldgate.bash"), (Shell::Zsh, "_fieldgate"), (Shell::Fish, "fieldgate.fish")] {
        let mut out = fs::File::create(dir.join(file))?;
        generate(shell, &mut cli::command(), "fieldgate", &mut out);
    }
    let schemas: String = store::SCHEMAS.iter().map(|(file, schema)| format!("{file} {schema}\n")).collect();
    fs::write(dir.join("schemas"), schemas)
}

/// The day of the sources, so that the same sources give the same pages.
fn date() -> String {
    env::var("SOURCE_DATE").unwrap_or_default()
}

/// The page of a command, and those of its subcommands.
fn pages(command: &Command, name: &str, date: &str, dir: &Path) -> io::Result<()> {
    for sub in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        pages(sub, &format!("{name}-{}", sub.get_name()), date, dir)?;
    }
    let mut out = fs::File::create(dir.join(format!("{name}.1")))?;
    // Examples and exit codes get sections of their own, so neither help text may bring them along.
    let plain = command.clone().before_help("").after_help("");
    let man = Man::new(plain)
        .title(name.to_uppercase())
        .date(date)
        .manual("fieldgate")
        .source(format!("fieldgate {}", env!("CARGO_PKG_VERSION")));
    man.render_title(&mut out)?;
    // The name of a page is what `man` finds it by, not how it is called.
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    write!(out, ".SH NAME\n{} \\- {}\n", escape(name), escape(about.trim_end_matches('.')))?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    if command.has_subcommands() {
        writeln!(out, ".SH COMMANDS")?;
        for sub in command.get_subcommands().filter(|c| !c.is_hide_set()) {
            let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
            write!(out, ".TP\n\\fB{}\\-{}\\fR(1)\n{}\n", escape(name), escape(sub.get_name()), escape(&about))?;
        }
    }
    let said = |text: Option<&clap::builder::StyledStr>| text.map(ToString::to_string).unwrap_or_default();
    let text = format!("{}\n{}", said(command.get_before_help()), said(command.get_after_help()));
    let Said { examples, exit, notes } = sort(&text);
    section(&mut out, "EXAMPLES", &examples, true)?;
    section(&mut out, "NOTES", &notes, false)?;
    section(&mut out, "EXIT STATUS", &exit, false)?;
    if name == "fieldgate" {
        writeln!(out, ".SH FILES")?;
        for (path, what) in FILES {
            write!(out, ".TP\n\\fI{}\\fR\n{}\n", escape(path), escape(what))?;
        }
    } else {
        writeln!(out, ".SH SEE ALSO\n\\fBfieldgate\\fR(1)")?;
    }
    Ok(())
}

#[derive(Default)]
struct Said {
    examples: Vec<String>,
    exit: Vec<String>,
    notes: Vec<String>,
}

/// Help ends in "Examples:" with indented lines, sentences, and one line "Exit: …".
fn sort(text: &str) -> Said {
    let mut said = Said::default();
    let mut examples = false;
    for line in text.lines() {
        if line.starts_with("Examples:") {
            examples = true;
        } else if let Some(exit) = line.strip_prefix("Exit: ") {
            said.exit.push(exit.to_owned());
        } else if examples && line.starts_with("  ") {
            said.examples.push(line.trim_start().to_owned());
        } else if !line.trim().is_empty() {
            examples = false;
            said.notes.push(line.trim().to_owned());
        }
    }
    said
}

fn section(out: &mut impl Write, title: &str, lines: &[String], as_they_are: bool) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out, ".SH \"{title}\"")?;
    if as_they_are {
        writeln!(out, ".nf")?;
    }
    for line in lines {
        writeln!(out, "{}", escape(line))?;
    }
    if as_they_are {
        writeln!(out, ".fi")?;
    }
    Ok(())
}

/// Text that roff takes for nothing but text.
fn escape(text: &str) -> String {
    let escaped = text.replace('\\', "\\(rs").replace('-', "\\-").replace('\n', " ");
    if escaped.starts_with(['.', '\'']) { format!("\\&{escaped}") } else { escaped }
}
