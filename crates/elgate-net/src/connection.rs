//! One connection of a client, and the exchange it carries.
//!
//! ```text
//!           start ┌► Resolving ─► Connecting ─┐ connected
//!  Vacant ────────┤                           ▼         response complete
//!     ▲           └───────────────────────► Active ──────────┬─────────────┐ send still in flight
//!     │                                       ▲              ▼             ▼
//!     │                                 start └─────────── Idle ◄───── Settling
//!     │                                                      │             │
//!     └── last operation completed ── Closing ◄── timeout, error, close ◄──┘   (from anywhere)
//! ```
//!
//! A Receive is in flight whenever the connection stands, also while it is idle: that is how a
//! far end that closes, or talks out of turn, is noticed before the next request is sent.
//! A connection becomes vacant only when all its operations have completed.

use crate::ExchangeError;
use crate::addresses::Addresses;
use crate::http_client::ClientOptions;
use crate::outbox::{Kind, LocalToken, Outbox};
use elgate_http::{HttpError, Progress, ResponseParser};
use elgate_io::{Buffer, Completion, Op, Outcome, Socket};
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

    /// The addresses are known: begins to connect. The connection is resolving.
    pub(crate) fn connect_first(&mut self, context: &mut Context<'_>) {
        let limit = self.deadline.unwrap_or(context.now);
        self.connect_next(0, limit, None, context);
    }

    /// The name could not be resolved. The connection is resolving.
    pub(crate) fn resolve_failed(&mut self, source: &Arc<io::Error>, context: &mut Context<'_>) {
        let origin = context.origin.clone();
        self.fail(ExchangeError::Resolve { origin, source: source.clone() }, context);
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

    fn connect_next(
        &mut self,
        tried: usize,
        limit: Monotonic,
        last: Option<(SocketAddr, io::Error)>,
        context: &mut Context<'_>,
    ) {
        let Some(address) = context.addresses.nth(tried) else {
            context.addresses.none_worked();
            let origin = context.origin.clone();
            let error = match last {
                Some((address, source)) => {
                    ExchangeError::Connect { origin, address, source: Arc::new(source) }
                }
                None => ExchangeError::Resolve {
                    origin,
                    source: Arc::new(io::ErrorKind::NotFound.into()),
                },
            };
            return self.fail(error, context);
        };
        let remaining = limit.since(context.now);
        let addresses_left = u32::try_from(context.addresses.left(tried)).unwrap_or(1).max(1);
        let share = (remaining / addresses_left).max(CONNECT_ATTEMPT_MIN.min(remaining));
        self.phase = Phase::Connecting { address, tried, limit, given_up: false };
        self.deadline = Some(context.now.after(share));
        let op = Op::Connect { address };
        self.connect = Some(context.outbox.submit(context.index, Kind::Connect, op));
    }

    fn connect_completed(&mut self, result: io::Result<Outcome>, context: &mut Context<'_>) {
        let Phase::Connecting { address, tried, limit, given_up } = self.phase else { return };
        let error = match result {
            Ok(Outcome::Connected(socket)) => {
                context.addresses.worked(address);
                return self.activate(socket, context);
            }
            Ok(_) => io::Error::other("the driver answered Connect with something else"),
            Err(_) if given_up => io::ErrorKind::TimedOut.into(),
            Err(error) => error,
        };
        self.connect_next(tried + 1, limit, Some((address, error)), context);
    }

    /// The connection stands: sends the request.
    fn activate(&mut self, socket: Socket, context: &mut Context<'_>) {
        self.deadline = Some(context.now.after(context.options.response_timeout));
        let request = self.exchange.as_mut().and_then(|exchange| exchange.request.take());
        if let Some(buffer) = request {
            let op = Op::Send { socket: socket.clone(), buffer, offset: 0 };
            self.send = Some(context.outbox.submit(context.index, Kind::Send, op));
        }
        if self.receive.is_none() {
            self.arm_receive(&socket, context);
        }
        self.phase = Phase::Active { socket };
    }

    fn arm_receive(&mut self, socket: &Socket, context: &mut Context<'_>) {
        let mut buffer =
            self.receive_buffer.take().unwrap_or_else(|| Buffer::with_capacity(RECEIVE_BYTES));
        buffer.clear();
        let op = Op::Receive { socket: socket.clone(), buffer };
        self.receive = Some(context.outbox.submit(context.index, Kind::Receive, op));
    }

    fn send_completed(
        &mut self,
        result: io::Result<Outcome>,
        buffer: Option<Buffer>,
        context: &mut Context<'_>,
    ) {
        let sent = match (result, buffer) {
            (Ok(Outcome::Bytes(bytes)), Some(buffer)) if bytes > 0 => Ok((bytes, buffer)),
            (Err(error), _) => Err(error),
            _ => Err(io::ErrorKind::WriteZero.into()),
        };
        match (&mut self.phase, self.exchange.as_mut()) {
            (Phase::Active { socket }, Some(exchange)) => match sent {
                Ok((bytes, buffer)) => {
                    exchange.unsent_bytes = exchange.unsent_bytes.saturating_sub(bytes);
                    if exchange.unsent_bytes > 0 {
                        let offset = buffer.len() - exchange.unsent_bytes;
                        let op = Op::Send { socket: socket.clone(), buffer, offset };
                        self.send = Some(context.outbox.submit(context.index, Kind::Send, op));
                    }
                }
                Err(error) => {
                    // The far end may have answered before it stopped listening: hear it out.
                    exchange.send_error = Some(Arc::new(error));
                    let soon = context.now.after(SETTLE);
                    self.deadline = Some(self.deadline.map_or(soon, |deadline| deadline.min(soon)));
                }
            },
            (Phase::Settling { socket, unsent_bytes }, _) => match sent {
                Ok((bytes, _)) if bytes == *unsent_bytes => {
                    self.phase = Phase::Idle { socket: socket.clone() };
                    self.deadline = Some(context.now.after(context.options.idle_timeout));
                }
                _ => self.close(context),
            },
            _ => {}
        }
    }

    fn receive_completed(
        &mut self,
        result: io::Result<Outcome>,
        buffer: Option<Buffer>,
        context: &mut Context<'_>,
    ) {
        let (Phase::Active { socket }, Some(exchange)) = (&self.phase, self.exchange.as_mut())
        else {
            self.receive_buffer = buffer;
            // Settling or idle: the far end closed, broke, or talks out of turn, and is in no case
            // fit for another request.
            return self.close(context);
        };
        let progress = match result {
            Err(error) => {
                let source = exchange.send_error.take().unwrap_or_else(|| Arc::new(error));
                return self.lost(Some(source), context);
            }
            Ok(_) => match buffer.as_deref() {
                None | Some([]) => exchange.parser.end_of_stream(),
                Some(received) => exchange.parser.push(received),
            },
        };
        self.receive_buffer = buffer;
        match progress {
            Ok(Progress::Incomplete) => {
                let socket = socket.clone();
                self.arm_receive(&socket, context);
            }
            // The status is sound; what came after it is unwanted, and ends the connection.
            Ok(Progress::Complete)
            | Err(HttpError::ExcessBytes | HttpError::BodyTooLarge { .. }) => {
                let socket = socket.clone();
                self.answered(socket, context);
            }
            Err(HttpError::UnexpectedEnd) => {
                let source = exchange.send_error.take();
                self.lost(source, context);
            }
            Err(source) => {
                let origin = context.origin.clone();
                self.fail(ExchangeError::Protocol { origin, source }, context);
            }
        }
    }

    /// The response is here: reports it, and keeps the connection if it is fit for another one.
    fn answered(&mut self, socket: Socket, context: &mut Context<'_>) {
        let Some(Exchange { id, unsent_bytes, send_error, parser, .. }) = self.exchange.take()
        else {
            return self.close(context);
        };
        let origin = context.origin.clone();
        // Only a parser that has seen a final head says that the response is complete.
        let result = parser.into_response().ok_or(ExchangeError::Aborted { origin });
        let keep_alive = result.as_ref().is_ok_and(|response| response.keep_alive);
        context.outbox.outcomes.push_back((id, result));
        self.served += 1;
        if !keep_alive || send_error.is_some() {
            return self.close(context);
        }
        self.arm_receive(&socket, context);
        if unsent_bytes == 0 {
            self.phase = Phase::Idle { socket };
            self.deadline = Some(context.now.after(context.options.idle_timeout));
        } else {
            self.phase = Phase::Settling { socket, unsent_bytes };
            self.deadline = Some(context.now.after(SETTLE));
        }
    }

    /// The connection ended before the response did.
    fn lost(&mut self, source: Option<Arc<io::Error>>, context: &mut Context<'_>) {
        let error = ExchangeError::ConnectionLost {
            origin: context.origin.clone(),
            before_response: !self.response_started(),
            reused: self.served > 0,
            source,
        };
        self.fail(error, context);
    }

    fn response_started(&self) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| exchange.parser.started())
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
