//! Checking a log to the last byte, and repairing it.
//!
//! * A *check* reads only, and works beside a running writer: it then looks at nothing that is not
//!   durable yet.
//! * A *repair* takes the writer's lock. It writes only bytes that are proven to be the right
//!   ones, and keeps what was there before in `quarantine/`, so it can be undone. It may be killed
//!   anywhere and run again.
//!
//! | what is wrong | set right from | file |
//! |---|---|---|
//! | single flipped bits | the checksums themselves | `fsck/syndrome.rs`, `fsck/mend.rs` |
//! | a batch, a segment | a mirror; and the mirror from here | `fsck/walk.rs`, `fsck/settle.rs`, `fsck/segments.rs` |
//! | a footer | its checksum, the mirror, the batches | `fsck/footer.rs` |
//! | a header | its second copy, its checksum, the mirror | `fsck/header.rs` |
//! | a cursor, the head file | its checksum; the log | `fsck/aside.rs` |
//!
//! `fsck/image.rs` reads and replaces bytes of one file, `fsck/check.rs` keeps account, and
//! `fsck/report.rs` is what comes out.

mod aside;
mod check;
mod footer;
mod header;
mod image;
mod mend;
mod report;
mod segments;
mod settle;
mod syndrome;
mod walk;

use crate::error::AtPath;
use crate::head::{HeadView, HeadWriter, Watermarks};
use crate::naming;
use check::Check;
use elgate_io::Platform;
use elgate_types::Lsn;
pub use report::{Finding, FindingKind, FindingOutcome, FsckError, FsckOptions, FsckReport};
use segments::{Found, Pair};
use std::path::Path;
use walk::{BEGIN, Ceiling, Position};

/// How often a log with a mirror is looked through at most.
const PASSES_MAX: u32 = 8;

