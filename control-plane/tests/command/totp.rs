//! Second factors at the command line.

use crate::process::{Keygate, http};

#[test]
fn an_operator_sees_who_has_a_second_factor_and_takes_a_lost_one_away() {
    let it = Keygate::migrated();
    let (id, key) = it.make_key(&["--scope", "admin"]);
    assert_eq!(it.run(&["totp", "list", "--json"]).json()["items"], serde_json::json!([]));
    let service = it.serve(&[]);
    let headers = format!("x-api-key: {key}\r\n");
    let (status, shown) = http(&service.admin, "POST", "/api/v1/admin/totp/enrol", &headers, "");
    assert_eq!(status, 200, "{shown}");

    let listed = it.run(&["totp", "list", "--json"]).json();
    let factor = &listed["items"][0];
    assert_eq!(
        (&factor["key_id"], &factor["active"], &factor["recovery_codes_left"]),
        (&id.as_str().into(), &false.into(), &10.into())
    );
    let table = it.run(&["totp", "list"]).output;
    assert!(table.contains(&id) && table.contains("pending"), "{table}");
    let reset = it.run(&["totp", "reset", &id, "--json"]);
    assert_eq!((reset.code, &reset.json()["reset"]), (0, &true.into()), "{reset:?}");
    let again = it.run(&["totp", "reset", &id]);
    assert!(again.code == 0 && again.output.contains("has no second factor"), "{again:?}");
    assert_eq!(it.run(&["totp", "reset", "0123456789abcdef"]).code, 3);
    let (_, state) = http(&service.admin, "GET", "/api/v1/admin/totp", &headers, "");
    assert!(state.contains("\"none\""), "{state}");
}

#[test]
fn a_service_that_requires_a_second_factor_refuses_changes_without_one() {
    let mut it = Keygate::migrated();
    it.set("KEYGATE_REQUIRE_TOTP", "true");
    let (_, key) = it.make_key(&["--scope", "admin"]);
    let service = it.serve(&[]);
    let headers = format!("x-api-key: {key}\r\ncontent-type: application/json\r\n");
    let (status, body) =
        http(&service.admin, "POST", "/api/v1/admin/api-keys/", &headers, r#"{"name":"a"}"#);
    assert!(status == 403 && body.contains("totp_required"), "{status} {body}");
    assert_eq!(http(&service.admin, "GET", "/api/v1/admin/api-keys/", &headers, "").0, 200);
}
