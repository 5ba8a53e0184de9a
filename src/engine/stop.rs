//! The orderly end: the doors are emptied, what is there is sealed, orders under way may still answer.

use super::{BULK_TURN, Engine};
use crate::{logic::rules::Rules, model::Boot};
use std::time::Duration;

/// The doors get so long to hand in what they have. Less than the engine's share of the stop (`app`, 1 s): what is sealed
/// after that may find the store closed.
const DRAIN: Duration = Duration::from_millis(800);
/// With nothing new for so long, and no order under way, they have handed in everything.
const QUIET: Duration = Duration::from_millis(50);

impl Engine {
    /// Whatever stops feeding the doors must be told to stop no later than the engine.
    pub(super) async fn wind_down(&mut self) {
        let now = self.clock.now();
        // First of all: whatever takes long below, this is safe.
        self.seal();
        // What happens from now on is a cause for the next run: a command would not be carried out any more.
        self.rules = Rules::default();
        let mut out = vec![];
        self.commands.stop(now, &mut out);
        self.carry_orders(out).await;
        let until = now + DRAIN;
        let mut quiet_at = now + QUIET;
        loop {
            let now = self.clock.now();
            if now >= until || self.doors_are_over() {
                break;
            }
            if now >= quiet_at && self.commands.at_ports() == 0 && self.in_store == 0 {
                break;
            }
            let wait = if now < quiet_at { quiet_at.min(until) } else { until };
            tokio::select! {
                biased;
                Some(message) = self.urgent.next() => self.on_urgent(message).await,
                Some(landed) = self.landed.recv() => self.on_landed(landed).await,
                Some(message) = self.bulk.next() => self.on_bulk(message).await,
                () = self.clock.sleep_until(wait) => continue,
            }
            for _ in 1..BULK_TURN {
                let Some(message) = self.bulk.try_next() else { break };
                self.on_bulk(message).await;
            }
            quiet_at = self.clock.now() + QUIET;
        }
        self.end_windows();
        self.seal();
        self.end_late().await;
        self.store_again(Boot(u64::MAX)).await;
        tracing::debug!(commands_open = self.commands.open(), "engine stopped");
    }

    fn doors_are_over(&self) -> bool {
        self.urgent.is_over() && self.bulk.is_over() && self.in_store == 0
    }
}
