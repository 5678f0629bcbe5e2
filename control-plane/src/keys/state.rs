//! What has become of a key, in a word.

use jiff::Timestamp;
use std::{fmt, str::FromStr};

use super::Key;

/// What has become of a key. At any time a key is in exactly one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, utoipa::ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum KeyState {
    /// It can be used.
    Active,
    /// It was switched off, and can be switched on again.
    Disabled,
    /// It is over for good.
    Revoked,
    /// Its time is up.
    Expired,
}

impl KeyState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Active, Self::Disabled, Self::Revoked, Self::Expired];

    /// As the API and the command line have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// There is no such state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one of active, disabled, revoked, expired")]
pub struct UnknownState;

impl FromStr for KeyState {
    type Err = UnknownState;

    fn from_str(name: &str) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|state| state.as_str() == name).ok_or(UnknownState)
    }
}

impl Key {
    /// What has become of it. What somebody decided counts before what time has done.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> KeyState {
        if self.revoked_at.is_some() {
            KeyState::Revoked
        } else if !self.is_active {
            KeyState::Disabled
        } else if self.is_usable(now) {
            KeyState::Active
        } else {
            KeyState::Expired
        }
    }
}
