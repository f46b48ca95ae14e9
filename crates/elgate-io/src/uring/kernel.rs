//! Operations in the form in which the kernel takes them, and what its results mean.

use super::registered::RegisteredArena;
use super::ring::{FUTEX_MATCH_ANY, FUTEX2_SHARED_U32};
use crate::sys::{RawAddress, TRANSFER_BYTES_MAX, own, set_no_delay};
use crate::{Buffer, File, FutexWord, Listener, Outcome, Socket};
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{opcode, squeue};
use std::io;
use std::os::fd::AsRawFd;

/// An operation as the ring knows it.
pub(super) enum Kernel {
    Write { file: File, offset: u64, buffer: Buffer, durable: bool },
    Read { file: File, offset: u64, buffer: Buffer },
    Sync { file: File },
    Connect { socket: Socket, address: Box<RawAddress> },
    Accept { listener: Listener, from: Box<RawAddress> },
    Send { socket: Socket, buffer: Buffer, offset: usize },
    Receive { socket: Socket, buffer: Buffer },
    FutexWait { word: FutexWord, expected: u32 },
}

impl Kernel {
    pub(super) fn descriptor(&self) -> io::Result<i32> {
        Ok(match self {
            Self::Write { file, .. } | Self::Read { file, .. } | Self::Sync { file } => {
                file.0.os()?.as_raw_fd()
            }
            Self::Connect { socket, .. }
            | Self::Send { socket, .. }
            | Self::Receive { socket, .. } => socket.0.os()?.as_raw_fd(),
            Self::Accept { listener, .. } => listener.0.os()?.as_raw_fd(),
            Self::FutexWait { .. } => -1,
        })
    }

    /// The submission. Points into `self`'s heap memory, which must outlive the operation.
    /// `sync_follows`: a durable write need not be so by itself.
    pub(super) fn entry(
        &mut self,
        registered: &RegisteredArena,
        sync_follows: bool,
    ) -> squeue::Entry {
        let fd = self.fd();
        match self {
            Self::Write { offset, buffer, durable, .. } => {
                let flags = if *durable && !sync_follows { libc::RWF_DSYNC } else { 0 };
                let (base, bytes) = (buffer.base(), transfer(buffer.len()));
                match registered.index_of(buffer) {
                    Some(index) => opcode::WriteFixed::new(fd, base, bytes, index)
                        .offset(*offset)
                        .rw_flags(flags)
                        .build(),
                    None => {
                        opcode::Write::new(fd, base, bytes).offset(*offset).rw_flags(flags).build()
                    }
                }
            }
            Self::Read { offset, buffer, .. } => {
                let (base, bytes) = (buffer.base(), transfer(buffer.capacity()));
                match registered.index_of(buffer) {
                    Some(index) => {
                        opcode::ReadFixed::new(fd, base, bytes, index).offset(*offset).build()
                    }
                    None => opcode::Read::new(fd, base, bytes).offset(*offset).build(),
                }
            }
            Self::Sync { .. } => self.sync_entry(),
            Self::Connect { address, .. } => {
                let storage = (&raw const address.storage).cast();
                opcode::Connect::new(fd, storage, address.length).build()
            }
            Self::Accept { from, .. } => {
                let storage = (&raw mut from.storage).cast();
                opcode::Accept::new(fd, storage, &raw mut from.length)
                    .flags(libc::SOCK_CLOEXEC)
                    .build()
            }
            Self::Send { buffer, offset, .. } => {
                let bytes = &buffer[*offset..];
                opcode::Send::new(fd, bytes.as_ptr(), transfer(bytes.len()))
                    .flags(libc::MSG_NOSIGNAL)
                    .build()
            }
            Self::Receive { buffer, .. } => {
                opcode::Recv::new(fd, buffer.base(), transfer(buffer.capacity())).build()
            }
            Self::FutexWait { word, expected } => opcode::FutexWait::new(
                word.get().as_ptr(),
                u64::from(*expected),
                FUTEX_MATCH_ANY,
                FUTEX2_SHARED_U32,
            )
            .build(),
        }
    }

    /// Brings what is written of its file to stable storage.
    pub(super) fn sync_entry(&self) -> squeue::Entry {
        opcode::Fsync::new(self.fd()).flags(FsyncFlags::DATASYNC).build()
    }

    fn fd(&self) -> Fd {
        Fd(self.descriptor().expect("checked before it came into the slab"))
    }

    /// Whether it is a write that has to be on stable storage, and if so, how many bytes.
    pub(super) fn durable_bytes(&self) -> Option<u32> {
        match self {
            Self::Write { durable: true, buffer, .. } => Some(transfer(buffer.len())),
            _ => None,
        }
    }

    /// What a result that is not an error means.
    pub(super) fn finish(self, result: i32) -> (Outcome, Option<Buffer>) {
        let count = usize::try_from(result).unwrap_or(0);
        match self {
            Self::Write { buffer, .. } | Self::Send { buffer, .. } => {
                (Outcome::Bytes(count), Some(buffer))
            }
            Self::Read { mut buffer, .. } | Self::Receive { mut buffer, .. } => {
                buffer.set_length(count);
                (Outcome::Bytes(count), Some(buffer))
            }
            Self::Sync { .. } | Self::FutexWait { .. } => (Outcome::Done, None),
            Self::Connect { socket, .. } => (Outcome::Connected(socket), None),
            Self::Accept { from, .. } => {
                let socket = own(result);
                set_no_delay(socket.as_raw_fd());
                (Outcome::Accepted(socket.into(), from.address()), None)
            }
        }
    }

    pub(super) fn into_buffer(self) -> Option<Buffer> {
        match self {
            Self::Write { buffer, .. } | Self::Send { buffer, .. } => Some(buffer),
            Self::Read { mut buffer, .. } | Self::Receive { mut buffer, .. } => {
                buffer.clear();
                Some(buffer)
            }
            _ => None,
        }
    }

    pub(super) fn is_socket(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. } | Self::Accept { .. } | Self::Send { .. } | Self::Receive { .. }
        )
    }
}

fn transfer(bytes: usize) -> u32 {
    u32::try_from(bytes.min(TRANSFER_BYTES_MAX)).unwrap_or(u32::MAX)
}
