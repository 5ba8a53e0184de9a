//! `[watch]`: when changes of devices become alarms.

use std::time::Duration;

#[derive(Debug, Clone, PartialEq)]
pub struct Watching {
    /// More changes of a device than these within the window, and it flaps. 0: none is ever said to.
    pub flaps: u32,
    pub flap_window: Duration,
    /// Without a change for so long, it does not flap any more; online for so long, the alarm that it is offline is over.
    pub stable_for: Duration,
    /// For devices that say nothing else. `None`: no alarm.
    pub alarm_after: Option<Duration>,
}

impl Default for Watching {
    fn default() -> Watching {
        Watching { flaps: 10, flap_window: Duration::from_secs(600), stable_for: Duration::from_secs(300), alarm_after: None }
    }
}
