//! Opening a log for writing: recovery, and a writer that goes on where the log ends.

use crate::batch::COUNT_MAX;
use crate::batch_builder::BufferPool;
use crate::catalog::{Catalog, Entry, IgnoredFile, Wanted};
use crate::cursor::each_cursor;
use crate::error::{AtPath, IoFault, OpenError};
use crate::head::{HeadWriter, Watermarks};
use crate::index::Footer;
use crate::naming;
use crate::options::LogOptions;
use crate::plan::{Gap, HeadNotes, Plan};
use crate::preparer::{Fill, Order, Prepared};
use crate::quarantine;
use crate::replayable::Replayable;
use crate::segment_file::{SegmentFile, open_segment};
use crate::sources::SourceSpan;
use crate::stats::Counters;
use crate::tail_cache::TailCache;
use crate::writer::{Active, LogWriter, SPARES_MAX, SegmentSpan};
use elgate_io::{OpenOptions, Platform};
use elgate_types::limits::BLOCK_BYTES;
use elgate_types::{Lsn, RouteName, kill_site, seeded_bug};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// What opening a log found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The LSN that the next record will get.
    pub next_lsn: Lsn,
    /// Every record up to here is on stable storage now.
    pub durable: Lsn,
    /// Bytes of a torn tail that were cut: never acknowledged.
    pub torn_bytes: u64,
    /// Acknowledged records that are damaged. Everything else is served.
    pub quarantined: Vec<Gap>,
    /// Files among the segments that do not belong to this log or cannot be read. Left alone.
    pub ignored: Vec<IgnoredFile>,
    /// Submissions found in the log, per ring in order of position: those of its end, and all that
    /// may be [handed over again](LogOptions::handed_over_again).
    pub sources: Vec<SourceSpan>,
}

/// Opens the log in `dir` for writing, creating it if it is not there. Blocking: run it off the
/// shard's thread. When it returns, everything it reports as durable is; a torn tail is gone; and
/// the first segment exists.
///
/// Running it again, or after it was killed at any point, gives the same result.
///
/// # Errors
/// [`OpenError`]. Damage is not an error: it is reported in [`Recovery`] and served around.
pub fn open(
    platform: Arc<dyn Platform>,
    dir: &Path,
    route: &RouteName,
    options: LogOptions,
) -> Result<(LogWriter, Recovery), OpenError> {
    options.check().map_err(OpenError::Options)?;
    let platform = &*platform;
    platform.create_directories(dir).at("create", dir)?;
    refuse_obstacles(platform, dir)?;
    let Some(head) = HeadWriter::lock(platform, dir)? else {
        return Err(OpenError::InUse { dir: dir.to_owned() });
    };
    platform.sync_directory(dir).at("sync", dir)?;
    quarantine::remove_if_there(platform, &dir.join(naming::PREPARING))?;
    let reusable = retired_files(platform, dir, options.segment_bytes)?;

    let previous = head.previous();
    let log_id = previous.map(|(log_id, _)| log_id);
    let wanted = Wanted { log_id, route: Some(route), reads_around: true };
    let mut catalog = Catalog::load(platform, dir, wanted)?;
    // The head file counts if it is this log's, or if all its segments are gone; and if what it
    // says can be.
    let marks = previous
        .filter(|(log_id, _)| catalog.log_id.is_none_or(|found| found == *log_id))
        .map(|(_, marks)| marks)
        .filter(Watermarks::are_plausible);
    let index = marks.and_then(|marks| head.previous_index(marks.active_sequence));
    let notes = HeadNotes { marks, index: index.unwrap_or_default() };
    let (passed, again) = (passed(platform, dir), &options.handed_over_again);
    let plan = Plan::make(platform, dir, &mut catalog, &notes, passed, again)?;
    kill_site::pass("log.recovery.scanned");
    let gaps = put_aside(platform, dir, &catalog, &plan);
    repair(platform, &catalog, &plan)?;

    let log_id = catalog.log_id.or(previous.map(|(log_id, _)| log_id)).unwrap_or_else(|| {
        u128::from(platform.random_u64()) << 64 | u128::from(platform.random_u64())
    });
    let recovery = Recovery {
        next_lsn: plan.next,
        durable: Lsn(plan.next.0 - 1),
        torn_bytes: plan.cuts.iter().map(|(_, range)| range.end - range.start).sum(),
        quarantined: gaps,
        ignored: std::mem::take(&mut catalog.ignored),
        sources: plan.sources.into_spans(),
    };
    let sequences = catalog.entries.iter().filter_map(|entry| Some(entry.header()?.sequence));
    let last_sequence = sequences.max().unwrap_or(0);
    let mut writer = LogWriter {
        dir: dir.to_owned(),
        route: route.clone(),
        log_id,
        head,
        open: None,
        pending: VecDeque::new(),
        pending_bytes: 0,
        flights: VecDeque::new(),
        flight_bytes: 0,
        held: VecDeque::new(),
        held_bytes: 0,
        pool: BufferPool::default(),
        usual_batch_bytes: BLOCK_BYTES,
        cache: TailCache::new(options.tail_cache_bytes),
        replayable: Replayable::new(&recovery.sources),
        active: None,
        spares: VecDeque::new(),
        segments: spans(platform, &mut catalog, plan.last_used)?,
        mirror: None,
        twin_ops: VecDeque::new(),
        roll_wanted: false,
        reusable,
        discard: Vec::new(),
        next_sequence: last_sequence.max(marks.map_or(0, |marks| marks.active_sequence))
            + catalog.headless.len() as u64
            + 1,
        epoch: plan.epoch + u64::from(!seeded_bug::is("forget-epoch-and-torn-tail")),
        next_lsn: recovery.next_lsn,
        visible: recovery.durable,
        durable: recovery.durable,
        delivered: marks.map_or(Lsn::ZERO, |marks| marks.delivered),
        covered: plan.covered,
        sync: None,
        sync_wanted: false,
        flush_target: Lsn::ZERO,
        preparing: None,
        segment_wanted: false,
        retry_at: None,
        unsealed: VecDeque::new(),
        sealing: Vec::new(),
        retiring: None,
        mending: None,
        mend_at: None,
        retire_at: None,
        quiet_since: None,
        failure: None,
        parked: None,
        closing: false,
        closed: false,
        events: VecDeque::new(),
        next_token: 0,
        write_handed_out: false,
        counters: Counters::default(),
        options,
    };
    let resume = plan.resume_at.zip(plan.footer);
    writer.choose_segments(platform, &catalog, plan.last_used, resume)?;
    writer.join_mirror(platform);
    let start_time = process_start_time();
    if let Some(active) = &writer.active {
        writer.head.begin_index(active.sequence, active.footer.index.entries());
    }
    writer.head.start(log_id, writer.options.flush, &writer.watermarks(), start_time);
    Ok((writer, recovery))
}

