//! A page of metrics as text: the format of Prometheus, or OpenMetrics for who asks for it. Pure.
//!
//! The two differ in the names of counters, in `# UNIT` and in the end. Names follow the conventions of both: a base unit at the end,
//! `_total` for what only grows.

use std::fmt::{Display, Write};

/// `[("line", "meters")]`
pub type Labels<'a> = &'a [(&'a str, &'a str)];

const UNITS: [&str; 3] = ["seconds", "bytes", "ratio"];

pub struct Page {
    out: String,
    open: bool,
}

impl Page {
    /// `open`: as OpenMetrics.
    pub fn new(open: bool) -> Page {
        Page { out: String::new(), open }
    }

    pub fn counter<'a, V: Display>(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (Labels<'a>, V)>) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        let family = if self.open { name.to_owned() } else { format!("{name}_total") };
        self.head(&family, name, "counter", help);
        for (labels, value) in samples {
            self.sample(&format!("{name}_total"), labels, value);
        }
    }

    pub fn gauge<'a, V: Display>(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (Labels<'a>, V)>) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        self.head(name, name, "gauge", help);
        for (labels, value) in samples {
            self.sample(name, labels, value);
        }
    }

    /// What does not change, in labels.
    pub fn info(&mut self, name: &str, help: &str, labels: Labels<'_>) {
        let (family, kind) = if self.open { (name.to_owned(), "info") } else { (format!("{name}_info"), "gauge") };
        self.head(&family, name, kind, help);
        self.sample(&format!("{name}_info"), labels, 1);
    }

    /// `buckets`: of each bound how many lay between the one before and it; what lay above all bounds is in `count` alone.
    pub fn histogram(&mut self, name: &str, help: &str, all: &[(&str, &str, Histogram)]) {
        self.head(name, name, "histogram", help);
        for (label, value, h) in all {
            let mut below = 0;
            for (bound, count) in &h.buckets {
                below += count;
                let le = if self.open && bound.fract() == 0.0 { format!("{bound:.1}") } else { bound.to_string() };
                self.sample(&format!("{name}_bucket"), &[(label, value), ("le", &le)], below);
            }
            self.sample(&format!("{name}_bucket"), &[(label, value), ("le", "+Inf")], h.count);
            self.sample(&format!("{name}_sum"), &[(label, value)], h.sum);
            self.sample(&format!("{name}_count"), &[(label, value)], h.count);
        }
    }

    pub fn finish(mut self) -> String {
        if self.open {
            self.out += "# EOF\n";
        }
        self.out
    }

    fn head(&mut self, family: &str, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail, here and below.
        let _ = writeln!(self.out, "# HELP {family} {help}\n# TYPE {family} {kind}");
        if let Some(unit) = UNITS.iter().find(|unit| self.open && name.ends_with(&format!("_{unit}"))) {
            let _ = writeln!(self.out, "# UNIT {family} {unit}");
        }
    }

    fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        self.out += name;
        for (n, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.out, "{}{label}=\"", if n == 0 { '{' } else { ',' });
            for c in text.chars() {
                match c {
                    '\\' => self.out += "\\\\",
                    '"' => self.out += "\\\"",
                    '\n' => self.out += "\\n",
                    c => self.out.push(c),
                }
            }
            self.out.push('"');
        }
        let _ = writeln!(self.out, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

/// Bounds in base units.
pub struct Histogram {
    pub buckets: Vec<(f64, u64)>,
    pub count: u64,
    pub sum: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(open: bool) -> String {
        let mut page = Page::new(open);
        page.info("build", "what it is", &[("version", "1.0")]);
        page.counter("written_bytes", "to the disk", [(&[][..], 7_u64)]);
        page.gauge("up", "whether", [(&[("line", "a\"b\\c\nd")][..], 1), (&[("line", "e"), ("x", "y")][..], 0)]);
        page.gauge("nothing", "left out", std::iter::empty::<(Labels, u64)>());
        page.histogram("took_seconds", "commits", &[("file", "f", Histogram { buckets: vec![(0.5, 2), (1.0, 1)], count: 4, sum: 9.25 })]);
        page.finish()
    }

    #[test]
    fn both_formats_are_as_their_documents_say() {
        assert_eq!(
            page(false),
            "# HELP build_info what it is\n# TYPE build_info gauge\nbuild_info{version=\"1.0\"} 1\n\
             # HELP written_bytes_total to the disk\n# TYPE written_bytes_total counter\nwritten_bytes_total 7\n\
             # HELP up whether\n# TYPE up gauge\nup{line=\"a\\\"b\\\\c\\nd\"} 1\nup{line=\"e\",x=\"y\"} 0\n\
             # HELP took_seconds commits\n# TYPE took_seconds histogram\n\
             took_seconds_bucket{file=\"f\",le=\"0.5\"} 2\ntook_seconds_bucket{file=\"f\",le=\"1\"} 3\n\
             took_seconds_bucket{file=\"f\",le=\"+Inf\"} 4\ntook_seconds_sum{file=\"f\"} 9.25\ntook_seconds_count{file=\"f\"} 4\n"
        );
        assert_eq!(
            page(true),
            "# HELP build what it is\n# TYPE build info\nbuild_info{version=\"1.0\"} 1\n\
             # HELP written_bytes to the disk\n# TYPE written_bytes counter\n# UNIT written_bytes bytes\nwritten_bytes_total 7\n\
             # HELP up whether\n# TYPE up gauge\nup{line=\"a\\\"b\\\\c\\nd\"} 1\nup{line=\"e\",x=\"y\"} 0\n\
             # HELP took_seconds commits\n# TYPE took_seconds histogram\n# UNIT took_seconds seconds\n\
             took_seconds_bucket{file=\"f\",le=\"0.5\"} 2\ntook_seconds_bucket{file=\"f\",le=\"1.0\"} 3\n\
             took_seconds_bucket{file=\"f\",le=\"+Inf\"} 4\ntook_seconds_sum{file=\"f\"} 9.25\ntook_seconds_count{file=\"f\"} 4\n# EOF\n"
        );
    }
}
