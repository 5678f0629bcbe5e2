//! Whether the listeners' certificates can be used, and for how long yet.

use jiff::{SignedDuration, Timestamp};

use super::finding::{Check, Finding};
use crate::{
    config::{ServeConfig, TlsFiles},
    http::tls,
};

/// Time enough to replace one by hand.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

pub(super) async fn examine(serving: &ServeConfig, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (listener, files) in [("admin", &serving.tls), ("filters", &serving.edge_tls)] {
        if let Some(files) = files {
            findings.push(look(listener, files, now).await);
        }
    }
    if findings.is_empty() {
        findings.push(Finding::skipped(Check::Certificates, "no listener speaks TLS"));
    }
    findings
}

async fn look(listener: &str, files: &TlsFiles, now: Timestamp) -> Finding {
    match tls::expiry(files).await {
        Ok(ends) => judge(listener, ends, now),
        Err(error) => Finding::failed(
            Check::Certificates,
            error.to_string(),
            "put a certificate and its key there, in PEM (docs/tls.md)",
        ),
    }
}

fn judge(listener: &str, ends: Option<Timestamp>, now: Timestamp) -> Finding {
    const REPLACE: &str = "put a new certificate and key in the place of the old ones; the service takes \
                           them without a restart (docs/tls.md)";
    let Some(ends) = ends else {
        let what = format!("{listener}: the certificate can be used; its end cannot be read");
        return Finding::ok(Check::Certificates, what);
    };
    let left = ends.duration_since(now);
    let days = left.as_hours() / 24;
    if left.is_negative() || left.is_zero() {
        let what = format!("{listener}: the certificate ended at {ends}: clients refuse it");
        Finding::failed(Check::Certificates, what, REPLACE)
    } else if left < SOON {
        let what = format!("{listener}: the certificate ends in {days} days, at {ends}");
        Finding::warning(Check::Certificates, what, REPLACE)
    } else {
        let what = format!("{listener}: the certificate is good for {days} days");
        Finding::ok(Check::Certificates, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{doctor::finding::Status, testing::at};

    #[test]
    fn a_certificate_that_has_ended_or_soon_will_is_told() {
        let now = at("2026-11-26T12:00:00Z");
        for (ends, status) in [
            ("2026-11-26T11:59:59Z", Status::Failed),
            ("2026-12-09T12:00:00Z", Status::Warning),
            ("2027-03-01T12:00:00Z", Status::Ok),
        ] {
            assert_eq!(judge("admin", Some(at(ends)), now).status, status, "{ends}");
        }
    }
}