/// What is no file where the log needs one. Nobody but who put it there knows whether it may go.
fn refuse_obstacles(platform: &dyn Platform, dir: &Path) -> Result<(), IoFault> {
    for entry in platform.list(dir).at("list", dir)? {
        let path = dir.join(&entry.name);
        if !entry.is_file && (path == naming::head_path(dir) || entry.name == naming::PREPARING) {
            let error = io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is not a file, and the log needs a file of this name: move it away",
            );
            return Err(error).at("use", &path);
        }
    }
    Ok(())
}

/// Retired segments that the next ones can be made of. Others, and more than are of use, go.
fn retired_files(
    platform: &dyn Platform,
    dir: &Path,
    segment_bytes: u64,
) -> Result<Vec<PathBuf>, IoFault> {
    let mut files = Vec::new();
    for file in platform.list(dir).at("list", dir)? {
        if !file.is_file || !naming::is_retired(&file.name) {
            continue;
        }
        let path = dir.join(&file.name);
        if file.bytes == segment_bytes && files.len() < SPARES_MAX {
            files.push(path);
        } else {
            quarantine::remove_if_there(platform, &path)?;
        }
    }
    Ok(files)
}

/// The last record that any reader is done with. It was there once, whatever the segments say,
/// and its number must not be given to another: the reader would pass over that.
fn passed(platform: &dyn Platform, dir: &Path) -> Lsn {
    // Cursors that cannot be read prove nothing; what to do about them is their readers' matter.
    let cursors = each_cursor(platform, dir).unwrap_or_default().into_iter().flatten();
    let plausible = cursors.map(|cursor| cursor.lsn).filter(|lsn| lsn.0 < COUNT_MAX);
    plausible.max().unwrap_or_default()
}

/// Copies damage aside. Where there is no room for a copy, the log opens all the same: the damage
/// stays where it is, and nothing is written over it. Returns the gaps, which then say so.
fn put_aside(platform: &dyn Platform, dir: &Path, catalog: &Catalog, plan: &Plan) -> Vec<Gap> {
    let mut gaps = plan.gaps.clone();
    for (index, range) in &plan.damaged {
        let path = &catalog.entries[*index].path;
        let copied = SegmentFile::open(platform, path, true).at("read", path).and_then(|file| {
            let Ok(file) = file else { return Ok(()) };
            let mut file = file.read_around();
            quarantine::copy(platform, dir, &mut file, range).map(drop)
        });
        let Err(fault) = copied else { continue };
        let copy = quarantine::copy_path(dir, path, range);
        for gap in gaps.iter_mut().filter(|gap| gap.path.as_ref() == Some(&copy)) {
            gap.path = None;
            gap.reason = format!("{}, and could not be copied aside: {fault}", gap.reason);
        }
    }
    gaps
}

