//! Whom a limit counts.

use std::fmt;
use std::net::Ipv6Addr;

/// Whom a count is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A client address.
    Address(u128),
    /// A key.
    Key(u64),
    /// A key at one address.
    KeyAtAddress(u64, u128),
    /// The text of a key, by its hash.
    KeyText(u64),
}

impl Subject {
    /// Whether there is no end of such subjects.
    pub(super) fn is_endless(self) -> bool {
        match self {
            // For the holder of a single key too.
            Self::Address(_) | Self::KeyAtAddress(..) => true,
            // Only a key that was verified gets here, and there are just so many.
            Self::Key(_) | Self::KeyText(_) => false,
        }
    }
}

/// The name by which all Envoys of a fleet know it.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |address: u128| Ipv6Addr::from_bits(address).to_canonical();
        match *self {
            Self::Address(address) => write!(f, "address:{}", name(address)),
            Self::Key(key) => write!(f, "key:{key:016x}"),
            Self::KeyAtAddress(key, address) => {
                write!(f, "key:{key:016x},address:{}", name(address))
            }
            Self::KeyText(hash) => write!(f, "key_text:{hash:016x}"),
        }
    }
}
