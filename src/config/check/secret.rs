//! Secrets by reference: `{ file = … }`, `{ env = … }`, `{ credential = … }`. Read at load, never written anywhere.

use super::Desk;
use crate::config::{Secret, keys::Keys, problem::Code, source::Place, surroundings::Secrets, tree::Content};
use std::{io::ErrorKind, os::unix::fs::PermissionsExt, path::PathBuf};

const FORMS: &str = "{ file = \"/etc/fieldgate/secrets/name\" }";

/// The secret that `key` refers to. `None`: absent or reported.
pub fn check(keys: &Keys<'_>, key: &str, desk: &mut Desk<'_>) -> Option<Secret> {
    let entry = keys.entry(key)?;
    if matches!(entry.node.value, Content::Text(_)) {
        desk.out
            .error(Code::BadSecret, entry.at, keys.key(key), format!("`{key}` stands in the open"))
            .because("this file is read by more people than the secret is for")
            .want_when(format!("{key} = {FORMS}"), "a file of mode 0600")
            .want_when(format!("{key} = {{ credential = \"name\" }}"), "systemd's LoadCredential")
            .want_when(format!("{key} = {{ env = \"NAME\" }}"), "an environment variable");
        return None;
    }
    let (table, at) = keys.sub(key, FORMS, &mut desk.out)?;
    let trail = keys.trail.then(key);
    let inner = Keys::open(table, at, &trail, "a secret", &["file", "env", "credential"], &mut desk.out);
    let given: Vec<&str> = ["file", "env", "credential"].into_iter().filter(|k| inner.has(k)).collect();
    let [way] = given[..] else {
        if given.len() > 1 || table.is_empty() {
            let found = if given.is_empty() {
                "a secret names its place".to_owned()
            } else {
                format!("a secret has one place, this names {}", given.join(" and "))
            };
            desk.out.error(Code::BadSecret, at, trail, found).want(format!("{key} = {FORMS}"));
        }
        return None;
    };
    let name = inner.text(way, &mut desk.out)?;
    if desk.around.secrets == Secrets::Unread {
        return Some(Secret(String::new()));
    }
    let at = name.at;
    match way {
        "file" => {
            let path = desk.resolve(at, name.it);
            from_file(path, at, &trail.to_string(), desk)
        }
        "env" => match desk.around.var(name.it) {
            Some(value) => Some(Secret(value)),
            None => unreachable_here(
                &format!("environment variable {} is not set here", name.it),
                "set it in the unit: systemctl edit fieldgate",
                at,
                &trail.to_string(),
                desk,
            ),
        },
        _ if name.it.contains('/') || name.it.is_empty() || name.it == ".." => {
            desk.out
                .error(Code::BadSecret, at, trail, format!("`{}` is no name of a credential", name.it))
                .want("credential = \"cloud-password\"");
            None
        }
        _ => match desk.around.var("CREDENTIALS_DIRECTORY") {
            Some(dir) => from_file(PathBuf::from(dir).join(name.it), at, &trail.to_string(), desk),
            None => unreachable_here(
                "credentials can be read only inside the service",
                &format!("in the unit: LoadCredential={0}:/etc/fieldgate/secrets/{0}", name.it),
                at,
                &trail.to_string(),
                desk,
            ),
        },
    }
}

fn from_file(path: PathBuf, at: Place, key: &str, desk: &mut Desk<'_>) -> Option<Secret> {
    match std::fs::read(&path) {
        Ok(bytes) => {
            let open = std::fs::metadata(&path).is_ok_and(|m| m.permissions().mode() & 0o007 != 0);
            if open {
                desk.out
                    .warning(Code::SecretReadable, at, key, format!("{} can be read by everyone on this machine", path.display()))
                    .because("a secret is for its owner")
                    .want(format!("chmod 0600 {}", path.display()));
            }
            let text = String::from_utf8(bytes).ok().map(|t| t.trim_end_matches(['\n', '\r']).to_owned()).filter(|t| !t.is_empty());
            if text.is_none() {
                desk.out
                    .error(Code::SecretMissing, at, key, format!("{} holds no secret", path.display()))
                    .because("it is empty, or not UTF-8 text")
                    .want("one line of text");
            }
            text.map(Secret)
        }
        Err(e) if e.kind() == ErrorKind::PermissionDenied => unreachable_here(
            &format!("{} cannot be read by this user", path.display()),
            "run it as the service's user: sudo -u fieldgate fieldgate check",
            at,
            key,
            desk,
        ),
        Err(e) => {
            desk.out
                .error(Code::SecretMissing, at, key, format!("{} cannot be read", path.display()))
                .because(e.to_string())
                .want(format!("install -m 0600 /dev/stdin {}", path.display()));
            None
        }
    }
}

/// Only the service can read it: a warning for `check`, an error for `run`.
fn unreachable_here(found: &str, remedy: &str, at: Place, key: &str, desk: &mut Desk<'_>) -> Option<Secret> {
    if desk.around.secrets == Secrets::IfReachable {
        desk.out.warning(Code::SecretUnread, at, key, found).because("so it was not checked").want(remedy);
        Some(Secret(String::new()))
    } else {
        desk.out.error(Code::SecretMissing, at, key, found).want(remedy);
        None
    }
}
