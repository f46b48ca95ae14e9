//! Which segments a directory holds, whose they are, and where each begins.

use crate::damage::{Aftermath, batch_header};
use crate::error::{AtPath, IoFault};
use crate::naming;
use crate::segment_file::SegmentFile;
use crate::segment_header::{SEGMENT_HEADER_BYTES, SegmentHeader};
use elgate_io::Platform;
use elgate_types::{Lsn, RouteName};
use std::collections::BTreeMap;
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

/// A segment of the log.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    pub(crate) header: SegmentHeader,
    /// The file's size.
    pub(crate) file_bytes: u64,
    /// First LSN of the first valid batch seen in it.
    pub(crate) first_lsn: Option<Lsn>,
    /// Whether something other than a valid batch comes before that: damage, or a torn write.
    pub(crate) begins_damaged: bool,
}

impl Entry {
    /// Whether the file is shorter than it was made: nothing is written to it any more.
    pub(crate) fn is_truncated(&self) -> bool {
        self.file_bytes < self.header.segment_bytes
    }
}

/// The segments of one log, by sequence.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) log_id: Option<u128>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) ignored: Vec<IgnoredFile>,
    /// Every `.wal` name in the directory at the last look.
    names: Vec<String>,
}

impl Catalog {
    /// Looks at a directory. Of several logs in it, the one that `preferred` names counts, else
    /// the one with most segments.
    pub(crate) fn load(
        platform: &dyn Platform,
        dir: &Path,
        preferred: Option<u128>,
        route: Option<&RouteName>,
    ) -> Result<Self, IoFault> {
        let mut catalog = Self::default();
        let mut found = catalog.read_headers(platform, dir, route)?;
        let mut counts: BTreeMap<u128, usize> = BTreeMap::new();
        for entry in &found {
            *counts.entry(entry.header.log_id).or_default() += 1;
        }
        let most = counts.iter().max_by_key(|(_, count)| **count).map(|(id, _)| *id);
        catalog.log_id = preferred.filter(|id| counts.contains_key(id)).or(most);
        found.sort_by(|left, right| {
            (left.header.sequence, &left.path).cmp(&(right.header.sequence, &right.path))
        });
        for entry in found {
            if Some(entry.header.log_id) != catalog.log_id {
                catalog.ignore(&entry.path, "it belongs to another log");
            } else if catalog
                .entries
                .last()
                .is_some_and(|last| last.header.sequence == entry.header.sequence)
            {
                catalog.ignore(&entry.path, "it is a copy of another segment here");
            } else {
                catalog.entries.push(entry);
            }
        }
        for index in 0..catalog.entries.len() {
            catalog.find_first(platform, index)?;
        }
        Ok(catalog)
    }

    fn read_headers(
        &mut self,
        platform: &dyn Platform,
        dir: &Path,
        route: Option<&RouteName>,
    ) -> Result<Vec<Entry>, IoFault> {
        let mut found = Vec::new();
        for file in platform.list(dir).at("list", dir)? {
            if file.is_directory || !naming::is_segment(&file.name) {
                continue;
            }
            let path = dir.join(&file.name);
            self.names.push(file.name);
            let opened = match SegmentFile::open(platform, &path, true) {
                // Removed by retention since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                result => result.at("read", &path)?,
            };
            match opened {
                Err(fault) => self.ignore(&path, &fault.to_string()),
                Ok(segment) if route.is_some_and(|route| segment.header.route != *route) => {
                    self.ignore(&path, &format!("it belongs to route {}", segment.header.route));
                }
                Ok(segment) => found.push(Entry {
                    path,
                    header: segment.header,
                    file_bytes: file.bytes,
                    first_lsn: None,
                    begins_damaged: false,
                }),
            }
        }
        Ok(found)
    }

    fn ignore(&mut self, path: &Path, reason: &str) {
        self.ignored.push(IgnoredFile { path: path.to_owned(), reason: reason.to_owned() });
    }

    /// Reads where a segment begins from its first batch, judged by the batch's header.
    fn find_first(&mut self, platform: &dyn Platform, index: usize) -> Result<(), IoFault> {
        let entry = &mut self.entries[index];
        let Some(mut file) = reopen(platform, entry)? else { return Ok(()) };
        let header = batch_header(platform, &mut file, SEGMENT_HEADER_BYTES as u64);
        entry.first_lsn = header.at("read", &entry.path)?.map(|header| header.first_lsn);
        Ok(())
    }

    /// Looks again: new segments appear, removed ones vanish, and a prepared one may have begun.
    pub(crate) fn refresh(&mut self, platform: &dyn Platform, dir: &Path) -> Result<(), IoFault> {
        let mut names: Vec<String> = Vec::new();
        for file in platform.list(dir).at("list", dir)? {
            if !file.is_directory && naming::is_segment(&file.name) {
                names.push(file.name);
            }
        }
        names.sort();
        self.names.sort();
        if names != self.names {
            *self = Self::load(platform, dir, self.log_id, None)?;
        }
        for index in 0..self.entries.len() {
            if self.entries[index].first_lsn.is_none() {
                self.find_first(platform, index)?;
            }
        }
        self.find_damaged_firsts(platform)
    }

    /// Finds where segments begin whose first batch is not valid, by their first valid one. A
    /// blank segment behind all others is only a prepared one; a blank beginning before others
    /// is damage.
    pub(crate) fn find_damaged_firsts(&mut self, platform: &dyn Platform) -> Result<(), IoFault> {
        let last_begun = self.entries.iter().rposition(|entry| entry.first_lsn.is_some());
        let mut next_first = None;
        for (index, entry) in self.entries.iter_mut().enumerate().rev() {
            if entry.first_lsn.is_none()
                && let Some(mut file) = reopen(platform, entry)?
            {
                let start = SEGMENT_HEADER_BYTES as u64;
                let is_blank = file.is_blank(platform, start).at("read", &entry.path)?;
                let is_last = last_begun.is_none_or(|last| index > last);
                if !(is_blank && is_last) {
                    let found = Aftermath::survey(platform, &mut file, start, Lsn(1), 0);
                    let later = found.at("read", &entry.path)?.later;
                    entry.first_lsn = later.map(|(_, header)| header.first_lsn).or(next_first);
                    entry.begins_damaged = true;
                }
            }
            next_first = entry.first_lsn.or(next_first);
        }
        Ok(())
    }

    /// The first segment behind the one at `index` that holds anything.
    pub(crate) fn next_used(&self, index: usize) -> Option<usize> {
        let used = |entry: &Entry| entry.first_lsn.is_some() || entry.begins_damaged;
        (index + 1..self.entries.len()).find(|next| used(&self.entries[*next]))
    }

    /// Where the LSNs of the segment at `index` end: where a later segment begins. Of two
    /// batches with the same LSNs, the one in the later segment has the higher epoch.
    pub(crate) fn superseded_from(&self, index: usize) -> Option<Lsn> {
        self.entries[index + 1..].iter().filter_map(|entry| entry.first_lsn).min()
    }
}

/// Opens a segment of the catalog. `None`: retention has removed it.
pub(crate) fn reopen(
    platform: &dyn Platform,
    entry: &Entry,
) -> Result<Option<SegmentFile>, IoFault> {
    match SegmentFile::open(platform, &entry.path, true) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => Ok(result.at("read", &entry.path)?.ok()),
    }
}
