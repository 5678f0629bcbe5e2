//! Changing keys from the command line.

use serde_json::Value;

use crate::process::Keygate;

/// A key with something in every field, as `--json` shows it.
fn make(it: &Keygate) -> (String, Value) {
    let made = it.run(&[
        "keys",
        "create",
        "--name",
        "first",
        "--description",
        "nightly",
        "--owner",
        "ops",
        "--allowed-ip",
        "10.0.0.0/8",
        "--rate-limit",
        "100/60",
        "--metadata",
        r#"{"a":1}"#,
        "--expires-at",
        "2099-01-01T00:00:00Z",
        "--json",
    ]);
    assert_eq!(made.code, 0, "{made:?}");
    let id = made.json()["key_id"].as_str().expect("an id").to_owned();
    let shown = it.run(&["keys", "show", &id, "--json"]).json();
    (id, shown)
}

#[test]
fn what_is_not_named_stays_as_it_is() {
    let it = Keygate::migrated();
    let (id, mut key) = make(&it);
    let update = |arguments: &[&str]| {
        let done = it.run(&[&["keys", "update", &id, "--json"], arguments].concat());
        assert_eq!(done.code, 0, "{done:?}");
        done.json()
    };
    for (arguments, field, value) in [
        (&["--name", "second"][..], "name", "second".into()),
        (&["--scope", "write"], "scope", "write".into()),
        (&["--disable"], "is_active", false.into()),
        (&["--enable"], "is_active", true.into()),
        (&["--from-anywhere"], "allowed_ips", Value::Array(vec![])),
        (&["--no-rate-limit"], "rate_limit", Value::Null),
        (&["--no-description"], "description", Value::Null),
        (&["--no-owner"], "owner", Value::Null),
        (&["--never-expires"], "expires_at", Value::Null),
        (&["--metadata", "{}"], "metadata", serde_json::json!({})),
    ] {
        let version = key["version"].as_u64().expect("a version");
        key[field] = value;
        key["version"] = (version + 1).into();
        assert_eq!(update(arguments), key, "{arguments:?}");
    }
    // Nothing new is no change.
    assert_eq!(update(&["--name", "second"]), key);
    let log = it.run(&["audit", "list", "--json", "--event", "KEY_UPDATED"]).json();
    let details = log[9]["details"].as_str().expect("details");
    assert!(details.contains(r#"name="first"->"second""#), "{details}");
}

#[test]
fn a_change_that_the_key_does_not_allow_has_an_exit_code_of_its_own() {
    let it = Keygate::migrated();
    let (id, _) = make(&it);
    let code = |arguments: &[&str]| it.run(&[&["keys", "update", &id], arguments].concat()).code;
    assert_eq!(code(&["--name", "b", "--if-version", "2"]), 4);
    assert_eq!(code(&["--name", "b", "--if-version", "1"]), 0);
    assert_eq!(code(&["--name", "c", "--if-version", "1"]), 4);
    for usage in [
        &[][..],
        &["--enable", "--disable"],
        &["--owner", "a", "--no-owner"],
        &["--name", ""],
        &["--allowed-ip", "x"],
        &["--metadata", "[]"],
        &["--expires-at", "tomorrow"],
    ] {
        assert_eq!(code(usage), 2, "{usage:?}");
    }
    assert_eq!(it.run(&["keys", "revoke", &id]).code, 0);
    let refused = it.run(&["keys", "update", &id, "--enable"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.errors.contains("revoked"), "{refused:?}");
    assert_eq!(it.run(&["keys", "update", "0123456789abcdef", "--enable"]).code, 3);
}

#[test]
fn a_rotated_key_says_which_one_has_taken_its_place() {
    let it = Keygate::migrated();
    let (id, old) = make(&it);
    let rotated = it.run(&["keys", "rotate", &id, "--overlap", "12h", "--json"]);
    assert_eq!(rotated.code, 0, "{rotated:?}");
    let new = rotated.json();
    let new_id = new["key_id"].as_str().expect("an id");
    assert!(new["api_key"].as_str().expect("a key").starts_with(&format!("kg_live_{new_id}_")));
    assert_eq!(
        (&new["supersedes"], &new["superseded"]["superseded_by"]),
        (&id.as_str().into(), &new_id.into())
    );
    assert_eq!((&new["owner"], &new["expires_at"]), (&old["owner"], &old["expires_at"]));
    let shown = it.run(&["keys", "show", &id]);
    assert!(shown.output.contains(&format!("superseded by {new_id}")), "{shown:?}");
    assert!(rotated.errors.contains("API_KEY_SECURITY_EVENT: KEY_ROTATED"), "{rotated:?}");

    assert_eq!(it.run(&["keys", "rotate", &id]).code, 4);
    assert_eq!(it.run(&["keys", "rotate", "0123456789abcdef"]).code, 3);
    for usage in [&["--overlap", "91d"][..], &["--overlap", "soon"], &["--expires-at", "x"]] {
        let refused = it.run(&[&["keys", "rotate", new_id], usage].concat());
        assert_eq!(refused.code, 2, "{refused:?}");
    }
    let again = it.run(&["keys", "rotate", new_id, "--overlap", "0"]);
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.output.contains("shown only now"), "{again:?}");
    assert!(it.run(&["keys", "show", new_id]).output.contains("expired"));
}

#[test]
fn a_list_is_of_the_keys_that_meet_every_filter() {
    let it = Keygate::migrated();
    let (first, _) = make(&it);
    let made = it.run(&[
        "keys",
        "create",
        "--name",
        "Second",
        "--environment",
        "test",
        "--expires-in",
        "2d",
        "--json",
    ]);
    let second = made.json()["key_id"].as_str().expect("an id").to_owned();
    let (third, _) = make(&it);
    assert_eq!(it.run(&["keys", "revoke", &third]).code, 0);
    let list = |arguments: &[&str]| -> Vec<String> {
        let listed = it.run(&[&["keys", "list", "--json"], arguments].concat());
        assert_eq!(listed.code, 0, "{listed:?}");
        let items = listed.json()["items"].clone();
        let ids = items.as_array().expect("items").iter();
        ids.map(|item| item["key_id"].as_str().expect("an id").to_owned()).collect()
    };
    let all = [third.clone(), second.clone(), first.clone()];
    for (arguments, ids) in [
        (&[][..], &all[..]),
        (&["--limit", "2"], &all[..2]),
        (&["--state", "active"], &all[1..]),
        (&["--state", "revoked"], &all[..1]),
        (&["--environment", "test"], &all[1..2]),
        (&["--expiring-within-days", "2"], &all[1..2]),
        (&["--owner", "ops", "--state", "active"], &all[2..]),
        (&["--search", "SECOND"], &all[1..2]),
        (&["--search", &first], &all[2..]),
        (&["--scope", "admin"], &[]),
    ] {
        assert_eq!(list(arguments), ids, "{arguments:?}");
    }
    for usage in [&["--state", "gone"][..], &["--expiring-within-days", "0"]] {
        assert_eq!(it.run(&[&["keys", "list"], usage].concat()).code, 2, "{usage:?}");
    }
}
