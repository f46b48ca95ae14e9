//! Rings in simulated shared memory: who is alive is what the simulation says.

use elgate_io::sim::{SimPlatform, SimProcess};
use elgate_io::{File, OpenOptions, Platform, SharedMap};
use elgate_ring::{ForkGuard, Host, ProcessIdentity, RingError, SharedFile};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Every simulated process lives in this PID namespace.
const NAMESPACE: u64 = 1;

/// A simulated process's view of the rings.
#[derive(Debug)]
pub(crate) struct SimHost {
    process: SimProcess,
    platform: SimPlatform,
}

impl SimHost {
    pub(crate) fn shared(process: &SimProcess) -> Arc<dyn Host> {
        Arc::new(Self { process: process.clone(), platform: process.sim_platform() })
    }

    fn file(&self, file: File) -> Box<dyn SharedFile> {
        Box::new(SimFile { platform: self.platform.clone(), file })
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RingError {
    let path = path.to_owned();
    move |source| RingError::Io { action, path, source }
}

impl Host for SimHost {
    fn open_trusted(&self, path: &Path, bytes: u64) -> Result<Box<dyn SharedFile>, RingError> {
        let options = OpenOptions { read: true, write: true, ..OpenOptions::default() };
        let file = match self.platform.open(path, options) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(RingError::Missing { path: path.to_owned() });
            }
            opened => opened.map_err(failed("open", path))?,
        };
        let found = self.platform.size(&file).map_err(failed("examine", path))?;
        if found != bytes {
            let what = format!("it has {found} bytes, not {bytes}");
            return Err(RingError::Incompatible { path: path.to_owned(), what });
        }
        Ok(self.file(file))
    }

    fn create_sized(
        &self,
        path: &Path,
        bytes: u64,
        mode: u32,
    ) -> Result<Box<dyn SharedFile>, RingError> {
        let options = OpenOptions {
            read: true,
            write: true,
            create_new: true,
            mode,
            ..OpenOptions::default()
        };
        let file = self.platform.open(path, options).map_err(failed("create", path))?;
        let sized = self.platform.set_size(&file, bytes);
        sized.map_err(failed("reserve space for", path))?;
        Ok(self.file(file))
    }

    fn link_new(&self, temporary: &Path, path: &Path) -> Result<bool, RingError> {
        if self.is_gone(path) {
            self.platform.rename(temporary, path).map_err(failed("create", path))?;
            return Ok(true);
        }
        self.remove(temporary);
        Ok(false)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.platform.rename(from, to)
    }

    fn remove(&self, path: &Path) {
        // As on the operating system: nothing depends on success.
        drop(self.platform.remove(path));
    }

    fn is_gone(&self, path: &Path) -> bool {
        let options = OpenOptions { read: true, ..OpenOptions::default() };
        let opened = self.platform.open(path, options);
        matches!(opened, Err(error) if error.kind() == io::ErrorKind::NotFound)
    }

    fn random_u64(&self) -> u64 {
        self.platform.random_u64()
    }

    fn identity(&self) -> ProcessIdentity {
        let id = self.process.id();
        ProcessIdentity { pid: id as u32, start_time: id, pid_namespace: NAMESPACE }
    }

    fn process_id(&self) -> u32 {
        // What is left of a dead process is nobody's.
        if self.process.is_alive() { self.process.id() as u32 } else { 0 }
    }

    fn is_gone_process(&self, who: &ProcessIdentity, _observer: &ProcessIdentity) -> bool {
        !self.process.world().is_process_alive(who.start_time)
    }

    fn fork_guard(&self) -> io::Result<ForkGuard> {
        Ok(ForkGuard::watching(self.process.pulse()))
    }
}

#[derive(Debug)]
struct SimFile {
    platform: SimPlatform,
    file: File,
}

impl SharedFile for SimFile {
    fn map(&self, bytes: usize) -> io::Result<Arc<SharedMap>> {
        self.platform.map(&self.file, bytes)
    }

    fn is_at(&self, path: &Path) -> bool {
        let options = OpenOptions { read: true, ..OpenOptions::default() };
        let Ok(named) = self.platform.open(path, options) else { return false };
        let identity = |file| self.platform.identity(file).ok();
        identity(&named).is_some() && identity(&named) == identity(&self.file)
    }

    fn try_lock_byte(&self, byte: u16) -> io::Result<bool> {
        self.platform.try_lock_byte(&self.file, byte)
    }

    fn unlock_byte(&self, byte: u16) -> io::Result<()> {
        self.platform.unlock_byte(&self.file, byte)
    }

    fn is_byte_locked(&self, byte: u16) -> io::Result<bool> {
        self.platform.is_byte_locked(&self.file, byte)
    }
}
