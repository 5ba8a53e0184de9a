//! Exactly once, by several consumers; times that were estimated; and the same books as JSON lines have.

use super::*;
use crate::cli::consume::{
    report::{Report, Verdict},
    sink::{
        lines::Lines,
        testing::{clock_event, epoch_event, event, put, telemetry},
    },
};

fn new() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    (dir, path)
}

fn ask<T: rusqlite::types::FromSql>(path: &Path, sql: &str) -> Vec<T> {
    let db = Connection::open(path).unwrap();
    let mut asked = db.prepare(sql).unwrap();
    asked.query_map([], |r| r.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn samples_are_there_once_with_time_value_and_quality() {
    let (_dir, path) = new();
    let mut sink = Database::open(&path).unwrap();
    put(&mut sink, &telemetry(1, 1_795_255_200_000, "18446744073709551615"));
    put(&mut sink, &telemetry(1, 1_795_255_200_500, "18446744073709551615"));
    put(
        &mut sink,
        &telemetry(2, 1_795_255_200_000, "null")
            .replace("}]}}", ",\"q\":{\"c\":[\"good\",\"pending\"]}}]}}")
            .replace("}},\"q\"", "},\"q\""),
    );
    sink.commit().unwrap();
    let rows = ask::<String>(
        &path,
        "SELECT device || ' ' || point || ' ' || time || ' ' || coalesce(value, '-') || ' ' || quality FROM samples ORDER BY message, at",
    );
    assert_eq!(
        rows,
        [
            "d c 2026-11-21T10:00:01.000Z 1 good",
            "d c 2026-11-21T10:00:01.005Z 18446744073709551615 good",
            "d c 2026-11-21T10:00:01.000Z 1 good",
            "d c 2026-11-21T10:00:01.005Z - pending",
        ]
    );
    assert_eq!(ask::<i64>(&path, "SELECT resent FROM sequence"), [1]);
}

#[test]
fn a_clock_event_moves_the_estimated_times_of_its_boot_and_no_others() {
    let (_dir, path) = new();
    let mut sink = Database::open(&path).unwrap();
    let estimated = |seq, offset| telemetry(seq, offset, "1").replace("synchronised", "estimated");
    put(&mut sink, &estimated(1, 5));
    put(&mut sink, &telemetry(2, 70, "1"));
    put(&mut sink, &estimated(3, 5).replace("\"boot\":3", "\"boot\":2"));
    put(&mut sink, &clock_event(1, 4_000));
    // A second consumer's share may come after the correction.
    put(&mut sink, &estimated(4, 6));
    sink.commit().unwrap();
    let at = ask::<i64>(&path, "SELECT min(at) FROM samples GROUP BY message ORDER BY message");
    assert_eq!(at, [5_000, 1_070, 1_005, 5_000]);
    assert_eq!(ask::<i64>(&path, "SELECT estimated FROM messages WHERE stream = 'telemetry' ORDER BY seq"), [0, 0, 1, 0]);
    assert_eq!(ask::<i64>(&path, "SELECT max(estimated) FROM samples GROUP BY message ORDER BY message"), [0, 0, 1, 0]);
}

#[test]
fn two_consumers_on_one_file_keep_each_message_once() {
    let (_dir, path) = new();
    let write = |from: u64| {
        let path = path.clone();
        std::thread::spawn(move || {
            let mut sink = Database::open(&path).unwrap();
            let mut new = 0;
            for seq in from..from + 60 {
                new += u64::from(put(&mut sink, &telemetry(seq, 0, "1")) == Took::New);
                sink.commit().unwrap();
            }
            new
        })
    };
    let (a, b) = (write(1), write(41));
    assert_eq!(a.join().unwrap() + b.join().unwrap(), 100);
    assert_eq!(ask::<i64>(&path, "SELECT last FROM received"), [100]);
    let books = Database::books_of(&path).unwrap();
    assert_eq!((Report::of(&books).json()["messages"].as_u64(), Report::of(&books).json()["resent"].as_u64()), (Some(100), Some(20)));
}

#[test]
fn a_database_and_json_lines_tell_the_same() {
    let (dir, path) = new();
    let lines = dir.path().join("a.jsonl");
    let gap = r#"{"type":"gap","at":1,"epoch":"00000000000000aa","stream":"telemetry","from":4,"to":5,"samples":8,"reason":"thinned","replaced_by":{"epoch":"00000000000000aa","from":9,"to":9}}"#;
    let progress = r#"{"type":"progress","at":1,"alive":[{"epoch":"00000000000000aa","stream":"telemetry","lowest":9,"highest":12}]}"#;
    let messages = [
        epoch_event(1),
        telemetry(1, 0, "1"),
        telemetry(3, 0, "1"),
        telemetry(3, 9, "1"),
        event(2, gap),
        event(4, progress),
        telemetry(1, 0, "7"),
        telemetry(9, 0, "1"),
    ];
    let (mut one, mut other) = (Database::open(&path).unwrap(), Lines::open(&lines).unwrap());
    for message in &messages {
        assert_eq!(put(&mut one, message), put(&mut other, message), "{message}");
    }
    one.reject(&Delivery { topic: "t", body: b"x", received_ms: 0 }, "no").unwrap();
    other.reject(&Delivery { topic: "t", body: b"x", received_ms: 0 }, "no").unwrap();
    one.commit().unwrap();
    other.commit().unwrap();
    let report = Report::of(&Database::books_of(&path).unwrap());
    assert_eq!(report.json(), Report::of(&other.books().unwrap()).json());
    assert_eq!(report.verdict(), Verdict::Incomplete);
    let of = &report.runs[0];
    assert_eq!(of.telemetry.lost.ranges().collect::<Vec<_>>(), [(2, 2), (6, 8)]);
    assert_eq!(of.telemetry.late.ranges().collect::<Vec<_>>(), [(10, 12)]);
    assert_eq!(of.event.late.ranges().collect::<Vec<_>>(), [(3, 3)]);
}

#[test]
fn what_was_deleted_to_make_room_does_not_come_back() {
    let (_dir, path) = new();
    let mut sink = Database::open(&path).unwrap();
    put(&mut sink, &telemetry(1, 0, "1"));
    sink.commit().unwrap();
    Connection::open(&path).unwrap().execute_batch("DELETE FROM sample; DELETE FROM message;").unwrap();
    assert_eq!(put(&mut sink, &telemetry(1, 0, "1")), Took::Resent);
    sink.commit().unwrap();
    assert_eq!(ask::<i64>(&path, "SELECT count(*) FROM sample"), [0]);
}

#[test]
fn another_programs_database_is_left_alone() {
    let (_dir, path) = new();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (a);").unwrap();
    assert!(matches!(Database::open(&path), Err(SinkError::Foreign { .. })));
    assert_eq!(ask::<String>(&path, "SELECT name FROM sqlite_schema"), ["theirs"]);
}

#[test]
fn rejected_messages_are_bounded_and_counted() {
    let (_dir, path) = new();
    let mut sink = Database::open(&path).unwrap();
    for _ in 0..limits::CONSUME_REJECTED + 5 {
        sink.reject(&Delivery { topic: "t", body: &[0xff; 5_000], received_ms: 0 }, "no").unwrap();
    }
    sink.commit().unwrap();
    assert_eq!(ask::<i64>(&path, "SELECT count(*) FROM rejected"), [limits::CONSUME_REJECTED.cast_signed()]);
    assert_eq!(sink.books().unwrap().rejected, limits::CONSUME_REJECTED + 5);
}

/// `cargo test --release --lib -- --ignored --nocapture messages_in_a_second`: parsed, compared and written, on one core.
#[test]
#[ignore = "a measurement, for a release build"]
fn messages_in_a_second() {
    let wide = |seq: u64| {
        let column = |n: u64| format!("\"p{n}\":[{},{}.5,{},{}]", seq, seq, seq + n, seq % 7);
        let columns: Vec<String> = (0..25).map(column).collect();
        telemetry(seq, 1_795_255_200_000, "2").replace("\"dt\":[0,5]", "\"dt\":[0,100,200,300]").replace("\"c\":[1,2]", &columns.join(","))
    };
    let dir = tempfile::tempdir().unwrap();
    let measure = |what: &str, sink: &mut dyn Sink, group: u64, text: &dyn Fn(u64) -> String| {
        let texts: Vec<String> = (1..=4_000).map(text).collect();
        let began = tokio::time::Instant::now();
        for (n, text) in (1..).zip(&texts) {
            put(sink, text);
            if n % group == 0 {
                sink.commit().unwrap();
            }
        }
        sink.commit().unwrap();
        let took = began.elapsed().as_secs_f64();
        println!("{what}, {group} in a commit: {:.0} messages/s of {} bytes", 4_000.0 / took, texts[0].len());
    };
    for group in [20, 1_000] {
        let path = |name: &str| dir.path().join(format!("{group}{name}"));
        measure("SQLite, 2 samples", &mut Database::open(&path("a.db")).unwrap(), group, &|seq| telemetry(seq, 0, "2"));
        measure("SQLite, 100 samples", &mut Database::open(&path("b.db")).unwrap(), group, &wide);
        measure("JSON lines, 2 samples", &mut Lines::open(&path("a.jsonl")).unwrap(), group, &|seq| telemetry(seq, 0, "2"));
        measure("JSON lines, 100 samples", &mut Lines::open(&path("b.jsonl")).unwrap(), group, &wide);
    }
}
