//! The kind of place a gate runs in.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

use crate::UnknownName;

/// What kind of deployment this is. Test keys pass everywhere but in production.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Deployment {
    /// A developer's machine.
    Development,
    /// Automated tests.
    Testing,
    /// A rehearsal for production.
    Staging,
    /// The real thing, and the default, since a forgotten setting must be the safe one.
    #[default]
    Production,
}

impl Deployment {
    /// Whether keys of the `test` environment may be used here.
    #[must_use]
    pub fn allows_test_keys(self) -> bool {
        self != Self::Production
    }

    /// The name as it is configured.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Testing => "testing",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }
}

impl fmt::Display for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Deployment {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        [Self::Development, Self::Testing, Self::Staging, Self::Production]
            .into_iter()
            .find(|d| d.as_str() == name)
            .ok_or(UnknownName { expected: "development, testing, staging or production" })
    }
}
