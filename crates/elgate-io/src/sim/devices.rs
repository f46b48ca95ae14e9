//! Further devices: each has everything below one directory, faults of its own, and may go away.
//!
//! Device 0 is the disk itself; its plan and counts are the world's.

use super::disk::NodeId;
use super::world::{Opened, State};
use super::{FaultCounts, FaultPlan, SimWorld};
use crate::File;
use crate::sys::error;
use std::io;
use std::path::Path;

/// What is not part of the disk's names: how a device behaves.
#[derive(Debug, Default)]
pub(super) struct Device {
    pub(super) plan: FaultPlan,
    pub(super) counts: FaultCounts,
}

impl State {
    pub(super) fn device_of(&self, node: NodeId) -> usize {
        self.disk.device_of(node)
    }

    /// The device of an open file.
    pub(super) fn device_of_file(&self, file: &File) -> usize {
        match self.opened(&file.0) {
            Ok(Opened::File { node, .. }) => self.device_of(node),
            _ => 0,
        }
    }

    pub(super) fn plan_of(&self, device: usize) -> &FaultPlan {
        match device.checked_sub(1).and_then(|index| self.devices.get(index)) {
            Some(device) => &device.plan,
            None => &self.plan,
        }
    }

    pub(super) fn counts_of(&mut self, device: usize) -> &mut FaultCounts {
        match device.checked_sub(1).and_then(|index| self.devices.get_mut(index)) {
            Some(device) => &mut device.counts,
            None => &mut self.counts,
        }
    }

    /// The plans of all devices, the disk's first.
    pub(super) fn plans(&self) -> Vec<FaultPlan> {
        let further = self.devices.iter().map(|device| device.plan.clone());
        std::iter::once(self.plan.clone()).chain(further).collect()
    }

    fn device_at(&mut self, root: &Path) -> io::Result<&mut Device> {
        let device = self.disk.mounted_at(root)?;
        self.devices.get_mut(device - 1).ok_or_else(|| error(libc::ENODEV))
    }
}

impl SimWorld {
    /// Mounts another device, empty and without faults, at `root`.
    ///
    /// # Errors
    /// `ENOTDIR` if a file is there.
    pub fn add_device(&self, root: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.disk.mount(root)?;
        state.devices.push(Device::default());
        Ok(())
    }

    /// Faults of the device at `root` from now on; what the plan says about the network has no
    /// effect.
    ///
    /// # Errors
    /// `ENODEV` if none was ever mounted there.
    pub fn set_device_faults(&self, root: &Path, plan: FaultPlan) -> io::Result<()> {
        self.0.lock().device_at(root)?.plan = plan;
        Ok(())
    }

    /// How often each fault of the device at `root` has struck so far.
    ///
    /// # Errors
    /// As [`set_device_faults`](Self::set_device_faults).
    pub fn device_fault_counts(&self, root: &Path) -> io::Result<FaultCounts> {
        Ok(self.0.lock().device_at(root)?.counts)
    }

    /// The device at `root` is pulled out: below it there is nothing, what was open fails with
    /// `EIO` for good, and what was not synced is gone.
    ///
    /// # Errors
    /// As [`set_device_faults`](Self::set_device_faults).
    pub fn pull_device(&self, root: &Path) -> io::Result<()> {
        let mut guard = self.0.lock();
        let state = &mut *guard;
        let device = state.disk.mounted_at(root)?;
        state.sever(device);
        let plans = state.plans();
        let counts = &mut state.devices[device - 1].counts;
        state.disk.pull(device, &plans[device], &mut state.random, counts);
        Ok(())
    }

    /// The device at `root` is there again, with what it had; or, `blank`, another one in its
    /// place.
    ///
    /// # Errors
    /// As [`set_device_faults`](Self::set_device_faults).
    pub fn return_device(&self, root: &Path, blank: bool) -> io::Result<()> {
        let mut state = self.0.lock();
        let device = state.disk.mounted_at(root)?;
        state.disk.put_back(device, blank)
    }

    /// Bytes of all files on the device at `root`.
    ///
    /// # Errors
    /// As [`set_device_faults`](Self::set_device_faults).
    pub fn device_used_bytes(&self, root: &Path) -> io::Result<u64> {
        let state = self.0.lock();
        let device = state.disk.mounted_at(root)?;
        Ok(state.disk.used_bytes(device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OpenOptions;

    const READ_WRITE: OpenOptions = OpenOptions {
        read: true,
        write: true,
        create: true,
        create_new: false,
        append: false,
        direct: false,
        mode: 0,
    };

    #[test]
    fn a_device_has_faults_space_and_an_identity_of_its_own() {
        let world = SimWorld::new(1);
        let root = Path::new("/twin");
        world.add_device(root).expect("mounts");
        let plan = FaultPlan {
            write_error_per_mille: 1_000,
            enospc_after_bytes: Some(4_096),
            ..FaultPlan::default()
        };
        world.set_device_faults(root, plan).expect("is there");
        let platform = world.platform();
        let here = platform.open(Path::new("/here"), READ_WRITE).expect("opens");
        let there = platform.open(Path::new("/twin/there"), READ_WRITE).expect("opens");
        platform.write_at(&here, 0, &[1; 9_000], true).expect("writes");
        assert!(platform.write_at(&there, 0, &[1; 9], true).is_err());
        assert!(platform.set_size(&there, 9_000).is_err(), "it is full");
        let counts = world.device_fault_counts(root).expect("is there");
        assert_eq!((counts.write_errors, counts.no_space), (1, 1));
        assert_eq!(world.fault_counts(), FaultCounts::default());
        let device = |file| platform.identity(file).expect("known").device;
        assert_ne!(device(&here), device(&there));
        let moved = platform.rename(Path::new("/here"), Path::new("/twin/here"));
        assert_eq!(moved.expect_err("another device").raw_os_error(), Some(libc::EXDEV));
    }

    #[test]
    fn a_device_that_was_pulled_keeps_what_was_synced_and_no_handle() {
        let world = SimWorld::new(1);
        let (root, path) = (Path::new("/twin"), Path::new("/twin/file"));
        world.add_device(root).expect("mounts");
        let platform = world.platform();
        let file = platform.open(path, READ_WRITE).expect("opens");
        platform.write_at(&file, 0, b"kept", true).expect("writes");
        platform.sync_directory(root).expect("syncs");
        platform.write_at(&file, 4, b"lost", false).expect("writes");
        world.pull_device(root).expect("is there");
        let errno = |result: io::Result<()>| result.expect_err("fails").raw_os_error();
        assert_eq!(errno(platform.sync(&file)), Some(libc::EIO));
        assert_eq!(errno(platform.open(path, READ_WRITE).map(drop)), Some(libc::ENOENT));
        assert!(platform.list(root).expect("a mount point").is_empty());
        world.return_device(root, false).expect("is there");
        assert_eq!(errno(platform.sync(&file)), Some(libc::EIO), "the handle is of the past");
        assert_eq!(world.file_bytes(path).expect("reads"), b"kept");
        world.pull_device(root).expect("is there");
        world.return_device(root, true).expect("is there");
        assert!(platform.list(root).expect("there").is_empty());
    }
}
