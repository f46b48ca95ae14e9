//! The far end played by operations of the same driver, so that it lives in virtual time.

use crate::far_end::{Act, Call, Script, Seen, take_request};
use crate::world::{FAR_END_TOKENS, FarEnd};
use elgate_io::{Buffer, Completion, Driver, Listener, Op, Outcome, Socket};
use std::collections::VecDeque;
use std::time::Duration;

const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;
const TIMER: u64 = 3;

struct Peer {
    /// `None` once closed.
    socket: Option<Socket>,
    number: usize,
    requests: usize,
    inbox: Vec<u8>,
    acts: VecDeque<Act>,
    /// A Send or Timer is under way.
    busy: bool,
}

pub(crate) struct SimFarEnd {
    listener: Listener,
    script: Script,
    seen: Seen,
    peers: Vec<Peer>,
}

impl SimFarEnd {
    pub(crate) fn new(listener: Listener, script: Script, driver: &mut dyn Driver) -> Self {
        driver.submit(FAR_END_TOKENS | ACCEPT, Op::Accept { listener: listener.clone() });
        Self { listener, script, seen: Seen::default(), peers: Vec::new() }
    }

    /// Carries out what can be done on every connection.
    fn act(&mut self, driver: &mut dyn Driver) {
        for (index, peer) in self.peers.iter_mut().enumerate() {
            while !peer.busy {
                let Some(socket) = peer.socket.clone() else { break };
                match peer.acts.front() {
                    None => {
                        if self.script.unread.is_some() {
                            break;
                        }
                        let Some(body) = take_request(&mut peer.inbox) else { break };
                        self.seen.requested(body);
                        let call = Call { connection: peer.number, request: peer.requests };
                        peer.acts = (self.script.answer)(call).into();
                        peer.requests += 1;
                        if peer.acts.is_empty() {
                            break;
                        }
                        continue;
                    }
                    Some(Act::AwaitRequests(count)) if self.seen.requests() < *count => break,
                    Some(_) => {}
                }
                match peer.acts.pop_front() {
                    Some(Act::Send(bytes)) => {
                        let buffer = Buffer::copy_of(&bytes);
                        driver.submit(token(index, SEND), Op::Send { socket, buffer, offset: 0 });
                        peer.busy = true;
                    }
                    Some(Act::WaitMs(milliseconds)) => {
                        let deadline = driver.now().after(Duration::from_millis(milliseconds));
                        driver.submit(token(index, TIMER), Op::Timer { deadline });
                        peer.busy = true;
                    }
                    Some(Act::Close) => {
                        peer.socket = None;
                        driver.cancel(token(index, RECEIVE));
                    }
                    Some(Act::AwaitRequests(_)) | None => {}
                }
            }
        }
    }

    fn accepted(&mut self, socket: Socket, driver: &mut dyn Driver) {
        let index = self.peers.len();
        let mut acts = VecDeque::new();
        match self.script.unread {
            // Time enough for the request to arrive.
            Some(unread) => acts.extend([Act::WaitMs(50)].into_iter().chain(unread())),
            None => receive(index, &socket, driver),
        }
        self.peers.push(Peer {
            socket: Some(socket),
            number: self.seen.connected(),
            requests: 0,
            inbox: Vec::new(),
            acts,
            busy: false,
        });
    }
}

impl FarEnd for SimFarEnd {
    fn handle(&mut self, driver: &mut dyn Driver, completion: Completion) {
        let Completion { token: completed, result, buffer } = completion;
        let index = (completed & 0xffff_ffff) as usize >> 2;
        match completed & 3 {
            ACCEPT => {
                if let Ok(Outcome::Accepted(socket, _)) = result {
                    self.accepted(socket, driver);
                }
                let listener = self.listener.clone();
                driver.submit(FAR_END_TOKENS | ACCEPT, Op::Accept { listener });
            }
            RECEIVE => {
                let peer = &mut self.peers[index];
                let received = buffer.as_deref().unwrap_or_default();
                if result.is_ok() && !received.is_empty() {
                    peer.inbox.extend_from_slice(received);
                    if let Some(socket) = &peer.socket {
                        receive(index, socket, driver);
                    }
                } else {
                    peer.socket = None;
                }
            }
            SEND => {
                let peer = &mut self.peers[index];
                peer.busy = false;
                let buffer = buffer.expect("a send has one");
                match (result, &peer.socket) {
                    (Ok(Outcome::Bytes(bytes)), Some(socket)) => {
                        // The buffer keeps its whole length; what is left is sent as a new one.
                        let rest = buffer[bytes..].to_vec();
                        if !rest.is_empty() {
                            let (socket, buffer) = (socket.clone(), Buffer::copy_of(&rest));
                            let op = Op::Send { socket, buffer, offset: 0 };
                            driver.submit(token(index, SEND), op);
                            peer.busy = true;
                        }
                    }
                    _ => peer.socket = None,
                }
            }
            _ => self.peers[index].busy = false,
        }
        self.act(driver);
    }

    fn seen(&self) -> &Seen {
        &self.seen
    }
}

fn token(index: usize, kind: u64) -> u64 {
    FAR_END_TOKENS | (index as u64) << 2 | kind
}

fn receive(index: usize, socket: &Socket, driver: &mut dyn Driver) {
    let op = Op::Receive { socket: socket.clone(), buffer: Buffer::with_capacity(65_536) };
    driver.submit(token(index, RECEIVE), op);
}
