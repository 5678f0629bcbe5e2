//! Every row of the layers' table: its answer, its event in the audit log, its log line.

use serde_json::{Value, json};
use tests::http::Request;
use tests::{
    Gate, Key, eventually, fresh_address, key_hash, key_with_secret, mistyped, unknown_key,
    unknown_test_key,
};

/// A key of an address list that no test's client is on.
const ELSEWHERE: &str = "203.0.113.0/24";
/// A day: no test lasts until a window of it ends, but for one a day.
const DAY: u32 = 86_400;

/// What a request comes to.
struct Row {
    what: &'static str,
    request: Request,
    /// What the log calls the key, where it names one.
    hash: Option<String>,
    key_id: Option<String>,
    answer: (u16, &'static str),
    event: &'static str,
    details: &'static str,
}

#[test]
fn every_layer_refuses_with_its_answer_its_event_and_its_log_line() {
    let gate = production_gate();
    let keys = Keys::make(&gate);
    let mut addresses = Vec::new();
    for row in rows(&gate, &keys) {
        let address = fresh_address();
        let hits = gate.upstream_hits();
        let answer = row.request.clone().client(&address).send();
        println!("{}: {answer:?}", row.what);
        answer.assert_problem(row.answer.0, row.answer.1);
        assert!(answer.headers.all("www-authenticate").is_empty(), "{}: {answer:?}", row.what);
        assert_eq!(gate.upstream_hits(), hits, "{}: the upstream was asked", row.what);
        addresses.push((address, row));
    }
    for (address, row) in addresses {
        assert_recorded(&gate, &address, &row);
    }
}

#[test]
fn an_accepted_key_is_recorded_once_it_is_first_seen() {
    let gate = production_gate();
    let key = gate.admin().key_of_scope("read");
    let address = fresh_address();
    gate.get("/").key(&key).client(&address).send().upstream();
    let row = gate.audited("VALID_API_KEY", |row| row["key_id"] == key.id.as_str());
    assert_eq!((&row["client_ip"], &row["shadow"]), (&json!(address), &json!(false)));
    assert_eq!(row["key_hash"], key_hash(&key));
    let hash = format!("key_hash={}", key_hash(&key));
    gate.logged(&["API_KEY_SECURITY_EVENT: VALID_API_KEY | ", &hash, &address]);
}

#[test]
fn too_many_requests_are_refused_with_the_time_to_come_back() {
    let gate = Gate::builder()
        .config(json!({
            "limits": [{"name": "few", "per": "address", "requests": 2, "window_seconds": DAY}],
            "failed_attempts": {"requests": 2, "window_seconds": DAY},
        }))
        .start();
    let key = gate.admin().key_of_scope("read");
    let own = json!({"rate_limit": {"requests": 1, "window_seconds": DAY}});
    let limited = gate.admin().create_key(own);
    let recorded = |address: &str, key: &dyn AsRef<[u8]>, details: &str| {
        let row = gate.audited("RATE_LIMITED", |row| row["client_ip"] == address);
        assert_eq!((&row["details"], &row["shadow"]), (&json!(details), &json!(false)));
        assert_eq!(row["key_hash"], key_hash(key));
        gate.logged(&[
            "API_KEY_SECURITY_EVENT: RATE_LIMITED | ",
            &row_hash(&row),
            address,
            details,
        ]);
    };

    let busy = fresh_address();
    for _ in 0..2 {
        gate.get("/").key(&key).client(&busy).send().upstream();
    }
    let answer = gate.get("/").key(&key).client(&busy).send();
    answer.assert_problem(429, "rate_limited");
    assert!((1..=u64::from(DAY)).contains(&answer.number("retry-after")), "{answer:?}");
    recorded(&busy, &key, "limit=few");

    gate.get("/").key(&limited).client(fresh_address()).send().upstream();
    let address = fresh_address();
    let answer = gate.get("/").key(&limited).client(&address).send();
    answer.assert_problem(429, "rate_limited");
    recorded(&address, &limited, "limit=key");

    let guessing = fresh_address();
    for _ in 0..2 {
        let guess = gate.get("/").key(unknown_key()).client(&guessing).send();
        guess.assert_problem(403, "invalid_api_key");
    }
    let guess = unknown_key();
    let answer = gate.get("/").key(&guess).client(&guessing).send();
    answer.assert_problem(429, "too_many_failed_attempts");
    assert!((1..=u64::from(DAY)).contains(&answer.number("retry-after")), "{answer:?}");
    recorded(&guessing, &guess, "limit=failed_attempts");
}

#[test]
fn nobody_can_tell_an_unknown_key_from_a_wrong_a_revoked_or_an_expired_one() {
    let gate = production_gate();
    let keys = Keys::make(&gate);
    let other = gate.admin().key_of_scope("read");
    let wrong = key_of_id(&other.id);
    let candidates: [(&str, &[u8]); 4] = [
        ("unknown", &unknown_key().into_bytes()),
        ("wrong", wrong.as_bytes()),
        ("revoked", keys.revoked.as_ref()),
        ("expired", keys.expired.as_ref()),
    ];
    let mut first = None;
    // On either worker, first when the gate does not know them and then when it does.
    for worker in [0, 1] {
        let mut connection = gate.connect_to_worker(worker);
        for round in ["cold", "warm"] {
            for (what, key) in candidates {
                let request = gate.get("/a").key(key).client(fresh_address());
                let answer = request.send_on(&mut connection);
                answer.assert_problem(403, "invalid_api_key");
                let seen = (answer.status, answer.headers.0.len(), answer.headers.comparable());
                let seen = (seen, answer.body.clone());
                let expected = first.get_or_insert_with(|| seen.clone());
                assert_eq!(&seen, expected, "{what}, {round}, worker {worker}");
            }
        }
    }
    let by_http2: Vec<_> = candidates
        .iter()
        .map(|(_, key)| gate.get("/a").key(key).client(fresh_address()).http2().send())
        .map(|answer| (answer.status, answer.headers.comparable(), answer.body))
        .collect();
    assert!(by_http2.iter().all(|answer| *answer == by_http2[0]), "{by_http2:?}");
    // The audit log does tell.
    gate.audited("REVOKED_KEY", |row| row["key_id"] == keys.revoked.id.as_str());
    gate.audited("EXPIRED_KEY", |row| row["key_id"] == keys.expired.id.as_str());
    gate.audited("INVALID_KEY", |row| row["key_hash"] == key_hash(&wrong));
}

#[test]
fn with_401_configured_bad_credentials_are_challenged_and_nothing_else_is() {
    let gate = Gate::builder()
        .config(json!({"environment": "production", "credential_failure_status": 401}))
        .start();
    let keys = Keys::make(&gate);
    for row in rows(&gate, &keys) {
        let answer = row.request.client(fresh_address()).send();
        let is_credential = !["ip_denied", "scope_denied"].contains(&row.answer.1);
        if row.answer.0 == 403 && is_credential {
            answer.assert_problem(401, row.answer.1);
            let challenge = answer.header("www-authenticate");
            assert_eq!(challenge.as_deref(), Some(r#"ApiKey realm="keygate""#), "{}", row.what);
        } else {
            answer.assert_problem(row.answer.0, row.answer.1);
            assert_eq!(answer.header("www-authenticate"), None, "{}", row.what);
        }
    }
}

#[test]
fn a_layer_in_shadow_mode_lets_pass_what_it_would_refuse_and_says_so() {
    let gate = Gate::builder()
        .config(json!({
            "environment": "production",
            "limits": [{"name": "few", "per": "address", "requests": 1, "window_seconds": DAY}],
            "failed_attempts": {"requests": 1, "window_seconds": DAY},
            "shadow": ["credential", "presence", "environment", "format", "weak_patterns", "known",
                       "expiry", "address", "scope", "failed_attempts", "key", "few"],
        }))
        .start();
    let keys = Keys::make(&gate);
    let shadowed = || gate.stat("wasmcustom.keygate.shadow.would_refuse");
    let mut would_refuse = 0;
    for row in rows(&gate, &keys) {
        if row.answer.1 == "invalid_path" {
            // No layer: the path would mean one thing to the rules and another to the upstream.
            continue;
        }
        let address = fresh_address();
        println!("{}", row.what);
        let seen = row.request.clone().client(&address).send().upstream();
        assert!(seen.header("x-api-key").is_empty(), "{}: {seen:?}", row.what);
        let entry = gate.audited(row.event, |entry| entry["client_ip"] == address.as_str());
        assert_eq!(entry["shadow"], true, "{}: {entry}", row.what);
        let event = format!("API_KEY_SECURITY_EVENT: {} | ", row.event);
        gate.logged(&[&event, &address, "shadow=true"]);
        would_refuse += 1;
        eventually("the would-be refusal is counted", || {
            (shadowed() >= would_refuse).then_some(())
        });
        would_refuse = shadowed();
    }
    let busy = fresh_address();
    for _ in 0..3 {
        gate.get("/").key(&keys.read).client(&busy).send().upstream();
    }
    let entry = gate.audited("RATE_LIMITED", |entry| entry["client_ip"] == busy.as_str());
    assert_eq!((&entry["shadow"], &entry["details"]), (&json!(true), &json!("limit=few")));
    let refused = gate.stats().into_iter().filter(|(name, n)| name.contains("refused.") && *n > 0);
    assert_eq!(refused.collect::<Vec<_>>(), []);
}

#[test]
fn a_public_route_needs_no_key_and_is_limited_all_the_same() {
    let gate = Gate::builder()
        .config(json!({
            "public": [{"methods": ["GET"], "path_prefix": "/open"}],
            "limits": [{"name": "few", "per": "address", "requests": 3, "window_seconds": DAY}],
        }))
        .start();
    let address = fresh_address();
    gate.get("/open").client(&address).send().upstream();
    gate.get("/open/deeper?a=b").key("not a key").client(&address).send().upstream();
    // The limit counts what passes; a refusal is none of it.
    gate.get("/opened").client(&address).send().assert_problem(403, "missing_api_key");
    gate.post("/open").client(&address).send().assert_problem(403, "missing_api_key");
    let last = gate.get("/open").client(&address).send();
    assert_eq!(last.number("x-ratelimit-remaining"), 0);
    gate.get("/open").client(&address).send().assert_problem(429, "rate_limited");
}

#[test]
fn a_key_that_cannot_be_checked_is_refused_for_now_and_a_known_one_still_passes() {
    let mut gate = production_gate();
    let (known, cold) = (gate.admin().key_of_scope("read"), gate.admin().key_of_scope("read"));
    let mut workers = [0, 1].map(|worker| gate.connect_to_worker(worker));
    for connection in &mut workers {
        gate.get("/").key(&known).client(fresh_address()).send_on(connection).upstream();
    }
    gate.stack.control_plane.process_mut().kill().unwrap();
    let mut asked = Vec::new();
    for connection in &mut workers {
        for _ in 0..2 {
            let address = fresh_address();
            let answer = gate.get("/").key(&cold).client(&address).send_on(connection);
            answer.assert_problem(503, "temporarily_unavailable");
            assert_eq!(answer.number("retry-after"), 1);
            asked.push(address);
        }
        gate.get("/").key(&known).client(fresh_address()).send_on(connection).upstream();
        // What needs no look is refused as ever.
        let typo = gate.get("/").key(mistyped(&cold.text)).client(fresh_address());
        typo.send_on(connection).assert_problem(403, "invalid_format");
    }
    for address in &asked {
        gate.logged(&["API_KEY_SECURITY_EVENT: DB_ERROR | ", &key_hash(&cold), address]);
    }
    gate.stack.control_plane.restart().unwrap();
    for connection in &mut workers {
        eventually("the key passes once it can be checked", || {
            let answer = gate.get("/").key(&cold).client(fresh_address()).send_on(connection);
            (answer.status == 200).then_some(())
        });
    }
    // What happened meanwhile reaches the audit log when it can.
    for address in &asked {
        gate.audited("DB_ERROR", |row| row["client_ip"] == address.as_str());
    }
}

fn production_gate() -> Gate {
    Gate::builder().config(json!({"environment": "production"})).start()
}

/// Keys of every kind that layers 6 to 8 look at.
struct Keys {
    read: Key,
    test: Key,
    revoked: Key,
    expired: Key,
    elsewhere: Key,
}

impl Keys {
    fn make(gate: &Gate) -> Self {
        let admin = gate.admin();
        let expired = admin.expired_key(json!({}));
        let revoked = admin.key_of_scope("write");
        admin.revoke(&revoked.id);
        Self {
            read: admin.key_of_scope("read"),
            test: admin.create_key(json!({"environment": "test"})),
            revoked,
            expired,
            elsewhere: admin.create_key(json!({"allowed_ips": [ELSEWHERE]})),
        }
    }
}

fn rows(gate: &Gate, keys: &Keys) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |what, request, answer, event, details| {
        let row = Row { what, request, hash: None, key_id: None, answer, event, details };
        rows.push(row);
        rows.len() - 1
    };
    let get = || gate.get("/");
    let two = get().key(&keys.read).key(&keys.read);
    let malformed = (400, "invalid_format");
    let format = (403, "invalid_format");
    let violation = "SECURITY_VIOLATION";
    let several = "reason=several_api_key_headers";
    row("0: two keys", two, malformed, "INVALID_FORMAT", several);
    let two = get().key(&keys.read).key(unknown_key()).http2();
    row("0: two keys by HTTP/2", two, malformed, "INVALID_FORMAT", several);
    let path = gate.get("/a;b/%2e%2e;c/d").key(&keys.read);
    row(
        "0: a path of two meanings",
        path,
        (400, "invalid_path"),
        violation,
        "reason=ambiguous_path",
    );
    row(
        "1: no key",
        get(),
        (403, "missing_api_key"),
        "MISSING_API_KEY",
        "reason=no_api_key_header",
    );
    let empty = get().key("");
    row("1: nothing in it", empty, (403, "missing_api_key"), "MISSING_API_KEY", "reason=");

    let mut keyed = |what, key: &[u8], id: Option<&Key>, answer, event, details| {
        rows.push(Row {
            what,
            request: gate.get("/").key(key),
            // A value of absurd length is not even hashed.
            hash: (key.len() <= 256).then(|| key_hash(key)),
            key_id: id.map(|key| key.id.clone()),
            answer,
            event,
            details,
        });
    };
    let joined = format!("{},{}", keys.read.text, keys.read.text);
    let long = "aB3".repeat(100);
    let high = [keys.read.text.as_bytes(), b"\xff\xfe"].concat();
    let text = |key: &str| key.as_bytes().to_vec();
    let wrong = "INVALID_FORMAT";
    keyed("0: two in one", joined.as_bytes(), None, malformed, wrong, "reason=");
    keyed("0: no ASCII", &high, None, malformed, wrong, "reason=");
    keyed("0: over-long", long.as_bytes(), None, malformed, wrong, "reason=too_long");
    let refused = (403, "test_key_refused");
    let in_production = "reason=test_key_in_production";
    keyed("2: a test key", keys.test.as_ref(), None, refused, violation, in_production);
    let made_up = unknown_test_key();
    keyed("2: a made-up test key", made_up.as_bytes(), None, refused, violation, in_production);
    keyed("3: a typo", &text(&mistyped(&keys.read.text)), None, format, wrong, "reason=");
    keyed("3: too short", b"aB3-short", None, format, wrong, "reason=");
    let plain = "qzjvkxwpymhdgcnbtfrlsaeuioqzjvkxwp";
    keyed("3: too few kinds", plain.as_bytes(), None, format, wrong, "reason=");
    let dull = "Aa1Aa1Aa1Aa1Aa1Aa1Aa1Aa1Aa1Aa1Aa1Aa1";
    keyed("3: too little entropy", dull.as_bytes(), None, format, wrong, "reason=");
    let weak = key_with_secret("ThisIsMyCompanyProductionKey2024");
    keyed("4: words", weak.as_bytes(), None, format, wrong, "reason=weak_");
    let walk = "qwertyuiopasdfghjklzxcvbnm123456A";
    keyed("4: a keyboard walk", walk.as_bytes(), None, format, wrong, "reason=weak_");
    let invalid = (403, "invalid_api_key");
    keyed("5: unknown", unknown_key().as_bytes(), None, invalid, "INVALID_KEY", "reason=unknown");
    let (old, gone) = (&keys.expired, &keys.revoked);
    keyed("6: expired", old.as_ref(), Some(old), invalid, "EXPIRED_KEY", "reason=expired");
    keyed("6: revoked", gone.as_ref(), Some(gone), invalid, "REVOKED_KEY", "reason=revoked");
    let far = &keys.elsewhere;
    let reason = "reason=address_not_in_allowed_ips";
    keyed("7: elsewhere", far.as_ref(), Some(far), (403, "ip_denied"), "IP_DENIED", reason);
    rows.push(Row {
        what: "8: scope",
        request: gate.post("/").key(&keys.read),
        hash: Some(key_hash(&keys.read)),
        key_id: Some(keys.read.id.clone()),
        answer: (403, "scope_denied"),
        event: "SCOPE_DENIED",
        details: "reason=scope_not_sufficient",
    });
    rows
}

/// The event is in the audit log, and its line in Envoy's log, in the form of the design.
fn assert_recorded(gate: &Gate, address: &str, row: &Row) {
    let entry = gate.audited(row.event, |entry| entry["client_ip"] == address);
    println!("{}: {entry}", row.what);
    assert_eq!(entry["key_hash"], json!(row.hash), "{}", row.what);
    assert_eq!(entry["key_id"], json!(row.key_id), "{}", row.what);
    assert_eq!(entry["shadow"], false, "{}", row.what);
    let details = entry["details"].as_str().unwrap();
    assert!(details.starts_with(row.details), "{}: {details}", row.what);
    let event = format!("API_KEY_SECURITY_EVENT: {} | ", row.event);
    let line = gate.logged(&[&event, &format!("client_ip={address} |")]);
    let line = &line[line.find("API_KEY_SECURITY_EVENT").unwrap()..];
    let parts: Vec<_> = line.split(" | ").collect();
    assert_eq!(parts.len(), 5, "{line}");
    assert_eq!(parts[0], format!("API_KEY_SECURITY_EVENT: {}", row.event));
    assert_eq!(parts[1], row_hash(&entry));
    assert_eq!(parts[2], format!("client_ip={address}"));
    let time = parts[3].strip_prefix("timestamp=").unwrap();
    assert!(time.len() == 24 && time.ends_with('Z') && time.contains('T'), "{line}");
    let (told, id) = parts[4].split_once(" request_id=").expect("the request's id");
    assert_eq!(told, format!("details={details}"));
    assert_eq!(id.trim_end().len(), 36, "{line}");
}

fn row_hash(entry: &Value) -> String {
    format!("key_hash={}", entry["key_hash"].as_str().unwrap_or("-"))
}

/// A well-formed key of a known id with a secret that is not its own.
fn key_of_id(id: &str) -> String {
    let other = unknown_key();
    let secret = &other.rsplit('_').next().unwrap()[..32];
    let body = format!("kg_live_{id}_{secret}");
    format!("{body}{}", String::from_utf8_lossy(&key_policy::checksum(body.as_bytes())))
}
