//! A driver played by hand: it holds the operations a client hands out until the test says how
//! each of them ends.

use elgate_http::{HttpUrl, RequestEncoder, Response};
use elgate_io::{Buffer, Completion, Op, Outcome, Socket};
use elgate_net::{ClientOptions, ExchangeError, HttpClient, Origin};
use elgate_types::Monotonic;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

pub(crate) type Ended = (u64, Result<Response, ExchangeError>);

pub(crate) struct ByHand {
    pub(crate) client: HttpClient,
    pub(crate) now: Monotonic,
    /// Handed out, not yet completed.
    pub(crate) ops: BTreeMap<u32, Op>,
    /// Every token ever handed out.
    seen: BTreeSet<u32>,
    pub(crate) cancelled: Vec<u32>,
    pub(crate) ended: Vec<Ended>,
}

impl ByHand {
    pub(crate) fn new(host: &str, options: ClientOptions) -> Self {
        Self {
            client: HttpClient::new(Origin { host: host.into(), port: 80 }, options),
            now: Monotonic(1_000_000_000),
            ops: BTreeMap::new(),
            seen: BTreeSet::new(),
            cancelled: Vec::new(),
            ended: Vec::new(),
        }
    }

    pub(crate) fn start(&mut self, id: u64) {
        self.client.start(id, request(b"hello"), self.now).expect("capacity");
        self.pump();
    }

    /// Does what the owner of a client must do.
    pub(crate) fn pump(&mut self) {
        while let Some((token, op)) = self.client.poll_op(self.now) {
            assert!(self.seen.insert(token), "a late cancellation of {token} would hit another");
            self.ops.insert(token, op);
        }
        while let Some(token) = self.client.poll_cancel() {
            assert!(self.ops.contains_key(&token), "cancelled {token}, which is not under way");
            self.cancelled.push(token);
        }
        self.ended.extend(std::iter::from_fn(|| self.client.poll_outcome()));
    }

    /// Lets time pass up to the client's next wish.
    pub(crate) fn wake(&mut self) {
        self.now = self.client.next_wakeup().expect("something to wait for");
        self.pump();
    }

    pub(crate) fn advance(&mut self, duration: Duration) {
        self.now = self.now.after(duration);
        self.pump();
    }

    /// The only operation of that name under way.
    pub(crate) fn only(&self, name: &str) -> u32 {
        let found: Vec<_> = self.named(name);
        assert_eq!(found.len(), 1, "{name}: {:?}", self.ops);
        found[0]
    }

    pub(crate) fn named(&self, name: &str) -> Vec<u32> {
        let is_named = |op: &Op| format!("{op:?}") == name;
        self.ops.iter().filter(|(_, op)| is_named(op)).map(|(&token, _)| token).collect()
    }

    pub(crate) fn complete(
        &mut self,
        token: u32,
        result: io::Result<Outcome>,
        buffer: Option<Buffer>,
    ) -> &mut Self {
        let completion = Completion { token: u64::from(token), result, buffer };
        self.client.handle(token, completion, self.now);
        self.pump();
        self
    }

    /// Where the only Connect under way goes.
    pub(crate) fn connecting_to(&self) -> SocketAddr {
        match &self.ops[&self.only("Connect")] {
            Op::Connect { address } => *address,
            _ => unreachable!("named so"),
        }
    }

    pub(crate) fn connected(&mut self) -> &mut Self {
        let token = self.only("Connect");
        self.ops.remove(&token);
        self.complete(token, Ok(Outcome::Connected(socket())), None)
    }

    /// The only operation of that name fails.
    pub(crate) fn failed(&mut self, name: &str, error: io::ErrorKind) -> &mut Self {
        let token = self.only(name);
        let buffer = match self.ops.remove(&token) {
            Some(Op::Send { buffer, .. } | Op::Receive { buffer, .. }) => Some(buffer),
            _ => None,
        };
        self.complete(token, Err(error.into()), buffer)
    }

    pub(crate) fn resolved(&mut self, result: io::Result<Vec<SocketAddr>>) -> &mut Self {
        let token = self.only("Blocking");
        self.ops.remove(&token);
        self.complete(token, result.map(|found| Outcome::Reply(Box::new(found))), None)
    }

    /// The only Send takes at most `bytes`; returns what it took.
    pub(crate) fn sent(&mut self, bytes: usize) -> Vec<u8> {
        let token = self.only("Send");
        let Some(Op::Send { buffer, offset, .. }) = self.ops.remove(&token) else {
            unreachable!("named so")
        };
        let taken = buffer[offset..].iter().copied().take(bytes).collect::<Vec<_>>();
        self.complete(token, Ok(Outcome::Bytes(taken.len())), Some(buffer));
        taken
    }

    /// The only Receive brings these bytes; none: the far end has finished.
    pub(crate) fn received(&mut self, bytes: &[u8]) -> &mut Self {
        let token = self.only("Receive");
        self.receive_on(token, bytes)
    }

    pub(crate) fn receive_on(&mut self, token: u32, bytes: &[u8]) -> &mut Self {
        let Some(Op::Receive { mut buffer, .. }) = self.ops.remove(&token) else {
            panic!("{token} is no Receive")
        };
        buffer.extend(bytes);
        self.complete(token, Ok(Outcome::Bytes(bytes.len())), Some(buffer))
    }

    /// Cancelled operations come back.
    pub(crate) fn cancellations_come_back(&mut self) -> &mut Self {
        for token in std::mem::take(&mut self.cancelled) {
            let buffer = match self.ops.remove(&token) {
                Some(Op::Send { buffer, .. } | Op::Receive { buffer, .. }) => Some(buffer),
                Some(_) => None,
                None => continue,
            };
            self.complete(token, Err(io::Error::from_raw_os_error(125)), buffer);
        }
        self
    }

    pub(crate) fn only_ended(&mut self) -> Ended {
        assert_eq!(self.ended.len(), 1, "{:?}", self.ended);
        self.ended.remove(0)
    }

    pub(crate) fn status(&mut self) -> u16 {
        self.only_ended().1.expect("a response").status
    }

    pub(crate) fn error(&mut self) -> ExchangeError {
        self.only_ended().1.expect_err("no response")
    }
}

pub(crate) fn request(body: &[u8]) -> Buffer {
    let url = HttpUrl::parse("http://far.test/in").expect("sound");
    RequestEncoder::new("POST", &url).expect("sound").encode(&[], body).expect("sound")
}

pub(crate) fn answer(status: u16, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A handle that nobody looks behind.
pub(crate) fn socket() -> Socket {
    Socket::from(OwnedFd::from(std::fs::File::open("/dev/null").expect("it is there")))
}

pub(crate) fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 80))
}
