//! Submissions in, acknowledgements out.
//!
//! ```text
//!  incoming ──► log has room? ──yes──► unacknowledged ──durable──► acknowledgement
//!                    │ no                     ▲
//!                    └──► held (slot taken) ──┘ room again
//! ```

use super::Route;
use crate::shard::Address;
use elgate_log::{AppendError, Source};
use elgate_ring::Submission;
use elgate_types::{ErrorCode, FlushMode, Level, Lsn, WallTime, mark, seeded_bug};

/// A submission that is in the log but not yet acknowledged.
pub(super) struct Unacknowledged {
    address: Address,
    op_id: u64,
    first_lsn: Lsn,
    last_lsn: Lsn,
    record_count: u32,
}

/// A submission the log had no room for. Its slot stays taken, so the ring bounds how many exist.
pub(super) struct Held {
    address: Address,
    op_id: u64,
    record_count: u32,
    progress: Progress,
    /// The records, each behind its length (u32, little-endian).
    body: Box<[u8]>,
}

/// How far a submission has got into the log.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    appended: u32,
    first_lsn: Option<Lsn>,
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
        let mut refused =
            acknowledge(self.address, self.op_id, Lsn::ZERO, self.record_count, Level::Accepted);
        refused.completion.status = Some(code);
        refused
    }
}

/// An acknowledgement for the ring that a submission came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Acknowledgement {
    pub(crate) address: Address,
    pub(crate) completion: elgate_ring::Completion,
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
            progress = Progress { appended: span.record_count, first_lsn: Some(span.first_lsn) };
        }
        let complete = self.held.is_empty()
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
            self.held.push_back(Held { address, op_id, record_count, progress, body });
        } else if let Some(first_lsn) = progress.first_lsn {
            self.expect_durable(address, op_id, first_lsn, record_count);
        }
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
            progress.appended += 1;
            self.appended_records += 1;
            self.appended_bytes += payload.len() as u64;
        }
        Ok(())
    }

    fn expect_durable(&mut self, address: Address, op_id: u64, first_lsn: Lsn, record_count: u32) {
        let last_lsn = Lsn(first_lsn.0 + u64::from(record_count) - 1);
        self.unacknowledged.push_back(Unacknowledged {
            address,
            op_id,
            first_lsn,
            last_lsn,
            record_count,
        });
    }

    /// Appends what was held, as far as the log has room again.
    pub(super) fn append_held(&mut self, wall: WallTime) {
        while let Some(mut held) = self.held.pop_front() {
            if self.append(held.address, &held.body, &mut held.progress, wall).is_err() {
                self.held.push_front(held);
                return;
            }
            if let Some(first_lsn) = held.progress.first_lsn {
                self.expect_durable(held.address, held.op_id, first_lsn, held.record_count);
            }
        }
    }

    /// Gives up the slots this route holds because its log is parked, so that the ring does not
    /// fill up for the others. What had not been appended is refused; of the rest the outcome is
    /// unknown, since the log may still write it when its device returns.
    pub(crate) fn shed(&mut self, acknowledgements: &mut Vec<Acknowledgement>) {
        if self.parked.is_none() {
            return;
        }
        mark::hit("route.shed");
        for entry in self.unacknowledged.drain(..) {
            let Unacknowledged { address, op_id, first_lsn, record_count, .. } = entry;
            let mut unknown = acknowledge(address, op_id, first_lsn, record_count, Level::Accepted);
            unknown.completion.status = Some(ErrorCode::Timeout);
            acknowledgements.push(unknown);
        }
        for held in self.held.drain(..) {
            let first_lsn = held.progress.first_lsn.unwrap_or(Lsn::ZERO);
            let code = match held.progress.appended {
                0 => ErrorCode::LogUnavailable,
                _ => ErrorCode::Timeout,
            };
            let mut refused = acknowledge(
                held.address,
                held.op_id,
                first_lsn,
                held.record_count,
                Level::Accepted,
            );
            refused.completion.status = Some(code);
            acknowledgements.push(refused);
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
    Acknowledgement { address, completion }
}
