//! The small notations inside strings: durations, sizes, network addresses, lists of numbers. Pure functions.

use std::time::Duration;

/// `250ms`, `5s`, `1.5m`, `1h`, `30d`. The error is what to write instead, if that can be guessed.
pub fn duration(text: &str) -> Result<Duration, Option<String>> {
    let (digits, unit) = split(text);
    let guess = |unit: &str| if digits.is_empty() { None } else { Some(format!("{digits}{unit}")) };
    let per_unit_us: f64 = match unit {
        "ms" => 1e3,
        "s" => 1e6,
        "m" => 60e6,
        "h" => 3600e6,
        "d" => 86_400e6,
        "" | "sec" | "secs" | "second" | "seconds" | "S" => return Err(guess("s")),
        "msec" | "msecs" | "millis" | "milliseconds" | "MS" => return Err(guess("ms")),
        "min" | "mins" | "minute" | "minutes" | "M" => return Err(guess("m")),
        "hr" | "hrs" | "hour" | "hours" | "H" => return Err(guess("h")),
        "day" | "days" | "D" => return Err(guess("d")),
        _ => return Err(None),
    };
    let number: f64 = if text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains(' ') {
        digits.parse().map_err(|_| None)?
    } else {
        return Err(guess(unit));
    };
    let micros = (number * per_unit_us).round();
    // A hundred years: beyond that it is a typing error.
    if !(0.0..3.2e15).contains(&micros) {
        return Err(None);
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked above
    Ok(Duration::from_micros(micros as u64))
}

/// As it would be written: `250ms`, `90s`, `5m`.
pub fn duration_text(d: Duration) -> String {
    let ms = d.as_millis();
    match ms {
        0 => "0s".into(),
        _ if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        _ if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        _ if ms.is_multiple_of(1000) => format!("{}s", ms / 1000),
        _ => format!("{ms}ms"),
    }
}

/// `512MiB`, `10MB`, `4096B`. The error is what to write instead, if that can be guessed.
pub fn size(text: &str) -> Result<u64, Option<String>> {
    let (digits, unit) = split(text);
    let factor: u64 = match unit {
        "B" => 1,
        "kB" => 1000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        other => {
            let meant = match other.to_ascii_lowercase().as_str() {
                "" | "b" | "byte" | "bytes" => "B",
                "k" | "kb" | "kib" => "KiB",
                "m" | "mb" | "mib" => "MiB",
                "g" | "gb" | "gib" => "GiB",
                _ => return Err(None),
            };
            return Err(if digits.is_empty() { None } else { Some(format!("{digits}{meant}")) });
        }
    };
    let guess = || if digits.is_empty() { None } else { Some(format!("{digits}{unit}")) };
    if text.contains(' ') {
        return Err(guess());
    }
    digits.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).ok_or(None)
}

/// The number in front and the unit behind it, blanks dropped.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

/// `host:port`, `[v6]:port`, or only the host. The host is not looked up here.
pub fn endpoint(text: &str) -> Result<(String, Option<u16>), &'static str> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("an IPv6 address ends with ]")?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err("between [ and ] stands an IPv6 address");
        }
        (host, if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or("after ] comes :port")?) })
    } else if text.matches(':').count() > 1 {
        return Err("an IPv6 address stands in brackets: [2001:db8::1]:502");
    } else {
        text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)))
    };
    let clean = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':' | b'%'));
    if host.is_empty() {
        return Err("the host is missing in front of the colon");
    }
    if !clean || host.len() > 253 {
        return Err("a host is a name or an address, without blanks, slashes or a scheme");
    }
    let port = match port {
        None => None,
        Some(p) => match p.parse::<u16>() {
            Ok(p) if p > 0 => Some(p),
            _ => return Err("a port is a number from 1 to 65535"),
        },
    };
    Ok((host.to_owned(), port))
}

