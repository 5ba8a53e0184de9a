//! What a configuration depends on besides its text: environment, machine id, profile directories, secrets. Passed
//! in, so that tests decide and the same file checks on a laptop.

use std::path::PathBuf;

/// What is done about secrets and key files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// `run`: every one must be there and readable.
    Needed,
    /// `check`: one that only the service may read is a warning; one that does not exist is an error.
    IfReachable,
    /// Not looked at: the file is checked on another machine than the gateway.
    Unread,
}

/// Looks up an environment variable.
pub type Lookup = Box<dyn Fn(&str) -> Option<String>>;

pub struct Surroundings {
    pub env: Lookup,
    /// As in /etc/machine-id.
    pub machine_id: Option<String>,
    /// Later ones win. `profiles/` beside the main file and $FIELDGATE_PROFILES come after these.
    pub profile_dirs: Vec<PathBuf>,
    pub secrets: Secrets,
}

impl Surroundings {
    pub fn real(secrets: Secrets) -> Surroundings {
        Surroundings {
            env: Box::new(|name| std::env::var(name).ok().filter(|v| !v.is_empty())),
            machine_id: std::fs::read_to_string("/etc/machine-id").ok(),
            profile_dirs: vec![
                super::profile::built_in::DIR.into(),
                "/usr/share/fieldgate/profiles".into(),
                "/etc/fieldgate/profiles".into(),
            ],
            secrets,
        }
    }

    pub fn var(&self, name: &str) -> Option<String> {
        (self.env)(name)
    }
}
