//! Who calls, and whether they may.

use axum::{
    extract::{FromRequestParts, MatchedPath},
    http::{HeaderName, Method, request::Parts},
};
use edge_protocol::{EventKind, Scope};
use key_policy::KeyId;
use std::{net::IpAddr, sync::Arc};

use super::{
    denials,
    limit::{Standing, Told},
    second_factor,
};
use crate::{
    audit::{Actor, AuditEntry, trail},
    http::{
        Arrived, Peer,
        problem::{Code, Problem},
    },
    keys::{
        Key,
        digest::{PresentedKey, audit_hash},
        verify::{Outcome, VerifyError},
    },
    metrics::decisions::{self, By},
    service::Service,
    totp::Proof,
};

const HEADER: HeaderName = HeaderName::from_static("x-api-key");
/// Where people put keys that must not be in a query: queries are logged on the way.
const QUERY_NAMES: &[&str] = &["x-api-key", "api_key", "api-key", "apikey", "key"];

/// An administrator. A handler that takes one is called by nobody else, and where its method
/// changes something by nobody whose second factor is missing or wrong.
#[derive(Clone, Debug)]
pub(super) struct Admin {
    /// Their key.
    pub(super) key_id: KeyId,
    /// Their address.
    pub(super) client_ip: IpAddr,
    /// Whether they have shown their second factor.
    pub(super) proof: Proof,
}

/// Whoever has an admin key, with or without their second factor: for what changes no key, and to
/// get a factor in the first place.
pub(super) struct KeyHolder(pub(super) Admin);

impl Admin {
    /// As the audit log has it.
    pub(super) fn actor(&self) -> Actor {
        Actor::Key { key_id: self.key_id, client_ip: self.client_ip }
    }
}

/// Why a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Missing,
    Ambiguous,
    InQuery,
    NoKey,
    Unknown,
    TestKey,
    Revoked,
    Expired,
    Address,
    Scope,
    /// The address was refused too often; the key was not looked at.
    NotLookedAt,
}

impl Refusal {
    fn reason(self) -> &'static str {
        match self {
            Self::Missing => "missing_key",
            Self::Ambiguous => "several_keys",
            Self::InQuery => "key_in_query",
            Self::NoKey => "invalid_format",
            Self::Unknown => "unknown_key",
            Self::TestKey => "test_key",
            Self::Revoked => "revoked_key",
            Self::Expired => "expired_key",
            Self::Address => "address_not_allowed",
            Self::Scope => "scope",
            Self::NotLookedAt => "too_many_failures",
        }
    }

    /// What the caller is told: of a credential that is not good, only that.
    fn code(self) -> Code {
        match self {
            Self::Ambiguous | Self::InQuery => Code::AmbiguousCredential,
            Self::Missing
            | Self::NoKey
            | Self::Unknown
            | Self::TestKey
            | Self::Revoked
            | Self::Expired => Code::InvalidCredential,
            Self::Address => Code::AddressDenied,
            Self::Scope => Code::ScopeDenied,
            Self::NotLookedAt => Code::TooManyFailures,
        }
    }

    /// The gate's layer that would have decided.
    fn layer(self) -> &'static str {
        match self {
            Self::Missing => "presence",
            Self::Ambiguous | Self::InQuery | Self::NoKey => "credential",
            Self::Unknown => "known",
            Self::TestKey => "environment",
            Self::Revoked | Self::Expired => "expiry",
            Self::Address => "address",
            Self::Scope => "scope",
            Self::NotLookedAt => "limits",
        }
    }

    fn event(self) -> EventKind {
        match self {
            Self::TestKey => EventKind::SecurityViolation,
            _ => EventKind::AdminDenied,
        }
    }
}

/// What is known of a caller when they are refused.
#[derive(Default)]
struct Caller {
    key_hash: Option<String>,
    key_id: Option<KeyId>,
}

impl FromRequestParts<Arc<Service>> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut Parts,
        service: &Arc<Service>,
    ) -> Result<Self, Problem> {
        let KeyHolder(admin) = KeyHolder::from_request_parts(parts, service).await?;
        if parts.method.is_safe() {
            return Ok(admin);
        }
        let proof = second_factor::require(parts, service, &admin).await?;
        Ok(Self { proof, ..admin })
    }
}

impl FromRequestParts<Arc<Service>> for KeyHolder {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut Parts,
        service: &Arc<Service>,
    ) -> Result<Self, Problem> {
        let Some(client_ip) = parts.extensions.get::<Peer>().map(|peer| peer.address()) else {
            tracing::error!("a request came without the address of its connection");
            return Err(Problem::new(Code::Internal));
        };
        let mut caller = Caller::default();
        let told = parts.extensions.get::<Told>().cloned().unwrap_or_default();
        let limits = &service.admin_limits;
        let refusal = match check(parts, service, client_ip, &mut caller).await? {
            Ok(key_id) => {
                tracing::Span::current().record("actor", tracing::field::display(key_id));
                let standing = limits.call(key_id).await;
                told.tell(standing);
                if !standing.decision.allowed {
                    let caller = denials::Caller::Key(key_id, client_ip);
                    return Err(too_many(service, caller, &standing, Code::RateLimited).await);
                }
                decisions::count(By::Admin, "scope", EventKind::ValidApiKey, "known");
                let admin = Admin { key_id, client_ip, proof: Proof::NotNeeded };
                trail::called_by(admin.actor());
                return Ok(Self(admin));
            }
            Err(refusal) => refusal,
        };
        // Counted when it was refused: those who come at the same time cannot share the last place.
        let standing = limits.failed(client_ip).await;
        if !standing.decision.allowed {
            told.tell(standing);
            let caller = denials::Caller::Address(client_ip);
            return Err(too_many(service, caller, &standing, Code::TooManyFailures).await);
        }
        decisions::count(By::Admin, refusal.layer(), refusal.event(), refusal.reason());
        let route = parts.extensions.get::<MatchedPath>().map_or("-", MatchedPath::as_str);
        let entry =
            denial(refusal.event(), service, client_ip, caller, parts, refusal.reason(), route);
        service.recorder.record(entry).await;
        Err(Problem::new(refusal.code()))
    }
}

