//! A client, a driver, and a far end: what turns them until an exchange has ended.

use crate::far_end::Seen;
use elgate_http::{HttpUrl, RequestEncoder, Response};
use elgate_io::{Completion, Driver, Wait};
use elgate_net::{ClientOptions, ExchangeError, HttpClient, Origin};
use elgate_types::Monotonic;
use std::time::Duration;

pub(crate) type Ended = (u64, Result<Response, ExchangeError>);

/// Tokens from here on are the far end's.
pub(crate) const FAR_END_TOKENS: u64 = 1 << 32;

/// A far end that is played by the same driver; one that plays by itself has nothing to do here.
pub(crate) trait FarEnd {
    fn handle(&mut self, driver: &mut dyn Driver, completion: Completion);
    fn seen(&self) -> &Seen;
}

/// The far end comes last: it ends when its connections do.
pub(crate) struct World {
    pub(crate) client: HttpClient,
    pub(crate) driver: Box<dyn Driver>,
    ended: Vec<Ended>,
    next_id: u64,
    far_end: Box<dyn FarEnd>,
}

impl World {
    pub(crate) fn new(
        driver: Box<dyn Driver>,
        far_end: Box<dyn FarEnd>,
        origin: Origin,
        options: ClientOptions,
    ) -> Self {
        let client = HttpClient::new(origin, options);
        Self { driver, far_end, client, ended: Vec::new(), next_id: 0 }
    }

    pub(crate) fn seen(&self) -> &Seen {
        self.far_end.seen()
    }

    /// Starts an exchange, as soon as what was cancelled before has come back.
    pub(crate) fn start(&mut self, body: &[u8]) -> u64 {
        while self.client.capacity() == 0 {
            self.turn(None);
        }
        let url = HttpUrl::parse("http://far.test/in").expect("sound");
        let encoder = RequestEncoder::new("POST", &url).expect("sound");
        let request = encoder.encode(&[], body).expect("sound");
        self.next_id += 1;
        self.client.start(self.next_id, request, self.driver.now()).expect("capacity");
        self.next_id
    }

    /// One exchange from start to end, with nothing beside it.
    pub(crate) fn exchange(&mut self, body: &[u8]) -> Result<Response, ExchangeError> {
        let id = self.start(body);
        let (ended, result) = self.next_ended();
        assert_eq!(ended, id);
        result
    }

    /// Turns until an exchange has ended.
    pub(crate) fn next_ended(&mut self) -> Ended {
        while self.ended.is_empty() {
            self.turn(None);
        }
        self.ended.remove(0)
    }

    /// Turns for so long at least.
    pub(crate) fn pause(&mut self, duration: Duration) {
        let until = self.driver.now().after(duration);
        while self.driver.now() < until {
            self.turn(Some(until));
        }
    }

    fn turn(&mut self, until: Option<Monotonic>) {
        while let Some((token, op)) = self.client.poll_op(self.driver.now()) {
            self.driver.submit(u64::from(token), op);
        }
        while let Some(token) = self.client.poll_cancel() {
            self.driver.cancel(u64::from(token));
        }
        self.ended.extend(std::iter::from_fn(|| self.client.poll_outcome()));
        if !self.ended.is_empty() && until.is_none() {
            return;
        }
        let wakeup = self.client.next_wakeup().into_iter().chain(until).min();
        let mut completions = Vec::new();
        let wait = wakeup.map_or(Wait::Forever, Wait::Until);
        self.driver.poll(wait, &mut completions).expect("a sound driver");
        for completion in completions {
            match u32::try_from(completion.token) {
                Ok(token) => self.client.handle(token, completion, self.driver.now()),
                Err(_) => self.far_end.handle(&mut *self.driver, completion),
            }
        }
    }

    /// Closes the client; everything it had under way comes back.
    pub(crate) fn finish(mut self) {
        self.client.close(self.driver.now());
        while !self.client.is_quiet() {
            self.turn(None);
            self.ended.clear();
        }
    }
}
