//! Keys: of the control plane, and ones that only look like it.

use key_policy::{Environment, Policy, checksum};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A key that the control plane has made.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its public name, 16 hex digits.
    pub id: String,
    /// What a client sends.
    pub text: String,
    /// All that was answered when it was made.
    pub view: Value,
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl Key {
    pub(crate) fn read(view: Value) -> Self {
        let field = |name: &str| view[name].as_str().map(str::to_owned);
        let (Some(id), Some(text)) = (field("key_id"), field("api_key")) else {
            panic!("no key: {view}");
        };
        Self { id, text, view }
    }
}

/// A new well-formed live key, another at each call, that no control plane knows.
#[must_use]
pub fn unknown_key() -> String {
    well_formed(Environment::Live)
}

/// As [`unknown_key`], of the test environment.
#[must_use]
pub fn unknown_test_key() -> String {
    well_formed(Environment::Test)
}

fn well_formed(environment: Environment) -> String {
    Policy::default().generate(environment, &mut getrandom::fill).unwrap().text
}

/// A key of our own form with this secret of 32 base62 characters, and the right checksum.
#[must_use]
pub fn key_with_secret(secret: &str) -> String {
    let body = format!("kg_live_3c5588afe5b04bdd_{secret}");
    format!("{body}{}", String::from_utf8_lossy(&checksum(body.as_bytes())))
}

/// The key with its last character changed, which makes the checksum wrong.
#[must_use]
pub fn mistyped(key: &str) -> String {
    let (start, last) = key.split_at(key.len() - 1);
    format!("{start}{}", if last == "a" { "b" } else { "a" })
}

/// How logs and audit events name what was sent as a key: the first 16 hex digits of its SHA-256.
#[must_use]
pub fn key_hash(key: impl AsRef<[u8]>) -> String {
    hex::encode(&Sha256::digest(key.as_ref())[..8])
}
