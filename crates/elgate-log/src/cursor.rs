//! Cursors: how far a reader has come, in a file that survives being torn.
//!
//! ```text
//! two slots of 4,096 bytes, written in turn; the valid one with the higher generation counts
//!
//! byte 0x00  magic u64 "ELGCURS1"
//!      0x08  generation u64
//!      0x10  lsn u64              last record the reader is done with
//!      0x18  extra 4 x u64        the reader's own
//!      0x38  crc32c u32           of bytes 0x00..0x38
//! ```
//!
//! A file in which neither is valid is replaced; a copy is kept as `<name>.cursor.damaged-<n>`.

use crate::bytes::{checksum, get_u32, get_u64, is_blank, put};
use crate::error::{AtPath, CursorError, IoFault};
use crate::naming::{cursor_path, cursors_dir};
use crate::quarantine::remove_if_there;
use crate::unreadable::{insist, is_media_error};
use elgate_io::{Buffer, Completion, File, Op, OpenOptions, Outcome, Platform};
use elgate_types::limits::BLOCK_BYTES;
use elgate_types::{Lsn, RouteName, kill_site};
use std::io;
use std::path::{Path, PathBuf};

const MAGIC: u64 = u64::from_le_bytes(*b"ELGCURS1");
const SLOT_BYTES: usize = BLOCK_BYTES;
const AT_CRC: usize = 0x38;
const EXTENSION: &str = ".cursor";

/// What a reader keeps beside its position.
pub type Extra = [u64; 4];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Slot {
    generation: u64,
    lsn: Lsn,
    extra: Extra,
}

