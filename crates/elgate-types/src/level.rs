//! Acknowledgement levels and flush modes: what a receipt may claim, and when a log claims it.

use serde::{Deserialize, Serialize};

/// How far an operation has come. Ordered: a later level includes the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Level {
    /// Committed in the shared-memory ring: survives the program's death and Elgate's.
    Accepted = 1,
    /// Synced by the device: survives power loss on honest storage.
    Durable = 2,
    /// Taken by the sink's far end.
    Delivered = 3,
}

/// When a log makes its records durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlushMode {
    /// Every group commit is synced before it is acknowledged. The default.
    #[default]
    Auto,
    /// Records are written at once and acknowledged as `accepted`; a flush syncs them.
    Manual,
    /// Never synced: receipts say `accepted`, never `durable`.
    None,
}
