//! Replays what fuzzing found worth keeping (`fuzz/corpus`) on the same entries, so that a regression shows without
//! cargo-fuzz; `tests/run --long fuzz` looks for more. Each corpus is also cut short and bent, by plain counting.

use std::{fs, path::Path};

#[path = "../fuzz/entries/mod.rs"]
mod entries;

/// A corpus is kept small: what a target needs to reach all that it has ever reached.
const FILES_MAX: usize = 1500;
const BYTES_MAX: u64 = 1 << 20;

#[track_caller]
fn check(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let (mut files, mut bytes) = (0, 0);
    let mut paths: Vec<_> = fs::read_dir(&folder).expect("the corpus is committed").map(|e| e.expect("listed").path()).collect();
    paths.sort();
    for path in paths {
        let data = fs::read(&path).expect("readable");
        (files, bytes) = (files + 1, bytes + data.len() as u64);
        run(&data);
        run(&data[..data.len() / 2]);
        for at in 0..data.len().min(16) {
            let mut bent = data.clone();
            bent[at] ^= 0x81;
            run(&bent);
        }
    }
    assert!(files > 0, "{target}: no corpus");
    assert!(files <= FILES_MAX && bytes <= BYTES_MAX, "{target}: {files} files, {bytes} bytes; minimise it: tests/run --long fuzz");
}

#[test]
fn no_bytes_of_an_rtu_reply_break_its_parser() {
    check("rtu", entries::rtu::run);
}

#[test]
fn no_bytes_of_a_tcp_reply_break_its_parser() {
    check("tcp", entries::tcp::run);
}

#[test]
fn no_bytes_of_framed_text_break_its_parser() {
    check("ascii", entries::ascii::run);
}

#[test]
fn no_bytes_and_no_order_of_events_break_a_line() {
    check("line", entries::line::run);
}
