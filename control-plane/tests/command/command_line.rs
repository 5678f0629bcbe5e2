//! Commands that do one thing and end.

use crate::process::{Keygate, TOKEN};

#[test]
fn a_database_must_have_been_made_before_keys_can_be() {
    let it = Keygate::new();
    let refused = it.run(&["keys", "create", "--name", "a"]);
    assert_eq!(refused.code, 1);
    assert!(refused.errors.contains("keygate migrate"), "{refused:?}");
    assert_eq!(it.run(&["keys", "list"]).code, 1);
    assert_eq!(it.run(&["migrate"]).code, 0);
    assert!(it.run(&["migrate"]).output.contains("up to date"));
    assert_eq!(it.run(&["keys", "list"]).code, 0);
}

#[test]
fn keys_are_made_listed_shown_and_revoked_from_the_command_line() {
    let it = Keygate::migrated();
    let made = it.run(&[
        "keys",
        "create",
        "--name",
        "first",
        "--scope",
        "admin",
        "--owner",
        "ops",
        "--environment",
        "live",
        "--expires-in",
        "30d",
        "--allowed-ip",
        "127.0.0.1",
        "--allowed-ip",
        "10.0.0.0/8",
        "--rate-limit",
        "100/60",
        "--metadata",
        r#"{"a":1}"#,
        "--json",
    ]);
    assert_eq!(made.code, 0, "{made:?}");
    let key = made.json();
    let id = key["key_id"].as_str().expect("an id");
    assert!(key["api_key"].as_str().expect("a key").starts_with(&format!("kg_live_{id}_")));
    assert_eq!(key["allowed_ips"], serde_json::json!(["127.0.0.1/32", "10.0.0.0/8"]));
    assert_eq!(key["rate_limit"], serde_json::json!({"requests": 100, "window_seconds": 60}));

    let list = it.run(&["keys", "list"]);
    assert!(list.output.contains(id) && list.output.contains("active"), "{list:?}");
    let listed = it.run(&["keys", "list", "--json"]).json();
    assert_eq!(listed["items"][0]["name"], "first");
    for (scope, count) in [("admin", 1), ("read", 0)] {
        let listed = it.run(&["keys", "list", "--scope", scope, "--json"]).json();
        assert_eq!(listed["items"].as_array().map(Vec::len), Some(count), "{listed}");
    }
    let shown = it.run(&["keys", "show", id, "--json"]).json();
    assert!(shown.get("api_key").is_none());
    assert_eq!(shown["owner"], "ops");

    let revoked = it.run(&["keys", "revoke", id, "--reason", "the laptop was stolen"]);
    assert_eq!(revoked.code, 0, "{revoked:?}");
    assert!(revoked.output.contains("the laptop was stolen"), "{revoked:?}");
    assert_eq!(it.run(&["keys", "revoke", id]).code, 0);
    assert_eq!(it.run(&["keys", "show", id, "--json"]).json()["is_active"], false);

    let log = it.run(&["audit", "list", "--json"]).json();
    let events: Vec<_> =
        log.as_array().expect("entries").iter().map(|it| it["event"].clone()).collect();
    assert_eq!(events, ["KEY_REVOKED", "KEY_CREATED"]);
    assert_eq!(log[0]["actor"], "cli");
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let it = Keygate::migrated();
    assert_eq!(it.run(&["keys", "show", "0123456789abcdef"]).code, 3);
    assert_eq!(it.run(&["keys", "revoke", "0123456789abcdef"]).code, 3);
    for usage in [
        &["keys", "show", "x"][..],
        &["keys", "create"],
        &["keys", "create", "--name", ""],
        &["keys", "create", "--name", "a", "--scope", "root"],
        &["keys", "create", "--name", "a", "--expires-in", "soon"],
        &["keys", "create", "--name", "a", "--metadata", "[]"],
        &["--deployment", "prod", "keys", "list"],
        &["--database-url", "postgres://x", "keys", "list"],
        &["nonsense"],
    ] {
        let it = it.run(usage);
        assert_eq!(it.code, 2, "{it:?}");
        assert!(!it.errors.is_empty());
    }
    let help = it.run(&["--help"]);
    assert_eq!(help.code, 0);
    assert!(help.output.contains("Exit codes"), "{help:?}");
}

