//! One connection of a client, and the exchange it carries.
//!
//! ```text
//!          start            addresses            connected
//!  Vacant ───────► Resolving ───────► Connecting ────────► Active ◄── start ──┐
//!    ▲                                                       │                │
//!    │                                 response complete     ├────────────► Idle
//!    │                                                       │                ▲
//!    │                                 ... before the send   └──► Settling ───┘
//!    │                                                             send completed
//!    └──────────────── Closing ◄──────── timeout, error, close, from anywhere
//!     last operation completed
//! ```
//!
//! A Receive is in flight whenever the connection stands, also while it is idle: that is how a
//! far end that closes, or talks out of turn, is noticed before the next request is sent.
//! A connection becomes vacant only when all its operations have completed.

mod connecting;
mod transfer;

use crate::ExchangeError;
use crate::addresses::Addresses;
use crate::http_client::ClientOptions;
use crate::outbox::{Kind, LocalToken, Outbox};
use elgate_http::ResponseParser;
use elgate_io::{Buffer, Completion, Socket};
use elgate_types::Monotonic;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const RECEIVE_BYTES: usize = 8 * 1_024;
/// How long the last words may take: of a far end that no longer takes the request, and of a send
/// whose response is already here.
const SETTLE: Duration = Duration::from_secs(1);
/// Least time for one of several addresses, if the limit allows it at all.
const CONNECT_ATTEMPT_MIN: Duration = Duration::from_secs(2);

/// What a connection needs of its client.
pub(crate) struct Context<'a> {
    pub(crate) index: usize,
    pub(crate) outbox: &'a mut Outbox,
    pub(crate) addresses: &'a mut Addresses,
    pub(crate) options: &'a ClientOptions,
    pub(crate) origin: &'a Arc<str>,
    pub(crate) now: Monotonic,
}

/// One request on its way, and what has come of its response.
struct Exchange {
    id: u64,
    /// The request, until it is handed to a Send.
    request: Option<Buffer>,
    unsent_bytes: usize,
    /// Why no more of the request can be sent. The response may come all the same.
    send_error: Option<Arc<io::Error>>,
    parser: ResponseParser,
}

enum Phase {
    Vacant,
    Resolving,
    Connecting { address: SocketAddr, tried: usize, limit: Monotonic, given_up: bool },
    Active { socket: Socket },
    Settling { socket: Socket, unsent_bytes: usize },
    Idle { socket: Socket },
    Closing,
}

/// Whether a connection can take an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Availability {
    Vacant,
    Idle,
    Taken,
}

pub(crate) struct Connection {
    phase: Phase,
    exchange: Option<Exchange>,
    /// When the present phase must be over.
    deadline: Option<Monotonic>,
    /// Exchanges completed on this connection.
    served: u64,
    connect: Option<LocalToken>,
    send: Option<LocalToken>,
    receive: Option<LocalToken>,
    receive_buffer: Option<Buffer>,
}

impl Connection {
    pub(crate) fn vacant() -> Self {
        Self {
            phase: Phase::Vacant,
            exchange: None,
            deadline: None,
            served: 0,
            connect: None,
            send: None,
            receive: None,
            receive_buffer: None,
        }
    }

    pub(crate) fn availability(&self) -> Availability {
        match self.phase {
            Phase::Vacant => Availability::Vacant,
            Phase::Idle { .. } => Availability::Idle,
            _ => Availability::Taken,
        }
    }

    pub(crate) fn deadline(&self) -> Option<Monotonic> {
        self.deadline
    }

    pub(crate) fn is_resolving(&self) -> bool {
        matches!(self.phase, Phase::Resolving)
    }

