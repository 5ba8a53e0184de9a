//! `fieldgate explore`: what a unit's registers hold, live, with every reading side by side and the most plausible starred;
//! a row becomes a point of the configuration. Off a terminal one table, then the end.

mod guess;
mod save;
mod span;
mod table;

use super::{
    EXIT_NO_ANSWER, EXIT_REFUSED, Global, Out,
    demo::keys::{CTRL_C, Terminal},
    interrupt::EXIT_INTERRUPTED,
    out::Paint,
    site::{self, Bus, Place, Trouble, Wiring},
};
use crate::{
    config::{Register, Table, WordOrder},
    model::{DeviceId, PointId},
};
use save::{Saving, save};
use span::{Cell, Look, Span};
use std::{process::ExitCode, time::Duration};
use table::{Layout, Row, What};

/// Rows on one screen, with head and foot in 24 lines.
const ROWS: usize = 16;
/// A key is answered within this.
const KEY: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
#[command(
    override_usage = "fieldgate explore DEVICE [REGISTER]\n       fieldgate explore PORT --unit N [REGISTER]",
    after_help = "Examples:
  fieldgate explore /dev/ttyUSB1 -u 7               input registers from 0 on
  fieldgate explore meter-1 holding:100 --count 20
  fieldgate explore /dev/ttyUSB1 -u 7 --expect 230.1    rows that read 230.1 first

Keys: up, down, enter save as a point, w word order, + shift by one, / go to, t table, e expected, f freeze, q
Exit: 0 answered, 4 no answer, 5 every register refused."
)]
pub struct Args {
    /// A device of the configuration, or a port (/dev/…), a line or host[:port]
    #[arg(value_name = "DEVICE|PORT")]
    target: String,
    /// Where to begin, such as input:0 or holding:100
    #[arg(value_name = "REGISTER")]
    register: Option<String>,
    /// Unit address, for a port
    #[arg(short, long, value_name = "N")]
    unit: Option<u8>,
    /// Registers to look at
    #[arg(long, default_value_t = 40, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=500))]
    count: u16,
    /// What the device's display says: rows that read so come first
    #[arg(long, value_name = "VALUE", allow_negative_numbers = true)]
    expect: Option<f64>,
    #[command(flatten)]
    wiring: Wiring,
    /// How often the registers are read
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = super::duration)]
    every: Duration,
}

pub fn run(global: &Global, out: &Out, args: &Args) -> ExitCode {
    match explore(global, out, args) {
        Ok(code) => code,
        Err(trouble) => trouble.say(out),
    }
}

/// `input:0`, or a bare address in the table that is looked at.
fn register(text: &str, table: Table) -> Result<Register, Trouble> {
    let wrong = || Trouble::new("usage", 2, format!("{text} is no register"), "input:0 or holding:100");
    let (table, address) = match text.split_once(':') {
        None => (table, text),
        Some((word, address)) => ([Table::Input, Table::Holding].into_iter().find(|t| t.word() == word).ok_or_else(wrong)?, address),
    };
    Ok(Register { table, address: address.parse().map_err(|_| wrong())? })
}

fn explore(global: &Global, out: &Out, args: &Args) -> Result<ExitCode, Trouble> {
    let place = site::resolve(global, &args.wiring.target(&args.target))?;
    let unit = args
        .unit
        .or(place.device.as_ref().map(|d| d.unit))
        .ok_or_else(|| Trouble::new("usage", 2, "which unit? a port has many", format!("fieldgate explore {} --unit 1", args.target)))?;
    let from = args.register.as_deref().map_or(Ok(Register { table: Table::Input, address: 0 }), |r| register(r, Table::Input))?;
    let mut bus = site::open_place(global, out, &place)?;
    let mut span = Span::new(unit, from.table, from.address, args.count);
    let mut look = span.read(bus.as_mut())?;
    if !look.alive {
        // One lost answer is no verdict, and a connection may speak the other framing.
        look = span.read(bus.as_mut())?;
    }
    if !look.alive {
        let why = if look.garbled { "only broken answers" } else { "no answer" };
        let message = format!("{why} from unit {unit} on {}", bus.place());
        return Err(Trouble::new("silent", EXIT_NO_ANSWER, message, format!("fieldgate scan {}", args.target)));
    }
    match Terminal::take().filter(|_| !out.json) {
        Some(terminal) => {
            let screen = Screen::new(args, &place, span, look, out);
            screen.live(global, &terminal, bus.as_mut())
        }
        None => Ok(once(out, args, &place, &span, &look)),
    }
}

