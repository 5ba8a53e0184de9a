//! `[device.*]`, `[group.*]` and their points: what is read, how it is decoded, what is reported and what may be written.

use super::writing::{FixedWrite, RawPdu, Refresh};
use crate::model::{DeviceId, LineId, PointId};
use std::{fmt, sync::Arc, time::Duration};

/// A Modbus unit that is polled. (MQTT devices are not configured one by one; routes register them.)
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    pub id: DeviceId,
    pub line: LineId,
    /// 1 to 247 on RTU, 0 to 255 on TCP. 0 on RTU: all units at once, see `broadcast`.
    pub unit: u8,
    /// Zero: as fast as the line allows.
    pub poll: Duration,
    /// Silence after which it is offline, if two polls were missed as well. Default: 3 polls, at least 2 s.
    pub offline_after: Duration,
    /// Offline for so long, it is an alarm. `None`: as `[watch]` says.
    pub alarm_after: Option<Duration>,
    /// Most registers in one read, 1 to 125. Default 125.
    pub max_words: u16,
    /// Most coils or discrete inputs in one read, 1 to 2000. Default 2000.
    pub max_bits: u16,
    /// Unasked registers that a read may span to join two points. Default 0: unknown maps have holes.
    pub max_gap: u16,
    /// `None`: the line's.
    pub timeout: Option<Duration>,
    pub retries: Option<u8>,
    pub min_gap: Option<Duration>,
    /// Replies are taken from whatever unit they name, for devices that answer under another number than they are asked by.
    pub accept_any_unit: bool,
    pub profile: Option<String>,
    /// `kind = "sunspec"`: it says itself what it has. The models that are wanted; empty: all that are known.
    pub sunspec: Option<Vec<u16>>,
    /// Written after each connect and whenever the device came back, before its polls.
    pub setup: Vec<FixedWrite>,
    /// Polls and commands wait until `setup` has succeeded. Default false: they go on after one attempt.
    pub setup_required: bool,
    /// All units of the line at once: it is only written, nothing answers, and it has no state. Unit 0 on RTU.
    pub broadcast: bool,
    /// The line is silent for so long after a broadcast, while its units work. Default 100 ms.
    pub turnaround: Duration,
    /// In order of table and address. Devices of one kind share one list: a site has hundreds of equal meters.
    pub points: Arc<[Point]>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    pub id: PointId,
    pub register: Register,
    pub kind: DataType,
    pub order: WordOrder,
    /// value = raw * scale + offset. A scale of 0.1, 0.01, … divides, so that 642 becomes 64.2 and not 64.20000000000001.
    pub scale: f64,
    pub offset: f64,
    pub unit: String,
    /// Raw patterns (before scaling, in the point's own width) that mean "not available".
    pub na: Vec<u64>,
    /// As `na`, for "asked for and on its way": Null with quality `pending`.
    pub pending: Vec<u64>,
    /// As `na`, for "this model does not have it": Null with quality `unsupported`.
    pub unsupported: Vec<u64>,
    /// Words for numbers or bits.
    pub names: Names,
    /// A register of the same table that holds a power of ten (i16, -10 to 10) by which the value is multiplied (SunSpec).
    pub scale_register: Option<Register>,
    /// It only counts up: wraps and resets are recognised, and its increase may be a point of its own.
    pub counter: Option<Counter>,
    pub report: Report,
    /// `None`: refused. Coils and holding registers only. Boxed: it is as large as the rest of a point, and few have one.
    pub write: Option<Box<WriteRule>>,
    /// Read by a request of its own.
    pub read_alone: bool,
    /// False: written only, never polled.
    pub read: bool,
}

impl Device {
    /// With the defaults of a device that says only where it is.
    pub fn new(id: DeviceId, line: LineId, unit: u8) -> Device {
        Device {
            id,
            line,
            unit,
            poll: Duration::from_secs(5),
            offline_after: Duration::from_secs(15),
            alarm_after: None,
            max_words: 125,
            max_bits: 2000,
            max_gap: 0,
            timeout: None,
            retries: None,
            min_gap: None,
            accept_any_unit: false,
            profile: None,
            sunspec: None,
            setup: Vec::new(),
            setup_required: false,
            broadcast: false,
            turnaround: Duration::from_millis(100),
            points: Arc::default(),
        }
    }
}

