//! What a question takes on the wire, and so what a scan needs at least.

use crate::model::{Parity, Settings, SiteOutcome, SiteReport};
use std::time::Duration;

/// Characters of a request for one register, with unit and CRC.
const REQUEST: usize = 8;

/// So many characters at these settings; nothing on TCP.
pub fn chars(settings: Option<Settings>, count: usize) -> Duration {
    let Some(s) = settings else { return Duration::ZERO };
    let bits = 1 + u64::from(s.bits) + u64::from(s.parity != Parity::None) + u64::from(s.stop);
    Duration::from_nanos(bits * 1_000_000_000 / u64::from(s.baud.max(1)) * u64::try_from(count).unwrap_or(0))
}

/// 3.5 characters, fixed above 19200 baud (Modbus over serial line 1.02, 2.5.1.1).
fn silence(settings: Option<Settings>) -> Duration {
    match settings {
        None => Duration::ZERO,
        Some(s) if s.baud > 19_200 => Duration::from_micros(1_750),
        some => chars(some, 7) / 2,
    }
}

/// A unit that is not there: the request, then the whole timeout, which is silence enough for the next request.
pub fn least_silent(settings: Option<Settings>, timeout: Duration) -> Duration {
    chars(settings, REQUEST) + timeout
}

/// The least that this question could have taken: a device that answered is taken to have thought for no longer than the
/// silence that it must keep.
pub fn least(settings: Option<Settings>, timeout: Duration, report: &SiteReport) -> Duration {
    match report.outcome {
        SiteOutcome::Answer(_) | SiteOutcome::Exception(_) => chars(settings, REQUEST + report.heard.len()) + silence(settings) * 2,
        SiteOutcome::NotSent(_) => Duration::ZERO,
        SiteOutcome::Garbled(_) | SiteOutcome::Silent => least_silent(settings, timeout),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_unit_costs_its_request_and_the_timeout() {
        let at = |baud, parity| Some(Settings { baud, parity, bits: 8, stop: 1 });
        let ms = |d: Duration| d.as_secs_f64() * 1000.0;
        for (settings, want) in
            [(at(9600, Parity::None), 108.33), (at(9600, Parity::Even), 109.17), (at(115_200, Parity::None), 100.69), (None, 100.0)]
        {
            let got = ms(least_silent(settings, Duration::from_millis(100)));
            assert!((got - want).abs() < 0.01, "{settings:?}: {got} ms, want {want}");
        }
    }
}
