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
    /// `{point}` behind a text: `POWER{point}`.
    Behind(String),
    Group,
    Any,
    Rest,
}

/// What stands in a topic at the places of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Places<'a> {
    pub device: Option<&'a str>,
    pub point: Option<&'a str>,
    pub group: Option<&'a str>,
}

impl Template {
    pub fn parse(text: &str) -> Template {
        let level = |level: &str| match level {
            "{device}" => Level::Device,
            "{point}" => Level::Point,
            "{group}" => Level::Group,
            "+" => Level::Any,
            "#" => Level::Rest,
            text => match text.strip_suffix("{point}") {
                Some(before) => Level::Behind(before.to_owned()),
                None => Level::Text(text.to_owned()),
            },
        };
        Template { levels: text.split('/').map(level).collect() }
    }

    /// What to subscribe to, so that every topic of this template arrives.
    pub fn filter(&self) -> String {
        let level = |level: &Level| match level {
            Level::Text(text) => text.clone(),
            Level::Device | Level::Point | Level::Behind(_) | Level::Group | Level::Any => "+".to_owned(),
            Level::Rest => "#".to_owned(),
        };
        self.levels.iter().map(level).collect::<Vec<_>>().join("/")
    }

    /// The same for what is known: a topic, if no wildcard is left.
    pub fn filter_for(&self, places: Places<'_>) -> String {
        let level = |level: &Level| filled(level, places).unwrap_or_else(|| if *level == Level::Rest { "#" } else { "+" }.to_owned());
        self.levels.iter().map(level).collect::<Vec<_>>().join("/")
    }

    pub fn has_point(&self) -> bool {
        self.levels.iter().any(|level| matches!(level, Level::Point | Level::Behind(_)))
    }

    /// The device and the point that `topic` names, or `None` if it is none of this template.
    pub fn places<'a>(&self, topic: &'a str) -> Option<Places<'a>> {
        let wild = !matches!(self.levels.first(), None | Some(Level::Text(_) | Level::Behind(_)));
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
                // By convention such a level is about the device, and no point of it.
                Level::Point | Level::Group if got.starts_with('$') => return None,
                Level::Point => found.point = Some(got),
                Level::Group => found.group = Some(got),
                Level::Behind(text) => found.point = Some(got.strip_prefix(text.as_str())?),
            }
        }
        levels.next().is_none().then_some(found)
    }

    /// The topic for a device and a point. `None`: a wildcard or a place is left, so there is no one topic.
    pub fn fill(&self, places: Places<'_>) -> Option<String> {
        self.levels.iter().map(|level| filled(level, places)).collect::<Option<Vec<_>>>().map(|levels| levels.join("/"))
    }
}

fn filled(level: &Level, places: Places<'_>) -> Option<String> {
    match level {
        Level::Text(text) => Some(text.clone()),
        Level::Device => places.device.map(str::to_owned),
        Level::Point => places.point.map(str::to_owned),
        Level::Group => places.group.map(str::to_owned),
        Level::Behind(text) => places.point.map(|point| format!("{text}{point}")),
        Level::Any | Level::Rest => None,
    }
}

/// The name of a point, made of what stands in a topic.
pub fn name_of(pattern: &str, places: Places<'_>) -> String {
    pattern.replace("{group}", places.group.unwrap_or_default()).replace("{point}", places.point.unwrap_or_default())
}

