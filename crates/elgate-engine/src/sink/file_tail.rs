//! Finds, after a crash, which records a file already holds.
//!
//! The cursor says: at record L the file was N bytes long, and stable. What lies beyond N was
//! written from the records after L, in order, by us: so the log is read from L + 1 and compared,
//! byte by byte, until the file ends. A record that is there in part is cut off and written again.
//!
//! Something else beyond N is either somebody else's, and stays; or it is what became of our own
//! unsynced writes, is set aside next to the log, and cut off. It is ours if the operating system
//! has started anew since the cursor was saved (a power cut), or if zeros stand where our bytes
//! should (pages that the kernel dropped when a sync failed). Behind records that the log has lost
//! it cannot be told whose it is, and stays; but a line without an end is set aside and cut off, for
//! the next record would become a part of it, and so is what begins with a block of zeros.

use crate::config::Framing;
use elgate_io::{File, FileIdentity, Platform};
use elgate_log::{LogReader, ReadBatch, ReadError};
use elgate_types::Lsn;
use std::io;
use std::path::Path;

/// How far behind a gap in the log the next record is looked for in the file. The cursor is saved
/// every tenth of a second, so the gap cannot be larger than what is written in that time.
const SEARCH_BYTES: usize = 16 << 20;

/// Where a file sink goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FilePosition {
    /// The last record the file holds.
    pub(crate) delivered: Lsn,
    /// The file's length with it.
    pub(crate) length: u64,
    /// What was found that should not have been there.
    pub(crate) finding: Option<String>,
}

/// What the cursor remembers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remembered {
    pub(crate) lsn: Lsn,
    pub(crate) length: u64,
    pub(crate) identity: FileIdentity,
    pub(crate) boot_id: u64,
}

/// What may be left of a file behind the records that were found in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Nothing, or what somebody else has written.
    Foreign,
    /// Zeros, where a record should be.
    Garbled,
    /// Perhaps records that the log has lost.
    Unknown,
}

/// Why the position could not be found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocateError {
    #[error("{0}")]
    File(#[from] io::Error),
    #[error("{0}")]
    Log(#[from] ReadError),
    /// What the file may hold cannot be compared now.
    #[error(
        "the log is writing again what a failing device has not kept, and cannot show it yet; try \
         again when it is done"
    )]
    Unsettled,
}

/// The file, and what is needed to judge its end.
pub(crate) struct FileTail<'a> {
    pub(crate) platform: &'a dyn Platform,
    pub(crate) file: &'a File,
    pub(crate) framing: Framing,
    /// Where garbled bytes are set aside.
    pub(crate) quarantine: &'a Path,
    /// The last record that the log has shown to anybody.
    pub(crate) shown: Lsn,
}