/// Cuts what is torn, and makes stable what was found whole: a batch that was under way when the
/// process died may be valid and still only in some cache.
fn repair(platform: &dyn Platform, catalog: &Catalog, plan: &Plan) -> Result<(), IoFault> {
    for (index, range) in &plan.cuts {
        if seeded_bug::is("forget-epoch-and-torn-tail") {
            break;
        }
        let path = &catalog.entries[*index].path;
        let options = OpenOptions { read: true, write: true, ..Default::default() };
        let file = platform.open(path, options).at("open", path)?;
        let end = range.end.min(catalog.entries[*index].file_bytes);
        platform.zero_fill(&file, range.start, end - range.start).at("cut", path)?;
        platform.sync(&file).at("sync", path)?;
        kill_site::pass("log.recovery.cut");
    }
    let Some(last_used) = plan.last_used else { return Ok(()) };
    for entry in &catalog.entries[plan.walked_from..=last_used] {
        let options = OpenOptions { read: true, write: true, ..Default::default() };
        let file = platform.open(&entry.path, options).at("open", &entry.path)?;
        platform.sync(&file).at("sync", &entry.path)?;
    }
    Ok(())
}

/// Every segment with batches. Those that were not looked at are left so: retention looks at them
/// when it comes to them.
fn spans(
    platform: &dyn Platform,
    catalog: &mut Catalog,
    last_used: Option<usize>,
) -> Result<VecDeque<SegmentSpan>, IoFault> {
    let mut spans = VecDeque::new();
    for index in 0..last_used.map_or(0, |last| last + 1) {
        let is_seen = !catalog.entries[index].is_unseen();
        let first_lsn = if is_seen { catalog.first_lsn(platform, index)? } else { None };
        let next_created = catalog.entries.get(index + 1).and_then(Entry::header);
        let last_time = next_created.map(|header| header.created);
        let entry = &catalog.entries[index];
        let created = entry.header().map(|header| header.created);
        spans.push_back(SegmentSpan {
            sequence: entry.header().map_or(0, |header| header.sequence),
            path: entry.path.clone(),
            first_lsn,
            bytes: entry.file_bytes,
            last_time: last_time.or(created).unwrap_or_default(),
            is_known: is_seen && (last_time.is_some() || Some(index) == last_used),
        });
    }
    Ok(spans)
}

impl LogWriter {
    /// Goes on in the last segment with batches if that may be, else in one prepared earlier,
    /// else in a new one.
    fn choose_segments(
        &mut self,
        platform: &dyn Platform,
        catalog: &Catalog,
        last_used: Option<usize>,
        resume: Option<(u64, Footer)>,
    ) -> Result<(), IoFault> {
        let direct = self.options.wants_direct();
        for entry in &catalog.entries[last_used.map_or(0, |last| last + 1)..] {
            if entry.is_truncated() {
                // It holds nothing, and has no room for what it claims to.
                self.discard.push(entry.path.clone());
                continue;
            }
            let Some(header) = entry.header().cloned() else { continue };
            let file = open_segment(platform, &entry.path, true, direct).at("open", &entry.path)?;
            let path = entry.path.clone();
            self.spares.push_back(Prepared { file, path, header, twin: None });
        }
        let last = last_used.map(|index| &catalog.entries[index]);
        let resumable = last.filter(|last| !last.is_truncated());
        let header = resumable.and_then(Entry::header);
        if let (Some(entry), Some(header), Some((offset, footer))) = (resumable, header, resume) {
            self.active = Some(Active {
                file: open_segment(platform, &entry.path, true, direct).at("open", &entry.path)?,
                twin: None,
                path: entry.path.clone(),
                sequence: header.sequence,
                salt: header.salt,
                bytes: header.segment_bytes,
                usable_end: header.usable_end(),
                offset,
                is_kept: true,
                footer,
            });
            return Ok(());
        }
        if self.spares.is_empty() {
            let order = Order {
                dir: self.dir.clone(),
                mirror: self.options.mirror.clone(),
                route: self.route.clone(),
                log_id: self.log_id,
                sequence: self.next_sequence,
                segment_bytes: self.options.segment_bytes,
                direct,
                reuse: self.reusable.pop(),
                fill: Fill::Zeros,
                discard: Vec::new(),
            };
            self.next_sequence += 1;
            self.spares.push_back(order.prepare(platform)?);
        }
        Ok(())
    }
}

/// When this process began, in clock ticks since boot: with the pid, it names the process.
pub(crate) fn process_start_time() -> u64 {
    static START_TIME: OnceLock<u64> = OnceLock::new();
    *START_TIME.get_or_init(|| {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The second field, the command, may hold spaces; the start time is the 20th behind it.
        let after_command = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let field = after_command.split_whitespace().nth(19);
        field.and_then(|field| field.parse().ok()).unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_when_it_began() {
        assert!(process_start_time() > 0);
    }
}
