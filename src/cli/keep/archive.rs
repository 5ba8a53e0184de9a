//! The file of a backup: tar as POSIX has it (ustar), so that any machine can look into it. Written and read in one pass.
//!
//! Nothing is unpacked by the library: what it finds is judged here and copied by the caller.

use super::Refusal;
use std::{
    io::{self, Read, Write},
    path::{Component, PathBuf},
};
use tar::{Archive, Builder, EntryType, Header};

const BLOCK: usize = 512;

/// A regular file in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: PathBuf,
    pub mode: u32,
    pub owner: (u32, u32),
    pub bytes: u64,
}

pub fn put<W: Write>(to: &mut Builder<W>, entry: &Entry, body: &mut impl Read) -> io::Result<()> {
    let mut header = Header::new_ustar();
    let no_place = |e| io::Error::other(format!("the name of {} does not fit into the archive: {e}", entry.name.display()));
    header.set_path(&entry.name).map_err(no_place)?;
    header.set_mode(entry.mode);
    header.set_uid(entry.owner.0.into());
    header.set_gid(entry.owner.1.into());
    header.set_size(entry.bytes);
    header.set_entry_type(EntryType::Regular);
    header.set_cksum();
    let mut body = body.take(entry.bytes);
    to.append(&header, &mut body)?;
    if body.limit() > 0 {
        return Err(io::Error::other(format!("{} became shorter while it was read", entry.name.display())));
    }
    Ok(())
}

/// Reads the files in order and hands each to `take`, which need not read it to its end.
pub fn each(from: &mut impl Read, mut take: impl FnMut(&Entry, &mut dyn Read) -> Result<(), Refusal>) -> Result<(), Refusal> {
    let broken = |why: &str| Refusal::new(format!("this is no whole backup: {why}"), "take another copy of it");
    let mut archive = Archive::new(from);
    // Raw: long names and the like, which are of any length, stay what they are: no files.
    let mut entries = archive.entries().map_err(|e| broken(&e.to_string()))?.raw(true);
    let damage = loop {
        match entries.next() {
            Some(Ok(mut found)) => {
                let entry = judged(found.header()).map_err(broken)?;
                take(&entry, &mut found)?;
            }
            Some(Err(e)) => break Some(e),
            None => break None,
        }
    };
    // Two empty blocks are its end. One was read, and a file that ends without any passes for whole: so the other has to be there.
    let is_cut = archive.into_inner().read_exact(&mut [0; BLOCK]).is_err();
    match damage {
        Some(e) if e.raw_os_error().is_some() => Err(broken(&e.to_string())),
        _ if is_cut => Err(broken("it was cut short")),
        // Its own words may hold what the file holds.
        Some(_) => Err(broken("a header in it is damaged")),
        None => Ok(()),
    }
}

