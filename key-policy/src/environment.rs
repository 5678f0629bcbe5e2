//! The environment that a key is made for.

use core::fmt;
use core::str::FromStr;

/// What a key is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Environment {
    /// Production and everything else.
    Live,
    /// Development, testing and staging only.
    Test,
}

impl Environment {
    /// Both, in the order in which they are tried.
    pub const ALL: [Self; 2] = [Self::Live, Self::Test];

    /// `live` or `test`, as it stands in a key.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Environment {
    type Err = EnvironmentFault;

    fn from_str(text: &str) -> Result<Self, EnvironmentFault> {
        Self::ALL
            .into_iter()
            .find(|environment| environment.as_str() == text)
            .ok_or(EnvironmentFault)
    }
}

/// A text is no [`Environment`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvironmentFault;

impl fmt::Display for EnvironmentFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key's environment is `live` or `test`")
    }
}

impl core::error::Error for EnvironmentFault {}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test(unsupported = test)]
    fn an_environment_is_read_as_it_is_written() {
        for environment in Environment::ALL {
            assert_eq!(environment.to_string().parse(), Ok(environment));
        }
        assert_eq!("Live".parse::<Environment>(), Err(EnvironmentFault));
    }
}
