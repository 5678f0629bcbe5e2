//! How the service is configured: `KEYGATE_*` variables, then a TOML file, then flags; what
//! comes later wins.

mod audit;
mod database_url;
mod limits;
pub(crate) mod percent;
mod postgres;
mod redis;
mod secret_key;
mod settings;
mod sources;
mod telemetry;
mod tls;
mod usage;

pub use audit::AuditConfig;
pub use database_url::DatabaseUrl;
pub use limits::AdminLimitsConfig;
pub use postgres::PostgresConfig;
pub use redis::{RedisConfig, RedisLogin, RedisTls, RedisUrl, Topology};
pub use secret_key::{SecretKey, SecretKeyError};
pub use settings::{LogFormat, Settings};
pub use sources::{Flags, WITHOUT_FLAG, load};
pub use telemetry::{TelemetryConfig, TraceConfig};
pub use tls::{NamedFile, TlsFiles};
pub use usage::UsageConfig;

use edge_protocol::Deployment;
use key_policy::{Policy, Prefix};
use secrecy::{ExposeSecret, SecretString};
use std::{net::SocketAddr, path::Path};

use crate::keys::hashing::Iterations;

/// The edge token must not be guessed: 16 characters are the least.
const MIN_EDGE_TOKEN_CHARS: usize = 16;

/// A setting that cannot be used. None of these shows a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value of the wrong form; says where it came from.
    #[error("{0}")]
    Source(String),
    /// A value that means nothing here.
    #[error("{setting}: {problem}")]
    Value {
        /// Which setting.
        setting: &'static str,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

pub(crate) fn wrong(setting: &'static str, problem: impl Into<String>) -> ConfigError {
    ConfigError::Value { setting, problem: problem.into() }
}

/// The settings that every command needs, checked.
#[derive(Debug)]
pub struct Config {
    /// Where keys and the rest are kept.
    pub database: DatabaseUrl,
    /// Where what control planes share is counted; none: in the memory of each.
    pub redis: Option<RedisConfig>,
    /// What kind of deployment this is.
    pub environment: Deployment,
    /// The secret key, when one is set.
    pub secret_key: Option<SecretKey>,
    /// The secret key before it, while keys still depend on that one.
    pub previous_secret_key: Option<SecretKey>,
    /// How dear the hash of a new key is.
    pub iterations: Iterations,
    /// How the audit log is vouched for, and how long it is kept.
    pub audit: AuditConfig,
    /// Whether a change by the admin API needs a second factor.
    pub require_totp: bool,
    /// How long usage is kept.
    pub usage: UsageConfig,
    /// How much the admin API takes from whom.
    pub admin_limits: AdminLimitsConfig,
    /// What keys are like.
    pub policy: Policy,
}

impl Config {
    /// Checks the settings.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, ConfigError> {
        let environment = settings.environment;
        let prefix: Prefix = settings
            .key_prefix
            .parse()
            .map_err(|fault| wrong("KEYGATE_KEY_PREFIX", format!("{fault}")))?;
        Ok(Self {
            database: database(settings)?,
            redis: RedisConfig::new(settings)?,
            environment,
            secret_key: strong_secret(
                "KEYGATE_SECRET_KEY",
                settings.secret_key.as_ref(),
                settings.secret_key_file.as_deref(),
                environment,
            )?,
            previous_secret_key: previous_secret_key(settings)?,
            iterations: iterations(settings)?,
            audit: AuditConfig::new(settings)?,
            require_totp: settings.require_totp,
            usage: UsageConfig::new(settings)?,
            admin_limits: AdminLimitsConfig::new(settings)?,
            policy: Policy { prefix, ..Policy::default() },
        })
    }

    /// Whether keys of the test environment are accepted, and whether that was asked for where it
    /// must not be.
    #[must_use]
    pub fn test_keys(&self, settings: &Settings) -> TestKeys {
        match (settings.enable_test_api_keys, self.environment.allows_test_keys()) {
            (Some(true), false) => TestKeys::RefusedInProduction,
            (Some(false), _) | (None, false) => TestKeys::Off,
            (Some(true) | None, true) => TestKeys::On,
        }
    }
}

/// What becomes of keys for tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestKeys {
    /// They pass.
    On,
    /// They do not.
    Off,
    /// They do not, though the configuration asks for it: this is production.
    RefusedInProduction,
}

/// The settings that only the service needs, checked.
#[derive(Debug)]
pub struct ServeConfig {
    /// Where the admin API, health and metrics listen.
    pub listen: SocketAddr,
    /// Where filters call.
    pub edge_listen: SocketAddr,
    /// What makes the admin listener speak TLS.
    pub tls: Option<TlsFiles>,
    /// What makes the listener for filters speak TLS.
    pub edge_tls: Option<TlsFiles>,
    /// What filters show; without one, and without certificates of their own, they are all refused.
    pub edge_token: Option<SecretString>,
    /// Whether to migrate the database first.
    pub migrate: bool,
}

impl ServeConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn new(settings: &Settings, config: &Config) -> Result<Self, ConfigError> {
        if config.secret_key.is_none() && config.environment == Deployment::Production {
            return Err(wrong(
                "KEYGATE_SECRET_KEY",
                "is not set; in production it must be (make one: openssl rand -hex 32)",
            ));
        }
        let address = |setting, text: &str| {
            text.parse::<SocketAddr>().map_err(|_| {
                wrong(setting, format!("`{text}` is no address and port such as 127.0.0.1:8080"))
            })
        };
        let listen = address("KEYGATE_LISTEN", &settings.listen)?;
        let edge_listen = address("KEYGATE_EDGE_LISTEN", &settings.edge_listen)?;
        if listen == edge_listen && listen.port() != 0 {
            return Err(wrong(
                "KEYGATE_EDGE_LISTEN",
                "is the same as KEYGATE_LISTEN; the two must differ",
            ));
        }
        Ok(Self {
            listen,
            edge_listen,
            tls: TlsFiles::admin(settings)?,
            edge_tls: TlsFiles::edge(settings)?,
            edge_token: edge_token(settings)?,
            migrate: settings.migrate,
        })
    }
}

