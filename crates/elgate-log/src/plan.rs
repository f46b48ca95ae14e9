//! What recovery finds: how far the log goes, what to cut, what is damaged. Reads only, so that a
//! recovery that is killed here has changed nothing, and one that runs twice finds the same.

mod earlier;

use crate::catalog::Catalog;
use crate::damage::{Aftermath, Run, Suspicion, missing, salvage};
use crate::error::{AtPath, IoFault};
use crate::head::Watermarks;
use crate::index::{Footer, IndexEntry, SparseIndex};
use crate::naming;
use crate::quarantine;
use crate::record::RECORD_HEADER_BYTES;
use crate::segment_file::SegmentFile;
use crate::segment_header::SEGMENT_HEADER_BYTES;
use crate::sources::Sources;
use earlier::Checkpoint;
use elgate_io::Platform;
use elgate_types::{Lsn, seeded_bug};
use std::collections::BTreeMap;
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

/// What the head file says, as far as it is this log's.
#[derive(Debug, Default)]
pub(crate) struct HeadNotes {
    pub(crate) marks: Option<Watermarks>,
    /// The index of the segment that was being written.
    pub(crate) index: Vec<IndexEntry>,
}

struct Walk<'a> {
    platform: &'a dyn Platform,
    dir: &'a Path,
    catalog: &'a mut Catalog,
    head: &'a HeadNotes,
    /// Everything up to here is known to have been durable, or must be taken for that.
    proof: Lsn,
    /// The proof is only that so many records may have been where the device cannot read.
    is_supposed: bool,
    plan: Plan,
    /// Damaged places whose last LSN is not known yet.
    unresolved: Vec<Place>,
}

impl Plan {
    /// Walks the log from the last place where that may begin: from a batch that was durable and
    /// is valid, in the last segment that begins with a valid batch. `passed` is the last record
    /// that any reader has saved as done with; `handed_over_again` as in the options.
    pub(crate) fn make(
        platform: &dyn Platform,
        dir: &Path,
        catalog: &mut Catalog,
        head: &HeadNotes,
        passed: Lsn,
        handed_over_again: &BTreeMap<u64, u64>,
    ) -> Result<Self, IoFault> {
        let plan = Self {
            next: Lsn(1),
            epoch: 0,
            covered: Lsn::ZERO,
            last_used: None,
            resume_at: None,
            cuts: Vec::new(),
            damaged: Vec::new(),
            gaps: Vec::new(),
            sources: Sources::new(handed_over_again.clone()),
            walked_from: 0,
            footer: None,
        };
        let marks = head.marks.as_ref();
        let proof = marks.map_or(Lsn::ZERO, |marks| marks.durable).max(passed);
        let unresolved = Vec::new();
        let is_supposed = false;
        let mut walk = Walk { platform, dir, catalog, head, proof, is_supposed, plan, unresolved };
        let begins = walk.find_start()?;
        let start = begins.unwrap_or(0);
        walk.plan.walked_from = start;
        let empty = walk.find_proof_behind(start)?;
        let begin = SEGMENT_HEADER_BYTES as u64;
        let (mut at, known) = match begins {
            Some(start) => walk.checkpoint(start)?,
            None => (begin, None),
        };
        let checkpoint = Checkpoint { end: at, before: walk.plan.next, known };
        for index in start..walk.catalog.entries.len() {
            if !empty.contains(&index) {
                walk.segment(index, at)?;
            }
            at = begin;
        }
        walk.suppose_headless();
        if walk.proof >= walk.plan.next && !seeded_bug::is("cut-acknowledged-rot") {
            walk.resolve(walk.proof.next())?;
            walk.plan.resume_at = None;
        }
        walk.earlier_sources(start, &checkpoint)?;
        if seeded_bug::is("reuse-lsn-after-restart") && walk.plan.next > Lsn(1) {
            walk.plan.next = Lsn(walk.plan.next.0 - 1);
        }
        walk.plan.epoch = walk.plan.epoch.max(marks.map_or(0, |marks| marks.epoch));
        Ok(walk.plan)
    }
}

