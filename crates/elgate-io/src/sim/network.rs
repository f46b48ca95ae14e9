//! Simulated stream connections: two ends, each with a bounded inbox.
//!
//! Nothing here waits. An operation that cannot make progress leaves its name with the end it
//! waits for; whatever changes that end returns the names of those to try again.

use crate::sys::error;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Names an operation: its driver and its number there.
pub(super) type OpRef = (u64, u64);

/// Bytes an end holds before its peer's sends wait.
const INBOX_BYTES_MAX: usize = 64 * 1024;
const BACKLOG_MAX: usize = 128;
const FIRST_EPHEMERAL_PORT: u16 = 32_768;

/// One end of a connection: its number and which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EndId {
    pub(super) connection: u64,
    pub(super) side: usize,
}

impl EndId {
    fn peer(self) -> Self {
        Self { side: 1 - self.side, ..self }
    }
}

#[derive(Debug, Default)]
struct End {
    inbox: VecDeque<u8>,
    closed: bool,
    receive_waiting: Option<OpRef>,
    send_waiting: Option<OpRef>,
}

#[derive(Debug)]
struct Connection {
    ends: [End; 2],
    reset: bool,
}

#[derive(Debug, Default)]
struct Listening {
    backlog: VecDeque<(EndId, SocketAddr)>,
    waiting: VecDeque<OpRef>,
}

#[derive(Debug, Default)]
pub(super) struct Network {
    connections: BTreeMap<u64, Connection>,
    listeners: BTreeMap<SocketAddr, Listening>,
    next_connection: u64,
    next_port: u16,
}

/// Whether an operation came to an end, or will be tried again.
pub(super) enum Progress<T> {
    Done(T),
    Waits,
}

impl Network {
    pub(super) fn listen(&mut self, mut address: SocketAddr) -> io::Result<SocketAddr> {
        if address.port() == 0 {
            address.set_port(self.ephemeral_port());
        }
        if self.listener_for(address).is_some() {
            return Err(error(libc::EADDRINUSE));
        }
        self.listeners.insert(address, Listening::default());
        Ok(address)
    }

    fn ephemeral_port(&mut self) -> u16 {
        self.next_port = self.next_port.wrapping_add(1).max(FIRST_EPHEMERAL_PORT);
        self.next_port
    }

    fn listener_for(&self, address: SocketAddr) -> Option<SocketAddr> {
        self.listeners
            .keys()
            .find(|bound| {
                bound.port() == address.port()
                    && (bound.ip() == address.ip() || bound.ip().is_unspecified())
            })
            .copied()
    }

