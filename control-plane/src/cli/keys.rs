//! `keygate keys …`

use clap::{Args, Subcommand};
use edge_protocol::{KeyEnvironment, Scope};
use jiff::{SignedDuration, Timestamp};
use key_policy::KeyId;
use secrecy::ExposeSecret;
use std::str::FromStr;

use super::{
    BadArgument, NoSuchKey, duration, offline,
    output::{answer, answer_json},
    table, usage,
};
use crate::{
    audit::Actor,
    clock::{Clock, SystemClock},
    config::Settings,
    keys::{
        Key,
        issue::IssuedKey,
        new_key::{LimitRequest, NewKeyRequest},
        revoke::{reason, revoke},
        view::{IssuedKeyView, KeyView},
    },
    store::{Revocation, RevokeGuard, cursor::KeyCursor},
};

const PAGE: u32 = 200;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a key, and show it: once, and never again
    Create(Create),
    /// List keys, newest first
    List {
        /// At most so many
        #[arg(long, default_value_t = 1000)]
        limit: usize,
        /// Only those of this scope: read, write or admin
        #[arg(long, value_parser = Scope::from_str)]
        scope: Option<Scope>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one key
    Show {
        /// Its 16 hex digits
        key_id: KeyId,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show how often a key was used
    Usage(usage::Arguments),
    /// End a key, at once and for good
    Revoke {
        /// Its 16 hex digits
        key_id: KeyId,
        /// Why; kept with the key
        #[arg(long)]
        reason: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub(super) struct Create {
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
    /// Its own limit, as requests per seconds: 100/60
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

fn limit(text: &str) -> Result<LimitRequest, String> {
    let parse = |part: &str| part.parse::<u32>().ok();
    match text.split_once('/').map(|(requests, seconds)| (parse(requests), parse(seconds))) {
        Some((Some(requests), Some(window_seconds))) => Ok(LimitRequest {
            requests,
            window_seconds,
            algorithm: edge_protocol::Algorithm::default(),
            reach: edge_protocol::Reach::default(),
            on_outage: edge_protocol::OnOutage::default(),
        }),
        _ => Err("expected requests/seconds, such as 100/60".to_owned()),
    }
}

pub(super) async fn run(command: Command, settings: &Settings) -> anyhow::Result<()> {
    match command {
        Command::Create(create) => create_key(create, settings).await,
        Command::List { limit, scope, json } => list(limit, scope, json, settings).await,
        Command::Show { key_id, json } => show(key_id, json, settings).await,
        Command::Usage(arguments) => usage::run(arguments, settings).await,
        Command::Revoke { key_id, reason, json } => end(key_id, reason, json, settings).await,
    }
}

impl Create {
    fn request(self, now: Timestamp) -> Result<NewKeyRequest, BadArgument> {
        let expires_at = match self.expires_in {
            Some(length) => {
                let end = now.checked_add(length);
                Some(
                    end.map_err(|_| BadArgument("--expires-in is too long".to_owned()))?
                        .to_string(),
                )
            }
            None => self.expires_at,
        };
        let metadata = self.metadata.as_deref().map(serde_json::from_str).transpose();
        Ok(NewKeyRequest {
            name: self.name,
            description: self.description,
            owner: self.owner,
            scope: self.scope,
            environment: self.environment,
            allowed_ips: Some(self.allowed_ips),
            rate_limit: self.rate_limit,
            metadata: metadata
                .map_err(|error| BadArgument(format!("--metadata is no JSON object: {error}")))?,
            expires_at,
        })
    }
}

async fn create_key(create: Create, settings: &Settings) -> anyhow::Result<()> {
    let json = create.json;
    let now = SystemClock.now();
    let new = create.request(now)?.check(now).map_err(|errors| {
        let lines: Vec<_> =
            errors.iter().map(|error| format!("{}: {}", error.field, error.message)).collect();
        BadArgument(lines.join("\n         "))
    })?;
    let (config, store) = offline::open(settings).await?;
    let issuer = offline::issuer(&config, &store).await?;
    let IssuedKey { key, api_key } = issuer.issue(new, &Actor::CommandLine).await?;
    store.close().await;
    if json {
        answer_json(&IssuedKeyView { key: KeyView::from(key), api_key: api_key.expose_secret() })
    } else {
        let key_itself = format!("\nThe key, shown only now:\n\n  {}\n\n", api_key.expose_secret());
        Ok(answer(&(details(&key) + &key_itself))?)
    }
}

async fn list(
    limit: usize,
    scope: Option<Scope>,
    json: bool,
    settings: &Settings,
) -> anyhow::Result<()> {
    let (_, store) = offline::open(settings).await?;
    let mut keys: Vec<Key> = Vec::new();
    let mut after = None;
    while keys.len() < limit {
        let page = store.keys(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(KeyCursor { created_at: last.created_at, key_id: last.key_id });
        keys.extend(page.into_iter().filter(|key| scope.is_none_or(|scope| key.scope == scope)));
    }
    keys.truncate(limit);
    if json {
        let items: Vec<_> = keys.into_iter().map(KeyView::from).collect();
        return answer_json(&serde_json::json!({ "items": items }));
    }
    let now = SystemClock.now();
    let rows: Vec<_> = keys
        .iter()
        .map(|key| {
            [
                key.key_id.to_string(),
                state(key, now).to_owned(),
                key.scope.to_string(),
                key.environment.as_str().to_owned(),
                or_dash(key.owner.as_deref()),
                or_dash(key.expires_at.map(seconds).as_deref()),
                or_dash(key.last_used_at.map(seconds).as_deref()),
                key.name.clone(),
            ]
        })
        .collect();
    let head = ["KEY ID", "STATE", "SCOPE", "ENV", "OWNER", "EXPIRES", "LAST USED", "NAME"];
    Ok(answer(&table::render(head, &rows))?)
}

async fn show(key_id: KeyId, json: bool, settings: &Settings) -> anyhow::Result<()> {
    let (_, store) = offline::open(settings).await?;
    let key = store.key(key_id).await?.ok_or_else(|| NoSuchKey(key_id.to_string()))?;
    print_key(key, json)
}

async fn end(
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

fn print_key(key: Key, json: bool) -> anyhow::Result<()> {
    if json { answer_json(&KeyView::from(key)) } else { Ok(answer(&details(&key))?) }
}

fn or_dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn state(key: &Key, now: Timestamp) -> &'static str {
    if !key.is_active {
        "revoked"
    } else if key.is_usable(now) {
        "active"
    } else {
        "expired"
    }
}

fn details(key: &Key) -> String {
    let networks: Vec<_> = key.allowed_ips.iter().map(ToString::to_string).collect();
    let limit =
        key.rate_limit.map(|limit| format!("{} in {} s", limit.requests, limit.window_seconds));
    let metadata = (!key.metadata.is_empty())
        .then(|| serde_json::Value::from(key.metadata.clone()).to_string());
    let revoked = key.revoked_at.map(|at| match &key.revoked_reason {
        Some(reason) => format!("{} ({reason})", seconds(at)),
        None => seconds(at),
    });
    let lines = [
        ("key id", key.key_id.to_string()),
        ("name", key.name.clone()),
        ("state", state(key, SystemClock.now()).to_owned()),
        ("scope", key.scope.to_string()),
        ("environment", key.environment.as_str().to_owned()),
        ("owner", or_dash(key.owner.as_deref())),
        ("description", or_dash(key.description.as_deref())),
        (
            "allowed from",
            if networks.is_empty() { "anywhere".to_owned() } else { networks.join(", ") },
        ),
        ("rate limit", or_dash(limit.as_deref())),
        ("metadata", or_dash(metadata.as_deref())),
        ("created", seconds(key.created_at)),
        ("expires", or_dash(key.expires_at.map(seconds).as_deref())),
        ("last used", or_dash(key.last_used_at.map(seconds).as_deref())),
        ("revoked", or_dash(revoked.as_deref())),
    ];
    lines.map(|(title, value)| format!("{title:13} {value}\n")).concat()
}
