//! What a log looks like from outside: for `/wal`, `inspect` and `doctor`. Reads only.

use crate::catalog::{Catalog, IgnoredFile, Wanted};
use crate::cursor::{CursorInfo, list_cursors};
use crate::error::{CursorError, IoFault, ReadError};
use crate::head::{HeadView, Watermarks};
use elgate_io::Platform;
use elgate_types::{Lsn, WallTime};
use std::path::Path;

/// A segment's place in the life of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentState {
    /// Full, or left after an error: never written again.
    Sealed,
    /// The last one with records.
    Active,
    /// Zero-filled and waiting.
    Prepared,
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentDescription {
    /// File name.
    pub name: String,
    /// Number within the log.
    pub sequence: u64,
    /// First LSN, if it has records.
    pub first_lsn: Option<Lsn>,
    /// Last LSN, if it has records and that is known without reading it.
    pub last_lsn: Option<Lsn>,
    /// File size.
    pub bytes: u64,
    /// When it was prepared.
    pub created: WallTime,
    /// What it is.
    pub state: SegmentState,
}

/// A whole log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDescription {
    /// The route it belongs to.
    pub route: Option<String>,
    /// Its segments by sequence.
    pub segments: Vec<SegmentDescription>,
    /// What the head file says, if there is one that belongs to these segments.
    pub watermarks: Option<Watermarks>,
    /// Whether a writer has the log open.
    pub writer_is_alive: bool,
    /// Its readers, by name.
    pub cursors: Vec<CursorInfo>,
    /// Readers whose cursor is damaged, with the message.
    pub damaged_cursors: Option<String>,
    /// Files among the segments that do not belong to it.
    pub ignored: Vec<IgnoredFile>,
}

/// Describes the log in `dir`. Blocking; disturbs nobody.
///
/// # Errors
/// What the operating system refused.
pub fn describe(platform: &dyn Platform, dir: &Path) -> Result<LogDescription, ReadError> {
    let head = HeadView::open(platform, dir);
    let preferred = head.as_ref().and_then(HeadView::log_id);
    let wanted = Wanted { log_id: preferred, route: None, reads_around: true };
    let mut catalog = match Catalog::load(platform, dir, wanted) {
        Err(fault) if fault.error.kind() == std::io::ErrorKind::NotFound => {
            return Err(ReadError::NoLog { dir: dir.to_owned() });
        }
        result => result?,
    };
    catalog.see_all(platform)?;
    let watermarks = match (&head, catalog.log_id) {
        (Some(head), Some(log_id)) => head.watermarks(log_id),
        _ => None,
    };
    let (cursors, damaged_cursors) = match list_cursors(platform, dir) {
        Ok(cursors) => (cursors, None),
        Err(CursorError::Io(fault)) => return Err(fault.into()),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    Ok(LogDescription {
        route: catalog.entries.iter().find_map(|entry| Some(entry.header()?.route.to_string())),
        segments: segments(platform, &mut catalog, watermarks.as_ref())?,
        watermarks,
        writer_is_alive: head.is_some_and(|head| head.writer_is_alive(platform)),
        cursors,
        damaged_cursors,
        ignored: catalog.ignored,
    })
}

fn segments(
    platform: &dyn Platform,
    catalog: &mut Catalog,
    watermarks: Option<&Watermarks>,
) -> Result<Vec<SegmentDescription>, IoFault> {
    let mut segments = Vec::new();
    let mut last_used = None;
    for index in 0..catalog.entries.len() {
        if catalog.first_lsn(platform, index)?.is_some() {
            last_used = Some(index);
        }
    }
    for index in 0..catalog.entries.len() {
        let first_lsn = catalog.first_lsn(platform, index)?;
        let (state, last_lsn) = match last_used {
            Some(last) if index < last => {
                let next = catalog.superseded_from(platform, index)?;
                (SegmentState::Sealed, next.map(|next| Lsn(next.0.saturating_sub(1))))
            }
            Some(last) if index == last => {
                (SegmentState::Active, watermarks.map(|marks| marks.durable))
            }
            _ => (SegmentState::Prepared, None),
        };
        let entry = &catalog.entries[index];
        let Some(header) = entry.header() else { continue };
        segments.push(SegmentDescription {
            name: entry.name().to_owned(),
            sequence: header.sequence,
            first_lsn,
            last_lsn: last_lsn.filter(|last| first_lsn.is_some_and(|first| first <= *last)),
            bytes: entry.file_bytes,
            created: header.created,
            state,
        });
    }
    Ok(segments)
}
