//! Sections of the format that this version does not act on. A schedule that silently does not run would be
//! dangerous, so it is an error; an API that does not listen is seen at once, so it is a warning.

use super::{Desk, things};
use crate::config::{keys::Keys, problem::Code, words};

pub fn check(root: &Keys<'_>, desk: &mut Desk<'_>) {
    api(root, desk);
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

fn api(root: &Keys<'_>, desk: &mut Desk<'_>) {
    let Some((table, at)) = root.sub("api", "[api]", &mut desk.out) else { return };
    let trail = root.trail.then("api");
    let keys = Keys::open(table, at, &trail, "[api]", &["listen"], &mut desk.out);
    if let Some(listen) = keys.text("listen", &mut desk.out)
        && let Err(why) = words::endpoint(listen.it)
    {
        desk.out
            .error(Code::BadAddress, listen.at, keys.key("listen"), format!("`{}` is no address", listen.it))
            .because(why)
            .want("listen = \"127.0.0.1:8080\"");
    }
    desk.out
        .warning(Code::NotInVersion, keys.key_at("listen"), "api.listen", "the HTTP API is not in this version")
        .because("nothing listens")
        .want("leave it for the next version, or take it out");
}