/// Refuses a call because there were too many before it.
async fn too_many(
    service: &Service,
    caller: denials::Caller,
    standing: &Standing,
    code: Code,
) -> Problem {
    decisions::count(By::Admin, "limits", EventKind::AdminDenied, caller.reason());
    let what = format!("limit={} window_seconds=60", standing.limit());
    if let Some(entry) = service.admin_denials.note(caller, service.clock.now(), &what) {
        service.recorder.record(entry).await;
    }
    Problem::new(code).retry_after(standing.retry_after())
}

fn denial(
    kind: EventKind,
    service: &Service,
    client_ip: IpAddr,
    caller: Caller,
    parts: &Parts,
    reason: &str,
    route: &str,
) -> AuditEntry {
    let method = method_name(&parts.method);
    let details = format!("reason={reason} method={method} route={route}");
    let mut entry =
        AuditEntry::of(kind, service.clock.now(), details).with_key_hash(caller.key_hash);
    entry.event.client_ip = Some(client_ip);
    entry.event.key_id = caller.key_id.map(|key_id| key_id.to_string());
    entry
}

/// A method can be any token, so an unusual one is not repeated.
pub(super) fn method_name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

async fn check(
    parts: &mut Parts,
    service: &Service,
    client_ip: IpAddr,
    caller: &mut Caller,
) -> Result<Result<KeyId, Refusal>, Problem> {
    if query_has_key(parts.uri.query().unwrap_or_default()) {
        return Ok(Err(Refusal::InQuery));
    }
    let presented = {
        let mut values = parts.headers.get_all(HEADER).iter();
        match (values.next(), values.next()) {
            (None, _) => return Ok(Err(Refusal::Missing)),
            (Some(_), Some(_)) => return Ok(Err(Refusal::Ambiguous)),
            (Some(value), None) if value.as_bytes().contains(&b',') => {
                return Ok(Err(Refusal::Ambiguous));
            }
            (Some(value), None) => value.as_bytes().to_vec(),
        }
    };
    // The handlers have no use for it.
    parts.headers.remove(HEADER);
    let Some(presented) = PresentedKey::new(presented) else {
        return Ok(Err(Refusal::NoKey));
    };
    let limits = &service.admin_limits;
    let digest = limits.digest(&presented);
    // Who was let in before need not wait for the count of those who were not.
    if !limits.was_let_in(digest) && !limits.may_fail(client_ip).await.decision.allowed {
        return Ok(Err(Refusal::NotLookedAt));
    }
    caller.key_hash = Some(audit_hash(presented.expose()));
    let Arrived(arrived) = Arrived::of(parts);
    let verification = service.verifier.verify_for(arrived, presented).await.map_err(|error| {
        decisions::count(By::Admin, "known", EventKind::DbError, error.reason());
        Problem::from(error)
    })?;
    let judged = match verification.outcome {
        Outcome::Known(key) => {
            caller.key_id = Some(key.key_id);
            refuse(&key, service, client_ip).map_or(Ok(key), Err)
        }
        Outcome::Unknown => Err(Refusal::Unknown),
        Outcome::TestKeyRefused => Err(Refusal::TestKey),
    };
    let key = match judged {
        Ok(key) => key,
        Err(refusal) => {
            limits.forget(digest).await;
            return Ok(Err(refusal));
        }
    };
    service.admin_limits.remember(digest).await;
    service.last_used.note(&key, service.clock.now());
    Ok(Ok(key.key_id))
}

/// In the order of the gate's layers.
fn refuse(key: &Key, service: &Service, client_ip: IpAddr) -> Option<Refusal> {
    if !key.is_active {
        return Some(Refusal::Revoked);
    }
    if !key.is_usable(service.clock.now()) {
        return Some(Refusal::Expired);
    }
    if !key.allows_address(client_ip) {
        return Some(Refusal::Address);
    }
    (!key.scope.includes(Scope::Admin)).then_some(Refusal::Scope)
}

fn query_has_key(query: &str) -> bool {
    query
        .split('&')
        .filter_map(|pair| pair.split('=').next())
        .any(|name| QUERY_NAMES.iter().any(|known| name.eq_ignore_ascii_case(known)))
}

impl From<VerifyError> for Problem {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Store(error) => error.into(),
            VerifyError::Overloaded(_) => Self::new(Code::Overloaded),
        }
    }
}

impl Admin {
    /// Records a refusal for another reason than who calls.
    pub(super) async fn record_denial(&self, service: &Service, key_id: KeyId, reason: &str) {
        let entry = AuditEntry::by(
            &self.actor(),
            EventKind::AdminDenied,
            key_id,
            service.clock.now(),
            &format!("reason={reason}"),
        );
        service.recorder.record(entry).await;
    }
}
