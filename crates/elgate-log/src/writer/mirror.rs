//! Writing to the mirror: every write and sync of a segment goes to its twin as well, and what is
//! acknowledged is in both. A mirror that fails is left, said to be so, and taken up again with the
//! next segment; what it missed is copied to it by a chore, one segment at a time.

use super::segments::reply;
use super::{Active, LogWriter, Mirror};
use crate::error::{AtPath, IoFault};
use crate::event::LogEvent;
use crate::mirror;
use crate::preparer::Fill;
use crate::segment_file::SegmentFile;
use elgate_io::{BlockingReply, Buffer, Completion, File, Op, Platform};
use elgate_types::{Monotonic, mark, seeded_bug};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long to leave a mirror alone that has failed.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// An operation on a segment and the same one on its twin: done when neither is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(super) own: Option<u32>,
    pub(super) twin: Option<u32>,
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Own,
    Twin,
}

impl Pair {
    pub(super) fn is_back(&self) -> bool {
        self.own.is_none() && (self.twin.is_none() || seeded_bug::is("acknowledge-before-mirror"))
    }

    /// Takes note that the operation with this token is back, if it is one of these.
    pub(super) fn take(&mut self, token: u32) -> Option<Side> {
        if self.own.take_if(|own| *own == token).is_some() {
            Some(Side::Own)
        } else {
            self.twin.take_if(|twin| *twin == token).map(|_| Side::Twin)
        }
    }
}

/// What a chore found.
struct Report {
    /// The next segment and its twin, where that was missing.
    spare: Option<(PathBuf, Result<File, IoFault>)>,
    /// The segment that was brought up to date, and whether that went well.
    caught_up: Option<(PathBuf, Result<(), IoFault>)>,
    /// Segments whose twin somebody has taken away.
    bereft: Vec<PathBuf>,
}

impl LogWriter {
    /// Takes up the mirror when the log is opened: the segments about to be written have their
    /// twins when this returns, or there is trouble; the others are looked at in time. Blocking.
    pub(crate) fn join_mirror(&mut self, platform: &dyn Platform) {
        let Some(dir) = self.options.mirror.clone() else { return };
        let direct = self.options.wants_direct();
        let active = self.active.as_ref().map(|active| active.path.clone());
        let earlier = self.segments.iter().filter(|segment| Some(&segment.path) != active.as_ref());
        let behind: VecDeque<_> = earlier.map(|segment| segment.path.clone()).collect();
        let now = platform.now();
        let chore_at = (!behind.is_empty()).then_some(now);
        self.mirror = Some(Mirror {
            dir: dir.clone(),
            behind,
            grown: Vec::new(),
            trouble: None,
            chore: None,
            chore_at,
        });
        for spare in &mut self.spares {
            let make = || {
                let (path, header) = (&spare.path, &spare.header);
                mirror::blank_twin(platform, &dir, path, header, direct, Fill::Zeros)
            };
            spare.twin.get_or_insert_with(make);
        }
        let Some(active) = &self.active else { return };
        let joined = SegmentFile::open(platform, &active.path, true)
            .at("read", &active.path)
            .map(|opened| opened.ok())
            .and_then(|opened| match opened {
                Some(file) => {
                    mirror::rejoin(platform, &dir, &mut file.read_around(), active.offset, direct)
                }
                None => Ok(None),
            });
        match joined {
            Ok(twin) => {
                self.roll_wanted = twin.is_none();
                mark::hit(if twin.is_some() { "log.mirror_joined" } else { "log.mirror_behind" });
                if let Some(active) = &mut self.active {
                    active.twin = twin;
                }
            }
            Err(fault) => self.mirror_failed(fault, now),
        }
        self.remember_active();
        self.plan_mirror_chore(now);
    }

    /// Queues a write of the same bytes to the active segment's twin. If there is none, the
    /// segment is to be copied, again if it was before.
    pub(super) fn mirror_write(
        &mut self,
        offset: u64,
        bytes: &[u8],
        durable: bool,
        now: Monotonic,
    ) -> Option<u32> {
        let active = self.active.as_ref()?;
        let Some(file) = active.twin.clone() else {
            let mirror = self.mirror.as_mut()?;
            mirror.grow(&active.path);
            mirror.chore_at.get_or_insert(now.after(RETRY_AFTER));
            return None;
        };
        let mut buffer = self.pool.take(bytes.len());
        buffer.extend(bytes);
        Some(self.queue_for_twin(Op::Write { file, offset, buffer, durable }))
    }

