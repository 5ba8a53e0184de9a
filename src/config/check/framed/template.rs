//! What is sent: text with `\r`, `\n`, `\t`, `\0`, `\xNN` and `\\`, and places in braces.

use super::Desk;
use crate::config::{
    framed::Piece,
    keys::{Keys, Placed},
    problem::Code,
};

/// What is sent under `key`. `value`: whether `{value}` has a meaning here.
pub fn check(
    text: &Placed<&str>,
    key: &str,
    keys: &Keys<'_>,
    unit: Option<&str>,
    has_checksum: bool,
    value: bool,
    desk: &mut Desk<'_>,
) -> Option<Vec<Piece>> {
    let pieces = match parse(text.it, unit) {
        Ok(pieces) => pieces,
        Err(why) => {
            desk.out
                .error(Code::BadValue, text.at, keys.key(key), format!("`{}` cannot be sent", text.it.escape_default()))
                .because(why)
                .want_when(format!("{key} = \"SI\\r\\n\""), "text with \\r, \\n, \\t, \\xNN; a brace is {{ or }}");
            return None;
        }
    };
    let bad = pieces.iter().find_map(|p| match p {
        Piece::Value { .. } if !value => Some(("{value}", "only a write has a value")),
        Piece::Checksum if !has_checksum => Some(("{checksum}", "the device has no `checksum`")),
        _ => None,
    });
    if let Some((place, because)) = bad {
        desk.out
            .error(Code::UnknownPlaceholder, text.at, keys.key(key), format!("nothing fills {place}"))
            .because(because)
            .want(format!("{key} without {place}"));
        return None;
    }
    if pieces.is_empty() {
        desk.out
            .error(Code::BadValue, text.at, keys.key(key), format!("`{key}` is empty"))
            .because("nothing would be sent")
            .want(format!("{key} = \"SI\\r\\n\""));
        return None;
    }
    Some(pieces)
}

/// Bytes of a text without places: what begins or ends a frame.
pub fn bytes(text: &str) -> Result<Vec<u8>, String> {
    match parse(&text.replace('{', "{{").replace('}', "}}"), None)?.pop() {
        Some(Piece::Bytes(bytes)) => Ok(bytes),
        _ => Err("it is empty".into()),
    }
}

/// Two digits for each byte, blanks between them as one likes.
pub fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let is_whole = !digits.is_empty() && digits.len().is_multiple_of(2) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_whole.then(|| (0..digits.len()).step_by(2).filter_map(|n| u8::from_str_radix(&digits[n..n + 2], 16).ok()).collect())
}

fn parse(text: &str, unit: Option<&str>) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut bytes = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => bytes.push(escape(&mut rest)?),
            '{' | '}' if rest.peek() == Some(&c) => {
                rest.next();
                bytes.push(byte(c)?);
            }
            '{' => {
                let name: String = rest.by_ref().take_while(|c| *c != '}').collect();
                match place(&name, unit)? {
                    Place::Text(unit) => unit.chars().try_for_each(|c| byte(c).map(|b| bytes.push(b)))?,
                    Place::Piece(piece) => {
                        flush(&mut bytes, &mut pieces);
                        pieces.push(piece);
                    }
                }
            }
            '}' => return Err("a `}` without `{`; write }} for the character".into()),
            c => bytes.push(byte(c)?),
        }
    }
    flush(&mut bytes, &mut pieces);
    Ok(pieces)
}

fn flush(bytes: &mut Vec<u8>, pieces: &mut Vec<Piece>) {
    if !bytes.is_empty() {
        pieces.push(Piece::Bytes(std::mem::take(bytes)));
    }
}

/// Letters up to U+00FF are one byte each; more than that no serial device sends.
fn byte(c: char) -> Result<u8, String> {
    u8::try_from(u32::from(c)).map_err(|_| format!("`{c}` is not one byte; write its bytes as \\xNN"))
}

