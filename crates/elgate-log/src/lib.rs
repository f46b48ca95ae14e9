//! The log: one route's records, numbered, checksummed, durable, and readable by any process.
//!
//! * [`open`] recovers a log and returns its one [`LogWriter`], a sans-I/O state machine.
//! * [`LogReader`] follows a log from any process, live or offline; [`Cursor`] keeps a reader's
//!   place; [`describe()`] tells what is there.
//!
//! | question | file |
//! |---|---|
//! | what do the bytes mean? | `segment_header.rs`, `batch.rs`, `record.rs`, `index.rs`, `head.rs`, `cursor.rs`, `naming.rs` |
//! | how do records become writes? | `batch_builder.rs`, `writer.rs`, `writer/`, `tail_cache.rs` |
//! | what happens after a crash? | `recovery.rs`, `plan.rs`, `plan/`, `damage.rs`, `unreadable.rs`, `sources.rs`, `quarantine.rs` |
//! | how are they read back? | `segment_file.rs`, `catalog.rs`, `catalog/`, `reader.rs`, `reader/`, `describe.rs` |
//! | is all of it whole, and what if not? | `fsck.rs`, `fsck/` |
//! | when do files come and go? | `preparer.rs`, `retention.rs`, `replayable.rs` |
//! | what is in the second directory? | `mirror.rs`, `writer/mirror.rs` |
//!
//! The layouts and rules are those of RFC 0001, section 4.

mod batch;
mod batch_builder;
mod bytes;
mod catalog;
mod cursor;
mod damage;
mod describe;
mod error;
mod event;
mod fsck;
mod head;
mod index;
mod mirror;
mod naming;
mod options;
mod plan;
mod preparer;
mod quarantine;
mod reader;
mod record;
mod recovery;
mod replayable;
mod retention;
mod segment_file;
mod segment_header;
mod sources;
mod stats;
mod tail_cache;
mod unreadable;
mod writer;

pub use batch_builder::{CachedBatch, Source};
pub use catalog::IgnoredFile;
pub use cursor::{Cursor, CursorInfo, Extra, list_cursors};
pub use describe::{LogDescription, SegmentDescription, SegmentState, describe};
pub use error::{AppendError, CursorError, IoFault, OpenError, ReadError};
pub use event::LogEvent;
pub use fsck::{Finding, FindingKind, FindingOutcome, FsckError, FsckOptions, FsckReport, fsck};
pub use head::{HeadView, Watermarks};
pub use options::{LogOptions, Retention};
pub use plan::Gap;
pub use reader::{GapReason, LogReader, ReadBatch, ReadFrom, RecordBatch};
pub use record::{Record, Records};
pub use recovery::{Recovery, open};
pub use sources::{POSITIONS_KEPT, SourceSpan};
pub use stats::{Histogram, LogStats, MirrorStats, SYNC_RECORDS_BOUNDS, WRITE_TIME_BOUNDS_US};
pub use writer::LogWriter;
