//! Which segments a directory holds, whose they are, and where each begins: looked at when asked.
//!
//! Names sort as segments follow each other, so of a log of any size only the oldest segment and
//! the newest ones are opened to know where it begins and ends. Should anything seen contradict
//! the order of the names (somebody has renamed or copied files), every header is read, and the
//! headers' order counts.

mod bounds;
mod places;

pub(crate) use bounds::{Bounds, bounds};

use crate::error::{AtPath, IoFault};
use crate::naming;
use crate::segment_file::{SegmentFile, open_segment};
use crate::segment_header::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::unreadable::{insist, is_media_error};
use elgate_io::{Buffer, Platform};
use elgate_types::limits::BLOCK_BYTES;
use elgate_types::{Lsn, RouteName};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// A file among the segments that is not one of this log's. Left alone, never deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoredFile {
    /// The file.
    pub path: PathBuf,
    /// Why it was not used.
    pub reason: String,
}

/// A segment's file.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    name: String,
    /// The file's size.
    pub(crate) file_bytes: u64,
    look: Look,
}

#[derive(Debug, Clone)]
enum Look {
    NotYet,
    /// No segment of this log, or there no more.
    Useless,
    At(Segment),
}

/// What the first blocks of a segment say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    begin: Begin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begin {
    /// A batch with this first LSN, judged by its header.
    Batch(Lsn),
    /// Zeros.
    Blank,
    /// Something that is no batch of this segment.
    Other,
    /// As before, or zeros where a batch should be; and the first LSN of the first valid batch.
    Damaged(Option<Lsn>),
}

impl Entry {
    fn seen(&self) -> Option<&Segment> {
        match &self.look {
            Look::At(segment) => Some(segment),
            _ => None,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The header, if it was looked at.
    pub(crate) fn header(&self) -> Option<&SegmentHeader> {
        self.seen().map(|segment| &segment.header)
    }

    /// Whether nobody has looked at it yet.
    pub(crate) fn is_unseen(&self) -> bool {
        matches!(self.look, Look::NotYet)
    }

    /// The first LSN of the batch that it begins with, if it was looked at and does.
    pub(crate) fn begins_at(&self) -> Option<Lsn> {
        match self.seen()?.begin {
            Begin::Batch(first) => Some(first),
            _ => None,
        }
    }

    /// See [`naming::copy_rank`].
    fn copy_rank(&self) -> Option<(bool, bool, &str)> {
        let header = self.header()?;
        Some(naming::copy_rank(&header.route, &self.name, self.is_truncated()))
    }

    /// Whether the file is shorter than it was made: nothing is written to it any more.
    pub(crate) fn is_truncated(&self) -> bool {
        self.header().is_some_and(|header| self.file_bytes < header.segment_bytes)
    }
}

/// The segments of one log, by sequence.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) log_id: Option<u128>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) ignored: Vec<IgnoredFile>,
    /// The last segment that begins with a batch. Those behind it have been looked at.
    last_begun: Option<usize>,
    /// Something seen contradicts the order of the entries.
    is_disordered: bool,
    /// Every `.wal` file in the directory at the last look, by name.
    files: Vec<(String, u64)>,
    /// See [`Wanted::reads_around`].
    reads_around: bool,
    /// Ignored because the device cannot read the header: these may hold records.
    pub(crate) headless: BTreeSet<PathBuf>,
}

/// Of which log and route segments count.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted<'a> {
    /// Of several logs, this one if it is there; else the one with most segments.
    pub(crate) log_id: Option<u128>,
    pub(crate) route: Option<&'a RouteName>,
    /// Whether what the device cannot read is damage rather than an error.
    pub(crate) reads_around: bool,
}

impl Catalog {
    /// Looks at a directory: at the oldest segment, and at the newest ones back to the last that
    /// begins with a batch.
    pub(crate) fn load(
        platform: &dyn Platform,
        dir: &Path,
        wanted: Wanted<'_>,
    ) -> Result<Self, IoFault> {
        let (files, ignored) = list(platform, dir)?;
        let reads_around = wanted.reads_around;
        let mut catalog = Self { files, ignored: ignored.clone(), reads_around, ..Self::default() };
        if !catalog.is_in_order_of_names(platform, dir, wanted)? {
            catalog = Self { files: catalog.files, ignored, reads_around, ..Self::default() };
            catalog.look_at_all(platform, dir, wanted)?;
        }
        Ok(catalog)
    }

