//! Who a unit says it is, and which profile it looks like: the questions, one after the other, and what the answers mean.
//! Pure, and reads only: functions 43/14 and 17, the SunSpec marker, and the probes of the profiles.

use crate::{
    config::{Expect, Profile},
    drivers::modbus::{Ask, Request, decode, plan},
    model::{SiteOutcome, Value},
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// `SunS`.
const SUNSPEC: [u8; 4] = *b"SunS";
/// Texts of an answer are cut here.
const TEXT_MAX: usize = 64;
/// So many questions in a row without any answer: the unit does not like to be asked.
const SILENT_MAX: usize = 4;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Question {
    /// Function 43/14, the basic objects: vendor, product, revision.
    DeviceId,
    /// Function 17.
    ServerId,
    /// The marker at a base.
    SunSpec(u16),
    /// The common model behind it: manufacturer and model.
    Common(u16),
    Read {
        table: u8,
        start: u16,
        count: u16,
    },
}

/// What it looks like.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Identity {
    /// In its own words.
    pub said: Option<String>,
    pub profile: Option<String>,
    /// The profile's title, or what else is known.
    pub title: String,
    /// What speaks for it: `voltage 230.1 V`.
    pub evidence: Option<String>,
    /// `high`, `medium`, `low`.
    pub sure: &'static str,
}

pub struct Identify<'a> {
    profiles: &'a [Profile],
    questions: VecDeque<Question>,
    current: Option<Question>,
    said: Option<String>,
    sunspec: Option<String>,
    read: BTreeMap<Question, Vec<u8>>,
    silent: usize,
}

