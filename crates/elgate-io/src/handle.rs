//! Handles to open files, connections and listeners.
//!
//! Cheap to clone; the descriptor closes when the last clone is dropped. An operation under way
//! holds a clone, so a descriptor number is never reused beneath it.

use std::os::fd::OwnedFd;
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
    Os(OwnedFd),
    /// A handle of the simulator, by number.
    Sim(u64),
}

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name(pub(crate) Arc<Descriptor>);

        impl From<OwnedFd> for $name {
            fn from(descriptor: OwnedFd) -> Self {
                Self(Arc::new(Descriptor::Os(descriptor)))
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
