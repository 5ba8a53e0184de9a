//! The small CSV that groups read: a header line, comma or semicolon, quotes as in RFC 4180, blank lines and lines
//! that begin with `#` skipped. Every cell keeps its place, so that a problem points into the CSV file.

use crate::config::source::Place;

#[derive(Debug, PartialEq)]
pub struct Csv {
    pub columns: Vec<(String, Place)>,
    pub rows: Vec<Vec<(String, Place)>>,
}

/// The fault is a place and a sentence.
pub fn parse(file: u32, text: &str, rows_max: usize) -> Result<Csv, (Place, String)> {
    let start = if text.starts_with('\u{feff}') { 3 } else { 0 };
    let first = text[start..].lines().find(|l| !l.trim().is_empty() && !l.starts_with('#')).unwrap_or("");
    let comma = if first.contains(';') && !first.contains(',') { b';' } else { b',' };
    let mut at = start;
    let mut columns: Option<Vec<(String, Place)>> = None;
    let mut rows = Vec::new();
    while at < text.len() {
        let begin = at;
        let line_end = text[at..].find('\n').map_or(text.len(), |n| at + n);
        let line = text[at..line_end].trim();
        if line.is_empty() || line.starts_with('#') {
            at = line_end + 1;
            continue;
        }
        let cells = record(file, text, &mut at, comma)?;
        match &columns {
            None => columns = Some(cells),
            Some(columns) if cells.len() != columns.len() => {
                let place = Place { file, start: short(begin), end: short(line_end) };
                return Err((place, format!("{} cells under {} columns", cells.len(), columns.len())));
            }
            Some(_) if rows.len() >= rows_max => {
                return Err((Place { file, start: short(begin), end: short(line_end) }, format!("more than {rows_max} rows")));
            }
            Some(_) => rows.push(cells),
        }
    }
    columns.map(|columns| Csv { columns, rows }).ok_or((Place::whole(file), "the first line names the columns".into()))
}

fn short(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX - 1)
}

/// One record from `at`, which ends behind its line end.
fn record(file: u32, text: &str, at: &mut usize, comma: u8) -> Result<Vec<(String, Place)>, (Place, String)> {
    let bytes = text.as_bytes();
    let mut cells = Vec::new();
    loop {
        while bytes.get(*at) == Some(&b' ') {
            *at += 1;
        }
        let start = *at;
        let cell = if bytes.get(start) == Some(&b'"') {
            quoted(text, at).ok_or((Place { file, start: short(start), end: short(start + 1) }, "a quote is not closed".to_owned()))?
        } else {
            let end = bytes[start..].iter().position(|b| *b == comma || *b == b'\n').map_or(bytes.len(), |n| start + n);
            *at = end;
            text[start..end].trim_end().to_owned()
        };
        let end = start + text[start..*at].trim_end().len();
        cells.push((cell, Place { file, start: short(start), end: short(end) }));
        // Blanks between a closing quote and the comma are harmless, other text is not.
        let rest = bytes[*at..].iter().position(|b| *b == comma || *b == b'\n').map_or(bytes.len(), |n| *at + n);
        if !text[*at..rest].trim().is_empty() {
            return Err((Place { file, start: short(*at), end: short(rest) }, "text follows a closing quote".into()));
        }
        *at = rest + 1;
        if bytes.get(rest) != Some(&comma) {
            return Ok(cells);
        }
    }
}

/// From an opening quote to behind its closing one; `""` is a quote.
fn quoted(text: &str, at: &mut usize) -> Option<String> {
    let mut out = String::new();
    let mut from = *at + 1;
    loop {
        let end = from + text.get(from..)?.find('"')?;
        out.push_str(&text[from..end]);
        if text.as_bytes().get(end + 1) == Some(&b'"') {
            out.push('"');
            from = end + 2;
        } else {
            *at = end + 1;
            return Some(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &[&[&str]]) {
        let csv = parse(0, text, 10).unwrap();
        let columns: Vec<&str> = csv.columns.iter().map(|c| c.0.as_str()).collect();
        let mut got = vec![columns];
        got.extend(csv.rows.iter().map(|r| r.iter().map(|c| c.0.as_str()).collect::<Vec<_>>()));
        assert_eq!(got, want, "{text:?}");
    }

    #[test]
    fn cells_quotes_and_comments() {
        check("id,unit\nm1,1\nm2,2\n", &[&["id", "unit"], &["m1", "1"], &["m2", "2"]]);
        check("\u{feff}id;unit\r\nm1;1\r\n", &[&["id", "unit"], &["m1", "1"]]);
        check("# meters\n\nid, name\nm1, \"a, \"\"b\"\"\" \n", &[&["id", "name"], &["m1", "a, \"b\""]]);
        check("id,unit\nm1,\n,2", &[&["id", "unit"], &["m1", ""], &["", "2"]]);
    }

    #[test]
    fn places_point_at_cells() {
        let csv = parse(3, "id,unit\nm1, 300 \n", 10).unwrap();
        assert_eq!(csv.rows[0][1], ("300".into(), Place { file: 3, start: 12, end: 15 }));
    }

    #[test]
    fn faults_are_sentences() {
        for text in ["", "id,unit\nm1\n", "id\n\"open\n", "id\n\"a\"b\n", &format!("id\n{}", "x\n".repeat(11))] {
            assert!(parse(0, text, 10).is_err(), "{text:?}");
        }
    }
}
