//! One simulated unit: its registers as a function of seed and time, what was written to it, and what was asked of it.
//!
//! | Table | Addresses | Holds |
//! |---|---|---|
//! | holding | 0, 1 | milliseconds since the start, low word and high word |
//! | holding | 2 | how often this register was read before: a master that loses no read sees no number missing |
//! | holding | 3 | the unit's own address |
//! | holding | 4..=99 | slow waves, 0 to 65535 |
//! | holding | 100..=119 | whatever was written, 0 at first |
//! | input | 0..=379 | a meter like an Eastron SDM120: singles at even addresses, 0.0 where it has none |
//! | input | 900..=919 | how often holding 100..=119 were written |
//! | input | 920..=935 | how often coil 0..=15 were written |
//! | coil | 0..=15 | whatever was written, off at first |
//! | discrete | 0..=15 | bit n changes every n + 1 seconds |
//!
//! Everything else is refused with exception 2, a block with one such address as a whole. Pure: time is passed in.

use std::{collections::BTreeMap, f64::consts::TAU, ops::Range, time::Duration};

const WRITABLE: Range<u16> = 100..120;
const COILS: u16 = 16;
const WRITES: u16 = 900;
const METER: u16 = 380;

/// The address does not exist: exception 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoSuchAddress;

pub struct Unit {
    address: u8,
    seed: u64,
    holding: [u16; 20],
    holding_writes: [u64; 20],
    coils: [bool; 16],
    coil_writes: [u64; 16],
    counter: u16,
    pub tally: Tally,
}

/// What was asked of a unit since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Requests that were answered with data.
    pub reads: u64,
    /// Registers and bits in those answers.
    pub read_values: u64,
    /// Write requests that were executed.
    pub write_requests: u64,
    /// Requests answered with an exception.
    pub refused: u64,
    /// Requests left unanswered because the unit was silent or killed.
    pub ignored: u64,
    /// Reads of `holding:2`.
    pub counter: u64,
    /// Executed writes per register, in the form `holding:101`; those never written are absent.
    pub writes: BTreeMap<String, u64>,
    /// What the written registers hold now.
    pub values: BTreeMap<String, u16>,
}

impl Unit {
    pub fn new(address: u8, seed: u64) -> Unit {
        let seed = mixed(seed ^ u64::from(address) << 56);
        Unit {
            address,
            seed,
            holding: [0; 20],
            holding_writes: [0; 20],
            coils: [false; 16],
            coil_writes: [0; 16],
            counter: 0,
            tally: Tally::default(),
        }
    }

    pub fn read_holding(&mut self, start: u16, count: u16, at: Duration) -> Result<Vec<u16>, NoSuchAddress> {
        let addresses = addresses(start, count)?;
        if addresses.end > WRITABLE.end.into() {
            return Err(NoSuchAddress);
        }
        let words = addresses.filter_map(|n| u16::try_from(n).ok()).map(|n| self.holding_word(n, at)).collect();
        Ok(self.answered(words))
    }

    pub fn read_input(&mut self, start: u16, count: u16, at: Duration) -> Result<Vec<u16>, NoSuchAddress> {
        let addresses = addresses(start, count)?;
        let writes = u32::from(WRITES)..u32::from(WRITES + 36);
        if addresses.end > METER.into() && !(writes.contains(&addresses.start) && addresses.end <= writes.end) {
            return Err(NoSuchAddress);
        }
        let words = addresses.filter_map(|n| u16::try_from(n).ok()).map(|n| self.input_word(n, at)).collect();
        Ok(self.answered(words))
    }

    pub fn read_coils(&mut self, start: u16, count: u16) -> Result<Vec<bool>, NoSuchAddress> {
        let range = bit_range(start, count)?;
        let bits = self.coils[range].to_vec();
        Ok(self.answered(bits))
    }

    pub fn read_discrete(&mut self, start: u16, count: u16, at: Duration) -> Result<Vec<bool>, NoSuchAddress> {
        let range = bit_range(start, count)?;
        let bits = range.map(|n| (at.as_secs() / (n as u64 + 1)) % 2 == 1).collect();
        Ok(self.answered(bits))
    }

    pub fn write_holding(&mut self, start: u16, words: &[u16]) -> Result<(), NoSuchAddress> {
        let from = usize::from(start.checked_sub(WRITABLE.start).ok_or(NoSuchAddress)?);
        let to = from + words.len();
        self.holding.get_mut(from..to).ok_or(NoSuchAddress)?.copy_from_slice(words);
        self.holding_writes[from..to].iter_mut().for_each(|n| *n += 1);
        self.tally.write_requests += 1;
        Ok(())
    }

    /// Function 22: the bits that `and` lacks become those of `or`.
    pub fn mask_holding(&mut self, address: u16, and: u16, or: u16) -> Result<(), NoSuchAddress> {
        let at = usize::from(address.checked_sub(WRITABLE.start).ok_or(NoSuchAddress)?);
        let old = *self.holding.get(at).ok_or(NoSuchAddress)?;
        self.write_holding(address, &[old & and | or & !and])
    }

