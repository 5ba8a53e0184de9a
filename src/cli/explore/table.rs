//! The table: one row per value, in the layout that makes most of them plausible. Pure.

use super::{
    guess::{self, Guess, ORDERS, Reading},
    span::{Cell, Look, Span},
};
use crate::{
    cli::{Out, out::Paint},
    config::{DataType, WordOrder},
};
use serde_json::{Map, Value, json};

/// A guess from here on is starred.
const TELLING: u8 = 55;

/// How registers are taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One by one.
    Singles,
    /// In pairs from the first one, or from the second.
    Pairs { shifted: bool },
}

impl Layout {
    pub fn next(self) -> Layout {
        match self {
            Layout::Pairs { shifted: false } => Layout::Pairs { shifted: true },
            Layout::Pairs { shifted: true } => Layout::Singles,
            Layout::Singles => Layout::Pairs { shifted: false },
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub at: u16,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub enum What {
    Words { a: u16, b: Option<u16>, guess: Guess },
    Refused(u8),
    Missing,
}

/// The layout whose guesses weigh most, each against the registers that it takes.
pub fn layout(span: &Span, look: &Look) -> Layout {
    let weight = |layout| -> u32 {
        rows(span, look, None, layout, None)
            .iter()
            .map(|row| match &row.what {
                What::Words { guess, .. } if guess.score >= TELLING && layout == Layout::Singles && guess.reading.kind.words() == 1 => {
                    u32::from(guess.score)
                }
                What::Words { guess, .. } if guess.score >= TELLING && layout != Layout::Singles && guess.reading.kind.words() == 2 => {
                    u32::from(guess.score) * 2
                }
                _ => 0,
            })
            .sum()
    };
    let all = [Layout::Pairs { shifted: false }, Layout::Pairs { shifted: true }, Layout::Singles];
    all.into_iter().rev().max_by_key(|l| weight(*l)).unwrap_or(Layout::Singles)
}

pub fn rows(span: &Span, look: &Look, before: Option<&Look>, layout: Layout, expected: Option<f64>) -> Vec<Row> {
    let mut out = Vec::new();
    let mut n = 0;
    while n < look.cells.len() {
        let at = span.start.saturating_add(u16::try_from(n).unwrap_or(u16::MAX));
        let word = |look: &Look, n: usize| match look.cells.get(n) {
            Some(Some(Cell::Word(w))) => Some(*w),
            _ => None,
        };
        let (what, taken) = match look.cells[n] {
            Some(Cell::Refused(code)) => (What::Refused(code), 1),
            None | Some(Cell::Missing) => (What::Missing, 1),
            Some(Cell::Word(a)) => {
                let pairs = matches!(layout, Layout::Pairs { shifted } if (n % 2 == 1) == shifted);
                let b = word(look, n + 1).filter(|_| pairs);
                let was = before.and_then(|l| Some((word(l, n)?, word(l, n + 1).filter(|_| pairs))));
                (What::Words { a, b, guess: guess::best(a, b, was, expected) }, if b.is_some() { 2 } else { 1 })
            }
        };
        out.push(Row { at, what });
        n += taken;
    }
    if expected.is_some() {
        out.sort_by_key(|row| match &row.what {
            What::Words { guess, .. } => (100 - guess.score.min(100), row.at),
            _ => (101, row.at),
        });
    }
    out
}

pub fn head(order: WordOrder) -> String {
    let second = if order == WordOrder::Abcd { WordOrder::Cdab } else { order };
    let (first, second) = ("ABCD", guess::order_word(second));
    format!("      AT  RAW            U16     I16   F32 {first}    F32 {second}  LOOKS LIKE")
}

/// `refused (2): no such register`.
pub fn refused(code: u8) -> String {
    format!("refused ({code}): {}", crate::cli::read::exception(code).0)
}

/// One line of it. `order`: the second column of singles.
pub fn line(row: &Row, order: WordOrder, out: &Out) -> String {
    match &row.what {
        What::Refused(code) => out.paint(Paint::Dim, &format!("   {:>5}  {}", row.at, refused(*code))),
        What::Missing => out.paint(Paint::Dim, &format!("   {:>5}  no answer", row.at)),
        What::Words { a, b, guess } => {
            let star = if guess.score >= TELLING { "*" } else { " " };
            let raw: Vec<String> = [Some(*a), *b].into_iter().flatten().flat_map(u16::to_be_bytes).map(|b| format!("{b:02x}")).collect();
            let second = if order == WordOrder::Abcd { WordOrder::Cdab } else { order };
            let single = |order| single(*a, *b, order);
            let says = if star == "*" { out.paint(Paint::Bold, &guess.says) } else { guess.says.clone() };
            format!(
                " {star} {:>5}  {:11}  {a:>5}  {:>6}  {:>9}  {:>9}  {says}",
                row.at,
                raw.join(" "),
                a.cast_signed(),
                single(WordOrder::Abcd),
                single(second)
            )
        }
    }
}

fn single(a: u16, b: Option<u16>, order: WordOrder) -> String {
    let found = guess::readings(a, b).into_iter().find(|r| r.kind == DataType::F32 && r.order == order);
    match found {
        None => String::new(),
        Some(r) if !r.value.is_finite() => "NaN".into(),
        Some(r) if r.value == 0.0 || (0.01..1e6).contains(&r.value.abs()) => format!("{:.2}", r.value),
        Some(r) => format!("{:.1e}", r.value),
    }
}

/// One row as `--json` prints it.
pub fn json(row: &Row, table: &str) -> Value {
    let mut object = json!({"at": row.at, "register": format!("{table}:{}", row.at)});
    match &row.what {
        What::Refused(code) => object["refused"] = json!(code),
        What::Missing => object["missing"] = json!(true),
        What::Words { a, b, guess } => {
            let raw: Vec<String> = [Some(*a), *b].into_iter().flatten().map(|w| format!("{w:04x}")).collect();
            let number = |r: &Reading| if r.value.is_finite() { json!(r.value) } else { Value::Null };
            let readings: Map<String, Value> = guess::readings(*a, *b).iter().map(|r| (r.name(), number(r))).collect();
            object["raw"] = json!(raw.join(" "));
            object["readings"] = Value::Object(readings);
            object["plausible"] =
                json!({"as": guess.reading.name(), "scale": guess.scale, "score": guess.score, "unit": guess.unit, "says": guess.says});
        }
    }
    object
}

/// The next word order of the second column.
pub fn next_order(order: WordOrder) -> WordOrder {
    let at = ORDERS.iter().position(|(o, _)| *o == order).unwrap_or(0);
    ORDERS[(at + 1) % ORDERS.len()].0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Table;

    fn look(words: &[u16]) -> Look {
        Look { cells: words.iter().map(|w| Some(Cell::Word(*w))).collect(), alive: true, ..Look::default() }
    }

    fn singles(values: &[f32]) -> Vec<u16> {
        values.iter().flat_map(|v| v.to_be_bytes().as_chunks::<2>().0.iter().map(|b| u16::from_be_bytes(*b)).collect::<Vec<_>>()).collect()
    }

    #[test]
    fn the_layout_is_that_of_the_map() {
        let span = Span::new(1, Table::Input, 0, 8);
        let meter = singles(&[230.1, 5.57, 1284.2, 50.01]);
        assert_eq!(layout(&span, &look(&meter)), Layout::Pairs { shifted: false });
        let shifted: Vec<u16> = [&[3][..], &meter[..], &[1]].concat();
        assert_eq!(layout(&span, &look(&shifted)), Layout::Pairs { shifted: true });
        assert_eq!(layout(&span, &look(&[2301, 2298, 2310, 5001, 12, 7, 900, 3])), Layout::Singles);
    }

    #[test]
    fn rows_show_what_looks_plausible_and_what_is_refused() {
        let span = Span::new(1, Table::Input, 0, 3);
        let mut look = look(&singles(&[230.14]));
        look.cells.push(Some(Cell::Refused(2)));
        let rows = rows(&span, &look, None, Layout::Pairs { shifted: false }, None);
        let lines: Vec<String> = rows.iter().map(|r| line(r, WordOrder::Abcd, &Out::plain())).collect();
        assert_eq!(lines[0], " *     0  43 66 23 d7  17254   17254     230.14    2.3e-17  230.14 V");
        assert_eq!(lines[1], "       2  refused (2): no such register");
        assert_eq!(json(&rows[0], "input")["plausible"]["as"], "f32/ABCD");
    }

    #[test]
    fn what_the_display_says_comes_first() {
        let span = Span::new(1, Table::Input, 0, 8);
        let meter = look(&singles(&[230.1, 5.57, 1284.2, 50.01]));
        let rows = rows(&span, &meter, None, Layout::Pairs { shifted: false }, Some(1284.2));
        assert_eq!(rows[0].at, 4);
    }
}
