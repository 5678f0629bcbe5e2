//! The structure of our own keys, and its checksum.

use crate::base62;
use crate::checksum::{self, checksum};
use crate::environment::Environment;
use crate::fault::FormatFault;
use crate::id::KeyId;
use crate::prefix::Prefix;

/// How many base62 characters the secret has: 190 bits.
pub(crate) const SECRET_LENGTH: usize = 32;

/// `_<key id>_<secret><checksum>`
const TAIL_LENGTH: usize = 1 + KeyId::LENGTH + 1 + SECRET_LENGTH + checksum::LENGTH;

/// Which of the two sorts of keys a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// One of ours, with a valid checksum.
    Own {
        /// The environment it was made for.
        environment: Environment,
        /// Its public name.
        key_id: KeyId,
    },
    /// Any other text, issued elsewhere.
    Foreign,
}

/// A text with the structure of an own key; the checksum is not looked at yet.
pub(crate) struct Own<'key> {
    pub(crate) environment: Environment,
    pub(crate) key_id: KeyId,
    /// The 32 characters that alone make the key hard to guess.
    pub(crate) secret: &'key [u8],
}

impl<'key> Own<'key> {
    /// What follows the secret: the checksum.
    pub(crate) const AFTER_SECRET: usize = checksum::LENGTH;

    /// The length of every own key with this prefix.
    pub(crate) const fn length(prefix: &Prefix) -> usize {
        prefix.length() + "_live".len() + TAIL_LENGTH
    }

    pub(crate) fn parse(prefix: &Prefix, key: &'key [u8]) -> Option<Self> {
        let (environment, _) = split_environment(prefix, key)?;
        if key.len() != Self::length(prefix) {
            return None;
        }
        let (key_id, secret) = split_tail(key)?;
        Some(Self { environment, key_id, secret })
    }
}

/// What follows `<prefix>_` in `key`.
pub(crate) fn strip_prefix<'key>(prefix: &Prefix, key: &'key [u8]) -> Option<&'key [u8]> {
    key.strip_prefix(prefix.as_bytes())?.strip_prefix(b"_")
}

/// What `<prefix>_live_` or `<prefix>_test_` says and what follows it in `key`.
pub(crate) fn split_environment<'key>(
    prefix: &Prefix,
    key: &'key [u8],
) -> Option<(Environment, &'key [u8])> {
    let rest = strip_prefix(prefix, key)?;
    Environment::ALL.into_iter().find_map(|environment| {
        let rest = rest.strip_prefix(environment.as_str().as_bytes())?.strip_prefix(b"_")?;
        Some((environment, rest))
    })
}

/// The key id and the secret, if `key` ends like every key that any Keygate issues:
/// `_<key id>_<secret><checksum>`.
fn split_tail(key: &[u8]) -> Option<(KeyId, &[u8])> {
    let start = key.len().checked_sub(TAIL_LENGTH)?;
    let tail = key.get(start..)?.strip_prefix(b"_")?;
    let (key_id, rest) = tail.split_at_checked(KeyId::LENGTH)?;
    let key_id = KeyId::parse(key_id).ok()?;
    let rest = rest.strip_prefix(b"_")?;
    let (secret, _) = rest.split_at_checked(SECRET_LENGTH)?;
    base62::is_base62(rest).then_some((key_id, secret))
}

fn has_valid_checksum(key: &[u8]) -> bool {
    key.split_last_chunk().is_some_and(|(text, digits)| checksum(text) == *digits)
}

/// Structure and checksum of `key`; of an own key also the part that is to be judged.
///
/// A key that only *ends* like ours must carry a valid checksum as well: it was issued by a
/// Keygate with another prefix, or it is ours with a typo in the first characters.
pub(crate) fn check<'key>(
    prefix: &Prefix,
    key: &'key [u8],
) -> Result<Option<Own<'key>>, FormatFault> {
    let own = if strip_prefix(prefix, key).is_some() {
        Some(Own::parse(prefix, key).ok_or(FormatFault::Malformed)?)
    } else {
        None
    };
    if (own.is_some() || split_tail(key).is_some()) && !has_valid_checksum(key) {
        return Err(FormatFault::Checksum);
    }
    Ok(own)
}
