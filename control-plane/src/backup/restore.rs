//! Restoring a backup.
//!
//! Everything is made ready beside the database: the copy is taken out, looked through, brought up
//! to date and marked as restored. Only then the two change places, by renaming.

use edge_protocol::{ChangeKind, EventKind};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Backend, BackupError, Manifest, Progress, Watcher,
    container::Backup,
    error::InFile,
    make::sound,
    on_postgres,
    staging::{Staging, sync_folder},
};
use crate::{
    audit::{
        AuditEntry,
        chain::{
            check::{Anchors, Trust},
            fault::Fault,
        },
        signer::{AuditSigner, configured_keys},
        verify::{Scope, verify},
    },
    clock::Clock,
    config::{Config, DatabaseUrl},
    keys::{Key, digest::SecretName},
    random::Random,
    secret_key::{self, Secret},
    store::{self, Changes, Store, credentials::SECRET_NAME, sqlite},
};

const COPY: &str = "copy";
/// Changes that are read at once.
const PAGE: u32 = 1000;

/// What becomes of a database that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occupied {
    /// If there is anything in it, nothing is restored.
    Refuse,
    /// It is renamed.
    MoveAway,
}

/// A backup that was looked through.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Checked {
    /// What it says of itself.
    #[serde(flatten)]
    pub manifest: Manifest,
    /// Rows of its audit log that were looked through; none, where only a server could do that.
    pub audit_rows: Option<u64>,
}

/// Changes of keys that the replaced database had and the backup has not.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Lost {
    /// How many, in all.
    pub changes: u64,
    /// Keys that were made after the backup, and are gone.
    pub created: BTreeSet<String>,
    /// Keys that were changed after the backup, and are as they were before.
    pub updated: BTreeSet<String>,
    /// Keys that were revoked, replaced, switched off or given an end after the backup, and are
    /// good again.
    pub revoked: BTreeSet<String>,
}

/// A backup that was restored.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Restored {
    /// What was restored.
    #[serde(flatten)]
    pub checked: Checked,
    /// Where the database is now that was there before.
    pub moved_away: Option<PathBuf>,
    /// What it had, where that can be told.
    pub lost: Option<Lost>,
}

/// Looks through a backup, all of it, as a restore would.
///
/// # Errors
/// As [`BackupError`] says.
pub async fn check(
    config: &Config,
    file: &Path,
    random: &dyn Random,
    watcher: &mut Watcher<'_>,
) -> Result<Checked, BackupError> {
    let mut backup = open(config, file)?;
    let target = match &config.database {
        DatabaseUrl::Sqlite(target) => target,
        DatabaseUrl::Postgres(_) => return on_postgres::check(config, backup, watcher),
    };
    let staging = Staging::beside(target, random)?;
    let (store, audit_rows) = prepare(config, &mut backup, &staging, random, watcher).await?;
    store.close().await;
    Ok(Checked { manifest: backup.manifest, audit_rows: Some(audit_rows) })
}

/// Puts the database in place that a backup holds.
///
/// # Errors
/// As [`BackupError`] says; what was there before is there still, then.
pub async fn restore(
    config: &Config,
    file: &Path,
    occupied: Occupied,
    clock: &dyn Clock,
    random: &dyn Random,
    watcher: &mut Watcher<'_>,
) -> Result<Restored, BackupError> {
    let mut backup = open(config, file)?;
    let target = match &config.database {
        DatabaseUrl::Sqlite(target) => target,
        DatabaseUrl::Postgres(postgres) => {
            return on_postgres::restore(config, postgres, backup, clock, random, watcher).await;
        }
    };
    make_room(target, occupied).await?;
    let staging = Staging::beside(target, random)?;
    let (copy, audit_rows) = prepare(config, &mut backup, &staging, random, watcher).await?;
    let lost = lost(&config.database, &*copy).await;
    let manifest = backup.manifest;
    let entry = entry(&manifest, lost.as_ref(), clock);
    copy.begin_anew(&entry).await?;
    copy.close().await;
    sound(&staging.file(COPY)).await?;

    let moved_away = swap(target, &staging, clock).await?;
    entry.log();
    let checked = Checked { manifest, audit_rows: Some(audit_rows) };
    Ok(Restored { checked, moved_away, lost })
}

