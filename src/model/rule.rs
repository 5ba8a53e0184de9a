//! What a rule watches, what it does, and how it stands: conditions as trees, actions, alarms' names.

use super::{AlarmKind, Boot, DeviceId, PointId, RuleId, State, Value};
use std::{fmt, time::Duration};

/// `boiler.flow_temp`
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PointRef {
    pub device: DeviceId,
    pub point: PointId,
}

impl fmt::Display for PointRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.device, self.point)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    Less,
    AtMost,
    More,
    AtLeast,
    Equal,
    NotEqual,
}

impl Compare {
    pub const ALL: [Compare; 6] = [Compare::AtMost, Compare::AtLeast, Compare::Equal, Compare::NotEqual, Compare::Less, Compare::More];

    pub const fn sign(self) -> &'static str {
        match self {
            Compare::Less => "<",
            Compare::AtMost => "<=",
            Compare::More => ">",
            Compare::AtLeast => ">=",
            Compare::Equal => "==",
            Compare::NotEqual => "!=",
        }
    }

    /// Which of two is greater; the others compare anything.
    pub const fn is_order(self) -> bool {
        !matches!(self, Compare::Equal | Compare::NotEqual)
    }
}

/// One question that is answered with yes, no or nobody knows.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    Value(PointRef, Compare, Value),
    /// Of two points.
    Points(PointRef, Compare, PointRef),
    /// `boiler is offline`
    State(DeviceId, State),
}

impl Test {
    pub fn devices(&self) -> impl Iterator<Item = &DeviceId> {
        let (a, b) = match self {
            Test::Value(p, ..) => (&p.device, None),
            Test::Points(p, _, q) => (&p.device, Some(&q.device)),
            Test::State(d, _) => (d, None),
        };
        [a].into_iter().chain(b)
    }

    pub fn points(&self) -> impl Iterator<Item = &PointRef> {
        let (a, b) = match self {
            Test::Value(p, ..) => (Some(p), None),
            Test::Points(p, _, q) => (Some(p), Some(q)),
            Test::State(..) => (None, None),
        };
        a.into_iter().chain(b)
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Test::Value(p, how, Value::Text(t)) => write!(f, "{p} {} '{t}'", how.sign()),
            Test::Value(p, how, v) => write!(f, "{p} {} {}", how.sign(), Plain(v)),
            Test::Points(p, how, q) => write!(f, "{p} {} {q}", how.sign()),
            Test::State(d, s) => write!(f, "{d} is {}", s.word()),
        }
    }
}

/// A value as it is written in a condition.
struct Plain<'a>(&'a Value);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => f.write_str("null"),
            Value::Bool(b) => write!(f, "{b}"),
            Value::Int(v) => write!(f, "{v}"),
            Value::Uint(v) => write!(f, "{v}"),
            Value::Float(v) => write!(f, "{v}"),
            Value::Text(t) => f.write_str(t),
        }
    }
}

/// A tree over tests, which are numbered in the order in which they are written.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    Test(usize),
    Not(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
}

impl Expr {
    /// `None`: what is known does not decide it. Nothing that is unknown decides, and nothing that decides waits for it.
    pub fn truth(&self, of: &impl Fn(usize) -> Option<bool>) -> Option<bool> {
        match self {
            Expr::Test(n) => of(*n),
            Expr::Not(a) => a.truth(of).map(|t| !t),
            Expr::And(a, b) => match (a.truth(of), b.truth(of)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Expr::Or(a, b) => match (a.truth(of), b.truth(of)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
        }
    }

    /// The same tree with every test's number moved on, behind another one's.
    #[must_use]
    pub fn shifted(&self, by: usize) -> Expr {
        let both = |a: &Expr, b: &Expr| (Box::new(a.shifted(by)), Box::new(b.shifted(by)));
        match self {
            Expr::Test(n) => Expr::Test(n + by),
            Expr::Not(a) => Expr::Not(Box::new(a.shifted(by))),
            Expr::And(a, b) => {
                let (a, b) = both(a, b);
                Expr::And(a, b)
            }
            Expr::Or(a, b) => {
                let (a, b) = both(a, b);
                Expr::Or(a, b)
            }
        }
    }
}

/// What an operator wrote, and what it means.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    pub text: String,
    pub tests: Vec<Test>,
    pub expr: Expr,
}

/// How urgent an alarm is: UI.md's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    Info,
    Warning,
    Critical,
}

impl Urgency {
    pub const ALL: [Urgency; 3] = [Urgency::Info, Urgency::Warning, Urgency::Critical];

    pub const fn word(self) -> &'static str {
        match self {
            Urgency::Info => "info",
            Urgency::Warning => "warning",
            Urgency::Critical => "critical",
        }
    }

    pub fn parse(word: &str) -> Option<Urgency> {
        Urgency::ALL.into_iter().find(|u| u.word() == word)
    }
}

/// What a rule does when its condition becomes true.
#[derive(Debug, Clone, PartialEq)]
pub enum RuleAction {
    /// The way of every command, with its limits.
    Write { device: DeviceId, point: PointId, value: Value },
    /// Raised then, cleared when the condition is false.
    Alarm { severity: Urgency, text: String },
    /// To whoever listens on the local broker.
    Publish { topic: String, payload: String, retain: bool },
    /// The one of this name is told, by an event of the stream.
    Webhook(String),
}

/// Which alarm is meant: each device has at most one of a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct AlarmName {
    pub device: DeviceId,
    pub kind: AlarmKind,
    /// Of an alarm that a rule raised, or that is about one.
    pub rule: Option<RuleId>,
}

impl AlarmName {
    /// `offline`, `rule:frost`: what a command names beside the device.
    pub fn parse(device: &DeviceId, text: &str) -> Option<AlarmName> {
        let (kind, rule) = match text.split_once(':') {
            Some((kind, rule)) => (kind, Some(RuleId::parse(rule).ok()?)),
            None => (text, None),
        };
        let kind = AlarmKind::parse(kind).filter(|k| k.is_of_rule() == rule.is_some())?;
        Some(AlarmName { device: device.clone(), kind, rule })
    }
}

impl fmt::Display for AlarmName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.word())?;
        self.rule.as_ref().map_or(Ok(()), |rule| write!(f, ":{rule}"))
    }
}

/// What must outlive a restart of a rule, so that it fires once for one cause.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RuleMemory {
    /// It has fired, and its condition has not been false since.
    pub fired: bool,
    /// When it fired last.
    pub fired_at: Option<Boot>,
    /// Which of its tests were true when that was written, for their hysteresis: a bit each.
    pub held: u64,
    /// Why it does nothing. `None`: it works.
    pub off: Option<String>,
    /// How often it has fired.
    pub count: u64,
}

/// How a rule stands, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleView {
    pub id: RuleId,
    /// `None`: unknown.
    pub truth: Option<bool>,
    pub memory: RuleMemory,
    /// When it was last looked at. `None`: nothing came that it watches.
    pub looked: Option<Boot>,
    /// What it waits for, in words; empty: for its condition.
    pub waits: String,
    pub tests: Vec<TestView>,
}

/// One test of a rule, as it was last looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct TestView {
    pub test: Test,
    pub truth: Option<bool>,
    /// What it was judged by, each with its moment; words where there is no value.
    pub values: Vec<(String, Option<Boot>)>,
}

/// How often and for how long: beside the condition of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pace {
    /// The condition must have been true for so long.
    pub hold: Duration,
    /// By so much a value must come back before a comparison is false again.
    pub hysteresis: f64,
    /// It does not fire again so soon.
    pub cooldown: Duration,
}
