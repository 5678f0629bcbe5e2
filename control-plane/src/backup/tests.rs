//! Backups of a service at work, and what becomes of them when they are damaged.

use edge_protocol::Deployment;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tempfile::TempDir;

use super::{BackupError, Occupied, Restored, check, make, restore};
use crate::{
    admin::tests::call,
    audit::Actor,
    clock::testing::ManualClock,
    config::{Config, DatabaseUrl, SecretKey, TestKeys},
    keys::{digest::PresentedKey, revoke::revoke, verify::Outcome},
    random::SystemRandom,
    store::{self, RevokeGuard},
    testing::{Database, START, TestService, config, postgres::Scratch, request, send},
};

/// A place for backups, and another one for what is made from them.
struct Place {
    folder: TempDir,
    clock: ManualClock,
}

impl Place {
    fn new() -> Self {
        Self { folder: TempDir::new().expect("a folder"), clock: ManualClock::at(START) }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("keygate.backup")
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("restored.db")
    }

    /// As the service's, with the database elsewhere.
    fn config(&self, database: &Database) -> Config {
        let database_url = DatabaseUrl::Sqlite(self.target());
        Config { database: database_url, ..config(database, Deployment::Production) }
    }

    async fn make(&self, config: &Config) -> Result<super::Made, BackupError> {
        make(config, &self.file(), &self.clock, &SystemRandom, &mut |_| {}).await
    }

    async fn restore(&self, config: &Config, occupied: Occupied) -> Result<Restored, BackupError> {
        restore(config, &self.file(), occupied, &self.clock, &SystemRandom, &mut |_| {}).await
    }

    async fn check(&self, config: &Config) -> Result<super::Checked, BackupError> {
        check(config, &self.file(), &SystemRandom, &mut |_| {}).await
    }

