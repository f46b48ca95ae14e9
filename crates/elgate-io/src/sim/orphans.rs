//! What a dead process leaves behind: writes that the device has begun, which happen at their time,
//! later than the process's end. What its drivers hold stays open, and locked, until then.

use super::process::ProcessId;
use super::world::{DriverState, State};
use crate::Op;
use std::collections::BTreeSet;

impl State {
    /// One process is gone: its handles with it, and its drivers but for what they have begun.
    /// Returns what they held, to be dropped without the world's lock.
    #[must_use]
    pub(super) fn settle_process(&mut self, process: ProcessId) -> Vec<DriverState> {
        let own = |(id, driver): (&u64, &DriverState)| (driver.process == process).then_some(*id);
        let drivers: Vec<u64> = self.drivers.iter().filter_map(own).collect();
        let left = drivers.into_iter().filter_map(|id| self.orphan(id)).collect();
        self.close_what_nobody_holds(process);
        left
    }

    /// Leaves of a driver the writes that have begun: each of those under way has, or has not.
    fn orphan(&mut self, id: u64) -> Option<DriverState> {
        let mut driver = self.drivers.remove(&id)?;
        let mut orphan =
            DriverState { process: driver.process, is_orphan: true, ..DriverState::default() };
        for (op, submitted) in std::mem::take(&mut driver.submitted) {
            let is_write = matches!(submitted.op, Op::Write { .. });
            let side = if is_write && self.random.coin() { &mut orphan } else { &mut driver };
            side.submitted.insert(op, submitted);
        }
        if !orphan.submitted.is_empty() {
            orphan.held = std::mem::take(&mut driver.held);
            self.drivers.insert(id, orphan);
        }
        Some(driver)
    }

    /// An operation of a driver has ended. With the last one, an orphan is gone.
    pub(super) fn bury_orphan(&mut self, id: u64) {
        let is_over = |driver: &DriverState| driver.is_orphan && driver.submitted.is_empty();
        if self.drivers.get(&id).is_some_and(is_over)
            && let Some(orphan) = self.drivers.remove(&id)
        {
            self.close_what_nobody_holds(orphan.process);
        }
    }

    /// Closes the handles of a dead process, except for what its orphans write to and hold.
    fn close_what_nobody_holds(&mut self, process: ProcessId) {
        let mut kept = BTreeSet::new();
        for orphan in self.drivers.values().filter(|driver| driver.is_orphan) {
            let written = orphan.submitted.values().filter_map(|submitted| match &submitted.op {
                Op::Write { file, .. } => Some(file),
                _ => None,
            });
            let files = written.chain(orphan.held.files());
            kept.extend(files.filter_map(|file| Some(file.0.sim().ok()?.id)));
        }
        let owned = self.handles.iter().filter(|(_, (owner, _))| *owner == process);
        let over: Vec<u64> = owned.map(|(id, _)| *id).filter(|id| !kept.contains(id)).collect();
        for id in over {
            self.close(id);
        }
    }
}
