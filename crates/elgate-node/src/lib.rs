//! The Node-API binding: conversions between JavaScript and the engine, the client and the log.
//!
//! Nothing is decided here. What users see is the TypeScript facade in `packages/elgate`; this
//! crate hands it raw classes:
//!
//! | file | class |
//! |---|---|
//! | `engine.rs` | `NativeEngine`: an engine in this process |
//! | `client.rs` | `NativeClient`: a producer on a ring, this process's or a daemon's |
//! | `reader.rs` | `NativeReader`: tails a log |
//! | `fsck.rs` | `NativeFsck`: checks and repairs a log |
//! | `describe.rs` | what a log, this machine and this build look like |
//! | `error.rs` | errors with a stable `code` |
//! | `task.rs` | blocking work on libuv's pool, as a promise |

#![cfg_attr(test, allow(dead_code, reason = "napi registers nothing in a test build"))]
#![expect(unreachable_pub, reason = "what napi exports must be `pub`, whatever module it is in")]

mod client;
mod describe;
mod engine;
mod error;
mod fsck;
mod reader;
mod task;
