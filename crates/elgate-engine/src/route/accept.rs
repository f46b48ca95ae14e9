//! Submissions in, acknowledgements out.
//!
//! ```text
//!  incoming ──► log has room? ──yes──► unacknowledged ──durable──► acknowledgement
//!                    │ no                     ▲
//!                    └──► held ───────────────┘ room again
//! ```
//!
//! Until its acknowledgement a submission keeps its slot in the ring, or its copy set aside.

use super::Route;
use crate::shard::Address;
use elgate_log::{AppendError, POSITIONS_KEPT, Source};
use elgate_ring::Submission;
use elgate_types::{ErrorCode, FlushMode, Level, Lsn, WallTime, mark, seeded_bug};

/// A submission that is in the log but not yet acknowledged.
pub(super) struct Unacknowledged {
    address: Address,
    op_id: u64,
    first_lsn: Lsn,
    last_lsn: Lsn,
    record_count: u32,
    /// Whether its ring has been asked to set it aside.
    is_aside: bool,
}

/// A submission the log had no room for. Its slot stays taken, or its copy set aside: the two bound
/// how many exist.
pub(super) struct Held {
    address: Address,
    op_id: u64,
    record_count: u32,
    progress: Progress,
    is_aside: bool,
    /// The records, each behind its length (u32, little-endian).
    body: Box<[u8]>,
}

/// How far a submission has got into the log.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    appended: u32,
    first_lsn: Option<Lsn>,
    /// Of the last record appended. Begun in an earlier life of the log, a submission has others
    /// between its records.
    last_lsn: Lsn,
}

/// A submission on its way into a route.
pub(crate) struct Incoming<'a> {
    pub(crate) address: Address,
    pub(crate) op_id: u64,
    pub(crate) record_count: u32,
    /// The records, each behind its length (u32, little-endian).
    pub(crate) body: &'a [u8],
}

impl<'a> Incoming<'a> {
    pub(crate) fn from(address: Address, submission: &Submission<'a>) -> Self {
        Self {
            address,
            op_id: submission.op_id,
            record_count: submission.record_count,
            body: submission.body(),
        }
    }

    /// The acknowledgement of a submission that was not taken.
    pub(crate) fn refused(&self, code: ErrorCode) -> Acknowledgement {
        refuse(self.address, self.op_id, Lsn::ZERO, self.record_count, code)
    }
}

/// News for the ring that a submission came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Acknowledgement {
    pub(crate) address: Address,
    pub(crate) verdict: Verdict,
}

/// What has become of a submission.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verdict {
    /// It is beyond this process's death, or refused.
    Finished(elgate_ring::Completion),
    /// It waits for its log, and its slots are needed: keep it elsewhere.
    SetAside,
}

impl Route {
    /// Takes a submission. Its acknowledgement follows through `acknowledgements`, perhaps at
    /// once.
    pub(crate) fn accept(
        &mut self,
        incoming: &Incoming<'_>,
        wall: WallTime,
        acknowledgements: &mut Vec<Acknowledgement>,
    ) {
        self.dirty = true;
        let &Incoming { address, op_id, record_count, .. } = incoming;
        let mut progress = Progress::default();
        if self.was_passed_over(address) {
            mark::hit("ring.replay_passed_over");
            acknowledgements.push(incoming.refused(ErrorCode::Timeout));
            return;
        }
        if !self.replayed.is_empty()
            && !seeded_bug::is("append-replayed-again")
            && let Some(span) = self.replayed.remove(&(address.ring_id, address.position))
        {
            mark::hit("ring.replay_found_logged");
            if span.record_count >= record_count {
                let level = self.reached();
                let done = acknowledge(address, op_id, span.first_lsn, record_count, level);
                acknowledgements.push(done);
                return;
            }
            let (appended, first_lsn) = (span.record_count, Some(span.first_lsn));
            progress = Progress { appended, first_lsn, ..progress };
        }
        let complete = self.held.is_empty()
            && self.is_within_reach(address)
            && match self.append(address, incoming.body, &mut progress, wall) {
                Ok(()) => true,
                Err(AppendError::TooLarge { .. }) => {
                    // The ring has the same limit, so an honest producer never gets here.
                    acknowledgements.push(incoming.refused(ErrorCode::PayloadTooLarge));
                    return;
                }
                Err(_) => false,
            };
        if !complete {
            mark::hit("route.held");
            let body = incoming.body.into();
            self.held.push_back(Held {
                address,
                op_id,
                record_count,
                progress,
                is_aside: false,
                body,
            });
        } else {
            self.expect_durable(address, op_id, record_count, progress, false);
        }
    }

    /// Whether a later submission of its ring was found in the log, and this one not. A ring's are
    /// logged in their order, so this one was refused before the engine died, or what the log had of
    /// it is lost. It keeps the order: by that one knows how far back to look for the others.
    fn was_passed_over(&self, address: Address) -> bool {
        let logged_to = self.logged_to.get(&address.ring_id);
        logged_to.is_some_and(|last| address.position < *last)
            && !self.replayed.contains_key(&(address.ring_id, address.position))
    }