impl FileTail<'_> {
    /// Works out where to go on. May cut off the file's end, as the module text says.
    ///
    /// `open_log` opens a reader of the route's log at a record; it is called only if needed.
    pub(crate) fn locate(
        &self,
        remembered: Option<Remembered>,
        open_log: &mut dyn FnMut(Lsn) -> Result<LogReader, ReadError>,
    ) -> Result<FilePosition, LocateError> {
        let length = self.platform.size(self.file)?;
        let Some(remembered) = remembered else {
            return Ok(FilePosition { delivered: Lsn::ZERO, length, finding: None });
        };
        if length < remembered.length || !self.is_same(&remembered, open_log)? {
            // Rotated or truncated by somebody: a new file, whose content is not ours to judge.
            return Ok(FilePosition { delivered: remembered.lsn, length, finding: None });
        }
        let mut position =
            FilePosition { delivered: remembered.lsn, length: remembered.length, finding: None };
        let mut rest = Rest::Foreign;
        if length > remembered.length {
            rest = match open_log(remembered.lsn.next()) {
                Ok(mut log) => self.match_records(&mut log, length, &mut position)?,
                // Not one of its segments can be read: the writer has more in memory, perhaps.
                Err(ReadError::NoLog { .. }) => Rest::Unknown,
                Err(error) => return Err(error.into()),
            };
        }
        if remembered.boot_id != self.platform.boot_id() {
            rest = Rest::Garbled;
        }
        // Asked again: a record that was there in part is gone by now.
        let length = self.platform.size(self.file)?;
        let left = length - position.length;
        if left == 0 {
            return Ok(position);
        }
        if rest == Rest::Unknown {
            return self.end_line(position, length);
        }
        if rest == Rest::Foreign {
            position.finding = Some(format!(
                "{left} bytes at its end were not written by this route; somebody else writes \
                 this file too, so a record may appear twice after a crash"
            ));
            position.length = length;
            return Ok(position);
        }
        let copy = self.set_aside(position.length, length)?;
        self.cut(position.length)?;
        position.finding = Some(format!(
            "{left} bytes at its end were garbled by a power cut or a failed sync; they are kept \
             in {}, and the records that the log has are written again",
            copy.display()
        ));
        Ok(position)
    }

    /// Whether this is the file that the cursor tells of. Devices may be numbered otherwise after
    /// they were mounted anew; then the last record before the cursor must be where we wrote it.
    fn is_same(
        &self,
        remembered: &Remembered,
        open_log: &mut dyn FnMut(Lsn) -> Result<LogReader, ReadError>,
    ) -> Result<bool, LocateError> {
        let identity = self.platform.identity(self.file)?;
        if remembered.identity == identity {
            return Ok(true);
        }
        if remembered.identity.inode != identity.inode || remembered.lsn == Lsn::ZERO {
            return Ok(false);
        }
        let batch = match open_log(remembered.lsn) {
            Ok(mut log) => log.next_batch()?,
            Err(ReadError::NoLog { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let ReadBatch::Records(batch) = batch else { return Ok(false) };
        let Some(record) = batch.records().next().filter(|it| it.lsn == remembered.lsn) else {
            return Ok(false);
        };
        let framed = record.payload.len() + usize::from(self.framing == Framing::Newline);
        let Some(begin) = remembered.length.checked_sub(framed as u64) else { return Ok(false) };
        let mut found = vec![0; framed];
        let read = self.platform.read_at(self.file, begin, &mut found)?;
        Ok(read == framed && self.first_difference(&found, record.payload).is_none())
    }

    /// Moves `position` over the records that the file holds. A record that is there in part is
    /// cut off, so that nothing is left of the file then.
    fn match_records(
        &self,
        log: &mut LogReader,
        length: u64,
        position: &mut FilePosition,
    ) -> Result<Rest, LocateError> {
        let mut found = Vec::new();
        // Records that the log can no longer show may stand in the file before the next one.
        let mut after_gap = false;
        let unless = |after_gap| if after_gap { Rest::Unknown } else { Rest::Foreign };
        loop {
            let batch = match log.next_batch()? {
                ReadBatch::Records(batch) => batch,
                ReadBatch::Gap { to, .. } => {
                    position.delivered = position.delivered.max(to);
                    after_gap = true;
                    continue;
                }
                ReadBatch::CaughtUp if position.delivered < self.shown => {
                    return Err(LocateError::Unsettled);
                }
                ReadBatch::CaughtUp => return Ok(unless(after_gap)),
            };
            for record in batch.records() {
                if record.lsn <= position.delivered {
                    continue;
                }
                if after_gap {
                    let begin =
                        position.length + self.distance_to(record.payload, position.length)?;
                    if self.first_zero_block(position.length, begin)? < begin {
                        // Nor do the lines of the lost records read.
                        return Ok(Rest::Unknown);
                    }
                    position.length = begin;
                }
                let framed = record.payload.len() + usize::from(self.framing == Framing::Newline);
                found.resize(framed, 0);
                let read = self.platform.read_at(self.file, position.length, &mut found)?;
                if let Some(other) = self.first_difference(&found[..read], record.payload) {
                    return Ok(if other == 0 { Rest::Garbled } else { unless(after_gap) });
                }
                if read < framed {
                    self.cut(position.length)?;
                    return Ok(Rest::Foreign);
                }
                after_gap = false;
                position.delivered = record.lsn;
                position.length += framed as u64;
                if position.length == length {
                    return Ok(Rest::Foreign);
                }
            }
        }
    }

    /// How far behind `from` a record stands in the file, if it is found there within reach: what
    /// lies between was written from records that are now damaged. Else zero.
    fn distance_to(&self, payload: &[u8], from: u64) -> io::Result<u64> {
        let mut record = payload.to_vec();
        if self.framing == Framing::Newline {
            record.push(b'\n');
        }
        let mut window = vec![0; SEARCH_BYTES];
        let read = self.platform.read_at(self.file, from, &mut window)?;
        let begins =
            |at: usize| at == 0 || self.framing == Framing::None || window[at - 1] == b'\n';
        let place = window[..read]
            .windows(record.len().max(1))
            .enumerate()
            .position(|(at, bytes)| bytes == &record[..] && begins(at));
        Ok(place.unwrap_or(0) as u64)
    }

    /// The first byte of `found` that is not what the framed record would have there.
    fn first_difference(&self, found: &[u8], payload: &[u8]) -> Option<u8> {
        let expected = payload.iter().chain(b"\n");
        found.iter().zip(expected).find(|(found, expected)| found != expected).map(|pair| *pair.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use elgate_io::sim::SimWorld;
    use elgate_io::{Driver, OpenOptions, Wait};
    use elgate_log::{LogOptions, ReadFrom, Source};
    use elgate_types::limits::BLOCK_BYTES;
    use elgate_types::{RouteName, WallTime};

    const LOG: &str = "/data/r";

    /// A world with a log of these records, and a file that holds them line by line.
    fn written(lines: &[&str]) -> (SimWorld, File) {
        let world = SimWorld::new(1);
        let platform = world.platform();
        let name = RouteName::new("r").expect("valid");
        let options = LogOptions { segment_bytes: 4 << 20, ..LogOptions::default() };
        let opened = elgate_log::open(world.platform(), Path::new(LOG), &name, options);
        let (mut log, _) = opened.expect("opens");
        for line in lines {
            log.append(line.as_bytes(), Source::default(), WallTime(1)).expect("taken");
        }
        log.close();
        let mut driver = world.driver();
        while !log.is_idle() {
            while let Some((token, op)) = log.poll_op(driver.now()) {
                driver.submit(token.into(), op);
            }
            let mut completions = Vec::new();
            driver.poll(Wait::Forever, &mut completions).expect("the simulator polls");
            for completion in completions {
                log.handle(completion.token as u32, completion, driver.now());
            }
        }
        platform.create_directories(Path::new("/out")).expect("creates");
        let options = OpenOptions { read: true, write: true, create: true, ..Default::default() };
        let file = platform.open(Path::new("/out/f"), options).expect("creates");
        let text = lines.join("\n") + "\n";
        platform.write_at(&file, 0, text.as_bytes(), true).expect("writes");
        (world, file)
    }

    fn locate(world: &SimWorld, file: &File, remembered: Remembered) -> FilePosition {
        let platform = world.platform();
        let tail = FileTail {
            platform: &*platform,
            file,
            framing: Framing::Newline,
            quarantine: Path::new("/data/r/quarantine"),
            shown: Lsn::ZERO,
        };
        let mut open_log =
            |lsn| LogReader::open(world.platform(), Path::new(LOG), ReadFrom::Lsn(lsn));
        tail.locate(Some(remembered), &mut open_log).expect("located")
    }

    #[test]
    fn a_file_is_the_same_though_its_device_is_numbered_otherwise() {
        let (world, file) = written(&["one", "two", "three"]);
        let here = world.platform().identity(&file).expect("known");
        let moved = FileIdentity { device: here.device + 1, ..here };
        let boot_id = world.platform().boot_id();
        let remembered = Remembered { lsn: Lsn(1), length: 4, identity: moved, boot_id };
        let whole = FilePosition { delivered: Lsn(3), length: 14, finding: None };
        assert_eq!(locate(&world, &file, remembered), whole, "what it holds is not written again");
        // Somebody else's file that happens to have the number.
        let foreign = Remembered { length: 5, ..remembered };
        let begun = FilePosition { delivered: Lsn(1), length: 14, finding: None };
        assert_eq!(locate(&world, &file, foreign), begun);
        let other = FileIdentity { inode: here.inode + 1, ..moved };
        assert_eq!(locate(&world, &file, Remembered { identity: other, ..remembered }), begun);
    }

    #[test]
    fn a_line_without_an_end_behind_a_lost_record_does_not_become_part_of_the_next() {
        for (text, kept) in [("one\ntw", 4), ("one\ntwo\nth", 8), ("one\ntwo\n", 8)] {
            let (world, file) = written(&["one", "two", "three"]);
            let segment = Path::new(LOG).join("r-20260101-001.wal");
            let bytes = world.file_bytes(&segment).expect("reads");
            let at = bytes.windows(3).position(|bytes| bytes == b"two").expect("it is there");
            world.rot(&segment, at as u64, 1).expect("rots");
            let platform = world.platform();
            platform.write_at(&file, 0, text.as_bytes(), true).expect("writes");
            platform.set_size(&file, text.len() as u64).expect("cuts");
            let identity = platform.identity(&file).expect("known");
            let boot_id = platform.boot_id();
            let remembered = Remembered { lsn: Lsn(1), length: 4, identity, boot_id };
            let found = locate(&world, &file, remembered);
            assert_eq!((found.delivered, found.length), (Lsn(2), kept), "{text:?}");
            assert_eq!(platform.size(&file).expect("known"), kept, "{text:?}");
            let said = found.finding.expect("it is said");
            let begun = &text[kept as usize..];
            if !begun.is_empty() {
                let copy = format!("/data/r/quarantine/file-{kept}-{}", text.len());
                assert!(said.ends_with(&format!("are kept in {copy}")), "{said}");
                assert_eq!(world.file_bytes(Path::new(&copy)).expect("kept"), begun.as_bytes());
            }
        }
    }

    #[test]
    fn zeros_behind_a_lost_record_are_no_lines() {
        let (world, file) = written(&["one", "two", "three"]);
        let segment = Path::new(LOG).join("r-20260101-001.wal");
        let bytes = world.file_bytes(&segment).expect("reads");
        let at = bytes.windows(5).position(|bytes| bytes == b"three").expect("it is there");
        world.rot(&segment, at as u64, 1).expect("rots");
        let mut text = b"one\ntwo\nthree\nfour".to_vec();
        text.resize(BLOCK_BYTES * 2, 0);
        text.extend(b"five\n");
        let platform = world.platform();
        platform.write_at(&file, 0, &text, true).expect("writes");
        let identity = platform.identity(&file).expect("known");
        let boot_id = platform.boot_id();
        let remembered = Remembered { lsn: Lsn(2), length: 8, identity, boot_id };
        let found = locate(&world, &file, remembered);
        assert_eq!((found.delivered, found.length), (Lsn(3), 14));
        assert_eq!(platform.size(&file).expect("known"), 14);
        let copy = format!("/data/r/quarantine/file-14-{}", text.len());
        assert!(found.finding.is_some_and(|said| said.ends_with(&copy)));
        assert_eq!(world.file_bytes(Path::new(&copy)).expect("kept"), &text[14..]);

        // One zero that happens to end a block, in a line of somebody's.
        let mut text = b"one\ntwo\nthree\n".to_vec();
        text.resize(BLOCK_BYTES - 1, b'x');
        text.extend(b"\0x\n");
        platform.set_size(&file, 8).expect("cuts");
        platform.write_at(&file, 0, &text, true).expect("writes");
        let from_block_end = Remembered { length: BLOCK_BYTES as u64 - 1, ..remembered };
        assert_eq!(locate(&world, &file, from_block_end).length, text.len() as u64);

        // A record that the log has stands behind them: it is written again.
        let mut text = b"one\ntw".to_vec();
        text.resize(BLOCK_BYTES * 2, 0);
        text.extend(b"o\nthree\n");
        world.rot(&segment, at as u64, 1).expect("heals");
        let two = bytes.windows(3).position(|bytes| bytes == b"two").expect("it is there");
        world.rot(&segment, two as u64, 1).expect("rots");
        platform.set_size(&file, 0).expect("cuts");
        platform.write_at(&file, 0, &text, true).expect("writes");
        let behind_one = Remembered { lsn: Lsn(1), length: 4, ..remembered };
        let found = locate(&world, &file, behind_one);
        assert_eq!((found.delivered, found.length), (Lsn(2), 4));
        let copy = format!("/data/r/quarantine/file-4-{}", text.len());
        assert_eq!(world.file_bytes(Path::new(&copy)).expect("kept"), &text[4..]);
    }
}
