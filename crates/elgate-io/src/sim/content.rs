//! One simulated file's bytes, in 4 KiB blocks: what is durable, and above it every version
//! written since, newest last. Blocks that hold zeros are not stored, so a zero-filled segment of
//! any size costs nothing.

use super::random::Random;
use super::{FaultCounts, FaultPlan};
use elgate_types::limits::BLOCK_BYTES;
use std::collections::BTreeMap;

const BLOCK: u64 = BLOCK_BYTES as u64;
const SECTOR_BYTES: usize = 512;
/// A block rewritten more often than this between syncs forgets its middle versions.
const VERSIONS_MAX: usize = 8;

/// A block's bytes; `None` is all zeros.
type Block = Option<Box<[u8; BLOCK_BYTES]>>;

#[derive(Debug)]
struct Version {
    /// World-wide order of writes.
    sequence: u64,
    block: Block,
    /// The device said that it had this, and did not.
    is_claimed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Content {
    size: u64,
    durable_size: u64,
    durable: BTreeMap<u64, Block>,
    dirty: BTreeMap<u64, Vec<Version>>,
}

impl Content {
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// What the file takes up on the disk.
    pub(super) fn allocated_bytes(&self) -> u64 {
        self.size.next_multiple_of(BLOCK)
    }

    /// What it would take up after a write that ends at `end`.
    pub(super) fn growth_bytes(&self, end: u64) -> u64 {
        end.next_multiple_of(BLOCK).saturating_sub(self.allocated_bytes())
    }

    pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) -> usize {
        let available = self.size.saturating_sub(offset);
        let length = usize::try_from(available).unwrap_or(usize::MAX).min(bytes.len());
        for_each_piece(offset, length, |index, within, range| match self.block(index) {
            Some(block) => {
                bytes[range.clone()].copy_from_slice(&block[within..within + range.len()])
            }
            None => bytes[range].fill(0),
        });
        length
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8], sequence: u64) {
        for_each_piece(offset, bytes.len(), |index, within, range| {
            let mut block = match self.block(index) {
                Some(block) => Box::new(*block),
                None => Box::new([0; BLOCK_BYTES]),
            };
            block[within..within + range.len()].copy_from_slice(&bytes[range]);
            self.push(index, Some(block), sequence);
        });
        self.size = self.size.max(offset + bytes.len() as u64);
    }

    /// Zeros over a range. Whole blocks of it are durable at once (see `Platform::zero_fill`);
    /// callers sync the rest.
    pub(super) fn zero(&mut self, offset: u64, bytes: u64, sequence: u64) {
        let end = offset.saturating_add(bytes);
        let first_whole = offset.div_ceil(BLOCK);
        let last_whole = end / BLOCK;
        if first_whole < last_whole {
            self.durable.retain(|index, _| !(first_whole..last_whole).contains(index));
            self.dirty.retain(|index, _| !(first_whole..last_whole).contains(index));
        }
        let edges =
            [(offset, (first_whole * BLOCK).min(end)), ((last_whole * BLOCK).max(offset), end)];
        for (start, stop) in edges {
            if start < stop && (stop - start) < BLOCK {
                let length = usize::try_from(stop - start).unwrap_or(0);
                self.write(start, &vec![0; length], sequence);
            }
        }
        self.size = self.size.max(end);
    }

    pub(super) fn set_size(&mut self, size: u64, sequence: u64) {
        if size < self.size {
            // What lies beyond must read as zeros if the file grows again.
            let cut = size.div_ceil(BLOCK);
            let beyond: Vec<u64> = self
                .durable
                .range(cut..)
                .map(|(index, _)| *index)
                .chain(self.dirty.range(cut..).map(|(index, _)| *index))
                .collect();
            for index in beyond {
                self.push(index, None, sequence);
            }
            let tail = size % BLOCK;
            if tail != 0 && self.block(size / BLOCK).is_some() {
                let length = usize::try_from((BLOCK - tail).min(self.size - size)).unwrap_or(0);
                self.write(size, &vec![0; length], sequence);
            }
        }
        self.size = size;
    }

    /// Makes everything durable.
    pub(super) fn sync(&mut self) {
        while let Some((index, mut versions)) = self.dirty.pop_first() {
            if let Some(newest) = versions.pop() {
                set(&mut self.durable, index, newest.block);
            }
        }
        self.durable_size = self.size;
    }

    /// Makes the blocks of a range durable, and the size if they lie beyond it.
    pub(super) fn sync_range(&mut self, offset: u64, bytes: usize) {
        for_each_piece(offset, bytes, |index, _, _| {
            if let Some(mut versions) = self.dirty.remove(&index)
                && let Some(newest) = versions.pop()
            {
                set(&mut self.durable, index, newest.block);
            }
        });
        let end = offset + bytes as u64;
        if end > self.durable_size {
            self.durable_size = end.min(self.size);
        }
    }

    /// A sync that does nothing and says it had: for the kernel, the blocks of a range are clean.
    pub(super) fn sync_lied(&mut self, offset: u64, bytes: usize) {
        for_each_piece(offset, bytes, |index, _, _| {
            if let Some(newest) =
                self.dirty.get_mut(&index).and_then(|versions| versions.last_mut())
            {
                newest.is_claimed = true;
            }
        });
    }

    /// A failed sync: the kernel forgets some of the dirty pages (it takes them for clean, then
    /// drops them), so what was written there is gone and no later sync will report it. What the
    /// device claims to have is read from there again.
    pub(super) fn sync_failed(&mut self, random: &mut Random) {
        self.dirty.retain(|_, versions| {
            if !random.coin() {
                let claimed = versions.iter().rposition(|version| version.is_claimed);
                versions.truncate(claimed.map_or(0, |at| at + 1));
            }
            !versions.is_empty()
        });
    }

    /// What the power cut leaves.
    pub(super) fn power_cut(
        &mut self,
        plan: &FaultPlan,
        horizon: u64,
        random: &mut Random,
        counts: &mut FaultCounts,
    ) {
        for (index, versions) in std::mem::take(&mut self.dirty) {
            let kept = if !plan.keep_unsynced {
                0
            } else if plan.reorder {
                random.index(versions.len() + 1)
            } else {
                versions.iter().take_while(|version| version.sequence <= horizon).count()
            };
            counts.blocks_kept += u64::from(kept > 0);
            counts.blocks_dropped += u64::from(kept < versions.len());
            let mut survivor = match kept {
                0 => self.durable.remove(&index).flatten(),
                _ => versions[kept - 1].block.clone(),
            };
            if let Some(next) = versions.get(kept)
                && plan.keep_unsynced
                && plan.torn
                && random.coin()
            {
                survivor = tear(survivor, &next.block, random);
                counts.blocks_torn += 1;
            }
            set(&mut self.durable, index, survivor);
        }
        let grown = self.size != self.durable_size && plan.keep_unsynced && random.coin();
        if !grown {
            self.size = self.durable_size;
        }
        self.durable_size = self.size;
        let end = self.size.div_ceil(BLOCK);
        self.durable.retain(|index, _| *index < end);
    }

    /// Flips bits of every byte of a range, in what is written and in what is durable: rot.
    pub(super) fn flip(&mut self, offset: u64, bytes: usize, mask: u8) {
        for_each_piece(offset, bytes, |index, within, range| {
            let newest = match self.dirty.get_mut(&index).and_then(|versions| versions.last_mut()) {
                Some(version) => &mut version.block,
                None => self.durable.entry(index).or_insert(None),
            };
            let block = newest.get_or_insert_with(|| Box::new([0; BLOCK_BYTES]));
            block[within..within + range.len()].iter_mut().for_each(|byte| *byte ^= mask);
        });
    }

    /// The blocks that hold something, durably and with nothing newer above.
    pub(super) fn written_blocks(&self) -> Vec<u64> {
        let clean = |index: &&u64| !self.dirty.contains_key(index);
        self.durable.keys().filter(clean).copied().collect()
    }

    /// Where the last block that holds something ends.
    pub(super) fn written_end(&self) -> u64 {
        let last = [
            self.durable.last_key_value().map(|(index, _)| *index),
            self.dirty.last_key_value().map(|(index, _)| *index),
        ];
        last.into_iter().flatten().max().map_or(0, |index| (index + 1) * BLOCK)
    }

    fn block(&self, index: u64) -> Option<&[u8; BLOCK_BYTES]> {
        match self.dirty.get(&index).and_then(|versions| versions.last()) {
            Some(version) => version.block.as_deref(),
            None => self.durable.get(&index).and_then(Option::as_deref),
        }
    }

    fn push(&mut self, index: u64, block: Block, sequence: u64) {
        let versions = self.dirty.entry(index).or_default();
        if versions.len() == VERSIONS_MAX {
            versions.remove(VERSIONS_MAX / 2);
        }
        versions.push(Version { sequence, block, is_claimed: false });
    }
}