    /// Whether a submission that is finished later than this one is appended would still be found in
    /// the log, were it handed over again: recovery looks back so far only. In a ring's slots nothing
    /// else can be; what was set aside may be much older.
    fn is_within_reach(&self, address: Address) -> bool {
        let same_ring = |entry: &&Unacknowledged| entry.address.ring_id == address.ring_id;
        self.unacknowledged.iter().find(same_ring).is_none_or(|oldest| {
            address.position <= oldest.address.position.saturating_add(POSITIONS_KEPT)
        })
    }

    /// Appends a submission's records, going on from where an earlier attempt stopped.
    fn append(
        &mut self,
        address: Address,
        body: &[u8],
        progress: &mut Progress,
        wall: WallTime,
    ) -> Result<(), AppendError> {
        let source = Source { ring_id: address.ring_id, position: address.position };
        for payload in elgate_ring::records(body).skip(progress.appended as usize) {
            let lsn = self.log.append(payload, source, wall)?;
            progress.first_lsn.get_or_insert(lsn);
            progress.last_lsn = lsn;
            progress.appended += 1;
            self.appended_records += 1;
            self.appended_bytes += payload.len() as u64;
        }
        Ok(())
    }

    fn expect_durable(
        &mut self,
        address: Address,
        op_id: u64,
        record_count: u32,
        progress: Progress,
        is_aside: bool,
    ) {
        let Progress { first_lsn: Some(first_lsn), last_lsn, .. } = progress else { return };
        self.unacknowledged.push_back(Unacknowledged {
            address,
            op_id,
            first_lsn,
            last_lsn,
            record_count,
            is_aside,
        });
    }

    /// Appends what was held, as far as the log has room again.
    pub(super) fn append_held(&mut self, wall: WallTime) {
        while let Some(mut held) = self.held.pop_front() {
            if !self.is_within_reach(held.address)
                || self.append(held.address, &held.body, &mut held.progress, wall).is_err()
            {
                self.held.push_front(held);
                return;
            }
            let Held { address, op_id, record_count, progress, is_aside, .. } = held;
            self.expect_durable(address, op_id, record_count, progress, is_aside);
        }
    }

    /// Asks the rings to set aside what this route keeps in them.
    pub(crate) fn set_aside(&mut self, acknowledgements: &mut Vec<Acknowledgement>) {
        let unacknowledged =
            self.unacknowledged.iter_mut().map(|entry| (entry.address, &mut entry.is_aside));
        let held = self.held.iter_mut().map(|held| (held.address, &mut held.is_aside));
        for (address, is_aside) in unacknowledged.chain(held).filter(|(_, is_aside)| !**is_aside) {
            *is_aside = true;
            acknowledgements.push(Acknowledgement { address, verdict: Verdict::SetAside });
        }
    }

    /// Asks again for what a ring could not set aside.
    pub(crate) fn ask_again_to_set_aside(&mut self) {
        self.unacknowledged.iter_mut().for_each(|entry| entry.is_aside = false);
        self.held.iter_mut().for_each(|held| held.is_aside = false);
    }

    /// Answers everybody who waits for a route that is removed while its log is parked. What had
    /// not been appended is refused; of the rest the outcome is unknown, since a later life of the
    /// log may still find it written.
    pub(super) fn give_up(&mut self, acknowledgements: &mut Vec<Acknowledgement>) {
        if self.parked.is_none() {
            return;
        }
        mark::hit("route.given_up");
        for entry in self.unacknowledged.drain(..) {
            let Unacknowledged { address, op_id, first_lsn, record_count, .. } = entry;
            let code = ErrorCode::Timeout;
            acknowledgements.push(refuse(address, op_id, first_lsn, record_count, code));
        }
        for held in self.held.drain(..) {
            let first_lsn = held.progress.first_lsn.unwrap_or(Lsn::ZERO);
            let code = match held.progress.appended {
                0 => ErrorCode::LogUnavailable,
                _ => ErrorCode::Timeout,
            };
            let Held { address, op_id, record_count, .. } = held;
            acknowledgements.push(refuse(address, op_id, first_lsn, record_count, code));
        }
    }

    /// Acknowledges what lies wholly at or before `through`.
    pub(super) fn acknowledge_through(
        &mut self,
        through: Lsn,
        level: Level,
        acknowledgements: &mut Vec<Acknowledgement>,
    ) {
        while self.unacknowledged.front().is_some_and(|entry| entry.last_lsn <= through) {
            let Some(entry) = self.unacknowledged.pop_front() else { return };
            acknowledgements.push(acknowledge(
                entry.address,
                entry.op_id,
                entry.first_lsn,
                entry.record_count,
                level,
            ));
        }
    }

    /// What a receipt may say of a record found in the log at start-up.
    fn reached(&self) -> Level {
        if self.config.flush == FlushMode::None { Level::Accepted } else { Level::Durable }
    }
}

fn acknowledge(
    address: Address,
    op_id: u64,
    first_lsn: Lsn,
    record_count: u32,
    level: Level,
) -> Acknowledgement {
    let completion =
        elgate_ring::Completion { op_id, first_lsn, record_count, status: None, level };
    Acknowledgement { address, verdict: Verdict::Finished(completion) }
}

fn refuse(
    address: Address,
    op_id: u64,
    first_lsn: Lsn,
    record_count: u32,
    code: ErrorCode,
) -> Acknowledgement {
    let (status, level) = (Some(code), Level::Accepted);
    let completion = elgate_ring::Completion { op_id, first_lsn, record_count, status, level };
    Acknowledgement { address, verdict: Verdict::Finished(completion) }
}