impl Point {
    /// With the defaults of a point that says only where it is and of which type.
    pub fn new(id: PointId, register: Register, kind: DataType) -> Point {
        Point {
            id,
            register,
            kind,
            order: WordOrder::Abcd,
            scale: 1.0,
            offset: 0.0,
            unit: String::new(),
            na: Vec::new(),
            pending: Vec::new(),
            unsupported: Vec::new(),
            names: Names::None,
            scale_register: None,
            counter: None,
            report: Report::default(),
            write: None,
            read_alone: false,
            read: true,
        }
    }

    /// The point that a counter's increase is published as. `None`: there is none, or its name would be too long.
    pub fn delta_id(&self) -> Option<PointId> {
        self.counter.filter(|c| c.delta)?;
        PointId::parse(&format!("{}_delta", self.id)).ok()
    }
}

impl Default for WriteRule {
    /// `write = true`.
    fn default() -> WriteRule {
        WriteRule {
            min: None,
            max: None,
            verify: true,
            min_interval: Duration::ZERO,
            function: None,
            register: None,
            verify_register: None,
            group: None,
            if_changed: false,
            pre: Vec::new(),
            refresh: None,
            raw: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    Coil,
    Discrete,
    Input,
    Holding,
}

impl Table {
    pub const fn word(self) -> &'static str {
        match self {
            Table::Coil => "coil",
            Table::Discrete => "discrete",
            Table::Input => "input",
            Table::Holding => "holding",
        }
    }

    /// Modbus Application Protocol 1.1b3: 1 coils, 2 discrete inputs, 3 holding registers, 4 input registers.
    pub const fn read_function(self) -> u8 {
        match self {
            Table::Coil => 1,
            Table::Discrete => 2,
            Table::Holding => 3,
            Table::Input => 4,
        }
    }

    pub const fn is_bits(self) -> bool {
        matches!(self, Table::Coil | Table::Discrete)
    }
}

/// The wire address, 0 to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Register {
    pub table: Table,
    pub address: u16,
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.table.word(), self.address)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataType {
    /// A coil or discrete input, or a register that is not 0.
    Bool,
    /// One bit (0 = least significant) or a run of bits of one register.
    Bits(Bits),
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    F32,
    F64,
    /// Decimal digits, four to a register, 1 to 16 of them; what stands above them is not looked at.
    Bcd(u8),
    /// 1 to 4 registers of 0 to 9999 each, least significant first; `CDAB` and `DCBA` turn that round.
    M10k(u8),
    Text(Chars),
    Time(Time),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bits {
    pub first: u8,
    pub count: u8,
}

/// How a text lies in its registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chars {
    /// 1 to 125.
    pub registers: u8,
    pub lane: Lane,
    pub encoding: Encoding,
}

/// Which bytes of a register hold characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Lane {
    /// Two characters, the upper byte first.
    #[default]
    Both,
    High,
    Low,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Encoding {
    #[default]
    Utf8,
    Latin1,
    Ascii,
}

/// A packed time of day or date and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Time {
    pub form: TimeForm,
    /// Each byte holds two decimal digits instead of a number.
    pub bcd: bool,
    /// The clock on the device's wall: written without the Z of UTC.
    pub local: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeForm {
    /// One register: hours in the upper byte, minutes in the lower.
    HourMinute,
    /// One byte for each field.
    Bytes(Layout),
    /// IEC 60870-5-4 as Schneider spreads it over four registers: year, month and day, hour and minute, milliseconds.
    Iec870,
    /// Two registers: seconds since 1970.
    Unix,
}

/// Where the bytes of a date and time stand, counted from the upper byte of the first register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Layout {
    /// 3 or 4.
    pub registers: u8,
    /// Year, month, day, hour, minute, second.
    pub at: [u8; 6],
    /// The year takes two bytes, most significant first. One byte counts from 2000.
    pub wide_year: bool,
}

/// Words for what a device says in numbers.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Names {
    #[default]
    None,
    /// By number, ascending. A number that has no word stays a number.
    Values(Vec<(i128, Arc<str>)>),
    /// By bit, ascending. The words of the bits that are set, joined by `|`; bits without a word are left out.
    Flags(Vec<(u8, Arc<str>)>),
}