    /// Queues a sync of the active segment's twin, if there is one.
    pub(super) fn mirror_sync(&mut self) -> Option<u32> {
        let file = self.active.as_ref()?.twin.clone()?;
        Some(self.queue_for_twin(Op::Sync { file }))
    }

    fn queue_for_twin(&mut self, op: Op) -> u32 {
        let token = self.token();
        self.twin_ops.push_back((token, op));
        token
    }

    /// The footer's copy. Not before the twin has everything else, which it has: a segment is
    /// left only when nothing of it is under way.
    pub(super) fn mirror_footer(&mut self, full: &Active, footer: &Buffer) {
        let Some(file) = full.twin.clone() else { return };
        let mut buffer = self.pool.take(footer.len());
        buffer.extend(footer);
        let offset = full.usable_end;
        let token = self.queue_for_twin(Op::Write { file, offset, buffer, durable: true });
        let path = self.mirror.as_ref().map(|mirror| mirror::twin_path(&mirror.dir, &full.path));
        self.sealing.push((token, path.unwrap_or_default()));
    }

    /// The mirror has failed: the active segment goes on without a twin.
    pub(super) fn lose_twin(&mut self, doing: &'static str, error: io::Error, now: Monotonic) {
        let Some(active) = &mut self.active else { return };
        let Some(mirror) = &self.mirror else { return };
        let path = mirror::twin_path(&mirror.dir, &active.path);
        if active.twin.take().is_some() {
            self.remember_active();
            self.mirror_failed(IoFault { doing, path, error }, now);
        }
    }

    /// If the active segment has no twin, it is to be copied.
    pub(super) fn remember_active(&mut self) {
        if let (Some(mirror), Some(active)) = (&mut self.mirror, &self.active)
            && active.twin.is_none()
        {
            mirror.remember(&active.path);
        }
    }

    fn mirror_failed(&mut self, error: IoFault, now: Monotonic) {
        let Some(mirror) = &mut self.mirror else { return };
        mirror.chore_at = Some(now.after(RETRY_AFTER));
        if mirror.trouble.replace(error.to_string()).is_none() {
            mark::hit("log.mirror_left");
            self.events.push_back(LogEvent::MirrorLost { error });
        }
    }

    /// Takes the twin of a segment that is entered; without one, the segment is copied later.
    pub(super) fn take_twin(
        &mut self,
        twin: Option<Result<File, IoFault>>,
        now: Monotonic,
    ) -> Option<File> {
        if let Some(mirror) = &mut self.mirror {
            // Every so often it is seen whether the earlier ones are still there.
            mirror.chore_at.get_or_insert(now);
        }
        match twin? {
            Ok(file) => {
                if let Some(mirror) = &mut self.mirror
                    && mirror.trouble.take().is_some()
                {
                    mark::hit("log.mirror_entered");
                    self.events.push_back(LogEvent::MirrorRegained);
                }
                Some(file)
            }
            Err(fault) => {
                self.mirror_failed(fault, now);
                None
            }
        }
    }

    /// A segment was left: if its twin lacks anything, it is copied when there is time.
    pub(super) fn mirror_later(&mut self, left: &Active, now: Monotonic) {
        if let Some(mirror) = &mut self.mirror
            && left.twin.is_none()
            && left.is_kept
        {
            // Its footer follows.
            mirror.grow(&left.path);
            mirror.chore_at.get_or_insert(now);
        }
    }

    /// When the next chore is due.
    pub(super) fn mirror_wakeup(&self) -> Option<Monotonic> {
        let mirror = self.mirror.as_ref().filter(|mirror| mirror.chore.is_none())?;
        // A footer under way comes first: a copy taken now would lack it.
        let is_sealing = !(self.unsealed.is_empty() && self.sealing.is_empty());
        mirror.chore_at.filter(|_| !self.closing && !is_sealing)
    }

