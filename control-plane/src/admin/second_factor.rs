//! The second factor of a call that changes something.

use axum::{
    extract::MatchedPath,
    http::{HeaderName, request::Parts},
};
use edge_protocol::EventKind;

use super::{
    authenticate::{Admin, method_name},
    denials::Caller,
};
use crate::{
    audit::AuditEntry,
    http::problem::{Code, Problem},
    metrics::decisions::{self, By},
    service::Service,
    totp::{Denial, Proof, TotpError},
};

/// Where the code is sent.
pub(crate) const HEADER: &str = "X-Keygate-TOTP";
const HEADER_NAME: HeaderName = HeaderName::from_static("x-keygate-totp");

/// Lets pass whoever needs no second factor, or has shown theirs.
pub(super) async fn require(
    parts: &mut Parts,
    service: &Service,
    admin: &Admin,
) -> Result<Proof, Problem> {
    let mut values = parts.headers.get_all(HEADER_NAME).iter();
    let presented = match (values.next(), values.next()) {
        (None, _) => None,
        // Which of several would count? What is no text is no code, and so is an empty one.
        (Some(_), Some(_)) => Some(""),
        (Some(value), None) => Some(value.to_str().unwrap_or_default()),
    };
    let checked = service.second_factor.check(&admin.actor(), admin.key_id, presented).await;
    // The handlers have no use for it.
    parts.headers.remove(HEADER_NAME);
    match checked? {
        Ok(proof) => Ok(proof),
        Err(denial) => Err(deny(parts, service, admin, denial).await),
    }
}

/// Records that a second factor was not accepted. Codes that are looked at are few in a minute, since
/// tries are counted, so each of them is an entry; all else is as many as the caller likes.
async fn deny(parts: &Parts, service: &Service, admin: &Admin, denial: Denial) -> Problem {
    let route = parts.extensions.get::<MatchedPath>().map_or("-", MatchedPath::as_str);
    let what = format!("method={} route={route}", method_name(&parts.method));
    match denial {
        Denial::Wrong | Denial::Used | Denial::Locked => {
            count(denial);
            let details = format!("reason={} {what}", denial.reason());
            let (by, at) = (admin.actor(), service.clock.now());
            let entry = AuditEntry::by(&by, EventKind::TotpDenied, admin.key_id, at, &details);
            service.recorder.record(entry).await;
        }
        Denial::NoCode | Denial::NotEnrolled | Denial::Malformed | Denial::TooMany { .. } => {
            record_denial(service, admin, denial, &what).await;
        }
    }
    denial.into()
}

/// Records the first denial of each key, reason and minute, and counts the others.
pub(super) async fn record_denial(service: &Service, admin: &Admin, denial: Denial, what: &str) {
    count(denial);
    let caller = Caller::SecondFactor(admin.key_id, admin.client_ip, denial.reason());
    if let Some(entry) = service.admin_denials.note(caller, service.clock.now(), what) {
        service.recorder.record(entry).await;
    }
}

fn count(denial: Denial) {
    decisions::count(By::Admin, "second_factor", EventKind::TotpDenied, denial.reason());
}

impl From<Denial> for Problem {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::NoCode => Self::new(Code::TotpRequired),
            Denial::NotEnrolled => Self::new(Code::TotpRequired).detail(
                "changes need a second factor here, and this key has none: enrol one first",
            ),
            Denial::Malformed | Denial::Wrong => Self::new(Code::TotpInvalid),
            Denial::Used => Self::new(Code::TotpInvalid)
                .detail("this code was used already; wait for the next one"),
            Denial::Locked => Self::new(Code::TotpLocked),
            Denial::TooMany { wait } => Self::new(Code::TotpTooManyAttempts)
                // Rounded up: who comes back then is let in.
                .retry_after(u64::try_from(wait.as_secs()).unwrap_or(0) + 1),
        }
    }
}

impl From<TotpError> for Problem {
    fn from(error: TotpError) -> Self {
        match error {
            TotpError::Store(error) => error.into(),
            TotpError::Random(_) | TotpError::Unreadable(_) => {
                tracing::error!(%error, "a second factor cannot be checked");
                Self::new(Code::Internal)
            }
        }
    }
}