/// Checks the log in `dir`, and repairs it if `options` ask for that. Blocking, for as long as it
/// takes to read all of it; a repair with a mirror looks through it again as long as it sets
/// something right. `progress` is told how many bytes of how many have been looked at this time.
///
/// Everything reported as repaired is durable when this returns. Killed anywhere, it leaves the
/// log no worse than it was, and the next run finishes.
///
/// # Errors
/// [`FsckError`]. Damage is not an error: it is in the report.
pub fn fsck(
    platform: &dyn Platform,
    dir: &Path,
    options: &FsckOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<FsckReport, FsckError> {
    check_places(platform, dir, options)?;
    let head = HeadView::open(platform, dir);
    let in_use = || {
        let marks = head.as_ref().and_then(|head| head.watermarks(head.log_id()?));
        FsckError::InUse { dir: dir.to_owned(), pid: marks.map_or(0, |marks| marks.writer_pid) }
    };
    let lock = match options.repair {
        true => Some(HeadWriter::lock(platform, dir)?.ok_or_else(in_use)?),
        false => None,
    };
    let is_live =
        !options.repair && head.as_ref().is_some_and(|head| head.writer_is_alive(platform));
    let mut earlier = FsckReport::default();
    let mut passes = 0;
    let mut report = loop {
        passes += 1;
        // Before the segments are listed: what was durable now is in those listed then.
        let preferred = head.as_ref().and_then(HeadView::log_id);
        let marks = preferred.and_then(|log_id| head.as_ref()?.watermarks(log_id));
        let mut check = Check {
            platform,
            dir,
            options,
            live: is_live.then(|| marks.map_or(Lsn::ZERO, |marks| marks.durable)),
            last_writer: None,
            report: FsckReport { is_live, ..FsckReport::default() },
            progress: &mut *progress,
            bytes_total: 0,
        };
        let is_changed = check.run(preferred, marks)?;
        let mut report = check.report;
        // What was set right may vouch for what only one copy has and nobody could believe before.
        let is_changed = is_changed || report.repaired > 0;
        let may_find_more = is_changed && options.mirror.is_some() && passes < PASSES_MAX;
        report.take_repaired(earlier);
        if !may_find_more {
            break report;
        }
        earlier = report;
    };
    if let (true, Some(head)) = (is_live, &head) {
        forget_what_was_removed(platform, head, &mut report);
    }
    drop(lock);
    Ok(report)
}

/// Refuses what is no log, before anything is created in it.
fn check_places(
    platform: &dyn Platform,
    dir: &Path,
    options: &FsckOptions,
) -> Result<(), FsckError> {
    let has_segments = |dir: &Path| {
        let entries = platform.list(dir)?;
        Ok(entries.iter().any(|entry| naming::is_segment(&entry.name)))
    };
    let has_head = || HeadView::open(platform, dir).is_some_and(|head| head.log_id().is_some());
    let is_no_folder = |error: &std::io::Error| {
        matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
    };
    let mut is_log = match has_segments(dir) {
        Err(error) if is_no_folder(&error) => {
            return Err(FsckError::NoLog { dir: dir.to_owned() });
        }
        result => result.at("list", dir)?,
    };
    if let Some(mirror) = &options.mirror {
        let refused = |reason| FsckError::Mirror { dir: mirror.clone(), reason };
        if mirror == dir {
            return Err(refused("it is the log itself"));
        }
        is_log |= match has_segments(mirror) {
            Err(error) if is_no_folder(&error) => {
                return Err(refused("it is not a directory; create it if it is to become one"));
            }
            result => result.at("list", mirror)?,
        };
    }
    if is_log || has_head() { Ok(()) } else { Err(FsckError::NoLog { dir: dir.to_owned() }) }
}

impl Check<'_> {
    /// Looks through the log once; whether anything was written to a segment.
    fn run(
        &mut self,
        preferred: Option<u128>,
        marks: Option<Watermarks>,
    ) -> Result<bool, FsckError> {
        let mut found = self.find_segments(preferred)?;
        let marks = marks.filter(|_| found.pairs.is_empty() || preferred == Some(found.log_id));
        let marks = match marks {
            Some(marks) if self.live.is_some() || self.head(&marks)? => Some(marks),
            _ => None,
        };
        self.last_writer = marks;
        let passed = self.cursors()?;
        let promised = marks.map_or(Lsn::ZERO, |marks| marks.durable).max(passed);
        self.find_missing(&mut found, promised)?;
        self.walk_all(&mut found, marks, promised)?;
        self.quarantine()?;
        Ok(found.pairs.iter().any(Pair::is_changed))
    }

    fn walk_all(
        &mut self,
        found: &mut Found,
        marks: Option<Watermarks>,
        promised: Lsn,
    ) -> Result<(), FsckError> {
        let pairs = &mut found.pairs;
        self.report.segments = pairs.len() as u64;
        self.names(pairs);
        let (last_used, promised) = self.last_used(pairs, promised)?;
        let mut position = Position { next: first_kept(pairs, marks), ..Position::default() };
        for index in 0..pairs.len() {
            let (Some(last_used), true) = (last_used, last_used.is_some_and(|last| index <= last))
            else {
                self.unused(&mut pairs[index])?;
                self.advance(pairs[index].header.segment_bytes * pairs[index].copies());
                continue;
            };
            let mut ceiling = self.ceiling(&pairs[index..=last_used], promised);
            if let (Ceiling::Last(lsn), Some(_)) = (ceiling, &pairs[index].there) {
                // One copy may lack what the other one says was acknowledged.
                let stated = self.twin_states(&mut pairs[index])?;
                ceiling = Ceiling::Last(lsn.max(stated.next()));
            }
            let is_suspect = |pair: &Pair| pair.begins_damaged || pair.first.is_none();
            let next_begins_damaged = index < last_used && is_suspect(&pairs[index + 1]);
            let next_epoch = pairs[index + 1..].iter().find_map(|pair| pair.first_epoch);
            let pair = &mut pairs[index];
            pair.next_epoch = next_epoch;
            if let Ceiling::Live(_) = ceiling {
                // What the mirror has of it is the writer's business.
                pair.there = None;
            }
            if let (Some(first), false) = (pair.first, pair.begins_damaged)
                && position.next.is_none_or(|next| first < next)
            {
                // Written again after an error: of two batches, the later one counts.
                position.next = Some(first);
            }
            self.walk(pair, &mut position, ceiling, next_begins_damaged)?;
            if self.live.is_some() && position.next.is_some_and(|next| next > promised) {
                return Ok(());
            }
        }
        if last_used.is_none() && promised > Lsn::ZERO {
            let first = marks.map_or(Lsn(1), |marks| marks.first.max(Lsn(1)));
            let dir = self.dir.to_owned();
            let lsns = (first <= promised).then_some((first, promised));
            let what = "the segments that held these records are gone or blank".to_owned();
            self.lost(&dir, None, lsns, what, None);
        }
        Ok(())
    }

    /// Names sort as segments follow each other, which spares opening all of them.
    fn names(&mut self, pairs: &[Pair]) {
        let images = pairs.iter().filter_map(|pair| pair.here.as_ref());
        let orders = images.map(|image| naming::segment_order(image.name()));
        if !orders.is_sorted() {
            let dir = self.dir.to_owned();
            let what = "the segments' names are not in the order of the segments".to_owned();
            let advice = "nothing is lost, but opening the log takes longer: rename them back";
            self.report(FindingKind::Names, FindingOutcome::Note, &dir, what, advice);
        }
    }

    /// The last segment that counts, and the last record that was promised, by what the segments
    /// behind the last one that begins with a batch say too. Those count only if they hold
    /// something that was promised: otherwise a crash came before their first batch was whole.
    fn last_used(
        &self,
        pairs: &mut [Pair],
        promised: Lsn,
    ) -> Result<(Option<usize>, Lsn), FsckError> {
        let begins_whole = |pair: &Pair| pair.first.is_some() && !pair.begins_damaged;
        let begun = pairs.iter().rposition(begins_whole);
        let behind = begun.map_or(0, |begun| begun + 1);
        let mut promised = promised;
        if self.live.is_none() {
            for pair in &mut pairs[behind..] {
                let stated = self.stated_from(pair, BEGIN, Lsn(1), 0)?;
                promised = promised.max(stated).max(pair.twin_stated);
            }
        }
        let holds_promised = |pair: &Pair| pair.first.is_some_and(|first| first <= promised);
        let last = pairs[behind..].iter().rposition(holds_promised);
        Ok((last.map(|last| behind + last).or(begun), promised))
    }

    /// Where the records of the first of these segments end.
    fn ceiling(&self, pairs: &[Pair], promised: Lsn) -> Ceiling {
        let next = pairs[1..].iter().filter_map(|pair| pair.first).min();
        match (self.live, next) {
            (Some(durable), Some(next)) if next <= durable.next() => Ceiling::Sealed(next),
            (Some(durable), _) => Ceiling::Live(durable.next()),
            (None, Some(next)) => Ceiling::Sealed(next),
            (None, None) => Ceiling::Last(promised.next()),
        }
    }
}

