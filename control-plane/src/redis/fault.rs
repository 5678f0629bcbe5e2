//! Why Redis gave no answer, in words that help.

use ::redis::{ErrorKind, RedisError, ServerErrorKind};
use std::time::Duration;

use crate::config::ConfigError;

/// Why there is no answer. None of these shows a password.
#[derive(Debug, thiserror::Error)]
pub enum RedisFault {
    /// There is no connection; one is being made all the time.
    #[error("there is no connection to Redis")]
    NotConnected,
    /// It has failed too often of late.
    #[error("Redis failed too often, and is left alone for a few seconds")]
    LeftAlone,
    /// Too many calls are under way.
    #[error("too many calls to Redis are under way")]
    Busy,
    /// It took too long.
    #[error("Redis did not answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The Sentinels have made another server the primary.
    #[error("the Sentinels name another primary")]
    PrimaryMoved,
    /// A file that TLS needs cannot be used.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// It gave something else than the script does.
    #[error("Redis gave something else than Keygate's script does")]
    Unreadable,
    /// It answered with an error, or the connection failed.
    #[error("{}", explain(.0))]
    Failed(#[from] RedisError),
}

impl RedisFault {
    /// In a word, for metrics.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::NotConnected | Self::PrimaryMoved | Self::File(_) => "not_connected",
            Self::LeftAlone => "left_alone",
            Self::Busy => "busy",
            Self::TimedOut(_) => "timeout",
            Self::Failed(error) if error.is_timeout() => "timeout",
            Self::Failed(_) | Self::Unreadable => "error",
        }
    }
}

/// What is wrong, and what can be done about it.
fn explain(error: &RedisError) -> String {
    let advice = match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS" | "NOAUTH")) => {
            "Redis refuses the user or the password of KEYGATE_REDIS_URL"
        }
        (ErrorKind::Server(ServerErrorKind::NoPerm), _) => {
            "Redis' user may not do what Keygate does (docs/redis.md lists it)"
        }
        (ErrorKind::MasterNameNotFoundBySentinel, _) => {
            "the Sentinels know no such service, or its primary does not answer"
        }
        (ErrorKind::Server(ServerErrorKind::ReadOnly), _) => {
            "this Redis is a replica now, and cannot be written"
        }
        (_, Some("OOM")) => "Redis has no memory left (maxmemory)",
        (ErrorKind::Server(ServerErrorKind::ClusterDown), _) => "the Redis Cluster is not whole",
        _ if error.to_string().contains("invalid peer certificate") => {
            "Redis' certificate is not trusted (KEYGATE_REDIS_CA_FILE names who may sign it)"
        }
        _ => return error.to_string(),
    };
    format!("{advice}: {error}")
}
