//! `keygate keys revoke`

use key_policy::KeyId;

use super::show::print_key;
use crate::{
    audit::Actor,
    cli::{BadArgument, NoSuchKey, offline},
    clock::SystemClock,
    config::Settings,
    keys::revoke::{reason, revoke},
    store::{Revocation, RevokeGuard},
};

pub(super) async fn run(
    key_id: KeyId,
    why: Option<String>,
    json: bool,
    settings: &Settings,
) -> anyhow::Result<()> {
    let why = why
        .as_deref()
        .map(reason)
        .transpose()
        .map_err(|error| BadArgument(format!("--reason {error}")))?;
    let (_, store) = offline::open(settings).await?;
    let by = Actor::CommandLine;
    match revoke(&*store, &SystemClock, key_id, why, RevokeGuard::Unconditional, &by).await? {
        Revocation::Revoked(key) | Revocation::AlreadyRevoked(key) => print_key(key, json),
        Revocation::NotFound => Err(NoSuchKey(key_id.to_string()).into()),
        Revocation::LastAdmin => Err(anyhow::anyhow!("it is the last usable admin key")),
    }
}
