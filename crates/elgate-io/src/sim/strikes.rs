//! Faults that damage what was durable, or was told to be: kept in a list, so that a checker knows
//! what the disk has really lost.

use super::SimWorld;
use super::disk::NodeId;
use super::world::State;
use elgate_types::limits::BLOCK_BYTES;
use std::io;

/// What hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StrikeKind {
    /// A sync, or the sync of a durable write, that did nothing and said it had.
    LostSync,
    /// A write that went elsewhere: this is where it should have gone.
    WentAstray,
    /// And this is where it went.
    Overwritten,
    /// Bits that changed by themselves.
    Rot,
}

/// One hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strike {
    /// What hit.
    pub kind: StrikeKind,
    /// Which file.
    pub path: String,
    /// Where in it.
    pub offset: u64,
    /// How much of it.
    pub bytes: u64,
}

const BLOCK: u64 = BLOCK_BYTES as u64;

impl State {
    pub(super) fn strike(&mut self, kind: StrikeKind, node: NodeId, offset: u64, bytes: u64) {
        let path = self.disk.path_of(node).unwrap_or_default();
        self.strikes.push(Strike { kind, path, offset, bytes });
    }

    /// Where a write of `bytes` at `offset` of a file really goes, if the plan sends it astray:
    /// another aligned place in a file of the same kind.
    pub(super) fn astray(
        &mut self,
        node: NodeId,
        offset: u64,
        bytes: usize,
    ) -> Option<(NodeId, u64)> {
        let device = self.device_of(node);
        let chance = self.plan_of(device).misdirected_write_per_mille;
        let aligned = offset.is_multiple_of(BLOCK) && bytes.is_multiple_of(BLOCK_BYTES);
        if bytes == 0 || !aligned || !self.random.per_mille(chance) {
            return None;
        }
        let suffix = self.plan_of(device).damage_suffix;
        if !self.disk.path_of(node)?.ends_with(suffix) {
            return None;
        }
        let victims: Vec<(NodeId, u64)> = self
            .disk
            .files_ending_with(device, suffix)
            .into_iter()
            .filter_map(|file| {
                let size = self.disk.file(file).ok()?.content.size();
                (size >= bytes as u64).then_some((file, size))
            })
            .collect();
        let (victim, size) = *victims.get(self.random.index(victims.len()))?;
        // Mostly near what is written already: far out there is nothing to hit.
        let used = self.disk.file(victim).ok()?.content.written_end().max(bytes as u64);
        let reach = (used.min(size) - bytes as u64) / BLOCK + 1;
        let target = self.random.below(reach) * BLOCK;
        if (victim, target) == (node, offset) {
            return None;
        }
        self.counts_of(device).misdirected_writes += 1;
        self.strike(StrikeKind::WentAstray, node, offset, bytes as u64);
        self.strike(StrikeKind::Overwritten, victim, target, bytes as u64);
        Some((victim, target))
    }
}

impl SimWorld {
    /// Everything that has damaged what was, or should have been, durable.
    #[must_use]
    pub fn strikes(&self) -> Vec<Strike> {
        self.0.lock().strikes.clone()
    }

    /// Flips bits somewhere in a written block of a file that the plan lets be damaged: one bit,
    /// or those of up to a whole sector. Returns what it hit, if there was anything to hit.
    pub fn rot_somewhere(&self) -> Option<Strike> {
        self.rot_on(0)
    }

    /// The same on the device at `root`.
    pub fn rot_on_device(&self, root: &std::path::Path) -> Option<Strike> {
        let device = self.0.lock().disk.mounted_at(root).ok()?;
        self.rot_on(device)
    }

    fn rot_on(&self, device: usize) -> Option<Strike> {
        let mut guard = self.0.lock();
        let state = &mut *guard;
        let suffix = state.plan_of(device).damage_suffix;
        let mut places: Vec<(NodeId, u64)> = Vec::new();
        for node in state.disk.files_ending_with(device, suffix) {
            let blocks = state.disk.file(node).ok()?.content.written_blocks();
            places.extend(blocks.into_iter().map(|block| (node, block)));
        }
        let (node, block) = *places.get(state.random.index(places.len()))?;
        let within = state.random.below(BLOCK);
        let bytes = match state.random.below(3) {
            0 => 1,
            1 => 8,
            _ => 512,
        }
        .min(BLOCK - within);
        let offset = block * BLOCK + within;
        let mask = if bytes == 1 { 1 << state.random.below(8) } else { 0xff };
        let length = usize::try_from(bytes).unwrap_or(1);
        state.disk.file(node).ok()?.content.flip(offset, length, mask);
        state.counts_of(device).rots += 1;
        state.strike(StrikeKind::Rot, node, offset, bytes);
        state.strikes.last().cloned()
    }

    /// Sets the wall clock forward, or back.
    pub fn jump_wall_clock(&self, seconds: i64) {
        let mut state = self.0.lock();
        state.counts.wall_clock_jumps += 1;
        state.wall_offset_us =
            state.wall_offset_us.saturating_add(seconds.saturating_mul(1_000_000));
    }

    /// The names in a directory.
    ///
    /// # Errors
    /// `ENOENT` if there is none.
    pub fn names(&self, path: &std::path::Path) -> io::Result<Vec<String>> {
        let entries = self.0.lock().disk.list(path)?;
        Ok(entries.into_iter().map(|(name, ..)| name).collect())
    }

    /// Bytes of all files on the disk, without further devices.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.0.lock().disk.used_bytes(0)
    }
}