impl Slot {
    fn encode(&self) -> Buffer {
        let mut bytes = Buffer::with_capacity(SLOT_BYTES);
        bytes.extend_zeros(SLOT_BYTES);
        put(&mut bytes, 0x00, &MAGIC.to_le_bytes());
        put(&mut bytes, 0x08, &self.generation.to_le_bytes());
        put(&mut bytes, 0x10, &self.lsn.0.to_le_bytes());
        for (index, value) in self.extra.iter().enumerate() {
            put(&mut bytes, 0x18 + index * 8, &value.to_le_bytes());
        }
        let crc = checksum(0, &bytes[..AT_CRC]);
        put(&mut bytes, AT_CRC, &crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < AT_CRC + 4
            || get_u64(bytes, 0) != MAGIC
            || checksum(0, &bytes[..AT_CRC]) != get_u32(bytes, AT_CRC)
        {
            return None;
        }
        let extra = [0, 1, 2, 3].map(|index| get_u64(bytes, 0x18 + index * 8));
        Some(Self { generation: get_u64(bytes, 0x08), lsn: Lsn(get_u64(bytes, 0x10)), extra })
    }
}

/// The two slots as found: the current one and where it is. `Err` if something was there and
/// none of it is valid.
fn choose(bytes: &[u8]) -> Result<(Slot, usize), ()> {
    let slot = |index: usize| bytes.get(index * SLOT_BYTES..).and_then(Slot::decode);
    match (slot(0), slot(1)) {
        (Some(first), Some(second)) if first.generation > second.generation => Ok((first, 0)),
        (_, Some(second)) => Ok((second, 1)),
        (Some(first), None) => Ok((first, 0)),
        (None, None) if is_blank(bytes) => Ok((Slot::default(), 1)),
        (None, None) => Err(()),
    }
}

/// One reader's position. The file stays locked while the value lives.
#[derive(Debug)]
pub struct Cursor {
    file: File,
    path: PathBuf,
    current: Slot,
    current_index: usize,
    saving: Option<Slot>,
    /// The copy of a damaged file that this one replaces.
    lost: Option<PathBuf>,
    /// That file: its lock keeps out who had it open already.
    #[expect(dead_code, reason = "held for its lock")]
    replaced: Option<File>,
}

impl Cursor {
    /// Opens the cursor `name` of the log in `dir`, creating it at [`Lsn::ZERO`]. Blocking.
    /// A created cursor is durable when this returns, so retention respects it from then on.
    ///
    /// One that cannot be read starts over there too, and says so ([`lost`](Self::lost)); the
    /// damaged file is kept beside it.
    ///
    /// # Errors
    /// [`CursorError`].
    pub fn open(platform: &dyn Platform, dir: &Path, name: &str) -> Result<Self, CursorError> {
        if !RouteName::is_valid(name.as_bytes()) {
            return Err(CursorError::Name(name.chars().take(80).collect()));
        }
        let cursors = cursors_dir(dir);
        platform.create_directories(&cursors).at("create", &cursors)?;
        let path = cursor_path(dir, name);
        let options = OpenOptions { read: true, write: true, ..Default::default() };
        let mut cursor = match platform.open(&path, options) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::create(platform, path, None)?
            }
            file => {
                let file = lock(platform, file.at("open", &path)?, &path)?;
                let bytes = read_slots(platform, &file, &path)?;
                match choose(&bytes) {
                    Ok((current, current_index)) if current.generation > 0 => {
                        let (saving, lost, replaced) = (None, None, None);
                        Self { file, path, current, current_index, saving, lost, replaced }
                    }
                    _ => {
                        keep(platform, &file, &bytes, &path)?;
                        Self::create(platform, path, Some(file))?
                    }
                }
            }
        };
        // Always: whoever created the file may have failed before its name was durable.
        platform.sync_directory(&cursors).at("sync", &cursors)?;
        if cursor.lsn() == Lsn::ZERO {
            cursor.lost = kept_files(platform, &cursor.path)?.pop();
        }
        Ok(cursor)
    }

    /// Makes the file whole before it has its name: one that is blank was never so. It takes the
    /// name of a lost one, for retention must not find none in between.
    fn create(
        platform: &dyn Platform,
        path: PathBuf,
        replaced: Option<File>,
    ) -> Result<Self, CursorError> {
        let unfinished = beside(&path, "unfinished");
        let options = OpenOptions { read: true, write: true, create: true, ..Default::default() };
        let file = platform.open(&unfinished, options).at("create", &unfinished)?;
        let file = lock(platform, file, &path)?;
        let read = OpenOptions { read: true, ..Default::default() };
        if replaced.is_none() && platform.open(&path, read).is_ok() {
            // Somebody else was faster.
            remove_if_there(platform, &unfinished)?;
            return Err(CursorError::InUse { path });
        }
        let current = Slot { generation: 1, ..Slot::default() };
        let mut bytes = current.encode().to_vec();
        bytes.resize(2 * SLOT_BYTES, 0);
        platform.write_at(&file, 0, &bytes, true).at("write", &unfinished)?;
        platform.rename(&unfinished, &path).at("rename a new cursor to", &path)?;
        Ok(Self { file, path, current, current_index: 0, saving: None, lost: None, replaced })
    }

    /// What to tell whoever reads: a file of this name could not be read, and nothing has been
    /// saved since. Nothing may be passed over then: go on at the first record kept.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        let kept = self.lost.as_ref().filter(|_| self.lsn() == Lsn::ZERO)?;
        Some(format!(
            "{} was damaged, so that nobody knows how far its reader had come: it starts over with \
             the first record kept, and some records come again. The damaged file is {}",
            self.path.display(),
            kept.display()
        ))
    }

    /// The last record that the reader is done with.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.current.lsn
    }

    /// What the reader saved beside it.
    #[must_use]
    pub fn extra(&self) -> Extra {
        self.current.extra
    }

    /// Saves a position. With `durable`, it survives a power cut when this returns; without, the
    /// process's death. Blocking.
    ///
    /// # Errors
    /// [`CursorError`]; the saved position is then the former one or this one.
    pub fn save_blocking(
        &mut self,
        platform: &dyn Platform,
        lsn: Lsn,
        extra: Extra,
        durable: bool,
    ) -> Result<(), CursorError> {
        let (offset, bytes) = self.prepare(lsn, extra)?;
        kill_site::pass("cursor.save.before");
        let result = platform.write_at(&self.file, offset, &bytes, durable);
        self.conclude(result)
    }

    /// Begins a save: the operation to submit. At most one at a time: its completion goes to
    /// [`saved`](Self::saved) before the next begins.
    ///
    /// # Errors
    /// [`CursorError::Backwards`].
    ///
    /// # Panics
    /// If the completion of the last save has not been handed over.
    pub fn begin_save(&mut self, lsn: Lsn, extra: Extra, durable: bool) -> Result<Op, CursorError> {
        assert!(self.saving.is_none(), "one save of a cursor at a time");
        let (offset, buffer) = self.prepare(lsn, extra)?;
        kill_site::pass("cursor.save.before");
        Ok(Op::Write { file: self.file.clone(), offset, buffer, durable })
    }

    /// Whether a save is under way.
    #[must_use]
    pub fn is_saving(&self) -> bool {
        self.saving.is_some()
    }

    /// Takes the completion of a save.
    ///
    /// # Errors
    /// [`CursorError::Io`]; the saved position is then the former one or the new one, and the
    /// next save overwrites the slot in question.
    pub fn saved(&mut self, completion: Completion) -> Result<(), CursorError> {
        let result = match completion.result {
            Ok(Outcome::Bytes(SLOT_BYTES)) => Ok(()),
            Ok(_) => Err(io::Error::new(io::ErrorKind::WriteZero, "the write came up short")),
            Err(error) => Err(error),
        };
        self.conclude(result)
    }

    fn prepare(&mut self, lsn: Lsn, extra: Extra) -> Result<(u64, Buffer), CursorError> {
        if lsn < self.current.lsn {
            return Err(CursorError::Backwards { at: self.current.lsn, to: lsn });
        }
        let next = Slot { generation: self.current.generation + 1, lsn, extra };
        self.saving = Some(next);
        let offset = if self.current_index == 0 { SLOT_BYTES } else { 0 };
        Ok((offset as u64, next.encode()))
    }

    fn conclude(&mut self, result: io::Result<()>) -> Result<(), CursorError> {
        let saving = self.saving.take();
        result.at("save", &self.path)?;
        if let Some(slot) = saving {
            self.current = slot;
            self.current_index = 1 - self.current_index;
        }
        kill_site::pass("cursor.save.after");
        Ok(())
    }
}

