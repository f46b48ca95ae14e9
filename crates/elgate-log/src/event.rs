//! What a log tells its engine.

use crate::error::IoFault;
use elgate_types::Lsn;
use std::path::PathBuf;

/// Something happened. `Durable` only rises. `Written` starts again from there after a segment was
/// abandoned: what was only written is written again.
#[derive(Debug)]
#[non_exhaustive]
pub enum LogEvent {
    /// Every record up to here is written, not necessarily durable. Flush modes `manual` and
    /// `none` only.
    Written {
        /// The last of them.
        through: Lsn,
    },
    /// Every record up to here survives a power cut on honest storage. Never in flush mode `none`.
    Durable {
        /// The last of them.
        through: Lsn,
    },
    /// Nothing can be written; appends are refused. Tried again every second.
    Parked {
        /// What stopped it.
        error: IoFault,
    },
    /// Writing works again.
    Resumed,
    /// A write or sync failed. The segment is written no more; what was not acknowledged goes
    /// into another one.
    Abandoned {
        /// The segment.
        segment: PathBuf,
        /// What the device said.
        error: IoFault,
    },
    /// Writing goes on in another segment.
    Rolled {
        /// The segment now written.
        segment: PathBuf,
        /// Its sequence number.
        sequence: u64,
    },
    /// Segments that every reader had passed were removed.
    Retired {
        /// The first record still kept.
        first: Lsn,
        /// How many bytes were given back.
        bytes: u64,
    },
    /// The mirror cannot be written; the log goes on without. Tried again every ten seconds, and
    /// what it misses is copied then.
    MirrorLost {
        /// What the operating system said.
        error: IoFault,
    },
    /// The mirror is written again.
    MirrorRegained,
    /// Somebody has cut the head file short. Readers that had it open are told so; nothing durable
    /// depends on it, and the log goes on.
    HeadLost {
        /// The file.
        path: PathBuf,
        /// Why it could not be made whole again, which is tried every second. `None`: it was.
        error: Option<IoFault>,
    },
    /// A chore failed that nothing depends on at once: preparing the next segment early, or
    /// removing old ones. Tried again later.
    ChoreFailed {
        /// What the operating system said.
        error: IoFault,
    },
}
