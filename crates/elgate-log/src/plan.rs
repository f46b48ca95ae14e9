//! What recovery finds: how far the log goes, what to cut, what is damaged. Reads only, so that a
//! recovery that is killed here has changed nothing, and one that runs twice finds the same.

use crate::catalog::{Catalog, reopen};
use crate::damage::{Aftermath, Run, missing, salvage};
use crate::error::{AtPath, IoFault};
use crate::head::Watermarks;
use crate::index::Footer;
use crate::quarantine;
use crate::segment_file::SegmentFile;
use crate::segment_header::SEGMENT_HEADER_BYTES;
use crate::sources::Sources;
use elgate_io::Platform;
use elgate_types::Lsn;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Acknowledged records that cannot be read any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The first of them.
    pub from: Lsn,
    /// The last of them.
    pub to: Lsn,
    /// Copy of the damaged bytes, if there were any left.
    pub path: Option<PathBuf>,
    /// What was found.
    pub reason: String,
}

/// A range of the segment at an index of the catalog.
pub(crate) type Place = (usize, Range<u64>);

/// The findings.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The LSN that the next record gets.
    pub(crate) next: Lsn,
    /// Highest epoch seen.
    pub(crate) epoch: u64,
    /// Highest durable watermark that a batch states.
    pub(crate) covered: Lsn,
    /// Index of the last segment with batches or damage.
    pub(crate) last_used: Option<usize>,
    /// Where writing may go on in that segment; elsewhere if `None`.
    pub(crate) resume_at: Option<u64>,
    /// Torn ranges, to be zeroed.
    pub(crate) cuts: Vec<Place>,
    /// Damaged ranges, to be copied aside.
    pub(crate) damaged: Vec<Place>,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) sources: Sources,
    /// Index of the first segment whose batches were looked at.
    pub(crate) walked_from: usize,
    /// What the last used segment holds.
    pub(crate) footer: Option<Footer>,
}

/// Earlier segments are searched for logged submissions no further back than this: a ring's
/// worth of the smallest records, framed, is half as much.
const SOURCES_BYTES_MAX: u64 = 64 * 1024 * 1024;

struct Walk<'a> {
    platform: &'a dyn Platform,
    dir: &'a Path,
    catalog: &'a Catalog,
    /// Everything up to here is known to have been durable.
    proof: Lsn,
    plan: Plan,
    /// Damaged places whose last LSN is not known yet.
    unresolved: Vec<Place>,
}

impl Plan {
    /// Walks the log from the last segment that begins with a valid batch. `passed` is the last
    /// record that any reader has saved as done with.
    pub(crate) fn make(
        platform: &dyn Platform,
        dir: &Path,
        catalog: &Catalog,
        head: Option<&Watermarks>,
        passed: Lsn,
    ) -> Result<Self, IoFault> {
        let (start, first) = find_start(platform, catalog)?;
        let kept = head.map(|head| head.first.min(head.durable.next()));
        let first = first.or(kept).unwrap_or_default().max(Lsn(1));
        let plan = Self {
            next: first,
            epoch: 0,
            covered: Lsn::ZERO,
            last_used: None,
            resume_at: None,
            cuts: Vec::new(),
            damaged: Vec::new(),
            gaps: Vec::new(),
            sources: Sources::default(),
            walked_from: start,
            footer: None,
        };
        let proof = head.map_or(Lsn::ZERO, |head| head.durable).max(passed);
        let mut walk = Walk { platform, dir, catalog, proof, plan, unresolved: Vec::new() };
        walk.find_proof_behind(start)?;
        for index in start..catalog.entries.len() {
            walk.segment(index)?;
        }
        if walk.proof >= walk.plan.next {
            walk.resolve(walk.proof.next())?;
            walk.plan.resume_at = None;
        }
        walk.earlier_sources(start)?;
        walk.plan.epoch = walk.plan.epoch.max(head.map_or(0, |head| head.epoch));
        Ok(walk.plan)
    }
}

/// The last segment whose first batch is valid, and that batch's first LSN.
fn find_start(platform: &dyn Platform, catalog: &Catalog) -> Result<(usize, Option<Lsn>), IoFault> {
    for (index, entry) in catalog.entries.iter().enumerate().rev() {
        if entry.first_lsn.is_none() {
            continue;
        }
        let Some(mut file) = reopen(platform, entry)? else { continue };
        let batch = file.batch_at(platform, SEGMENT_HEADER_BYTES as u64).at("read", &entry.path)?;
        if let Some(batch) = batch {
            return Ok((index, Some(batch.first_lsn)));
        }
    }
    Ok((0, None))
}

