//! Which segments a log and its mirror hold, which copies belong together, and what is missing as
//! a whole.

use super::check::{Check, Wrong};
use super::footer::FoundFooter;
use super::header::{FoundHeader, examine};
use super::image::Image;
use super::report::{FindingKind, FindingOutcome, FsckError};
use crate::batch::BatchHeader;
use crate::error::{AtPath, IoFault};
use crate::naming;
use crate::segment_header::{HeaderFault, SEGMENT_HEADER_BYTES, SegmentHeader};
use elgate_io::{OpenOptions, Platform};
use elgate_types::Lsn;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

const PIECE_BYTES: usize = 1024 * 1024;

/// A segment and its mirror's copy; at least one of them is there.
pub(super) struct Pair {
    pub(super) header: SegmentHeader,
    pub(super) here: Option<Image>,
    pub(super) there: Option<Image>,
    /// First LSN of the first batch that validates, or would if it were set right.
    pub(super) first: Option<Lsn>,
    /// Whether something else comes before that batch.
    pub(super) begins_damaged: bool,
    /// Whether the mirror's copy claims to lack nothing. One that does not may hold, besides what
    /// was acknowledged, batches that never were and whose numbers others have now.
    pub(super) twin_is_complete: bool,
    /// What a copy that does not claim that says itself to be durable: so far it is believed, for
    /// when that was written, the two were the same.
    pub(super) twin_stated: Lsn,
    /// The epoch of the first batch, as the log's own copy has it.
    pub(super) first_epoch: Option<u64>,
    /// That of the first segment behind this one that has any.
    pub(super) next_epoch: Option<u64>,
}

impl Pair {
    /// Where batches end at the latest.
    pub(super) fn end(&self) -> u64 {
        self.header.usable_end()
    }

    /// How many copies there are.
    pub(super) fn copies(&self) -> u64 {
        u64::from(self.here.is_some()) + u64::from(self.there.is_some())
    }

    /// Whether anything was written to one of them, be it a mere footer.
    pub(super) fn is_changed(&self) -> bool {
        [&self.here, &self.there].into_iter().flatten().any(|image| image.is_changed)
    }

    pub(super) fn path(&self) -> &Path {
        let image = self.here.as_ref().or(self.there.as_ref());
        image.map_or(Path::new(""), |image| &image.path)
    }
}

/// A segment's file with the header it has, or should have.
struct Held {
    image: Image,
    header: SegmentHeader,
    right: Option<(Box<[u8; SEGMENT_HEADER_BYTES]>, FindingKind, String)>,
}

impl Held {
    /// See [`naming::copy_rank`].
    fn copy_rank(&self) -> (bool, bool, &str) {
        let is_truncated = self.image.bytes < self.header.segment_bytes;
        naming::copy_rank(&self.header.route, self.image.name(), is_truncated)
    }
}

/// The segments of a directory, and files whose header says nothing.
#[derive(Default)]
struct Folder {
    held: Vec<Held>,
    /// What has a segment's name and is no file.
    strange: Vec<PathBuf>,
    hopeless: Vec<(Image, HeaderFault)>,
}

impl Folder {
    fn load(platform: &dyn Platform, dir: &Path) -> Result<Self, IoFault> {
        let mut folder = Self::default();
        let mut entries = platform.list(dir).at("list", dir)?;
        entries.retain(|entry| naming::is_segment(&entry.name));
        let (files, others): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.is_file);
        folder.strange = others.into_iter().map(|entry| dir.join(entry.name)).collect();
        let mut names: Vec<String> = files.into_iter().map(|file| file.name).collect();
        names.sort();
        for name in names {
            let mut image = match Image::open(platform, dir, &name) {
                // Removed by retention since it was listed.
                Err(fault) if fault.error.kind() == io::ErrorKind::NotFound => continue,
                result => result?,
            };
            match examine(platform, &mut image)? {
                FoundHeader::Sound(header) => folder.held.push(Held { image, header, right: None }),
                FoundHeader::Repairable(header, block, what) => {
                    let right = Some((block, FindingKind::HeaderCopy, what));
                    folder.held.push(Held { image, header, right });
                }
                FoundHeader::Hopeless(fault) => folder.hopeless.push((image, fault)),
            }
        }
        folder.held.sort_by(|left, right| left.copy_rank().cmp(&right.copy_rank()));
        Ok(folder)
    }

    /// Files whose header says nothing get that of the other folder's segment of the same name.
    fn adopt(&mut self, other: &Self) {
        for (image, fault) in std::mem::take(&mut self.hopeless) {
            let twin = other.held.iter().find(|held| held.image.name() == image.name());
            let is_newer = matches!(fault, HeaderFault::Version(_));
            match twin.filter(|_| !is_newer) {
                Some(twin) => {
                    let block = Box::new(twin.header.encode());
                    let what = format!("{fault}; the other copy has the header");
                    let right = Some((block, FindingKind::Header, what));
                    self.held.push(Held { image, header: twin.header.clone(), right });
                }
                None => self.hopeless.push((image, fault)),
            }
        }
    }

    /// The log that most segments belong to.
    fn most(&self) -> Option<u128> {
        let mut counts: BTreeMap<u128, usize> = BTreeMap::new();
        for held in &self.held {
            *counts.entry(held.header.log_id).or_default() += 1;
        }
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(log_id, _)| log_id)
    }
}

