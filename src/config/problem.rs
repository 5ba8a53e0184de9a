//! What an operator must fix: where it is, what it says, what to write instead. All of them are collected in one run.

use super::source::{Place, Sources, Spot};
use crate::limits;
use std::collections::BTreeSet;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Error,
    Warning,
    /// Said by `check` for the reader's peace of mind; counts as fine.
    Note,
}

impl Severity {
    pub const fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

macro_rules! codes {
    ($($name:ident = $word:literal),* $(,)?) => {
        /// Stable names of problems; each has a heading in docs/configuration.md.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($name),* }

        impl Code {
            pub const ALL: &[Code] = &[$(Code::$name),*];

            pub const fn word(self) -> &'static str {
                match self { $(Code::$name => $word),* }
            }
        }
    };
}

codes! {
    Unreadable = "unreadable",
    NotUtf8 = "not-utf8",
    TooLarge = "too-large",
    TooMany = "too-many",
    Syntax = "syntax",
    DuplicateKey = "duplicate-key",
    DuplicateId = "duplicate-id",
    UnknownKey = "unknown-key",
    MissingKey = "missing-key",
    MisplacedKey = "misplaced-key",
    WrongType = "wrong-type",
    BadId = "bad-id",
    BadDuration = "bad-duration",
    BadSize = "bad-size",
    BadValue = "bad-value",
    OutOfRange = "out-of-range",
    NoEffect = "no-effect",
    NotInVersion = "not-in-version",
    NoGatewayId = "no-gateway-id",
    BadAddress = "bad-address",
    TwoPlaces = "two-places",
    SamePort = "same-port",
    SameEndpoint = "same-endpoint",
    SameUnit = "same-unit",
    UnstablePath = "unstable-path",
    UnknownLine = "unknown-line",
    UnusedLine = "unused-line",
    UnknownProfile = "unknown-profile",
    NoPoints = "no-points",
    Flaps = "flaps",
    BadRegister = "bad-register",
    AmbiguousRegister = "ambiguous-register",
    ModiconRegister = "modicon-register",
    TypeMismatch = "type-mismatch",
    BadWrite = "bad-write",
    BadWriteGroup = "bad-write-group",
    MinAboveMax = "min-above-max",
    BadEach = "bad-each",
    BadCsv = "bad-csv",
    UnusedColumn = "unused-column",
    UnknownPlaceholder = "unknown-placeholder",
    BadTopic = "bad-topic",
    BadPointer = "bad-pointer",
    OpenEndpoint = "open-endpoint",
    InsecureEndpoint = "insecure-endpoint",
    NoRoutes = "no-routes",
    BadUrl = "bad-url",
    PlainPassword = "plain-password",
    TwinUplinks = "twin-uplinks",
    NoRequiredUplink = "no-required-uplink",
    NoUplink = "no-uplink",
    BadSecret = "bad-secret",
    SecretMissing = "secret-missing",
    SecretReadable = "secret-readable",
    SecretUnread = "secret-unread",
    BadFrame = "bad-frame",
    BadPattern = "bad-pattern",
    UnknownField = "unknown-field",
    BadCondition = "bad-condition",
    UnknownDevice = "unknown-device",
    UnknownPoint = "unknown-point",
    RuleLoop = "rule-loop",
    FileMissing = "file-missing",
    BadSchedule = "bad-schedule",
    UnknownZone = "unknown-zone",
    UnknownTarget = "unknown-target",
    LineOverload = "line-overload",
}

/// One thing to fix, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    pub code: Code,
    pub at: Spot,
    /// Dotted, as `device.boiler.poll`; empty where no key is meant.
    pub key: String,
    /// The headline: what is wrong, in one sentence.
    pub found: String,
    /// Beside the caret: why it cannot work, or what was meant.
    pub because: String,
    /// What to write instead, most likely first.
    pub want: Vec<Want>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    pub write: String,
    /// When this is the right one; often empty.
    pub when: String,
}

impl Problem {
    /// For tables built up by a caller: see `because` and `want`.
    pub fn new(severity: Severity, code: Code, at: Spot, key: impl Into<String>, found: impl Into<String>) -> Problem {
        Problem { severity, code, at, key: key.into(), found: found.into(), because: String::new(), want: Vec::new() }
    }

    pub fn because(&mut self, text: impl Into<String>) -> &mut Problem {
        self.because = text.into();
        self
    }

    pub fn want(&mut self, write: impl Into<String>) -> &mut Problem {
        self.want_when(write, "")
    }

    pub fn want_when(&mut self, write: impl Into<String>, when: impl Into<String>) -> &mut Problem {
        self.want.push(Want { write: write.into(), when: when.into() });
        self
    }
}

/// Collects while the walk goes on. One problem of a profile or a group is told once, not once per device.
#[derive(Debug, Default)]
pub struct Problems {
    pub sources: Sources,
    list: Vec<(Place, Problem)>,
    seen: BTreeSet<(Code, Place, String)>,
    /// Lines on which the TOML itself is broken: what else is wrong there follows from that.
    broken: BTreeSet<(u32, u32)>,
    errors: usize,
    /// Takes what is said twice or beyond the limit.
    scratch: Option<Problem>,
}

impl Problems {
    pub fn error(&mut self, code: Code, at: Place, key: impl ToString, found: impl Into<String>) -> &mut Problem {
        self.push(Severity::Error, code, at, key.to_string(), found.into())
    }

    pub fn warning(&mut self, code: Code, at: Place, key: impl ToString, found: impl Into<String>) -> &mut Problem {
        self.push(Severity::Warning, code, at, key.to_string(), found.into())
    }

    pub fn note(&mut self, code: Code, at: Place, key: impl ToString, found: impl Into<String>) -> &mut Problem {
        self.push(Severity::Note, code, at, key.to_string(), found.into())
    }

    fn push(&mut self, severity: Severity, code: Code, at: Place, key: String, found: String) -> &mut Problem {
        let fresh = self.list.len() < limits::CONFIG_PROBLEMS && self.seen.insert((code, at, found.clone()));
        self.errors += usize::from(severity == Severity::Error);
        let spot = if fresh {
            self.sources.spot(at)
        } else {
            Spot { file: Default::default(), line: 0, column: 0, length: 0, text: String::new() }
        };
        let problem = Problem::new(severity, code, spot, key, found);
        if fresh {
            self.list.push((at, problem));
            &mut self.list.last_mut().expect("just pushed").1
        } else {
            self.scratch.insert(problem)
        }
    }

    /// The TOML on this line could not be read. False if that is known already.
    pub fn mark_broken(&mut self, at: Place) -> bool {
        self.broken.insert((at.file, self.sources.line_of(at)))
    }

    /// How many so far.
    pub fn errors(&self) -> usize {
        self.errors
    }

    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// In order of file and place, errors first, then warnings, then notes. What merely follows from broken TOML is left out.
    pub fn finish(self) -> (Vec<Problem>, Sources) {
        let Problems { sources, mut list, broken, .. } = self;
        let follows = |at: &Place, p: &Problem| match p.code {
            Code::Syntax | Code::DuplicateKey => false,
            Code::UnknownLine | Code::UnknownProfile | Code::NoUplink | Code::NoPoints | Code::UnusedLine => !broken.is_empty(),
            Code::MissingKey => broken.iter().any(|(file, _)| *file == at.file),
            _ => broken.contains(&(at.file, p.at.line)),
        };
        list.retain(|(at, p)| !follows(at, p));
        list.sort_by_key(|(at, p)| (p.severity, *at));
        (list.into_iter().map(|(_, p)| p).collect(), sources)
    }
}
