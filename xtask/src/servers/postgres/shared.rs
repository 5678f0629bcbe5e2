//! One server for many tests: starting one takes longer than most of them.

use std::sync::OnceLock;

use anyhow::{Result, anyhow};

use super::{PostgresOptions, PostgresServer};

/// Names a server that runs already, by the URL of its superuser's own database, for tests that are
/// a process each.
pub const SHARED: &str = "KEYGATE_TEST_POSTGRES";

/// This process's own. Never dropped, as nothing in a `static` is: the system ends the server with
/// the process, and its folder goes when the next one is made.
static OWN: OnceLock<std::result::Result<PostgresServer, String>> = OnceLock::new();

/// The URL of a database on the server that the tests share: that of [`SHARED`], or one that is
/// started by whoever asks first in this process, and ends with it. No database but `postgres` is
/// there in the beginning.
///
/// # Errors
/// When the server does not come up.
pub fn shared_url(database: &str) -> Result<String> {
    if let Some(url) = std::env::var(SHARED).ok().filter(|url| !url.is_empty()) {
        let server = url.rsplit_once('/').map_or(url.as_str(), |(server, _)| server);
        return Ok(format!("{server}/{database}"));
    }
    let own = OWN.get_or_init(|| {
        PostgresServer::start(PostgresOptions::default()).map_err(|error| format!("{error:#}"))
    });
    own.as_ref().map(|server| server.url(database)).map_err(|error| anyhow!(error.clone()))
}
