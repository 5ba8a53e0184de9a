//! "Did you mean": the known word nearest to what was written.

/// What people coming from other programs write, and the key here.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("addr", "register"),
    ("address", "register"),
    ("address", "unit"),
    ("baudrate", "baud"),
    ("databits", "bits"),
    ("data_bits", "bits"),
    ("data_type", "type"),
    ("datatype", "type"),
    ("device", "path"),
    ("format", "type"),
    ("heartbeat", "offline_after"),
    ("host", "tcp"),
    ("interval", "poll"),
    ("keepalive", "keep_alive"),
    ("period", "poll"),
    ("poll_interval", "poll"),
    ("port", "path"),
    ("port", "serial"),
    ("pwd", "password"),
    ("qos1", "qos"),
    ("slave", "unit"),
    ("slave_id", "unit"),
    ("stopbits", "stop"),
    ("stop_bits", "stop"),
    ("template", "profile"),
    ("ttl", "offline_after"),
    ("unit_id", "unit"),
    ("user", "username"),
    ("word_order", "order"),
    ("byte_order", "order"),
    ("writable", "write"),
];

/// The candidate that was most likely meant, or none that is near enough.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let lower = written.to_ascii_lowercase().replace('-', "_");
    let other = OTHER_WORDS.iter().filter(|(w, _)| *w == lower).find_map(|(_, k)| known.clone().into_iter().find(|c| c == k));
    if other.is_some() {
        return other;
    }
    // A third of the letters may differ: more is another word.
    let most = (written.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|c| (distance(&lower, &c.to_ascii_lowercase()), c))
        .filter(|(d, _)| *d <= most)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// Edits between two words: insert, delete, replace, swap of neighbours (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let width = b.len() + 1;
    let mut d = vec![0; (a.len() + 1) * width];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            d[i * width + j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replace = d[(i - 1) * width + j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let swap = if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    d[(i - 2) * width + j - 2] + 1
                } else {
                    usize::MAX
                };
                replace.min(swap).min(d[(i - 1) * width + j] + 1).min(d[i * width + j - 1] + 1)
            };
        }
    }
    d[a.len() * width + b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let known = ["offline_after", "poll", "unit", "register", "type", "timeout"];
        for (written, want) in [
            ("offline_afer", Some("offline_after")),
            ("Poll", Some("poll")),
            ("pol", Some("poll")),
            ("unti", Some("unit")),
            ("slave_id", Some("unit")),
            ("address", Some("register")),
            ("time-out", Some("timeout")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, known), want, "{written}");
        }
    }
}
