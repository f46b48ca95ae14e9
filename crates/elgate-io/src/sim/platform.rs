//! [`SimPlatform`]: the blocking interface of a simulated world. Takes no virtual time.

use super::SimWorld;
use super::process::ProcessId;
use super::strikes::StrikeKind;
use super::world::{Opened, State};
use crate::sys::error;
use crate::{
    DirectoryEntry, File, FileIdentity, Listener, OpenOptions, Platform, SharedMap, Socket,
};
use elgate_types::limits::BLOCK_BYTES;
use elgate_types::{Monotonic, WallTime};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Component, Path};
use std::sync::Arc;

/// The device number of the simulated disk; further devices follow.
const DEVICE: u64 = 1;

/// The blocking side of a [`SimWorld`].
#[derive(Debug, Clone)]
pub struct SimPlatform(SimWorld, ProcessId);

impl SimPlatform {
    pub(super) fn new(world: SimWorld, process: ProcessId) -> Self {
        Self(world, process)
    }

    fn enter(&self, call: &'static str) -> io::Result<()> {
        self.0.enter(self.1, call)
    }
}

/// Whether a file may be read or written through its handle, at this place.
pub(super) enum Access {
    Read,
    Write,
}

impl State {
    /// The file behind a handle, if it allows the access.
    pub(super) fn file_node(
        &self,
        file: &File,
        access: &Access,
        offset: u64,
        bytes: usize,
    ) -> io::Result<u64> {
        let (node, options) = match self.opened(&file.0)? {
            Opened::File { node, options } => (node, options),
            Opened::Severed => return Err(error(libc::EIO)),
            _ => return Err(error(libc::EBADF)),
        };
        let allowed = match access {
            Access::Read => options.read,
            Access::Write => options.write,
        };
        if !allowed {
            return Err(error(libc::EBADF));
        }
        let aligned =
            offset.is_multiple_of(BLOCK_BYTES as u64) && bytes.is_multiple_of(BLOCK_BYTES);
        if options.direct && !aligned {
            return Err(error(libc::EINVAL));
        }
        if i64::try_from(offset.saturating_add(bytes as u64)).is_err() {
            return Err(error(libc::EINVAL));
        }
        Ok(node)
    }

    pub(super) fn read_file(
        &mut self,
        file: &File,
        offset: u64,
        bytes: &mut [u8],
    ) -> io::Result<usize> {
        let node = self.file_node(file, &Access::Read, offset, bytes.len())?;
        let device = self.device_of(node);
        let chance = self.plan_of(device).read_error_per_mille;
        if self.random.per_mille(chance) {
            self.counts_of(device).read_errors += 1;
            return Err(error(libc::EIO));
        }
        self.disk.pull_map(node)?;
        Ok(self.disk.file(node)?.content.read(offset, bytes))
    }

    /// Writes; returns how much of it. With `durable`, syncs what it wrote.
    pub(super) fn write_file(
        &mut self,
        file: &File,
        offset: u64,
        bytes: &[u8],
        durable: bool,
    ) -> io::Result<usize> {
        let node = self.file_node(file, &Access::Write, offset, bytes.len())?;
        let appends =
            matches!(self.opened(&file.0)?, Opened::File { options, .. } if options.append);
        let offset = if appends { self.disk.file(node)?.content.size() } else { offset };
        let growth = self.disk.file(node)?.content.growth_bytes(offset + bytes.len() as u64);
        self.check_space(node, growth)?;
        let device = self.device_of(node);
        let (error_chance, short_chance) = {
            let plan = self.plan_of(device);
            (plan.write_error_per_mille, plan.short_write_per_mille)
        };
        let blocks = bytes.len() / BLOCK_BYTES;
        let mut length = bytes.len();
        let failed = self.random.per_mille(error_chance);
        if failed {
            self.counts_of(device).write_errors += 1;
            length = self.random.index(blocks + 1) * BLOCK_BYTES;
        } else if blocks > 1 && self.random.per_mille(short_chance) {
            self.counts_of(device).short_writes += 1;
            length = (1 + self.random.index(blocks - 1)) * BLOCK_BYTES;
        }
        let (node, offset) = self.astray(node, offset, length).unwrap_or((node, offset));
        if length > 0 {
            self.disk.pull_map(node)?;
            let sequence = self.disk.next_sequence();
            self.disk.file(node)?.content.write(offset, &bytes[..length], sequence);
            self.disk.push_map(node)?;
        }
        if failed {
            return Err(error(libc::EIO));
        }
        if durable && self.sync_reaches_disk(node, offset, length)? {
            self.disk.file(node)?.content.sync_range(offset, length);
        }
        Ok(length)
    }

