//! Topics, filters and the templates of routes (`tele/{device}/SENSOR`).
//!
//! Pure and without allocation on the way in: a topic is walked level by level beside its filter. A filter's `#` and a
//! leading `+` never match a topic that starts with `$` (MQTT 3.1.1, 4.7.2).

/// Whether a text is a legal topic to publish to.
pub fn is_topic(text: &str) -> bool {
    !text.is_empty() && text.len() <= 65_535 && !text.contains(['+', '#', '\0'])
}

/// Whether a text is a legal filter to subscribe to: wildcards are whole levels, `#` is the last.
pub fn is_filter(text: &str) -> bool {
    if text.is_empty() || text.len() > 65_535 || text.contains('\0') {
        return false;
    }
    let mut levels = text.split('/').peekable();
    while let Some(level) = levels.next() {
        let whole = level == "+" || (level == "#" && levels.peek().is_none());
        if !whole && level.contains(['+', '#']) {
            return false;
        }
    }
    true
}

/// Whether `topic` is one that `filter` asks for. Both are legal.
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for want in filter.split('/') {
        if want == "#" {
            return true; // also the parent: `a/#` asks for `a`
        }
        match levels.next() {
            Some(got) if want == "+" || want == got => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// Whether every topic that `asked` matches is one that `right` matches: what a user with that right may subscribe to.
pub fn covers(right: &str, asked: &str) -> bool {
    if asked.starts_with('$') && right.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = asked.split('/');
    for have in right.split('/') {
        if have == "#" {
            return true;
        }
        match levels.next() {
            Some("#") | None => return false,
            Some(got) if have == "+" || have == got => {}
            Some(_) => return false,
        }
    }
    levels.next().is_none()
}

/// A route's topic: literal levels, wildcards, and the places of the device and the point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    levels: Vec<Level>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    Text(String),
    Device,
    Point,
    Any,
    Rest,
}

/// What stands in a topic at the places of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Places<'a> {
    pub device: Option<&'a str>,
    pub point: Option<&'a str>,
}

impl Template {
    pub fn parse(text: &str) -> Template {
        let level = |level: &str| match level {
            "{device}" => Level::Device,
            "{point}" => Level::Point,
            "+" => Level::Any,
            "#" => Level::Rest,
            text => Level::Text(text.to_owned()),
        };
        Template { levels: text.split('/').map(level).collect() }
    }

    /// What to subscribe to, so that every topic of this template arrives.
    pub fn filter(&self) -> String {
        let level = |level: &Level| match level {
            Level::Text(text) => text.clone(),
            Level::Device | Level::Point | Level::Any => "+".to_owned(),
            Level::Rest => "#".to_owned(),
        };
        self.levels.iter().map(level).collect::<Vec<_>>().join("/")
    }

    /// The same for one device and point: a topic, if no wildcard is left.
    pub fn filter_for(&self, device: &str, point: &str) -> String {
        let level = |level: &Level| match level {
            Level::Text(text) => text.clone(),
            Level::Device => device.to_owned(),
            Level::Point => point.to_owned(),
            Level::Any => "+".to_owned(),
            Level::Rest => "#".to_owned(),
        };
        self.levels.iter().map(level).collect::<Vec<_>>().join("/")
    }

    pub fn has_point(&self) -> bool {
        self.levels.contains(&Level::Point)
    }

