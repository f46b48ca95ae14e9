//! The index of the segment being written, in the head file's last pages. One writer appends; any
//! number of readers copy it, and notice if it became another segment's meanwhile.

use super::{AT_INDEX_COUNT, AT_INDEX_ENTRIES, AT_INDEX_SEQUENCE, HeadView, HeadWriter, Words};
use crate::index::{INDEX_ENTRIES_MAX, INDEX_ENTRY_BYTES, IndexEntry};
use elgate_types::{Lsn, WallTime};
use std::sync::atomic::{Ordering, fence};

impl Words {
    /// The index of the segment `sequence`, if that is the one it is of.
    fn index(&self, sequence: u64) -> Option<Vec<IndexEntry>> {
        let of = self.u64(AT_INDEX_SEQUENCE);
        // Acquire pairs with the release store of the sequence in `HeadWriter::begin_index`: no
        // count of an earlier segment is seen with it.
        if sequence == 0 || of.load(Ordering::Acquire) != sequence {
            return None;
        }
        // Acquire pairs with the release store in `HeadWriter::push_index`: whoever sees the
        // count sees the entries.
        let count = self.u64(AT_INDEX_COUNT).load(Ordering::Acquire);
        let count = usize::try_from(count).ok().filter(|count| *count <= INDEX_ENTRIES_MAX)?;
        let entry = |number: usize| {
            let at = AT_INDEX_ENTRIES + number * INDEX_ENTRY_BYTES;
            let word = |offset| self.u64(at + offset).load(Ordering::Relaxed);
            IndexEntry { offset: word(0), first_lsn: Lsn(word(8)), time: WallTime(word(16)) }
        };
        let entries = (0..count).map(entry).collect();
        // Acquire pairs with the release fence in `HeadWriter::begin_index`: if an entry read
        // above was the next segment's, the change of sequence is seen here.
        fence(Ordering::Acquire);
        (of.load(Ordering::Relaxed) == sequence).then_some(entries)
    }
}

impl HeadWriter {
    /// The index that the last writer left of the segment `sequence`.
    pub(crate) fn previous_index(&self, sequence: u64) -> Option<Vec<IndexEntry>> {
        self.words.is_valid().then(|| self.words.index(sequence)).flatten()
    }

    /// Begins the index of another segment, or of the same one anew, with these entries.
    pub(crate) fn begin_index(&self, sequence: u64, entries: &[IndexEntry]) {
        let of = self.words.u64(AT_INDEX_SEQUENCE);
        of.store(0, Ordering::Relaxed);
        // Release pairs with the acquire fence in `Words::index`: whoever reads an entry stored
        // below sees that the sequence has gone.
        fence(Ordering::Release);
        self.words.u64(AT_INDEX_COUNT).store(0, Ordering::Relaxed);
        for entry in entries {
            self.push_index(entry);
        }
        // Release pairs with the acquire load of the sequence in `Words::index`.
        of.store(sequence, Ordering::Release);
    }

    /// Adds an entry to the index: of a batch that is durable, or, where readers follow what is
    /// visible, written.
    pub(crate) fn push_index(&self, entry: &IndexEntry) {
        let count = self.words.u64(AT_INDEX_COUNT);
        // Relaxed: this is the only writer.
        let number = count.load(Ordering::Relaxed);
        if number >= INDEX_ENTRIES_MAX as u64 {
            return;
        }
        let at = AT_INDEX_ENTRIES + number as usize * INDEX_ENTRY_BYTES;
        self.words.u64(at).store(entry.offset, Ordering::Relaxed);
        self.words.u64(at + 8).store(entry.first_lsn.0, Ordering::Relaxed);
        self.words.u64(at + 16).store(entry.time.0, Ordering::Relaxed);
        // Release pairs with the acquire load of the count in `Words::index`.
        count.store(number + 1, Ordering::Release);
    }
}

