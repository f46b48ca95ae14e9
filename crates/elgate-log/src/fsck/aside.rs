//! What lies beside the segments: readers' cursors, the head file, the quarantine folder.

use super::check::{Check, Wrong};
use super::image::Image;
use super::report::{FindingKind, FindingOutcome};
use super::syndrome::{Culprit, find};
use crate::batch::COUNT_MAX;
use crate::bytes::{checksum, get_u32, get_u64, is_blank};
use crate::error::{AtPath, IoFault};
use crate::head::Watermarks;
use crate::naming::{cursors_dir, quarantine_dir};
use elgate_io::OpenOptions;
use elgate_types::Lsn;
use elgate_types::limits::BLOCK_BYTES;
use std::io;

const SLOT_BYTES: usize = BLOCK_BYTES;
const SLOT_MAGIC: u64 = u64::from_le_bytes(*b"ELGCURS1");
const SLOT_CRC: usize = 0x38;
const SLOT_USED: usize = SLOT_CRC + 4;

/// A cursor's slot as found.
enum Slot {
    Blank,
    Valid { generation: u64, lsn: Lsn },
    Mended { generation: u64, lsn: Lsn, bytes: Vec<u8> },
    Bad,
}

impl Slot {
    fn examine(bytes: &[u8]) -> Self {
        if is_blank(bytes) {
            return Self::Blank;
        }
        if bytes.len() < SLOT_BYTES {
            return Self::Bad;
        }
        let mut fixed = bytes.to_vec();
        fixed[SLOT_USED..].fill(0);
        let computed = checksum(0, &fixed[..SLOT_CRC]);
        match find(computed, get_u32(&fixed, SLOT_CRC), SLOT_CRC) {
            Some(Culprit::Message(bit)) => bit.flip(&mut fixed),
            Some(Culprit::Checksum(bit)) => bit.after(SLOT_CRC).flip(&mut fixed),
            None => {}
        }
        let is_valid = checksum(0, &fixed[..SLOT_CRC]) == get_u32(&fixed, SLOT_CRC)
            && get_u64(&fixed, 0) == SLOT_MAGIC;
        let (generation, lsn) = (get_u64(&fixed, 0x08), Lsn(get_u64(&fixed, 0x10)));
        match is_valid {
            false => Self::Bad,
            true if fixed == bytes => Self::Valid { generation, lsn },
            true => Self::Mended { generation, lsn, bytes: fixed },
        }
    }

    fn place(&self) -> Option<(u64, Lsn)> {
        match self {
            Self::Valid { generation, lsn } | Self::Mended { generation, lsn, .. } => {
                Some((*generation, *lsn))
            }
            Self::Blank | Self::Bad => None,
        }
    }
}

/// Whether two slots can be two saves in a row: each is the other's witness.
fn follow_each_other(slots: &[Slot; 2]) -> bool {
    match (slots[0].place(), slots[1].place()) {
        (Some(first), Some(second)) => {
            let (older, newer) = if first.0 < second.0 { (first, second) } else { (second, first) };
            newer.0 - older.0 == 1 && newer.1 >= older.1
        }
        (Some((generation, _)), None) | (None, Some((generation, _))) => generation == 1,
        (None, None) => false,
    }
}