    /// Connects; returns this side's end and who to try again.
    pub(super) fn connect(&mut self, address: SocketAddr) -> io::Result<(EndId, Vec<OpRef>)> {
        let bound = self.listener_for(address).ok_or_else(|| error(libc::ECONNREFUSED))?;
        let from = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.ephemeral_port());
        let listening = self.listeners.get_mut(&bound).ok_or_else(|| error(libc::ECONNREFUSED))?;
        if listening.backlog.len() >= BACKLOG_MAX {
            return Err(error(libc::ETIMEDOUT));
        }
        self.next_connection += 1;
        let ends = [End::default(), End::default()];
        self.connections.insert(self.next_connection, Connection { ends, reset: false });
        let near = EndId { connection: self.next_connection, side: 0 };
        listening.backlog.push_back((near.peer(), from));
        // All of them: the first may have been cancelled meanwhile.
        Ok((near, listening.waiting.drain(..).collect()))
    }

    pub(super) fn accept(
        &mut self,
        bound: SocketAddr,
        op: OpRef,
    ) -> io::Result<Progress<(EndId, SocketAddr)>> {
        let listening = self.listeners.get_mut(&bound).ok_or_else(|| error(libc::EINVAL))?;
        match listening.backlog.pop_front() {
            Some(accepted) => Ok(Progress::Done(accepted)),
            None => {
                listening.waiting.push_back(op);
                Ok(Progress::Waits)
            }
        }
    }

    /// How many bytes a send could carry now. Zero: it waits.
    pub(super) fn send_room(&mut self, end: EndId, op: OpRef) -> io::Result<usize> {
        let connection =
            self.connections.get_mut(&end.connection).ok_or_else(|| error(libc::EPIPE))?;
        if connection.reset {
            return Err(error(libc::ECONNRESET));
        }
        let peer = &connection.ends[end.peer().side];
        if peer.closed {
            return Err(error(libc::EPIPE));
        }
        let room = INBOX_BYTES_MAX - peer.inbox.len().min(INBOX_BYTES_MAX);
        if room == 0 {
            connection.ends[end.side].send_waiting = Some(op);
        }
        Ok(room)
    }

    /// Puts bytes into the peer's inbox; returns who to try again.
    pub(super) fn send(&mut self, end: EndId, bytes: &[u8]) -> Option<OpRef> {
        let connection = self.connections.get_mut(&end.connection)?;
        let peer = &mut connection.ends[end.peer().side];
        peer.inbox.extend(bytes);
        peer.receive_waiting.take()
    }

    /// How many bytes a receive could take now; `None`: the peer has finished.
    pub(super) fn receive_ready(
        &mut self,
        end: EndId,
        op: OpRef,
    ) -> io::Result<Progress<Option<usize>>> {
        let connection =
            self.connections.get_mut(&end.connection).ok_or_else(|| error(libc::ENOTCONN))?;
        if connection.reset {
            return Err(error(libc::ECONNRESET));
        }
        let finished = connection.ends[end.peer().side].closed;
        let own = &mut connection.ends[end.side];
        if !own.inbox.is_empty() {
            Ok(Progress::Done(Some(own.inbox.len())))
        } else if finished {
            Ok(Progress::Done(None))
        } else {
            own.receive_waiting = Some(op);
            Ok(Progress::Waits)
        }
    }

    /// Takes bytes out of the inbox; returns who to try again.
    pub(super) fn receive(&mut self, end: EndId, bytes: &mut [u8]) -> Option<OpRef> {
        let connection = self.connections.get_mut(&end.connection)?;
        let arrived = connection.ends[end.side].inbox.drain(..bytes.len());
        bytes.iter_mut().zip(arrived).for_each(|(byte, arrived)| *byte = arrived);
        connection.ends[end.peer().side].send_waiting.take()
    }

    /// Breaks a connection for both ends; returns who to try again.
    pub(super) fn reset(&mut self, end: EndId) -> Vec<OpRef> {
        let Some(connection) = self.connections.get_mut(&end.connection) else { return Vec::new() };
        connection.reset = true;
        waiting(connection)
    }

    /// This side is done; returns who to try again.
    pub(super) fn close(&mut self, end: EndId) -> Vec<OpRef> {
        let Some(connection) = self.connections.get_mut(&end.connection) else { return Vec::new() };
        // As TCP does: closing with unread bytes resets the connection.
        connection.reset |= !connection.ends[end.side].inbox.is_empty();
        connection.ends[end.side].closed = true;
        let retry = waiting(connection);
        if connection.ends.iter().all(|end| end.closed) {
            self.connections.remove(&end.connection);
        }
        retry
    }

    pub(super) fn close_listener(&mut self, bound: SocketAddr) -> Vec<OpRef> {
        let Some(listening) = self.listeners.remove(&bound) else { return Vec::new() };
        let mut retry: Vec<OpRef> = listening.waiting.into();
        for (end, _) in listening.backlog {
            retry.extend(self.reset(end));
        }
        retry
    }
}

fn waiting(connection: &mut Connection) -> Vec<OpRef> {
    connection
        .ends
        .iter_mut()
        .flat_map(|end| [end.receive_waiting.take(), end.send_waiting.take()])
        .flatten()
        .collect()
}
