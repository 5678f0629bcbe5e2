//! How a `PostgreSQL` database is connected to.

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::{fmt, str::FromStr};

use super::{ConfigError, database_url::SETTING, settings::Settings, wrong};

/// Enough for a few thousand units of work a second; what waits for the disk waits there together.
const CONNECTIONS: u32 = 20;
/// More than this, on each of several control planes, is more than a server serves well.
const MOST_CONNECTIONS: u32 = 50;
/// One that works, and one beside it.
const LEAST_CONNECTIONS: u32 = 2;
/// What `application_name` says unless the URL says otherwise.
const APPLICATION: &str = "keygate";

/// A `PostgreSQL` database, and how many connections it gets. The password is shown by nothing.
#[derive(Clone)]
pub struct PostgresConfig {
    options: PgConnectOptions,
    connections: u32,
}

impl PostgresConfig {
    /// How to connect.
    #[must_use]
    pub fn connect_options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// How many connections at most, beside one that hears of changes.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.connections
    }

    /// The same with as many connections as the settings say.
    ///
    /// # Errors
    /// When they say too few or too many.
    pub(super) fn with_pool(self, settings: &Settings) -> Result<Self, ConfigError> {
        let connections = settings.database_connections.unwrap_or(CONNECTIONS);
        if !(LEAST_CONNECTIONS..=MOST_CONNECTIONS).contains(&connections) {
            return Err(wrong(
                "KEYGATE_DATABASE_CONNECTIONS",
                format!("must be {LEAST_CONNECTIONS} to {MOST_CONNECTIONS}; it is {connections}"),
            ));
        }
        Ok(Self { connections, ..self })
    }
}

impl fmt::Display for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let it = &self.options;
        write!(f, "postgres://{}@", it.get_username())?;
        match it.get_socket() {
            Some(socket) => write!(f, "{}", socket.display())?,
            None => write!(f, "{}:{}", it.get_host(), it.get_port())?,
        }
        write!(f, "/{}", it.get_database().unwrap_or_default())
    }
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresConfig").field(&self.to_string()).finish()
    }
}

impl PartialEq for PostgresConfig {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string() && self.connections == other.connections
    }
}

impl Eq for PostgresConfig {}

impl FromStr for PostgresConfig {
    type Err = ConfigError;

    fn from_str(url: &str) -> Result<Self, ConfigError> {
        let options: PgConnectOptions = url.parse().map_err(|error| {
            // Its own words are about the form, and repeat at most a parameter of no secrecy.
            let sqlx::Error::Configuration(why) = error else {
                return wrong(SETTING, "cannot be read as postgres://user@host:port/database");
            };
            wrong(SETTING, format!("cannot be read as postgres://user@host:port/database: {why}"))
        })?;
        if options.get_database().is_none_or(str::is_empty) {
            return Err(wrong(SETTING, "names no database: postgres://user@host:port/database"));
        }
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name(APPLICATION),
        };
        Ok(Self { options, connections: CONNECTIONS })
    }
}

impl PostgresConfig {
    /// Whether what goes to the database can be read or changed on the way.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        let it = &self.options;
        let verified = matches!(it.get_ssl_mode(), PgSslMode::VerifyCa | PgSslMode::VerifyFull);
        let local = it.get_socket().is_some()
            || it.get_host() == "localhost"
            || it.get_host().starts_with('/')
            || it.get_host().parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        !verified && !local
    }
}
