//! `keygate keys show`, and how a key is shown to people.

use jiff::Timestamp;
use key_policy::KeyId;

use crate::{
    cli::{
        NoSuchKey, offline,
        output::{answer, answer_json},
    },
    clock::{Clock, SystemClock},
    config::Settings,
    keys::{Key, view::KeyView},
};

pub(super) async fn run(key_id: KeyId, json: bool, settings: &Settings) -> anyhow::Result<()> {
    let (_, store) = offline::open(settings).await?;
    let key = store.key(key_id).await?.ok_or_else(|| NoSuchKey(key_id.to_string()))?;
    print_key(key, json)
}

/// Shows a key that is there.
pub(super) fn print_key(key: Key, json: bool) -> anyhow::Result<()> {
    if json { answer_json(&KeyView::from(key)) } else { Ok(answer(&details(&key))?) }
}

pub(super) fn or_dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

pub(super) fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// All that is known of a key, a line each.
pub(super) fn details(key: &Key) -> String {
    let networks: Vec<_> = key.allowed_ips.iter().map(ToString::to_string).collect();
    let limit =
        key.rate_limit.map(|limit| format!("{} in {} s", limit.requests, limit.window_seconds));
    let metadata = (!key.metadata.is_empty())
        .then(|| serde_json::Value::from(key.metadata.clone()).to_string());
    let revoked = key.revoked_at.map(|at| match &key.revoked_reason {
        Some(reason) => format!("{} ({reason})", seconds(at)),
        None => seconds(at),
    });
    let rotated = key
        .rotated_at
        .zip(key.superseded_by)
        .map(|(at, successor)| format!("{} (superseded by {successor})", seconds(at)));
    let lines = [
        ("key id", key.key_id.to_string()),
        ("name", key.name.clone()),
        ("state", key.state(SystemClock.now()).to_string()),
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
        ("supersedes", or_dash(key.supersedes.map(|it| it.to_string()).as_deref())),
        ("rotated", or_dash(rotated.as_deref())),
        ("version", key.version.to_string()),
    ];
    lines.map(|(title, value)| format!("{title:13} {value}\n")).concat()
}
