//! The file of a backup: tar as POSIX has it (ustar), so that any machine can look into it. Written and read in one pass.

use super::Refusal;
use std::{
    io::{self, Read, Write},
    path::{Component, Path, PathBuf},
};

const BLOCK: usize = 512;

/// A regular file in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: PathBuf,
    pub mode: u32,
    pub owner: (u32, u32),
    pub bytes: u64,
}

pub fn put(to: &mut impl Write, entry: &Entry, body: &mut impl Read) -> io::Result<()> {
    to.write_all(&header(entry)?)?;
    let copied = io::copy(&mut body.take(entry.bytes), to)?;
    if copied < entry.bytes {
        return Err(io::Error::other(format!("{} became shorter while it was read", entry.name.display())));
    }
    to.write_all(&[0; BLOCK][..padding(entry.bytes)])
}

/// Two empty blocks: without them it was cut short.
pub fn end(to: &mut impl Write) -> io::Result<()> {
    to.write_all(&[0; 2 * BLOCK])
}

fn padding(bytes: u64) -> usize {
    usize::try_from(bytes % BLOCK as u64).map_or(0, |rest| (BLOCK - rest) % BLOCK)
}

fn header(entry: &Entry) -> io::Result<[u8; BLOCK]> {
    let name = entry.name.to_str().unwrap_or_default();
    let mut block = [0u8; BLOCK];
    let too_long = || io::Error::other(format!("the name of {} does not fit into the archive", entry.name.display()));
    let (prefix, name) = split(name).ok_or_else(too_long)?;
    let octal = |n: u64, width: usize| format!("{n:0width$o}\0", width = width - 1);
    let mut at = |from: usize, text: &str| block[from..from + text.len()].copy_from_slice(text.as_bytes());
    if entry.bytes >= 1 << 33 {
        return Err(io::Error::other(format!("{} has more than 8 GiB", entry.name.display())));
    }
    at(0, name);
    at(100, &octal(u64::from(entry.mode & 0o7777), 8));
    at(108, &octal(u64::from(entry.owner.0 & 0o7_777_777), 8));
    at(116, &octal(u64::from(entry.owner.1 & 0o7_777_777), 8));
    at(124, &octal(entry.bytes, 12));
    at(136, &octal(0, 12));
    at(148, "        ");
    at(156, "0");
    at(257, "ustar\x0000");
    at(345, prefix);
    let sum = block.iter().map(|b| u32::from(*b)).sum::<u32>();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    Ok(block)
}

/// In at most 155 and 100 bytes, at a slash.
fn split(name: &str) -> Option<(&str, &str)> {
    if name.is_empty() || name.len() <= 100 {
        return (!name.is_empty()).then_some(("", name));
    }
    name.match_indices('/').map(|(at, _)| (&name[..at], &name[at + 1..])).find(|(a, b)| a.len() <= 155 && !b.is_empty() && b.len() <= 100)
}

/// Reads the files in order and hands each to `take`, which need not read it to its end.
pub fn each(from: &mut impl Read, mut take: impl FnMut(&Entry, &mut dyn Read) -> Result<(), Refusal>) -> Result<(), Refusal> {
    let broken = |why: &str| Refusal::new(format!("this is no whole backup: {why}"), "take another copy of it");
    loop {
        let mut block = [0; BLOCK];
        from.read_exact(&mut block).map_err(|_| broken("it was cut short"))?;
        if block == [0; BLOCK] {
            return Ok(());
        }
        let entry = parse(&block).map_err(&broken)?;
        let mut body = from.take(entry.bytes);
        take(&entry, &mut body)?;
        io::copy(&mut body, &mut io::sink()).map_err(|e| broken(&e.to_string()))?;
        if body.limit() > 0 {
            return Err(broken("it was cut short"));
        }
        from.read_exact(&mut block[..padding(entry.bytes)]).map_err(|_| broken("it was cut short"))?;
    }
}