/// Opens a backup, and sees whether it can be meant for this configuration before anything long is
/// begun.
fn open(config: &Config, file: &Path) -> Result<Backup, BackupError> {
    let backup = Backup::open(file)?;
    let Manifest { backend: made, secret_key, .. } = &backup.manifest;
    let wanted = Backend::of(&config.database);
    if *made != wanted {
        let (made, wanted) = (made.as_str(), wanted.as_str());
        return Err(BackupError::OtherBackend { made, wanted });
    }
    // Without one the copy itself may hold the secret key, outside production.
    if let Some(current) = &config.secret_key {
        let name = SecretName::from_stored(secret_key);
        let configured = [Some(current), config.previous_secret_key.as_ref()];
        let secrets = configured.into_iter().flatten().map(Secret::new);
        let secret = secrets.into_iter().find(|secret| secret.name == name);
        let wanted = secret_key.clone();
        let secret = secret.ok_or(BackupError::SecretKey { wanted })?;
        if !backup.is_signed_by(&secret.lookup) {
            return Err(BackupError::Forged);
        }
    }
    Ok(backup)
}

/// Sees whether a restore may take the place of what is there.
async fn make_room(target: &Path, occupied: Occupied) -> Result<(), BackupError> {
    if !target.exists() {
        return Ok(());
    }
    let url = format!("sqlite://{}", target.display());
    match sqlite::backup::hold(target).await {
        Ok(None) => Err(BackupError::InUse(url)),
        Ok(Some(mut held)) => {
            let is_empty = held.is_empty().await;
            held.release().await;
            if occupied == Occupied::MoveAway || is_empty? {
                return Ok(());
            }
            Err(BackupError::Occupied(format!(
                "{url} has keys or audit entries in it; with --force it is renamed, and the backup \
                 takes its place"
            )))
        }
        // One that cannot be read any more is what backups are made for.
        Err(_) if occupied == Occupied::MoveAway => Ok(()),
        Err(error) => Err(BackupError::Occupied(format!(
            "{url} is there and cannot be read ({error}); with --force it is renamed, and the \
             backup takes its place"
        ))),
    }
}

/// Takes the copy out of a backup, beside the place that it is for, and looks through it.
async fn prepare(
    config: &Config,
    backup: &mut Backup,
    staging: &Staging,
    random: &dyn Random,
    watcher: &mut Watcher<'_>,
) -> Result<(Arc<dyn Store>, u64), BackupError> {
    let path = staging.file(COPY);
    backup.extract(&path, watcher)?;
    sound(&path).await?;
    look_through(config, backup, &DatabaseUrl::Sqlite(path), random, watcher).await
}

/// Brings a copy up to date that has become a database, and looks through it.
pub(super) async fn look_through(
    config: &Config,
    backup: &Backup,
    url: &DatabaseUrl,
    random: &dyn Random,
    watcher: &mut Watcher<'_>,
) -> Result<(Arc<dyn Store>, u64), BackupError> {
    // One of an older version lacks migrations.
    store::migrate(url).await?;
    let copy = store::open(url).await?;
    let secrets = secret_key::load(config, &*copy, random).await?;
    let named = copy.setting(SECRET_NAME).await?.unwrap_or_default();
    let wanted = backup.manifest.secret_key.clone();
    let secret = secrets.named(&SecretName::from_stored(&named)).filter(|_| named == wanted);
    let secret = secret.ok_or(BackupError::SecretKey { wanted })?;
    if !backup.is_signed_by(&secret.lookup) {
        return Err(BackupError::Forged);
    }
    let end = &backup.manifest.audit;
    let rows = verify_log(config, &*copy, random, Some((end.sequence, end.hash)), watcher).await?;
    Ok((copy, rows))
}

/// Looks through a copy's audit log; gives the number of its rows. It has to come by the end that
/// is known from the manifest.
pub(super) async fn verify_log(
    config: &Config,
    copy: &dyn Store,
    random: &dyn Random,
    end: Option<(u64, crate::audit::chain::ChainHash)>,
    watcher: &mut Watcher<'_>,
) -> Result<u64, BackupError> {
    let secrets = secret_key::load(config, copy, random).await?;
    let mut keys = configured_keys(config);
    keys.push(AuditSigner::new(config, &secrets).public_key());
    // A log without a batch ends before the first one, and there is nothing to come by.
    let anchors: Anchors = end.into_iter().filter(|(sequence, _)| *sequence > 0).collect();
    let scope = Scope { trust: Trust::Keys(keys), anchors, up_to: None };
    let mut progress = |rows| watcher(Progress::Verifying { rows });
    let found: Result<_, Fault> = verify(copy, &scope, &mut progress).await?;
    Ok(found?.rows)
}

/// What the database that is there has, and the copy has not. None, when that cannot be told: there
/// is none, it cannot be read, or it is another one.
async fn lost(there: &DatabaseUrl, copy: &dyn Store) -> Option<Lost> {
    let there = store::open(there).await.ok()?;
    let lost = changes_since(&*there, copy).await;
    there.close().await;
    lost
}