    /// Takes an exchange. The connection is vacant or idle.
    pub(crate) fn start(&mut self, id: u64, request: Buffer, context: &mut Context<'_>) {
        let answers_head = request.starts_with(b"HEAD ");
        self.exchange = Some(Exchange {
            id,
            unsent_bytes: request.len(),
            request: Some(request),
            send_error: None,
            parser: ResponseParser::new(context.options.response_limits, answers_head),
        });
        match std::mem::replace(&mut self.phase, Phase::Vacant) {
            Phase::Idle { socket } => self.activate(socket, context),
            _ => {
                self.served = 0;
                self.phase = Phase::Resolving;
                self.deadline = Some(context.now.after(context.options.connect_timeout));
                if context.addresses.are_fresh(context.now) {
                    self.connect_first(context);
                }
            }
        }
    }

    /// Takes the completion of one of this connection's operations.
    pub(crate) fn handle(
        &mut self,
        token: LocalToken,
        completion: Completion,
        context: &mut Context<'_>,
    ) {
        let slot = match token.kind() {
            Kind::Connect => &mut self.connect,
            Kind::Send => &mut self.send,
            Kind::Receive => &mut self.receive,
            Kind::Resolve => return,
        };
        if *slot != Some(token) {
            return;
        }
        *slot = None;
        match token.kind() {
            Kind::Connect => self.connect_completed(completion.result, context),
            Kind::Send => self.send_completed(completion.result, completion.buffer, context),
            _ => self.receive_completed(completion.result, completion.buffer, context),
        }
        self.vacate_if_done();
    }

    /// The deadline has passed.
    pub(crate) fn expire(&mut self, context: &mut Context<'_>) {
        let origin = context.origin.clone();
        match &mut self.phase {
            Phase::Connecting { limit, given_up, .. } if *limit > context.now => {
                // Only this address's share of the time is over.
                *given_up = true;
                self.deadline = Some(*limit);
                if let Some(token) = self.connect
                    && context.outbox.cancel(token)
                {
                    self.connect = None;
                    self.connect_completed(Err(io::ErrorKind::TimedOut.into()), context);
                }
            }
            Phase::Resolving | Phase::Connecting { .. } => {
                context.addresses.none_worked();
                let limit = context.options.connect_timeout;
                self.fail(ExchangeError::ConnectTimeout { origin, limit }, context);
            }
            Phase::Active { .. } => {
                let exchange = self.exchange.as_mut();
                match exchange.and_then(|exchange| exchange.send_error.take()) {
                    Some(error) => self.lost(Some(error), context),
                    None => {
                        let before_response = !self.response_started();
                        let limit = context.options.response_timeout;
                        let timeout =
                            ExchangeError::ResponseTimeout { origin, limit, before_response };
                        self.fail(timeout, context);
                    }
                }
            }
            Phase::Settling { .. } | Phase::Idle { .. } => self.close(context),
            Phase::Vacant | Phase::Closing => self.deadline = None,
        }
    }

    /// Gives up the exchange, if there is one, and closes the connection.
    pub(crate) fn abort(&mut self, context: &mut Context<'_>) {
        let origin = context.origin.clone();
        self.fail(ExchangeError::Aborted { origin }, context);
    }

    /// Ends the exchange, if there is one, with an error, and closes the connection.
    fn fail(&mut self, error: ExchangeError, context: &mut Context<'_>) {
        if let Some(exchange) = self.exchange.take() {
            context.outbox.outcomes.push_back((exchange.id, Err(error)));
        }
        self.close(context);
    }

    fn close(&mut self, context: &mut Context<'_>) {
        self.deadline = None;
        self.phase = Phase::Closing;
        for slot in [&mut self.connect, &mut self.send, &mut self.receive] {
            if let Some(token) = *slot
                && context.outbox.cancel(token)
            {
                *slot = None;
            }
        }
        self.vacate_if_done();
    }

    fn vacate_if_done(&mut self) {
        let done = self.connect.is_none() && self.send.is_none() && self.receive.is_none();
        if matches!(self.phase, Phase::Closing) && done {
            *self = Self { receive_buffer: self.receive_buffer.take(), ..Self::vacant() };
        }
    }
}
