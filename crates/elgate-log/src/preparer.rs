//! Preparing a segment: blocks, header, sync, name, directory sync, in that order.
//!
//! Three ways to blocks, and what a small durable write then costs:
//!
//! | way | first cost | later writes |
//! |---|---|---|
//! | a retired segment, used again | two blocks | change no metadata: as fast as the device |
//! | zeros, written for real | every block, once | the same |
//! | blocks allocated only | next to nothing | each first write also changes metadata: about twice the time of a small one, no matter for a large one |
//!
//! What a retired segment still holds was written under another salt, so it is nothing to whoever
//! reads the new one; only the block where the first batch goes is blanked, which tells a segment
//! that has not begun from one whose beginning is damaged.
//!
//! Blocking; run through `Op::Blocking`.

use crate::error::{AtPath, IoFault};
use crate::mirror;
use crate::naming;
use crate::quarantine::remove_if_there;
use crate::segment_file::{create_segment, open_segment};
use crate::segment_header::{SEGMENT_HEADER_BYTES, SegmentHeader};
use elgate_io::{Buffer, File, Platform};
use elgate_types::limits::BLOCK_BYTES;
use elgate_types::{RouteName, kill_site, seeded_bug};
use std::io;
use std::path::{Path, PathBuf};

/// What to prepare.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) dir: PathBuf,
    /// Where the segment's twin goes, if there is to be one.
    pub(crate) mirror: Option<PathBuf>,
    pub(crate) route: RouteName,
    pub(crate) log_id: u128,
    pub(crate) sequence: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) direct: bool,
    /// A retired segment to use again, if it has the right size.
    pub(crate) reuse: Option<PathBuf>,
    pub(crate) fill: Fill,
    /// Files of abandoned segments in which nothing was acknowledged: removed first, for they
    /// may be what fills the disk.
    pub(crate) discard: Vec<PathBuf>,
}

/// How a new file gets its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    Zeros,
    Allocated,
}

/// A segment ready to be written, at its first batch.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    pub(crate) header: SegmentHeader,
    /// The same file in the mirror, or why it is not there; `None` if the log has no mirror.
    pub(crate) twin: Option<Result<File, IoFault>>,
}

impl Order {
    /// Carries it out. A segment that could not be finished leaves nothing behind. A mirror that
    /// fails does not keep the segment from being prepared.
    pub(crate) fn prepare(&self, platform: &dyn Platform) -> Result<Prepared, IoFault> {
        for path in &self.discard {
            // Its twin first, for nobody would know what that is without it. The mirror's own
            // trouble is told by what is written to it.
            if let Some(mirror) = &self.mirror
                && platform.remove(&mirror::twin_path(mirror, path)).is_ok()
            {
                drop(platform.sync_directory(mirror));
            }
            remove_if_there(platform, path)?;
        }
        let created = platform.wall_time();
        let entries = platform.list(&self.dir).at("list", &self.dir)?;
        let taken = entries.iter().map(|entry| entry.name.as_str());
        let path = self.dir.join(naming::next_segment(&self.route, created, taken));
        let mut header = SegmentHeader {
            log_id: self.log_id,
            sequence: self.sequence,
            segment_bytes: self.segment_bytes,
            salt: salt(self.log_id, self.sequence),
            is_recycled: false,
            created,
            route: self.route.clone(),
        };
        let file = self.make(platform, &mut header, &path)?;
        kill_site::pass("log.segment.prepared");
        let twin = |mirror: &PathBuf| {
            mirror::blank_twin(platform, mirror, &path, &header, self.direct, self.fill)
        };
        let twin = self.mirror.as_ref().map(twin);
        Ok(Prepared { file, path, header, twin })
    }

    fn make(
        &self,
        platform: &dyn Platform,
        header: &mut SegmentHeader,
        path: &Path,
    ) -> Result<File, IoFault> {
        if let Some(retired) = &self.reuse {
            header.is_recycled = true;
            let result = recycle(platform, retired, header, path, self.direct);
            kill_site::pass("log.segment.recycled");
            if result.is_ok() {
                return result;
            }
            // Whatever was wrong with that file, a new one does not need it, and must not be it:
            // its old name may come back.
            remove_if_there(platform, retired)?;
            remove_if_there(platform, &path.with_file_name(naming::PREPARING))?;
        }
        header.is_recycled = false;
        create(platform, header, path, self.direct, self.fill)
    }
}