fn escape(rest: &mut impl Iterator<Item = char>) -> Result<u8, String> {
    match rest.next() {
        Some('r') => Ok(b'\r'),
        Some('n') => Ok(b'\n'),
        Some('t') => Ok(b'\t'),
        Some('0') => Ok(0),
        Some('\\') => Ok(b'\\'),
        Some('x') => {
            let digits: String = rest.take(2).collect();
            let is_hex = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
            is_hex.then(|| u8::from_str_radix(&digits, 16).ok()).flatten().ok_or(format!("\\x{digits} is not two hexadecimal digits"))
        }
        Some(other) => Err(format!("\\{other} means nothing; a backslash is \\\\")),
        None => Err("it ends with a backslash".into()),
    }
}

enum Place<'a> {
    Text(&'a str),
    Piece(Piece),
}

fn place<'a>(name: &str, unit: Option<&'a str>) -> Result<Place<'a>, String> {
    match name.split_once(':').map_or((name, ""), |(n, format)| (n, format)) {
        ("unit", "") => unit.map(Place::Text).ok_or_else(|| "the device has no `unit`".to_owned()),
        ("checksum", "") => Ok(Place::Piece(Piece::Checksum)),
        ("value", format) => {
            let (width, decimals) = format.split_once('.').map_or((format, None), |(w, d)| (w, Some(d)));
            let number = |t: &str| t.parse::<usize>().ok().filter(|n| *n <= 20);
            let width = if width.is_empty() { Some(0) } else { number(width) };
            let decimals = decimals.map(number);
            match (width, decimals) {
                (Some(width), None) => Ok(Place::Piece(Piece::Value { width, decimals: None })),
                (Some(width), Some(Some(decimals))) => Ok(Place::Piece(Piece::Value { width, decimals: Some(decimals) })),
                _ => Err(format!("{{{name}}} is no format; {{value:06.2}} is six characters, two of them decimals")),
            }
        }
        _ => Err(format!("nothing fills {{{name}}}; there is {{unit}}, {{value}} and {{checksum}}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_become_bytes() {
        for (text, want) in [
            (r"SI\r\n", Ok(b"SI\r\n".to_vec())),
            ("SI\r\n", Ok(b"SI\r\n".to_vec())),
            (r"\x02\xfF\0\t\\", Ok(vec![2, 255, 0, 9, b'\\'])),
            ("°", Ok(vec![0xb0])),
            ("{}", Ok(b"{}".to_vec())),
            ("€", Err(())),
            (r"\x2", Err(())),
            (r"\q", Err(())),
            ("a\\", Err(())),
            ("", Err(())),
        ] {
            assert_eq!(bytes(text).map_err(|_| ()), want, "{text}");
        }
    }

    #[test]
    fn places_are_filled_or_kept() {
        let text = |t: &str| Piece::Bytes(t.as_bytes().to_vec());
        let value = |width, decimals| Piece::Value { width, decimals };
        for (template, want) in [
            ("#{unit}?", Some(vec![text("#07?")])),
            ("L {value}\\r", Some(vec![text("L "), value(0, None), text("\r")])),
            ("{value:06.2}{checksum}", Some(vec![value(6, Some(2)), Piece::Checksum])),
            ("{value:.1}", Some(vec![value(0, Some(1))])),
            ("{{{unit}}}", Some(vec![text("{07}")])),
            ("{value:x}", None),
            ("{value:999}", None),
            ("{weight}", None),
            ("}", None),
        ] {
            assert_eq!(parse(template, Some("07")).ok(), want, "{template}");
        }
        assert!(parse("{unit}", None).is_err());
    }

    #[test]
    fn hexadecimal_bytes_may_have_blanks() {
        assert_eq!(hex("01 30\t0d"), Some(vec![1, 0x30, 13]));
        assert_eq!(hex("013"), None);
        assert_eq!(hex("é1"), None);
        assert_eq!(hex(""), None);
    }
}
