//! Promise: a disk that is slow, refuses, turns read-only or goes away takes neither polls nor live values along; the gateway
//! says so, and what waited in RAM is stored when it works again.

use super::{
    Plant, file, plant_of, plant_with,
    shim::{Card, Shim},
    state_of, status,
};
use crate::{
    gateway::Gateway,
    wait::{now, pause, scaled, secs, until},
};
use fieldgate::system::clock::Clock;
use std::{fs, time::Duration};

impl Plant {
    /// With the shim in front of its databases.
    fn weak(id: &str, shim: &Shim) -> Plant {
        plant_with(id, |gateway| {
            let environment = shim.environment(&gateway.config().with_file_name("data"));
            gateway.start_with(&environment.each_ref().map(|(name, value)| (*name, value.as_str())));
        })
    }

    /// Commits of the spool come only when the cloud is away.
    fn outage(&mut self) {
        self.broker.kill();
    }

    /// For some seconds: `status` answers at once, and live values are young when they come.
    ///
    /// Values polled before it are not asked about: what waited in RAM when the link came back goes out live too.
    #[track_caller]
    fn stays_quick(&self, length: Duration) {
        let since = Clock::Real.reading();
        let since_ms = since.wall(now()).0;
        let before = self.cloud.seen().rows.len();
        let (end, mut answers) = (now() + length, Vec::new());
        while now() < end {
            let begun = now();
            assert!(status(&self.gateway)["verdict"].is_string(), "{}", self.gateway.log());
            answers.push(now() - begun);
            pause(Duration::from_millis(100));
        }
        let seen = self.cloud.seen();
        let clock = Clock::Real.reading();
        let mut ages: Vec<i64> =
            seen.rows[before..].iter().filter(|r| !r.backlog && r.at_ms >= since_ms).map(|r| clock.wall(r.arrived).0 - r.at_ms).collect();
        assert!(ages.len() > 10, "{} live values in {length:?}", ages.len());
        // A disk that is waited for makes all of them late; a machine that others load, a few.
        let of_hundred = scaled(50, 100);
        ages.sort_unstable();
        answers.sort_unstable();
        let (age, took) = (ages[(ages.len() - 1) * of_hundred / 100], answers[(answers.len() - 1) * of_hundred / 100]);
        assert!(age < 2000, "live values were {age} ms old: {ages:?}");
        assert!(took < secs(1), "status took {took:?}: {answers:?}");
    }

    #[track_caller]
    fn says(&self, name: &str, state: &str) {
        until(&format!("{name} is {state}"), secs(60), || (state_of(&self.gateway, name) == state).then_some(()));
    }

    #[track_caller]
    fn told(&self, name: &str, state: &str) {
        self.cloud.wait(&format!("an event: {name} {state}"), secs(90), |s| {
            s.events_of("store").iter().any(|e| e["file"] == name && e["state"] == state).then_some(())
        });
    }

    /// Everything that was polled came.
    #[track_caller]
    fn lost_nothing(&self, restarts: usize) {
        until("nothing waits", secs(90), || (status(&self.gateway)["spool"]["waiting"].as_u64() < Some(200)).then_some(()));
        let seen = self.cloud.seen();
        seen.assert_sound();
        let gaps: Vec<_> = seen.events_of("gap").into_iter().filter(|e| e["stream"] == "telemetry").collect();
        assert!(gaps.is_empty(), "RAM takes some seconds of this: {gaps:?}");
        // What waited comes between live values.
        let mut values = seen.counters("d0");
        values.sort_unstable();
        let holes = values.windows(2).filter(|pair| pair[1] > pair[0] + 40).count();
        assert!(holes <= restarts, "{holes} holes: polls went on, and all of them came");
    }
}

#[test]
fn a_disk_whose_flushes_take_seconds_delays_no_value_and_is_called_slow() {
    let Some(shim) = Shim::build() else { return };
    let mut plant = Plant::weak("disk-slow", &shim);
    shim.order("sync_ms 3000");
    plant.outage();
    plant.says("spool.db", "slow");
    let words = String::from_utf8_lossy(&plant.gateway.command(&["status"]).stdout).into_owned();
    assert!(words.contains("the disk of spool.db is slow"), "{words}");
    plant.broker.restart();
    plant.goes_on();
    plant.stays_quick(secs(8));
    shim.order("");
    plant.told("spool.db", "slow");
    plant.lost_nothing(0);
}

