//! The client with its completions fed by hand: the only way to be sure of their order.

mod any_order;
mod driver;
mod exchanges;
mod timeouts;
