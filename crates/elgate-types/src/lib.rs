//! Identifiers, units, limits and error codes shared by every Elgate crate.
//!
//! Nothing here does I/O or knows another Elgate crate. If two crates must agree on a number or a
//! name, it lives here, once.

mod code;
pub mod kill_site;
mod level;
pub mod limits;
mod lsn;
pub mod mark;
mod route_name;
pub mod seeded_bug;
mod time;

pub use code::{ErrorCode, ErrorRow, error_table};
pub use level::{FlushMode, Level};
pub use lsn::Lsn;
pub use route_name::{RouteName, RouteNameError};
pub use time::{Monotonic, WallTime};