/// The other way round: what of a name stands for the places of its pattern. `None`: it is no such name.
pub fn places_of<'a>(pattern: &str, name: &'a str) -> Option<Places<'a>> {
    let mut found = Places::default();
    let (mut pattern, mut name) = (pattern, name);
    while let Some((text, rest)) = pattern.split_once('{') {
        name = name.strip_prefix(text)?;
        let (place, rest) = rest.split_once('}')?;
        // The last place takes what is left; one before it ends where the text behind it begins.
        let until = rest.split('{').next().unwrap_or_default();
        let end = match rest.contains('{') {
            true => name.find(until)?,
            false => name.len().checked_sub(until.len())?,
        };
        let (value, left) = name.split_at_checked(end)?;
        match place {
            "group" => found.group = Some(value),
            _ => found.point = Some(value),
        }
        (pattern, name) = (rest, left);
    }
    (pattern == name).then_some(found)
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

    fn places<'a>(device: &'a str, point: &'a str) -> Places<'a> {
        Places { device: Some(device), point: Some(point), group: None }
    }

    #[test]
    fn a_point_may_stand_behind_a_text_and_in_a_group() {
        let t = Template::parse("stat/{device}/POWER{point}");
        assert_eq!(t.filter(), "stat/+/+");
        assert_eq!(t.places("stat/d/POWER2"), Some(places("d", "2")));
        assert_eq!(t.places("stat/d/POWER"), Some(places("d", "")));
        assert_eq!(t.places("stat/d/RESULT"), None);
        assert_eq!(t.fill(places("d", "2")).as_deref(), Some("stat/d/POWER2"));

        let t = Template::parse("homie/{device}/{group}/{point}");
        let engine = Places { group: Some("engine"), ..places("car", "temperature") };
        assert_eq!(t.places("homie/car/engine/temperature"), Some(engine));
        assert_eq!(t.places("homie/car/engine/$properties"), None);
        assert_eq!(t.places("homie/car/$fw/name"), None);
        assert_eq!(t.fill(engine).as_deref(), Some("homie/car/engine/temperature"));
        assert_eq!((t.fill(places("car", "x")), t.filter_for(places("car", "x"))), (None, "homie/car/+/x".into()));
    }

    #[test]
    fn names_are_made_of_places_and_taken_apart_again() {
        #[track_caller]
        fn check(pattern: &str, group: Option<&str>, point: Option<&str>, name: &str) {
            let places = Places { group, point, device: None };
            assert_eq!(name_of(pattern, places), name);
            assert_eq!(places_of(pattern, name), Some(places));
        }
        check("relay.{point}", None, Some("0"), "relay.0");
        check("switch_{point}.output", None, Some("0"), "switch_0.output");
        check("POWER{point}", None, Some(""), "POWER");
        check("{group}.{point}", Some("engine"), Some("temperature.max"), "engine.temperature.max");
        check("display", None, None, "display");
        for (pattern, other) in
            [("relay.{point}", "relais.0"), ("switch_{point}.output", "switch_0.power"), ("{group}.{point}", "x"), ("a{point}b", "a")]
        {
            assert_eq!(places_of(pattern, other), None, "{pattern} {other}");
        }
    }

    #[test]
    fn a_template_gives_filter_places_and_topic() {
        let t = Template::parse("tele/{device}/SENSOR");
        assert_eq!(t.filter(), "tele/+/SENSOR");
        assert_eq!(t.places("tele/plug-1/SENSOR"), Some(Places { device: Some("plug-1"), ..Places::default() }));
        assert_eq!(t.places("tele/plug-1/STATE"), None);
        assert_eq!(t.places("tele/plug-1/SENSOR/x"), None);
        assert_eq!(t.fill(places("plug-1", "x")).as_deref(), Some("tele/plug-1/SENSOR"));

        let t = Template::parse("shellies/{device}/relay/{point}/#");
        assert_eq!(t.filter(), "shellies/+/relay/+/#");
        assert_eq!(t.places("shellies/s1/relay/0"), Some(places("s1", "0")));
        assert_eq!(t.places("shellies/s1/relay/0/power/x"), Some(places("s1", "0")));
        assert_eq!(t.fill(places("s1", "0")), None);
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
        fn a_name_that_is_taken_apart_gives_itself(pattern in "[a.]{0,2}(\\{group\\}[a.]{0,2})?\\{point\\}[a.]{0,2}", name in "[a-b.]{0,8}") {
            if let Some(places) = places_of(&pattern, &name) {
                prop_assert_eq!(name_of(&pattern, places), name);
            }
        }

        #[test]
        fn what_a_right_covers_it_matches(right in "[ab+](/[ab+]){0,2}(/#)?", asked in "[ab+](/[ab+]){0,2}(/#)?", topic in "[ab](/[ab]){0,4}") {
            if covers(&right, &asked) && matches(&asked, &topic) {
                prop_assert!(matches(&right, &topic));
            }
        }
    }
}
