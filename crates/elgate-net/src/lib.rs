//! Connections to far ends, as state machines: they are handed completions and time, and return
//! operations for a driver of `elgate-io`.
//!
//! * [`HttpClient`] carries out exchanges (one request, one response) with one origin over a few
//!   keep-alive connections: names resolved, addresses tried in turn, every wait bounded.
//! * [`classify`] turns a response into a [`Verdict`]: delivered, to be tried again, or refused.
//! * [`Backoff`] says how long to wait before the next attempt: exponential with full jitter.
//!
//! An exchange is attempted once. Whether and when it is repeated is the caller's decision, who
//! repeats it with the same idempotency key.

mod addresses;
mod backoff;
mod classify;
mod connection;
mod error;
mod http_client;
mod origin;
mod outbox;

pub use backoff::{Backoff, Jitter, RetryPolicy, RetryPolicyError};
pub use classify::{Verdict, classify};
pub use error::{Busy, ExchangeError};
pub use http_client::{ClientOptions, HttpClient};
pub use origin::Origin;
