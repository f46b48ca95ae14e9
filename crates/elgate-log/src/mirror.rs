//! The mirror: a twin of each segment in a second directory, best on another device, with the
//! same name and the same bytes. This file has its blocking parts; `writer/mirror.rs` writes to it.
//!
//! A twin is *complete* once it has its segment's footer, which is written to it last of all. What
//! the mirror missed while its device was away is copied later ([`catch_up`]), segment by segment,
//! and only what validates here: what is damaged in one place may be whole in the other, and then
//! it is `fsck` that tells them apart.

use crate::batch::{BatchHeader, WINDOW_BYTES};
use crate::error::{AtPath, IoFault};
use crate::index::{FOOTER_BYTES, Footer};
use crate::naming;
use crate::preparer::{self, Fill};
use crate::segment_file::{SegmentFile, open_segment};
use crate::segment_header::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::unreadable::is_media_error;
use elgate_io::{Buffer, File, Platform};
use elgate_types::seeded_bug;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Memory for comparing; larger batches get more.
const PIECE_BYTES: usize = 1024 * 1024;

/// Where the twin of a segment is.
pub(crate) fn twin_path(mirror: &Path, segment: &Path) -> PathBuf {
    mirror.join(segment.file_name().unwrap_or_default())
}

/// The twin of a segment in which nothing has been written: the one that is there, or a new one.
/// What an attempt that came to nothing has left in the one that is there goes.
pub(crate) fn blank_twin(
    platform: &dyn Platform,
    mirror: &Path,
    segment: &Path,
    header: &SegmentHeader,
    direct: bool,
    fill: Fill,
) -> Result<File, IoFault> {
    make_directory(platform, mirror)?;
    let path = twin_path(mirror, segment);
    if let Some(file) = existing_twin(platform, &path, header, direct)? {
        refuse_the_same(platform, &file, &path, segment)?;
        cut(platform, &file, &path, header, SEGMENT_HEADER_BYTES as u64)?;
        return Ok(file);
    }
    // A segment that says it is fresh must have a twin that is.
    if header.is_recycled
        && let Some(retired) = retired_file(platform, mirror, header.segment_bytes)?
        && let Ok(file) = preparer::recycle(platform, &retired, header, &path, direct)
    {
        return Ok(file);
    }
    preparer::create(platform, header, &path, direct, fill)
}

/// A mirror that is the log's own directory by another name is none.
fn refuse_the_same(
    platform: &dyn Platform,
    twin: &File,
    path: &Path,
    segment: &Path,
) -> Result<(), IoFault> {
    let own = open_segment(platform, segment, false, false).at("open", segment)?;
    let theirs = platform.identity(twin).at("inspect", path)?;
    if platform.identity(&own).at("inspect", segment)? == theirs {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "it is the log's own directory");
        return Err(error).at("mirror to", path);
    }
    Ok(())
}

/// Only the log's own directory is made: where the one above is missing, a device is not mounted,
/// and the mirror would grow where nobody wants it.
fn make_directory(platform: &dyn Platform, mirror: &Path) -> Result<(), IoFault> {
    let root = mirror.parent().unwrap_or(mirror);
    platform.list(root).at("find the mirror's directory", root)?;
    platform.create_directories(mirror).at("create", mirror)
}

/// The twin at `path`, if its header is the segment's; its name is durable then, for whoever made it
/// may have died before.
fn existing_twin(
    platform: &dyn Platform,
    path: &Path,
    header: &SegmentHeader,
    direct: bool,
) -> Result<Option<File>, IoFault> {
    let file = match open_segment(platform, path, true, direct) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.at("open", path)?,
    };
    let mut block = Buffer::with_capacity(SEGMENT_HEADER_BYTES);
    block.set_length(SEGMENT_HEADER_BYTES);
    let count = platform.read_at(&file, 0, &mut block).at("read", path)?;
    let is_whole = platform.size(&file).at("inspect", path)? == header.segment_bytes;
    if count < block.len() || !is_whole || block[..] != header.encode()[..] {
        return Ok(None);
    }
    if let Some(mirror) = path.parent() {
        platform.sync_directory(mirror).at("sync", mirror)?;
    }
    Ok(Some(file))
}

fn retired_file(
    platform: &dyn Platform,
    mirror: &Path,
    bytes: u64,
) -> Result<Option<PathBuf>, IoFault> {
    let entries = platform.list(mirror).at("list", mirror)?;
    let fits = |entry: &elgate_io::DirectoryEntry| {
        entry.bytes == bytes && entry.is_file && naming::is_retired(&entry.name)
    };
    Ok(entries.into_iter().find(fits).map(|entry| mirror.join(entry.name)))
}