fn set(blocks: &mut BTreeMap<u64, Block>, index: u64, block: Block) {
    match block {
        Some(block) if block.iter().any(|byte| *byte != 0) => {
            blocks.insert(index, Some(block));
        }
        _ => {
            blocks.remove(&index);
        }
    }
}

/// Some sectors of the old block, the others of the new one.
fn tear(old: Block, new: &Block, random: &mut Random) -> Block {
    let mut torn = old.unwrap_or_else(|| Box::new([0; BLOCK_BYTES]));
    for sector in (0..BLOCK_BYTES).step_by(SECTOR_BYTES) {
        if random.coin() {
            let range = sector..sector + SECTOR_BYTES;
            match new {
                Some(new) => torn[range.clone()].copy_from_slice(&new[range]),
                None => torn[range].fill(0),
            }
        }
    }
    Some(torn)
}

/// Calls `visit(block index, offset within the block, range of the caller's bytes)`.
fn for_each_piece(
    offset: u64,
    length: usize,
    mut visit: impl FnMut(u64, usize, std::ops::Range<usize>),
) {
    let mut done = 0;
    while done < length {
        let position = offset + done as u64;
        let within = usize::try_from(position % BLOCK).unwrap_or(0);
        let piece = (BLOCK_BYTES - within).min(length - done);
        visit(position / BLOCK, within, done..done + piece);
        done += piece;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(content: &Content, length: usize) -> Vec<u8> {
        let mut bytes = vec![0xee; length];
        let read = content.read(0, &mut bytes);
        bytes.truncate(read);
        bytes
    }

    fn cut(content: &mut Content, plan: &FaultPlan, seed: u64) -> FaultCounts {
        let mut counts = FaultCounts::default();
        content.power_cut(plan, u64::MAX, &mut Random::new(seed), &mut counts);
        counts
    }

    #[test]
    fn only_what_was_synced_survives() {
        let mut content = Content::default();
        content.write(0, b"durable", 1);
        content.sync();
        content.write(3, b"VOLATILE", 2);
        assert_eq!(bytes(&content, 99), b"durVOLATILE");
        cut(&mut content, &FaultPlan::default(), 1);
        assert_eq!(bytes(&content, 99), b"durable");
    }

    #[test]
    fn a_durable_range_takes_its_whole_block_but_no_other() {
        let mut content = Content::default();
        content.write(0, &[1; 3 * BLOCK_BYTES], 1);
        content.sync_range(BLOCK, BLOCK_BYTES);
        cut(&mut content, &FaultPlan::default(), 1);
        let after = bytes(&content, 3 * BLOCK_BYTES);
        assert_eq!(after.len(), 2 * BLOCK_BYTES);
        assert!(after[..BLOCK_BYTES].iter().all(|byte| *byte == 0));
        assert!(after[BLOCK_BYTES..].iter().all(|byte| *byte == 1));
    }

    #[test]
    fn a_failed_sync_takes_no_more_than_what_was_written_since_the_last_one() {
        for (seed, lies) in (0..64).flat_map(|seed| [(seed, false), (seed, true)]) {
            let mut content = Content::default();
            content.write(0, &[1; BLOCK_BYTES], 1);
            if lies {
                content.sync_lied(0, BLOCK_BYTES)
            } else {
                content.sync()
            }
            content.write(0, &[2; BLOCK_BYTES], 2);
            content.sync_failed(&mut Random::new(seed));
            assert!(matches!(bytes(&content, 1)[..], [1 | 2]));
            cut(&mut content, &FaultPlan::default(), 1);
            assert_eq!(bytes(&content, 1), if lies { &[][..] } else { &[1] });
        }
    }

    #[test]
    fn cut_and_grown_again_reads_zeros() {
        let mut content = Content::default();
        content.write(0, &[7; 10_000], 1);
        content.sync();
        content.set_size(5, 2);
        content.set_size(10_000, 3);
        let after = bytes(&content, 10_000);
        assert_eq!(&after[..6], &[7, 7, 7, 7, 7, 0]);
        assert!(after[5..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn zeroing_an_odd_range_leaves_its_surroundings() {
        let mut content = Content::default();
        content.write(0, &[7; 20_000], 1);
        content.zero(100, 15_000, 2);
        let after = bytes(&content, 20_000);
        assert!(after[..100].iter().chain(&after[15_100..]).all(|byte| *byte == 7));
        assert!(after[100..15_100].iter().all(|byte| *byte == 0));
        content.zero(19_000, 10, 3);
        assert_eq!(bytes(&content, 20_000)[18_999..19_011], [7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    }

    #[test]
    fn a_torn_block_mixes_sectors_of_neighbouring_versions() {
        let plan =
            FaultPlan { keep_unsynced: true, reorder: true, torn: true, ..Default::default() };
        let torn = (0..64).any(|seed| {
            let mut content = Content::default();
            content.write(0, &[1; BLOCK_BYTES], 1);
            content.sync();
            content.write(0, &[2; BLOCK_BYTES], 2);
            cut(&mut content, &plan, seed);
            let after = bytes(&content, BLOCK_BYTES);
            assert!(
                after.chunks(SECTOR_BYTES).all(|sector| sector.iter().all(|b| *b == sector[0]))
            );
            after.contains(&1) && after.contains(&2)
        });
        assert!(torn);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Write(u64, Vec<u8>),
        Zero(u64, u64),
        SetSize(u64),
        Sync,
        PowerCut,
    }

    fn step() -> impl proptest::strategy::Strategy<Value = Step> {
        use proptest::prelude::*;
        let byte_run = (1..=255_u8, 1..9_000_usize).prop_map(|(byte, count)| vec![byte; count]);
        prop_oneof![
            (0..20_000_u64, byte_run).prop_map(|(offset, bytes)| Step::Write(offset, bytes)),
            (0..20_000_u64, 0..12_000_u64).prop_map(|(offset, bytes)| Step::Zero(offset, bytes)),
            (0..25_000_u64).prop_map(Step::SetSize),
            Just(Step::Sync),
            Just(Step::PowerCut),
        ]
    }

    proptest::proptest! {
        /// Against a plain vector: every read, and what a power cut leaves of what was synced.
        #[test]
        fn behaves_like_a_file(steps in proptest::collection::vec(step(), 1..40)) {
            let (mut content, mut model) = (Content::default(), Vec::new());
            let mut sequence = 0;
            for step in steps {
                sequence += 1;
                match step {
                    Step::Write(offset, bytes) => {
                        let start = usize::try_from(offset).expect("small");
                        model.resize(model.len().max(start + bytes.len()), 0);
                        model[start..start + bytes.len()].copy_from_slice(&bytes);
                        content.write(offset, &bytes, sequence);
                    }
                    Step::Zero(offset, bytes) => {
                        let start = usize::try_from(offset).expect("small");
                        let end = start + usize::try_from(bytes).expect("small");
                        model.resize(model.len().max(end), 0);
                        model[start..end].fill(0);
                        content.zero(offset, bytes, sequence);
                    }
                    Step::SetSize(size) => {
                        model.resize(usize::try_from(size).expect("small"), 0);
                        content.set_size(size, sequence);
                    }
                    Step::Sync => content.sync(),
                    Step::PowerCut => {
                        content.sync();
                        content.write(3, &[0xaa; 5_000], sequence);
                        content.set_size(1, sequence);
                        cut(&mut content, &FaultPlan::default(), sequence);
                    }
                }
                proptest::prop_assert_eq!(content.size(), model.len() as u64);
                proptest::prop_assert!(bytes(&content, model.len() + 1) == model);
            }
        }
    }
}
