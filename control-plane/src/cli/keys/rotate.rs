//! `keygate keys rotate`

use clap::Args;
use jiff::SignedDuration;
use key_policy::KeyId;
use secrecy::ExposeSecret;

use super::{
    fields,
    show::{details, seconds},
};
use crate::{
    audit::Actor,
    cli::{
        Conflict, NoSuchKey, duration, offline,
        output::{answer, answer_json},
    },
    clock::{Clock, SystemClock},
    config::Settings,
    keys::{
        rotate::{
            DEFAULT_OVERLAP_SECONDS, NewEnd, RotateError, RotateKeyRequest, RotatedKey, rotate,
        },
        update::Precondition,
        view::{IssuedKeyView, KeyView, RotatedKeyView},
    },
    store::RevokeGuard,
};

#[derive(Args)]
pub(in crate::cli) struct Rotate {
    /// Its 16 hex digits
    key_id: KeyId,
    /// For how long both keys work: 90m, 12h, 7d; at most 90d; 0: the old one ends at once [default: 1d]
    #[arg(long, value_name = "DURATION", value_parser = overlap)]
    overlap: Option<u32>,
    /// When the new key ends, from now on; as the old one would have, when nothing is said
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, conflicts_with_all = ["expires_at", "never_expires"])]
    expires_in: Option<SignedDuration>,
    /// When the new key ends: 2027-01-31T00:00:00Z
    #[arg(long, value_name = "TIME", conflicts_with = "never_expires")]
    expires_at: Option<String>,
    /// Let the new key not end by itself
    #[arg(long)]
    never_expires: bool,
    /// As JSON, with the new key as `api_key`
    #[arg(long)]
    json: bool,
}

fn overlap(text: &str) -> Result<u32, String> {
    if text == "0" {
        return Ok(0);
    }
    let length = duration::parse(text)?;
    u32::try_from(length.as_secs()).map_err(|_| "that is too long".to_owned())
}

pub(super) async fn run(asked: Rotate, settings: &Settings) -> anyhow::Result<()> {
    let now = SystemClock.now();
    let expires_at = match asked.expires_in {
        Some(length) => NewEnd::At(fields::end(now, length)?.to_string()),
        None if asked.never_expires => NewEnd::Never,
        None => asked.expires_at.map_or(NewEnd::AsBefore, NewEnd::At),
    };
    let overlap_seconds = asked.overlap.unwrap_or(DEFAULT_OVERLAP_SECONDS);
    let terms = RotateKeyRequest { overlap_seconds, expires_at };
    let terms = terms.check(now).map_err(|errors| fields::refused(&errors))?;
    let (config, store) = offline::open(settings).await?;
    let issuer = offline::issuer(&config, &store).await?;
    let (by, guard) = (Actor::CommandLine, RevokeGuard::Unconditional);
    let done = rotate(&issuer, asked.key_id, &terms, &Precondition::Any, guard, &by, None).await;
    store.close().await;
    let rotated = done.map_err(|error| match error {
        RotateError::NotFound => NoSuchKey(asked.key_id.to_string()).into(),
        RotateError::Issue(error) => error.into(),
        error => anyhow::Error::from(Conflict(error.to_string())),
    })?;
    print(rotated, asked.json)
}

fn print(rotated: RotatedKey, json: bool) -> anyhow::Result<()> {
    let RotatedKey { issued, superseded } = rotated;
    let (key, api_key) = (issued.key, issued.api_key);
    if json {
        return answer_json(&RotatedKeyView {
            issued: IssuedKeyView { key: KeyView::from(key), api_key: api_key.expose_secret() },
            superseded: KeyView::from(superseded),
        });
    }
    let ends = superseded.expires_at.map_or_else(|| "-".to_owned(), seconds);
    Ok(answer(&format!(
        "{}\nThe new key, shown only now:\n\n  {}\n\nThe old one, {}, works until {ends}.\n",
        details(&key),
        api_key.expose_secret(),
        superseded.key_id,
    ))?)
}
