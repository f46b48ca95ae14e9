//! How a ring's life with a consumer begins and ends: created or taken over, left or removed.

use crate::ack_writer::AckWriters;
use crate::acks::AckMap;
use crate::aside::Aside;
use crate::consumer::{Consumer, Counters, Pending};
use crate::error::{RingError, RingPoisoned};
use crate::files;
use crate::host::{Host, OsHost};
use crate::layout::{SLOT_COUNT, SLOTS, offset};
use crate::mapping::{RingMap, RingOptions};
use crate::participant::ParticipantWord;
use crate::process::ProcessIdentity;
use crate::protocol::{self, Shared};
use crate::sync::{Ordering, fence};
use elgate_io::futex;
use elgate_types::mark;
use std::path::Path;
use std::sync::Arc;

/// How often opening starts over when the file changes under its hands.
const OPEN_ATTEMPTS_MAX: usize = 16;

impl Consumer {
    /// Opens the ring at `path`, creating it if there is none, and takes over where its last
    /// consumer stopped.
    ///
    /// # Errors
    /// [`RingError::InUse`] if another consumer lives; else what is wrong with the file or options.
    pub fn open(path: &Path, options: &RingOptions) -> Result<Self, RingError> {
        Self::open_on(&OsHost::shared(), path, options)
    }

    /// As [`open`](Self::open), on a host of the caller's choice.
    ///
    /// # Errors
    /// As there.
    pub fn open_on(
        host: &Arc<dyn Host>,
        path: &Path,
        options: &RingOptions,
    ) -> Result<Self, RingError> {
        options.check()?;
        for _ in 0..OPEN_ATTEMPTS_MAX {
            let ring = match RingMap::open(host, path) {
                Err(RingError::Missing { .. }) => match create(host, path, options)? {
                    Some(ring) => ring,
                    None => continue,
                },
                other => other?,
            };
            let locked = ring
                .file()
                .try_lock_byte(0)
                .map_err(|source| files::failed("lock", path, source))?;
            if !locked {
                let pid = ring.u32_at(offset::DAEMON_PID).load(Ordering::Relaxed);
                return Err(RingError::InUse { path: path.to_owned(), pid });
            }
            // Between opening and locking, a living consumer may have replaced the file.
            if ring.is_current() {
                let aside = Aside::open(host, path)?;
                ring.set_options(options);
                return Ok(Self::adopt(ring, aside, options.clone()));
            }
        }
        let source = std::io::Error::other("it keeps being replaced by another process");
        Err(files::failed("open", path, source))
    }

    /// Takes over a ring whose byte 0 we have locked.
    fn adopt(ring: RingMap, aside: Aside, options: RingOptions) -> Self {
        // Relaxed: the last consumer is dead, and only consumers write these two.
        let mut head = ring.head().load(Ordering::Relaxed);
        let epoch = ring.u64_at(offset::EPOCH).load(Ordering::Relaxed).wrapping_add(1);
        let tail = ring.tail().load(Ordering::Acquire); // pairs with the tail CAS
        let mut poisoned = None;
        if ring.poisoned().load(Ordering::Relaxed) != 0
            || tail.wrapping_sub(head) > SLOTS
            || head > u64::MAX / 2
        {
            poisoned = Some(RingPoisoned { position: head, word: tail });
            head = head.min(u64::MAX / 2);
        } else {
            while head < tail && protocol::is_released(&ring, head) {
                head += 1;
            }
            let _ = protocol::advance_head(&ring, head);
        }
        skip_what_is_aside(&ring, &aside);
        let identity = ring.host().identity();
        announce(&ring, &identity, epoch);
        futex::wake(ring.space_sequence(), u32::MAX);
        let consumer = Self {
            ring: Arc::new(ring),
            options,
            identity,
            acks: AckWriters::new(),
            epoch,
            head,
            read: head,
            pending: vec![Pending::default(); SLOT_COUNT].into_boxed_slice(),
            in_flight: 0,
            poisoned,
            aside,
            closed: Vec::new(),
            counters: Counters::default(),
            scratch: Vec::new(),
        };
        // Whether a route takes anything is for this consumer to find out.
        consumer.publish_closed();
        consumer
    }

    /// Ends the ring's life: removes the file if nothing is in it or set aside, for a ring that no later daemon
    /// is to find. Producers that are still attached see it given up. Returns whether it was
    /// removed.
    pub fn remove_if_empty(self) -> bool {
        self.ring.poisoned().store(1, Ordering::Relaxed);
        // Pairs with the fence in `must_wake_consumer`: a commit that we do not see below sees the
        // ring given up.
        fence(Ordering::SeqCst);
        let tail = self.ring.tail().load(Ordering::Acquire); // pairs with the tail CAS
        if tail != self.head || !self.ring.is_current() || !self.aside.is_empty() {
            let given_up = u32::from(self.poisoned.is_some());
            self.ring.poisoned().store(given_up, Ordering::Relaxed);
            return false;
        }
        for index in self.attached() {
            self.ring.host().remove(&AckMap::path_of(self.ring.path(), index));
        }
        self.ring.host().remove(self.ring.path());
        true
    }

    /// Begins anew on another ring whose byte 0 we have locked.
    pub(crate) fn switch_to(&mut self, ring: RingMap, first: u64, epoch: u64) {
        self.ring = Arc::new(ring);
        self.acks = AckWriters::new();
        (self.head, self.read, self.epoch) = (first, first, epoch);
        self.pending.fill(Pending::default());
        self.in_flight = 0;
        self.poisoned = None;
        self.publish_closed();
    }
}

/// Creates a ring and gives it its name. `None`: somebody else was faster.
fn create(
    host: &Arc<dyn Host>,
    path: &Path,
    options: &RingOptions,
) -> Result<Option<RingMap>, RingError> {
    let temporary = files::temporary(&**host, path);
    let mut ring = RingMap::create(host, &temporary, options, 0)?;
    ring.set_path(path);
    Ok(host.link_new(&temporary, path)?.then_some(ring))
}

/// Gives up the slots of what the last consumer had set aside when it died before it could release
/// them: from here on it is in one place only, whatever becomes of it or of the ring.
fn skip_what_is_aside(ring: &RingMap, aside: &Aside) {
    for sender in aside.senders().filter(|sender| sender.ring_id == ring.ring_id()) {
        if protocol::skip(ring, sender.position, sender.owner, sender.run) {
            mark::hit("ring.found_aside");
        }
    }
}

/// Writes who consumes the ring.
pub(crate) fn announce(ring: &RingMap, identity: &ProcessIdentity, epoch: u64) {
    // Read by people and tools; whether a consumer lives is asked of the lock.
    ring.u64_at(offset::EPOCH).store(epoch, Ordering::Relaxed);
    ring.u32_at(offset::DAEMON_PID).store(identity.pid, Ordering::Relaxed);
    ring.u64_at(offset::DAEMON_START_TIME).store(identity.start_time, Ordering::Relaxed);
    ring.u64_at(offset::DAEMON_PID_NAMESPACE).store(identity.pid_namespace, Ordering::Relaxed);
    let word = ParticipantWord::attached(epoch as u32, identity.pid);
    ring.participant(0).store(word.0, Ordering::Relaxed);
    protocol::end_sleep(ring);
}

impl Drop for Consumer {
    /// Gives the ring free at once, even while somebody still waits for its futex word and so keeps
    /// the mapping, and with it the lock's file, open. In a forked child the lock is the parent's.
    fn drop(&mut self) {
        if self.identity.pid == self.ring.host().process_id() {
            // If it fails, closing the file does it.
            let _ = self.ring.file().unlock_byte(0);
        }
    }
}
