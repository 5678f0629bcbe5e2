//! What a check found.

use serde::Serialize;
use std::fmt;

macro_rules! checks {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal),+ $(,)?) => {
        /// What is looked at.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
        pub enum Check {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $variant),+
        }

        impl Check {
            /// All of them, in the order in which they are told.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

checks! {
    /// Whether the settings can be used, and go together.
    Configuration = "configuration",
    /// Who can reach the listeners, and what they hear on the way.
    Listeners = "listeners",
    /// Whether the secrets are strong, and each is for one thing.
    Secrets = "secrets",
    /// Whether others on the machine can read the secrets' files.
    SecretFiles = "secret-files",
    /// Whether the listeners' certificates can be used, and how long yet.
    Certificates = "certificates",
    /// Whether the database answers, is up to date, whole, and can be written.
    Database = "database",
    /// Whether there is room to write.
    DiskSpace = "disk-space",
    /// Whether this secret key is the one that the database's keys need.
    SecretKey = "secret-key",
    /// Whether somebody can administrate.
    AdminKeys = "admin-keys",
    /// Whether the audit log is signed for.
    AuditLog = "audit-log",
    /// Whether Redis can be reached and written.
    Redis = "redis",
    /// What one hash costs here.
    HashCost = "hash-cost",
    /// How many connections may be open.
    OpenFiles = "open-files",
    /// How the running service is.
    Service = "service",
    /// Whether Envoy serves, has the filter, and reaches the control plane.
    Envoy = "envoy",
    /// Whether this machine's clock agrees with the others'.
    Clock = "clock",
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It was not looked at.
    Skipped,
    /// As it should be.
    Ok,
    /// It works, and should not stay so.
    Warning,
    /// It does not work, or is not safe.
    Failed,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Skipped => "skipped",
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "FAILED",
        })
    }
}

/// What a check found. None of it shows a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where it was looked.
    pub check: Check,
    /// How it is.
    pub status: Status,
    /// What was found, in a sentence.
    pub what: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Finding {
    /// All is well.
    #[must_use]
    pub fn ok(check: Check, what: impl Into<String>) -> Self {
        Self { check, status: Status::Ok, what: what.into(), mend: None }
    }

    /// It was not looked at, since something else is missing.
    #[must_use]
    pub fn skipped(check: Check, why: impl Into<String>) -> Self {
        Self { check, status: Status::Skipped, what: why.into(), mend: None }
    }

    /// It works, and should not stay so.
    #[must_use]
    pub fn warning(check: Check, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, status: Status::Warning, what: what.into(), mend: Some(mend.into()) }
    }

    /// It does not work, or is not safe.
    #[must_use]
    pub fn failed(check: Check, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, status: Status::Failed, what: what.into(), mend: Some(mend.into()) }
    }
}

/// All that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The worst of them.
    pub status: Status,
    /// Each of them.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Puts them together, in the order of [`Check::ALL`].
    #[must_use]
    pub fn new(mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|it| Check::ALL.iter().position(|check| *check == it.check));
        let status = findings.iter().map(|it| it.status).max().unwrap_or(Status::Skipped);
        Self { status, findings }
    }

    /// How many are so.
    #[must_use]
    pub fn count(&self, status: Status) -> usize {
        self.findings.iter().filter(|it| it.status == status).count()
    }
}

/// Of a time in milliseconds, what a person wants to know.
pub(super) fn milliseconds(time: std::time::Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_is_the_reports_and_all_are_told_in_one_order() {
        let report = Report::new(vec![
            Finding::warning(Check::Clock, "late", "set it"),
            Finding::skipped(Check::Envoy, "not asked for"),
            Finding::ok(Check::Configuration, "fine"),
        ]);
        assert_eq!(report.status, Status::Warning);
        let order: Vec<_> = report.findings.iter().map(|it| it.check.as_str()).collect();
        assert_eq!(order, ["configuration", "envoy", "clock"]);
        assert_eq!(report.count(Status::Ok), 1);
    }
}
