//! Judging and importing keys that were made elsewhere.

use serde_json::{Value, json};

use crate::process::Keygate;

const GOOD: &str = "p9X-mQ2v_Lr7Tz4Wk8Hc3Yb6Nf1Js5Dg0";
const WEAK: &str = "ThisIsMyCompanyProductionApiKey2024";

#[test]
fn a_key_is_judged_without_a_database_and_without_being_shown() {
    let it = Keygate::new();
    let good = it.run_with(&["keys", "check"], &format!("{GOOD}\n"));
    assert_eq!(good.code, 0, "{good:?}");
    assert!(good.output.contains("passes") && !good.output.contains(GOOD));

    let weak = it.run_with(&["keys", "check", "--json"], WEAK);
    assert_eq!(weak.code, 1, "{weak:?}");
    let report = weak.json();
    assert_eq!(report["verdict"], "overridable");
    assert_eq!(report["faults"][0]["code"], "too_little_left");
    assert!(!weak.output.contains(WEAK) && !weak.errors.contains(WEAK));

    let file = it.folder().join("key");
    std::fs::write(&file, "two words\r\n").expect("written");
    let hard = it.run(&["keys", "check", "--file", file.to_str().expect("text")]);
    assert_eq!(hard.code, 1);
    assert!(hard.output.contains("not_printable") && hard.output.contains("cannot be overridden"));
    assert_eq!(it.run(&["keys", "check", "--file", "/nowhere/key"]).code, 2);
}

fn outcomes(said: &Value) -> Vec<(&Value, &Value)> {
    let lines = said["items"].as_array().expect("lines");
    lines.iter().map(|line| (&line["line"], &line["outcome"])).collect()
}

#[test]
fn each_line_is_imported_whole_or_not_at_all_and_the_code_tells_if_one_was_not() {
    let it = Keygate::migrated();
    let lines = [
        json!({"api_key": GOOD, "name": "first", "owner": "ops"}).to_string(),
        json!({"api_key": WEAK, "name": "weak"}).to_string(),
        String::new(),
        "no json".to_owned(),
        json!({"api_key": WEAK, "name": "weak", "policy_override": {"reason": "until March"}})
            .to_string(),
        json!({"api_key": GOOD, "name": "again"}).to_string(),
    ];
    let input = lines.join("\n");
    let trial = it.run_with(&["keys", "import", "--dry-run", "--json"], &input);
    assert_eq!(trial.code, 1, "{trial:?}");
    assert_eq!(it.run(&["keys", "list", "--json"]).json()["items"], json!([]));

    let file = it.folder().join("keys.ndjson");
    std::fs::write(&file, &input).expect("written");
    let file = file.to_str().expect("text");
    let done = it.run(&["keys", "import", "--file", file, "--json"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.errors.contains("3 of 5 keys were not imported"), "{done:?}");
    let said = done.json();
    let expected = [(1, "imported"), (2, "failed"), (4, "failed"), (5, "imported"), (6, "known")]
        .map(|(line, outcome)| (json!(line), json!(outcome)));
    assert_eq!(outcomes(&said), expected.iter().map(|(a, b)| (a, b)).collect::<Vec<_>>());
    assert_eq!(said["items"][3]["filter_policy"], json!({"weak_patterns": false}));
    assert_eq!(said["items"][4]["key_id"], said["items"][0]["key_id"]);
    for secret in [GOOD, WEAK] {
        assert!(!done.output.contains(secret) && !done.errors.contains(secret));
    }
    let listed = it.run(&["keys", "list", "--json"]).json();
    let names: Vec<_> =
        listed["items"].as_array().expect("keys").iter().map(|key| key["name"].clone()).collect();
    assert_eq!(names.len(), 2);

    // Where everything is known, going on is no failure.
    let again = json!({"api_key": GOOD, "name": "first"}).to_string();
    let again = it.run_with(&["keys", "import", "--skip-known"], &again);
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.output.contains("known"), "{again:?}");
    assert_eq!(it.run(&["keys", "import", "--file", "/nowhere"]).code, 2);
}

#[test]
fn an_imported_key_opens_the_service() {
    let it = Keygate::migrated();
    let line = json!({"api_key": GOOD, "name": "console", "scope": "admin"}).to_string();
    assert_eq!(it.run_with(&["keys", "import"], &line).code, 0);
    let service = it.serve(&[]);
    let path = "/api/v1/admin/api-keys/";
    let (status, body) =
        crate::process::http(&service.admin, "GET", path, &format!("x-api-key: {GOOD}\r\n"), "");
    assert_eq!(status, 200, "{body}");
    assert!(!body.contains(GOOD));
}