/// What is in a log's directory and its mirror: the log's segments by sequence.
pub(super) struct Found {
    pub(super) log_id: u128,
    pub(super) pairs: Vec<Pair>,
}

impl Check<'_> {
    /// Looks at both directories; sets headers right. `preferred` is the log that the head file
    /// belongs to.
    pub(super) fn find_segments(&mut self, preferred: Option<u128>) -> Result<Found, FsckError> {
        let mut here = Folder::load(self.platform, self.dir)?;
        let mut there = match &self.options.mirror {
            Some(mirror) => Folder::load(self.platform, mirror)?,
            None => Folder::default(),
        };
        if let (Some(mirror), Some(own)) = (&self.options.mirror, here.held.first()) {
            // The log's own directory by another name would vouch for itself.
            for twin in &there.held {
                if own.image.is_same(self.platform, &twin.image)? {
                    let (dir, reason) = (mirror.clone(), "it is the log itself");
                    return Err(FsckError::Mirror { dir, reason });
                }
            }
        }
        for path in here.strange.iter().chain(&there.strange) {
            let advice = "it is left alone; move it away if nobody needs it";
            let what = "it is not a file".to_owned();
            self.report(FindingKind::Foreign, FindingOutcome::Note, path, what, advice);
        }
        here.adopt(&there);
        there.adopt(&here);
        let is_here = |id: &u128| here.held.iter().any(|held| held.header.log_id == *id);
        let log_id = preferred.filter(is_here).or(here.most()).or(there.most());
        let bytes = |folder: &Folder| folder.held.iter().map(|held| held.image.bytes).sum::<u64>();
        self.bytes_total = bytes(&here) + bytes(&there);
        let Some(log_id) = log_id else {
            if here.hopeless.is_empty() && preferred.is_none() && self.live.is_none() {
                return Err(FsckError::NoLog { dir: self.dir.to_owned() });
            }
            self.leave_hopeless(here.hopeless);
            return Ok(Found { log_id: preferred.unwrap_or_default(), pairs: Vec::new() });
        };
        let mut pairs: BTreeMap<(u64, u32), Pair> = BTreeMap::new();
        for (held, is_mirror) in here
            .held
            .into_iter()
            .map(|it| (it, false))
            .chain(there.held.into_iter().map(|it| (it, true)))
        {
            self.pair_up(&mut pairs, held, is_mirror, log_id)?;
        }
        self.leave_hopeless(here.hopeless);
        self.leave_hopeless(there.hopeless);
        let mut pairs: Vec<Pair> = pairs.into_values().collect();
        self.report.route = pairs.first().map(|pair| pair.header.route.to_string());
        for pair in &mut pairs {
            if let Some(twin) = &mut pair.there {
                let footer = FoundFooter::examine(self.platform, twin, &pair.header)?;
                pair.twin_is_complete = !matches!(footer, FoundFooter::Missing);
            }
            if self.live.is_some() && !pair.twin_is_complete {
                // What the mirror lacks, the writer is about to copy.
                pair.there = None;
            }
            if pair.there.is_some() && !pair.twin_is_complete {
                pair.twin_stated = self.twin_states(pair)?;
            }
            self.find_first(pair)?;
            if let Some(own) = &mut pair.here {
                let begin = SEGMENT_HEADER_BYTES as u64;
                let header = own.header(self.platform, begin, pair.header.salt)?;
                pair.first_epoch = header.map(|header| header.epoch);
            }
        }
        pairs.retain(|pair| pair.copies() > 0);
        Ok(Found { log_id, pairs })
    }

    fn pair_up(
        &mut self,
        pairs: &mut BTreeMap<(u64, u32), Pair>,
        held: Held,
        is_mirror: bool,
        log_id: u128,
    ) -> Result<(), IoFault> {
        let Held { mut image, header, right } = held;
        let note = |this: &mut Self, what: &str| {
            let advice = "it is left alone; move it away if nobody needs it";
            this.report(
                FindingKind::Foreign,
                FindingOutcome::Note,
                &image.path,
                what.to_owned(),
                advice,
            );
        };
        if header.log_id != log_id {
            note(self, "it belongs to another log");
            return Ok(());
        }
        let pair = pairs.entry((header.sequence, header.salt)).or_insert_with(|| Pair {
            header,
            here: None,
            there: None,
            first: None,
            begins_damaged: false,
            twin_is_complete: false,
            twin_stated: Lsn::ZERO,
            first_epoch: None,
            next_epoch: None,
        });
        let slot = if is_mirror { &mut pair.there } else { &mut pair.here };
        if slot.is_some() {
            note(self, "it is a copy of another segment here");
            return Ok(());
        }
        if let Some((block, kind, what)) = right {
            let wrong = Wrong { kind, offset: 0, lsns: None, what, is_error: true };
            self.set_right(&mut image, wrong, &block[..])?;
        }
        if image.bytes < pair.header.segment_bytes {
            let what = format!(
                "it has {} bytes where {} should be",
                image.bytes, pair.header.segment_bytes
            );
            let path = image.path.clone();
            let whole = pair.header.segment_bytes;
            self.remedy(FindingKind::Truncated, &path, what, true, |platform| {
                image.extend(platform, whole)
            })?;
        }
        *slot = Some(image);
        Ok(())
    }

    fn leave_hopeless(&mut self, hopeless: Vec<(Image, HeaderFault)>) {
        for (image, fault) in hopeless {
            let (outcome, kind, advice) = match &fault {
                HeaderFault::Version(_) => (
                    FindingOutcome::Left,
                    FindingKind::Header,
                    "check it with the Elgate that wrote it",
                ),
                _ if naming::segment_order(image.name()).is_some() => (
                    FindingOutcome::Left,
                    FindingKind::Header,
                    "name a mirror with --mirror, or restore the file from a backup, and run it again",
                ),
                _ => (
                    FindingOutcome::Note,
                    FindingKind::Foreign,
                    "it is left alone; move it away if nobody needs it",
                ),
            };
            self.report(kind, outcome, &image.path, fault.to_string(), advice);
        }
    }

    /// Finds where a segment begins, from whichever copy says so.
    fn find_first(&mut self, pair: &mut Pair) -> Result<(), IoFault> {
        let begin = SEGMENT_HEADER_BYTES as u64;
        let first = self.lowest_at(pair, begin)?;
        pair.first = first.map(|header| header.first_lsn);
        // A batch that was written to the wrong place is a later one: what should follow it
        // comes before it.
        let follows = match first {
            Some(first) => self.lowest_at(pair, begin + u64::from(first.batch_bytes))?,
            None => None,
        };
        let is_misplaced = first.is_none_or(|first| {
            let is_behind = |header: BatchHeader| header.first_lsn < first.next_lsn();
            follows.is_some_and(is_behind)
                || (pair.header.sequence == 1 && first.first_lsn > Lsn(1))
        });
        if is_misplaced {
            let later = self.find_later(pair, begin, Lsn(1), 0)?;
            pair.first = later.map(|(_, header)| header.first_lsn);
            pair.begins_damaged = pair.first.is_some();
        }
        Ok(())
    }

    /// Of the batches that the copies have at `offset`, the one with the lowest LSN.
    fn lowest_at(&self, pair: &mut Pair, offset: u64) -> Result<Option<BatchHeader>, IoFault> {
        let found = self.batches_at(pair, offset)?;
        Ok(found.into_iter().min_by_key(|header| header.first_lsn))
    }

    /// Copies whole segments that one directory has and the other lacks. A segment older than all
    /// others here has been removed by retention, and one that nothing was written to is not
    /// missed; neither is one that never became part of the log.
    pub(super) fn find_missing(&mut self, found: &mut Found, promised: Lsn) -> Result<(), IoFault> {
        let Some(mirror) = self.options.mirror.clone() else { return Ok(()) };
        let here = |pair: &&Pair| pair.here.is_some();
        let oldest = found.pairs.iter().find(here).map_or(0, |pair| pair.header.sequence);
        let newest_used = found.pairs.iter().rposition(|pair| pair.first.is_some());
        for index in 0..found.pairs.len() {
            let (pair, later) = match &mut found.pairs[index..] {
                [pair, later @ ..] => (pair, later),
                [] => break,
            };
            let Some(first) = pair.first else { continue };
            let is_superseded =
                || later.iter().any(|it| here(&it) && it.first.is_some_and(|next| next <= first));
            // What the mirror lacks of the segment that is written last, the next start copies.
            let is_last = Some(index) == newest_used;
            match (&mut pair.here, &mut pair.there) {
                (None, Some(image)) if pair.header.sequence > oldest => {
                    if pair.twin_is_complete || (first <= promised && !is_superseded()) {
                        pair.here = self.copy_over(image, self.dir, true)?;
                    } else {
                        pair.there = None;
                    }
                }
                (None, Some(_)) => pair.there = None,
                (Some(image), None) if self.live.is_none() => {
                    pair.there = self.copy_over(image, &mirror, !is_last)?;
                }
                // A writer sees to its mirror itself.
                (Some(image), None) if !is_last => {
                    let (path, twin) = (image.path.clone(), mirror.join(image.name()));
                    let read = OpenOptions { read: true, ..OpenOptions::default() };
                    let opened = self.platform.open(&twin, read);
                    if opened.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                        let what = "the mirror lacks this segment".to_owned();
                        let advice = "its writer copies it, at the latest with the next segment";
                        self.report(FindingKind::Mirror, FindingOutcome::Note, &path, what, advice);
                    }
                }
                _ => {}
            }
        }
        found.pairs.retain(|pair| pair.copies() > 0);
        Ok(())
    }

    fn copy_over(
        &mut self,
        image: &mut Image,
        dir: &Path,
        is_error: bool,
    ) -> Result<Option<Image>, IoFault> {
        let name = image.name().to_owned();
        let target = dir.join(&name);
        let what = format!("the segment is missing; {} has it", image.path.display());
        let taken = self.platform.list(dir).at("list", dir)?;
        if taken.iter().any(|entry| entry.name == name) {
            let advice = "another file has its name: move that away, and run it again";
            self.report(FindingKind::Segment, FindingOutcome::Left, &target, what, advice);
            return Ok(None);
        }
        self.remedy(FindingKind::Segment, &target, what, is_error, |platform| {
            copy_file(platform, image, dir, &target)
        })?;
        if !self.options.repair {
            return Ok(None);
        }
        let copy = Image::open(self.platform, dir, &name)?;
        self.bytes_total += copy.bytes;
        Ok(Some(copy))
    }
}

/// Copies a whole segment: it has its name only once all of it is durable.
fn copy_file(
    platform: &dyn Platform,
    image: &mut Image,
    dir: &Path,
    target: &Path,
) -> Result<(), IoFault> {
    let unfinished = dir.join(naming::PREPARING);
    let options = OpenOptions { read: true, write: true, create: true, ..Default::default() };
    let copy = platform.open(&unfinished, options).at("create", &unfinished)?;
    platform.set_size(&copy, 0).at("truncate", &unfinished)?;
    let mut at = 0;
    while at < image.bytes {
        let bytes = image.read(platform, at, PIECE_BYTES)?;
        if bytes.is_empty() {
            break;
        }
        platform.write_at(&copy, at, bytes, false).at("write", &unfinished)?;
        at += bytes.len() as u64;
    }
    platform.sync(&copy).at("sync", &unfinished)?;
    platform.rename(&unfinished, target).at("rename a segment to", target)?;
    platform.sync_directory(dir).at("sync", dir)
}