impl Check<'_> {
    /// Looks at every reader's cursor; returns the last record that any of them has passed.
    pub(super) fn cursors(&mut self) -> Result<Lsn, IoFault> {
        let dir = cursors_dir(self.dir);
        let mut entries = match self.platform.list(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lsn::ZERO),
            result => result.at("list", &dir)?,
        };
        entries.sort_by(|left, right| left.name.cmp(&right.name));
        let mut passed = Lsn::ZERO;
        for entry in entries {
            if entry.name.ends_with(".cursor") && entry.is_file {
                let mut image =
                    Image::open(self.platform, self.dir, &format!("cursors/{}", entry.name))?;
                passed = passed.max(self.cursor(&mut image)?);
            }
        }
        Ok(passed)
    }

    fn cursor(&mut self, image: &mut Image) -> Result<Lsn, IoFault> {
        let mut bytes = image.read(self.platform, 0, 2 * SLOT_BYTES)?.to_vec();
        for _ in 0..2 {
            // A reader may be saving just now; what is wrong then is right a moment later.
            image.forget(self.platform)?;
            let again = image.read(self.platform, 0, 2 * SLOT_BYTES)?.to_vec();
            if self.live.is_some() && again != bytes {
                return Ok(Lsn::ZERO);
            }
            bytes = again;
        }
        let slot = |index: usize| {
            Slot::examine(
                bytes
                    .get(index * SLOT_BYTES..)
                    .map_or(&[], |rest| &rest[..rest.len().min(SLOT_BYTES)]),
            )
        };
        let slots = [slot(0), slot(1)];
        let at = slots.iter().filter_map(Slot::place).max().map_or(Lsn::ZERO, |(_, lsn)| lsn);
        let is_valid = |slot: &Slot| matches!(slot, Slot::Valid { .. } | Slot::Blank);
        let is_blank = slots.iter().all(|slot| matches!(slot, Slot::Blank));
        if !is_blank && slots.iter().all(is_valid) {
            return Ok(plausible(at));
        }
        let is_witnessed = follow_each_other(&slots);
        let path = image.path.clone();
        let can_write = !self.options.repair || self.is_idle(image)?;
        let mut is_known = slots.iter().any(|slot| matches!(slot, Slot::Valid { .. }));
        for (index, slot) in slots.into_iter().enumerate() {
            match slot {
                Slot::Mended { bytes, .. } if is_witnessed && can_write => {
                    let wrong = Wrong {
                        kind: FindingKind::Cursor,
                        offset: (index * SLOT_BYTES) as u64,
                        lsns: None,
                        what: "flipped bits in a reader's saved position".to_owned(),
                        is_error: true,
                    };
                    self.set_right(image, wrong, &bytes)?;
                    is_known = true;
                }
                Slot::Mended { .. } | Slot::Bad if is_known => {
                    let what = format!(
                        "one of two saves cannot be read, torn or damaged; the reader goes on \
                         after record {at}, and its next save replaces it"
                    );
                    self.report(FindingKind::Cursor, FindingOutcome::Note, &path, what, "");
                }
                _ => {}
            }
        }
        if !is_known {
            let what = "neither save can be read: the reader does not know where it was".to_owned();
            let advice = "restore the file from a backup; else its reader starts over with the \
                          first record kept, and keeps this file beside its new one";
            self.report(FindingKind::Cursor, FindingOutcome::Left, &path, what, advice);
            return Ok(Lsn::ZERO);
        }
        Ok(plausible(at))
    }

    /// Whether no reader has this cursor open.
    fn is_idle(&self, image: &Image) -> Result<bool, IoFault> {
        let options = OpenOptions { read: true, write: true, ..Default::default() };
        let file = self.platform.open(&image.path, options).at("open", &image.path)?;
        self.platform.try_lock(&file).at("lock", &image.path)
    }

    /// Whether what the head file says can be; if not, it is blanked, and the next start writes
    /// it anew from what the log itself says.
    pub(super) fn head(&mut self, marks: &Watermarks) -> Result<bool, IoFault> {
        let is_plausible = marks.are_plausible();
        if !is_plausible {
            let mut image = Image::open(self.platform, self.dir, "head")?;
            let what = format!(
                "the head file cannot be right: it says that records {} to {} are durable and {} \
                 visible; the next start writes it anew",
                marks.first, marks.durable, marks.visible
            );
            let wrong =
                Wrong { kind: FindingKind::Head, offset: 0, lsns: None, what, is_error: true };
            self.set_right(&mut image, wrong, &[0; BLOCK_BYTES])?;
        }
        Ok(is_plausible)
    }

    /// Mentions what was put aside earlier.
    pub(super) fn quarantine(&mut self) -> Result<(), IoFault> {
        let dir = quarantine_dir(self.dir);
        let entries = match self.platform.list(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => result.at("list", &dir)?,
        };
        let copies = entries.iter().filter(|entry| !entry.is_directory);
        let (count, bytes) =
            copies.fold((0_u64, 0_u64), |(count, bytes), entry| (count + 1, bytes + entry.bytes));
        if count > 0 {
            let what =
                format!("{count} copies of damaged ranges, {bytes} bytes, were put aside so far");
            let advice = "move them away once nobody needs them";
            self.report(FindingKind::Quarantine, FindingOutcome::Note, &dir, what, advice);
        }
        Ok(())
    }
}

/// A position that a log can have come to; nothing else proves anything.
fn plausible(lsn: Lsn) -> Lsn {
    if lsn.0 < COUNT_MAX { lsn } else { Lsn::ZERO }
}
