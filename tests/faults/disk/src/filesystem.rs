//! The disk as the one file of a FUSE file system: what a loop device reads, writes and flushes
//! (as fsync) arrives here.

use std::ffi::OsStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyWrite, Request, WriteFlags,
};

use crate::disk::{Disk, Failed};
use crate::medium::SECTOR_BYTES;

/// The file's name below the mount point.
pub(crate) const FILE: &str = "disk";
const FILE_NUMBER: INodeNo = INodeNo(2);
const TTL: Duration = Duration::from_secs(3600);

pub(crate) struct OneFile {
    disk: Arc<Mutex<Disk>>,
    bytes: u64,
}

impl OneFile {
    pub(crate) fn new(disk: Arc<Mutex<Disk>>) -> Self {
        let bytes = disk.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
        Self { disk, bytes }
    }

    /// Runs a request on the disk, after the delay that is set.
    fn request<T>(&self, run: impl FnOnce(&mut Disk) -> Result<T, Failed>) -> Result<T, Errno> {
        let delay_us = self.disk.lock().unwrap_or_else(PoisonError::into_inner).delay_us;
        if delay_us > 0 {
            #[expect(clippy::disallowed_methods, reason = "a slow disk is slow in real time")]
            std::thread::sleep(Duration::from_micros(delay_us));
        }
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        run(&mut disk).map_err(|Failed| Errno::EIO)
    }

    fn attributes(&self, number: INodeNo) -> Option<FileAttr> {
        let is_file = number == FILE_NUMBER;
        if !is_file && number != INodeNo::ROOT {
            return None;
        }
        let size = if is_file { self.bytes } else { 0 };
        Some(FileAttr {
            ino: number,
            size,
            blocks: size / SECTOR_BYTES as u64,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if is_file { FileType::RegularFile } else { FileType::Directory },
            perm: if is_file { 0o600 } else { 0o700 },
            nlink: if is_file { 1 } else { 2 },
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: SECTOR_BYTES as u32,
            flags: 0,
        })
    }
}

fn position(offset: u64) -> Result<usize, Errno> {
    usize::try_from(offset).map_err(|_| Errno::EINVAL)
}

impl Filesystem for OneFile {
    // A write that is held back must not keep the others waiting.
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let lacking = |_| std::io::Error::other("the kernel's FUSE has no asynchronous direct I/O");
        config.add_capabilities(InitFlags::FUSE_ASYNC_DIO).map_err(lacking)
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.attributes(FILE_NUMBER) {
            Some(file) if parent == INodeNo::ROOT && name == FILE => {
                reply.entry(&TTL, &file, Generation(0));
            }
            _ => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(number) {
            Some(attributes) => reply.attr(&TTL, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    // Past the page cache: every request of the loop device is one of the disk.
    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let bytes = position(offset).and_then(|offset| {
            self.request(|disk| disk.read(offset, size as usize).map(<[u8]>::to_vec))
        });
        match bytes {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let answer = |reply: ReplyWrite, result: Result<usize, Errno>| match result {
            Ok(bytes) => reply.written(bytes as u32),
            Err(error) => reply.error(error),
        };
        let offset = match position(offset) {
            Ok(offset) => offset,
            Err(error) => return reply.error(error),
        };
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        if disk.holds(offset, data.len()) {
            let bytes = data.to_vec();
            disk.keep(Box::new(move |disk| {
                let result = disk.write(offset, &bytes).map(|()| bytes.len());
                answer(reply, result.map_err(|Failed| Errno::EIO));
            }));
            return;
        }
        drop(disk);
        answer(reply, self.request(|disk| disk.write(offset, data)).map(|()| data.len()));
    }

    // close(2), not a flush of the device.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    // What REQ_OP_FLUSH of the loop device becomes.
    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        match self.request(Disk::flush) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }
}