fn judged(header: &Header) -> Result<Entry, &'static str> {
    if !header.entry_type().is_file() {
        return Err("something in it is no file");
    }
    let name = header.path().map_err(|_| "a name in it is none")?;
    let is_inside = name.components().all(|c| matches!(c, Component::Normal(_))) && name.components().next().is_some();
    if !is_inside {
        return Err("a name in it leads out of it");
    }
    let number = |n: io::Result<u64>| n.map_err(|_| "a number in it is none");
    let id = |n| u32::try_from(number(n)?).map_err(|_| "a number in it is none");
    let mode = id(header.mode().map(u64::from))? & 0o777;
    let owner = (id(header.uid())?, id(header.gid())?);
    Ok(Entry { name: name.into_owned(), mode, owner, bytes: number(header.entry_size())? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    fn entry(name: &str, bytes: usize) -> Entry {
        Entry { name: name.into(), mode: 0o640, owner: (0, 117), bytes: bytes as u64 }
    }

    fn written(files: &[(Entry, Vec<u8>)]) -> Vec<u8> {
        let mut out = Builder::new(Vec::new());
        for (entry, body) in files {
            put(&mut out, entry, &mut body.as_slice()).unwrap();
        }
        out.into_inner().unwrap()
    }

    /// Also what `put` would not make.
    fn made(name: &str, kind: u8, id: u64) -> Vec<u8> {
        let mut header = Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(0o4755);
        header.set_uid(id);
        header.set_gid(id);
        header.set_size(1);
        header.set_entry_type(EntryType::new(kind));
        header.set_cksum();
        let mut out = Builder::new(Vec::new());
        out.append(&header, &b"x"[..]).unwrap();
        out.into_inner().unwrap()
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

    #[track_caller]
    fn refused(bytes: &[u8], why: &str) {
        let said = read(bytes).unwrap_err().message;
        assert!(said.ends_with(why), "{said}");
    }

    #[test]
    fn files_come_back_as_they_went_in() {
        let long = format!("config/{}/{}", "d".repeat(120), "f".repeat(99));
        let mut files: Vec<(Entry, Vec<u8>)> = [("manifest.json", 0), ("config/a.toml", 511), ("data/state.db", 512), (&long, 513)]
            .into_iter()
            .map(|(name, n)| (entry(name, n), vec![7; n]))
            .collect();
        files[1].0.owner = (u32::MAX - 1, 3_000_000);
        files[2].0.name = OsStr::from_bytes(b"config/K\xfchlung.toml").into();
        assert_eq!(read(&written(&files)).unwrap(), files);
    }

    #[test]
    fn one_that_is_not_read_to_its_end_is_skipped() {
        let whole = written(&[(entry("a", 600), vec![1; 600]), (entry("b", 2), vec![2; 2])]);
        let mut names = Vec::new();
        each(&mut whole.as_slice(), |entry, _| {
            names.push(entry.name.clone());
            Ok(())
        })
        .unwrap();
        assert_eq!(names, ["a", "b"].map(PathBuf::from));
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
        let whole = written(&[(entry("config/a.toml", 600), vec![1; 600]), (entry("b", 512), vec![1; 512])]);
        for cut in 0..whole.len() {
            refused(&whole[..cut], "it was cut short");
        }
    }

    #[test]
    fn a_damaged_header_is_refused_and_not_shown() {
        let mut whole = written(&[(entry("config/a.toml", 3), b"abc".to_vec())]);
        whole[150] = 0x1b;
        refused(&whole, "a header in it is damaged");
    }

    #[test]
    fn no_name_leads_out_of_it() {
        for name in ["/etc/shadow", "../x", "config/../../x", ".", ""] {
            refused(&made(name, b'0', 0), "a name in it leads out of it");
        }
    }

    #[test]
    fn only_files_are_taken_with_the_plain_part_of_their_mode() {
        for kind in b"1234567LKxgS" {
            refused(&made("config/a.toml", *kind, 0), "something in it is no file");
        }
        refused(&made("config/a.toml", b'0', 1 << 32), "a number in it is none");
        let files = read(&made("config/a.toml", b'0', 7)).unwrap();
        assert_eq!((files[0].0.mode, files[0].0.owner), (0o755, (7, 7)));
    }

    #[test]
    fn what_does_not_fit_or_shrinks_is_said_and_what_grows_is_cut() {
        let put = |entry: &Entry, mut body: &[u8]| {
            let mut out = Builder::new(Vec::new());
            put(&mut out, entry, &mut body).map(|()| out.into_inner().unwrap()).map_err(|e| e.to_string())
        };
        assert!(put(&entry(&"n".repeat(101), 1), b"x").unwrap_err().contains("does not fit into the archive"));
        assert_eq!(put(&entry("a", 3), b"ab").unwrap_err(), "a became shorter while it was read");
        assert_eq!(read(&put(&entry("a", 3), b"abcd").unwrap()).unwrap()[0].1, b"abc");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000), at in 0usize..512, to: u8) {
            let _ = read(&bytes);
            let mut whole = written(&[(entry("config/a.toml", 3), b"abc".to_vec())]);
            whole[at] = to;
            let _ = read(&whole);
            // The sum right again, so that what stands in it is judged.
            let mut header = Header::new_ustar();
            header.as_mut_bytes().copy_from_slice(&whole[..BLOCK]);
            header.set_cksum();
            whole[..BLOCK].copy_from_slice(header.as_bytes());
            let _ = read(&whole);
        }
    }
}