/// A cursor as found on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorInfo {
    /// The reader's name.
    pub name: String,
    /// The last record it is done with.
    pub lsn: Lsn,
    /// What it keeps beside.
    pub extra: Extra,
}

/// Every cursor of the log in `dir`, by name. Blocking; disturbs nobody.
///
/// # Errors
/// [`CursorError`], also when one of them is damaged.
pub fn list_cursors(platform: &dyn Platform, dir: &Path) -> Result<Vec<CursorInfo>, CursorError> {
    each_cursor(platform, dir)?.into_iter().collect()
}

/// Every cursor of a log, by name, or why it cannot be read.
pub(crate) fn each_cursor(
    platform: &dyn Platform,
    dir: &Path,
) -> Result<Vec<Result<CursorInfo, CursorError>>, IoFault> {
    let cursors = cursors_dir(dir);
    let entries = match platform.list(&cursors) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.at("list", &cursors)?,
    };
    let files = entries.iter().filter(|entry| entry.is_file);
    let mut names: Vec<&str> = files.filter_map(|file| file.name.strip_suffix(EXTENSION)).collect();
    names.sort_unstable();
    let found = names.into_iter().map(|name| {
        let path = cursor_path(dir, name);
        let slot = read(platform, &path)?.ok_or(CursorError::Corrupt { path })?;
        Ok(CursorInfo { name: name.to_owned(), lsn: slot.lsn, extra: slot.extra })
    });
    Ok(found.collect())
}

fn read(platform: &dyn Platform, path: &Path) -> Result<Option<Slot>, IoFault> {
    let options = OpenOptions { read: true, ..Default::default() };
    let file = platform.open(path, options).at("open", path)?;
    Ok(choose(&read_slots(platform, &file, path)?).ok().map(|(slot, _)| slot))
}

