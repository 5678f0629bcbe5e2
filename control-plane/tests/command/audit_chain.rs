//! Looking through the audit log from the command line.

use crate::process::Keygate;

/// What follows the first word of the line with a checkpoint: `SEQ:HASH`.
fn anchor(line: &str) -> String {
    let (_, rest) = line.split_once("AUDIT_CHECKPOINT: ").expect("a checkpoint");
    rest.split(' ').next().expect("a batch and its hash").to_owned()
}

#[test]
fn the_audit_log_is_looked_through_and_compared_with_a_checkpoint_from_the_log() {
    let it = Keygate::migrated();
    let empty = it.run(&["audit", "verify"]);
    assert_eq!(empty.code, 0, "{empty:?}");
    it.make_key(&[]);
    let line = it.run(&["audit", "checkpoint"]);
    assert_eq!(line.code, 0, "{line:?}");
    let known = anchor(&line.output);
    it.make_key(&[]);

    let public_key = it.run(&["audit", "public-key"]).output.trim().to_owned();
    assert!(line.output.contains(&format!("public_key={public_key}")), "{line:?}");
    let good = ["audit", "verify", "--json", "--checkpoint", &known, "--public-key", &public_key];
    let found = it.run(&good).json();
    assert_eq!(found["whole"], true, "{found}");
    assert_eq!(found["trusted_keys"], serde_json::json!([public_key]));
    assert_eq!((&found["found"]["rows"], &found["found"]["rows_since"]), (&2.into(), &1.into()));

    let other = format!("1:{}", "ab".repeat(32));
    let refused = it.run(&["audit", "verify", "--json", "--checkpoint", &other]);
    assert_eq!((refused.code, &refused.json()["fault"]), (1, &"rewritten".into()), "{refused:?}");
    let cut = format!("99:{}", "ab".repeat(32));
    let refused = it.run(&["audit", "verify", "--checkpoint", &cut]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.errors.contains("end of the log is missing"), "{refused:?}");
    let nobody = "00".repeat(32);
    let refused = it.run(&["audit", "verify", "--public-key", &nobody]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.errors.contains("not a key that is trusted"), "{refused:?}");
    for usage in ["1", "x:y", "1:ab"] {
        assert_eq!(it.run(&["audit", "verify", "--checkpoint", usage]).code, 2);
    }
}

#[test]
fn a_service_signs_when_it_ends_with_its_own_key_or_the_configured_one() {
    let mut it = Keygate::migrated();
    it.make_key(&[]);
    let derived = it.run(&["audit", "public-key"]).output.trim().to_owned();
    let mut service = it.serve(&[]);
    let first = service.wait_for("AUDIT_CHECKPOINT");
    assert!(first.contains("reason=periodic") && first.contains(&derived), "{first}");
    it.make_key(&[]);
    service.signal("TERM");
    assert_eq!(service.end(), Some(0));
    let log = service.log();
    let last = log.lines().rfind(|line| line.contains("AUDIT_CHECKPOINT")).expect("a line");
    assert!(last.contains("reason=shutdown"), "{last}");
    let known = anchor(last);
    let found = it.run(&["audit", "verify", "--json", "--checkpoint", &known]).json();
    assert_eq!(found["found"]["rows_since"], 0, "{found}");

    for weak in ["short", &"5a".repeat(32)] {
        it.set("KEYGATE_AUDIT_SIGNING_KEY", weak);
        assert_eq!(it.run(&["audit", "public-key"]).code, 2, "{weak}");
    }
    it.set(
        "KEYGATE_AUDIT_SIGNING_KEY",
        "8d0c4b1f7ae2936655d1c90f3be7a2484c6f1d20b9e8537ad1f04c6289ab35e7",
    );
    it.set("KEYGATE_AUDIT_TRUSTED_KEYS", "no key");
    assert_eq!(it.run(&["audit", "public-key"]).code, 2);
    it.set("KEYGATE_AUDIT_TRUSTED_KEYS", &format!("{derived}, {derived}"));
    let configured = it.run(&["audit", "public-key"]).output.trim().to_owned();
    assert_ne!(configured, derived);
    let signed = it.run(&["audit", "checkpoint"]);
    assert!(signed.output.contains(&configured), "another key signs anew: {signed:?}");
    assert_eq!(it.run(&["audit", "verify"]).code, 0);
}

#[test]
fn an_export_with_its_chain_is_looked_through_without_the_database() {
    let it = Keygate::migrated();
    for _ in 0..3 {
        it.make_key(&[]);
    }
    let known = anchor(&it.run(&["audit", "checkpoint"]).output);
    let exported = it.run(&["audit", "export", "--chain", "--output", "log.ndjson"]);
    assert_eq!((exported.code, exported.output.as_str()), (0, ""), "{exported:?}");
    assert_eq!(it.run(&["audit", "export", "--output", "log.ndjson"]).code, 1, "it is there");
    let file = it.folder().join("log.ndjson");
    let whole = std::fs::read_to_string(&file).expect("an export");
    std::fs::remove_file(it.folder().join("keygate.db")).expect("removed");
    let verify =
        || it.run(&["audit", "verify", "--json", "--file", "log.ndjson", "--checkpoint", &known]);
    let found = verify().json();
    assert_eq!((&found["found"]["rows"], &found["found"]["checkpoints"]), (&3.into(), &1.into()));

    let lines: Vec<_> = whole.lines().collect();
    for (text, fault) in [
        (whole.replacen("scope=read", "scope=none", 1), "row_edited"),
        (whole.replacen("\"database_id\":\"", "\"database_id\":\"0", 1), "batch_edited"),
        (lines[..lines.len() - 1].join("\n"), "unreadable"),
        (lines[..lines.len() - 2].join("\n"), "unreadable"),
        ([&lines[..2], &lines[3..]].concat().join("\n"), "row_missing"),
        (format!("{whole}{{}}"), "unreadable"),
    ] {
        std::fs::write(&file, text).expect("written");
        let broken = verify();
        assert_eq!((broken.code, &broken.json()["fault"]), (1, &fault.into()), "{broken:?}");
    }
}

#[test]
fn entries_are_exported_by_filter_an_entry_a_line() {
    let it = Keygate::migrated();
    let (id, _) = it.make_key(&[]);
    it.make_key(&[]);
    let lines = |arguments: &[&str]| {
        let said = it.run(&[&["audit", "export"], arguments].concat());
        assert_eq!(said.code, 0, "{said:?}");
        said.output.lines().count()
    };
    assert_eq!(lines(&[]), 2);
    assert_eq!(lines(&["--key-id", &id]), 1);
    assert_eq!(lines(&["--actor", "cli", "--since", "2020-01-01T00:00:00Z"]), 2);
    assert_eq!(lines(&["--until", "2020-01-01T00:00:00Z"]), 0);
    assert_eq!(it.run(&["audit", "export", "--chain", "--actor", "cli"]).code, 2);
}