/// What is known of a counter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counter {
    /// In the value's unit: behind its highest value it goes on at 0. `None`: it never rolls over.
    pub modulo: Option<f64>,
    /// It begins at 0 every day.
    pub daily: bool,
    /// Publish the increase as `<id>_delta`.
    pub delta: bool,
    /// Readings in a row that a drop must last to be believed.
    pub confirm: u8,
    /// No more than this can come together in a second, in the value's unit.
    pub max_per_s: Option<f64>,
}

impl Default for Counter {
    fn default() -> Counter {
        Counter { modulo: None, daily: false, delta: false, confirm: 3, max_per_s: None }
    }
}

impl DataType {
    /// Registers that one value takes.
    pub const fn words(self) -> u16 {
        match self {
            DataType::Bool | DataType::Bits(_) | DataType::U8 | DataType::I8 | DataType::U16 | DataType::I16 | DataType::F16 => 1,
            DataType::U32 | DataType::I32 | DataType::F32 => 2,
            DataType::U64 | DataType::I64 | DataType::F64 => 4,
            DataType::Bcd(digits) => (digits as u16).div_ceil(4),
            DataType::M10k(registers) => registers as u16,
            DataType::Text(chars) => chars.registers as u16,
            DataType::Time(time) => match time.form {
                TimeForm::HourMinute => 1,
                TimeForm::Unix => 2,
                TimeForm::Iec870 => 4,
                TimeForm::Bytes(layout) => layout.registers as u16,
            },
        }
    }

    /// Whether scale, offset, limits and deadbands have a meaning.
    pub const fn is_number(self) -> bool {
        !matches!(self, DataType::Text(_) | DataType::Time(_) | DataType::Bool | DataType::Bits(Bits { count: 1, .. }))
    }

    /// Whole before scaling, so that words can stand for its numbers.
    pub const fn is_whole(self) -> bool {
        !matches!(self, DataType::Text(_) | DataType::Time(_) | DataType::F16 | DataType::F32 | DataType::F64)
    }

    pub const fn word(self) -> &'static str {
        match self {
            DataType::Bool => "bool",
            DataType::Bits(_) => "bits",
            DataType::U8 => "u8",
            DataType::I8 => "i8",
            DataType::U16 => "u16",
            DataType::I16 => "i16",
            DataType::U32 => "u32",
            DataType::I32 => "i32",
            DataType::U64 => "u64",
            DataType::I64 => "i64",
            DataType::F16 => "f16",
            DataType::F32 => "f32",
            DataType::F64 => "f64",
            DataType::Bcd(_) => "bcd",
            DataType::M10k(_) => "m10k",
            DataType::Text(_) => "string",
            DataType::Time(Time { form: TimeForm::HourMinute, .. }) => "hhmm",
            DataType::Time(Time { form: TimeForm::Unix, .. }) => "unix32",
            DataType::Time(_) => "datetime",
        }
    }
}

/// How the bytes of a value of two or more registers are spread, generalised to four registers:
/// A is the most significant byte. On one register CDAB equals ABCD, and BADC and DCBA swap its two bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WordOrder {
    /// Most significant word first, big-endian bytes: the Modbus standard.
    #[default]
    Abcd,
    /// Words swapped.
    Cdab,
    /// Bytes swapped in each word.
    Badc,
    /// Both: little-endian.
    Dcba,
}

/// What of what was read goes upstream. All zero: everything.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Report {
    /// Only when the value differs from the last reported one by more than `deadband`.
    pub on_change: bool,
    pub deadband: f64,
    /// …but at least this often.
    pub at_least_every: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct WriteRule {
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// Read back and compare. Default true.
    pub verify: bool,
    /// Shortest time between two writes; sooner is rejected.
    pub min_interval: Duration,
    /// Function code: 5 and 6 write one, 15 and 16 write several, 22 some bits of one. `None`: 5 for a coil, 6 for one
    /// register, else 16; bits by reading the register, changing them and writing it.
    pub function: Option<u8>,
    /// Written here. `None`: where it is read.
    pub register: Option<Register>,
    /// Read back here. `None`: where it is read.
    pub verify_register: Option<Register>,
    /// The points of a device with the same group go out in one request.
    pub group: Option<String>,
    /// Read first, and write only what differs: memory that wears out.
    pub if_changed: bool,
    /// Written just before, in this order.
    pub pre: Vec<FixedWrite>,
    /// `None`: written once.
    pub refresh: Option<Refresh>,
    /// Sent instead of a write when the value is true.
    pub raw: Option<RawPdu>,
}
