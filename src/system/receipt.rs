//! A receipt for one who waits in place for its end.

use crate::model::{Receipt, Settled};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// A receipt, and where its end is told.
pub fn awaited() -> (Receipt, oneshot::Receiver<Settled>) {
    let (tell, told) = oneshot::channel();
    let tell = Mutex::new(Some(tell));
    let settle = move |_, how| {
        if let Some(tell) = tell.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = tell.send(how);
        }
    };
    (Receipt::new(1, Arc::new(settle)), told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_told() {
        let (receipt, mut told) = awaited();
        receipt.keep();
        assert_eq!(told.try_recv(), Ok(Settled::Kept));
        let (receipt, mut told) = awaited();
        drop(receipt);
        assert_eq!(told.try_recv(), Ok(Settled::NotKept));
    }
}
