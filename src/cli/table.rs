//! A table as every subcommand prints it: two spaces between columns, capitals above, numbers right.
//!
//! On a terminal that is too narrow the text column shrinks first; then columns leave by their rank, and the last line says
//! which. Piped, or with `--wide`, nothing leaves and nothing is cut. Pure: the width comes with [`Out`].

use super::{
    Out,
    out::{Paint, columns, cut},
};

#[derive(Debug, Clone, Copy)]
pub struct Column {
    head: &'static str,
    right: bool,
    /// The highest leaves first; 0 stays.
    rank: u8,
    /// Never narrower than this in a table that is printed row by row.
    least: usize,
    /// A text may be cut to this.
    shrink: Option<usize>,
}

pub const fn left(head: &'static str) -> Column {
    Column { head, right: false, rank: 0, least: 0, shrink: None }
}

pub const fn right(head: &'static str) -> Column {
    Column { right: true, ..left(head) }
}

impl Column {
    pub const fn rank(self, rank: u8) -> Column {
        Column { rank, ..self }
    }

    pub const fn least(self, least: usize) -> Column {
        Column { least, ..self }
    }

    /// Free text: so much of it says enough.
    pub const fn text(self, shrink: usize) -> Column {
        Column { shrink: Some(shrink), ..self }
    }
}

#[derive(Debug, Default)]
pub struct Table {
    columns: Vec<Column>,
    /// What stands before the first column (a glyph), and the cells.
    rows: Vec<(String, Vec<String>)>,
    is_headless: bool,
}

impl Table {
    pub fn new(columns: &[Column]) -> Table {
        Table { columns: columns.to_vec(), ..Table::default() }
    }

    /// Its columns have names that only the last line says.
    pub fn headless(columns: &[Column]) -> Table {
        Table { is_headless: true, ..Table::new(columns) }
    }

    pub fn row(&mut self, lead: impl Into<String>, cells: impl Into<Vec<String>>) {
        self.rows.push((lead.into(), cells.into()));
    }

