//! The layers' table: each row, in its order, with its answer and its event.

use crate::world::{Ask, CLIENT, World, answer, passed, refused, with};
use edge_protocol::Scope;
use gate::Credential;
use key_policy::Environment;
use wasm_bindgen_test::wasm_bindgen_test;

const DEFAULTS: &str = r#"{"version":1}"#;

fn expect(world: &mut World, ask: &Ask<'_>, status: u16, code: &str, event: &str) {
    let before = world.log.len();
    let got = world.ask(ask);
    assert_eq!(answer(got), (status, code.to_owned()));
    let line = world.log[before..].last().expect("an event");
    assert!(line.starts_with(&format!("API_KEY_SECURITY_EVENT: {event} | ")), "{line}");
}

#[wasm_bindgen_test(unsupported = test)]
fn layer_0_refuses_what_is_not_one_credential_of_sane_bytes() {
    let mut world = World::new(DEFAULTS);
    let several = Ask { credential: Credential::Several, ..Ask::default() };
    expect(&mut world, &several, 400, "invalid_format", "INVALID_FORMAT");
    let long = "x".repeat(257);
    let huge = "x".repeat(64 * 1024);
    for key in [&b"\xff\xfe"[..], b"a,b", b"a b", b"a\tb", long.as_bytes(), huge.as_bytes()] {
        let ask = Ask { credential: Credential::One(key), ..Ask::default() };
        expect(&mut world, &ask, 400, "invalid_format", "INVALID_FORMAT");
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn layer_1_wants_a_key() {
    let mut world = World::new(DEFAULTS);
    expect(&mut world, &Ask::default(), 403, "missing_api_key", "MISSING_API_KEY");
    let empty = Ask { credential: Credential::One(b""), ..Ask::default() };
    expect(&mut world, &empty, 403, "missing_api_key", "MISSING_API_KEY");
}

#[wasm_bindgen_test(unsupported = test)]
fn layer_2_keeps_test_keys_out_of_production() {
    let mut world = World::new(DEFAULTS);
    let (key, _) = world.new_key(Environment::Test);
    expect(&mut world, &with(&key), 403, "test_key_refused", "SECURITY_VIOLATION");
    expect(&mut world, &with("kg_test_x"), 403, "test_key_refused", "SECURITY_VIOLATION");
    for deployment in ["development", "testing", "staging"] {
        let mut world = World::new(&format!(r#"{{"version":1,"environment":"{deployment}"}}"#));
        let (key, _) = world.new_key(Environment::Test);
        expect(&mut world, &with(&key), 403, "invalid_api_key", "INVALID_KEY");
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn layer_2_also_knows_a_test_key_by_its_record() {
    let mut world = World::new(DEFAULTS);
    let key = world.issue_with(|r| r.environment = edge_protocol::KeyEnvironment::Test);
    expect(&mut world, &with(&key), 403, "test_key_refused", "SECURITY_VIOLATION");
}

#[wasm_bindgen_test(unsupported = test)]
fn layers_3_and_4_refuse_what_is_no_key_without_a_call() {
    let mut world = World::new(DEFAULTS);
    let good = world.unknown_key();
    let mut typo = good.into_bytes();
    let last = typo.last_mut().unwrap();
    *last = if *last == b'a' { b'b' } else { b'a' };
    let typo = String::from_utf8(typo).unwrap();
    for key in [
        "short",
        &typo,
        "kg_live_zzz",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "ThisIsMyCompanyProductionApiKey2024",
        "Qwertyuiopasdfghjklzxcvbnm123456",
    ] {
        expect(&mut world, &with(key), 403, "invalid_format", "INVALID_FORMAT");
    }
    assert_eq!(world.control_plane.verify_calls, 0);
}

#[wasm_bindgen_test(unsupported = test)]
fn layer_5_refuses_a_key_that_nobody_knows() {
    let mut world = World::new(DEFAULTS);
    world.ask(&Ask::default());
    world.pass_ms(100);
    let key = world.unknown_key();
    expect(&mut world, &with(&key), 403, "invalid_api_key", "INVALID_KEY");
    assert_eq!(world.control_plane.verify_calls, 1);
    expect(&mut world, &with(&key), 403, "invalid_api_key", "INVALID_KEY");
    assert_eq!(world.control_plane.verify_calls, 1, "the answer was kept");
}

#[wasm_bindgen_test(unsupported = test)]
fn layer_5_answers_503_when_it_cannot_be_told() {
    let mut world = World::new(DEFAULTS);
    world.control_plane.up = false;
    let key = world.issue(Scope::Read);
    expect(&mut world, &with(&key), 503, "temporarily_unavailable", "DB_ERROR");
    let got = world.get(&key);
    assert_eq!(refused(got).retry_after, Some(1));
    world.control_plane.up = true;
    world.pass_ms(1000);
    passed(world.get(&key));
}

#[wasm_bindgen_test(unsupported = test)]
fn layer_6_refuses_expired_and_revoked_keys() {
    let mut world = World::new(DEFAULTS);
    let expires = world.now_ms + 5_000;
    let key = world.issue_with(|r| r.expires_at_ms = Some(expires));
    passed(world.get(&key));
    world.now_ms = expires - 1;
    passed(world.get(&key));
    world.now_ms = expires;
    expect(&mut world, &with(&key), 403, "invalid_api_key", "EXPIRED_KEY");
    let revoked = world.issue_with(|r| r.is_active = false);
    expect(&mut world, &with(&revoked), 403, "invalid_api_key", "REVOKED_KEY");
}

#[wasm_bindgen_test(unsupported = test)]
fn outsiders_cannot_tell_unknown_revoked_and_expired_keys_apart() {
    let mut world = World::new(r#"{"version":1,"failed_attempts":{"requests":100}}"#);
    let unknown = world.unknown_key();
    let revoked = world.issue_with(|r| r.is_active = false);
    let expired = world.issue_with(|r| r.expires_at_ms = Some(1));
    let answers = [unknown, revoked, expired].map(|key| refused(world.get(&key)));
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
}

#[wasm_bindgen_test(unsupported = test)]
fn layer_7_keeps_a_key_to_its_networks() {
    let mut world = World::new(DEFAULTS);
    let key = world.issue_with(|r| {
        r.allowed_ips = vec!["192.0.2.0/28".parse().unwrap(), "2001:db8::/64".parse().unwrap()];
    });
    for client in ["192.0.2.15", "::ffff:192.0.2.1", "[2001:db8::7]:5000"] {
        passed(world.ask(&Ask { client, ..with(&key) }));
    }
    for client in ["192.0.2.16", "2001:db8:0:1::7", "/run/a.sock"] {
        expect(&mut world, &Ask { client, ..with(&key) }, 403, "ip_denied", "IP_DENIED");
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn layer_8_keeps_a_key_to_its_scope() {
    let mut world =
        World::new(r#"{"version":1,"scopes":[{"path_prefix":"/admin","scope":"admin"}]}"#);
    let read = world.issue(Scope::Read);
    let write = world.issue(Scope::Write);
    let admin = world.issue(Scope::Admin);
    passed(world.get(&read));
    expect(&mut world, &Ask { method: "POST", ..with(&read) }, 403, "scope_denied", "SCOPE_DENIED");
    passed(world.ask(&Ask { method: "POST", ..with(&write) }));
    let at_admin = |key| Ask { path: "/admin/x", ..with(key) };
    expect(&mut world, &at_admin(&write), 403, "scope_denied", "SCOPE_DENIED");
    passed(world.ask(&at_admin(&admin)));
}

#[wasm_bindgen_test(unsupported = test)]
fn an_ambiguous_path_is_refused_before_anything_else() {
    let mut world = World::new(DEFAULTS);
    let key = world.issue(Scope::Admin);
    let ask = Ask { path: "/a%2f..%2fadmin", ..with(&key) };
    expect(&mut world, &ask, 400, "invalid_path", "SECURITY_VIOLATION");
}

#[wasm_bindgen_test(unsupported = test)]
fn a_public_route_needs_no_key_but_is_limited() {
    let mut world = World::new(
        r#"{"version":1,"public":[{"path_prefix":"/open"}],
            "limits":[{"name":"l","per":"address","requests":2,"window_seconds":60},
                      {"name":"k","per":"key","requests":1,"window_seconds":60}]}"#,
    );
    let open = Ask { path: "/open/x", credential: Credential::One(b"\xff"), ..Ask::default() };
    for left in [1, 0] {
        let pass = passed(world.ask(&open));
        assert_eq!((pass.entry, pass.report.unwrap().remaining), (None, left));
    }
    expect(&mut world, &open, 429, "rate_limited", "RATE_LIMITED");
}

#[wasm_bindgen_test(unsupported = test)]
fn credential_problems_can_be_401_and_then_name_the_way_in() {
    let mut world = World::new(r#"{"version":1,"credential_failure_status":401}"#);
    let (test, _) = world.new_key(Environment::Test);
    let unknown = world.unknown_key();
    let revoked = world.issue_with(|r| r.is_active = false);
    for ask in [Ask::default(), with(&test), with("short"), with(&unknown), with(&revoked)] {
        let refusal = refused(world.ask(&ask));
        assert_eq!(refusal.status(), 401);
        assert!(refusal.challenges());
    }
    let read = world.issue(Scope::Read);
    let denied = refused(world.ask(&Ask { method: "POST", ..with(&read) }));
    assert_eq!((denied.status(), denied.challenges()), (403, false));
}

#[wasm_bindgen_test(unsupported = test)]
fn a_shadowed_layer_only_counts_and_logs() {
    let mut world = World::new(
        r#"{"version":1,"shadow":["credential","presence","environment","format","weak_patterns",
            "known","expiry","address","scope","address-get","key","failed_attempts"],
            "limits":[{"name":"address-get","per":"address","requests":1,"window_seconds":60}]}"#,
    );
    let (test, _) = world.new_key(Environment::Test);
    let unknown = world.unknown_key();
    let revoked = world.issue_with(|r| r.is_active = false);
    let foreign = world.issue_with(|r| r.allowed_ips = vec!["10.0.0.0/8".parse().unwrap()]);
    let several = Ask { credential: Credential::Several, ..Ask::default() };
    let asks = [
        several,
        Ask::default(),
        with(&test),
        with("short"),
        with("ThisIsMyCompanyProductionApiKey2024"),
        with(&unknown),
        with(&revoked),
        with(&foreign),
        Ask { method: "POST", ..with(&foreign) },
    ];
    for ask in &asks {
        passed(world.ask(ask));
    }
    let shadowed = world.log.iter().filter(|line| line.ends_with(" shadow=true")).count();
    let confirmed = world.log.iter().filter(|line| line.contains("VALID_API_KEY")).count();
    assert_eq!(shadowed + confirmed, world.log.len(), "{:#?}", world.log);
    for event in [
        "INVALID_FORMAT",
        "MISSING_API_KEY",
        "SECURITY_VIOLATION",
        "INVALID_KEY",
        "REVOKED_KEY",
        "IP_DENIED",
        "SCOPE_DENIED",
        "RATE_LIMITED",
    ] {
        assert!(world.log.iter().any(|line| line.contains(event)), "{event}: {:#?}", world.log);
    }
    world.control_plane.up = false;
    let another = world.unknown_key();
    passed(world.get(&another));
    assert!(world.log.iter().any(|line| line.contains("DB_ERROR")));
}

#[wasm_bindgen_test(unsupported = test)]
fn a_log_line_names_the_client_and_never_the_key() {
    let mut world = World::new(DEFAULTS);
    let key = world.unknown_key();
    world.get(&key);
    let line = world.log.last().unwrap();
    assert!(
        line.contains(&format!(" | client_ip={CLIENT} | timestamp=2026-09-21T14:14:00.000Z | ")),
        "{line}"
    );
    assert!(!line.contains(&key));
    assert!(line.contains(" | key_hash=") && !line.contains("key_hash=-"), "{line}");
}
