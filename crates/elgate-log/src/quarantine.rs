//! Damaged ranges are copied aside before anything is done about them.

use crate::error::{AtPath, IoFault};
use crate::naming;
use crate::segment_file::SegmentFile;
use elgate_io::{OpenOptions, Platform};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

const PIECE_BYTES: u64 = 1024 * 1024;

/// Where the copy of a range of a segment goes: named after both, so that finding the same damage
/// twice copies it once.
pub(crate) fn copy_path(dir: &Path, segment: &Path, range: &Range<u64>) -> PathBuf {
    let name = segment.file_name().and_then(|name| name.to_str()).unwrap_or("segment");
    naming::quarantine_dir(dir).join(format!("{name}-{}-{}", range.start, range.end))
}

/// Copies a range of a segment into the quarantine folder. A copy is either whole or not there.
pub(crate) fn copy(
    platform: &dyn Platform,
    dir: &Path,
    file: &mut SegmentFile,
    range: &Range<u64>,
) -> Result<PathBuf, IoFault> {
    let target = copy_path(dir, &file.path, range);
    let folder = naming::quarantine_dir(dir);
    platform.create_directories(&folder).at("create", &folder)?;
    let existing = platform.list(&folder).at("list", &folder)?;
    if existing.iter().any(|entry| target.ends_with(&entry.name)) {
        return Ok(target);
    }
    let source = file.path.clone();
    let mut read = |at, bytes| Ok(file.read(platform, at, bytes).at("read", &source)?.to_vec());
    write(platform, &folder, &target, range, &mut read)?;
    Ok(target)
}

/// Writes a range, as `read` yields it in pieces (nothing at its end), to `target` in the
/// quarantine folder: whole and durable when this returns, or not there.
pub(crate) fn write(
    platform: &dyn Platform,
    folder: &Path,
    target: &Path,
    range: &Range<u64>,
    read: &mut dyn FnMut(u64, usize) -> Result<Vec<u8>, IoFault>,
) -> Result<(), IoFault> {
    let unfinished = folder.join("copy.unfinished");
    let options = OpenOptions { read: true, write: true, create: true, ..Default::default() };
    let copy = platform.open(&unfinished, options).at("create", &unfinished)?;
    platform.set_size(&copy, 0).at("truncate", &unfinished)?;
    let mut at = range.start;
    while at < range.end {
        let bytes = read(at, (range.end - at).min(PIECE_BYTES) as usize)?;
        if bytes.is_empty() {
            break;
        }
        platform.write_at(&copy, at - range.start, &bytes, false).at("write", &unfinished)?;
        at += bytes.len() as u64;
    }
    platform.sync(&copy).at("sync", &unfinished)?;
    platform.rename(&unfinished, target).at("rename a copy to", target)?;
    platform.sync_directory(folder).at("sync", folder)
}

/// Removes a segment's leftover, whatever became of it.
pub(crate) fn remove_if_there(platform: &dyn Platform, path: &Path) -> Result<(), IoFault> {
    match platform.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at("remove", path),
        _ => Ok(()),
    }
}
