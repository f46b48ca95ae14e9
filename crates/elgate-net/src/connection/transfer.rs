//! The exchange on a standing connection: the request out, the response in.

use super::{Connection, Context, Exchange, Phase, RECEIVE_BYTES, SETTLE};
use crate::ExchangeError;
use crate::outbox::Kind;
use elgate_http::{HttpError, Progress};
use elgate_io::{Buffer, Op, Outcome, Socket};
use std::io;
use std::sync::Arc;

impl Connection {
    /// The connection stands: sends the request.
    pub(super) fn activate(&mut self, socket: Socket, context: &mut Context<'_>) {
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

    pub(super) fn send_completed(
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

    pub(super) fn receive_completed(
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
    pub(super) fn lost(&mut self, source: Option<Arc<io::Error>>, context: &mut Context<'_>) {
        let error = ExchangeError::ConnectionLost {
            origin: context.origin.clone(),
            before_response: !self.response_started(),
            reused: self.served > 0,
            source,
        };
        self.fail(error, context);
    }

    pub(super) fn response_started(&self) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| exchange.parser.started())
    }
}
