//! Sections of the format that this version does not act on.

use super::Desk;
use crate::config::{keys::Keys, problem::Code};

pub fn check(root: &Keys<'_>, desk: &mut Desk<'_>) {
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