    /// Names of what is in the folder.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.folder.path())
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

async fn is_known(it: &TestService, key: &str) -> bool {
    let presented = PresentedKey::new(key.as_bytes()).expect("a key");
    let verified = it.service.verifier.verify(presented).await.expect("verified");
    matches!(verified.outcome, Outcome::Known(_))
}

async fn on(path: &Path, place: &Place, database: Database) -> TestService {
    let config = place.config(&database);
    let there = database.replaced_by(DatabaseUrl::Sqlite(path.to_owned()));
    TestService::start_on(there, config, TestKeys::Off).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_service_at_work_has_every_key_that_was_acknowledged_before() {
    let it = Arc::new(TestService::start().await);
    let (_, admin) = it.issue_admin().await;
    let mut before = Vec::new();
    for _ in 0..3 {
        before.push(it.issue(request("before")).await.1);
    }
    // Others go on writing all the time.
    let done = Arc::new(AtomicBool::new(false));
    let (writing, told) = (Arc::clone(&it), Arc::clone(&done));
    let writer = async move {
        let mut made = 0;
        while !told.load(Ordering::SeqCst) {
            let body = Some(r#"{"name":"meanwhile"}"#);
            let answer =
                send(&writing.admin, call("POST", "/api/v1/admin/api-keys/", &admin, body)).await;
            assert_eq!(answer.status, 201);
            made += 1;
        }
        made
    };
    let place = Place::new();
    let live = config(&it.database, Deployment::Production);
    let making = async {
        let made = place.make(&live).await.expect("a backup");
        done.store(true, Ordering::SeqCst);
        made
    };
    let (made, written) = tokio::join!(making, writer);
    assert!(made.manifest.keys >= 4 && written > 0, "{made:?}");
    assert_eq!(place.names(), ["keygate.backup"]);
    let audit = it.audit().await;
    let (_, details) = audit.iter().find(|(event, _)| event == "BACKUP_MADE").expect("an entry");
    assert!(details.contains(&made.manifest.sha256), "{details}");

    let config = place.config(&it.database);
    assert_eq!(place.check(&config).await.expect("whole").manifest, made.manifest);
    assert_eq!(place.names(), ["keygate.backup"]);
    let restored = place.restore(&config, Occupied::Refuse).await.expect("restored");
    assert_eq!((restored.checked.audit_rows, restored.moved_away), (Some(made.audit_rows), None));
    assert_eq!(place.names(), ["keygate.backup", "restored.db"]);
    let old = it.service.store.position().await.expect("read");
    let again = on(&place.target(), &place, it.database.copy_of_place()).await;
    for key in &before {
        assert!(is_known(&again, key).await);
    }
    // Filters take it for another database, and drop what they remember.
    let new = again.service.store.position().await.expect("read");
    assert_ne!(new.epoch, old.epoch);
    let audit = again.audit().await;
    let (_, details) = audit.iter().find(|(it, _)| it == "BACKUP_RESTORED").expect("an entry");
    assert!(details.contains("changes_lost=unknown"), "{details}");
    again.service.audit_keeper.checkpoint_if_due().await.expect("signed");
    // What was written since is chained to what came from the backup.
    let second = Place { folder: TempDir::new().expect("a folder"), clock: place.clock.clone() };
    second.make(&config).await.expect("a backup, its log looked through");
}

#[cfg(unix)]
#[tokio::test]
async fn a_backup_is_for_its_owners_eyes_only() {
    use std::os::unix::fs::PermissionsExt;
    let it = TestService::start().await;
    let place = Place::new();
    place.make(&config(&it.database, Deployment::Production)).await.expect("a backup");
    place.restore(&place.config(&it.database), Occupied::Refuse).await.expect("restored");
    for file in [place.file(), place.target()] {
        let mode = fs::metadata(&file).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", file.display());
    }
}

#[tokio::test]
async fn a_backup_that_was_damaged_cut_or_forged_is_refused_and_nothing_is_left() {
    let it = TestService::start().await;
    it.issue_admin().await;
    let place = Place::new();
    place.make(&config(&it.database, Deployment::Production)).await.expect("a backup");
    let config = place.config(&it.database);
    let whole = fs::read(place.file()).expect("a backup");
    let with = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let text = String::from_utf8_lossy(&whole).into_owned();
    let keys = text.find("\"keys\":1").expect("a count") + "\"keys\":".len();
    let mut forged = whole.clone();
    forged[keys] = b'2';
    let cases = [
        (with(whole.len() - 1), "checksum"),
        (with(whole.len() / 2), "checksum"),
        (whole[..whole.len() - 1].to_vec(), "bytes"),
        ([whole.as_slice(), b"x"].concat(), "bytes"),
        (forged, "holder of this secret key"),
        (whole[..100].to_vec(), "manifest"),
        (b"keygate backup 2\n".to_vec(), "another version"),
        (b"SQLite format 3\0".to_vec(), "no backup"),
        (Vec::new(), "no backup"),
    ];
    for (bytes, word) in cases {
        fs::write(place.file(), bytes).expect("written");
        for result in [
            place.restore(&config, Occupied::MoveAway).await.map(drop),
            place.check(&config).await.map(drop),
        ] {
            let error = result.expect_err(word).to_string();
            assert!(error.contains(word), "{word}: {error}");
        }
        assert_eq!(place.names(), ["keygate.backup"], "{word}");
    }
    fs::remove_file(place.file()).expect("removed");
    assert!(matches!(place.check(&config).await, Err(BackupError::Missing(_))));
}

#[tokio::test]
async fn a_copy_that_was_changed_by_someone_with_every_checksum_is_refused() {
    let it = TestService::start().await;
    it.issue_admin().await;
    let place = Place::new();
    place.make(&config(&it.database, Deployment::Production)).await.expect("a backup");
    // The manifest names another copy, with the right length and sum; its signature does not.
    let whole = fs::read(place.file()).expect("a backup");
    let mut lines = whole.splitn(4, |byte| *byte == b'\n');
    let [magic, manifest, mac, copy] = std::array::from_fn(|_| lines.next().expect("a part"));
    let mut other = copy.to_vec();
    *other.last_mut().expect("a byte") ^= 1;
    let sum = |bytes: &[u8]| hex::encode(<sha2::Sha256 as sha2::Digest>::digest(bytes));
    let manifest = String::from_utf8_lossy(manifest).replace(&sum(copy), &sum(&other));
    let forged = [magic, manifest.as_bytes(), mac, &other].join(&b'\n');
    fs::write(place.file(), forged).expect("written");
    let refused = place.check(&place.config(&it.database)).await;
    assert!(matches!(refused, Err(BackupError::Forged)), "{refused:?}");
}

#[tokio::test]
async fn another_secret_key_is_refused_and_the_previous_one_is_not() {
    let it = TestService::start().await;
    let place = Place::new();
    place.make(&config(&it.database, Deployment::Production)).await.expect("a backup");
    let own = place.config(&it.database).secret_key;
    let other = |previous| Config {
        secret_key: Some(SecretKey::from_random([0x11; 32])),
        previous_secret_key: previous,
        ..place.config(&it.database)
    };
    let refused = place.restore(&other(None), Occupied::Refuse).await.expect_err("refused");
    assert!(matches!(refused, BackupError::SecretKey { .. }) && refused.is_usage(), "{refused}");
    assert_eq!(place.names(), ["keygate.backup"]);
    place.restore(&other(own), Occupied::Refuse).await.expect("restored");
}

#[tokio::test]
async fn what_is_there_is_never_overwritten() {
    let it = TestService::start().await;
    let (kept, _) = it.issue_admin().await;
    let (ended, key) = it.issue(request("to be revoked")).await;
    let place = Place::new();
    let live = config(&it.database, Deployment::Production);
    place.make(&live).await.expect("a backup");
    assert!(matches!(place.make(&live).await, Err(BackupError::Exists(_))));
    // While the service runs, whatever is asked for.
    let in_use = place.restore(&live, Occupied::MoveAway).await.expect_err("in use");
    assert!(matches!(in_use, BackupError::InUse(_)), "{in_use}");

    let (clock, by) = (place.clock.clone(), Actor::CommandLine);
    let guard = RevokeGuard::Unconditional;
    revoke(&*it.service.store, &clock, ended.key_id, None, guard, &by).await.expect("revoked");
    let (made, _) = it.issue(request("made later")).await;
    let database = it.stop().await;
    let refused = place.restore(&live, Occupied::Refuse).await.expect_err("occupied");
    assert!(refused.to_string().contains("--force"), "{refused}");

    let restored = place.restore(&live, Occupied::MoveAway).await.expect("restored");
    let lost = restored.lost.expect("it can be told");
    assert_eq!(lost.changes, 2);
    assert!(lost.revoked.contains(&ended.key_id.to_string()) && lost.revoked.len() == 1);
    assert!(lost.created.contains(&made.key_id.to_string()) && lost.created.len() == 1);
    let away = restored.moved_away.expect("moved");
    assert_eq!(away.file_name().expect("a name"), "keygate.db.before-restore-20261125T120000Z");
    let before = store::open(&DatabaseUrl::Sqlite(away)).await.expect("whole");
    assert!(before.key(made.key_id).await.expect("read").is_some());

    let it = TestService::start_on(database, live, TestKeys::Off).await;
    assert!(it.service.store.key(kept.key_id).await.expect("read").is_some());
    assert!(it.service.store.key(made.key_id).await.expect("read").is_none());
    assert!(is_known(&it, &key).await, "a revocation after the backup is lost");
    let audit = it.audit().await;
    let (_, details) = audit.iter().find(|(it, _)| it == "BACKUP_RESTORED").expect("an entry");
    assert!(details.contains("changes_lost=2"), "{details}");
}

#[tokio::test]
async fn a_database_that_cannot_be_read_gives_way_when_it_is_told_to() {
    let it = TestService::start().await;
    let place = Place::new();
    place.make(&config(&it.database, Deployment::Production)).await.expect("a backup");
    let config = place.config(&it.database);
    fs::write(place.target(), b"this was a database once").expect("written");
    assert!(place.restore(&config, Occupied::Refuse).await.is_err());
    let restored = place.restore(&config, Occupied::MoveAway).await.expect("restored");
    let away = restored.moved_away.expect("moved");
    assert_eq!(fs::read(away).expect("read"), b"this was a database once");
    store::open(&config.database).await.expect("opened");
}

#[tokio::test]
async fn a_database_whose_audit_log_is_broken_is_not_backed_up_as_if_it_were_whole() {
    let it = TestService::start().await;
    it.issue_admin().await;
    it.database.execute("DROP TRIGGER api_key_audit_log_is_never_updated").await;
    it.database.execute("UPDATE api_key_audit_log SET details = 'nothing happened'").await;
    let place = Place::new();
    let refused = place.make(&config(&it.database, Deployment::Production)).await;
    assert!(matches!(refused, Err(BackupError::Audit(_))), "{refused:?}");
    assert!(place.names().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_database_is_copied_and_restored_into_an_empty_one() {
    let it = TestService::start_at(Database::postgres().await).await;
    it.issue_admin().await;
    let (_, key) = it.issue(request("a")).await;
    let place = Place::new();
    let live = config(&it.database, Deployment::Production);
    let made = place.make(&live).await.expect("a backup");
    assert_eq!((made.manifest.keys, place.names()), (2, vec!["keygate.backup".to_owned()]));
    let occupied = place.restore(&live, Occupied::MoveAway).await.expect_err("not empty");
    assert!(occupied.to_string().contains("createdb"), "{occupied}");

    let empty = Scratch::empty().await;
    let into =
        Config { database: empty.url.clone(), ..config(&it.database, Deployment::Production) };
    assert_eq!(place.check(&into).await.expect("whole").manifest, made.manifest);
    let whole = fs::read(place.file()).expect("a backup");
    let mut damaged = whole.clone();
    *damaged.last_mut().expect("a byte") ^= 1;
    fs::write(place.file(), damaged).expect("written");
    assert!(matches!(place.restore(&into, Occupied::Refuse).await, Err(BackupError::Damaged(_))));
    fs::write(place.file(), whole).expect("written");
    let restored = place.restore(&into, Occupied::Refuse).await.expect("restored");
    assert_eq!(restored.checked.audit_rows, Some(made.audit_rows));

    let store = store::open(&into.database).await.expect("opened");
    let (new, old) = (store.position().await, it.service.store.position().await);
    assert_ne!(new.expect("read").epoch, old.expect("read").epoch);
    store.close().await;
    let there = it.database.replaced_by(empty.url.clone());
    let again = TestService::start_on(there, into, TestKeys::Off).await;
    assert!(is_known(&again, &key).await);
    assert!(again.audit().await.iter().any(|(event, _)| event == "BACKUP_RESTORED"));
}
