//! Names, parsed once. Each becomes an MQTT topic level, so `/`, `+`, `#` and blanks are impossible by construction. Up to 23
//! bytes, as most are, a name lies in its place: thousands of them are compared for each message, and none is allocated for it.

use smol_str::SmolStr;
use std::fmt;

/// Why a text is no id; says what to write instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadId(pub &'static str);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $max:literal, $extra:pat, $remedy:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(SmolStr);

        impl $name {
            /// Accepts the text or says what an id may hold.
            pub fn parse(text: &str) -> Result<Self, BadId> {
                let fits = (1..=$max).contains(&text.len());
                let clean = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, $extra));
                if fits && clean { Ok(Self(SmolStr::new(text))) } else { Err(BadId($remedy)) }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// A sub-device: one Modbus unit, one MQTT device.
    DeviceId, 64, b'-' | b'_', "use 1 to 64 letters, digits, '-' or '_' (it becomes an MQTT topic level)"
);
impl DeviceId {
    /// In the place of a device where the gateway itself is meant. Shown as null.
    pub fn gateway() -> DeviceId {
        DeviceId(SmolStr::new_static("-"))
    }

    pub fn is_gateway(&self) -> bool {
        self.as_str() == "-"
    }
}
id!(
    /// A point of a device. A dot is allowed: leaves of nested JSON are joined by it.
    PointId, 64, b'-' | b'_' | b'.', "use 1 to 64 letters, digits, '-', '_' or '.' (it becomes a key in every message)"
);
id!(
    /// A bus or a TCP connection that devices share.
    LineId, 64, b'-' | b'_' | b'.' | b':', "use 1 to 64 letters, digits, '-', '_', '.' or ':'"
);
id!(
    /// A connection to a cloud.
    UplinkId, 32, b'-' | b'_', "use 1 to 32 letters, digits, '-' or '_'"
);
/// The position of an uplink in the configuration of this process run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UplinkIndex(pub u8);

impl UplinkIndex {
    pub const FIRST: UplinkIndex = UplinkIndex(0);

    /// Its bit in a set of uplinks.
    pub const fn bit(self) -> u8 {
        1 << (self.0 & 7)
    }
}

id!(
    /// A mapping from local MQTT topics to devices.
    RouteId, 64, b'-' | b'_', "use 1 to 64 letters, digits, '-' or '_'"
);
id!(
    /// Something that is written at its time.
    ScheduleId, 48, b'-' | b'_', "use 1 to 48 letters, digits, '-' or '_'"
);
id!(
    /// This gateway.
    GatewayId, 64, b'-' | b'_', "use 1 to 64 letters, digits, '-' or '_' (it becomes an MQTT topic level)"
);
id!(
    /// A rule: its name in the configuration, in alarms and in the audit.
    RuleId, 64, b'-' | b'_', "use 1 to 64 letters, digits, '-' or '_'"
);