async fn changes_since(there: &dyn Store, copy: &dyn Store) -> Option<Lost> {
    let (now, then) = (there.position().await.ok()?, copy.position().await.ok()?);
    if now.epoch != then.epoch {
        return None;
    }
    let mut lost = Lost { changes: now.sequence.checked_sub(then.sequence)?, ..Lost::default() };
    let mut since = then.sequence;
    loop {
        let (_, Changes::Since(changes)) = there.changes(since, PAGE).await.ok()? else {
            return None;
        };
        let Some(newest) = changes.last() else { break };
        since = newest.sequence;
        for change in changes {
            let kind = match change.kind {
                ChangeKind::Created => &mut lost.created,
                ChangeKind::Updated => &mut lost.updated,
                ChangeKind::Revoked => &mut lost.revoked,
            };
            kind.insert(change.key_id);
        }
    }
    // A key that the copy has never known does not come back.
    for made in &lost.created {
        lost.updated.remove(made);
        lost.revoked.remove(made);
    }
    for id in lost.updated.clone() {
        let Ok(key_id) = id.parse() else { continue };
        let (is, was) = (there.key(key_id).await.ok()?, copy.key(key_id).await.ok()?);
        if let (Some(is), Some(was)) = (is, was)
            && has_ended_earlier(&is, &was)
        {
            lost.updated.remove(&id);
            lost.revoked.insert(id);
        }
    }
    Some(lost)
}

/// Whether a key was ended in another way than by being revoked: switched off, replaced, or given
/// an end that it did not have.
fn has_ended_earlier(is: &Key, was: &Key) -> bool {
    let earlier = match (is.expires_at, was.expires_at) {
        (Some(is), Some(was)) => is < was,
        (is, None) => is.is_some(),
        (None, Some(_)) => false,
    };
    earlier || is.superseded_by != was.superseded_by || (was.is_active && !is.is_active)
}

pub(super) fn entry(manifest: &Manifest, lost: Option<&Lost>, clock: &dyn Clock) -> AuditEntry {
    let lost = lost.map_or_else(|| "unknown".to_owned(), |lost| lost.changes.to_string());
    let details = format!(
        "actor=cli made_at={} sha256={} audit_batch={} changes_lost={lost}",
        manifest.made_at, manifest.sha256, manifest.audit.sequence
    );
    let mut entry = AuditEntry::of(EventKind::BackupRestored, clock.now(), details);
    entry.actor = Some("cli".to_owned());
    entry
}

/// Lets the copy and the database change places. Gives where the database is now.
async fn swap(
    target: &Path,
    staging: &Staging,
    clock: &dyn Clock,
) -> Result<Option<PathBuf>, BackupError> {
    if !target.exists() {
        staging.publish(COPY, target)?;
        return Ok(None);
    }
    // From here on nobody else can begin to work on it; one that cannot be read is only renamed.
    let held = match sqlite::backup::hold(target).await {
        Ok(None) => return Err(BackupError::InUse(format!("sqlite://{}", target.display()))),
        Ok(Some(held)) => Some(held),
        Err(_) => None,
    };
    let swapped = rename_both(target, staging, clock);
    if let Some(held) = held {
        held.release().await;
    }
    swapped.map(Some)
}

fn rename_both(
    target: &Path,
    staging: &Staging,
    clock: &dyn Clock,
) -> Result<PathBuf, BackupError> {
    let away = name_away(target, clock)?;
    fs::rename(target, &away).in_file("renaming to", &away)?;
    // What a database that cannot be read has left beside it belongs to it.
    for companion in ["-wal", "-shm", "-journal"] {
        let (from, to) = (with_suffix(target, companion), with_suffix(&away, companion));
        if from.exists() {
            fs::rename(&from, &to).in_file("renaming to", &to)?;
        }
    }
    if let Err(error) = staging.publish(COPY, target) {
        // As it was before.
        fs::rename(&away, target).in_file("renaming to", target)?;
        sync_folder(target)?;
        return Err(error);
    }
    Ok(away)
}

/// `keygate.db` → `keygate.db.before-restore-20261125T120000Z`.
fn name_away(target: &Path, clock: &dyn Clock) -> Result<PathBuf, BackupError> {
    let now = clock.now().strftime("%Y%m%dT%H%M%SZ");
    let away = with_suffix(target, &format!(".before-restore-{now}"));
    if away.exists() { Err(BackupError::Exists(away)) } else { Ok(away) }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
