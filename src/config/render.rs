//! Problems as people read them (UI.md section 2.4) and as programs do.

use super::problem::{Problem, Severity};
use std::fmt::Write;

/// Problems shown in full; the rest is counted. `--json` has them all.
const SHOWN: usize = 100;

#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    pub color: bool,
    pub ascii: bool,
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }
}

/// How many of each, and what that means for the running daemon.
pub fn count(problems: &[Problem]) -> (usize, usize) {
    let of = |s| problems.iter().filter(|p| p.severity == s).count();
    (of(Severity::Error), of(Severity::Warning))
}

/// All problems with a blank line between them, without the final count. Empty when there are none.
pub fn text(problems: &[Problem], style: Style) -> String {
    let (notes, loud): (Vec<&Problem>, Vec<&Problem>) = problems.iter().partition(|p| p.severity == Severity::Note);
    let mut out = String::new();
    for problem in loud.iter().take(SHOWN) {
        one(&mut out, problem, style);
        out.push('\n');
    }
    if loud.len() > SHOWN {
        let _ = writeln!(out, "… and {} more; --json has them all\n", loud.len() - SHOWN);
    }
    for note in notes.iter().take(SHOWN) {
        let head = style.paint("1", &format!("note[{}]", note.code.word()));
        let _ = writeln!(out, "{head}: {} {}", note.found, style.dim(&format!("({})", place(note))));
    }
    if notes.len() > SHOWN {
        let _ = writeln!(out, "… and {} more notes", notes.len() - SHOWN);
    }
    if !notes.is_empty() {
        out.push('\n');
    }
    out
}

/// `fieldgate.toml:3:1`.
pub fn place(p: &Problem) -> String {
    if p.at.line == 0 { p.at.file.display().to_string() } else { format!("{}:{}:{}", p.at.file.display(), p.at.line, p.at.column) }
}

fn one(out: &mut String, p: &Problem, style: Style) {
    let (corner, bar, arrow) = if style.ascii { ("-->", "|", "=>") } else { ("┌─", "│", "→") };
    let loud = if p.severity == Severity::Error { "1;31" } else { "1;33" };
    let head = style.paint(loud, &format!("{}[{}]", p.severity.word(), p.code.word()));
    let _ = writeln!(out, "{head}: {}", style.paint("1", &p.found));
    let width = p.at.line.to_string().len().max(2);
    let _ = writeln!(out, "{:width$} {} {}", "", style.dim(corner), place(p));
    if p.at.line > 0 {
        let (line, column, length) = window(p);
        let _ = writeln!(out, "{:>width$} {} {line}", p.at.line, style.dim(bar));
        let caret = style.paint(loud, &"^".repeat(length));
        let because = if p.because.is_empty() { String::new() } else { format!(" {}", p.because) };
        let _ = writeln!(out, "{:width$} {} {:column$}{caret}{because}", "", style.dim(bar), "");
    } else if !p.because.is_empty() {
        let _ = writeln!(out, "{:width$} {} {}", "", style.dim(bar), p.because);
    }
    let widest = p.want.iter().filter(|w| !w.when.is_empty()).map(|w| w.write.chars().count()).max().unwrap_or(0);
    for want in &p.want {
        let when =
            if want.when.is_empty() { String::new() } else { format!("{:1$}{2}", "", widest + 3 - want.write.chars().count(), want.when) };
        let _ = writeln!(out, "{:width$} {} {}{when}", "", style.dim(arrow), want.write);
    }
}

/// The line, the caret's column (from 0) and its length. Tabs become blanks and a long line is cut around the caret,
/// so that the caret stands under what it means; control characters would move the cursor.
fn window(p: &Problem) -> (String, usize, usize) {
    const WIDE: usize = 110;
    let chars: Vec<char> = p.at.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let column = (p.at.column as usize).saturating_sub(1).min(chars.len());
    let length = (p.at.length as usize).clamp(1, WIDE);
    if chars.len() <= WIDE {
        return (chars.into_iter().collect(), column, length);
    }
    let start = column.saturating_sub(WIDE / 3);
    let end = (start + WIDE).min(chars.len());
    let cut: String = chars[start..end].iter().collect();
    let (before, after) = (if start > 0 { "…" } else { "" }, if end < chars.len() { "…" } else { "" });
    (format!("{before}{cut}{after}"), column - start + usize::from(start > 0), length.min(end.saturating_sub(column).max(1)))
}

/// The shape of UI.md section 2.4.
pub fn json(problems: &[Problem]) -> serde_json::Value {
    let list = problems.iter().map(|p| {
        let found = if p.because.is_empty() { p.found.clone() } else { format!("{}: {}", p.found, p.because) };
        let want: Vec<String> =
            p.want.iter().map(|w| if w.when.is_empty() { w.write.clone() } else { format!("{} ({})", w.write, w.when) }).collect();
        serde_json::json!({
            "severity": p.severity.word(), "code": p.code.word(), "file": p.at.file.display().to_string(),
            "line": p.at.line, "column": p.at.column, "length": p.at.length, "key": p.key, "found": found, "want": want.join("\n"),
        })
    });
    serde_json::Value::Array(list.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{problem::Code, source::Spot};

    fn ambiguous() -> Problem {
        let at = Spot { file: "/etc/fieldgate/conf.d/boiler.toml".into(), line: 8, column: 12, length: 5, text: "register = 40001".into() };
        let mut p =
            Problem::new(Severity::Error, Code::AmbiguousRegister, at, "device.boiler.point.x.register", "40001 can be meant in two ways");
        p.because("address 40001 on the wire, or the first holding register?")
            .want_when("register = \"holding:0\"", "if the manual counts from 40001")
            .want_when("register = \"holding:40001\"", "if the manual says that is the address");
        p
    }

    #[test]
    fn a_problem_looks_as_in_the_interface_guide() {
        let want = "\
error[ambiguous-register]: 40001 can be meant in two ways
   ┌─ /etc/fieldgate/conf.d/boiler.toml:8:12
 8 │ register = 40001
   │            ^^^^^ address 40001 on the wire, or the first holding register?
   → register = \"holding:0\"       if the manual counts from 40001
   → register = \"holding:40001\"   if the manual says that is the address

";
        assert_eq!(text(&[ambiguous()], Style::default()), want);
    }

    #[test]
    fn without_utf8_the_frame_is_ascii() {
        let shown = text(&[ambiguous()], Style { ascii: true, color: false });
        assert!(shown.is_ascii(), "{shown}");
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let mut p = ambiguous();
        p.at.text = format!("{}register = 40001{}", "x".repeat(400), "y".repeat(400));
        p.at.column = 412;
        let shown = text(&[p], Style::default());
        let lines: Vec<&str> = shown.lines().collect();
        let caret = lines[3].chars().position(|c| c == '^').unwrap();
        let under: String = lines[2].chars().skip(caret).take(5).collect();
        assert_eq!(under, "40001", "{shown}");
    }

    #[test]
    fn json_has_the_agreed_keys() {
        let value = json(&[ambiguous()]);
        let keys: Vec<&str> = value[0].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["severity", "code", "file", "line", "column", "length", "key", "found", "want"]);
    }
}