    pub(super) fn next_mirror_chore(&mut self, now: Monotonic) -> Option<(u32, Op)> {
        if self.mirror_wakeup().is_none_or(|at| at > now) {
            return None;
        }
        let token = self.token();
        let spare = self.spares.front().filter(|spare| !matches!(spare.twin, Some(Ok(_))));
        let spare = spare.map(|spare| (spare.path.clone(), spare.header.clone()));
        let direct = self.options.wants_direct();
        // What is under way may be written too late to be copied.
        let growing = self.active.as_ref().filter(|active| active.twin.is_none());
        let growing = growing.filter(|_| !self.flights.is_empty());
        let sealed = self.segments_with_twin();
        let mirror = self.mirror.as_mut()?;
        mirror.chore = Some(token);
        mirror.chore_at = None;
        mirror.grown = growing.map(|active| active.path.clone()).into_iter().collect();
        let (dir, behind) = (mirror.dir.clone(), mirror.behind.front().cloned());
        let call = move |platform: &dyn Platform| -> io::Result<BlockingReply> {
            let spare = spare.map(|(path, header)| {
                let twin =
                    mirror::blank_twin(platform, &dir, &path, &header, direct, Fill::Allocated);
                (path, twin)
            });
            let caught_up = behind.map(|path| {
                let result = mirror::catch_up(platform, &dir, &path, direct);
                (path, result)
            });
            let bereft = mirror::without_twin(platform, &dir, sealed);
            Ok(Box::new(Report { spare, caught_up, bereft }))
        };
        Some((token, Op::Blocking(Box::new(call))))
    }

    /// Earlier segments that the mirror should have; none while retention takes some away.
    fn segments_with_twin(&self) -> Vec<PathBuf> {
        let (Some(mirror), None) = (&self.mirror, self.retiring) else { return Vec::new() };
        let active = self.active.as_ref().map(|active| &active.path);
        let paths = self.segments.iter().map(|segment| &segment.path);
        let is_due = |path: &&PathBuf| Some(*path) != active && !mirror.behind.contains(path);
        paths.filter(is_due).cloned().collect()
    }

    pub(super) fn on_mirror_chore(&mut self, completion: Completion, now: Monotonic) {
        let report = reply::<Report>(completion);
        let Some(mirror) = &mut self.mirror else { return };
        mirror.chore = None;
        let report = match report {
            Ok(report) => report,
            Err(error) => {
                let path = mirror.dir.clone();
                return self.mirror_failed(IoFault { doing: "mirror to", path, error }, now);
            }
        };
        if let Some((path, result)) = report.caught_up {
            match result {
                Ok(()) => {
                    mirror.behind.retain(|behind| *behind != path);
                    if mirror.grown.contains(&path) {
                        mirror.behind.push_back(path);
                    } else if mirror.behind.is_empty() {
                        mark::hit("log.mirror_caught_up");
                    }
                }
                Err(fault) => self.mirror_failed(fault, now),
            }
        }
        if let Some(mirror) = &mut self.mirror {
            report.bereft.iter().for_each(|segment| mirror.remember(segment));
        }
        match report.spare {
            Some((path, Ok(file))) => {
                // Unless it has been entered meanwhile, without.
                if let Some(spare) = self.spares.iter_mut().find(|spare| spare.path == path) {
                    spare.twin = Some(Ok(file));
                }
            }
            Some((_, Err(fault))) => return self.mirror_failed(fault, now),
            None => {}
        }
        // A segment without a twin is left as soon as there is another one.
        self.roll_wanted = self.active.as_ref().is_some_and(|active| active.twin.is_none());
        self.plan_mirror_chore(now);
    }

    /// What could not be written to a twin at the end is copied like the rest.
    pub(super) fn twin_unfinished(&mut self, twin: &Path, now: Monotonic) {
        let Some(mirror) = &mut self.mirror else { return };
        if twin.parent() == Some(&mirror.dir) {
            mirror.remember(&mirror::twin_path(&self.dir, twin));
            mirror.chore_at.get_or_insert(now.after(RETRY_AFTER));
        }
    }

    /// Goes on at once while there is more to copy and nothing has failed; but what is still
    /// written is copied only now and then.
    fn plan_mirror_chore(&mut self, now: Monotonic) {
        let Some(mirror) = &mut self.mirror else { return };
        if mirror.behind.iter().any(|behind| !mirror.grown.contains(behind)) {
            mirror.chore_at.get_or_insert(now);
        } else if mirror.trouble.is_some() || !mirror.behind.is_empty() {
            mirror.chore_at.get_or_insert(now.after(RETRY_AFTER));
        }
    }
}

impl Mirror {
    fn remember(&mut self, segment: &Path) {
        if !self.behind.iter().any(|behind| behind == segment) {
            self.behind.push_back(segment.to_owned());
        }
    }

    /// A segment got something that its twin did not.
    fn grow(&mut self, segment: &Path) {
        self.remember(segment);
        if !self.grown.iter().any(|grown| grown == segment) {
            self.grown.push(segment.to_owned());
        }
    }
}