/// One table.
fn once(out: &Out, args: &Args, place: &Place, span: &Span, look: &Look) -> ExitCode {
    let rows = table::rows(span, look, None, table::layout(span, look), args.expect);
    if out.json {
        rows.iter().for_each(|row| out.say(&table::json(row, span.table.word()).to_string()));
    } else {
        out.table(&title(args, place, span, look));
        out.say(&out.paint(Paint::Dim, &table::head(WordOrder::Abcd)));
        for row in folded(&rows) {
            match row {
                Folded::Row(row) => out.table(&table::line(row, WordOrder::Abcd, out)),
                Folded::Refused(from, to, code) => {
                    out.say(&out.paint(Paint::Dim, &format!("   {from:>5}  to {to}: {}", table::refused(code))))
                }
            }
        }
    }
    if look.cells.iter().any(|c| matches!(c, Some(Cell::Word(_)))) { ExitCode::SUCCESS } else { ExitCode::from(EXIT_REFUSED) }
}

enum Folded<'a> {
    Row(&'a Row),
    Refused(u16, u16, u8),
}

/// Neighbours that are refused alike are one line.
fn folded(rows: &[Row]) -> Vec<Folded<'_>> {
    let mut out: Vec<Folded<'_>> = Vec::new();
    for row in rows {
        let What::Refused(code) = row.what else {
            out.push(Folded::Row(row));
            continue;
        };
        match out.last_mut() {
            Some(Folded::Refused(_, to, same)) if *same == code && *to + 1 == row.at => *to = row.at,
            Some(Folded::Row(Row { at, what: What::Refused(same) })) if *same == code && *at + 1 == row.at => {
                let from = *at;
                out.pop();
                out.push(Folded::Refused(from, row.at, code));
            }
            _ => out.push(Folded::Row(row)),
        }
    }
    out
}

fn title(args: &Args, place: &Place, span: &Span, look: &Look) -> String {
    let settings = place.settings().map(|s| format!(" {s}")).unwrap_or_default();
    let unit = args.unit.or(place.device.as_ref().map(|d| d.unit)).unwrap_or(0);
    let name = place.device.as_ref().map(|d| format!("{}   ", d.id)).unwrap_or_default();
    let table = span.table.word();
    format!("{name}unit {unit}, {}{settings}   {table} registers   {} ms", place.name(), look.took.as_millis())
}

/// The live table and what is typed into it.
struct Screen<'a> {
    args: &'a Args,
    place: &'a Place,
    out: &'a Out,
    span: Span,
    look: Look,
    before: Option<Look>,
    layout: Layout,
    order: WordOrder,
    expected: Option<f64>,
    at: usize,
    frozen: bool,
    says: String,
    asking: Option<(Asking, String)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Asking {
    Address,
    Expected,
    /// Of the point; then its unit.
    Name,
    Unit(PointId),
}