impl Walk<'_> {
    fn open(&self, index: usize) -> Result<Option<SegmentFile>, IoFault> {
        reopen(self.platform, &self.catalog.entries[index])
    }

    fn path(&self, index: usize) -> &Path {
        &self.catalog.entries[index].path
    }

    /// Segments behind the start have no valid first batch, but may hold batches that say what
    /// was durable.
    fn find_proof_behind(&mut self, start: usize) -> Result<(), IoFault> {
        for index in start + 1..self.catalog.entries.len() {
            let Some(mut file) = self.open(index)? else { continue };
            let begin = SEGMENT_HEADER_BYTES as u64;
            let found = Aftermath::survey(self.platform, &mut file, begin, Lsn(1), 0);
            self.proof = self.proof.max(found.at("read", self.path(index))?.states);
        }
        Ok(())
    }

    /// Walks one segment to its end, its first torn batch, or damage with nothing behind it.
    fn segment(&mut self, index: usize) -> Result<(), IoFault> {
        let Some(mut file) = self.open(index)? else { return Ok(()) };
        let mut at = SEGMENT_HEADER_BYTES as u64;
        loop {
            at = self.valid_batches(index, &mut file, at)?;
            if at >= file.end() {
                return Ok(());
            }
            let (next, epoch) = (self.plan.next, self.plan.epoch);
            let after = Aftermath::survey(self.platform, &mut file, at, next, epoch)
                .at("read", self.path(index))?;
            if after.dirty_end == at {
                return Ok(());
            }
            self.proof = self.proof.max(after.states);
            if self.proof < next {
                self.plan.cuts.push((index, at..after.dirty_end));
                return Ok(());
            }
            let end = after.later.map_or(after.dirty_end, |(offset, _)| offset);
            self.unresolved.push((index, at..end));
            self.plan.last_used = Some(index);
            let Some((offset, later)) = after.later else {
                self.plan.resume_at = None;
                return Ok(());
            };
            self.resolve(later.first_lsn)?;
            at = offset;
        }
    }

    /// Takes valid batches from `at` on; returns where they end.
    fn valid_batches(
        &mut self,
        index: usize,
        file: &mut SegmentFile,
        mut at: u64,
    ) -> Result<u64, IoFault> {
        let of = file.header.clone();
        while at < file.end() {
            let path = self.path(index);
            let Some(header) = file.batch_at(self.platform, at).at("read", path)? else { break };
            if header.first_lsn != self.plan.next || header.epoch < self.plan.epoch {
                break;
            }
            let bytes = file.read(self.platform, at, header.batch_bytes as usize);
            let bytes = bytes.at("read", path)?;
            let times = header.times(bytes);
            self.plan.sources.take(&header, bytes);
            self.plan.next = header.next_lsn();
            self.plan.epoch = header.epoch;
            self.plan.covered = self.plan.covered.max(header.durable_lsn);
            self.plan.last_used = Some(index);
            let end = at + u64::from(header.batch_bytes);
            let footer = self.plan.footer.take_if(|footer| footer.sequence == of.sequence);
            let mut footer = footer.unwrap_or_else(|| Footer::new(&of));
            footer.take(at..end, header.lsns(), times);
            self.plan.footer = Some(footer);
            at = end;
            self.plan.resume_at = Some(at);
        }
        Ok(at)
    }

    /// The damage found so far has cost the records up to `next`, except those that still read.
    fn resolve(&mut self, next: Lsn) -> Result<(), IoFault> {
        let lsns = self.plan.next..next;
        let mut runs: Vec<Run> = Vec::new();
        let places = std::mem::take(&mut self.unresolved);
        for (index, range) in &places {
            let Some(mut file) = self.open(*index)? else { continue };
            let from = runs.last().map_or(lsns.start, |run| run.last.next());
            let found = salvage(self.platform, &mut file, range.clone(), from..lsns.end);
            runs.extend(found.at("read", self.path(*index))?);
        }
        let place = places.iter().find(|(_, range)| !range.is_empty());
        let copy =
            place.map(|(index, range)| quarantine::copy_path(self.dir, self.path(*index), range));
        let reason = match place {
            Some((index, range)) => format!(
                "bytes {}..{} of {} are damaged",
                range.start,
                range.end,
                self.path(*index).display()
            ),
            None => "the segment that held them is gone or blank".to_owned(),
        };
        for gap in missing(lsns, &runs) {
            let to = Lsn(gap.end.0 - 1);
            self.plan.gaps.push(Gap {
                from: gap.start,
                to,
                path: copy.clone(),
                reason: reason.clone(),
            });
        }
        self.plan.damaged.extend(places.into_iter().filter(|(_, range)| !range.is_empty()));
        self.plan.next = next;
        Ok(())
    }

    /// Looks for logged submissions in earlier segments, until a ring's worth is known.
    fn earlier_sources(&mut self, start: usize) -> Result<(), IoFault> {
        let mut walked_bytes = 0;
        for index in (0..start).rev() {
            if walked_bytes >= SOURCES_BYTES_MAX || self.plan.sources.is_complete() {
                break;
            }
            let Some(mut file) = self.open(index)? else { continue };
            walked_bytes += file.end();
            let superseded = self.catalog.superseded_from(index).unwrap_or(Lsn(u64::MAX));
            let mut earlier = Sources::default();
            let (mut at, mut next) = (SEGMENT_HEADER_BYTES as u64, Lsn(1));
            while at < file.end() {
                let path = self.path(index);
                let batch = match file.batch_at(self.platform, at).at("read", path)? {
                    Some(header) if header.first_lsn >= next => Some((at, header)),
                    _ => {
                        Aftermath::survey(self.platform, &mut file, at, next, 0)
                            .at("read", path)?
                            .later
                    }
                };
                let Some((offset, header)) = batch.filter(|(_, it)| it.first_lsn < superseded)
                else {
                    break;
                };
                let bytes = file.read(self.platform, offset, header.batch_bytes as usize);
                earlier.take(&header, bytes.at("read", path)?);
                next = header.next_lsn();
                at = offset + u64::from(header.batch_bytes);
            }
            self.plan.sources.prepend(earlier);
        }
        Ok(())
    }
}
