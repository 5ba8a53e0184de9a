//! What is counted.

/// Since the start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counts {
    pub sealed_samples: u64,
    pub acknowledged_samples: u64,
    pub dropped_samples: u64,
    pub thinned_samples: u64,
    pub commits: u64,
    /// To the log and from there into the file, in whole pages.
    pub bytes_written: u64,
    pub disk_bytes: u64,
    /// Why the last write failed.
    pub trouble: String,
}