/// Makes a segment of a retired one. A failure leaves either the retired file or nothing.
pub(crate) fn recycle(
    platform: &dyn Platform,
    retired: &Path,
    header: &SegmentHeader,
    path: &Path,
    direct: bool,
) -> Result<File, IoFault> {
    let unfinished = path.with_file_name(naming::PREPARING);
    platform.rename(retired, &unfinished).at("rename a retired segment to", &unfinished)?;
    let dir = path.parent().unwrap_or(path);
    // Before anything is written to it: a power cut must not bring its old name back. That
    // retention has synced the directory is not enough, for that may have failed.
    platform.sync_directory(dir).at("sync", dir)?;
    let recycled = || {
        let file = open_segment(platform, &unfinished, true, direct).at("open", &unfinished)?;
        let bytes = platform.size(&file).at("inspect", &unfinished)?;
        if bytes != header.segment_bytes {
            let error = io::Error::new(io::ErrorKind::InvalidData, "it has another size");
            return Err(error).at("use again", &unfinished);
        }
        finish(platform, file, header, &unfinished, path)
    };
    recycled().inspect_err(|_| drop(platform.remove(&unfinished)))
}

/// Makes a segment of nothing. A failure leaves nothing.
pub(crate) fn create(
    platform: &dyn Platform,
    header: &SegmentHeader,
    path: &Path,
    direct: bool,
    fill: Fill,
) -> Result<File, IoFault> {
    let unfinished = path.with_file_name(naming::PREPARING);
    let created = || {
        let file = create_segment(platform, &unfinished, direct).at("create", &unfinished)?;
        platform.set_size(&file, 0).at("truncate", &unfinished)?;
        let allocated = match fill {
            Fill::Zeros => false,
            // A file system that cannot allocate can still be filled.
            Fill::Allocated => match platform.allocate(&file, header.segment_bytes) {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => false,
                result => result.map(|()| true).at("allocate", &unfinished)?,
            },
        };
        if !allocated {
            platform.zero_fill(&file, 0, header.segment_bytes).at("fill", &unfinished)?;
        }
        platform.sync(&file).at("sync", &unfinished)?;
        finish(platform, file, header, &unfinished, path)
    };
    // What matters is the first error; a leftover is overwritten by the next attempt.
    created().inspect_err(|_| drop(platform.remove(&unfinished)))
}

/// Header and name.
fn finish(
    platform: &dyn Platform,
    file: File,
    header: &SegmentHeader,
    unfinished: &Path,
    path: &Path,
) -> Result<File, IoFault> {
    // A copy in aligned memory: the file may be open past the page cache.
    let mut blocks = Buffer::with_capacity(SEGMENT_HEADER_BYTES + BLOCK_BYTES);
    blocks.extend(&header.encode());
    blocks.extend_zeros(BLOCK_BYTES);
    let keeps_header = seeded_bug::is("recycle-without-a-new-header") && header.is_recycled;
    if !keeps_header {
        platform.write_at(&file, 0, &blocks, false).at("write", unfinished)?;
    }
    platform.sync(&file).at("sync", unfinished)?;
    platform.rename(unfinished, path).at("rename a segment to", path)?;
    let dir = path.parent().unwrap_or(path);
    if !seeded_bug::is("skip-directory-sync") {
        platform.sync_directory(dir).at("sync", dir)?;
    }
    Ok(file)
}

/// The salt of a segment's checksums. No two of a log's first 2^32 segments share one (an odd
/// factor permutes 32 bits), so what an earlier life of a file left in it never validates in a
/// later one; and none can be foretold by somebody who does not know the log's random identity.
fn salt(log_id: u128, sequence: u64) -> u32 {
    let folded = (log_id as u64) ^ ((log_id >> 64) as u64);
    let base = (folded ^ (folded >> 32)) as u32;
    base.wrapping_add((sequence as u32).wrapping_mul(0x9e37_79b1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn segments_of_a_log_never_share_a_salt() {
        let log_id = 0x0123_4567_89ab_cdef_0011_2233_4455_6677;
        let salts: HashSet<u32> = (1..100_000).map(|sequence| salt(log_id, sequence)).collect();
        assert_eq!(salts.len(), 99_999);
        assert_ne!(salt(log_id, 1), salt(!log_id << 1, 1));
    }
}