impl HeadView {
    /// The index of the segment `sequence` of the log `log_id`, if that is the one being
    /// written.
    pub(crate) fn index(&self, log_id: u128, sequence: u64) -> Option<Vec<IndexEntry>> {
        (self.log_id() == Some(log_id)).then(|| self.words.index(sequence)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{HEAD_BYTES, Watermarks};
    use crate::naming::head_path;
    use elgate_io::OpenOptions;
    use elgate_io::sim::SimWorld;
    use elgate_types::FlushMode;
    use std::path::Path;
    use std::sync::atomic::AtomicBool;

    const DIR: &str = "/data/orders";

    fn started() -> (SimWorld, HeadWriter) {
        let world = SimWorld::new(1);
        let platform = world.platform();
        platform.create_directories(Path::new(DIR)).expect("creates");
        let writer = HeadWriter::lock(&*platform, Path::new(DIR)).expect("opens").expect("free");
        let marks = Watermarks {
            visible: Lsn(5),
            durable: Lsn(5),
            delivered: Lsn(3),
            first: Lsn(1),
            active_sequence: 4,
            durable_end: 8_192,
            epoch: 2,
            writer_pid: 0,
        };
        writer.start(9, FlushMode::Auto, &marks, 1);
        (world, writer)
    }

    fn entry(sequence: u64, number: u64) -> IndexEntry {
        let lsn = sequence * 10_000 + number;
        IndexEntry { offset: lsn * 4_096, first_lsn: Lsn(lsn), time: WallTime(lsn) }
    }

    #[test]
    fn the_index_is_that_of_one_segment_and_outlives_its_writer() {
        let (world, writer) = started();
        let dir = Path::new(DIR);
        let view = HeadView::open(&*world.platform(), dir).expect("there");
        assert_eq!(view.index(9, 4), None, "none was begun");
        writer.begin_index(4, &[entry(4, 0)]);
        for number in 1..800 {
            writer.push_index(&entry(4, number));
        }
        let all: Vec<_> = (0..INDEX_ENTRIES_MAX as u64).map(|number| entry(4, number)).collect();
        assert_eq!(view.index(9, 4), Some(all.clone()));
        assert_eq!(view.index(9, 3), None, "another segment");
        assert_eq!(view.index(8, 4), None, "another log");
        drop(writer);
        let writer = HeadWriter::lock(&*world.platform(), dir).expect("opens").expect("free");
        assert_eq!(writer.previous_index(4), Some(all));
        writer.begin_index(5, &[]);
        assert_eq!((view.index(9, 4), view.index(9, 5)), (None, Some(vec![])));
    }

    #[test]
    fn a_reader_never_sees_entries_of_another_segment() {
        let (world, writer) = started();
        let view = HeadView::open(&*world.platform(), Path::new(DIR)).expect("there");
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut seen = 0;
                // Relaxed: only ends the loop.
                while !is_done.load(Ordering::Relaxed) {
                    for sequence in 1..=200 {
                        let Some(entries) = view.index(9, sequence) else { continue };
                        seen += entries.len();
                        for (number, found) in entries.iter().enumerate() {
                            assert_eq!(*found, entry(sequence, number as u64));
                        }
                    }
                }
                seen
            });
            for sequence in 1..=200 {
                writer.begin_index(sequence, &[]);
                for number in 0..100 {
                    writer.push_index(&entry(sequence, number));
                }
            }
            is_done.store(true, Ordering::Relaxed);
            reader.join().expect("sees only what was stored");
        });
    }

    #[test]
    fn a_shorter_head_file_is_completed() {
        let world = SimWorld::new(1);
        let platform = world.platform();
        platform.create_directories(Path::new(DIR)).expect("creates");
        let path = head_path(Path::new(DIR));
        let options = OpenOptions { read: true, write: true, create: true, ..Default::default() };
        let file = platform.open(&path, options).expect("creates");
        platform.write_at(&file, 0, &[7; 100], false).expect("writes");
        let writer = HeadWriter::lock(&*platform, Path::new(DIR)).expect("opens").expect("free");
        assert_eq!(writer.previous(), None);
        assert_eq!(platform.size(&file).expect("sized"), HEAD_BYTES as u64);
    }
}
