//! How long usage is kept.

use super::{ConfigError, Settings, audit::within};

/// Thirteen months: a month can be compared with the same one of the year before.
const RETENTION_DAYS: u32 = 400;
/// A hundred years.
const MOST_RETENTION_DAYS: u32 = 36_500;

/// The settings of usage, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageConfig {
    /// How many days it is kept.
    pub retention_days: u32,
}

impl Default for UsageConfig {
    fn default() -> Self {
        Self { retention_days: RETENTION_DAYS }
    }
}

impl UsageConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, ConfigError> {
        let retention_days = within(
            "KEYGATE_USAGE_RETENTION_DAYS",
            settings.usage_retention_days,
            RETENTION_DAYS,
            MOST_RETENTION_DAYS,
        )?;
        Ok(Self { retention_days })
    }
}
