//! What the kernel works on. An operation stays here, with its buffer and its handle, from the
//! moment it is queued until its result is in; nothing it points to moves or is freed before.

use super::ring::{FUTEX_MATCH_ANY, FUTEX2_SHARED_U32};
use crate::sys::{RawAddress, TRANSFER_BYTES_MAX, own, set_no_delay};
use crate::{Buffer, File, FutexWord, Listener, Outcome, Socket, Token};
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
    pub(super) fn entry(&mut self) -> squeue::Entry {
        let fd = Fd(self.descriptor().expect("checked before it came into the slab"));
        match self {
            Self::Write { offset, buffer, durable, .. } => {
                let flags = if *durable { libc::RWF_DSYNC } else { 0 };
                opcode::Write::new(fd, buffer.base(), transfer(buffer.len()))
                    .offset(*offset)
                    .rw_flags(flags)
                    .build()
            }
            Self::Read { offset, buffer, .. } => {
                opcode::Read::new(fd, buffer.base(), transfer(buffer.capacity()))
                    .offset(*offset)
                    .build()
            }
            Self::Sync { .. } => opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build(),
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

pub(super) struct InFlight {
    pub(super) token: Token,
    pub(super) kernel: Kernel,
    /// Somebody asked for it to end early.
    pub(super) cancelled: bool,
    /// Waits in the backlog: the kernel has not seen it.
    pub(super) queued: bool,
}

/// Names a place in the slab, and which of its successive occupants: `generation:31 | index:32`.
pub(super) type Key = u64;

struct Place {
    generation: u32,
    occupant: Option<InFlight>,
}

#[derive(Default)]
pub(super) struct Slab {
    places: Vec<Place>,
    free: Vec<u32>,
}

impl Slab {
    pub(super) fn insert(&mut self, occupant: InFlight) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, occupant: None });
            u32::try_from(self.places.len() - 1).expect("fewer than 2^32 operations in flight")
        });
        let place = &mut self.places[index as usize];
        place.occupant = Some(occupant);
        u64::from(place.generation) << 32 | u64::from(index)
    }

    pub(super) fn get(&mut self, key: Key) -> Option<&mut InFlight> {
        let place = self.places.get_mut(index(key))?;
        (u64::from(place.generation) == key >> 32).then_some(place.occupant.as_mut()).flatten()
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<InFlight> {
        self.get(key)?;
        let place = &mut self.places[index(key)];
        place.generation = (place.generation + 1) & 0x7fff_ffff;
        self.free.push(u32::try_from(index(key)).unwrap_or(u32::MAX));
        place.occupant.take()
    }

    /// The keys of all occupants that `wanted` picks.
    pub(super) fn keys(&self, wanted: impl Fn(&InFlight) -> bool) -> Vec<Key> {
        self.places
            .iter()
            .zip(0_u64..)
            .filter(|(place, _)| place.occupant.as_ref().is_some_and(&wanted))
            .map(|(place, index)| u64::from(place.generation) << 32 | index)
            .collect()
    }
}

fn index(key: Key) -> usize {
    (key & 0xffff_ffff) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(token: Token) -> InFlight {
        let owner = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        // SAFETY: the word is the owner's content.
        let word = unsafe { FutexWord::new(&raw const *owner, owner) };
        let kernel = Kernel::FutexWait { word, expected: 0 };
        InFlight { token, kernel, cancelled: false, queued: false }
    }

    #[test]
    fn an_old_key_does_not_name_a_new_occupant() {
        let mut slab = Slab::default();
        let (first, second) = (slab.insert(wait(1)), slab.insert(wait(2)));
        assert_eq!(slab.remove(first).map(|found| found.token), Some(1));
        let third = slab.insert(wait(3));
        assert_eq!(third & 0xffff_ffff, first & 0xffff_ffff, "the place is used again");
        assert!(slab.remove(first).is_none());
        assert_eq!(slab.get(third).map(|found| found.token), Some(3));
        assert_eq!(slab.keys(|found| found.token == 2), [second]);
    }
}
