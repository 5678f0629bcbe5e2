//! Where the database is.

use std::{fmt, path::PathBuf, str::FromStr};

use super::{ConfigError, PostgresConfig, wrong};

pub(super) const SETTING: &str = "KEYGATE_DATABASE_URL";

/// A database that this version can use. Neither `Debug` nor `Display` shows a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// A `SQLite` file: `sqlite://relative/path` or `sqlite:///absolute/path`.
    Sqlite(PathBuf),
    /// A `PostgreSQL` database: `postgres://user:password@host:port/database?sslmode=verify-full`.
    Postgres(Box<PostgresConfig>),
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres(config) => config.fmt(f),
        }
    }
}

impl FromStr for DatabaseUrl {
    type Err = ConfigError;

    // A URL may hold a password, so no message repeats it.
    fn from_str(url: &str) -> Result<Self, ConfigError> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return url.parse().map(|config| Self::Postgres(Box::new(config)));
        }
        let path = url
            .strip_prefix("sqlite://")
            .or_else(|| url.strip_prefix("sqlite:"))
            .ok_or_else(|| {
                wrong(
                    SETTING,
                    "must look like sqlite://path/to/keygate.db or postgres://user@host/database",
                )
            })?;
        if path.is_empty() || path.contains(['?', '#']) {
            return Err(wrong(SETTING, "must be sqlite:// and a file's path, without `?` and `#`"));
        }
        if path == ":memory:" {
            return Err(wrong(
                SETTING,
                "must be a file: what is kept in memory only is lost at the end",
            ));
        }
        Ok(Self::Sqlite(PathBuf::from(path)))
    }
}