fn parse(block: &[u8; BLOCK]) -> Result<Entry, &'static str> {
    let text = |from: usize, length: usize| {
        let field = &block[from..from + length];
        let end = field.iter().position(|b| *b == 0).unwrap_or(length);
        std::str::from_utf8(&field[..end]).map_err(|_| "a name in it is no text")
    };
    let octal = |from: usize, length: usize| {
        let digits = text(from, length)?.trim();
        u64::from_str_radix(digits, 8).map_err(|_| "a number in it is none")
    };
    let sum: u64 = block.iter().enumerate().map(|(n, b)| if (148..156).contains(&n) { 32 } else { u64::from(*b) }).sum();
    if octal(148, 8)? != sum {
        return Err("a header in it is damaged");
    }
    if !matches!(block[156], b'0' | 0) {
        return Err("something in it is no file");
    }
    let prefix = text(345, 155)?;
    let name = if prefix.is_empty() { PathBuf::from(text(0, 100)?) } else { Path::new(prefix).join(text(0, 100)?) };
    let is_inside = name.components().all(|c| matches!(c, Component::Normal(_))) && name.components().next().is_some();
    if !is_inside {
        return Err("a name in it leads out of it");
    }
    let small = |n: u64| u32::try_from(n).map_err(|_| "a number in it is none");
    let owner = (small(octal(108, 8)?)?, small(octal(116, 8)?)?);
    Ok(Entry { name, mode: small(octal(100, 8)?)? & 0o777, owner, bytes: octal(124, 12)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(name: &str, bytes: usize) -> Entry {
        Entry { name: name.into(), mode: 0o640, owner: (0, 117), bytes: bytes as u64 }
    }

    fn written(files: &[(Entry, Vec<u8>)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (entry, body) in files {
            put(&mut out, entry, &mut body.as_slice()).unwrap();
        }
        end(&mut out).unwrap();
        out
    }

    fn read(mut bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, Refusal> {
        let mut out = Vec::new();
        each(&mut bytes, |entry, body| {
            let mut got = Vec::new();
            body.read_to_end(&mut got).unwrap();
            out.push((entry.clone(), got));
            Ok(())
        })?;
        Ok(out)
    }

    #[test]
    fn files_come_back_as_they_went_in() {
        let long = format!("config/{}/{}", "d".repeat(120), "f".repeat(99));
        let files: Vec<(Entry, Vec<u8>)> = [("manifest.json", 0), ("config/a.toml", 511), ("data/state.db", 512), (&long, 513)]
            .into_iter()
            .map(|(name, n)| (entry(name, n), vec![7; n]))
            .collect();
        assert_eq!(read(&written(&files)).unwrap(), files);
    }

    #[test]
    fn what_tar_itself_makes_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.tar");
        std::fs::write(&file, written(&[(entry("config/a.toml", 3), b"abc".to_vec())])).unwrap();
        let Ok(listed) = std::process::Command::new("tar").arg("-tvf").arg(&file).output() else { return };
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert!(listed.status.success() && text.starts_with("-rw-r-----") && text.trim_end().ends_with("config/a.toml"), "{listed:?}");
    }

    #[test]
    fn one_that_was_cut_short_is_told_from_a_whole_one() {
        let whole = written(&[(entry("config/a.toml", 600), vec![1; 600])]);
        for cut in [0, 100, 512, 1000, 1536, 1600] {
            assert!(read(&whole[..cut]).unwrap_err().message.contains("cut short"), "{cut}");
        }
    }

    #[test]
    fn no_name_leads_out_of_it() {
        for name in ["/etc/shadow", "../x", "config/../../x", "."] {
            assert!(read(&written(&[(entry(name, 1), vec![1])])).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000), at in 0usize..512, to: u8) {
            let _ = read(&bytes);
            let mut whole = written(&[(entry("config/a.toml", 3), b"abc".to_vec())]);
            whole[at] = to;
            let _ = read(&whole);
        }
    }
}
