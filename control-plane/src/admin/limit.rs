//! How much the admin API takes from whom: so many calls of each admin key, and so many refused
//! ones from each address.
//!
//! An address that is refused too often is not even looked at any more, which costs neither a
//! database look-up nor a hash. A key that was let in within a day still is: whoever shares an
//! address with an attacker must not be locked out by them.

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use key_policy::KeyId;
use moka::future::Cache;
use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use crate::{
    clock::{Clock, unix_ms},
    config::AdminLimitsConfig,
    keys::digest::{DigestKey, PresentedKey},
    limits::{Decision, Meter, Quota, Subject},
    random::{self, Random, RandomError},
};

/// Keys that were let in of late, by a digest that means nothing outside this process.
const LET_IN_KEYS: u64 = 10_000;
const LET_IN_FOR: Duration = Duration::from_hours(24);

/// What counts for the admin API: two, so that a flood of addresses finds no room among the counts of
/// admin keys.
pub struct AdminMeters {
    /// Counts calls of admin keys.
    pub calls: Arc<dyn Meter>,
    /// Counts refused calls of addresses.
    pub failures: Arc<dyn Meter>,
}

/// The admin API's limits.
pub struct AdminLimits {
    meters: AdminMeters,
    clock: Arc<dyn Clock>,
    calls: Quota,
    failures: Quota,
    let_in_key: DigestKey,
    let_in: Cache<[u8; 32], ()>,
}

impl AdminLimits {
    /// Limits that nobody has used yet.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn new(
        config: AdminLimitsConfig,
        meters: AdminMeters,
        clock: Arc<dyn Clock>,
        random: &dyn Random,
    ) -> Result<Self, RandomError> {
        let key = zeroize::Zeroizing::new(random::bytes::<32>(random)?);
        Ok(Self {
            meters,
            clock,
            calls: Quota::per_minute(config.calls),
            failures: Quota::per_minute(config.failures),
            let_in_key: DigestKey::new(&key),
            let_in: Cache::builder().max_capacity(LET_IN_KEYS).time_to_live(LET_IN_FOR).build(),
        })
    }

    /// Counts a call of an admin key.
    pub(super) async fn call(&self, key_id: KeyId) -> Standing {
        let subject = Subject { kind: "admin_key", name: key_id.to_string() };
        self.standing("admin-key", self.calls, self.meters.calls.take(&subject, self.calls).await)
    }

    /// Whether a call from there may still be refused as usual. Nothing is counted.
    pub(super) async fn may_fail(&self, client_ip: IpAddr) -> Standing {
        let decision = self.meters.failures.look(&failing(client_ip), self.failures).await;
        self.standing("admin-failures", self.failures, decision)
    }

    /// Counts a refused call.
    pub(super) async fn failed(&self, client_ip: IpAddr) -> Standing {
        let decision = self.meters.failures.take(&failing(client_ip), self.failures).await;
        self.standing("admin-failures", self.failures, decision)
    }

    /// Remembers that a key was let in.
    pub(super) async fn remember(&self, digest: LetIn) {
        self.let_in.insert(digest.0, ()).await;
    }

    /// Forgets it: a key that is refused is one like any other.
    pub(super) async fn forget(&self, digest: LetIn) {
        self.let_in.invalidate(&digest.0).await;
    }

    /// What a key is remembered by.
    pub(super) fn digest(&self, key: &PresentedKey) -> LetIn {
        LetIn(self.let_in_key.digest(key.expose()))
    }

    /// Whether a key was let in within a day.
    pub(super) fn was_let_in(&self, digest: LetIn) -> bool {
        self.let_in.contains_key(&digest.0)
    }

    fn standing(&self, name: &'static str, quota: Quota, decision: Decision) -> Standing {
        let now_ms = unix_ms(self.clock.now());
        Standing { name, quota, decision, now_ms }
    }
}

/// What a key that was let in is remembered by.
#[derive(Clone, Copy)]
pub(super) struct LetIn([u8; 32]);

/// Who has one address of an IPv6 network has all of its /64.
pub(super) fn network(client_ip: IpAddr) -> String {
    match client_ip.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            format!("{}/64", Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
    }
}

fn failing(client_ip: IpAddr) -> Subject {
    Subject { kind: "admin_failures", name: network(client_ip) }
}

/// How a limit stands for a caller.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    name: &'static str,
    quota: Quota,
    pub(super) decision: Decision,
    now_ms: u64,
}

impl Standing {
    /// Whole seconds until it is worth coming back; at least one.
    pub(super) fn retry_after(&self) -> u64 {
        seconds(self.decision.retry_after).max(1)
    }

    /// Its number, for people.
    pub(super) fn limit(&self) -> u32 {
        self.quota.requests.get()
    }

    /// As headers: `X-RateLimit-*`, and those of draft-ietf-httpapi-ratelimit-headers-10. The gate
    /// sends the same.
    fn headers(&self) -> [(&'static str, String); 5] {
        let Self { name, quota, decision, now_ms } = self;
        let (requests, left) = (quota.requests, decision.remaining);
        let window = quota.window.as_secs();
        let reset = seconds(decision.reset_after);
        let reset_at = now_ms.div_ceil(1000).saturating_add(reset);
        [
            ("x-ratelimit-limit", requests.to_string()),
            ("x-ratelimit-remaining", left.to_string()),
            ("x-ratelimit-reset", reset_at.to_string()),
            ("ratelimit-policy", format!("\"{name}\";q={requests};w={window}")),
            ("ratelimit", format!("\"{name}\";r={left};t={reset}")),
        ]
    }
}

/// Rounded up: who comes back too early is refused again.
fn seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}

/// Where a request's answer finds how the limit stands that it was counted against.
#[derive(Clone, Default)]
pub(super) struct Told(Arc<OnceLock<Standing>>);

impl Told {
    /// Says it. What was said first stays.
    pub(super) fn tell(&self, standing: Standing) {
        // Only one limit is told of.
        let _ = self.0.set(standing);
    }
}

/// Adds to an answer how its caller stands.
pub(super) async fn tell(mut request: Request, next: Next) -> Response {
    let told = Told::default();
    request.extensions_mut().insert(told.clone());
    let mut response = next.run(request).await;
    if let Some(standing) = told.0.get() {
        for (name, value) in standing.headers() {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(HeaderName::from_static(name), value);
            }
        }
    }
    response
}

#[cfg(test)]
mod tests;
