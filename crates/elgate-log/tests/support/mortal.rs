//! A platform that dies: after so many calls that change something, every further call fails, as
//! if the process had been killed there.

#![allow(unreachable_pub, reason = "shared by several test crates")]

use elgate_io::{DirectoryEntry, File, FileIdentity, Listener, OpenOptions, Platform, SharedMap};
use elgate_types::{Monotonic, WallTime};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug)]
pub struct Mortal {
    inner: Arc<dyn Platform>,
    /// Changes left.
    left: AtomicU64,
}

impl Mortal {
    pub fn new(inner: Arc<dyn Platform>, changes: u64) -> Self {
        Self { inner, left: AtomicU64::new(changes) }
    }

    /// Whether it is still alive.
    pub fn is_alive(&self) -> bool {
        self.left.load(Ordering::Relaxed) > 0
    }

    fn look(&self) -> io::Result<&dyn Platform> {
        if self.is_alive() { Ok(&*self.inner) } else { Err(io::Error::other("killed")) }
    }

    fn change(&self) -> io::Result<&dyn Platform> {
        let platform = self.look()?;
        self.left.fetch_sub(1, Ordering::Relaxed);
        if self.is_alive() { Ok(platform) } else { Err(io::Error::other("killed")) }
    }
}

impl Platform for Mortal {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<File> {
        let creates = options.create || options.create_new;
        if creates { self.change() } else { self.look() }?.open(path, options)
    }

    fn open_beneath(&self, root: &Path, relative: &Path, options: OpenOptions) -> io::Result<File> {
        self.change()?.open_beneath(root, relative, options)
    }

    fn create_directories(&self, path: &Path) -> io::Result<()> {
        self.change()?.create_directories(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.change()?.sync_directory(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        self.look()?.list(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change()?.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change()?.remove(path)
    }

    fn read_at(&self, file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.look()?.read_at(file, offset, bytes)
    }

    fn write_at(&self, file: &File, offset: u64, bytes: &[u8], durable: bool) -> io::Result<()> {
        self.change()?.write_at(file, offset, bytes, durable)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.change()?.sync(file)
    }

    fn size(&self, file: &File) -> io::Result<u64> {
        self.look()?.size(file)
    }

    fn set_size(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.change()?.set_size(file, bytes)
    }

    fn identity(&self, file: &File) -> io::Result<FileIdentity> {
        self.look()?.identity(file)
    }

    fn zero_fill(&self, file: &File, offset: u64, bytes: u64) -> io::Result<()> {
        self.change()?.zero_fill(file, offset, bytes)
    }

    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.change()?.allocate(file, bytes)
    }

    fn try_lock(&self, file: &File) -> io::Result<bool> {
        self.look()?.try_lock(file)
    }

    fn map(&self, file: &File, bytes: usize) -> io::Result<Arc<SharedMap>> {
        self.look()?.map(file, bytes)
    }

    fn available_bytes(&self, path: &Path) -> io::Result<u64> {
        self.look()?.available_bytes(path)
    }

    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.look()?.resolve(host, port)
    }

    fn listen(&self, address: SocketAddr) -> io::Result<(Listener, SocketAddr)> {
        self.look()?.listen(address)
    }

    fn now(&self) -> Monotonic {
        self.inner.now()
    }

    fn wall_time(&self) -> WallTime {
        self.inner.wall_time()
    }

    fn boot_id(&self) -> u64 {
        self.inner.boot_id()
    }

    fn random_u64(&self) -> u64 {
        self.inner.random_u64()
    }
}