/// Those of these segments of which the mirror has no file.
pub(crate) fn without_twin(
    platform: &dyn Platform,
    mirror: &Path,
    mut segments: Vec<PathBuf>,
) -> Vec<PathBuf> {
    match platform.list(mirror) {
        Ok(entries) => {
            let there: BTreeSet<PathBuf> =
                entries.into_iter().map(|entry| mirror.join(entry.name)).collect();
            segments.retain(|segment| !there.contains(&twin_path(mirror, segment)));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // Whoever writes there will meet it.
        Err(_) => segments.clear(),
    }
    segments
}

/// The twin of the segment that writing goes on in at `end`, brought up to date. What lies behind
/// in the twin was never acknowledged, and goes. `None`: there is no twin, or the segment itself
/// is damaged, so that the two cannot be made the same here.
pub(crate) fn rejoin(
    platform: &dyn Platform,
    mirror: &Path,
    segment: &mut SegmentFile,
    end: u64,
    direct: bool,
) -> Result<Option<File>, IoFault> {
    let path = twin_path(mirror, &segment.path);
    let Some(file) = existing_twin(platform, &path, &segment.header, direct)? else {
        return Ok(None);
    };
    refuse_the_same(platform, &file, &path, &segment.path)?;
    if copy_batches(platform, segment, &file, &path, end)? < end {
        return Ok(None);
    }
    cut(platform, &file, &path, &segment.header, end)?;
    Ok(Some(file))
}

/// Makes sure that no batch follows in a twin at `end` or behind.
fn cut(
    platform: &dyn Platform,
    twin: &File,
    path: &Path,
    header: &SegmentHeader,
    end: u64,
) -> Result<(), IoFault> {
    let window_end = (end + WINDOW_BYTES).min(header.usable_end());
    platform.zero_fill(twin, end, window_end - end).at("cut", path)?;
    platform.sync(twin).at("sync", path)
}

/// Writes every batch of the segment before `end` to its twin where that differs, as far as they
/// are valid; returns where that ends. Not synced.
fn copy_batches(
    platform: &dyn Platform,
    segment: &mut SegmentFile,
    twin: &File,
    twin_path: &Path,
    end: u64,
) -> Result<u64, IoFault> {
    let (path, salt) = (segment.path.clone(), segment.header.salt);
    let mut theirs = Buffer::with_capacity(PIECE_BYTES);
    let mut at = SEGMENT_HEADER_BYTES as u64;
    while at < end {
        let Some(batch) = segment.batch_at(platform, at).at("read", &path)? else { break };
        let bytes = batch.batch_bytes as usize;
        if bytes > theirs.capacity() {
            theirs = Buffer::with_capacity(bytes);
        }
        theirs.set_length(bytes);
        let count = platform.read_at(twin, at, &mut theirs).at("read", twin_path)?;
        let ours = segment.read(platform, at, bytes).at("read", &path)?;
        let is_first = at == SEGMENT_HEADER_BYTES as u64;
        let skips = is_first && seeded_bug::is("mirror-catch-up-skips-a-batch");
        if (count != bytes || ours != &theirs[..]) && !skips {
            let is_stale = BatchHeader::decode(&theirs[..count], salt).is_some();
            // By way of aligned memory: both may be open past the page cache.
            theirs.copy_from_slice(ours);
            platform.write_at(twin, at, &theirs, false).at("write", twin_path)?;
            if is_stale {
                // An attempt that came to nothing. It is gone for good before anything stands in the
                // twin that says what was here was durable.
                platform.sync(twin).at("sync", twin_path)?;
            }
        }
        at += bytes as u64;
    }
    Ok(at)
}

/// Brings the twin of a segment that is no longer written up to date: it gets every batch that
/// validates here and is not the same there, and at last the footer, if it then lacks nothing.
pub(crate) fn catch_up(
    platform: &dyn Platform,
    mirror: &Path,
    segment: &Path,
    direct: bool,
) -> Result<(), IoFault> {
    let opened = match SegmentFile::open(platform, segment, true) {
        // Retention has removed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result.at("read", segment)?,
    };
    let Ok(ours) = opened else { return Ok(()) };
    // What the device cannot read here is as good as damaged: the twin may have it.
    let mut ours = ours.read_around();
    let header = ours.header.clone();
    let footer = read_footer(platform, segment, &header, direct)?;
    let path = twin_path(mirror, segment);
    make_directory(platform, mirror)?;
    let twin = match existing_twin(platform, &path, &header, direct)? {
        Some(file) => file,
        None => preparer::create(platform, &header, &path, direct, Fill::Allocated)?,
    };
    if let Some((bytes, _)) = &footer {
        let mut theirs = Buffer::with_capacity(FOOTER_BYTES);
        theirs.set_length(FOOTER_BYTES);
        let count = platform.read_at(&twin, header.usable_end(), &mut theirs).at("read", &path)?;
        if count == FOOTER_BYTES && theirs[..] == bytes[..] {
            return Ok(());
        }
    }
    let end = ours.end();
    let at = copy_batches(platform, &mut ours, &twin, &path, end)?;
    platform.sync(&twin).at("sync", &path)?;
    match footer {
        // It says that the twin is complete: not before all the rest is stable.
        Some((bytes, footer)) if at >= footer.end => {
            platform.write_at(&twin, header.usable_end(), &bytes, true).at("write", &path)
        }
        _ => Ok(()),
    }
}

/// A segment's footer, if it has one, with its bytes.
fn read_footer(
    platform: &dyn Platform,
    segment: &Path,
    header: &SegmentHeader,
    direct: bool,
) -> Result<Option<(Buffer, Footer)>, IoFault> {
    let file = open_segment(platform, segment, false, direct).at("open", segment)?;
    let mut bytes = Buffer::with_capacity(FOOTER_BYTES);
    bytes.set_length(FOOTER_BYTES);
    let count = match platform.read_at(&file, header.usable_end(), &mut bytes) {
        Err(error) if is_media_error(&error) => 0,
        result => result.at("read", segment)?,
    };
    bytes.set_length(count);
    Ok(Footer::decode(&bytes, header).map(|footer| (bytes, footer)))
}
