//! What a far end does, whoever plays it: for each request a list of acts.

use std::sync::{Arc, Mutex, PoisonError};

/// One thing to do on a connection.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Send(Vec<u8>),
    WaitMs(u64),
    /// Goes on once so many requests have arrived in all.
    AwaitRequests(usize),
    /// Closes; with unread bytes that is a reset.
    Close,
}

/// Which request a script answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    /// Number of the connection, from 0.
    pub(crate) connection: usize,
    /// Number of the request on that connection, from 0.
    pub(crate) request: usize,
}

/// A far end's whole behaviour.
#[derive(Clone, Copy)]
pub(crate) struct Script {
    /// What to do once a request has begun to arrive, without reading it; instead of `answer`.
    pub(crate) unread: Option<fn() -> Vec<Act>>,
    pub(crate) answer: fn(Call) -> Vec<Act>,
}

impl Script {
    pub(crate) const fn answer(answer: fn(Call) -> Vec<Act>) -> Self {
        Self { unread: None, answer }
    }
}

/// What has arrived at a far end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    connections: usize,
    bodies: Vec<Vec<u8>>,
}

impl Seen {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a connection; returns its number.
    pub(crate) fn connected(&self) -> usize {
        self.with(|state| {
            state.connections += 1;
            state.connections - 1
        })
    }

    pub(crate) fn requested(&self, body: Vec<u8>) {
        self.with(|state| state.bodies.push(body));
    }

    pub(crate) fn connections(&self) -> usize {
        self.with(|state| state.connections)
    }

    /// The bodies of the requests that arrived whole, in order of arrival.
    pub(crate) fn bodies(&self) -> Vec<Vec<u8>> {
        self.with(|state| state.bodies.clone())
    }

    pub(crate) fn requests(&self) -> usize {
        self.with(|state| state.bodies.len())
    }
}

/// Takes a whole request off the front of `inbox`; returns its body.
pub(crate) fn take_request(inbox: &mut Vec<u8>) -> Option<Vec<u8>> {
    let head_bytes = inbox.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&inbox[..head_bytes]).expect("our own requests are ASCII");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let body_bytes: usize = length.map_or(0, |length| length.parse().expect("a number"));
    if inbox.len() < head_bytes + body_bytes {
        return None;
    }
    let rest = inbox.split_off(head_bytes + body_bytes);
    Some(std::mem::replace(inbox, rest).split_off(head_bytes))
}

/// A response with a length.
pub(crate) fn answer(status: u16, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}