    /// All of it.
    pub fn text(&self, out: &Out) -> String {
        let fit = self.fit(out);
        let lead = self.rows.iter().map(|(lead, _)| columns(lead)).max().unwrap_or(0);
        let mut lines = Vec::new();
        if !self.is_headless {
            lines.push(out.paint(Paint::Dim, &self.line(&fit, &" ".repeat(lead), &self.heads(), out)));
        }
        lines.extend(self.rows.iter().map(|(lead, cells)| self.line(&fit, lead, cells, out)));
        lines.extend(self.gone(&fit).map(|gone| out.paint(Paint::Dim, &gone)));
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// The head alone, of a table that is printed row by row.
    pub fn head(&self, lead: &str, out: &Out) -> String {
        self.line(&self.fit(out), lead, &self.heads(), out)
    }

    /// One row of it.
    pub fn one(&self, lead: &str, cells: &[String], out: &Out) -> String {
        self.line(&self.fit(out), lead, cells, out)
    }

    /// Which columns a narrow terminal does not show.
    pub fn missing(&self, out: &Out) -> Option<String> {
        self.gone(&self.fit(out))
    }

    fn heads(&self) -> Vec<String> {
        self.columns.iter().map(|c| c.head.to_owned()).collect()
    }

    /// The width of each column; `None`: it does not fit.
    fn fit(&self, out: &Out) -> Vec<Option<usize>> {
        let natural: Vec<usize> = self.columns.iter().enumerate().map(|(n, c)| self.natural(n, c)).collect();
        let Some(wide) = out.width else { return natural.into_iter().map(Some).collect() };
        let lead = self.rows.iter().map(|(lead, _)| columns(lead)).max().unwrap_or(2);
        let mut stays = vec![true; natural.len()];
        let least = |n: usize| self.columns[n].shrink.map_or(natural[n], |least| least.min(natural[n]));
        let need = |stays: &[bool]| {
            let widths: Vec<usize> = (0..natural.len()).filter(|n| stays[*n]).map(least).collect();
            lead + widths.iter().sum::<usize>() + widths.len().saturating_sub(1) * 2
        };
        while need(&stays) > wide {
            let leaves = (0..natural.len()).filter(|n| stays[*n] && self.columns[*n].rank > 0).max_by_key(|n| (self.columns[*n].rank, *n));
            let Some(leaves) = leaves else { break };
            stays[leaves] = false;
        }
        let mut spare = wide.saturating_sub(need(&stays));
        let mut width = |n: usize| {
            let more = (natural[n] - least(n)).min(spare);
            spare -= more;
            least(n) + more
        };
        (0..natural.len()).map(|n| stays[n].then(|| width(n))).collect()
    }

    fn natural(&self, n: usize, column: &Column) -> usize {
        let cells = self.rows.iter().filter_map(|(_, cells)| cells.get(n)).map(|c| columns(c)).max().unwrap_or(0);
        let head = if self.is_headless { 0 } else { columns(column.head) };
        cells.max(head).max(column.least)
    }

    fn line(&self, fit: &[Option<usize>], lead: &str, cells: &[String], out: &Out) -> String {
        let mut line = lead.to_owned();
        let mut is_first = true;
        for ((column, width), cell) in self.columns.iter().zip(fit).zip(cells) {
            let Some(width) = *width else { continue };
            if !std::mem::take(&mut is_first) {
                line.push_str("  ");
            }
            let cell = if column.shrink.is_some() && out.width.is_some() { cut(cell, width, out.ascii) } else { cell.clone() };
            let blank = " ".repeat(width.saturating_sub(columns(&cell)));
            line = if column.right { line + &blank + &cell } else { line + &cell + &blank };
        }
        line.truncate(line.trim_end().len());
        line
    }

    fn gone(&self, fit: &[Option<usize>]) -> Option<String> {
        let gone: Vec<String> = self.columns.iter().zip(fit).filter(|(_, w)| w.is_none()).map(|(c, _)| c.head.to_lowercase()).collect();
        (!gone.is_empty()).then(|| format!("not shown for want of room: {}; --wide shows all", gone.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let columns = [left("PORT"), left("NOW AT").rank(2), right("N").rank(1), left("SAYS").text(5)];
        let mut table = Table::new(&columns);
        table.row("● ", ["/dev/a".into(), "ttyUSB0".into(), "7".into(), "hello there".to_owned()]);
        table.row("✕ ", ["/dev/bb".into(), "x".into(), "1,234".into(), "no".to_owned()]);
        table
    }

    #[track_caller]
    fn check(width: Option<usize>, want: &str) {
        let text = table().text(&Out { width, ..Out::plain() });
        assert_eq!(text, want, "{width:?}");
        let wide = width.unwrap_or(usize::MAX);
        assert!(text.lines().take(3).all(|l| columns(l) <= wide), "{text}");
    }

    #[test]
    fn on_a_narrow_terminal_columns_leave_by_rank_and_the_last_line_says_which() {
        let all = "  PORT     NOW AT       N  SAYS\n● /dev/a   ttyUSB0      7  hello there\n✕ /dev/bb  x        1,234  no\n";
        check(None, all);
        check(Some(38), all);
        check(Some(35), "  PORT     NOW AT       N  SAYS\n● /dev/a   ttyUSB0      7  hello t…\n✕ /dev/bb  x        1,234  no\n");
        check(
            Some(29),
            "  PORT         N  SAYS\n● /dev/a       7  hello there\n✕ /dev/bb  1,234  no\nnot shown for want of room: now at; --wide shows all\n",
        );
        check(Some(17), "  PORT     SAYS\n● /dev/a   hello…\n✕ /dev/bb  no\nnot shown for want of room: now at, n; --wide shows all\n");
    }

    #[test]
    fn colours_take_no_room_in_a_table() {
        let mut table = Table::headless(&[left("STATE"), left("WHY").rank(1)]);
        table.row("", ["\x1b[32mhigh\x1b[0m".into(), "a".to_owned()]);
        table.row("", ["low".into(), "b".to_owned()]);
        assert_eq!(table.text(&Out { width: Some(7), ..Out::plain() }), "\x1b[32mhigh\x1b[0m  a\nlow   b\n");
        assert_eq!(
            table.text(&Out { width: Some(6), ..Out::plain() }),
            "\x1b[32mhigh\x1b[0m\nlow\nnot shown for want of room: why; --wide shows all\n"
        );
    }
}