/// `1..8`, `1,3,5-7`, or a mix; both ends belong to it, so `1..8` is eight numbers.
pub fn numbers(text: &str, most: usize) -> Result<Vec<u32>, String> {
    let mut out = Vec::new();
    for part in text.split(',').map(str::trim) {
        let ends = part.split_once("..").or_else(|| part.split_once('-'));
        let (from, to) = ends.map_or((part, part), |(a, b)| (a.trim(), b.trim().trim_start_matches('=')));
        let number = |t: &str| {
            t.parse::<u32>().map_err(|_| if t.is_empty() { "a number is missing".to_owned() } else { format!("`{t}` is no number") })
        };
        let (from, to) = (number(from)?, number(to)?);
        if from > to {
            return Err(format!("{from} is above {to}"));
        }
        if (to - from) as usize >= most || out.len() + (to - from) as usize >= most {
            return Err(format!("this makes more than {most}"));
        }
        out.extend(from..=to);
    }
    let mut sorted = out.clone();
    sorted.sort_unstable();
    match sorted.windows(2).find(|w| w[0] == w[1]) {
        Some(w) => Err(format!("{} is in it twice", w[0])),
        None => Ok(out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let ms = Duration::from_millis;
        for (text, want) in [
            ("0s", Ok(ms(0))),
            ("250ms", Ok(ms(250))),
            ("5s", Ok(ms(5_000))),
            ("1.5s", Ok(ms(1_500))),
            ("2m", Ok(ms(120_000))),
            ("1h", Ok(ms(3_600_000))),
            ("30d", Ok(ms(30 * 86_400_000))),
            ("5", Err(Some("5s"))),
            ("5 s", Err(Some("5s"))),
            ("5min", Err(Some("5m"))),
            ("10 seconds", Err(Some("10s"))),
            ("soon", Err(None)),
            ("", Err(None)),
            ("-5s", Err(None)),
            ("1..5s", Err(None)),
            ("99999999999999999999d", Err(None)),
        ] {
            assert_eq!(duration(text), want.map_err(|e: Option<&str>| e.map(str::to_owned)), "{text:?}");
        }
    }

    #[test]
    fn durations_are_written_as_they_are_read() {
        for text in ["0s", "250ms", "90s", "5m", "3h", "1500ms"] {
            assert_eq!(duration_text(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn sizes() {
        for (text, want) in [
            ("512MiB", Ok(512 << 20)),
            ("10MB", Ok(10_000_000)),
            ("4096B", Ok(4096)),
            ("1GiB", Ok(1 << 30)),
            ("512", Err(Some("512B"))),
            ("512M", Err(Some("512MiB"))),
            ("10 MB", Err(Some("10MB"))),
            ("much", Err(None)),
            ("99999999999999999999GB", Err(None)),
        ] {
            assert_eq!(size(text), want.map_err(|e: Option<&str>| e.map(str::to_owned)), "{text:?}");
        }
    }

    #[test]
    fn endpoints() {
        for (text, want) in [
            ("192.168.1.20:502", Some(("192.168.1.20", Some(502)))),
            ("plc", Some(("plc", None))),
            ("[2001:db8::1]:502", Some(("2001:db8::1", Some(502)))),
            ("[::1]", Some(("::1", None))),
            ("::1:502", None),
            (":502", None),
            ("plc:0", None),
            ("plc:70000", None),
            ("tcp://plc:502", None),
            ("a b", None),
            ("[x]:1", None),
        ] {
            let got = endpoint(text).ok();
            assert_eq!(got, want.map(|(h, p)| (h.to_owned(), p)), "{text:?}");
        }
    }

    #[test]
    fn lists_of_numbers() {
        for (text, want) in [
            ("1..8", Some(vec![1, 2, 3, 4, 5, 6, 7, 8])),
            ("1,3,5-7", Some(vec![1, 3, 5, 6, 7])),
            ("4", Some(vec![4])),
            ("8..1", None),
            ("1..100", None),
            ("1,1", None),
            ("", None),
            ("1..", None),
            ("0..4294967295", None),
        ] {
            assert_eq!(numbers(text, 20).ok(), want, "{text:?}");
        }
    }
}