#[test]
fn flushes_that_fail_are_told_and_made_up_for_without_a_restart() {
    let Some(shim) = Shim::build() else { return };
    let mut plant = Plant::weak("disk-errors", &shim);
    for orders in ["sync_eio 1", "write_eio 1"] {
        shim.order(orders);
        plant.outage();
        plant.says("spool.db", "failing");
        plant.broker.restart();
        plant.goes_on();
        plant.stays_quick(secs(3));
        shim.order("");
        plant.outage();
        plant.says("spool.db", "ok");
        plant.broker.restart();
    }
    plant.told("spool.db", "failing");
    plant.told("spool.db", "ok");
    plant.lost_nothing(0);
    assert!(!file(&plant.gateway, "spool.db.corrupt-1").exists(), "the file was sound all the time");
}

#[test]
fn a_disk_without_room_is_called_full_until_there_is_some() {
    let Some(shim) = Shim::build() else { return };
    let mut plant = Plant::weak("disk-enospc", &shim);
    shim.order("write_enospc 1");
    plant.outage();
    plant.says("spool.db", "full");
    plant.broker.restart();
    plant.stays_quick(secs(3));
    shim.order("");
    plant.outage();
    plant.says("spool.db", "ok");
    plant.broker.restart();
    plant.told("spool.db", "full");
    plant.lost_nothing(0);
}

#[test]
fn a_backlog_that_is_read_slowly_delays_no_live_value() {
    let Some(shim) = Shim::build() else { return };
    let mut plant = Plant::weak("disk-reads", &shim);
    plant.outage();
    until("telemetry waits on the disk", secs(60), || (status(&plant.gateway)["spool"]["commits"].as_u64() > Some(10)).then_some(()));
    // A restart: what was in RAM is on the disk only.
    plant.gateway.stop();
    let environment = shim.environment(&plant.gateway.config().with_file_name("data"));
    plant.gateway.start_with(&environment.each_ref().map(|(name, value)| (*name, value.as_str())));
    shim.order("read_ms 700");
    plant.broker.restart();
    plant.cloud.wait("a live value", secs(30), |s| s.rows.last().is_some_and(|r| !r.backlog).then_some(()));
    plant.stays_quick(secs(6));
    shim.order("");
    plant.lost_nothing(1);
}

#[test]
fn a_file_system_that_turns_read_only_is_told_and_live_values_go_on() {
    let gateway = Gateway::new("disk-read-only", "");
    let Some(card) = Card::mount(&gateway.config().with_file_name("data")) else { return };
    let mut plant = plant_of(gateway, "disk-read-only", Gateway::start);
    let Some(()) = card.fail() else { return };
    plant.outage();
    plant.says("spool.db", "read_only");
    let words = String::from_utf8_lossy(&plant.gateway.command(&["status"]).stdout).into_owned();
    assert!(words.contains("the disk of spool.db is read-only"), "{words}");
    plant.broker.restart();
    plant.goes_on();
    plant.stays_quick(secs(3));
    plant.gateway.kill();
    assert!(card.mend().is_some(), "the card can be mounted again");
    plant.gateway.start();
    plant.goes_on();
    plant.cloud.seen().assert_sound();
    plant.gateway.stop();
    card.unmount();
}

#[test]
fn a_data_directory_that_is_removed_is_told_and_live_values_go_on() {
    let mut plant = plant_with("disk-removed", Gateway::start);
    let data = plant.gateway.config().with_file_name("data");
    fs::remove_dir_all(&data).expect("it can be removed");
    plant.says("spool.db", "failing");
    plant.says("state.db", "failing");
    plant.goes_on();
    plant.stays_quick(secs(3));
    plant.told("state.db", "failing");
    plant.outage();
    pause(secs(3));
    plant.broker.restart();
    plant.goes_on();
    assert!(!data.join("spool.db").exists(), "nothing is written where nobody would look for it");
    plant.gateway.stop();
    plant.gateway.start();
    plant.says("spool.db", "ok");
    plant.goes_on();
    plant.cloud.seen().assert_sound();
}

/// A kill leaves the log; a torn flush leaves a part of it.
#[test]
fn a_torn_log_and_a_torn_page_at_the_start_are_survived() {
    let mut plant = plant_with("disk-torn", Gateway::start);
    for (name, tail) in [("spool.db", "-wal"), ("state.db", "-wal"), ("spool.db", "")] {
        plant.outage();
        until("telemetry waits on the disk", secs(60), || (status(&plant.gateway)["spool"]["commits"].as_u64() > Some(4)).then_some(()));
        plant.gateway.kill();
        let path = file(&plant.gateway, &format!("{name}{tail}"));
        let size = fs::metadata(&path).expect("it was killed, so it is there").len();
        super::overwrite(&path, size / 2, size / 4);
        plant.broker.restart();
        plant.gateway.start();
        plant.goes_on();
        let writes = |name| matches!(state_of(&plant.gateway, name).as_str(), "ok" | "quarantined");
        until("both are written", secs(30), || (writes("spool.db") && writes("state.db")).then_some(()));
    }
    plant.cloud.seen().assert_sound();
}
