//! Retiring segments: a few are kept under another name, to be used again, the others removed.
//! Blocking; run through `Op::Blocking`.

use crate::catalog::{Bounds, bounds};
use crate::cursor::list_cursors;
use crate::error::{AtPath, CursorError, IoFault};
use crate::mirror::twin_path;
use crate::naming::retired_path;
use crate::options::Retention;
use crate::quarantine::remove_if_there;
use elgate_io::Platform;
use elgate_types::{Lsn, WallTime, kill_site, seeded_bug};
use std::io;
use std::path::PathBuf;

/// A segment that might go.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) sequence: u64,
    pub(crate) path: PathBuf,
    pub(crate) last_lsn: Lsn,
    pub(crate) bytes: u64,
    pub(crate) last_time: WallTime,
}

/// One round of retention.
#[derive(Debug)]
pub(crate) struct Retirement {
    pub(crate) dir: PathBuf,
    /// Where the twins are.
    pub(crate) mirror: Option<PathBuf>,
    pub(crate) retain: Retention,
    /// Segments to look at.
    pub(crate) unknown: Vec<PathBuf>,
    /// Sealed segments, oldest first.
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) active_bytes: u64,
    /// How many files to keep for use as new segments.
    pub(crate) reuse_max: usize,
    /// The size they must have.
    pub(crate) reuse_bytes: u64,
}

/// What a round has removed, and what stopped it.
#[derive(Debug, Default)]
pub(crate) struct Retired {
    pub(crate) sequences: Vec<u64>,
    pub(crate) bytes: u64,
    /// Files kept for use as new segments.
    pub(crate) reusable: Vec<PathBuf>,
    /// What was found out about unknown segments; nothing if they are none of this log's, or gone.
    pub(crate) found: Vec<(PathBuf, Option<Bounds>)>,
    pub(crate) fault: Option<IoFault>,
}

impl Retirement {
    /// Removes, oldest first, what every cursor has passed and the limits do not keep. Stops at
    /// the first segment that must stay: what remains is contiguous.
    pub(crate) fn carry_out(&self, platform: &dyn Platform) -> Retired {
        let mut retired = Retired::default();
        let result =
            self.look(platform, &mut retired).and_then(|()| self.remove(platform, &mut retired));
        retired.fault = result.err();
        retired
    }

    fn look(&self, platform: &dyn Platform, retired: &mut Retired) -> Result<(), IoFault> {
        for path in &self.unknown {
            retired.found.push((path.clone(), bounds(platform, path)?));
        }
        Ok(())
    }

    fn remove(&self, platform: &dyn Platform, retired: &mut Retired) -> Result<(), IoFault> {
        let slowest = match list_cursors(platform, &self.dir) {
            Ok(cursors) => cursors.iter().map(|cursor| cursor.lsn).min(),
            Err(CursorError::Io(fault)) => return Err(fault),
            // A cursor that cannot be read has passed nothing.
            Err(_) => Some(Lsn::ZERO),
        };
        let now = platform.wall_time();
        let mut bytes =
            self.active_bytes + self.candidates.iter().map(|segment| segment.bytes).sum::<u64>();
        for segment in &self.candidates {
            let is_passed = slowest.is_none_or(|slowest| segment.last_lsn <= slowest)
                || seeded_bug::is("remove-unpassed-segments");
            let is_over = self.retain.max_bytes.is_some_and(|max| bytes > max);
            let is_old = self.retain.max_age.is_some_and(|max| {
                u128::from(now.0.saturating_sub(segment.last_time.0)) > max.as_micros()
            });
            if !(is_passed && (is_over || is_old)) {
                break;
            }
            self.retire(platform, segment, retired)?;
            self.retire_twin(platform, segment);
            bytes -= segment.bytes;
            retired.bytes += segment.bytes;
            retired.sequences.push(segment.sequence);
        }
        if retired.sequences.is_empty() {
            return Ok(());
        }
        // Before anything else is written to a file kept for use: a power cut must not bring its
        // old name back.
        platform.sync_directory(&self.dir).at("sync", &self.dir)
    }

    /// Keeps or removes the twin, too. What fails here is the mirror's trouble, and is told by
    /// what is written to it; a twin that stays is of no segment and does no harm.
    fn retire_twin(&self, platform: &dyn Platform, segment: &Candidate) {
        let Some(mirror) = &self.mirror else { return };
        let twin = twin_path(mirror, &segment.path);
        let retired = retired_path(mirror, 0);
        if segment.bytes != self.reuse_bytes || platform.rename(&twin, &retired).is_err() {
            drop(platform.remove(&twin));
        }
        drop(platform.sync_directory(mirror));
    }

    fn retire(
        &self,
        platform: &dyn Platform,
        segment: &Candidate,
        retired: &mut Retired,
    ) -> Result<(), IoFault> {
        if retired.reusable.len() < self.reuse_max && segment.bytes == self.reuse_bytes {
            let path = retired_path(&self.dir, segment.sequence);
            match platform.rename(&segment.path, &path) {
                Ok(()) => {
                    kill_site::pass("log.segment.retired");
                    retired.reusable.push(path);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                // What cannot be renamed can perhaps be removed.
                Err(_) => {}
            }
        }
        remove_if_there(platform, &segment.path)
    }
}
