//! How the audit log is vouched for, and how long it is kept.

use std::time::Duration;

use super::{ConfigError, SecretKey, Settings, strong_secret, wrong};
use crate::audit::chain::checkpoint::PublicKey;

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
    /// Public keys that checkpoints were signed with before.
    pub trusted_keys: Vec<PublicKey>,
    /// How long the log may grow without a checkpoint.
    pub checkpoint_every: Duration,
    /// How many days rows are kept.
    pub retention_days: u32,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            signing_key: None,
            trusted_keys: Vec::new(),
            checkpoint_every: minutes(CHECKPOINT_MINUTES),
            retention_days: RETENTION_DAYS,
        }
    }
}

fn minutes(minutes: u32) -> Duration {
    Duration::from_secs(u64::from(minutes) * 60)
}

pub(super) fn within(
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
        Ok(Self {
            signing_key: strong_secret(
                "KEYGATE_AUDIT_SIGNING_KEY",
                settings.audit_signing_key.as_ref(),
                settings.audit_signing_key_file.as_deref(),
                settings.environment,
            )?,
            trusted_keys: trusted_keys(settings.audit_trusted_keys.as_deref())?,
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

fn trusted_keys(listed: Option<&str>) -> Result<Vec<PublicKey>, ConfigError> {
    let listed = listed.unwrap_or_default().split(',').filter(|key| !key.trim().is_empty());
    let key = |key: &str| {
        key.parse().map_err(|error| {
            wrong("KEYGATE_AUDIT_TRUSTED_KEYS", format!("`{}` {error}", key.trim()))
        })
    };
    listed.map(key).collect()
}
