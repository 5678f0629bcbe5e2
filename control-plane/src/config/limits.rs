//! How much the admin API takes from whom.

use std::num::NonZeroU32;

use super::{ConfigError, Settings, wrong};

/// Ten a second: more than people and the scripts of a deployment need, and less than a database
/// that also verifies keys would feel.
const CALLS_A_MINUTE: u32 = 600;
/// Enough for a script with an outdated key to be noticed, and too little for anything else.
const FAILURES_A_MINUTE: u32 = 30;
/// A count is a time in microseconds, so a minute holds no more than some millions.
const MOST: u32 = 1_000_000;

/// The admin API's limits, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdminLimitsConfig {
    /// Calls a minute with one admin key.
    pub calls: NonZeroU32,
    /// Refused calls a minute from one address (IPv6: one /64).
    pub failures: NonZeroU32,
}

impl Default for AdminLimitsConfig {
    fn default() -> Self {
        let limit = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Self { calls: limit(CALLS_A_MINUTE), failures: limit(FAILURES_A_MINUTE) }
    }
}

impl AdminLimitsConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, ConfigError> {
        let or = Self::default();
        let (calls, failures) = (settings.admin_rate_limit, settings.admin_failure_limit);
        Ok(Self {
            calls: within("KEYGATE_ADMIN_RATE_LIMIT", calls, or.calls)?,
            failures: within("KEYGATE_ADMIN_FAILURE_LIMIT", failures, or.failures)?,
        })
    }
}

fn within(
    setting: &'static str,
    asked: Option<u32>,
    or: NonZeroU32,
) -> Result<NonZeroU32, ConfigError> {
    let Some(asked) = asked else { return Ok(or) };
    let limit = NonZeroU32::new(asked).filter(|limit| limit.get() <= MOST);
    limit.ok_or_else(|| wrong(setting, format!("must be 1 to {MOST} a minute; it is {asked}")))
}