impl Walk<'_> {
    fn open(&mut self, index: usize) -> Result<Option<SegmentFile>, IoFault> {
        self.catalog.open(self.platform, index)
    }

    /// A segment behind all others whose header cannot be read may hold as many records as there
    /// is room for, unless the head file says better.
    fn suppose_headless(&mut self) {
        if self.head.marks.is_some() {
            return;
        }
        let order = |path: &Path| naming::segment_order(path.file_name()?.to_str()?);
        let last = self.plan.last_used.and_then(|index| order(self.path(index)));
        let is_behind = |path: &&PathBuf| order(path) > last;
        let room: u64 = self
            .catalog
            .headless
            .iter()
            .filter(is_behind)
            .map(|path| self.catalog.file_bytes(path) / RECORD_HEADER_BYTES as u64)
            .sum();
        if room > 0 {
            self.proof = self.proof.max(self.plan.next.plus(room - 1));
            self.is_supposed = true;
        }
    }

    fn path(&self, index: usize) -> &Path {
        &self.catalog.entries[index].path
    }

    /// The last segment whose first batch is valid. That batch's first LSN is the next one then;
    /// without any, the first one that the head file says is kept.
    fn find_start(&mut self) -> Result<Option<usize>, IoFault> {
        let last = self.catalog.last_begun().map_or(0, |last| last + 1);
        for index in (0..last).rev() {
            let Some(mut file) = self.open(index)? else { continue };
            let batch = file.batch_at(self.platform, SEGMENT_HEADER_BYTES as u64);
            if let Some(batch) = batch.at("read", &file.path)? {
                self.plan.next = batch.first_lsn;
                return Ok(Some(index));
            }
        }
        let kept = self.head.marks.map(|marks| marks.first.min(marks.durable.next()));
        self.plan.next = kept.unwrap_or_default().max(Lsn(1));
        Ok(None)
    }

    /// Segments behind the start have no valid first batch, but may hold batches that say what
    /// was durable. Returns those that hold nothing.
    fn find_proof_behind(&mut self, start: usize) -> Result<Vec<usize>, IoFault> {
        let mut empty = Vec::new();
        for index in start + 1..self.catalog.entries.len() {
            let Some(mut file) = self.open(index)? else { continue };
            let footer = file.footer(self.platform).at("read", &file.path)?;
            let reach = self.reach(&file, footer.as_ref());
            let offset = SEGMENT_HEADER_BYTES as u64;
            let place = Suspicion { offset, expected: Lsn(1), epoch: 0, reach };
            let found = Aftermath::survey(self.platform, &mut file, place);
            let found = found.at("read", &file.path)?;
            self.proof = self.proof.max(found.states);
            if found.dirty_end.max(reach) <= offset {
                empty.push(index);
            }
        }
        Ok(empty)
    }

    /// Where to begin in the segment at `index`: at the last batch of its index that is valid and
    /// was durable, as its footer or the head file says; else at its first batch. With what the
    /// index knows of what comes before.
    fn checkpoint(&mut self, index: usize) -> Result<(u64, Option<SparseIndex>), IoFault> {
        let begin = (SEGMENT_HEADER_BYTES as u64, None);
        let Some(mut file) = self.open(index)? else { return Ok(begin) };
        let header = file.header.clone();
        let (known, durable) = match file.footer(self.platform).at("read", &file.path)? {
            Some(footer) => (footer.index, Lsn(footer.next_lsn.0 - 1)),
            None => match &self.head.marks {
                Some(marks) if marks.active_sequence == header.sequence => {
                    let entries = self.head.index.iter().copied();
                    let plausible = entries.filter(|entry| entry.first_lsn >= self.plan.next);
                    (SparseIndex::from_entries(header.segment_bytes, plausible), marks.durable)
                }
                _ => return Ok(begin),
            },
        };
        let Some(entry) =
            file.follow(self.platform, known.up_to_lsn(durable)).at("read", &file.path)?
        else {
            return Ok(begin);
        };
        let before = known.up_to_offset(entry.offset - 1);
        let Some(first) = before.first() else { return Ok(begin) };
        self.plan.footer = Some(Footer {
            first_lsn: self.plan.next,
            next_lsn: entry.first_lsn,
            first_time: first.time,
            last_time: entry.time,
            end: entry.offset,
            counts: None,
            index: SparseIndex::from_entries(header.segment_bytes, before.iter().copied()),
            ..Footer::new(&header)
        });
        self.plan.next = entry.first_lsn;
        self.plan.last_used = Some(index);
        Ok((entry.offset, Some(known)))
    }

    /// How far acknowledged batches went in a segment, as far as anybody says.
    fn reach(&self, file: &SegmentFile, footer: Option<&Footer>) -> u64 {
        let sequence = file.header.sequence;
        let marks = self.head.marks.filter(|marks| marks.active_sequence == sequence);
        let said = footer.map(|footer| footer.end).or(marks.map(|marks| marks.durable_end));
        said.unwrap_or(0).min(file.end())
    }

    /// Walks one segment from `at` to its end, its first torn batch, or damage with nothing
    /// behind it.
    fn segment(&mut self, index: usize, mut at: u64) -> Result<(), IoFault> {
        let Some(mut file) = self.open(index)? else { return Ok(()) };
        let footer = file.footer(self.platform).at("read", &file.path)?;
        if let Some(footer) = &footer {
            // It was written when all of the segment was stable.
            self.proof = self.proof.max(Lsn(footer.next_lsn.0 - 1));
        }
        let reach = self.reach(&file, footer.as_ref());
        loop {
            at = self.valid_batches(index, &mut file, at)?;
            if at >= file.end() || footer.as_ref().is_some_and(|footer| at >= footer.end) {
                break;
            }
            let (expected, epoch) = (self.plan.next, self.plan.epoch);
            let place = Suspicion { offset: at, expected, epoch, reach };
            let after =
                Aftermath::survey(self.platform, &mut file, place).at("read", self.path(index))?;
            self.proof = self.proof.max(after.states);
            // What lies before `reach` is known as far as it was acknowledged, and so is the whole
            // segment to a writer that has gone on in another one since.
            let is_left = self.head.marks.is_some_and(|marks| {
                marks.epoch > epoch && marks.active_sequence != file.header.sequence
            });
            let known_to = match self.proof >= expected {
                true if is_left => file.end(),
                true => at.max(reach),
                false => at,
            };
            if file.has_unreadable(known_to..after.dirty_end) {
                // Whatever was there may have been acknowledged.
                let end = after.later.map_or(after.beyond, |(_, later)| later.first_lsn);
                self.is_supposed |= after.later.is_none() && self.proof.next() < end;
                self.proof = self.proof.max(Lsn(end.0 - 1));
            } else if self.proof < expected || seeded_bug::is("cut-acknowledged-rot") {
                if after.dirty_end > at {
                    self.plan.cuts.push((index, at..after.dirty_end));
                }
                break;
            }
            let end = after.later.map_or(after.dirty_end.max(reach), |(offset, _)| offset);
            if end <= at {
                // Nothing is missing here.
                break;
            }
            self.unresolved.push((index, at..end));
            self.plan.last_used = Some(index);
            let Some((offset, later)) = after.later else {
                self.plan.resume_at = None;
                break;
            };
            self.resolve(later.first_lsn)?;
            at = offset;
        }
        // Nothing more is written where a device begins to fail; nor behind a footer, seen or not.
        let is_over = footer.is_some() || file.has_unreadable(0..u64::MAX);
        if is_over && self.plan.last_used == Some(index) {
            self.plan.resume_at = None;
        }
        Ok(())
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
        let mut is_unreadable = false;
        let places = std::mem::take(&mut self.unresolved);
        for (index, range) in &places {
            let Some(mut file) = self.open(*index)? else { continue };
            let from = runs.last().map_or(lsns.start, |run| run.last.next());
            let found = salvage(self.platform, &mut file, range.clone(), from..lsns.end);
            runs.extend(found.at("read", self.path(*index))?);
            is_unreadable |= file.has_unreadable(range.clone());
        }
        let place = places.first();
        let copy =
            place.map(|(index, range)| quarantine::copy_path(self.dir, self.path(*index), range));
        let reason = match place {
            Some((index, range)) => format!(
                "bytes {}..{} of {} {}",
                range.start,
                range.end,
                self.path(*index).display(),
                if is_unreadable { "cannot be read from the device" } else { "are damaged" }
            ),
            None if self.is_supposed => "the segment behind cannot be read".to_owned(),
            None => "the segment that held them is gone or blank".to_owned(),
        };
        let reason = match self.is_supposed && next > self.proof {
            true => format!("{reason}; there may have been fewer of them, or none"),
            false => reason,
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
        self.plan.damaged.extend(places);
        self.plan.next = next;
        Ok(())
    }
}
