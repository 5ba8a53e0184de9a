//! How much is written and how long sealing takes. Run with `--ignored --nocapture`, in release for the times.

use super::*;

/// 50 devices of 100 points that change slowly, one reading a second each, an outage: batches of 500 samples.
fn reading(n: u64, at: Boot, names: &[Arc<[PointId]>]) -> Vec<Frame> {
    let device_of = |n: u64| usize::try_from(n % 50).unwrap();
    (n * 5..n * 5 + 5)
        .map(|n| {
            #[allow(clippy::cast_precision_loss)]
            let value = |p: u64| match p % 4 {
                0 => Value::Float((2300 + (n * 7 + p) % 40) as f64 / 10.0),
                1 => Value::Uint(100_000 + n * 3 + p),
                2 => Value::Float(f64::from(((n * 31 + p * 17) % 1000) as f32 * 0.173)),
                _ => Value::Int(((n + p) % 10).cast_signed() - 5),
            };
            let values = (0..100).map(value).collect();
            Frame {
                device: device(device_of(n)),
                points: Arc::clone(&names[device_of(n)]),
                rows: vec![Row { at, values, quality: None }],
                thin: None,
            }
        })
        .collect()
}

#[test]
#[ignore = "prints figures"]
fn bytes_per_sample_and_time_per_batch() {
    let dir = dir();
    let mut o = options(dir.path(), Backing::Inline);
    o.buffer.disk_max = 512 << 20;
    let (store, _) = Store::open(o).unwrap();
    let names: Vec<Arc<[PointId]>> = (0..50).map(|_| (0..100).map(|p| PointId::parse(&format!("point_{p}")).unwrap()).collect()).collect();
    let mut now = Clock::Real.now();
    let mut spent = Duration::ZERO;
    // 1,000 commits of 5 batches: half a second each at 5,000 samples a second.
    for n in 0..5000u64 {
        let frames = reading(n, now, &names);
        now = now + Duration::from_millis(100);
        let begun = Clock::Real.now();
        store.spool().append(frames, vec![], now);
        spent += Clock::Real.now() - begun;
    }
    store.poll(now + WINDOW);
    let figures = store.spool().figures(now);
    let db = rusqlite::Connection::open(dir.path().join("spool.db")).unwrap();
    let (bodies, segments): (u64, u64) = db
        .query_row("SELECT sum(bytes), count(*) FROM segment", [], |r| {
            Ok((r.get::<_, i64>(0)?.cast_unsigned(), r.get::<_, i64>(1)?.cast_unsigned()))
        })
        .unwrap();
    #[allow(clippy::cast_precision_loss)]
    let per = |bytes: u64| bytes as f64 / figures.sealed_samples as f64;
    println!("segments {segments}, commits {}", figures.commits);
    println!(
        "body {:.2} B/sample, file {:.2}, written to log and file {:.2}",
        per(bodies),
        per(figures.disk_bytes),
        per(figures.bytes_written)
    );
    println!("sealing with its share of encoding and commits: {:?} per batch of 500", spent / 5000);
    let begun = Clock::Real.now();
    let mut back = 0;
    while let Some(out) = store.spool().next_backlog(U) {
        back += out.sealed.samples();
        store.spool().acknowledged(U, out.sealed.key, now);
    }
    println!("read back {back} samples in {:?}", Clock::Real.now() - begun);
    assert!(per(bodies) < 5.0, "{}", per(bodies));
}

#[test]
#[ignore = "prints figures"]
fn time_to_seal_while_the_cloud_acknowledges() {
    let dir = dir();
    let (store, _) = Store::open(options(dir.path(), Backing::Thread)).unwrap();
    let names: Vec<Arc<[PointId]>> = (0..50).map(|_| (0..100).map(|p| PointId::parse(&format!("point_{p}")).unwrap()).collect()).collect();
    let batches: Vec<_> = (0..20_000).map(|n| reading(n, Clock::Real.now(), &names[..]).split_off(4)).collect();
    let begun = Clock::Real.now();
    for frames in batches {
        let now = begun;
        store.spool().append(frames, vec![], now);
        let sent = store.spool().next_live(U).unwrap();
        store.spool().acknowledged(U, sent.sealed.key, now);
    }
    println!("seal, next, acknowledge: {:?} per batch of 100", (Clock::Real.now() - begun) / 20_000);
}