/// Both slots; one that the device cannot read is neither valid nor blank.
fn read_slots(platform: &dyn Platform, file: &File, path: &Path) -> Result<Vec<u8>, IoFault> {
    let mut bytes = vec![0; 2 * SLOT_BYTES];
    for (index, slot) in bytes.chunks_mut(SLOT_BYTES).enumerate() {
        match insist(platform, file, (index * SLOT_BYTES) as u64, slot) {
            Err(error) if is_media_error(&error) => slot.fill(0xff),
            result => drop(result.at("read", path)?),
        }
    }
    Ok(bytes)
}

fn lock(platform: &dyn Platform, file: File, path: &Path) -> Result<File, CursorError> {
    match platform.try_lock(&file).at("lock", path)? {
        true => Ok(file),
        false => Err(CursorError::InUse { path: path.to_owned() }),
    }
}

/// A file beside a cursor, by a name that is no cursor's.
fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    name.into()
}

const KEPT: &str = "damaged";

/// Damaged files that were put aside.
fn kept_files(platform: &dyn Platform, path: &Path) -> Result<Vec<PathBuf>, IoFault> {
    let dir = path.parent().unwrap_or(path);
    let first = beside(path, KEPT);
    let prefix = first.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let entries = platform.list(dir).at("list", dir)?;
    let kept = entries.into_iter().filter(|entry| entry.name.starts_with(prefix));
    let mut kept: Vec<PathBuf> = kept.map(|entry| dir.join(entry.name)).collect();
    kept.sort_unstable();
    Ok(kept)
}

/// Keeps a copy of a damaged file, durably but for its name.
fn keep(platform: &dyn Platform, file: &File, bytes: &[u8], path: &Path) -> Result<(), IoFault> {
    let taken = kept_files(platform, path)?;
    let mut names = (1..).map(|number| beside(path, &format!("{KEPT}-{number}")));
    let copy = names.find(|name| !taken.contains(name)).unwrap_or_else(|| beside(path, KEPT));
    let size = platform.size(file).at("inspect", path)?.min(bytes.len() as u64);
    let options = OpenOptions { write: true, create: true, ..Default::default() };
    let target = platform.open(&copy, options).at("create", &copy)?;
    platform.write_at(&target, 0, &bytes[..size as usize], true).at("write", &copy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file_of(slots: [Option<Slot>; 2]) -> Vec<u8> {
        let mut bytes = vec![0; 2 * SLOT_BYTES];
        for (index, slot) in slots.iter().enumerate() {
            if let Some(slot) = slot {
                bytes[index * SLOT_BYTES..][..SLOT_BYTES].copy_from_slice(&slot.encode());
            }
        }
        bytes
    }

    proptest! {
        #[test]
        fn slots_round_trip(generation in any::<u64>(), lsn in any::<u64>(), extra in any::<[u64; 4]>()) {
            let slot = Slot { generation, lsn: Lsn(lsn), extra };
            prop_assert_eq!(Slot::decode(&slot.encode()), Some(slot));
        }
    }

    #[test]
    fn a_torn_slot_leaves_the_other_one() {
        let old = Slot { generation: 7, lsn: Lsn(70), extra: [1; 4] };
        let new = Slot { generation: 8, lsn: Lsn(80), extra: [2; 4] };
        for (index, slots) in
            [[Some(new), Some(old)], [Some(old), Some(new)]].into_iter().enumerate()
        {
            let whole = file_of(slots);
            assert_eq!(choose(&whole), Ok((new, index)));
            for bit in 0..(AT_CRC + 4) * 8 {
                let mut torn = whole.clone();
                torn[index * SLOT_BYTES + bit / 8] ^= 1 << (bit % 8);
                assert_eq!(choose(&torn), Ok((old, 1 - index)), "bit {bit}");
            }
        }
        assert_eq!(choose(&[]), Ok((Slot::default(), 1)));
        assert_eq!(choose(&[7; 2 * SLOT_BYTES]), Err(()));
    }
}
