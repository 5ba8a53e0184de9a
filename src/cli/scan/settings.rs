//! Which serial settings are tried, in which order, and lists of units as they are typed.

use crate::model::{Parity, Settings};

/// Likely first: what meters leave the factory with, then what the standard says, then the rest. Pure habit of the trade.
const USUAL: [(u32, Parity); 10] = [
    (9600, Parity::None),
    (9600, Parity::Even),
    (19_200, Parity::Even),
    (19_200, Parity::None),
    (38_400, Parity::None),
    (115_200, Parity::None),
    (2400, Parity::None),
    (4800, Parity::None),
    (38_400, Parity::Even),
    (57_600, Parity::None),
];
const BAUDS: [u32; 7] = [9600, 19_200, 38_400, 115_200, 2400, 4800, 57_600];

/// What was asked for, each with each; the usual ones where nothing was.
pub fn candidates(bauds: &[u32], parities: &[Parity], stops: &[u8]) -> Vec<Settings> {
    let of = |baud, parity, stop| Settings { baud, parity, bits: 8, stop };
    let stops = if stops.is_empty() { &[1] } else { stops };
    let pairs: Vec<(u32, Parity)> = match (bauds, parities) {
        ([], []) => USUAL.to_vec(),
        _ => {
            let bauds = if bauds.is_empty() { &BAUDS } else { bauds };
            let parities = if parities.is_empty() { &[Parity::None, Parity::Even] } else { parities };
            bauds.iter().flat_map(|b| parities.iter().map(|p| (*b, *p))).collect()
        }
    };
    let mut out: Vec<Settings> = Vec::new();
    for settings in stops.iter().flat_map(|stop| pairs.iter().map(|(b, p)| of(*b, *p, *stop))) {
        if !out.contains(&settings) {
            out.push(settings);
        }
    }
    out
}

/// Units in the order they were typed; a type of its own, so that clap takes it as one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Units(pub Vec<u8>);

pub fn units(text: &str) -> Result<Units, &'static str> {
    let remedy = "use unit addresses and ranges from 0 to 255, such as 1-20 or 1,5,100-110";
    let mut all = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<u8>().map_err(|_| remedy);
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(remedy);
        }
        all.extend((first..=last).filter(|u| !all.contains(u)).collect::<Vec<_>>());
    }
    Ok(Units(all))
}

pub fn parity(text: &str) -> Result<Parity, &'static str> {
    match text {
        "none" | "N" | "n" => Ok(Parity::None),
        "even" | "E" | "e" => Ok(Parity::Even),
        "odd" | "O" | "o" => Ok(Parity::Odd),
        _ => Err("use none, even or odd"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bauds: &[u32], parities: &[Parity], stops: &[u8], want: &str) {
        let got: Vec<String> = candidates(bauds, parities, stops).iter().map(Settings::to_string).collect();
        assert_eq!(got.join(", "), want);
    }

    #[test]
    fn what_was_asked_for_is_tried_each_with_each() {
        check(&[9600], &[], &[], "9600 8N1, 9600 8E1");
        check(&[19_200, 9600], &[Parity::Odd], &[], "19200 8O1, 9600 8O1");
        check(&[9600], &[Parity::None], &[1, 2, 2], "9600 8N1, 9600 8N2");
        assert_eq!(candidates(&[], &[], &[])[0].to_string(), "9600 8N1");
    }

    #[test]
    fn unit_lists_keep_their_order() {
        assert_eq!(units("5,1-3,2"), Ok(Units(vec![5, 1, 2, 3])));
        assert_eq!(units("255,0"), Ok(Units(vec![255, 0])));
        for bad in ["", "256", "3-1", "a", "1,,2"] {
            assert!(units(bad).is_err(), "{bad}");
        }
    }
}
