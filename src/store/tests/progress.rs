//! Progress costs no commit while the cloud hears it, and makes no hole when it is lost.

use super::*;

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

fn open(dir: &TempDir) -> (Store, Restored) {
    Store::open(options(dir.path(), Backing::Inline)).unwrap()
}

fn progress(n: u64) -> Vec<Change> {
    vec![Change::Event(Event { at: Boot(n), kind: EventKind::Progress { alive: vec![] } })]
}

fn put(store: &Store, changes: Vec<Change>) {
    run(submit(store, changes)).unwrap();
}

/// What is to be sent now.
fn sent(store: &Store) -> Vec<Key> {
    std::iter::from_fn(|| store.events().next(U)).map(|m| m.key).collect()
}

fn acknowledge(store: &Store) -> Vec<u64> {
    let keys = sent(store);
    keys.iter().for_each(|key| store.events().acknowledged(U, *key));
    keys.iter().map(|key| key.seq).collect()
}

/// Numbers in state.db: of the rows, and the last one of the newest run.
fn written(dir: &TempDir) -> (Vec<i64>, i64) {
    let db = rusqlite::Connection::open(dir.path().join("state.db")).unwrap();
    let mut rows = db.prepare("SELECT seq FROM event ORDER BY id").unwrap();
    let seqs = rows.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect();
    (seqs, db.query_row("SELECT event FROM epoch ORDER BY id DESC LIMIT 1", [], |r| r.get(0)).unwrap())
}

#[test]
fn progress_that_the_cloud_hears_is_never_written() {
    let dir = dir();
    let (store, _) = open(&dir);
    put(&store, vec![Change::Event(event(1))]);
    acknowledge(&store);
    let wear = store.wear();
    for n in 2..=9 {
        put(&store, progress(n));
        assert_eq!(acknowledge(&store), [n]);
    }
    assert_eq!((written(&dir), store.wear().bytes), ((vec![1], 1), wear.bytes));
    put(&store, vec![Change::Event(event(2))]);
    assert_eq!(written(&dir), (vec![10], 10));
    assert_eq!(acknowledge(&store), [10]);
    put(&store, progress(11));
    assert_eq!(acknowledge(&store), [11]);
    run(store.close());
    assert_eq!(written(&dir).1, 11, "an orderly stop knows the last number");
}

#[test]
fn progress_that_is_not_acknowledged_is_written_with_what_comes_next() {
    let dir = dir();
    let (store, _) = open(&dir);
    put(&store, vec![Change::Event(event(1))]);
    acknowledge(&store);
    put(&store, progress(2));
    assert_eq!(written(&dir).0, [1]);
    put(&store, progress(3));
    assert_eq!(written(&dir), (vec![2, 3], 3));
    let first = sent(&store);
    drop(store);
    let (store, _) = open(&dir);
    assert_eq!(sent(&store), first, "the same after a kill");
}

#[test]
fn progress_that_a_kill_takes_along_leaves_no_hole() {
    let dir = dir();
    let (store, first) = open(&dir);
    put(&store, vec![Change::Event(event(1))]);
    acknowledge(&store);
    put(&store, progress(2));
    drop(store);
    let (store, restored) = open(&dir);
    let before = restored.before.unwrap();
    assert_eq!((before.epoch, before.event), (first.epoch, 1));
    assert!(sent(&store).iter().all(|key| key.seq == 1), "sent again or not at all");
}

#[test]
fn progress_waits_for_its_turn_behind_what_is_not_sent_yet() {
    let dir = dir();
    let (store, _) = open(&dir);
    put(&store, vec![Change::Event(event(1))]);
    put(&store, progress(2));
    assert_eq!(written(&dir), (vec![1, 2], 2));
    assert_eq!(acknowledge(&store), [1, 2]);
}
