//! `keygate keys update`

use clap::{ArgGroup, Args};
use edge_protocol::Scope;
use jiff::{SignedDuration, Timestamp};
use key_policy::KeyId;
use std::str::FromStr;

use super::{
    fields::{self, limit},
    show::print_key,
};
use crate::{
    audit::Actor,
    cli::{BadArgument, Conflict, NoSuchKey, duration, offline},
    clock::{Clock, SystemClock},
    config::Settings,
    keys::{
        Key,
        new_key::LimitRequest,
        update::{Precondition, UpdateError, UpdateKeyRequest, update},
    },
    store::RevokeGuard,
};

#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[derive(Args)]
#[command(group(ArgGroup::new("change").required(true).multiple(true).args([
    "name", "description", "no_description", "owner", "no_owner", "scope", "enable", "disable",
    "allowed_ips", "from_anywhere", "rate_limit", "no_rate_limit", "metadata", "expires_in",
    "expires_at", "never_expires",
])))]
pub(in crate::cli) struct Update {
    /// Its 16 hex digits
    key_id: KeyId,
    /// What it is called
    #[arg(long)]
    name: Option<String>,
    /// What it is for
    #[arg(long)]
    description: Option<String>,
    /// Take the description away
    #[arg(long, conflicts_with = "description")]
    no_description: bool,
    /// Who it belongs to; upstreams see it
    #[arg(long)]
    owner: Option<String>,
    /// Let it belong to nobody
    #[arg(long, conflicts_with = "owner")]
    no_owner: bool,
    /// What it may do: read, write or admin, each including the one before
    #[arg(long, value_parser = Scope::from_str)]
    scope: Option<Scope>,
    /// Switch it on again
    #[arg(long)]
    enable: bool,
    /// Switch it off, until it is switched on again
    #[arg(long, conflicts_with = "enable")]
    disable: bool,
    /// Address or network it may be used from, in the place of those it has; may be repeated
    #[arg(long = "allowed-ip", value_name = "IP|CIDR")]
    allowed_ips: Vec<String>,
    /// Let it be used from anywhere
    #[arg(long, conflicts_with = "allowed_ips")]
    from_anywhere: bool,
    /// Its own limit, as requests per seconds: `100/60`, or `100/60,sliding_window,fleet`
    #[arg(long, value_name = "N/SECONDS", value_parser = limit)]
    rate_limit: Option<LimitRequest>,
    /// Take its own limit away
    #[arg(long, conflicts_with = "rate_limit")]
    no_rate_limit: bool,
    /// JSON object to keep with it, in the place of the one it has
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    /// When it ends, from now on: 90m, 12h, 30d, 2w
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, conflicts_with_all = ["expires_at", "never_expires"])]
    expires_in: Option<SignedDuration>,
    /// When it ends: 2027-01-31T00:00:00Z; a time that has passed ends it at once
    #[arg(long, value_name = "TIME", conflicts_with = "never_expires")]
    expires_at: Option<String>,
    /// Let it not end by itself
    #[arg(long)]
    never_expires: bool,
    /// Only while it is of this version, which `keys show --json` tells
    #[arg(long, value_name = "VERSION")]
    if_version: Option<u64>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Update {
    /// What shall be, from what is.
    fn request(self, key: &Key, now: Timestamp) -> Result<UpdateKeyRequest, BadArgument> {
        let is = UpdateKeyRequest::unchanged(key);
        let or = |given: Option<String>, cleared: bool, is: Option<String>| {
            if cleared { None } else { given.or(is) }
        };
        let mut asked = UpdateKeyRequest {
            name: self.name.unwrap_or(is.name),
            description: or(self.description, self.no_description, is.description),
            owner: or(self.owner, self.no_owner, is.owner),
            scope: self.scope.unwrap_or(is.scope),
            is_active: self.enable || is.is_active && !self.disable,
            rate_limit: self.rate_limit.or(is.rate_limit).filter(|_| !self.no_rate_limit),
            expires_at: or(self.expires_at, self.never_expires, is.expires_at),
            allowed_ips: is.allowed_ips,
            metadata: is.metadata,
        };
        if self.from_anywhere || !self.allowed_ips.is_empty() {
            asked.allowed_ips = self.allowed_ips;
        }
        if let Some(metadata) = self.metadata {
            asked.metadata = fields::metadata(&metadata)?;
        }
        if let Some(length) = self.expires_in {
            asked.expires_at = Some(fields::end(now, length)?.to_string());
        }
        Ok(asked)
    }
}

pub(super) async fn run(asked: Update, settings: &Settings) -> anyhow::Result<()> {
    let Update { key_id, if_version, json, .. } = asked;
    let (_, store) = offline::open(settings).await?;
    let key = store.key(key_id).await?.ok_or_else(|| NoSuchKey(key_id.to_string()))?;
    // What is not named stays as it was read, so it must be that version which is changed.
    let expected = Precondition::OneOf(vec![if_version.unwrap_or(key.version)]);
    let change = asked.request(&key, SystemClock.now())?;
    let change = change.check().map_err(|errors| fields::refused(&errors))?;
    let (by, guard) = (Actor::CommandLine, RevokeGuard::Unconditional);
    match update(&*store, &SystemClock, key_id, change, &expected, guard, &by).await {
        Ok(key) => print_key(key, json),
        Err(UpdateError::NotFound) => Err(NoSuchKey(key_id.to_string()).into()),
        Err(UpdateError::Store(error)) => Err(error.into()),
        Err(
            error @ (UpdateError::Revoked
            | UpdateError::Superseded(_)
            | UpdateError::Outdated(_)
            | UpdateError::LastAdmin),
        ) => Err(Conflict(error.to_string()).into()),
    }
}