    /// Takes the order of names for that of segments. `false`: that does not hold.
    fn is_in_order_of_names(
        &mut self,
        platform: &dyn Platform,
        dir: &Path,
        wanted: Wanted<'_>,
    ) -> Result<bool, IoFault> {
        let mut ordered = Vec::new();
        for (name, bytes) in self.files.clone() {
            let entry = Entry::new(dir, name, bytes);
            match naming::segment_order(&entry.name) {
                Some(order) => ordered.push((order, entry)),
                None => match self.look(platform, &entry.path)? {
                    Ok(_) => return Ok(false),
                    Err(Some(reason)) => self.ignore(&entry.path, &reason),
                    Err(None) => {}
                },
            }
        }
        ordered.sort_by_key(|(order, _)| *order);
        if ordered.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Ok(false);
        }
        self.entries = ordered.into_iter().map(|(_, entry)| entry).collect();
        let Some(newest) = self.entries.len().checked_sub(1) else { return Ok(true) };
        for index in [newest, 0] {
            let path = self.entries[index].path.clone();
            let Ok(segment) = self.look(platform, &path)? else { return Ok(false) };
            let log_id = *self.log_id.get_or_insert(segment.header.log_id);
            let is_of_route = wanted.route.is_none_or(|route| segment.header.route == *route);
            if segment.header.log_id != log_id || !is_of_route {
                return Ok(false);
            }
            self.entries[index].look = Look::At(segment);
        }
        self.check_order(newest);
        if wanted.log_id.is_some() && wanted.log_id != self.log_id {
            return Ok(false);
        }
        self.find_last_begun(platform)?;
        let is_whole = |entry: &Entry| !matches!(entry.look, Look::Useless);
        Ok(!self.is_disordered && self.entries.iter().all(is_whole))
    }

    /// Reads every header.
    fn look_at_all(
        &mut self,
        platform: &dyn Platform,
        dir: &Path,
        wanted: Wanted<'_>,
    ) -> Result<(), IoFault> {
        let mut found = Vec::new();
        for (name, bytes) in self.files.clone() {
            let mut entry = Entry::new(dir, name, bytes);
            match self.look(platform, &entry.path)? {
                Err(Some(reason)) => self.ignore(&entry.path, &reason),
                Err(None) => {}
                Ok(it) if wanted.route.is_some_and(|route| it.header.route != *route) => {
                    let reason = format!("it belongs to route {}", it.header.route);
                    self.ignore(&entry.path, &reason);
                }
                Ok(segment) => {
                    let of = (segment.header.log_id, segment.header.sequence);
                    entry.look = Look::At(segment);
                    found.push((of, entry));
                }
            }
        }
        let mut counts: BTreeMap<u128, usize> = BTreeMap::new();
        for ((log_id, _), _) in &found {
            *counts.entry(*log_id).or_default() += 1;
        }
        let most = counts.iter().max_by_key(|(_, count)| **count).map(|(id, _)| *id);
        self.log_id = wanted.log_id.filter(|id| counts.contains_key(id)).or(most);
        found.sort_by(|(left_of, left), (right_of, right)| {
            (left_of.1, left.copy_rank()).cmp(&(right_of.1, right.copy_rank()))
        });
        let mut last = 0;
        for ((log_id, sequence), entry) in found {
            if Some(log_id) != self.log_id {
                self.ignore(&entry.path, "it belongs to another log");
            } else if sequence == last {
                self.ignore(&entry.path, "it is a copy of another segment here");
            } else {
                last = sequence;
                self.entries.push(entry);
            }
        }
        self.find_last_begun(platform)
    }

    fn ignore(&mut self, path: &Path, reason: &str) {
        self.ignored.push(IgnoredFile { path: path.to_owned(), reason: reason.to_owned() });
    }

    fn find_last_begun(&mut self, platform: &dyn Platform) -> Result<(), IoFault> {
        self.last_begun = None;
        for index in (0..self.entries.len()).rev() {
            self.see(platform, index)?;
            if self.entries[index].begins_at().is_some() {
                self.last_begun = Some(index);
                break;
            }
        }
        Ok(())
    }

    /// Looks at a segment, if nobody has yet. `None`: it is not one of this log's, or gone.
    pub(crate) fn see(
        &mut self,
        platform: &dyn Platform,
        index: usize,
    ) -> Result<Option<&SegmentHeader>, IoFault> {
        if self.entries[index].is_unseen() {
            let path = self.entries[index].path.clone();
            let useless = match self.look(platform, &path)? {
                Ok(segment) if Some(segment.header.log_id) == self.log_id => {
                    self.entries[index].look = Look::At(segment);
                    self.check_order(index);
                    return Ok(self.entries[index].header());
                }
                Ok(_) => Some("it belongs to another log".to_owned()),
                Err(reason) => reason,
            };
            self.entries[index].look = Look::Useless;
            if let Some(reason) = useless {
                self.ignore(&path, &reason);
            }
        }
        Ok(self.entries[index].header())
    }

    /// Sequences rise, by one at least from file to file.
    fn check_order(&mut self, index: usize) {
        let sequence = |entry: &Entry| entry.header().map(|header| header.sequence);
        let Some(own) = sequence(&self.entries[index]) else { return };
        let before = self.entries[..index].iter().enumerate();
        let before = before.rev().find_map(|(at, entry)| Some((at, sequence(entry)?)));
        let after = self.entries.iter().enumerate().skip(index + 1);
        let after = after.into_iter().find_map(|(at, entry)| Some((at, sequence(entry)?)));
        let far_enough = |(near, low): (usize, u64), (far, high): (usize, u64)| {
            high.checked_sub(low).is_some_and(|distance| distance >= (far - near) as u64)
        };
        self.is_disordered |= before.is_some_and(|before| !far_enough(before, (index, own)))
            || after.is_some_and(|after| !far_enough((index, own), after));
    }

    /// Opens a segment. `None`: it is not one of this log's, or gone.
    pub(crate) fn open(
        &mut self,
        platform: &dyn Platform,
        index: usize,
    ) -> Result<Option<SegmentFile>, IoFault> {
        self.open_with(platform, index, true)
    }

    /// As [`open`](Self::open); `direct` says whether to read past the page cache.
    pub(crate) fn open_with(
        &mut self,
        platform: &dyn Platform,
        index: usize,
        direct: bool,
    ) -> Result<Option<SegmentFile>, IoFault> {
        let path = self.entries[index].path.clone();
        let Some(header) = self.see(platform, index)?.cloned() else { return Ok(None) };
        match SegmentFile::open(platform, &path, direct) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // Another header: the name has been given to another file meanwhile.
            Err(error) if self.reads_around && is_media_error(&error) => Ok(None),
            result => {
                let file = result.at("read", &path)?.ok().filter(|file| file.header == header);
                let reads_around = self.reads_around;
                Ok(file.map(|file| if reads_around { file.read_around() } else { file }))
            }
        }
    }

    /// Looks again: new segments appear, removed ones vanish, and a prepared one may have begun.
    /// What is known of the others stays.
    pub(crate) fn refresh(&mut self, platform: &dyn Platform, dir: &Path) -> Result<(), IoFault> {
        let (files, ignored) = list(platform, dir)?;
        if self.is_disordered {
            let reads_around = self.reads_around;
            let wanted = Wanted { log_id: self.log_id, route: None, reads_around };
            *self = Self { files, ignored, reads_around, ..Self::default() };
            return self.look_at_all(platform, dir, wanted);
        }
        if files != self.files {
            let reads_around = self.reads_around;
            let wanted = Wanted { log_id: self.log_id, route: None, reads_around };
            let mut known: BTreeMap<String, Entry> = BTreeMap::new();
            for entry in self.entries.drain(..) {
                known.insert(entry.name.clone(), entry);
            }
            *self = Self::load(platform, dir, wanted)?;
            for entry in &mut self.entries {
                let old = known.remove(&entry.name);
                if let (Look::NotYet, Some(old)) = (&entry.look, old)
                    && old.begins_at().is_some()
                {
                    entry.look = old.look;
                }
            }
            return Ok(());
        }
        for index in self.last_begun.map_or(0, |last| last + 1)..self.entries.len() {
            self.entries[index].look = Look::NotYet;
        }
        self.find_last_begun(platform)
    }

    /// Looks at the first blocks of a file: one read. `Err`: why it is no segment, unless it is
    /// gone.
    fn look(
        &mut self,
        platform: &dyn Platform,
        path: &Path,
    ) -> Result<Result<Segment, Option<String>>, IoFault> {
        let mut file = match SegmentFile::open(platform, path, true) {
            // Removed by retention since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Err(None));
            }
            Err(error) if self.reads_around && is_media_error(&error) => {
                if has_begun(platform, path).at("read", path)? {
                    self.headless.insert(path.to_owned());
                }
                return Ok(Err(Some(format!("the device cannot read its first block: {error}"))));
            }
            result => match result.at("read", path)? {
                Ok(file) => file,
                Err(fault) => return Ok(Err(Some(fault.to_string()))),
            },
        };
        if self.reads_around {
            file = file.read_around();
        }
        let start = SEGMENT_HEADER_BYTES as u64;
        let begin = match file.header_at(platform, start).at("read", path)? {
            Some(header) => Begin::Batch(header.first_lsn),
            None => {
                let is_readable = !file.has_unreadable(start..start + 1);
                let block = file.read(platform, start, BLOCK_BYTES).at("read", path)?;
                let is_blank = is_readable && crate::bytes::is_blank(block);
                if is_blank { Begin::Blank } else { Begin::Other }
            }
        };
        Ok(Ok(Segment { header: file.header, begin }))
    }

    pub(crate) fn read_around_no_more(&mut self) {
        self.reads_around = false;
    }

    /// The size of a file in the directory.
    pub(crate) fn file_bytes(&self, path: &Path) -> u64 {
        let mut files = self.files.iter();
        files.find(|(name, _)| path.ends_with(name)).map_or(0, |(_, bytes)| *bytes)
    }

    /// Looks at every segment.
    pub(crate) fn see_all(&mut self, platform: &dyn Platform) -> Result<(), IoFault> {
        for index in 0..self.entries.len() {
            self.see(platform, index)?;
        }
        Ok(())
    }
}

