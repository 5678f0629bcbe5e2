//! `keygate keys create`

use clap::Args;
use edge_protocol::{KeyEnvironment, Scope};
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;
use std::str::FromStr;

use super::{
    fields::{self, limit},
    show::details,
};
use crate::{
    audit::Actor,
    cli::{
        BadArgument, duration, offline,
        output::{answer, answer_json},
    },
    clock::{Clock, SystemClock},
    config::Settings,
    keys::{
        issue::IssuedKey,
        new_key::{LimitRequest, NewKeyRequest},
        view::{IssuedKeyView, KeyView},
    },
};

#[derive(Args)]
pub(in crate::cli) struct Create {
    /// What the key is called
    #[arg(long)]
    name: String,
    /// What it is for
    #[arg(long)]
    description: Option<String>,
    /// Who it belongs to; upstreams see it
    #[arg(long)]
    owner: Option<String>,
    /// What it may do: read, write or admin, each including the one before
    #[arg(long, default_value = "read", value_parser = Scope::from_str)]
    scope: Scope,
    /// Which traffic it is for: live or test; test keys do not pass in production
    #[arg(long, default_value = "live", value_parser = KeyEnvironment::from_str)]
    environment: KeyEnvironment,
    /// Address or network it may be used from; may be repeated
    #[arg(long = "allowed-ip", value_name = "IP|CIDR")]
    allowed_ips: Vec<String>,
    /// Its own limit, as requests per seconds: `100/60`, or `100/60,sliding_window,fleet`
    #[arg(long, value_name = "N/SECONDS", value_parser = limit)]
    rate_limit: Option<LimitRequest>,
    /// JSON object to keep with it
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    /// When it ends, from now on: 90m, 12h, 30d, 2w
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, conflicts_with = "expires_at")]
    expires_in: Option<SignedDuration>,
    /// When it ends: 2027-01-31T00:00:00Z
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    /// As JSON, with the key as `api_key`
    #[arg(long)]
    json: bool,
}

impl Create {
    fn request(self, now: Timestamp) -> Result<NewKeyRequest, BadArgument> {
        Ok(NewKeyRequest {
            name: self.name,
            description: self.description,
            owner: self.owner,
            scope: self.scope,
            environment: self.environment,
            allowed_ips: Some(self.allowed_ips),
            rate_limit: self.rate_limit,
            metadata: self.metadata.as_deref().map(fields::metadata).transpose()?,
            expires_at: match self.expires_in {
                Some(length) => Some(fields::end(now, length)?.to_string()),
                None => self.expires_at,
            },
        })
    }
}

pub(super) async fn run(create: Create, settings: &Settings) -> anyhow::Result<()> {
    let json = create.json;
    let now = SystemClock.now();
    let new = create.request(now)?.check(now).map_err(|errors| fields::refused(&errors))?;
    let (config, store) = offline::open(settings).await?;
    let issuer = offline::issuer(&config, &store).await?;
    let key = issuer.issue(new, &Actor::CommandLine).await?;
    store.close().await;
    print_issued(key, json)
}

/// Shows a key that was just made, with the key itself.
pub(super) fn print_issued(issued: IssuedKey, json: bool) -> anyhow::Result<()> {
    let IssuedKey { key, api_key } = issued;
    if json {
        answer_json(&IssuedKeyView { key: KeyView::from(key), api_key: api_key.expose_secret() })
    } else {
        let key_itself = format!("\nThe key, shown only now:\n\n  {}\n\n", api_key.expose_secret());
        Ok(answer(&(details(&key) + &key_itself))?)
    }
}
