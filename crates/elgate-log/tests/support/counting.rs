//! A platform that counts what is read, and lets something happen at a read of the test's choice.

use elgate_io::{DirectoryEntry, File, FileIdentity, Listener, OpenOptions, Platform, SharedMap};
use elgate_types::{Monotonic, WallTime};
use std::fmt::{Debug, Formatter};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

type Action = Box<dyn FnOnce() + Send>;

pub struct Counting {
    inner: Arc<dyn Platform>,
    reads: AtomicU64,
    bytes: AtomicU64,
    /// What happens before the read of this number.
    at_read: Mutex<Option<(u64, Action)>>,
}

impl Debug for Counting {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Counting")
    }
}

impl Counting {
    pub fn new(inner: Arc<dyn Platform>) -> Arc<Self> {
        let (reads, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { inner, reads, bytes, at_read: Mutex::new(None) })
    }

    /// Before the read of this number, counted from now, `action` happens.
    pub fn before_read(&self, number: u64, action: impl FnOnce() + Send + 'static) {
        self.take();
        *self.at_read.lock().expect("not poisoned") = Some((number, Box::new(action)));
    }

    /// Whether what was to happen at a read has happened.
    pub fn has_happened(&self) -> bool {
        self.at_read.lock().expect("not poisoned").is_none()
    }

    /// Reads and bytes read since the last call.
    pub fn take(&self) -> (u64, u64) {
        // Relaxed: asked by the thread that reads.
        (self.reads.swap(0, Ordering::Relaxed), self.bytes.swap(0, Ordering::Relaxed))
    }
}

impl Platform for Counting {
    fn read_at(&self, file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let number = self.reads.fetch_add(1, Ordering::Relaxed);
        let action = {
            let mut at_read = self.at_read.lock().expect("not poisoned");
            at_read.take_if(|(at, _)| *at == number)
        };
        if let Some((_, action)) = action {
            action();
        }
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.inner.read_at(file, offset, bytes)
    }
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<File> {
        self.inner.open(path, options)
    }
    fn open_beneath(&self, root: &Path, path: &Path, options: OpenOptions) -> io::Result<File> {
        self.inner.open_beneath(root, path, options)
    }
    fn create_directories(&self, path: &Path) -> io::Result<()> {
        self.inner.create_directories(path)
    }
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.inner.sync_directory(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        self.inner.list(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }
    fn write_at(&self, file: &File, offset: u64, bytes: &[u8], durable: bool) -> io::Result<()> {
        self.inner.write_at(file, offset, bytes, durable)
    }
    fn sync(&self, file: &File) -> io::Result<()> {
        self.inner.sync(file)
    }
    fn size(&self, file: &File) -> io::Result<u64> {
        self.inner.size(file)
    }
    fn set_size(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.inner.set_size(file, bytes)
    }
    fn identity(&self, file: &File) -> io::Result<FileIdentity> {
        self.inner.identity(file)
    }
    fn zero_fill(&self, file: &File, offset: u64, bytes: u64) -> io::Result<()> {
        self.inner.zero_fill(file, offset, bytes)
    }
    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.inner.allocate(file, bytes)
    }
    fn try_lock(&self, file: &File) -> io::Result<bool> {
        self.inner.try_lock(file)
    }
    fn map(&self, file: &File, bytes: usize) -> io::Result<Arc<SharedMap>> {
        self.inner.map(file, bytes)
    }
    fn available_bytes(&self, path: &Path) -> io::Result<u64> {
        self.inner.available_bytes(path)
    }
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.inner.resolve(host, port)
    }
    fn listen(&self, address: SocketAddr) -> io::Result<(Listener, SocketAddr)> {
        self.inner.listen(address)
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
