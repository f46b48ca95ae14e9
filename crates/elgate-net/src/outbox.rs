//! What the client wants from outside: operations to submit, operations to cancel, outcomes to
//! collect; and the tokens that lead a completion back to its connection.
//!
//! ```text
//! token u32 = sequence:20 │ connection:10 │ kind:2
//! ```
//!
//! The sequence makes a late cancellation miss whatever runs under the connection's number by then.

use crate::ExchangeError;
use elgate_http::Response;
use elgate_io::Op;
use std::collections::VecDeque;

/// Most connections of one client: what fits in a token.
pub(crate) const CONNECTIONS_MAX: usize = 1 << 10;

/// What an operation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Resolve,
    Connect,
    Send,
    Receive,
}

/// Leads a completion back to its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LocalToken(pub(crate) u32);

impl LocalToken {
    pub(crate) fn kind(self) -> Kind {
        match self.0 & 3 {
            0 => Kind::Resolve,
            1 => Kind::Connect,
            2 => Kind::Send,
            _ => Kind::Receive,
        }
    }

    pub(crate) fn connection(self) -> usize {
        (self.0 >> 2) as usize % CONNECTIONS_MAX
    }
}

/// Bounded by the connections: at most three operations, three cancellations (of operations not
/// yet completed) and one outcome each, and one name resolution.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) ops: VecDeque<(LocalToken, Op)>,
    pub(crate) cancels: VecDeque<LocalToken>,
    pub(crate) outcomes: VecDeque<(u64, Result<Response, ExchangeError>)>,
    sequence: u32,
}

impl Outbox {
    /// Queues an operation of a connection.
    pub(crate) fn submit(&mut self, connection: usize, kind: Kind, op: Op) -> LocalToken {
        debug_assert!(connection < CONNECTIONS_MAX);
        let connection = u32::try_from(connection).unwrap_or(0);
        self.sequence = self.sequence.wrapping_add(1);
        let token = LocalToken(self.sequence << 12 | connection << 2 | kind as u32);
        self.ops.push_back((token, op));
        token
    }

    /// Ends an operation early. `true`: it had not been handed out yet and is gone without a
    /// completion. `false`: its completion will come.
    pub(crate) fn cancel(&mut self, token: LocalToken) -> bool {
        if let Some(index) = self.ops.iter().position(|&(queued, _)| queued == token) {
            self.ops.remove(index);
            return true;
        }
        if !self.cancels.contains(&token) {
            self.cancels.push_back(token);
        }
        false
    }

    /// A completion came: there is nothing left to cancel.
    pub(crate) fn completed(&mut self, token: LocalToken) {
        if let Some(index) = self.cancels.iter().position(|&queued| queued == token) {
            self.cancels.remove(index);
        }
    }
}
