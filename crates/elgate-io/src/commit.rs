//! How a durable write reaches stable storage.

use serde::{Deserialize, Serialize};

/// How a driver carries out [`Op::Write`](crate::Op::Write) with `durable`. Each keeps the same
/// promise; which is fastest depends on the kernel, the file system and the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Commit {
    /// One operation of the ring, with `RWF_DSYNC`: on a preallocated, written file the device is
    /// told once, with a write that passes its cache.
    #[default]
    Dsync,
    /// A write of the ring, linked to an `fdatasync` that begins when all of it is written. (On
    /// tokio-uring, which knows no links, one after the other.)
    Link,
    /// A blocking `pwritev2` with `RWF_DSYNC`, off the ring.
    Blocking,
}

impl Commit {
    /// Its name, as configuration and reports spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dsync => "dsync",
            Self::Link => "link",
            Self::Blocking => "blocking",
        }
    }
}