#[test]
fn another_secret_key_than_the_databases_own_is_refused_before_it_does_harm() {
    let mut it = Keygate::migrated();
    assert_eq!(it.run(&["keys", "create", "--name", "a"]).code, 0);
    it.set(
        "KEYGATE_SECRET_KEY",
        "9f9a1c77e0d25b8846f1029c6be87d145aa3c2e9178f604db35e7891f2ac0d66",
    );
    let refused = it.run(&["keys", "create", "--name", "b"]);
    assert_eq!(refused.code, 2);
    assert!(refused.errors.contains("another secret key"), "{refused:?}");
}

#[test]
fn outside_production_a_secret_key_is_drawn_once_and_kept() {
    let mut it = Keygate::migrated();
    it.set("KEYGATE_SECRET_KEY", "");
    let refused = it.run(&["keys", "create", "--name", "a"]);
    assert_eq!(refused.code, 2);
    assert!(refused.errors.contains("openssl rand -hex 32"), "{refused:?}");
    it.set("KEYGATE_ENVIRONMENT", "development");
    let first = it.run(&["keys", "create", "--name", "a"]);
    assert_eq!(first.code, 0, "{first:?}");
    assert!(first.errors.contains("KEYGATE_SECRET_KEY is not set"), "{first:?}");
    let second = it.run(&["keys", "create", "--name", "b"]);
    assert_eq!(second.code, 0, "{second:?}");
    assert!(!second.errors.contains("KEYGATE_SECRET_KEY"), "{second:?}");
}

#[test]
fn production_does_not_start_without_a_secret_key_or_with_weak_secrets() {
    for (name, value, word) in [
        ("KEYGATE_SECRET_KEY", "", "KEYGATE_SECRET_KEY"),
        (
            "KEYGATE_SECRET_KEY",
            "0000000000000000000000000000000000000000000000000000000000000000",
            "too weak",
        ),
        ("KEYGATE_SECRET_KEY", "c2hvcnQ=", "32 bytes"),
        ("KEYGATE_EDGE_TOKEN", "short", "KEYGATE_EDGE_TOKEN"),
        ("KEYGATE_REDIS_URL", "localhost:6379", "redis://[USER:PASSWORD@]HOST"),
        ("KEYGATE_LOG", "keygate=loud", "KEYGATE_LOG"),
    ] {
        let mut it = Keygate::migrated();
        it.set(name, value);
        let refused = it.run(&["serve"]);
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.errors.contains(word), "{refused:?}");
        assert!(!value.starts_with('0') || !refused.errors.contains(value));
        assert!(!refused.errors.contains(TOKEN));
    }
}

#[test]
fn a_change_of_keys_is_a_security_event_on_standard_error_and_the_answer_stays_alone() {
    let it = Keygate::migrated();
    let made = it.run(&["keys", "create", "--name", "a", "--json"]);
    let id = made.json()["key_id"].as_str().expect("an id").to_owned();
    let lines = |errors: &str| errors.lines().count();
    assert!(made.errors.contains("API_KEY_SECURITY_EVENT: KEY_CREATED"), "{made:?}");
    assert_eq!(lines(&made.errors), 1, "{made:?}");
    let revoked = it.run(&["keys", "revoke", &id, "--json"]);
    assert_eq!(revoked.json()["is_active"], false);
    assert!(revoked.errors.contains("API_KEY_SECURITY_EVENT: KEY_REVOKED"), "{revoked:?}");
    let listed = it.run(&["keys", "list", "--json"]);
    assert_eq!((listed.code, listed.errors.as_str()), (0, ""));
}

#[test]
fn a_reader_who_has_seen_enough_is_no_failure() {
    let it = Keygate::migrated();
    it.make_key(&[]);
    for arguments in [&["keys", "list"][..], &["keys", "list", "--json"], &["audit", "list"]] {
        let said = it.run_unread(arguments);
        assert_eq!((said.code, said.errors.as_str()), (0, ""), "{arguments:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_no_text_is_refused_by_its_name() {
    use std::os::unix::ffi::OsStringExt;
    let mut it = Keygate::migrated();
    it.set_raw("KEYGATE_EDGE_TOKEN", std::ffi::OsString::from_vec(vec![b'a', 0xff, b'b']));
    let refused = it.run(&["keys", "list"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.errors.contains("KEYGATE_EDGE_TOKEN"), "{refused:?}");
}
