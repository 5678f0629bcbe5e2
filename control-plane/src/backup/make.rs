//! Making a backup.

use edge_protocol::EventKind;
use jiff::Timestamp;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    AuditEnd, Backend, BackupError, Manifest, Progress, Watcher, container, restore::verify_log,
    staging::Staging,
};
use crate::{
    audit::AuditEntry,
    clock::Clock,
    config::{Config, DatabaseUrl},
    keys::digest::{DigestKey, SecretName},
    random::Random,
    secret_key::{self, SecretKeyFault},
    store::{self, Store, StoreError, credentials::SECRET_NAME, postgres, sqlite},
};

/// How often it is looked how far a copy is.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The copy, before it has a manifest.
const COPY: &str = "copy";
/// The file, before it has its name.
const FILE: &str = "backup";

/// A backup that was made.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Made {
    /// The file.
    pub file: PathBuf,
    /// What it says of itself.
    #[serde(flatten)]
    pub manifest: Manifest,
    /// Rows of the copied audit log that were looked through.
    pub audit_rows: u64,
}

/// Makes a backup of the database while others work on it. There is a file of that name when it is
/// whole, was looked through and is on the disk, and none before.
///
/// # Errors
/// As [`BackupError`] says.
pub async fn make(
    config: &Config,
    file: &Path,
    clock: &dyn Clock,
    random: &dyn Random,
    watcher: &mut Watcher<'_>,
) -> Result<Made, BackupError> {
    if file.exists() {
        return Err(BackupError::Exists(file.to_owned()));
    }
    // It must be there, and of this version: who restores has to know what it is.
    let live = store::open(&config.database).await?;
    let staging = Staging::beside(file, random)?;
    let copied = staging.file(COPY);
    let made_at = clock.now();
    let Facts { mut manifest, secret, audit_rows } = match &config.database {
        DatabaseUrl::Sqlite(path) => {
            copy(path, &copied, watcher).await?;
            // What is said is said of the copy, whatever has been written since.
            let copy = store::open(&DatabaseUrl::Sqlite(copied.clone())).await?;
            let facts = Facts::gather(config, &*copy, made_at, random, watcher).await?;
            copy.close().await;
            sound(&copied).await?;
            facts
        }
        DatabaseUrl::Postgres(postgres) => {
            // Without a server nobody can look into the copy, so it is said of the database, just
            // before: what has been written by then is in the copy.
            let facts = Facts::gather(config, &*live, made_at, random, watcher).await?;
            postgres::backup::dump(postgres, &copied)?;
            facts
        }
    };
    (manifest.bytes, manifest.sha256) = container::measure(&copied)?;
    container::write(&staging.file(FILE), &manifest, &secret, &copied, watcher)?;
    staging.publish(FILE, file)?;
    record(&live, clock, &manifest).await?;
    live.close().await;
    Ok(Made { file: file.to_owned(), manifest, audit_rows })
}

/// What is known of a copy before it is measured.
struct Facts {
    manifest: Manifest,
    /// What the manifest is signed with: the secret key that the database names.
    secret: DigestKey,
    audit_rows: u64,
}

impl Facts {
    /// Looks through a database.
    async fn gather(
        config: &Config,
        store: &dyn Store,
        made_at: Timestamp,
        random: &dyn Random,
        watcher: &mut Watcher<'_>,
    ) -> Result<Self, BackupError> {
        let head = store.chain_head().await?;
        let end =
            AuditEnd { database_id: head.database_id, sequence: head.sequence, hash: head.hash };
        let keys = store.secret_use(made_at).await?.iter().map(|it| it.keys).sum();
        let audit_rows = verify_log(config, store, random, None, watcher).await?;
        let secrets = secret_key::load(config, store, random).await?;
        let named = store.setting(SECRET_NAME).await?.unwrap_or_default();
        let secret = secrets.named(&SecretName::from_stored(&named));
        let secret = secret.ok_or(SecretKeyFault::Another)?.lookup.clone();
        let manifest = Manifest {
            made_at,
            keygate: env!("CARGO_PKG_VERSION").to_owned(),
            backend: Backend::of(&config.database),
            keys,
            audit: end,
            secret_key: named,
            bytes: 0,
            sha256: String::new(),
        };
        Ok(Self { manifest, secret, audit_rows })
    }
}

/// Copies the database file, and says how far that is.
async fn copy(from: &Path, to: &Path, watcher: &mut Watcher<'_>) -> Result<(), BackupError> {
    let size = |path: &Path| std::fs::metadata(path).ok().map(|it| it.len());
    let of = size(from);
    let copying = sqlite::backup::copy(from, to);
    tokio::pin!(copying);
    loop {
        tokio::select! {
            done = &mut copying => return Ok(done?),
            () = tokio::time::sleep(LOOK_EVERY) => {
                watcher(Progress::Copying { bytes: size(to).unwrap_or(0), of });
            }
        }
    }
}

/// Looks at every page of a copy, and leaves it a single file.
pub(super) async fn sound(copy: &Path) -> Result<(), BackupError> {
    match sqlite::backup::integrity(copy).await? {
        None => Ok(()),
        Some(found) => Err(BackupError::Damaged(format!("its pages are not in order: {found}"))),
    }
}

async fn record(
    live: &Arc<dyn Store>,
    clock: &dyn Clock,
    manifest: &Manifest,
) -> Result<(), StoreError> {
    let Manifest { keys, bytes, sha256, audit, .. } = manifest;
    let details = format!(
        "actor=cli keys={keys} bytes={bytes} sha256={sha256} audit_batch={}",
        audit.sequence
    );
    let mut entry = AuditEntry::of(EventKind::BackupMade, clock.now(), details);
    entry.actor = Some("cli".to_owned());
    live.append(std::slice::from_ref(&entry)).await?;
    entry.log();
    Ok(())
}