    pub(super) fn sync_file(&mut self, file: &File) -> io::Result<()> {
        let node = node_of(self, file)?;
        self.disk.pull_map(node)?;
        let bytes = usize::try_from(self.disk.file(node)?.content.size()).unwrap_or(usize::MAX);
        if self.sync_reaches_disk(node, 0, bytes)? {
            self.disk.file(node)?.content.sync();
        }
        Ok(())
    }

    /// Fails, or lies, as the plan wants.
    fn sync_reaches_disk(&mut self, node: u64, offset: u64, bytes: usize) -> io::Result<bool> {
        let device = self.device_of(node);
        let plan = self.plan_of(device);
        let (error_chance, lost_chance) = (plan.sync_error_per_mille, plan.lost_sync_per_mille);
        if self.random.per_mille(error_chance) {
            self.counts_of(device).sync_errors += 1;
            self.disk.file(node)?.content.sync_failed(&mut self.random);
            return Err(error(libc::EIO));
        }
        let lost = self.random.per_mille(lost_chance);
        if lost {
            self.counts_of(device).lost_syncs += 1;
            self.disk.file(node)?.content.sync_lied(offset, bytes);
            self.strike(StrikeKind::LostSync, node, offset, bytes as u64);
        }
        Ok(!lost)
    }
}

impl SimPlatform {
    /// Locks one byte of a file for this handle. `false`: another one holds it.
    ///
    /// # Errors
    /// `EBADF` for a handle that is closed.
    pub fn try_lock_byte(&self, file: &File, byte: u16) -> io::Result<bool> {
        self.enter("try_lock_byte")?;
        let mut state = self.0.0.lock();
        let node = node_of(&state, file)?;
        let id = file.0.sim()?.id;
        Ok(*state.disk.file(node)?.byte_locks.entry(byte).or_insert(id) == id)
    }

    /// Gives a byte free.
    ///
    /// # Errors
    /// As [`try_lock_byte`](Self::try_lock_byte).
    pub fn unlock_byte(&self, file: &File, byte: u16) -> io::Result<()> {
        self.enter("unlock_byte")?;
        let mut state = self.0.0.lock();
        let node = node_of(&state, file)?;
        let id = file.0.sim()?.id;
        state.disk.file(node)?.byte_locks.retain(|at, holder| *at != byte || *holder != id);
        Ok(())
    }

    /// Whether another handle holds a byte.
    ///
    /// # Errors
    /// As [`try_lock_byte`](Self::try_lock_byte).
    pub fn is_byte_locked(&self, file: &File, byte: u16) -> io::Result<bool> {
        self.enter("is_byte_locked")?;
        let mut state = self.0.0.lock();
        let node = node_of(&state, file)?;
        let id = file.0.sim()?.id;
        Ok(state.disk.file(node)?.byte_locks.get(&byte).is_some_and(|holder| *holder != id))
    }
}

impl Platform for SimPlatform {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<File> {
        self.enter("open")?;
        if !options.read && !options.write {
            return Err(error(libc::EINVAL));
        }
        let mut state = self.0.0.lock();
        let node = state.disk.open(path, options.create, options.create_new)?;
        let opened = Opened::File { node, options };
        Ok(File(self.0.handle(&mut state, self.1, opened)))
    }

    fn open_beneath(&self, root: &Path, relative: &Path, options: OpenOptions) -> io::Result<File> {
        self.enter("open_beneath")?;
        let contained = relative
            .components()
            .all(|component| matches!(component, Component::Normal(_) | Component::CurDir));
        if !contained {
            return Err(error(libc::EXDEV));
        }
        if relative.file_name().is_none() {
            return Err(error(libc::EINVAL));
        }
        self.0.0.lock().disk.list(root)?;
        let path = root.join(relative);
        if (options.create || options.create_new)
            && let Some(parent) = path.parent()
        {
            self.create_directories(parent)?;
        }
        self.open(&path, options)
    }