/// The LSN that the first segment should begin with, if that can be told.
fn first_kept(pairs: &[Pair], marks: Option<Watermarks>) -> Option<Lsn> {
    let index = pairs.iter().position(|pair| pair.first.is_some())?;
    let first = pairs[index].first?;
    // Of segments before it that do not say what they begin with, the records may be lost.
    if index == 0 && !pairs[index].begins_damaged {
        return Some(first);
    }
    if pairs.first().is_some_and(|pair| pair.header.sequence == 1) {
        return Some(Lsn(1));
    }
    marks.map(|marks| marks.first.clamp(Lsn(1), first))
}

/// Retention may have removed, and the writer reused, what was being looked at: what was found in
/// such a file is nothing.
fn forget_what_was_removed(platform: &dyn Platform, head: &HeadView, report: &mut FsckReport) {
    let marks = head.log_id().and_then(|log_id| head.watermarks(log_id));
    let first = marks.map_or(Lsn::ZERO, |marks| marks.first);
    let is_kept = |finding: &Finding| {
        let is_gone = finding.lsns.is_some_and(|(_, last)| last < first)
            || !platform
                .list(finding.path.parent().unwrap_or(Path::new("/")))
                .is_ok_and(|entries| entries.iter().any(|it| finding.path.ends_with(&it.name)));
        !is_gone
    };
    let (kept, gone): (Vec<_>, Vec<_>) =
        std::mem::take(&mut report.findings).into_iter().partition(is_kept);
    report.findings = kept;
    for finding in gone {
        match finding.outcome {
            FindingOutcome::Repairable => report.repairable -= 1,
            FindingOutcome::Left => report.left -= 1,
            FindingOutcome::Repaired | FindingOutcome::Note => {}
        }
        let records = finding.lsns.map_or(0, |(first, last)| last.0 - first.0 + 1);
        let is_gap = finding.kind == FindingKind::Gap;
        report.lost_records -= if is_gap { records } else { 0 };
    }
}
