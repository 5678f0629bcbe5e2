//! Which migrations a database has.

use sqlx::migrate::Migrator;
use std::collections::HashMap;

use super::OpenError;

/// How many migrations a database lacks that has applied these, by version and checksum.
///
/// # Errors
/// When it has one that this program does not know, or another one of that version.
pub(super) fn pending(
    known: &Migrator,
    mut applied: HashMap<i64, Vec<u8>>,
    url: &str,
) -> Result<usize, OpenError> {
    let foreign = |detail: String| OpenError::Foreign { url: url.to_owned(), detail };
    let mut pending = 0;
    for migration in known.iter() {
        match applied.remove(&migration.version) {
            None => pending += 1,
            Some(checksum) if checksum == *migration.checksum => {}
            Some(_) => return Err(foreign(format!("{} differs", migration.version))),
        }
    }
    match applied.keys().max() {
        Some(version) => Err(foreign(version.to_string())),
        None => Ok(pending),
    }
}
