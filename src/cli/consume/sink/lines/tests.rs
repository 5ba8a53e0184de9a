//! The file is the memory: restarts, torn lines, resends and conflicts.

use super::*;
use crate::{
    cli::consume::{
        report::{Report, Verdict},
        sink::testing::{clock_event, epoch_event, put, telemetry},
    },
    uplink::dialect::read,
};
use std::fs;

fn lines_of(path: &Path, name: &str) -> Vec<Json> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|l| serde_json::from_str::<Json>(l).unwrap()).filter_map(|l| l.get(name).cloned()).collect()
}

#[test]
fn a_message_is_written_once_also_across_a_restart_and_a_torn_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    let mut sink = Lines::open(&path).unwrap();
    put(&mut sink, &epoch_event(1));
    put(&mut sink, &telemetry(1, 0, "1"));
    put(&mut sink, &telemetry(1, 40, "1"));
    sink.commit().unwrap();
    drop(sink);
    // Killed while it wrote.
    let mut text = fs::read(&path).unwrap();
    let whole = text.len();
    text.extend_from_slice(br#"{"received":1,"message":{"v":1,"ga"#);
    fs::write(&path, text).unwrap();
    let mut sink = Lines::open(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), whole as u64, "half a line is cut off");
    assert_eq!(put(&mut sink, &telemetry(1, 9, "1")), Took::Resent);
    assert_eq!(put(&mut sink, &telemetry(2, 0, "1")), Took::New);
    sink.commit().unwrap();
    assert_eq!(lines_of(&path, "message").iter().map(|m| m["seq"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 1, 2]);
    let books = Lines::books_of(&path).unwrap();
    assert_eq!(books, sink.books().unwrap(), "the file tells what the memory knew");
    let report = Report::of(&books);
    assert_eq!((report.verdict(), &report.json()["resent"]), (Verdict::Complete, &json!(2)));
}

#[test]
fn what_was_not_committed_is_new_when_it_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    let mut sink = Lines::open(&path).unwrap();
    put(&mut sink, &telemetry(1, 0, "1"));
    drop(sink);
    assert_eq!(put(&mut Lines::open(&path).unwrap(), &telemetry(1, 0, "1")), Took::New);
}

#[test]
fn another_content_under_a_key_is_kept_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    let mut sink = Lines::open(&path).unwrap();
    put(&mut sink, &telemetry(1, 0, "1"));
    assert_eq!(put(&mut sink, &telemetry(1, 0, "2")), Took::Conflicting);
    sink.commit().unwrap();
    assert_eq!((lines_of(&path, "message").len(), lines_of(&path, "conflicting").len()), (1, 1));
    assert_eq!(Report::of(&Lines::books_of(&path).unwrap()).verdict(), Verdict::Incomplete);
}

#[test]
fn a_correction_follows_estimated_times_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    let mut sink = Lines::open(&path).unwrap();
    put(&mut sink, &telemetry(1, 5, "1").replace("synchronised", "estimated"));
    put(&mut sink, &clock_event(1, 1_000));
    put(&mut sink, &clock_event(2, 1_001));
    sink.commit().unwrap();
    let corrections = lines_of(&path, "correction");
    assert_eq!(corrections, [json!({"gateway": "g", "boot": 3, "offset_ms": 1_000, "synchronised": true})]);
}

#[test]
fn what_strangers_send_is_a_line_with_the_reason_and_no_second_line_of_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    let mut sink = Lines::open(&path).unwrap();
    let body = b"{\n\"message\":1}\n\xff";
    sink.reject(&Delivery { topic: "fieldgate/g/telemetry", body, received_ms: 0 }, "no message").unwrap();
    // Laid out for people, and still one line.
    let wide = telemetry(1, 0, "1").replace(",\"", ",\n \"");
    put(&mut sink, &wide);
    sink.retained(&Delivery { topic: "fieldgate/g/state", body: b"{\n}", received_ms: 0 }).unwrap();
    sink.commit().unwrap();
    assert_eq!(lines_of(&path, "rejected")[0]["reason"], "no message");
    assert_eq!((lines_of(&path, "message").len(), lines_of(&path, "state").len()), (1, 1));
    assert_eq!(Lines::books_of(&path).unwrap().rejected, 1);
}

#[test]
fn a_file_that_is_none_of_ours_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.txt");
    fs::write(&path, "dear diary\n").unwrap();
    assert!(matches!(Lines::open(&path), Err(SinkError::Foreign { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), "dear diary\n");
}

#[test]
fn contents_are_bounded_and_an_old_one_counts_as_the_same() {
    let mut sink = Lines::stdout();
    for seq in 1..=limits::CONSUME_CONTENTS as u64 + 1 {
        sink.know(&read::message(telemetry(seq, 0, "1").as_bytes()).unwrap());
    }
    assert_eq!(sink.contents.known.len(), limits::CONSUME_CONTENTS);
    assert_eq!(put(&mut sink, &telemetry(1, 0, "2")), Took::Resent);
    assert_eq!(put(&mut sink, &telemetry(2, 0, "2")), Took::Conflicting);
    assert_eq!(sink.books.pieces(), 1, "numbers that follow each other are one range");
}
