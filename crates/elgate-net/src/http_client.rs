//! The client: exchanges with one origin, over a bounded number of keep-alive connections.

use crate::addresses::Addresses;
use crate::connection::{Availability, Connection, Context};
use crate::outbox::{CONNECTIONS_MAX, Kind, LocalToken, Outbox};
use crate::{Busy, ExchangeError, Origin};
use elgate_http::{Response, ResponseLimits};
use elgate_io::{Buffer, Completion, Op, Outcome};
use elgate_types::Monotonic;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Bounds of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientOptions {
    /// Most connections, and so most exchanges at once. 1 to 1,024; others are brought in range.
    pub connections_max: usize,
    /// Longest wait for a connection: name resolution and all addresses together.
    pub connect_timeout: Duration,
    /// Longest wait from the start of sending to the end of the response, however it dribbles.
    pub response_timeout: Duration,
    /// How long an unused connection is kept. Best shorter than the far end keeps it (many servers:
    /// 5 seconds), or requests are sent into connections that are being closed.
    pub idle_timeout: Duration,
    /// How long resolved addresses are used before the name is resolved again.
    pub resolve_ttl: Duration,
    /// Bounds on each response.
    pub response_limits: ResponseLimits,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connections_max: 1,
            connect_timeout: Duration::from_secs(10),
            response_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(4),
            resolve_ttl: Duration::from_secs(30),
            response_limits: ResponseLimits::default(),
        }
    }
}

/// A sans-I/O HTTP/1.1 client for one origin.
///
/// After any call to [`start`](Self::start), [`handle`](Self::handle) or [`close`](Self::close),
/// and at [`next_wakeup`](Self::next_wakeup), the owner drains, in this order:
/// [`poll_op`](Self::poll_op) (submit each to the driver), [`poll_cancel`](Self::poll_cancel)
/// (cancel each with the driver), [`poll_outcome`](Self::poll_outcome).
///
/// Every exchange started has exactly one outcome, within `connect_timeout + response_timeout`.
/// Every operation handed out must come back through [`handle`](Self::handle), cancelled or not.
/// Dropping the client forgets its exchanges; a driver still owns the operations under way.
pub struct HttpClient {
    origin: Origin,
    origin_text: Arc<str>,
    options: ClientOptions,
    addresses: Addresses,
    resolving: Option<LocalToken>,
    connections: Vec<Connection>,
    /// Idle connections, the one used last on top.
    idle: Vec<usize>,
    vacant: Vec<usize>,
    outbox: Outbox,
    /// No deadline lies before this.
    wakeup: Option<Monotonic>,
}

impl HttpClient {
    /// A client without connections; the first exchange opens one.
    #[must_use]
    pub fn new(origin: Origin, options: ClientOptions) -> Self {
        let connections_max = options.connections_max.clamp(1, CONNECTIONS_MAX);
        Self {
            origin_text: origin.to_string().into(),
            addresses: Addresses::new(&origin, options.resolve_ttl),
            origin,
            options,
            resolving: None,
            connections: (0..connections_max).map(|_| Connection::vacant()).collect(),
            idle: Vec::with_capacity(connections_max),
            vacant: (0..connections_max).rev().collect(),
            outbox: Outbox::default(),
            wakeup: None,
        }
    }

    /// How many exchanges may start now. Outcomes not yet collected count against it, and so do
    /// connections whose cancelled operations have not come back: it may rise at any
    /// [`handle`](Self::handle), without an outcome.
    #[must_use]
    pub fn capacity(&self) -> usize {
        let room = self.connections.len().saturating_sub(self.outbox.outcomes.len());
        room.min(self.idle.len() + self.vacant.len())
    }