/// Where nothing says where the database is.
const DEFAULT_DATABASE: &str = "sqlite://keygate.db";

fn database(settings: &Settings) -> Result<DatabaseUrl, ConfigError> {
    let url = text_or_file(
        database_url::SETTING,
        settings.database_url.as_ref().map(settings::SecretText::expose),
        settings.database_url_file.as_deref(),
    )?;
    let url = url.as_ref().map_or(DEFAULT_DATABASE, ExposeSecret::expose_secret);
    match url.parse()? {
        DatabaseUrl::Postgres(config) => {
            Ok(DatabaseUrl::Postgres(Box::new(config.with_pool(settings)?)))
        }
        file @ DatabaseUrl::Sqlite(_) => Ok(file),
    }
}

fn edge_token(settings: &Settings) -> Result<Option<SecretString>, ConfigError> {
    const SETTING: &str = "KEYGATE_EDGE_TOKEN";
    let token = text_or_file(
        SETTING,
        settings.edge_token.as_ref().map(settings::SecretText::expose),
        settings.edge_token_file.as_deref(),
    )?;
    let production = settings.environment == Deployment::Production;
    match token {
        // Without one the API for filters stays shut, which is safe; the rest can be used.
        None => Ok(None),
        Some(token) => {
            let text = token.expose_secret();
            if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(wrong(SETTING, "must be printable ASCII without spaces"));
            }
            if production && text.len() < MIN_EDGE_TOKEN_CHARS {
                return Err(wrong(
                    SETTING,
                    format!(
                        "must be at least {MIN_EDGE_TOKEN_CHARS} characters (make one: openssl rand -hex 32)"
                    ),
                ));
            }
            let mut bytes = text.bytes();
            let first = bytes.next();
            if production && bytes.all(|byte| Some(byte) == first) {
                return Err(wrong(
                    SETTING,
                    "is one character over and over (make one: openssl rand -hex 32)",
                ));
            }
            Ok(Some(token))
        }
    }
}

const MAKE_ONE: &str = "make one: openssl rand -hex 32";

/// A secret of 32 bytes; a weak one is refused in production.
fn strong_secret(
    setting: &'static str,
    text: Option<&settings::SecretText>,
    file: Option<&Path>,
    environment: Deployment,
) -> Result<Option<SecretKey>, ConfigError> {
    let text = text_or_file(setting, text.map(settings::SecretText::expose), file)?;
    let Some(text) = text else { return Ok(None) };
    let key = SecretKey::parse(text.expose_secret())
        .map_err(|error| wrong(setting, format!("{error} ({MAKE_ONE})")))?;
    match key.weakness() {
        Some(weakness) if environment == Deployment::Production => {
            Err(wrong(setting, format!("is too weak for production: {weakness} ({MAKE_ONE})")))
        }
        Some(weakness) => {
            tracing::warn!("{setting} is weak, and would be refused in production: {weakness}");
            Ok(Some(key))
        }
        None => Ok(Some(key)),
    }
}

/// The one before. It may be weak: that may be why there is another now.
fn previous_secret_key(settings: &Settings) -> Result<Option<SecretKey>, ConfigError> {
    const SETTING: &str = "KEYGATE_SECRET_KEY_PREVIOUS";
    let text = text_or_file(
        SETTING,
        settings.secret_key_previous.as_ref().map(settings::SecretText::expose),
        settings.secret_key_previous_file.as_deref(),
    )?;
    let key = text.map(|text| SecretKey::parse(text.expose_secret())).transpose();
    key.map_err(|error| wrong(SETTING, error.to_string()))
}

fn iterations(settings: &Settings) -> Result<Iterations, ConfigError> {
    const SETTING: &str = "KEYGATE_PBKDF2_ITERATIONS";
    let Some(asked) = settings.pbkdf2_iterations else { return Ok(Iterations::default()) };
    let production = settings.environment == Deployment::Production;
    let least = if production { Iterations::STANDARD } else { Iterations::LEAST };
    Iterations::new(asked).filter(|_| asked >= least).ok_or_else(|| {
        wrong(SETTING, format!("must be {least} to {}; it is {asked}", Iterations::MOST))
    })
}

/// A secret that is given either as it is or in a file. A blank text counts as not set, whatever
/// it was written in: an empty secret would be one that everybody knows.
fn text_or_file(
    setting: &'static str,
    text: Option<&str>,
    file: Option<&Path>,
) -> Result<Option<SecretString>, ConfigError> {
    match (text.filter(|text| !text.trim().is_empty()), file) {
        (Some(_), Some(_)) => {
            Err(wrong(setting, "is set, and so is its _FILE; set only one of them"))
        }
        (Some(text), None) => Ok(Some(SecretString::from(text))),
        (None, Some(file)) => {
            let text =
                std::fs::read_to_string(file).map(zeroize::Zeroizing::new).map_err(|error| {
                    wrong(setting, format!("its file {} cannot be read: {error}", file.display()))
                })?;
            let text = text.trim();
            if text.is_empty() {
                return Err(wrong(setting, format!("its file {} is empty", file.display())));
            }
            Ok(Some(SecretString::from(text)))
        }
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests;
