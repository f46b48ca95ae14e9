//! What retention asks about segments that recovery had no reason to look at.

use crate::error::{AtPath, IoFault};
use crate::segment_file::SegmentFile;
use crate::segment_header::SEGMENT_HEADER_BYTES;
use elgate_io::Platform;
use elgate_types::{Lsn, WallTime};
use std::io;
use std::path::Path;

/// What retention must know of a segment that nobody has looked at since the log was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) sequence: u64,
    pub(crate) first_lsn: Option<Lsn>,
    /// Not older than its last record.
    pub(crate) last_time: WallTime,
}

/// Looks at one segment: two reads. `None`: it is no segment, or gone.
pub(crate) fn bounds(platform: &dyn Platform, path: &Path) -> Result<Option<Bounds>, IoFault> {
    let mut file = match SegmentFile::open(platform, path, true) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => match result.at("read", path)? {
            // What cannot be read of it keeps no other segment from being removed.
            Ok(file) => file.read_around(),
            Err(_) => return Ok(None),
        },
    };
    let sequence = file.header.sequence;
    if let Some(footer) = file.footer(platform).at("read", path)? {
        let first_lsn = Some(footer.first_lsn);
        return Ok(Some(Bounds { sequence, first_lsn, last_time: footer.last_time }));
    }
    let first = file.header_at(platform, SEGMENT_HEADER_BYTES as u64).at("read", path)?;
    let first_lsn = first.map(|header| header.first_lsn);
    Ok(Some(Bounds { sequence, first_lsn, last_time: platform.wall_time() }))
}
