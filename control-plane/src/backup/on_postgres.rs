//! Restoring into a `PostgreSQL` database: an empty one, so that there is nothing to take the place
//! of, and the database that is lost or broken stays as it is.

use super::{
    BackupError, Watcher,
    container::Backup,
    restore::{Checked, Restored, entry, look_through},
};
use crate::{
    clock::Clock,
    config::{Config, PostgresConfig},
    random::Random,
    secret_key::SecretKeyFault,
    store::postgres::backup::{is_empty, load},
};

/// Holds a backup against what it says of itself. The copy's inside is looked at when it is
/// restored: it takes a server.
pub(super) fn check(
    config: &Config,
    mut backup: Backup,
    watcher: &mut Watcher<'_>,
) -> Result<Checked, BackupError> {
    // Without a secret key nobody has looked at the signature yet.
    if config.secret_key.is_none() {
        return Err(SecretKeyFault::Missing.into());
    }
    backup.verify(watcher)?;
    Ok(Checked { manifest: backup.manifest, audit_rows: None })
}

/// As [`super::restore`].
pub(super) async fn restore(
    config: &Config,
    postgres: &PostgresConfig,
    mut backup: Backup,
    clock: &dyn Clock,
    random: &dyn Random,
    watcher: &mut Watcher<'_>,
) -> Result<Restored, BackupError> {
    // What is in a dump is carried out: only what bears our signature.
    if config.secret_key.is_none() {
        return Err(SecretKeyFault::Missing.into());
    }
    if !is_empty(postgres).await? {
        return Err(BackupError::Occupied(format!(
            "{postgres} is not empty, and nothing was restored; make another database (createdb), \
             and name that one in KEYGATE_DATABASE_URL"
        )));
    }
    backup.verify(watcher)?;
    load(postgres, backup.payload()?)?;
    let (store, rows) = look_through(config, &backup, &config.database, random, watcher).await?;
    let manifest = backup.manifest;
    let entry = entry(&manifest, None, clock);
    store.begin_anew(&entry).await?;
    store.close().await;
    entry.log();
    let checked = Checked { manifest, audit_rows: Some(rows) };
    Ok(Restored { checked, moved_away: None, lost: None })
}
