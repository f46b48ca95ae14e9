//! The producer side of Elgate as a library: hand records over, be told what became of them.
//!
//! ```text
//!  Client ── route(name) ─► RouteHandle ── submit ─► lane: one ring of the daemon
//!    │                                                 │ background thread: sleeps until there are
//!    │◄── drain ◄── doorbell, once until drained ◄─────┘ acknowledgements, or the ring is replaced
//!    └─── delivered, watch_delivered: the log's head file, read through a mapping
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | `client.rs` | the [`Client`]: routes to lanes, numbers, closing |
//! | `lane.rs` | an attachment to one ring: window, acknowledgements, attaching anew |
//! | `bell.rs` | the doorbell: many reasons, one ring |
//! | `watch.rs` | delivery watermarks and room, polled only while somebody waits for them |
//! | `routes.rs` | route handles |
//! | `error.rs` | what can go wrong |

mod bell;
mod client;
mod error;
mod lane;
mod routes;
mod watch;

pub use client::{Acknowledgement, Client, ConnectOptions};
pub use error::{ClientError, SubmitError};
pub use routes::RouteHandle;
