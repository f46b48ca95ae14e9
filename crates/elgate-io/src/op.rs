//! Operations and their completions.

use crate::{Buffer, File, Listener, Platform, Socket};
use elgate_types::Monotonic;
use std::any::Any;
use std::io;
use std::net::SocketAddr;

/// Names an operation in its completion. Chosen by the submitter; the driver only carries it.
pub type Token = u64;

/// What a [`BlockingCall`] returns, to be downcast by whoever submitted it.
pub type BlockingReply = Box<dyn Any + Send>;

/// Work that may block, run off the shard's thread (inline, in virtual time, on `sim`).
pub type BlockingCall = Box<dyn FnOnce(&dyn Platform) -> io::Result<BlockingReply> + Send>;

/// An operation to carry out. Buffers are owned by the operation while it is under way and come
/// back in its completion, whatever its result: a kernel that still writes into a buffer can
/// never see it reused.
pub enum Op {
    /// Writes `buffer` (its whole length) at `offset`. With `durable`, completion means the data
    /// is on stable storage (how: [`Commit`](crate::Commit)). A short write completes with fewer
    /// bytes, of which nothing is promised; it is not retried here. Files opened with `direct` need block-aligned offset and length.
    Write {
        /// Destination.
        file: File,
        /// Byte offset in the file.
        offset: u64,
        /// What to write.
        buffer: Buffer,
        /// Whether completion implies stable storage.
        durable: bool,
    },
    /// Reads up to `buffer.capacity()` bytes at `offset`; the buffer's length becomes what was
    /// read. Zero bytes: end of file.
    Read {
        /// Source.
        file: File,
        /// Byte offset in the file.
        offset: u64,
        /// Where to.
        buffer: Buffer,
    },
    /// Brings all completed writes of the file to stable storage (`fdatasync`).
    Sync {
        /// Which file.
        file: File,
    },
    /// Opens a stream connection. Outcome: [`Outcome::Connected`].
    Connect {
        /// The peer.
        address: SocketAddr,
    },
    /// Takes the next connection. Outcome: [`Outcome::Accepted`].
    Accept {
        /// Where it arrives.
        listener: Listener,
    },
    /// Sends `buffer[offset..]`; may send less. Never raises SIGPIPE.
    Send {
        /// The connection.
        socket: Socket,
        /// The bytes.
        buffer: Buffer,
        /// First byte of the buffer to send.
        offset: usize,
    },
    /// Receives up to `buffer.capacity()` bytes; the buffer's length becomes what arrived. Zero
    /// bytes: the peer has finished sending.
    Receive {
        /// The connection.
        socket: Socket,
        /// Where to.
        buffer: Buffer,
    },
    /// Completes at `deadline`, or at once if that has passed.
    Timer {
        /// When.
        deadline: Monotonic,
    },
    /// Completes when somebody wakes the futex word, or at once if it does not hold `expected`.
    FutexWait {
        /// The word.
        word: FutexWord,
        /// The value it must hold for the wait to begin.
        expected: u32,
    },
    /// Runs a blocking call elsewhere. Outcome: [`Outcome::Reply`].
    Blocking(BlockingCall),
}

impl std::fmt::Debug for Op {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self {
            Self::Write { .. } => "Write",
            Self::Read { .. } => "Read",
            Self::Sync { .. } => "Sync",
            Self::Connect { .. } => "Connect",
            Self::Accept { .. } => "Accept",
            Self::Send { .. } => "Send",
            Self::Receive { .. } => "Receive",
            Self::Timer { .. } => "Timer",
            Self::FutexWait { .. } => "FutexWait",
            Self::Blocking(_) => "Blocking",
        };
        formatter.write_str(name)
    }
}

/// How an operation ended.
#[derive(Debug)]
pub struct Completion {
    /// The token it was submitted with.
    pub token: Token,
    /// Its result. A cancelled operation ends with `ECANCELED`.
    pub result: io::Result<Outcome>,
    /// The buffer it was given, if it was given one.
    pub buffer: Option<Buffer>,
}

/// What a successful operation yields.
#[derive(Debug)]
pub enum Outcome {
    /// `Write`, `Read`, `Send`, `Receive`: so many bytes.
    Bytes(usize),
    /// `Sync`, `Timer`, `FutexWait`.
    Done,
    /// `Connect`.
    Connected(Socket),
    /// `Accept`.
    Accepted(Socket, SocketAddr),
    /// `Blocking`.
    Reply(BlockingReply),
}

/// A 32-bit futex word in memory that outlives the wait.
///
/// Keeps its memory alive by owning a reference to whatever contains the word.
#[derive(Clone)]
pub struct FutexWord {
    word: *const std::sync::atomic::AtomicU32,
    _owner: std::sync::Arc<dyn Any + Send + Sync>,
}

// SAFETY: the word is an atomic kept alive by `_owner`, which is itself Send + Sync.
unsafe impl Send for FutexWord {}
// SAFETY: as above; all access goes through the atomic.
unsafe impl Sync for FutexWord {}

impl FutexWord {
    /// Names `word`, which must lie in memory kept alive by `owner`.
    ///
    /// # Safety
    /// `word` must stay valid for as long as `owner` (or a clone of it) lives.
    #[must_use]
    pub unsafe fn new(
        word: *const std::sync::atomic::AtomicU32,
        owner: std::sync::Arc<dyn Any + Send + Sync>,
    ) -> Self {
        Self { word, _owner: owner }
    }

    /// The word.
    #[must_use]
    pub fn get(&self) -> &std::sync::atomic::AtomicU32 {
        // SAFETY: valid while `_owner` lives, by the contract of `new`.
        unsafe { &*self.word }
    }
}

impl std::fmt::Debug for FutexWord {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "FutexWord({:p})", self.word)
    }
}