    /// Whether no operation is under way: every token handed out has come back.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.resolving.is_none()
            && self.idle.is_empty()
            && self.vacant.len() == self.connections.len()
    }

    /// When to call [`poll_op`](Self::poll_op) next if no completion comes before. Never later
    /// than the earliest timeout; may be earlier.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Monotonic> {
        self.wakeup
    }

    /// Starts an exchange. `id` is the caller's and comes back with the outcome; `request` is a
    /// whole encoded request (see `elgate_http::RequestEncoder`).
    ///
    /// # Errors
    /// [`Busy`] with the request if [`capacity`](Self::capacity) is zero.
    pub fn start(&mut self, id: u64, request: Buffer, now: Monotonic) -> Result<(), Busy> {
        if self.capacity() == 0 {
            return Err(Busy { request });
        }
        let Some(index) = self.idle.pop().or_else(|| self.vacant.pop()) else {
            return Err(Busy { request });
        };
        self.drive(index, now, Availability::Taken, |connection, context| {
            connection.start(id, request, context);
        });
        if self.resolving.is_none() && self.connections[index].is_resolving() {
            let op = Addresses::resolve_op(&self.origin);
            self.resolving = Some(self.outbox.submit(0, Kind::Resolve, op));
        }
        Ok(())
    }

    /// Applies timeouts due by `now`, and returns the next operation to submit, with the token
    /// that its completion must be handed in under.
    pub fn poll_op(&mut self, now: Monotonic) -> Option<(u32, Op)> {
        if self.wakeup.is_some_and(|wakeup| wakeup <= now) {
            self.expire(now);
        }
        self.outbox.ops.pop_front().map(|(token, op)| (token.0, op))
    }

    /// The next token whose operation the driver should cancel.
    pub fn poll_cancel(&mut self) -> Option<u32> {
        self.outbox.cancels.pop_front().map(|token| token.0)
    }

    /// The next finished exchange: its id and how it ended.
    pub fn poll_outcome(&mut self) -> Option<(u64, Result<Response, ExchangeError>)> {
        self.outbox.outcomes.pop_front()
    }

    /// Takes the completion of an operation handed out under `token`. Tokens that are not under
    /// way are ignored.
    pub fn handle(&mut self, token: u32, completion: Completion, now: Monotonic) {
        let token = LocalToken(token);
        self.outbox.completed(token);
        if token.kind() == Kind::Resolve {
            if self.resolving == Some(token) {
                self.resolving = None;
                self.resolved(completion.result, now);
            }
        } else if let Some(connection) = self.connections.get(token.connection()) {
            let before = connection.availability();
            self.drive(token.connection(), now, before, |connection, context| {
                connection.handle(token, completion, context);
            });
        }
    }

    /// Gives up every exchange under way ([`ExchangeError::Aborted`]) and closes every connection.
    /// Nothing is closed for good before the cancelled operations have come back
    /// ([`is_quiet`](Self::is_quiet)); after that the client may be used again.
    pub fn close(&mut self, now: Monotonic) {
        if let Some(token) = self.resolving
            && self.outbox.cancel(token)
        {
            self.resolving = None;
        }
        for index in 0..self.connections.len() {
            let before = self.connections[index].availability();
            if before != Availability::Vacant {
                self.drive(index, now, before, Connection::abort);
            }
        }
    }

    fn resolved(&mut self, result: io::Result<Outcome>, now: Monotonic) {
        let learned = match result {
            Ok(Outcome::Reply(reply)) => match reply.downcast::<Vec<SocketAddr>>() {
                Ok(found) => self.addresses.learn(*found, now),
                Err(_) => Err(io::Error::other("the resolver answered with something else")),
            },
            Ok(_) => Err(io::Error::other("the driver answered Blocking with something else")),
            Err(error) => Err(error),
        };
        let failure = learned.err().map(Arc::new);
        for index in 0..self.connections.len() {
            if self.connections[index].is_resolving() {
                self.drive(index, now, Availability::Taken, |connection, context| match &failure {
                    None => connection.connect_first(context),
                    Some(error) => connection.resolve_failed(error, context),
                });
            }
        }
    }

    fn expire(&mut self, now: Monotonic) {
        self.wakeup = None;
        for index in 0..self.connections.len() {
            let Some(deadline) = self.connections[index].deadline() else { continue };
            if deadline <= now {
                let before = self.connections[index].availability();
                self.drive(index, now, before, Connection::expire);
            } else {
                self.wake_by(deadline);
            }
        }
    }

    /// Lets a connection do something, and keeps account of its deadline and availability.
    fn drive(
        &mut self,
        index: usize,
        now: Monotonic,
        before: Availability,
        act: impl FnOnce(&mut Connection, &mut Context<'_>),
    ) {
        let mut context = Context {
            index,
            outbox: &mut self.outbox,
            addresses: &mut self.addresses,
            options: &self.options,
            origin: &self.origin_text,
            now,
        };
        act(&mut self.connections[index], &mut context);
        let connection = &self.connections[index];
        let (after, deadline) = (connection.availability(), connection.deadline());
        if let Some(deadline) = deadline {
            self.wake_by(deadline);
        }
        if before == after {
            return;
        }
        match before {
            Availability::Idle => self.idle.retain(|&other| other != index),
            Availability::Vacant => self.vacant.retain(|&other| other != index),
            Availability::Taken => {}
        }
        match after {
            Availability::Idle => self.idle.push(index),
            Availability::Vacant => self.vacant.push(index),
            Availability::Taken => {}
        }
    }

    fn wake_by(&mut self, deadline: Monotonic) {
        self.wakeup = Some(self.wakeup.map_or(deadline, |wakeup| wakeup.min(deadline)));
    }
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("HttpClient")
            .field("origin", &self.origin_text)
            .field("idle", &self.idle.len())
            .field("vacant", &self.vacant.len())
            .field("connections", &self.connections.len())
            .finish_non_exhaustive()
    }
}