    /// The device and the point that `topic` names, or `None` if it is none of this template.
    pub fn places<'a>(&self, topic: &'a str) -> Option<Places<'a>> {
        let wild = matches!(self.levels.first(), Some(Level::Device | Level::Point | Level::Any | Level::Rest));
        if wild && topic.starts_with('$') {
            return None;
        }
        let mut found = Places::default();
        let mut levels = topic.split('/');
        for want in &self.levels {
            if *want == Level::Rest {
                return Some(found);
            }
            let got = levels.next()?;
            match want {
                Level::Text(text) if text != got => return None,
                Level::Text(_) | Level::Any | Level::Rest => {}
                Level::Device => found.device = Some(got),
                Level::Point => found.point = Some(got),
            }
        }
        levels.next().is_none().then_some(found)
    }

    /// The topic for a device and a point. `None`: a wildcard is left, so there is no one topic.
    pub fn fill(&self, device: &str, point: Option<&str>) -> Option<String> {
        let level = |level: &Level| match level {
            Level::Text(text) => Some(text.clone()),
            Level::Device => Some(device.to_owned()),
            Level::Point => point.map(str::to_owned),
            Level::Any | Level::Rest => None,
        };
        self.levels.iter().map(level).collect::<Option<Vec<_>>>().map(|levels| levels.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn filters_match_as_the_standard_says() {
        let yes = [
            ("a/b", "a/b"),
            ("a/+", "a/b"),
            ("a/+", "a/"),
            ("+/+", "/a"),
            ("/+", "/a"),
            ("#", "a/b/c"),
            ("a/#", "a"),
            ("a/#", "a/b/c"),
            ("+/b/#", "a/b"),
            ("$SYS/#", "$SYS/x"),
            ("$SYS/+", "$SYS/x"),
        ];
        let no = [("a/b", "a"), ("a", "a/b"), ("a/+", "a"), ("a/+", "a/b/c"), ("+", "/a"), ("#", "$SYS/x"), ("+/x", "$SYS/x"), ("A", "a")];
        yes.iter().for_each(|(filter, topic)| assert!(matches(filter, topic), "{filter} {topic}"));
        no.iter().for_each(|(filter, topic)| assert!(!matches(filter, topic), "{filter} {topic}"));
    }

    #[test]
    fn only_whole_levels_are_wildcards() {
        ["a", "+", "#", "a/+/b", "a/#", "/", "a//b", "+/#"].iter().for_each(|f| assert!(is_filter(f), "{f}"));
        ["", "a+", "a/#/b", "#/a", "a#", "a/b#", "++", "a\0b"].iter().for_each(|f| assert!(!is_filter(f), "{f}"));
        ["a", "/", "a/b", "$x"].iter().for_each(|t| assert!(is_topic(t), "{t}"));
        ["", "a/+", "#", "a\0"].iter().for_each(|t| assert!(!is_topic(t), "{t}"));
    }

    #[test]
    fn a_right_covers_what_it_contains() {
        let yes = [("#", "a/#"), ("a/#", "a/+/b"), ("a/#", "a"), ("a/+", "a/b"), ("a/+", "a/+"), ("a/+/#", "a/b/#")];
        let no = [("a/#", "#"), ("a/+", "a/#"), ("a/b", "a/+"), ("a/+", "+/b"), ("#", "$SYS/#"), ("a", "a/#")];
        yes.iter().for_each(|(right, asked)| assert!(covers(right, asked), "{right} {asked}"));
        no.iter().for_each(|(right, asked)| assert!(!covers(right, asked), "{right} {asked}"));
    }

    #[test]
    fn a_template_gives_filter_places_and_topic() {
        let t = Template::parse("tele/{device}/SENSOR");
        assert_eq!(t.filter(), "tele/+/SENSOR");
        assert_eq!(t.places("tele/plug-1/SENSOR"), Some(Places { device: Some("plug-1"), point: None }));
        assert_eq!(t.places("tele/plug-1/STATE"), None);
        assert_eq!(t.places("tele/plug-1/SENSOR/x"), None);
        assert_eq!(t.fill("plug-1", None).as_deref(), Some("tele/plug-1/SENSOR"));

        let t = Template::parse("shellies/{device}/relay/{point}/#");
        assert_eq!(t.filter(), "shellies/+/relay/+/#");
        assert_eq!(t.places("shellies/s1/relay/0"), Some(Places { device: Some("s1"), point: Some("0") }));
        assert_eq!(t.places("shellies/s1/relay/0/power/x"), Some(Places { device: Some("s1"), point: Some("0") }));
        assert_eq!(t.fill("s1", Some("0")), None);
        assert_eq!(Template::parse("{device}/x").places("$SYS/x"), None);
    }

    proptest! {
        #[test]
        fn a_template_agrees_with_its_filter(template in "([a-c{]|\\{device\\}|\\{point\\}|\\+)(/([a-c]|\\{device\\}|\\{point\\}|\\+|)){0,3}(/#)?", topic in "[a-c$]?(/[a-c]?){0,5}") {
            prop_assume!(is_topic(&topic));
            let t = Template::parse(&template);
            prop_assert_eq!(t.places(&topic).is_some(), matches(&t.filter(), &topic));
        }

        #[test]
        fn what_a_right_covers_it_matches(right in "[ab+](/[ab+]){0,2}(/#)?", asked in "[ab+](/[ab+]){0,2}(/#)?", topic in "[ab](/[ab]){0,4}") {
            if covers(&right, &asked) && matches(&asked, &topic) {
                prop_assert!(matches(&right, &topic));
            }
        }
    }
}
