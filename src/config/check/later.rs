//! Sections of the format that this version does not act on. A schedule that silently does not run would be
//! dangerous, so it is an error.

use super::{Desk, things};
use crate::config::{keys::Keys, problem::Code};

pub fn check(root: &Keys<'_>, desk: &mut Desk<'_>) {
    for (section, what) in [("schedule", "schedules do not run")] {
        for (id, _, at) in things(root, section, desk) {
            desk.out
                .error(Code::NotInVersion, at, format!("{section}.{id}"), format!("{section} {id} would not run"))
                .because(format!("{what} in this version"))
                .want(format!("take [{section}.{id}] out until a version that has it"));
        }
    }
    if let Some((table, at)) = root.sub("limits", "[limits]", &mut desk.out) {
        for (key, entry) in table.iter() {
            desk.out
                .error(Code::NotInVersion, entry.at, format!("limits.{key}"), format!("`{key}` cannot be set in this version"))
                .because("the limits are fixed; docs/configuration.md lists them")
                .want("take it out");
        }
        if table.is_empty() {
            desk.out
                .warning(Code::NoEffect, at, "limits", "[limits] is empty")
                .because("limits are fixed in this version")
                .want("take it out");
        }
    }
}
