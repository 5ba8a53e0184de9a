//! Several brokers of one cloud, in order: the first that takes us is used.
//!
//! A round begins with the preferred one, or behind a broker that took us and then acknowledged nothing. So a broker that
//! accepts and closes keeps nobody from the next one.

use super::broker::{Broker, Hello, NoLink, Welcome};
use std::sync::Arc;

pub struct Brokers<B> {
    /// The preferred one first, never empty.
    all: Vec<(Arc<str>, B)>,
    at: usize,
    /// Where the next round begins.
    first: usize,
}

impl<B: Broker> Brokers<B> {
    pub fn new(preferred: (Arc<str>, B), others: impl IntoIterator<Item = (Arc<str>, B)>) -> Brokers<B> {
        Brokers { all: std::iter::once(preferred).chain(others).collect(), at: 0, first: 0 }
    }
}

impl<B: Broker> Broker for Brokers<B> {
    type Link = B::Link;

    async fn connect(&mut self, hello: &Hello) -> Result<(B::Link, Welcome), NoLink> {
        let count = self.all.len();
        let mut first_why = None;
        for n in 0..count {
            self.at = (self.first + n) % count;
            let (name, broker) = &mut self.all[self.at];
            match broker.connect(hello).await {
                Ok(linked) => return Ok(linked),
                Err(why) => {
                    if count > 1 {
                        tracing::debug!(broker = %name, reason = %why, "cannot be used; the next one is tried");
                    }
                    first_why.get_or_insert(why);
                }
            }
        }
        self.first = 0;
        Err(first_why.expect("there is always one broker"))
    }

    fn in_use(&self) -> (Arc<str>, bool) {
        (Arc::clone(&self.all[self.at].0), self.at == 0)
    }

    fn ended(&mut self, useful: bool) {
        self.first = if useful { 0 } else { (self.at + 1) % self.all.len() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::WallMs,
        uplink::{broker::Link, simulated::Simulated},
    };
    use std::time::Duration;

    fn hello() -> Hello {
        Hello {
            client_id: "g".into(),
            username: None,
            password: None,
            keep_alive: Duration::from_secs(30),
            will: ("g/state".into(), vec![]),
            judged_at: WallMs(0),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_go_round_and_the_preferred_one_is_tried_first_again() {
        let [a, b] = [(); 2].map(|()| Simulated::default());
        let mut brokers = Brokers::new(("a:1".into(), a.clone()), [("b:2".into(), b.clone())]);
        let (link, _) = brokers.connect(&hello()).await.unwrap();
        assert_eq!(brokers.in_use(), ("a:1".into(), true));
        link.close().await;
        brokers.ended(true);

        a.faults(|f| f.refuse = true);
        let (link, _) = brokers.connect(&hello()).await.unwrap();
        assert_eq!(brokers.in_use(), ("b:2".into(), false));
        link.close().await;
        brokers.ended(true);
        b.faults(|f| f.refuse = true);
        assert!(brokers.connect(&hello()).await.is_err());
        a.faults(|f| f.refuse = false);
        let (link, _) = brokers.connect(&hello()).await.unwrap();
        assert_eq!(brokers.in_use(), ("a:1".into(), true));
        link.close().await;

        // It takes us and acknowledges nothing.
        brokers.ended(false);
        b.faults(|f| f.refuse = false);
        brokers.connect(&hello()).await.unwrap().0.close().await;
        assert_eq!(brokers.in_use(), ("b:2".into(), false));
    }
}
