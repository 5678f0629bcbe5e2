//! The name of a request, in logs and answers.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::random::{self, Random};

/// Callers may name their requests; every answer names its request.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// A UUID, as Envoy makes them. Nothing else that a caller sends gets into the log under this name:
/// it might be a key.
const MAX_CHARS: usize = 36;

tokio::task_local! {
    /// The name of the request that is being answered.
    pub static CURRENT: String;
}

/// The name of the request that is being answered, where there is one.
#[must_use]
pub fn current() -> Option<String> {
    CURRENT.try_with(Clone::clone).ok()
}

/// A request's name, and whose word it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub id: String,
    /// Whether the caller gave it.
    pub by_caller: bool,
}

/// The name that the caller gave, if it is fit for a log; else a new one.
#[must_use]
pub fn of(headers: &HeaderMap, random: &dyn Random) -> Named {
    let given = headers.get(HEADER).and_then(|value| value.to_str().ok());
    match given.filter(|name| is_sane(name)) {
        Some(name) => Named { id: name.to_owned(), by_caller: true },
        None => Named { id: drawn(random), by_caller: false },
    }
}

fn is_sane(name: &str) -> bool {
    (1..=MAX_CHARS).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

fn drawn(random: &dyn Random) -> String {
    // A request without a name of its own is still answered.
    random::bytes::<16>(random).map_or_else(|_| "unnamed".to_owned(), hex::encode)
}

/// The name as a header's value.
#[must_use]
pub fn value(name: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;

    fn named(name: &'static str) -> String {
        of(&HeaderMap::from_iter([(HEADER, HeaderValue::from_static(name))]), &SystemRandom).id
    }

    #[test]
    fn a_sane_name_is_kept_and_any_other_replaced() {
        let uuid = "0d2a5f7e-93c1-4b6e-8f00-5a1c3e9b7d42";
        assert_eq!(named(uuid), uuid);
        let key = "kg_live_3c5588afe5b04bdd_0123456789abcdefghijklmnopqrstuv012345";
        for bad in ["", "two words", "a\"b", "x;y", key] {
            assert_ne!(named(bad), bad);
            assert_eq!(named(bad).len(), 32);
        }
        assert_ne!(of(&HeaderMap::new(), &SystemRandom), of(&HeaderMap::new(), &SystemRandom));
    }
}
