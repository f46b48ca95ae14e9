//! Preparing a segment: zeros, sync, header, sync, name, directory sync, in that order.
//!
//! The zeros are written for real, so that later writes change no metadata of the file, and so
//! that what follows the last batch reads as nothing. Blocking; run through `Op::Blocking`.

use crate::error::{AtPath, IoFault};
use crate::naming;
use crate::segment_file::open_segment;
use crate::segment_header::{SEGMENT_HEADER_BYTES, SegmentHeader};
use elgate_io::{Buffer, File, OpenOptions, Platform};
use elgate_types::{RouteName, WallTime, kill_site};
use std::io;
use std::path::{Path, PathBuf};

/// What to prepare.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) dir: PathBuf,
    pub(crate) route: RouteName,
    pub(crate) log_id: u128,
    pub(crate) sequence: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) direct: bool,
    /// Files of abandoned segments in which nothing was acknowledged: removed first, for they
    /// may be what fills the disk.
    pub(crate) discard: Vec<PathBuf>,
}

/// A segment ready to be written, at its first batch.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    pub(crate) header: SegmentHeader,
}

impl Order {
    /// Carries it out. A segment that could not be finished leaves nothing behind.
    pub(crate) fn prepare(&self, platform: &dyn Platform) -> Result<Prepared, IoFault> {
        for path in &self.discard {
            match platform.remove(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(error).at("remove", path)?;
                }
                _ => {}
            }
        }
        let unfinished = self.dir.join(naming::PREPARING);
        let result = self.fill(platform, &unfinished);
        if result.is_err() {
            // What matters is the first error; a leftover is overwritten by the next attempt.
            drop(platform.remove(&unfinished));
        }
        result
    }

    fn fill(&self, platform: &dyn Platform, unfinished: &Path) -> Result<Prepared, IoFault> {
        let options = OpenOptions { read: true, write: true, create: true, ..Default::default() };
        let file = platform.open(unfinished, options).at("create", unfinished)?;
        platform.set_size(&file, 0).at("truncate", unfinished)?;
        platform.zero_fill(&file, 0, self.segment_bytes).at("fill", unfinished)?;
        platform.sync(&file).at("sync", unfinished)?;
        let created = platform.wall_time();
        let header = SegmentHeader {
            log_id: self.log_id,
            sequence: self.sequence,
            segment_bytes: self.segment_bytes,
            salt: platform.random_u64() as u32,
            is_recycled: false,
            created,
            route: self.route.clone(),
        };
        // A copy in aligned memory: the file may be open past the page cache.
        let block = Buffer::copy_of(&header.encode());
        debug_assert_eq!(block.len(), SEGMENT_HEADER_BYTES);
        platform.write_at(&file, 0, &block, false).at("write", unfinished)?;
        platform.sync(&file).at("sync", unfinished)?;
        let path = self.dir.join(self.name(platform, created)?);
        platform.rename(unfinished, &path).at("rename a segment to", &path)?;
        platform.sync_directory(&self.dir).at("sync", &self.dir)?;
        kill_site::pass("log.segment.prepared");
        drop(file);
        let file = open_segment(platform, &path, true, self.direct).at("open", &path)?;
        Ok(Prepared { file, path, header })
    }

    fn name(&self, platform: &dyn Platform, created: WallTime) -> Result<String, IoFault> {
        let entries = platform.list(&self.dir).at("list", &self.dir)?;
        let taken = entries.iter().map(|entry| entry.name.as_str());
        Ok(naming::next_segment(&self.route, created, taken))
    }
}
