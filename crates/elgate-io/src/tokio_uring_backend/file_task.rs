//! File operations as tasks of the runtime.

use crate::{Buffer, Completion, File, Outcome, Token};
use std::io;
use std::os::fd::OwnedFd;
use tokio_uring::buf::{IoBuf, IoBufMut};

/// An operation on a file, not begun.
pub(super) enum FileOp {
    Write { file: File, offset: u64, buffer: Buffer, durable: bool },
    Read { file: File, offset: u64, buffer: Buffer },
    Sync { file: File },
}

impl FileOp {
    pub(super) fn into_buffer(self) -> Option<Buffer> {
        match self {
            Self::Write { buffer, .. } | Self::Read { buffer, .. } => Some(buffer),
            Self::Sync { .. } => None,
        }
    }

    /// Carries it out. Ends only with the kernel's last word about it.
    pub(super) async fn run(self, token: Token) -> Completion {
        let (result, buffer) = match self {
            Self::Write { file, offset, buffer, durable } => {
                let (result, buffer) = write(&file, offset, buffer, durable).await;
                (result.map(Outcome::Bytes), Some(buffer))
            }
            Self::Read { file, offset, buffer } => {
                let (result, buffer) = read(&file, offset, buffer).await;
                (result.map(Outcome::Bytes), Some(buffer))
            }
            Self::Sync { file } => (sync(&file).await.map(|()| Outcome::Done), None),
        };
        Completion { token, result, buffer }
    }
}

/// The runtime's own handle of a file. It closes what it is given, so it gets a descriptor of its
/// own.
fn target(file: &File) -> io::Result<tokio_uring::fs::File> {
    let fd: OwnedFd = file.0.os()?.try_clone_to_owned()?;
    Ok(tokio_uring::fs::File::from_std(fd.into()))
}

async fn write(
    file: &File,
    offset: u64,
    buffer: Buffer,
    durable: bool,
) -> (io::Result<usize>, Buffer) {
    let target = match target(file) {
        Ok(target) => target,
        Err(error) => return (Err(error), buffer),
    };
    let wanted = buffer.len();
    let mut memory = Lent(buffer);
    loop {
        let (result, back) = target.write_at(memory, offset).submit().await;
        memory = back;
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Whoever wrote too little learns nothing from syncing it.
            Ok(count) if durable && count == wanted => {
                return (target.sync_data().await.map(|()| count), memory.0);
            }
            result => return (result, memory.0),
        }
    }
}

async fn read(file: &File, offset: u64, mut buffer: Buffer) -> (io::Result<usize>, Buffer) {
    buffer.clear();
    let target = match target(file) {
        Ok(target) => target,
        Err(error) => return (Err(error), buffer),
    };
    let mut memory = Lent(buffer);
    loop {
        let (result, back) = target.read_at(memory, offset).await;
        memory = back;
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return (result, memory.0),
        }
    }
}

async fn sync(file: &File) -> io::Result<()> {
    target(file)?.sync_data().await
}

/// A buffer while the runtime has it.
struct Lent(Buffer);

// SAFETY: the bytes lie outside the value that is moved about, and stay where they are until it is
// dropped.
unsafe impl IoBuf for Lent {
    fn stable_ptr(&self) -> *const u8 {
        self.0.base()
    }

    fn bytes_init(&self) -> usize {
        self.0.len()
    }

    fn bytes_total(&self) -> usize {
        self.0.capacity()
    }
}

// SAFETY: as above; all of the capacity is initialised from birth.
unsafe impl IoBufMut for Lent {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.0.base()
    }

    unsafe fn set_init(&mut self, bytes: usize) {
        self.0.set_length(bytes);
    }
}
