//! A real `PostgreSQL`.

mod folder;
mod program;
mod server;
mod shared;

pub use folder::sweep;
pub use server::{PostgresOptions, PostgresServer};
pub use shared::{SHARED, shared_url};

use std::time::Duration;

/// What a server needs to start on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);
