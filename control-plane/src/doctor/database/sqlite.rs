//! What only a file can suffer from: its mode, its disk, damage.

use rustix::fs::statvfs;
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};
use tokio::time::timeout;

use super::{Check, Finding};

/// A quick check reads the whole file; of one so large that this is not enough, it is left to a
/// quiet hour.
const CHECK_PATIENCE: Duration = Duration::from_mins(1);
/// How long another writer is waited for.
const BUSY: Duration = Duration::from_secs(5);
/// Less is used up within hours by an audit log under attack.
const LITTLE_BYTES: u64 = 1 << 30;
/// With less than this, `SQLite`'s own log may find no room.
const TOO_LITTLE_BYTES: u64 = 64 << 20;

pub(super) async fn examine(path: &Path) -> Vec<Finding> {
    let mut findings = vec![disk(path)];
    findings.extend(mode(path));
    findings.extend(whole(path).await);
    findings
}

fn disk(path: &Path) -> Finding {
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match statvfs(folder) {
        Ok(disk) => judge_room(folder, disk.f_bavail.saturating_mul(disk.f_frsize)),
        Err(error) => Finding::warning(
            Check::DiskSpace,
            format!("{} cannot be looked at: {error}", folder.display()),
            "see whether this user may use that folder",
        ),
    }
}

fn judge_room(folder: &Path, free: u64) -> Finding {
    let what = format!("{} MiB are free where {} is", free >> 20, folder.display());
    let mend = "make room: a full disk stops every change and the audit log";
    if free < TOO_LITTLE_BYTES {
        Finding::failed(Check::DiskSpace, what, mend)
    } else if free < LITTLE_BYTES {
        Finding::warning(Check::DiskSpace, what, mend)
    } else {
        Finding::ok(Check::DiskSpace, what)
    }
}

fn mode(path: &Path) -> Option<Finding> {
    let mode = fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o077 != 0).then(|| {
        Finding::warning(
            Check::Database,
            format!("others can read or write {} (mode {:o})", path.display(), mode & 0o777),
            format!("chmod 600 {}", path.display()),
        )
    })
}

async fn whole(path: &Path) -> Option<Finding> {
    let looked = timeout(CHECK_PATIENCE, look(path)).await;
    match looked {
        Ok(Ok(problems)) if problems == ["ok"] => None,
        Ok(Ok(problems)) => Some(Finding::failed(
            Check::Database,
            format!("the file is damaged: {}", problems.join("; ")),
            "stop the service, keep a copy, and restore the last backup \
             (docs/backup-and-restore.md)",
        )),
        Ok(Err(error)) => Some(Finding::failed(
            Check::Database,
            format!("it cannot be read and written: {error}"),
            format!(
                "see whether this user may write to {} and its folder, and whether the disk is \
                 mounted to be written to",
                path.display()
            ),
        )),
        Err(_) => Some(Finding::warning(
            Check::Database,
            format!("the file is too large to be looked through in {} s", CHECK_PATIENCE.as_secs()),
            format!("in a quiet hour: sqlite3 {} 'PRAGMA quick_check'", path.display()),
        )),
    }
}

/// Looks through the file; and takes the right to write, and gives it back.
async fn look(path: &Path) -> Result<Vec<String>, sqlx::Error> {
    let options = SqliteConnectOptions::new().filename(path).busy_timeout(BUSY);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    transaction.rollback().await?;
    let problems = sqlx::query_scalar("PRAGMA quick_check(3)").fetch_all(&mut connection).await?;
    connection.close().await?;
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{doctor::finding::Status, testing::Database};
    use std::io::{Seek, SeekFrom, Write};

    #[test]
    fn a_disk_that_is_nearly_full_is_told_and_a_full_one_is_a_failure() {
        for (free, status) in
            [(0, Status::Failed), (TOO_LITTLE_BYTES, Status::Warning), (LITTLE_BYTES, Status::Ok)]
        {
            assert_eq!(judge_room(Path::new("/"), free).status, status, "{free}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_that_others_can_read_is_told() {
        let database = Database::new().await;
        assert_eq!(mode(&database.path), None);
        fs::set_permissions(&database.path, fs::Permissions::from_mode(0o640)).expect("set");
        assert!(mode(&database.path).is_some_and(|it| it.status == Status::Warning));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_damaged_file_is_found() {
        let database = Database::new().await;
        assert_eq!(whole(&database.path).await, None);
        let mut file = fs::OpenOptions::new().write(true).open(&database.path).expect("a file");
        // Into a page in the middle, past what opening it reads.
        file.seek(SeekFrom::Start(3 * 4096)).expect("sought");
        file.write_all(&[0xa5; 4096]).expect("written");
        let found = whole(&database.path).await.expect("a finding");
        assert_eq!(found.status, Status::Failed, "{found:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_no_database_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keygate.db");
        fs::write(&path, [7; 8192]).expect("written");
        assert_eq!(whole(&path).await.expect("a finding").status, Status::Failed);
    }
}
