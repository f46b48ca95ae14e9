//! The far ends of HTTP routes: one simulated server for all of them, on another machine, so that
//! neither deaths nor power cuts here touch what it has received.

use crate::dice::Dice;
use elgate_io::sim::{SimDriver, SimWorld};
use elgate_io::{Buffer, Completion, Driver, Listener, Op, Outcome, Socket, Wait};
use elgate_types::Monotonic;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Where it listens; routes differ in their path.
pub(crate) const ADDRESS: &str = "10.0.0.1:8080";
const ACCEPT: u64 = 1;
const RECEIVE_BYTES: usize = 64 * 1024;

/// How it is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Takes what comes.
    Well,
    /// Answers 503 now and then.
    Faltering,
    /// Answers 503.
    Down,
    /// Answers 429, with a second's pause.
    Throttling,
    /// Takes requests and answers late.
    Slow,
    /// Takes requests and closes without an answer, now and then.
    Mute,
    /// Answers 400.
    Refusing,
}

pub(crate) const MOODS: [Mood; 7] = [
    Mood::Well,
    Mood::Faltering,
    Mood::Down,
    Mood::Throttling,
    Mood::Slow,
    Mood::Mute,
    Mood::Refusing,
];

/// One request that it took.
#[derive(Debug, Clone)]
pub(crate) struct Receipt {
    pub(crate) route: String,
    pub(crate) key: String,
    pub(crate) body: Vec<u8>,
}

struct Connection {
    socket: Socket,
    received: Vec<u8>,
    /// What is to be sent, once it is time.
    answer: Option<(Monotonic, Vec<u8>)>,
    sending: bool,
    receiving: bool,
    closes: bool,
}

pub(crate) struct FarEnd {
    world: SimWorld,
    driver: SimDriver,
    listener: Option<Listener>,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    dice: Dice,
    pub(crate) mood: Mood,
    pub(crate) receipts: Vec<Receipt>,
    /// Answers by status, for the ledger.
    pub(crate) refused: u64,
    pub(crate) swallowed: u64,
}

impl FarEnd {
    pub(crate) fn new(world: &SimWorld, seed: u64) -> Self {
        let mut far_end = Self {
            world: world.clone(),
            driver: world.driver(),
            listener: None,
            connections: BTreeMap::new(),
            next_connection: 0,
            dice: Dice::new(seed ^ 0xfa4),
            mood: Mood::Well,
            receipts: Vec::new(),
            refused: 0,
            swallowed: 0,
        };
        far_end.listen();
        far_end
    }

    /// Begins anew, as seen from this machine after a power cut: every connection is gone.
    pub(crate) fn listen(&mut self) {
        self.connections.clear();
        self.listener = None;
        self.driver = self.world.driver();
        let address: SocketAddr = ADDRESS.parse().expect("an address");
        let (listener, _) = self.world.platform().listen(address).expect("the port is free");
        self.driver.submit(ACCEPT, Op::Accept { listener: listener.clone() });
        self.listener = Some(listener);
    }

    pub(crate) fn has_news(&self) -> bool {
        self.world.has_news(self.driver.id())
            || self.next_wakeup() <= Some(self.world.now()) && self.next_wakeup().is_some()
    }

    /// When an answer is due that was held back.
    pub(crate) fn next_wakeup(&self) -> Option<Monotonic> {
        let due = |connection: &Connection| {
            connection.answer.as_ref().filter(|_| !connection.sending).map(|(at, _)| *at)
        };
        self.connections.values().filter_map(due).min()
    }

    pub(crate) fn step(&mut self) {
        let mut completions = Vec::new();
        self.driver.poll(Wait::Never, &mut completions).expect("the simulated driver works");
        for completion in completions {
            self.take(completion);
        }
        let ids: Vec<u64> = self.connections.keys().copied().collect();
        for id in ids {
            self.serve(id);
        }
    }

