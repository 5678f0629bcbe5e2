//! How the audit log is vouched for, and how long it is kept.

use secrecy::ExposeSecret;
use std::time::Duration;

use super::{ConfigError, SecretKey, Settings, settings::SecretText, text_or_file, wrong};

/// What is added after a checkpoint can be rewritten without a trace until the next one.
const CHECKPOINT_MINUTES: u32 = 5;
const MOST_CHECKPOINT_MINUTES: u32 = 24 * 60;
const RETENTION_DAYS: u32 = 90;
/// A hundred years.
const MOST_RETENTION_DAYS: u32 = 36_500;

/// The audit log's settings, checked.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    /// The seed of the key that checkpoints are signed with; without one it is derived from the
    /// secret key.
    pub signing_key: Option<SecretKey>,
    /// How long the log may grow without a checkpoint.
    pub checkpoint_every: Duration,
    /// How many days rows are kept.
    pub retention_days: u32,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            signing_key: None,
            checkpoint_every: minutes(CHECKPOINT_MINUTES),
            retention_days: RETENTION_DAYS,
        }
    }
}

fn minutes(minutes: u32) -> Duration {
    Duration::from_secs(u64::from(minutes) * 60)
}

fn within(
    setting: &'static str,
    asked: Option<u32>,
    or: u32,
    most: u32,
) -> Result<u32, ConfigError> {
    let value = asked.unwrap_or(or);
    if (1..=most).contains(&value) {
        Ok(value)
    } else {
        Err(wrong(setting, format!("must be 1 to {most}; it is {value}")))
    }
}

impl AuditConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, ConfigError> {
        const SIGNING_KEY: &str = "KEYGATE_AUDIT_SIGNING_KEY";
        let seed = text_or_file(
            SIGNING_KEY,
            settings.audit_signing_key.as_ref().map(SecretText::expose),
            settings.audit_signing_key_file.as_deref(),
        )?;
        let seed = seed.map(|text| SecretKey::parse(text.expose_secret())).transpose();
        Ok(Self {
            signing_key: seed.map_err(|error| {
                wrong(SIGNING_KEY, format!("{error} (make one: openssl rand -hex 32)"))
            })?,
            checkpoint_every: minutes(within(
                "KEYGATE_AUDIT_CHECKPOINT_MINUTES",
                settings.audit_checkpoint_minutes,
                CHECKPOINT_MINUTES,
                MOST_CHECKPOINT_MINUTES,
            )?),
            retention_days: within(
                "KEYGATE_AUDIT_RETENTION_DAYS",
                settings.audit_retention_days,
                RETENTION_DAYS,
                MOST_RETENTION_DAYS,
            )?,
        })
    }
}
