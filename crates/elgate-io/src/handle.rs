//! Handles to open files, connections and listeners.
//!
//! Cheap to clone; the descriptor closes when the last clone is dropped. An operation under way
//! holds a clone, so a descriptor number is never reused beneath it.

use crate::file_jobs::Pace;
use crate::sim::SimHandle;
use crate::sys::error;
use elgate_types::limits::BLOCK_BYTES;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Which file a handle refers to, whatever its name: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FileIdentity {
    /// Device number.
    pub device: u64,
    /// Inode number on that device.
    pub inode: u64,
}

#[derive(Debug)]
pub(crate) enum Descriptor {
    Os {
        fd: OwnedFd,
        /// Opened by a `Platform` with `direct`: offsets and lengths must be whole blocks.
        direct: bool,
        pace: Pace,
    },
    /// A handle of the simulator, which closes it when this is dropped.
    Sim(SimHandle),
}

impl Descriptor {
    pub(crate) fn of(fd: OwnedFd, direct: bool) -> Self {
        Self::Os { fd, direct, pace: Pace::new() }
    }

    /// The descriptor, if the operating system made this handle: `EBADF` for one of the simulator.
    pub(crate) fn os(&self) -> io::Result<BorrowedFd<'_>> {
        match self {
            Self::Os { fd, .. } => Ok(fd.as_fd()),
            Self::Sim(_) => Err(error(libc::EBADF)),
        }
    }

    /// The simulator's handle: `EBADF` for one of the operating system.
    pub(crate) fn sim(&self) -> io::Result<&SimHandle> {
        match self {
            Self::Sim(handle) => Ok(handle),
            Self::Os { .. } => Err(error(libc::EBADF)),
        }
    }

    /// How long its writes take.
    pub(crate) fn pace(&self) -> &Pace {
        static NOBODYS: Pace = Pace::new();
        match self {
            Self::Os { pace, .. } => pace,
            // No driver of ours writes there.
            Self::Sim(_) => &NOBODYS,
        }
    }

    /// Whether only whole blocks may be read and written.
    pub(crate) fn is_direct(&self) -> bool {
        matches!(self, Self::Os { direct: true, .. })
    }
}

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name(pub(crate) Arc<Descriptor>);

        impl From<OwnedFd> for $name {
            fn from(descriptor: OwnedFd) -> Self {
                Self(Arc::new(Descriptor::of(descriptor, false)))
            }
        }
    };
}

handle!(
    /// An open regular file.
    File
);
handle!(
    /// A connected stream socket.
    Socket
);
handle!(
    /// A socket that accepts connections.
    Listener
);

impl File {
    /// `EINVAL` if a direct file cannot be asked for this range. Checked here because file systems
    /// differ in what they refuse.
    pub(crate) fn check_alignment(&self, offset: u64, bytes: usize) -> io::Result<()> {
        let aligned =
            offset.is_multiple_of(BLOCK_BYTES as u64) && bytes.is_multiple_of(BLOCK_BYTES);
        if self.0.is_direct() && !aligned { Err(error(libc::EINVAL)) } else { Ok(()) }
    }
}
