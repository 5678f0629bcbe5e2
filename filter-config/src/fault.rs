//! Why a configuration is refused.

use std::fmt;

/// What is wrong with a configuration: which field, and what was expected of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFault {
    field: String,
    problem: String,
}

impl ConfigFault {
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }

    /// The field, as a path such as `limits[0].requests`; `.` for the document as a whole.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// What was expected of it.
    #[must_use]
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field == "." {
            write!(f, "configuration refused: {}", self.problem)
        } else {
            write!(f, "configuration refused: field `{}`: {}", self.field, self.problem)
        }
    }
}

impl std::error::Error for ConfigFault {}