    fn take(&mut self, completion: Completion) {
        if completion.token == ACCEPT {
            if let Ok(Outcome::Accepted(socket, _)) = completion.result {
                self.next_connection += 2;
                let connection = Connection {
                    socket,
                    received: Vec::new(),
                    answer: None,
                    sending: false,
                    receiving: false,
                    closes: false,
                };
                self.connections.insert(self.next_connection, connection);
            }
            if let Some(listener) = &self.listener {
                self.driver.submit(ACCEPT, Op::Accept { listener: listener.clone() });
            }
            return;
        }
        // Even numbers receive, odd ones send.
        let id = completion.token & !1;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let bytes = match completion.result {
            Ok(Outcome::Bytes(bytes)) if bytes > 0 => bytes,
            _ => {
                self.connections.remove(&id);
                return;
            }
        };
        if completion.token & 1 == 0 {
            connection.receiving = false;
            if let Some(buffer) = completion.buffer {
                connection.received.extend_from_slice(&buffer);
            }
        } else {
            connection.sending = false;
            if let Some((_, answer)) = &mut connection.answer {
                answer.drain(..bytes.min(answer.len()));
                if answer.is_empty() {
                    connection.answer = None;
                    if connection.closes {
                        self.connections.remove(&id);
                    }
                }
            }
        }
    }

    fn serve(&mut self, id: u64) {
        self.answer_next(id);
        let now = self.world.now();
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if let Some((at, answer)) = &connection.answer {
            if !connection.sending && *at <= now {
                connection.sending = true;
                let op = Op::Send {
                    socket: connection.socket.clone(),
                    buffer: Buffer::copy_of(answer),
                    offset: 0,
                };
                self.driver.submit(id | 1, op);
            }
        } else if !connection.receiving {
            connection.receiving = true;
            let op = Op::Receive {
                socket: connection.socket.clone(),
                buffer: Buffer::with_capacity(RECEIVE_BYTES),
            };
            self.driver.submit(id, op);
        }
    }

    /// Decides about a request that is complete.
    fn answer_next(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.answer.is_some() {
            return;
        }
        let Some((receipt, length)) = parse(&connection.received) else { return };
        connection.received.drain(..length);
        let now = self.world.now();
        let late = now.after(Duration::from_millis(self.dice.between(1, 4_000)));
        let (status, at) = match self.mood {
            Mood::Well => ("200 OK", now),
            Mood::Faltering if self.dice.of(400) => ("503 Service Unavailable", now),
            Mood::Down => ("503 Service Unavailable", now),
            Mood::Throttling => ("429 Too Many Requests\r\nRetry-After: 1", now),
            Mood::Slow => ("200 OK", late),
            Mood::Mute if self.dice.of(500) => ("", now),
            Mood::Refusing => ("400 Bad Request", now),
            Mood::Faltering | Mood::Mute => ("204 No Content", now),
        };
        let taken = status.is_empty() || status.starts_with('2');
        if taken {
            self.receipts.push(receipt);
        } else {
            self.refused += 1;
        }
        if status.is_empty() {
            self.swallowed += 1;
            self.connections.remove(&id);
            return;
        }
        let length = if status.starts_with("204") { "" } else { "Content-Length: 0\r\n" };
        let answer = format!("HTTP/1.1 {status}\r\n{length}\r\n").into_bytes();
        connection.answer = Some((at, answer));
    }
}

/// The first request in `bytes`, if it is there as a whole, and how long it is.
fn parse(bytes: &[u8]) -> Option<(Receipt, usize)> {
    let head_end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..head_end]).ok()?;
    let mut lines = head.split("\r\n");
    let route = lines.next()?.split(' ').nth(1)?.trim_start_matches('/').to_owned();
    let (mut length, mut key) = (0, String::new());
    for line in lines {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        } else if name.eq_ignore_ascii_case("idempotency-key") {
            key = value.trim().to_owned();
        }
    }
    let body = bytes.get(head_end + 4..head_end + 4 + length)?.to_vec();
    Some((Receipt { route, key, body }, head_end + 4 + length))
}
