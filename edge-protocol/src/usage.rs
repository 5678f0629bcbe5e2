//! How often keys are used, as filters count it.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

use crate::UnknownName;

macro_rules! names {
    ($(#[$about:meta])* $type:ident, $expected:literal:
     $($(#[$doc:meta])* $variant:ident = $name:literal),+ $(,)?) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $type {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)+
        }

        impl $type {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name, as it is sent, stored and shown.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }

        // Derived, it would have the variants' names.
        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for $type {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::Type::String)
                    .enum_values(Some(Self::ALL.iter().map(|it| it.as_str())))
                    .into()
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $type {}

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = UnknownName;

            fn from_str(name: &str) -> Result<Self, UnknownName> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|it| it.as_str() == name)
                    .ok_or(UnknownName { expected: $expected })
            }
        }
    };
}

names! {
    /// A request's method, as far as usage tells methods apart.
    UsageMethod, "a method such as GET, or OTHER":
    /// RFC 9110, section 9.3.1.
    Get = "GET",
    /// RFC 9110, section 9.3.2.
    Head = "HEAD",
    /// RFC 9110, section 9.3.3.
    Post = "POST",
    /// RFC 9110, section 9.3.4.
    Put = "PUT",
    /// RFC 5789.
    Patch = "PATCH",
    /// RFC 9110, section 9.3.5.
    Delete = "DELETE",
    /// RFC 9110, section 9.3.7.
    Options = "OPTIONS",
    /// RFC 9110, section 9.3.6.
    Connect = "CONNECT",
    /// RFC 9110, section 9.3.8.
    Trace = "TRACE",
    /// Any other: clients can make up as many as they like.
    Other = "OTHER",
}

names! {
    /// What became of a request that came with a key of ours. Unknown keys have no usage.
    UsageOutcome, "an outcome such as allowed or rate_limited":
    /// It was let through.
    Allowed = "allowed",
    /// A limit had no room for it.
    RateLimited = "rate_limited",
    /// It came from where the key may not be used.
    IpDenied = "ip_denied",
    /// It asked for more than the key may do.
    ScopeDenied = "scope_denied",
    /// The key's time was over.
    Expired = "expired",
    /// The key had been revoked or switched off.
    Revoked = "revoked",
    /// A key for tests, where these are refused.
    TestKey = "test_key",
}

impl UsageMethod {
    /// The method of this name, as it stands in a request. Methods are case-sensitive.
    // Asked for each request, so it is not compiled for size with this crate.
    #[inline]
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"PATCH" => Self::Patch,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"CONNECT" => Self::Connect,
            b"TRACE" => Self::Trace,
            _ => Self::Other,
        }
    }
}

/// How many requests came with a key within a minute, of one method and with one outcome. It adds
/// to what was sent before of the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageCount {
    /// The key's public name.
    pub key_id: String,
    /// When the minute began, in milliseconds since the Unix epoch: a multiple of 60 000.
    pub minute_ms: u64,
    /// The method.
    pub method: UsageMethod,
    /// What became of them.
    pub outcome: UsageOutcome,
    /// How many, at least 1.
    pub count: u32,
}
