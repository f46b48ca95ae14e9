//! From a name to a connection: the addresses in turn, each with its share of the time.

use super::{CONNECT_ATTEMPT_MIN, Connection, Context, Phase};
use crate::ExchangeError;
use crate::outbox::Kind;
use elgate_io::{Op, Outcome};
use elgate_types::Monotonic;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

impl Connection {
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

    pub(super) fn connect_completed(
        &mut self,
        result: io::Result<Outcome>,
        context: &mut Context<'_>,
    ) {
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
}
