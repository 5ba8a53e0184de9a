//! One screen of 80 x 24: field, gateway and cloud side by side. Pure: a picture in, lines out.

use super::summary::Rate;
use crate::cli::{
    Out,
    out::{Paint, age, bytes, count},
};
use std::collections::VecDeque;

/// Columns of the two charts.
pub const HISTORY: usize = 54;

#[derive(Debug, Clone, Default)]
pub struct Picture {
    pub in_rate: Rate,
    pub received_rate: Rate,
    pub elapsed_s: u64,
    /// Name, online, all.
    pub groups: Vec<(String, u64, u64)>,
    pub in_per_s: u64,
    pub waiting: u64,
    pub written: u64,
    /// `up`, `catching_up`, `down`.
    pub cloud: String,
    pub cloud_since_s: u64,
    pub answer_ms: Option<u64>,
    pub received_per_s: u64,
    pub missing: u64,
    pub twice: u64,
    pub resends: u64,
    pub waiting_history: VecDeque<u64>,
    pub arriving_history: VecDeque<u64>,
    /// Label, value with unit, recent values.
    pub values: Vec<(String, String, VecDeque<f64>)>,
    pub caption: Vec<String>,
    pub held: bool,
}

impl Picture {
    /// Remembers one column of each chart.
    pub fn remember(history: &mut VecDeque<u64>, value: u64) {
        history.push_back(value);
        while history.len() > HISTORY {
            history.pop_front();
        }
    }
}

/// Every line at most 78 columns, always the same number of lines.
pub fn render(p: &Picture, out: &Out) -> Vec<String> {
    let rule = if out.ascii { "-" } else { "─" }.repeat(78);
    let mut lines = vec![
        format!(
            " {:<52}{:>10}   space o k q",
            out.paint(Paint::Bold, "fieldgate demo") + if p.held { "   held" } else { "" },
            clock(p.elapsed_s)
        ),
        format!(" {rule}"),
        format!("  {:<26} {:<26} {}", "FIELD", "GATEWAY", "CLOUD"),
    ];
    let gateway = [
        format!("{} samples/s in", count(p.in_per_s)),
        format!("{} waiting", count(p.waiting)),
        format!("{} written to disk", bytes(p.written)),
    ];
    let cloud = cloud(p, out);
    for n in 0..3 {
        let field = p.groups.get(n).map_or(String::new(), |(name, online, all)| {
            let state = if online == all { "online" } else { "offline" };
            format!("{} {name:<8} {online} of {all} online", out.glyph(state))
        });
        lines.push(format!("  {}{} {:<26} {}", field, " ".repeat(26usize.saturating_sub(width(&field))), gateway[n], cloud[n]));
    }
    lines.push(String::new());
    lines.push(format!("  waiting    {}  {}", chart(p.waiting_history.iter().map(|v| *v as f64), HISTORY, out), count(p.waiting)));
    lines.push(format!(
        "  arriving   {}  {}/s",
        chart(p.arriving_history.iter().map(|v| *v as f64), HISTORY, out),
        count(p.received_per_s)
    ));
    lines.push(String::new());
    let values: Vec<String> =
        p.values.iter().map(|(name, value, recent)| format!("{name} {value:>11} {}", chart(recent.iter().copied(), 4, out))).collect();
    lines.push(format!("  {}", values.join("  ")));
    lines.push(String::new());
    for n in 0..3 {
        lines.push(p.caption.get(n).map_or(String::new(), |c| format!("  {c}")));
    }
    lines
}

fn cloud(p: &Picture, out: &Out) -> [String; 3] {
    let first = match p.cloud.as_str() {
        "down" => format!("{} down for {}", out.glyph("down"), age(p.cloud_since_s * 1000)),
        "catching_up" => format!("{} up, catching up", out.glyph("up")),
        "up" => match p.answer_ms {
            Some(ms) => format!("{} up, answers in {ms} ms", out.glyph("up")),
            None => format!("{} up", out.glyph("up")),
        },
        _ => format!("{} not connected yet", out.glyph("unknown")),
    };
    let sums = if p.resends > 0 {
        format!("{} missing, {} twice, {} resent", p.missing, p.twice, p.resends)
    } else {
        format!("{} missing, {} twice", p.missing, p.twice)
    };
    [first, format!("{}/s received", count(p.received_per_s)), sums]
}

fn clock(s: u64) -> String {
    format!("{}:{:02}", s / 60, s % 60)
}

/// Columns that a text takes, its colour codes not counted.
fn width(text: &str) -> usize {
    let mut columns = 0;
    let mut escaped = false;
    for c in text.chars() {
        match c {
            '\x1b' => escaped = true,
            'm' if escaped => escaped = false,
            _ if !escaped => columns += 1,
            _ => {}
        }
    }
    columns
}

/// The last `columns` figures as bars from the lowest to the highest of them; zero is always the lowest bar.
pub fn chart(values: impl Iterator<Item = f64>, columns: usize, out: &Out) -> String {
    const BARS: [char; 7] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇'];
    const PLAIN: [char; 5] = ['1', '2', '3', '4', '5'];
    let values: Vec<f64> = values.collect();
    let values = &values[values.len().saturating_sub(columns)..];
    let top = values.iter().copied().fold(0.0, f64::max);
    let low = values.iter().copied().fold(f64::INFINITY, f64::min).min(if columns > 10 { 0.0 } else { f64::INFINITY });
    let bars = if out.ascii { &PLAIN[..] } else { &BARS[..] };
    let mut text = " ".repeat(columns - values.len());
    for v in values {
        let share = if top > low { (v - low) / (top - low) } else { 0.0 };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // 0 to 6
        let n = (share * (bars.len() - 1) as f64).round() as usize;
        text.push(bars[n.min(bars.len() - 1)]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_fits_eighty_columns_with_the_largest_figures() {
        let p = Picture {
            elapsed_s: 3599,
            groups: vec![("meters".into(), 2, 3), ("plc".into(), 1, 1), ("mqtt".into(), 4, 4)],
            in_per_s: 4_120,
            waiting: 1_234_567,
            written: 12_300_000,
            cloud: "down".into(),
            cloud_since_s: 3599,
            received_per_s: 43_000,
            missing: 0,
            twice: 0,
            resends: 12,
            waiting_history: (0..200).collect(),
            arriving_history: (0..200).rev().collect(),
            values: vec![("meter-1".into(), "1,284 W".into(), [1.0, 2.0].into()), ("boiler".into(), "64.2 °C".into(), [3.0].into())],
            caption: vec!["x".repeat(76)],
            ..Picture::default()
        };
        let lines = render(&p, &Out::plain());
        assert!(lines.len() <= 24);
        for line in &lines {
            assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
        }
        assert!(lines[3].contains("✕ meters   2 of 3 online"), "{}", lines[3]);
    }
}