    pub fn write_coils(&mut self, start: u16, bits: &[bool]) -> Result<(), NoSuchAddress> {
        let from = usize::from(start);
        let to = from + bits.len();
        self.coils.get_mut(from..to).ok_or(NoSuchAddress)?.copy_from_slice(bits);
        self.coil_writes[from..to].iter_mut().for_each(|n| *n += 1);
        self.tally.write_requests += 1;
        Ok(())
    }

    /// The tally with the per-register part filled in.
    pub fn tally(&self) -> Tally {
        let holding = WRITABLE.zip(self.holding_writes).zip(self.holding).map(|((n, times), v)| (format!("holding:{n}"), times, v));
        let coils = (0..COILS).zip(self.coil_writes).zip(self.coils).map(|((n, times), v)| (format!("coil:{n}"), times, u16::from(v)));
        let mut tally = self.tally.clone();
        for (register, times, value) in holding.chain(coils).filter(|(_, times, _)| *times > 0) {
            tally.writes.insert(register.clone(), times);
            tally.values.insert(register, value);
        }
        tally
    }

    fn answered<T>(&mut self, values: Vec<T>) -> Vec<T> {
        self.tally.reads += 1;
        self.tally.read_values += values.len() as u64;
        values
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // words are cut out of wider numbers
    fn holding_word(&mut self, address: u16, at: Duration) -> u16 {
        let ms = at.as_millis();
        match address {
            0 => ms as u16,
            1 => (ms >> 16) as u16,
            2 => {
                let before = self.counter;
                self.counter = before.wrapping_add(1);
                self.tally.counter += 1;
                before
            }
            3 => self.address.into(),
            100..=119 => self.holding[usize::from(address - WRITABLE.start)],
            _ => (32_768.0 + 32_000.0 * self.wave(address.into(), 60.0 + f64::from(address), at)) as u16,
        }
    }

    #[allow(clippy::cast_possible_truncation)]
    fn input_word(&self, address: u16, at: Duration) -> u16 {
        match address {
            900..=919 => self.holding_writes[usize::from(address - WRITES)] as u16,
            920..=935 => self.coil_writes[usize::from(address - WRITES - 20)] as u16,
            _ => {
                let bits = self.meter(address & !1, at).to_bits();
                if address & 1 == 0 { (bits >> 16) as u16 } else { bits as u16 }
            }
        }
    }

    /// The meter's quantity at an even address.
    #[allow(clippy::cast_possible_truncation)] // a meter's quantities are singles
    fn meter(&self, address: u16, at: Duration) -> f32 {
        let voltage = 230.0 + 3.0 * self.wave(0, 97.0, at) + 0.4 * self.wave(1, 7.0, at);
        let power = self.power(at);
        let factor = 0.95 + 0.03 * self.wave(2, 61.0, at);
        let apparent = power / factor;
        let value = match address {
            0 => voltage,
            6 => apparent / voltage,
            12 => power,
            18 => apparent,
            24 => (apparent * apparent - power * power).sqrt(),
            30 => factor,
            36 => factor.acos().to_degrees(),
            70 => 50.0 + 0.02 * self.wave(3, 41.0, at),
            72 | 342 => self.energy_kwh(at),
            _ => 0.0,
        };
        value as f32
    }

    /// Watts: a load of its own per unit that swings slowly.
    fn power(&self, at: Duration) -> f64 {
        let base = self.base_load();
        base * (1.0 + 0.3 * self.wave(4, POWER_PERIOD, at))
    }

    /// The integral of [`Unit::power`], so that the counter agrees with the power and never falls.
    fn energy_kwh(&self, at: Duration) -> f64 {
        let turn = TAU / POWER_PERIOD;
        let phase = self.phase(4);
        let t = at.as_secs_f64();
        let swing = 0.3 / turn * (phase.cos() - (turn * t + phase).cos());
        let before = 100.0 + 900.0 * self.fraction(6);
        before + self.base_load() * (t + swing) / 3.6e6
    }

    fn base_load(&self) -> f64 {
        200.0 + 1800.0 * self.fraction(5)
    }

    /// Between -1 and 1, with this period in seconds and a phase of its own.
    fn wave(&self, channel: u64, period: f64, at: Duration) -> f64 {
        (TAU * at.as_secs_f64() / period + self.phase(channel)).sin()
    }

    fn phase(&self, channel: u64) -> f64 {
        TAU * self.fraction(channel)
    }

    /// Between 0 and 1, fixed by seed, unit and channel.
    #[allow(clippy::cast_precision_loss)]
    fn fraction(&self, channel: u64) -> f64 {
        (mixed(self.seed.wrapping_add(channel)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Seconds of one swing of the load.
const POWER_PERIOD: f64 = 180.0;

fn addresses(start: u16, count: u16) -> Result<Range<u32>, NoSuchAddress> {
    if count == 0 { Err(NoSuchAddress) } else { Ok(u32::from(start)..u32::from(start) + u32::from(count)) }
}

fn bit_range(start: u16, count: u16) -> Result<Range<usize>, NoSuchAddress> {
    let end = usize::from(start) + usize::from(count);
    if count == 0 || end > COILS.into() { Err(NoSuchAddress) } else { Ok(start.into()..end) }
}

/// SplitMix64: spreads seeds that differ in one bit over all bits.
fn mixed(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn single(words: &[u16]) -> f32 {
        f32::from_bits(u32::from(words[0]) << 16 | u32::from(words[1]))
    }

    #[test]
    fn the_same_seed_gives_the_same_values_and_another_seed_others() {
        let read = |seed| Unit::new(3, seed).read_input(0, 80, at(12.5)).unwrap();
        assert_eq!(read(7), read(7));
        assert_ne!(read(7), read(8));
        assert_ne!(read(7), Unit::new(4, 7).read_input(0, 80, at(12.5)).unwrap());
    }

    #[test]
    fn the_meter_is_plausible_and_its_energy_never_falls() {
        let mut unit = Unit::new(1, 1);
        let mut before = 0.0;
        for second in 0..2_000 {
            let words = unit.read_input(0, 72, at(second.into())).unwrap();
            let [voltage, current, power, frequency] = [0, 6, 12, 70].map(|n| single(&words[n..]));
            assert!((220.0..240.0).contains(&voltage) && (49.9..50.1).contains(&frequency), "{voltage} V, {frequency} Hz");
            assert!((0.4..15.0).contains(&current) && (100.0..3000.0).contains(&power), "{current} A, {power} W");
            let energy = single(&unit.read_input(342, 2, at(second.into())).unwrap());
            assert!(energy >= before, "{energy} kWh after {before} kWh");
            before = energy;
        }
    }

    #[test]
    fn the_read_counter_counts_every_read_of_it_and_no_other() {
        let mut unit = Unit::new(5, 0);
        for want in 0..3 {
            assert_eq!(unit.read_holding(0, 4, at(1.0)).unwrap()[1..], [0, want, 5]);
            assert_eq!(unit.read_holding(3, 1, at(1.0)), Ok(vec![5]));
        }
        assert_eq!(unit.read_holding(0, 2, at(70.0)), Ok(vec![4464, 1]), "70,000 ms");
        assert_eq!(unit.tally().counter, 3);
    }

    #[test]
    fn writes_are_counted_per_register() {
        let mut unit = Unit::new(1, 0);
        unit.write_holding(101, &[67]).unwrap();
        unit.write_holding(100, &[1, 2, 3]).unwrap();
        unit.write_coils(15, &[true]).unwrap();
        unit.write_holding(110, &[0x12]).unwrap();
        unit.mask_holding(110, 0xf2, 0x25).unwrap();
        assert_eq!(unit.read_holding(110, 1, at(0.0)), Ok(vec![0x17]), "the example of the specification");
        assert_eq!(unit.mask_holding(120, 0, 1), Err(NoSuchAddress));
        assert_eq!(unit.read_holding(100, 4, at(0.0)), Ok(vec![1, 2, 3, 0]));
        assert_eq!(unit.read_input(900, 4, at(0.0)), Ok(vec![1, 2, 1, 0]));
        assert_eq!(unit.read_input(935, 1, at(0.0)), Ok(vec![1]));
        let tally = unit.tally();
        assert_eq!(tally.writes["holding:101"], 2);
        assert_eq!(tally.values["coil:15"], 1);
        assert_eq!(tally.write_requests, 5);
        assert!(!tally.writes.contains_key("coil:0"));
    }

    #[test]
    fn addresses_that_do_not_exist_are_refused_and_change_nothing() {
        let mut unit = Unit::new(1, 0);
        assert_eq!(unit.read_holding(119, 2, at(0.0)), Err(NoSuchAddress));
        assert_eq!(unit.read_holding(65_535, 2, at(0.0)), Err(NoSuchAddress));
        assert_eq!(unit.read_input(379, 2, at(0.0)), Err(NoSuchAddress));
        assert_eq!(unit.read_input(935, 2, at(0.0)), Err(NoSuchAddress));
        assert_eq!(unit.read_input(890, 20, at(0.0)), Err(NoSuchAddress));
        assert_eq!(unit.read_coils(15, 2), Err(NoSuchAddress));
        assert_eq!(unit.read_discrete(16, 1, at(0.0)), Err(NoSuchAddress));
        assert_eq!(unit.write_holding(99, &[1, 1]), Err(NoSuchAddress));
        assert_eq!(unit.write_holding(119, &[1, 1]), Err(NoSuchAddress));
        assert_eq!(unit.write_coils(16, &[true]), Err(NoSuchAddress));
        assert_eq!(unit.tally(), Tally::default());
    }
}