impl<'a> Identify<'a> {
    /// `bases`: where the SunSpec marker is looked for.
    pub fn new(profiles: &'a [Profile], bases: &[u16]) -> Identify<'a> {
        let reads: BTreeSet<Question> = profiles.iter().flat_map(requests).map(|r| question(&r)).collect();
        let mut questions: VecDeque<Question> = reads.into_iter().collect();
        questions.extend(bases.iter().map(|b| Question::SunSpec(*b)));
        // Last what many units leave unanswered: after a silence a unit is left alone for a second.
        questions.extend([Question::ServerId, Question::DeviceId]);
        Identify { profiles, questions, current: None, said: None, sunspec: None, read: BTreeMap::new(), silent: 0 }
    }

    /// The next PDU to ask.
    pub fn next(&mut self) -> Option<Vec<u8>> {
        if self.silent >= SILENT_MAX {
            return None;
        }
        self.current = self.questions.pop_front();
        let read = |table: u8, start: u16, count: u16| {
            let [a, b] = start.to_be_bytes();
            let [c, d] = count.to_be_bytes();
            vec![table, a, b, c, d]
        };
        Some(match self.current.as_ref()? {
            Question::DeviceId => vec![43, 14, 1, 0],
            Question::ServerId => vec![17],
            Question::SunSpec(base) => read(3, *base, 2),
            Question::Common(base) => read(3, *base, 36),
            Question::Read { table, start, count } => read(*table, *start, *count),
        })
    }

    pub fn heard(&mut self, outcome: &SiteOutcome) {
        let Some(question) = self.current.take() else { return };
        match outcome {
            SiteOutcome::Answer(pdu) => {
                self.silent = 0;
                self.answered(question, pdu);
            }
            SiteOutcome::Exception(_) => self.silent = 0,
            SiteOutcome::Garbled(_) | SiteOutcome::Silent | SiteOutcome::NotSent(_) => self.silent += 1,
        }
    }

    fn answered(&mut self, question: Question, pdu: &[u8]) {
        match question {
            Question::DeviceId => self.said = objects(pdu).or(self.said.take()),
            Question::ServerId => self.said = self.said.take().or_else(|| server_id(pdu)),
            Question::SunSpec(base) => {
                if pdu.get(2..6) == Some(&SUNSPEC) {
                    self.sunspec = Some("SunSpec device".into());
                    self.questions.retain(|q| !matches!(q, Question::SunSpec(_)));
                    self.questions.push_front(Question::Common(base));
                }
            }
            Question::Common(_) => self.sunspec = common(pdu.get(2..).unwrap_or_default()).or(self.sunspec.take()),
            Question::Read { .. } => drop(self.read.insert(question, pdu.get(2..).unwrap_or_default().to_vec())),
        }
    }

    /// `refused`: what the unit said to the first question of all.
    pub fn verdict(self, refused: Option<u8>) -> Identity {
        let said = self.sunspec.clone().or(self.said.clone());
        let mut fits: Vec<(usize, &Profile, Option<String>)> = self
            .profiles
            .iter()
            .filter_map(|p| {
                let values = values(p, &self.read);
                Some((p.matches(&values)?, p, evidence(p, &values)))
            })
            .collect();
        // Named by the device itself counts more than any value.
        let named = |p: &Profile| said.as_ref().is_some_and(|said| names(said, &p.about.vendor, &p.about.model));
        fits.sort_by_key(|(weight, p, _)| std::cmp::Reverse((named(p), *weight)));
        let Some((weight, best, evidence)) = fits.first().cloned() else {
            let title = match (&said, refused) {
                (Some(said), _) => said.clone(),
                (None, Some(code)) => format!("unknown, refuses holding:0 ({code})"),
                (None, None) => "unknown, answers holding:0".into(),
            };
            let sure = if said.is_some() { "medium" } else { "low" };
            return Identity { said, profile: None, title, evidence: None, sure };
        };
        let alone = fits.iter().filter(|f| f.0 == weight && named(f.1) == named(best)).count() == 1;
        let sure = match (named(best), alone, weight) {
            (true, _, _) | (false, true, 2..) => "high",
            (false, true, _) => "medium",
            (false, false, _) => "low",
        };
        let others: Vec<&str> = fits.iter().skip(1).filter(|f| f.0 == weight && !alone).map(|f| f.1.about.title.as_str()).collect();
        let title = if others.is_empty() { best.about.title.clone() } else { format!("{} or {}", best.about.title, others.join(" or ")) };
        Identity { said, profile: Some(best.id.clone()), title, evidence, sure }
    }
}

fn requests(profile: &Profile) -> Vec<Request> {
    if profile.probes.is_empty() { Vec::new() } else { plan(&profile.probing()) }
}

fn question(request: &Request) -> Question {
    let Ask::Read { table, start, count } = request.ask() else { unreachable!("a planned request is a read") };
    Question::Read { table: table.read_function(), start, count }
}

/// The values of a profile's probes, in their order.
fn values(profile: &Profile, read: &BTreeMap<Question, Vec<u8>>) -> Vec<Option<Value>> {
    let device = profile.probing();
    let mut out = vec![None; profile.probes.len()];
    for request in requests(profile) {
        let Some(data) = read.get(&question(&request)) else { continue };
        let (values, _) = decode(&device, &request, data);
        for (field, value) in request.fields.iter().zip(values) {
            if let Some(slot) = out.get_mut(field.point) {
                *slot = Some(value);
            }
        }
    }
    out
}

/// A measured value that a person can compare with the display, under the name that the profile has for it.
fn evidence(profile: &Profile, values: &[Option<Value>]) -> Option<String> {
    let measured = |(probe, value): (&crate::config::Probe, &Option<Value>)| {
        let number = value.as_ref()?.as_f64()?;
        let point = profile.device.points.iter().find(|p| p.register == probe.point.register && !p.unit.is_empty())?;
        matches!(probe.expect, Expect::Between { .. }).then(|| format!("{} {number:.1} {}", point.id, point.unit))
    };
    profile.probes.iter().zip(values).find_map(measured)
}

/// Whether the device's own words name a profile's device.
fn names(said: &str, vendor: &str, model: &str) -> bool {
    let said = said.to_ascii_lowercase();
    let has = |word: &str| !word.is_empty() && said.contains(&word.to_ascii_lowercase());
    let model = model.split_whitespace().next().unwrap_or_default();
    has(vendor) && has(model) || model.len() >= 5 && has(model)
}

/// Vendor, product and revision of a reply to 43/14.
fn objects(pdu: &[u8]) -> Option<String> {
    let [43, 14, _, _, _, _, count, rest @ ..] = pdu else { return None };
    let mut rest = rest;
    let mut words = Vec::new();
    for _ in 0..*count {
        let [_, len, more @ ..] = rest else { break };
        let (text, next) = more.split_at_checked(usize::from(*len))?;
        words.extend(text_of(text));
        rest = next;
    }
    (!words.is_empty()).then(|| words.join(" "))
}

/// The printable words of a reply to 17; what else it holds is the maker's secret.
fn server_id(pdu: &[u8]) -> Option<String> {
    let [17, count, rest @ ..] = pdu else { return None };
    let body = rest.get(..usize::from(*count)).unwrap_or(rest);
    let runs = body.split(|b| !b.is_ascii_graphic() && *b != b' ').filter(|run| run.len() >= 3);
    let words: Vec<String> = runs.filter_map(text_of).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// Manufacturer and model of the common model: marker, id, length, then 16 registers each.
fn common(data: &[u8]) -> Option<String> {
    let words: Vec<String> = [data.get(8..40)?, data.get(40..72)?].into_iter().filter_map(text_of).collect();
    (!words.is_empty()).then(|| format!("{} (SunSpec)", words.join(" ")))
}

fn text_of(bytes: &[u8]) -> Option<String> {
    let text: String = bytes.iter().take(TEXT_MAX).map(|b| char::from(*b)).filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    (!text.is_empty()).then_some(text)
}

/// A function code as a site tool may ask it: anything else could change something in a unit.
pub fn is_read(pdu: &[u8]) -> bool {
    matches!(pdu.first(), Some(1..=4 | 17)) || matches!(pdu, [43, 14, ..])
}

#[cfg(test)]
mod tests;
