//! A platform on which some blocks of some files cannot be read.

#![allow(unreachable_pub, reason = "shared by several test crates")]

use elgate_io::{DirectoryEntry, File, FileIdentity, Listener, OpenOptions, Platform, SharedMap};
use elgate_types::{Monotonic, WallTime};
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};

const EIO: i32 = 5;

#[derive(Debug)]
struct Bad {
    file: FileIdentity,
    bytes: Range<u64>,
    /// How many reads still fail; all if `None`.
    left: Option<u32>,
}

#[derive(Debug)]
pub struct BadBlocks {
    inner: Arc<dyn Platform>,
    bad: Mutex<Vec<Bad>>,
}

impl BadBlocks {
    pub fn new(inner: Arc<dyn Platform>) -> Arc<Self> {
        Arc::new(Self { inner, bad: Mutex::default() })
    }

    /// From now on reads that touch these bytes fail: so often, or always.
    pub fn spoil(&self, path: &Path, bytes: Range<u64>, times: Option<u32>) {
        let options = OpenOptions { read: true, ..Default::default() };
        let file = self.inner.open(path, options).expect("opens");
        let file = self.inner.identity(&file).expect("a file");
        self.bad.lock().expect("sound").push(Bad { file, bytes, left: times });
    }

    /// Everything can be read again.
    pub fn heal(&self) {
        self.bad.lock().expect("sound").clear();
    }
}

impl Platform for BadBlocks {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<File> {
        self.inner.open(path, options)
    }

    fn open_beneath(&self, root: &Path, relative: &Path, options: OpenOptions) -> io::Result<File> {
        self.inner.open_beneath(root, relative, options)
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

    fn read_at(&self, file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let identity = self.inner.identity(file)?;
        let end = offset + bytes.len() as u64;
        let mut places = self.bad.lock().expect("sound");
        let touches = |bad: &&mut Bad| {
            bad.file == identity && offset < bad.bytes.end && bad.bytes.start < end
        };
        if let Some(bad) = places.iter_mut().filter(|bad| bad.left != Some(0)).find(touches) {
            bad.left = bad.left.map(|left| left - 1);
            return Err(io::Error::from_raw_os_error(EIO));
        }
        self.inner.read_at(file, offset, bytes)
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