    fn create_directories(&self, path: &Path) -> io::Result<()> {
        self.enter("create_directories")?;
        self.0.0.lock().disk.create_directories(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.enter("sync_directory")?;
        self.0.0.lock().disk.sync_directory(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        self.enter("list")?;
        let entries = self.0.0.lock().disk.list(path)?;
        Ok(entries
            .into_iter()
            .map(|(name, bytes, is_directory)| DirectoryEntry {
                name,
                bytes,
                is_directory,
                is_file: !is_directory,
            })
            .collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.enter("rename")?;
        self.0.0.lock().disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.enter("remove")?;
        self.0.0.lock().disk.remove(path)
    }

    fn read_at(&self, file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.enter("read_at")?;
        self.0.0.lock().read_file(file, offset, bytes)
    }

    fn write_at(&self, file: &File, offset: u64, bytes: &[u8], durable: bool) -> io::Result<()> {
        self.enter("write_at")?;
        let mut state = self.0.0.lock();
        let mut done = 0;
        while done < bytes.len() {
            done += state.write_file(file, offset + done as u64, &bytes[done..], durable)?;
        }
        Ok(())
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.enter("sync")?;
        self.0.0.lock().sync_file(file)
    }

    fn size(&self, file: &File) -> io::Result<u64> {
        let mut state = self.0.0.lock();
        let node = node_of(&state, file)?;
        Ok(state.disk.file(node)?.content.size())
    }

    fn set_size(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.enter("set_size")?;
        let mut state = self.0.0.lock();
        let node = state.file_node(file, &Access::Write, 0, 0)?;
        let growth = state.disk.file(node)?.content.growth_bytes(bytes);
        state.check_space(node, growth)?;
        state.disk.pull_map(node)?;
        let sequence = state.disk.next_sequence();
        state.disk.file(node)?.content.set_size(bytes, sequence);
        state.disk.push_map(node)
    }

    fn identity(&self, file: &File) -> io::Result<FileIdentity> {
        let state = self.0.0.lock();
        let node = node_of(&state, file)?;
        Ok(FileIdentity { device: DEVICE + state.device_of(node) as u64, inode: node })
    }

    fn zero_fill(&self, file: &File, offset: u64, bytes: u64) -> io::Result<()> {
        self.enter("zero_fill")?;
        let mut state = self.0.0.lock();
        let node = state.file_node(file, &Access::Write, 0, 0)?;
        let growth = state.disk.file(node)?.content.growth_bytes(offset.saturating_add(bytes));
        state.check_space(node, growth)?;
        state.disk.pull_map(node)?;
        let sequence = state.disk.next_sequence();
        state.disk.file(node)?.content.zero(offset, bytes, sequence);
        state.disk.push_map(node)?;
        state.sync_file(file)
    }

    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        let longer = self.size(file)?.max(bytes);
        self.set_size(file, longer)
    }

    fn try_lock(&self, file: &File) -> io::Result<bool> {
        self.enter("try_lock")?;
        let mut state = self.0.0.lock();
        let node = node_of(&state, file)?;
        let id = file.0.sim()?.id;
        let lock = &mut state.disk.file(node)?.lock;
        Ok(*lock.get_or_insert(id) == id)
    }

    fn map(&self, file: &File, bytes: usize) -> io::Result<Arc<SharedMap>> {
        self.enter("map")?;
        let mut state = self.0.0.lock();
        let node = node_of(&state, file)?;
        state.disk.map(node, bytes)
    }

    fn available_bytes(&self, path: &Path) -> io::Result<u64> {
        let state = self.0.0.lock();
        let device = state.disk.device_below(path);
        let limit = state.plan_of(device).enospc_after_bytes.unwrap_or(u64::MAX);
        Ok(limit.saturating_sub(state.disk.used_bytes(device)))
    }

    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.enter("resolve")?;
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        if host == "localhost" {
            return Ok(vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)]);
        }
        let state = self.0.0.lock();
        let known = state.hosts.get(host).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("no address is known for {host}"))
        })?;
        Ok(known.iter().map(|address| SocketAddr::new(address.ip(), port)).collect())
    }

    fn listen(&self, address: SocketAddr) -> io::Result<(Listener, SocketAddr)> {
        self.enter("listen")?;
        let mut state = self.0.0.lock();
        let bound = state.network.listen(address)?;
        Ok((Listener(self.0.handle(&mut state, self.1, Opened::Listener(bound))), bound))
    }

    fn now(&self) -> Monotonic {
        self.0.now()
    }

    fn wall_time(&self) -> WallTime {
        self.0.wall_time()
    }

    fn boot_id(&self) -> u64 {
        self.0.0.lock().counts.power_cuts + 1
    }

    fn random_u64(&self) -> u64 {
        self.0.0.lock().random.next()
    }
}

fn node_of(state: &State, file: &File) -> io::Result<u64> {
    match state.opened(&file.0)? {
        Opened::File { node, .. } => Ok(node),
        Opened::Severed => Err(error(libc::EIO)),
        _ => Err(error(libc::EBADF)),
    }
}

impl SimWorld {
    pub(super) fn socket(
        &self,
        state: &mut State,
        process: ProcessId,
        end: super::network::EndId,
    ) -> Socket {
        Socket(self.handle(state, process, Opened::Socket(end)))
    }
}
