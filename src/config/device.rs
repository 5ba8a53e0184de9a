//! `[device.*]`, `[group.*]` and their points: what is read, how it is decoded, what is reported and what may be written.

use crate::model::{DeviceId, LineId, PointId};
use std::{fmt, time::Duration};

/// A Modbus unit that is polled. (MQTT devices are not configured one by one; routes register them.)
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    pub id: DeviceId,
    pub line: LineId,
    /// 1 to 247 on RTU, 0 to 255 on TCP.
    pub unit: u8,
    /// Zero: as fast as the line allows.
    pub poll: Duration,
    /// Silence after which it is offline, if two polls were missed as well. Default: 3 polls, at least 2 s.
    pub offline_after: Duration,
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
    pub profile: Option<String>,
    /// In order of table and address.
    pub points: Vec<Point>,
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
    pub report: Report,
    /// `None`: refused. Coils and holding registers only.
    pub write: Option<WriteRule>,
    /// Read by a request of its own.
    pub read_alone: bool,
    /// An `i16` in the device that holds the power of ten of this value, read with it.
    pub scale_register: Option<Register>,
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
            max_words: 125,
            max_bits: 2000,
            max_gap: 0,
            timeout: None,
            retries: None,
            min_gap: None,
            profile: None,
            points: Vec::new(),
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
            report: Report::default(),
            write: None,
            read_alone: false,
            scale_register: None,
        }
    }
}

impl Default for WriteRule {
    /// `write = true`.
    fn default() -> WriteRule {
        WriteRule { min: None, max: None, verify: true, min_interval: Duration::ZERO, function: None }
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bits {
    pub first: u8,
    pub count: u8,
}

impl DataType {
    /// Registers that one value takes.
    pub const fn words(self) -> u16 {
        match self {
            DataType::Bool | DataType::Bits(_) | DataType::U8 | DataType::I8 | DataType::U16 | DataType::I16 | DataType::F16 => 1,
            DataType::U32 | DataType::I32 | DataType::F32 => 2,
            DataType::U64 | DataType::I64 | DataType::F64 => 4,
        }
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

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WriteRule {
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// Read back and compare. Default true.
    pub verify: bool,
    /// Shortest time between two writes; sooner is rejected.
    pub min_interval: Duration,
    /// Function code: 5 and 6 write one, 15 and 16 write several. `None`: 5 for a coil, 6 for one register, else 16.
    pub function: Option<u8>,
}
