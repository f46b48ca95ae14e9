//! What a check finds, in words a person can act on.

use crate::error::IoFault;
use elgate_types::{ErrorCode, Lsn};
use std::ops::Range;
use std::path::PathBuf;

/// What to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FsckOptions {
    /// Set right what can be. Without it, nothing at all is written.
    pub repair: bool,
    /// A directory that holds byte-identical copies of the log's segments.
    pub mirror: Option<PathBuf>,
}

/// What kind of thing was found. Stable names, for scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FindingKind {
    /// Single flipped bits in a batch, found by its checksums.
    FlippedBits,
    /// Bytes that no checksum covers and that the format says are zero.
    Padding,
    /// A batch that does not validate, or is not there.
    Batch,
    /// Acknowledged records that cannot be read any more.
    Gap,
    /// One copy of a segment's header, or the space around the two.
    HeaderCopy,
    /// All of a segment's header.
    Header,
    /// A sealed segment's footer.
    Footer,
    /// A segment's file is shorter than it was.
    Truncated,
    /// A whole segment is missing.
    Segment,
    /// What a mirror lacks of a segment.
    Mirror,
    /// The order of the segments' names.
    Names,
    /// A reader's saved position.
    Cursor,
    /// The head file.
    Head,
    /// What a crash left behind the end of the log; the next start cuts it.
    UnfinishedWrite,
    /// A file among the segments that is none of this log's.
    Foreign,
    /// Copies of damaged ranges that were made earlier.
    Quarantine,
}

impl FindingKind {
    /// Its stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::FlippedBits => "flipped-bits",
            Self::Padding => "padding",
            Self::Batch => "batch",
            Self::Gap => "gap",
            Self::HeaderCopy => "header-copy",
            Self::Header => "header",
            Self::Footer => "footer",
            Self::Truncated => "truncated",
            Self::Segment => "segment",
            Self::Mirror => "mirror",
            Self::Names => "names",
            Self::Cursor => "cursor",
            Self::Head => "head",
            Self::UnfinishedWrite => "unfinished-write",
            Self::Foreign => "foreign",
            Self::Quarantine => "quarantine",
        }
    }
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingOutcome {
    /// Nothing is wrong; worth knowing.
    Note,
    /// Wrong, and a repair would set it right.
    Repairable,
    /// It was wrong, and is right now.
    Repaired,
    /// Wrong, and nothing here can set it right.
    Left,
}

impl FindingOutcome {
    /// Its stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Repairable => "repairable",
            Self::Repaired => "repaired",
            Self::Left => "left",
        }
    }
}

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing.
    pub kind: FindingKind,
    /// What became of it.
    pub outcome: FindingOutcome,
    /// The file.
    pub path: PathBuf,
    /// Where in the file.
    pub bytes: Option<Range<u64>>,
    /// First and last of the records concerned.
    pub lsns: Option<(Lsn, Lsn)>,
    /// What it is.
    pub what: String,
    /// What to do about it; empty if there is nothing to do.
    pub advice: String,
    /// Where the bytes are kept that were there before.
    pub copy: Option<PathBuf>,
}

/// Findings listed at most; the rest is only counted.
pub(super) const FINDINGS_MAX: usize = 1_000;

/// What a check of one log found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FsckReport {
    /// The route the log belongs to.
    pub route: Option<String>,
    /// Whether a writer had the log open: then what is not yet durable was left out.
    pub is_live: bool,
    /// Segments looked at, without their mirrors.
    pub segments: u64,
    /// Whole batches.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// The first record there is.
    pub first_lsn: Option<Lsn>,
    /// The last one.
    pub last_lsn: Option<Lsn>,
    /// Bytes read, mirrors included.
    pub bytes: u64,
    /// What was found, in order of place; at most 1,000.
    pub findings: Vec<Finding>,
    /// Findings that are not listed.
    pub omitted: u64,
    /// Errors set right.
    pub repaired: u64,
    /// Errors that a repair would set right.
    pub repairable: u64,
    /// Errors that stay.
    pub left: u64,
    /// Records that cannot be read any more.
    pub lost_records: u64,
}

impl FsckReport {
    /// Whether nothing is wrong, and nothing was.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.repaired + self.repairable + self.left == 0
    }

    /// Takes over what was set right when the log was looked through before.
    pub(super) fn take_repaired(&mut self, earlier: Self) {
        self.repaired += earlier.repaired;
        self.bytes += earlier.bytes;
        self.omitted += earlier.omitted;
        let is_repaired = |finding: &Finding| finding.outcome == FindingOutcome::Repaired;
        let mut findings: Vec<_> = earlier.findings.into_iter().filter(is_repaired).collect();
        findings.append(&mut self.findings);
        self.omitted += findings.len().saturating_sub(FINDINGS_MAX) as u64;
        findings.truncate(FINDINGS_MAX);
        self.findings = findings;
    }

    pub(super) fn add(&mut self, finding: Finding) {
        match finding.outcome {
            FindingOutcome::Note => {}
            FindingOutcome::Repairable => self.repairable += 1,
            FindingOutcome::Repaired => self.repaired += 1,
            FindingOutcome::Left => self.left += 1,
        }
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.omitted += 1;
        }
    }
}

/// Why a log could not be checked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FsckError {
    /// There is no log there.
    #[error("{} holds no log; check the path, or see `elgate inspect`", dir.display())]
    NoLog {
        /// The directory.
        dir: PathBuf,
    },
    /// A writer has the log open, so nothing in it may be changed.
    #[error(
        "{} is being written by process {pid}, so it cannot be repaired: stop that process first \
         (if it was killed, its last write is still under way: try again), or check without repairing",
        dir.display()
    )]
    InUse {
        /// The log's directory.
        dir: PathBuf,
        /// The writer, 0 if it cannot be told.
        pid: u32,
    },
    /// The mirror named cannot be one.
    #[error("{} cannot mirror this log: {reason}", dir.display())]
    Mirror {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The operating system refused something. What was repaired before stays so; run it again.
    #[error(transparent)]
    Io(#[from] IoFault),
}

impl FsckError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NoLog { .. } => ErrorCode::RouteUnknown,
            Self::InUse { .. } => ErrorCode::InUse,
            Self::Mirror { .. } => ErrorCode::Usage,
            Self::Io(fault) => fault.code(),
        }
    }
}
