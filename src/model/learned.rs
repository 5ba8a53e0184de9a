//! What was learned about a device or a line and is remembered over restarts, so that it is not found out again on the
//! bus: registers that a device refuses, the framing that a serial server speaks.

/// One fact. Equal `about` and `key` replace each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Learned {
    /// The device's id, or `line ID`.
    pub about: String,
    /// What kind of fact, and where it has one the place: `hole input:30+2`, `framing`.
    pub key: String,
    pub value: String,
}
