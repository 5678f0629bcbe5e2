//! What the upstream learns about a request, and what it never sees.

use serde_json::json;
use tests::http::{Request, Seen};
use tests::{Gate, Key, fresh_address};

/// Copies of the gate's own words, as a client would send them to be taken for somebody else.
const FORGED: [(&str, &str); 7] = [
    ("x-keygate-key-id", "0000000000000000"),
    ("X-Keygate-Scope", "admin"),
    ("x-KeyGate-OWNER", "mallory"),
    ("x-keygate-owner", "mallory again"),
    ("x-keygate-foo", "bar"),
    ("X-KEYGATE-Client-Address", "192.0.2.66"),
    ("x-keygate-edge", "1"),
];

#[test]
fn the_upstream_learns_from_the_gate_alone_who_calls() {
    let gate = Gate::start();
    let admin = gate.admin();
    let owned = |scope: &str| admin.create_key(json!({"scope": scope, "owner": "Alice & Co"}));
    for scope in ["read", "write", "admin"] {
        let key = owned(scope);
        // The first request of a key has to wait for an answer about it; the others have not.
        for request in [gate.get("/a").key(&key), gate.get("/a").key(&key).http2()] {
            let seen = forging(request).client(fresh_address()).send().upstream();
            assert_eq!(own_headers(&seen), of_gate(&key, scope, Some("Alice & Co")), "{seen:?}");
            assert_eq!(seen.header("x-api-key"), [""; 0]);
        }
    }
    let nobodys = admin.key_of_scope("read");
    for _ in ["cold", "warm"] {
        let seen = forging(gate.get("/a").key(&nobodys)).send().upstream();
        assert_eq!(own_headers(&seen), of_gate(&nobodys, "read", None), "{seen:?}");
    }
}

#[test]
fn many_requests_that_wait_for_one_answer_each_get_the_right_identity() {
    let gate = Gate::start();
    let keys: Vec<_> = ["alice", "bob", "carol"]
        .iter()
        .map(|owner| gate.admin().create_key(json!({"scope": "read", "owner": owner})))
        .collect();
    std::thread::scope(|scope| {
        for n in 0..24 {
            let key = &keys[n % keys.len()];
            let request = forging(gate.get("/").key(key).client(fresh_address()));
            scope.spawn(move || {
                let seen = request.send().upstream();
                let owner = key.view["owner"].as_str();
                assert_eq!(own_headers(&seen), of_gate(key, "read", owner), "{seen:?}");
                assert_eq!(seen.header("x-api-key"), [""; 0]);
            });
        }
    });
}

#[test]
fn on_a_public_route_nobody_is_introduced_and_nothing_forged_or_secret_passes() {
    let gate = Gate::builder().config(json!({"public": [{"path_prefix": "/open"}]})).start();
    let key = gate.admin().key_of_scope("write");
    // A key that the gate knows is not looked at either.
    gate.get("/").key(&key).send().upstream();
    for request in [
        gate.get("/open"),
        gate.get("/open").key(&key),
        gate.get("/open").key("no key at all"),
        gate.get("/open").key(&key).key(&key),
        gate.get("/open").header("x-aPi-kEY", &key),
        gate.get("/open").key(&key).http2(),
        gate.post("/open").key(&key),
    ] {
        let seen = forging(request).send().upstream();
        assert_eq!(own_headers(&seen), [], "{seen:?}");
        assert_eq!(seen.header("x-api-key"), [""; 0], "{seen:?}");
    }
}

#[test]
fn the_upstream_sees_the_key_only_where_that_is_configured() {
    let gate = Gate::builder()
        .config(json!({
            "credential": {"header": "X-My-Key", "forward": true},
            "public": [{"path_prefix": "/open"}],
        }))
        .start();
    let key = gate.admin().create_key(json!({"owner": "alice"}));
    for _ in ["cold", "warm"] {
        let request = gate.get("/").header("x-my-KEY", &key).header("X-API-Key", "another's");
        let seen = forging(request).send().upstream();
        assert_eq!(seen.header("x-my-key"), [key.text.as_str()], "{seen:?}");
        // It is not the credential here, just a header.
        assert_eq!(seen.header("x-api-key"), ["another's"]);
        assert_eq!(own_headers(&seen), of_gate(&key, "read", Some("alice")), "{seen:?}");
    }
    let seen = forging(gate.get("/open").header("x-my-key", &key)).send().upstream();
    assert_eq!(seen.header("x-my-key"), [key.text.as_str()], "{seen:?}");
    assert_eq!(own_headers(&seen), [], "{seen:?}");
    gate.get("/").key(&key).send().assert_problem(403, "missing_api_key");
}

fn forging(request: Request) -> Request {
    FORGED.iter().fold(request, |request, (name, value)| request.header(name, value))
}

/// What reached the upstream under the gate's prefix.
fn own_headers(seen: &Seen) -> Vec<(String, Vec<String>)> {
    let names = seen.header_names().into_iter();
    let own = names.filter(|name| name.replace('_', "-").starts_with("x-keygate-"));
    own.map(|name| (name.clone(), seen.header(&name))).collect()
}

fn of_gate(key: &Key, scope: &str, owner: Option<&str>) -> Vec<(String, Vec<String>)> {
    let header = |name: &str, value: &str| (format!("x-keygate-{name}"), vec![value.to_owned()]);
    let mut headers = vec![header("key-id", &key.id)];
    headers.extend(owner.map(|owner| header("owner", owner)));
    headers.push(header("scope", scope));
    headers
}