impl<'a> Screen<'a> {
    fn new(args: &'a Args, place: &'a Place, span: Span, look: Look, out: &'a Out) -> Screen<'a> {
        let layout = table::layout(&span, &look);
        let (order, expected) = (WordOrder::Abcd, args.expect);
        Screen {
            args,
            place,
            out,
            span,
            look,
            before: None,
            layout,
            order,
            expected,
            at: 0,
            frozen: false,
            says: String::new(),
            asking: None,
        }
    }

    fn live(mut self, global: &Global, terminal: &Terminal, bus: &mut dyn Bus) -> Result<ExitCode, Trouble> {
        let clock = crate::system::clock::Clock::Real;
        let mut next = clock.now() + self.args.every;
        loop {
            terminal.draw(&self.draw());
            if let Some(key) = terminal.key(KEY) {
                // An arrow comes as three bytes.
                let key = match key {
                    27 if terminal.key(Duration::from_millis(5)) == Some(b'[') => match terminal.key(Duration::from_millis(5)) {
                        Some(b'A') => Key::Up,
                        Some(b'B') => Key::Down,
                        _ => continue,
                    },
                    27 => Key::Escape,
                    CTRL_C => return Ok(ExitCode::from(EXIT_INTERRUPTED)),
                    byte => Key::Byte(byte),
                };
                if !self.typed(global, key) {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            if clock.now() >= next && !self.frozen {
                next = clock.now() + self.args.every;
                let look = self.span.read(bus)?;
                if look.alive {
                    self.before = Some(std::mem::replace(&mut self.look, look));
                } else {
                    self.says = "no answer; the values are from before".into();
                }
            }
        }
    }

    fn rows(&self) -> Vec<Row> {
        table::rows(&self.span, &self.look, self.before.as_ref(), self.layout, self.expected)
    }

    fn draw(&self) -> Vec<String> {
        let rows = self.rows();
        let first = self.at.saturating_sub(ROWS / 2).min(rows.len().saturating_sub(ROWS));
        let frozen = if self.frozen { "   frozen" } else { "" };
        let mut lines = vec![title(self.args, self.place, &self.span, &self.look) + frozen];
        lines.push(self.out.paint(Paint::Dim, &table::head(self.order)));
        for (n, row) in rows.iter().enumerate().skip(first).take(ROWS) {
            let line = table::line(row, self.order, self.out);
            lines.push(if n == self.at { format!(">{}", line.get(1..).unwrap_or_default()) } else { line });
        }
        lines.push(String::new());
        lines.push(
            self.out
                .paint(Paint::Dim, "  up down move   enter save   w order   + shift   / go to   t table   e expected   f freeze   q quit"),
        );
        lines.push(match &self.asking {
            Some((Asking::Address, text)) => format!("address > {text}"),
            Some((Asking::Expected, text)) => format!("the display says > {text}"),
            Some((Asking::Name, text)) => format!("point name > {text}"),
            Some((Asking::Unit(_), text)) => format!("unit > {text}"),
            None => self.says.clone(),
        });
        lines
    }

    /// `false`: over.
    fn typed(&mut self, global: &Global, key: Key) -> bool {
        if let Some((asking, mut text)) = self.asking.take() {
            match key {
                Key::Byte(b'\n' | b'\r') => self.answered(global, asking, text.trim()),
                Key::Byte(8 | 127) => {
                    text.pop();
                    self.asking = Some((asking, text));
                }
                Key::Byte(byte) if byte.is_ascii_graphic() || byte == b' ' => {
                    text.push(byte.into());
                    self.asking = Some((asking, text));
                }
                Key::Escape => {}
                _ => self.asking = Some((asking, text)),
            }
            return true;
        }
        self.says.clear();
        let ask = |asking| Some((asking, String::new()));
        match key {
            Key::Up | Key::Byte(b'k') => self.at = self.at.saturating_sub(1),
            Key::Down | Key::Byte(b'j') => self.at = (self.at + 1).min(self.rows().len().saturating_sub(1)),
            Key::Byte(b'w') => self.order = table::next_order(self.order),
            Key::Byte(b'+' | b'-') => self.layout = self.layout.next(),
            Key::Byte(b'f') => self.frozen = !self.frozen,
            Key::Byte(b't') => self.go(if self.span.table == Table::Input { Table::Holding } else { Table::Input }, self.span.start),
            Key::Byte(b'/') => self.asking = ask(Asking::Address),
            Key::Byte(b'e') => self.asking = ask(Asking::Expected),
            Key::Byte(b'\n' | b'\r') => self.asking = ask(Asking::Name),
            Key::Byte(b'q') | Key::Escape => return false,
            Key::Byte(_) => {}
        }
        true
    }

    fn go(&mut self, table: Table, start: u16) {
        let unit = self.args.unit.or(self.place.device.as_ref().map(|d| d.unit)).unwrap_or(0);
        self.span = Span::new(unit, table, start, self.args.count);
        self.look = Look::default();
        (self.before, self.at) = (None, 0);
    }

    fn answered(&mut self, global: &Global, asking: Asking, text: &str) {
        match asking {
            Asking::Address => match register(text, self.span.table) {
                Ok(register) => self.go(register.table, register.address),
                Err(trouble) => self.says = trouble.message,
            },
            Asking::Expected => {
                self.expected = text.parse().ok();
                self.at = 0;
            }
            Asking::Name => match PointId::parse(text) {
                Ok(point) => {
                    let unit = self.chosen().map_or("", |(_, guess)| guess.unit);
                    self.asking = Some((Asking::Unit(point), unit.to_owned()));
                }
                Err(e) => self.says = e.to_string(),
            },
            Asking::Unit(point) => self.says = self.save(global, point, text),
        }
    }

    fn chosen(&self) -> Option<(u16, guess::Guess)> {
        match self.rows().get(self.at) {
            Some(Row { at, what: What::Words { guess, .. } }) => Some((*at, guess.clone())),
            _ => None,
        }
    }

    fn save(&self, global: &Global, point: PointId, unit_of_measure: &str) -> String {
        let Some((address, guess)) = self.chosen() else { return "there is no value in this row".into() };
        let unit = self.args.unit.or(self.place.device.as_ref().map(|d| d.unit)).unwrap_or(0);
        let device = self.place.device.as_ref().map(|d| d.id.clone());
        let Some(device) = device.or_else(|| DeviceId::parse(&format!("unit-{unit}")).ok()) else { return String::new() };
        let register = Register { table: self.span.table, address };
        let unit_of_measure = unit_of_measure.to_owned();
        let saving = Saving { device: &device, unit, place: self.place, point, register, guess: &guess, unit_of_measure };
        match save(&global.config, &saving) {
            Ok(file) => format!("saved to {}", file.display()),
            Err(why) => format!("not saved: {why}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Up,
    Down,
    Escape,
    Byte(u8),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_typed_with_or_without_their_table() {
        let check = |text: &str, want: Option<&str>| {
            assert_eq!(register(text, Table::Input).ok().map(|r| r.to_string()).as_deref(), want, "{text}");
        };
        check("holding:100", Some("holding:100"));
        check("12", Some("input:12"));
        check("coil:1", None);
        check("input:70000", None);
    }

    #[test]
    fn a_run_of_refused_registers_is_one_line() {
        let row = |at, code| Row { at, what: What::Refused(code) };
        let rows = [row(0, 2), row(1, 2), row(2, 2), row(3, 4)];
        let folded = folded(&rows);
        assert!(matches!(folded[..], [Folded::Refused(0, 2, 2), Folded::Row(_)]));
    }
}
