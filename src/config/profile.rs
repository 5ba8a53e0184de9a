//! Profiles as the rest of the program sees them: what a kind of device is, where that is known from, how it is
//! recognised, and the device that comes of it. `fieldgate profiles` shows them, `scan` compares them with what answers.
//!
//! A profile with variants is several entries: `carlogavazzi-em24` and `carlogavazzi-em24@e1`. Nobody guesses at run
//! time: a device names its variant, and the probes say which one to name.

pub mod built_in;

use super::{
    Device, Point, Problem,
    check::{self, Desk},
    load,
    problem::Problems,
    surroundings::Surroundings,
};
use crate::model::{Settings, Shared, Value};
use std::path::{Path, PathBuf};

/// One profile, or one variant of one.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// The file's name without its ending; `@variant` behind it.
    pub id: String,
    pub file: PathBuf,
    pub about: About,
    /// What is read to recognise the device, at most [`PROBES_MAX`]. Empty: it cannot be recognised.
    pub probes: Vec<Probe>,
    /// A device that says nothing but `profile = "id"`, on a line that does not exist: its points and limits.
    pub device: Device,
}

/// At most so many probes: `scan` asks every unit that it finds for those of every profile.
pub const PROBES_MAX: usize = 3;

#[derive(Debug, Clone, PartialEq, Default)]
pub struct About {
    /// One line for lists. Default: vendor and model.
    pub title: String,
    pub vendor: String,
    pub model: String,
    /// Where the facts are from.
    pub source: Vec<String>,
    pub verified: Verified,
    pub notes: Vec<String>,
    /// How it leaves the factory, on a serial line.
    pub serial: Option<Settings>,
    /// Port and unit as it leaves the factory, where known.
    pub port: Option<u16>,
    pub unit: Option<u8>,
}

/// How sure the facts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verified {
    /// From documents or from other programs; nobody compared it with a device here.
    #[default]
    None,
    /// Compared with the display of a real device.
    Hardware,
}

impl Verified {
    pub const fn word(self) -> &'static str {
        match self {
            Verified::None => "none",
            Verified::Hardware => "hardware",
        }
    }
}

/// One cheap read and what it must give. Decode it as any point: `plan` a device that has these points alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    pub point: Point,
    pub expect: Expect,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Expect {
    /// The value, scaled as the point says.
    Equals(f64),
    /// The text begins so.
    Begins(String),
    /// Both ends included.
    Between { min: f64, max: f64 },
}

impl Expect {
    /// Whether a value is what the profile's device would give. A null never is.
    pub fn fits(&self, value: &Value) -> bool {
        match (self, value) {
            (Expect::Begins(start), Value::Text(text)) => text.starts_with(start.as_str()),
            (Expect::Begins(_), _) => false,
            (Expect::Equals(wanted), value) => number(value).is_some_and(|n| (n - wanted).abs() <= wanted.abs() * 1e-9),
            (Expect::Between { min, max }, value) => number(value).is_some_and(|n| (*min..=*max).contains(&n)),
        }
    }

    /// An exact value says more than a range.
    const fn weight(&self) -> usize {
        match self {
            Expect::Equals(_) | Expect::Begins(_) => 4,
            Expect::Between { .. } => 1,
        }
    }
}

fn number(value: &Value) -> Option<f64> {
    #[allow(clippy::cast_precision_loss)] // identification codes and voltages are small
    match value {
        Value::Bool(on) => Some(f64::from(u8::from(*on))),
        Value::Int(n) => Some(*n as f64),
        Value::Uint(n) => Some(*n as f64),
        Value::Float(n) => Some(*n),
        Value::Null | Value::Text(_) => None,
    }
}

impl Profile {
    /// How well what its probes read fits, in their order; `None` where one was not answered. `None`: it is another
    /// device. Every probe must fit; more and more exact ones weigh more, so that the best guess has the highest number.
    pub fn matches(&self, read: &[Option<Value>]) -> Option<usize> {
        let all = read.len() == self.probes.len() && !read.is_empty();
        let fits = self.probes.iter().zip(read).all(|(probe, value)| value.as_ref().is_some_and(|v| probe.expect.fits(v)));
        (all && fits).then(|| self.probes.iter().map(|p| p.expect.weight()).sum())
    }

    /// A device that has the probes for points: `plan` it to learn what to read.
    pub fn probing(&self) -> Device {
        Device { points: self.probes.iter().map(|p| p.point.clone()).collect(), ..self.device.clone() }
    }
}

/// What is there, in order of id. Profiles with an error are left out and reported.
#[derive(Debug, Default)]
pub struct Found {
    pub profiles: Vec<Profile>,
    pub problems: Vec<Problem>,
}

/// Every profile that a configuration at `main` can name; a later directory's replaces one of the same name.
pub fn profiles(main: &Path, around: &Surroundings) -> Found {
    let mut desk = desk(main, around);
    let files = desk.profiles.files();
    let profiles = files.iter().flat_map(|(name, path)| check::profile(name, path, &mut desk)).collect();
    Found { profiles, problems: desk.out.finish().0 }
}

/// One file, wherever it lies, with its variants.
pub fn profile_file(path: &Path, around: &Surroundings) -> Found {
    let mut desk = desk(Path::new(""), around);
    let name = path.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let profiles = check::profile(&name, path, &mut desk);
    Found { profiles, problems: desk.out.finish().0 }
}

fn desk<'a>(main: &Path, around: &'a Surroundings) -> Desk<'a> {
    Desk {
        out: Problems::default(),
        around,
        profiles: check::Profiles::new(load::profile_dirs(main, around)),
        framed: Vec::new(),
        points: Shared::default(),
    }
}

#[cfg(test)]
mod tests;
