//! The composition root: shards, modes, routes, sinks, reload and status.
//!
//! | to find | look in |
//! |---|---|
//! | what may be configured | `config.rs` |
//! | which threads run, and where | `mode.rs`, `topology.rs`, `pin.rs` |
//! | starting, reloading, stopping | `engine.rs`, `start.rs`, `reload.rs` |
//! | what all of it stands on | `world.rs` |
//! | the event loop | `shard/` |
//! | a route: log, acknowledgements, sink | `route.rs`, `open_route.rs`, `feed.rs` |
//! | a route that could not be opened | `failed_route.rs` |
//! | carrying records to a far end | `sink/` |
//! | what it says about itself | `status.rs` |

mod config;
mod doctor;
mod engine;
mod error;
mod failed_route;
mod feed;
mod lock;
mod mode;
mod open_route;
mod pin;
mod reload;
mod route;
mod shard;
mod shard_io;
mod sink;
mod start;
mod status;
mod topology;
mod world;

pub use config::{
    Backend, CommitChoice, EngineConfig, FilesConfig, Framing, Order, RetainConfig, RetryConfig,
    RingConfig, RouteConfig, RuntimeConfig, SinkKind, Switch, routes_from_json,
};
pub use doctor::{Finding, Severity, doctor};
pub use engine::{Closed, Engine};
pub use error::EngineError;
pub use mode::{Mode, Plan, SHARDS_MAX};
pub use pin::{cores_of_current_thread, pin_current_thread};
pub use reload::{Reload, RouteFailure};
pub use shard::{Shard, ShardStart, Turn};
pub use status::{
    Buckets, IoStatus, LastError, MemoryUse, MirrorStatus, RingStatus, RouteState, RouteStatus,
    ShardStatus, Status,
};
pub use topology::{Core, Topology};
pub use world::{OsWorld, RunningShard, ShardEnd, World};
