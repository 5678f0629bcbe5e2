//! Backups from the command line, of a service at work.

use crate::process::Keygate;

#[test]
fn a_running_service_is_backed_up_and_restored_once_it_has_ended() {
    let mut it = Keygate::migrated();
    let (kept, _) = it.make_key(&["--scope", "admin"]);
    let (revived, _) = it.make_key(&[]);
    let mut service = it.serve(&[]);
    let made = it.run(&["backup", "a.backup", "--json"]);
    assert_eq!(made.code, 0, "{made:?}");
    assert_eq!(made.json()["keys"], 2);
    assert!(made.errors.contains("API_KEY_SECURITY_EVENT: BACKUP_MADE"), "{made:?}");
    let again = it.run(&["backup", "a.backup"]);
    assert!(again.code == 1 && again.errors.contains("is there already"), "{again:?}");
    let checked = it.run(&["restore", "a.backup", "--check"]);
    assert!(checked.code == 0 && checked.output.starts_with("It is whole: 2 keys"), "{checked:?}");

    assert_eq!(it.run(&["keys", "revoke", &revived]).code, 0);
    let in_use = it.run(&["restore", "a.backup", "--force"]);
    assert!(in_use.code == 1 && in_use.errors.contains("stop the service"), "{in_use:?}");
    service.signal("TERM");
    assert_eq!(service.end(), Some(0));
    let occupied = it.run(&["restore", "a.backup"]);
    assert!(occupied.code == 1 && occupied.errors.contains("--force"), "{occupied:?}");

    let restored = it.run(&["restore", "a.backup", "--force"]);
    assert_eq!(restored.code, 0, "{restored:?}");
    let advice = format!("keygate keys revoke {revived}");
    assert!(restored.output.contains(&advice), "{restored:?}");
    assert!(restored.errors.contains("API_KEY_SECURITY_EVENT: BACKUP_RESTORED"), "{restored:?}");
    for id in [&kept, &revived] {
        assert_eq!(it.run(&["keys", "show", id, "--json"]).json()["is_active"], true);
    }
    assert_eq!(it.run(&["audit", "verify"]).code, 0);
    let names = std::fs::read_dir(it.folder()).expect("a folder");
    let names: Vec<_> = names.map(|it| it.expect("an entry").file_name()).collect();
    let text = |name: &std::ffi::OsString| name.to_string_lossy().into_owned();
    assert!(names.iter().any(|name| text(name).contains(".before-restore-")), "{names:?}");
    assert!(!names.iter().any(|name| text(name).contains("unfinished")), "{names:?}");

    it.set(
        "KEYGATE_SECRET_KEY",
        "9f9a1c77e0d25b8846f1029c6be87d145aa3c2e9178f604db35e7891f2ac0d66",
    );
    let other = it.run(&["restore", "a.backup", "--force"]);
    assert!(other.code == 2 && other.errors.contains("KEYGATE_SECRET_KEY"), "{other:?}");
    assert_eq!(it.run(&["restore", "b.backup"]).code, 3);
}