impl Entry {
    fn new(dir: &Path, name: String, file_bytes: u64) -> Self {
        Self { path: dir.join(&name), name, file_bytes, look: Look::NotYet }
    }
}

/// Whether there is something in a segment's first batch block, or that cannot be read either. An
/// error if nothing in the file can: then it is not a block that is bad.
fn has_begun(platform: &dyn Platform, path: &Path) -> io::Result<bool> {
    let file = open_segment(platform, path, false, true)?;
    let mut block = Buffer::with_capacity(BLOCK_BYTES);
    block.set_length(BLOCK_BYTES);
    match insist(platform, &file, SEGMENT_HEADER_BYTES as u64, &mut block) {
        Err(error) if is_media_error(&error) => {
            let last = platform.size(&file)?.saturating_sub(1) / BLOCK_BYTES as u64;
            insist(platform, &file, last * BLOCK_BYTES as u64, &mut block)?;
            Ok(true)
        }
        result => Ok(!crate::bytes::is_blank(&block[..result?])),
    }
}

/// Every `.wal` file, by name, with its size; and what else has such a name: to open a pipe would
/// wait for whoever writes to it.
type Listed = (Vec<(String, u64)>, Vec<IgnoredFile>);

fn list(platform: &dyn Platform, dir: &Path) -> Result<Listed, IoFault> {
    let (mut files, mut ignored) = Listed::default();
    for entry in platform.list(dir).at("list", dir)? {
        if !naming::is_segment(&entry.name) {
            continue;
        }
        if entry.is_file {
            files.push((entry.name, entry.bytes));
        } else {
            let reason = "it is not a file".to_owned();
            ignored.push(IgnoredFile { path: dir.join(&entry.name), reason });
        }
    }
    files.sort();
    Ok((files, ignored))
}
