//! Keygate beside one application, as `envoy/sidecar.yaml` has it.

use std::time::Duration;

use serde_json::Value;
use tests::{Gate, ReadyFile, fresh_address, unknown_key, within};

#[test]
fn an_application_behind_a_sidecar_is_reached_with_a_key_alone() {
    let gate = Gate::builder()
        .edit_envoy(ReadyFile::new("sidecar.yaml").upstream("application").edit())
        .start();
    let key = gate.admin().key_of_scope("read");
    let get = |path: &str| gate.get(path).client(fresh_address());

    get("/orders").send().assert_problem(403, "missing_api_key");
    get("/orders").key(unknown_key()).send().assert_problem(403, "invalid_api_key");
    assert_eq!(gate.upstream_hits(), 0);
    let forged = get("/orders").key(&key).header("x-keygate-scope", "admin");
    let seen = forged.send().upstream();
    assert_eq!(seen.header("x-keygate-key-id"), [key.id.as_str()]);
    assert_eq!(seen.header("x-keygate-scope"), ["read"]);
    for hidden in ["x-api-key", "x-keygate-client-address"] {
        assert!(seen.header(hidden).is_empty(), "{hidden}: {seen:?}");
    }
    let post = gate.post("/orders").client(fresh_address()).key(&key);
    post.send().assert_problem(403, "scope_denied");

    // The file's own limit and its own public path.
    let answer = get("/orders").key(&key).send();
    assert_eq!(answer.number("x-ratelimit-limit"), 600);
    assert_eq!(get("/healthz").send().status, 200);
    get("/healthzz").send().assert_problem(403, "missing_api_key");

    let mut workers = [0, 1].map(|worker| gate.connect_to_worker(worker));
    for worker in &mut workers {
        assert_eq!(get("/").key(&key).send_on(worker).status, 200);
    }
    gate.admin().revoke(&key.id);
    for worker in &mut workers {
        within(Duration::from_secs(5), "a worker refuses the revoked key", || {
            (get("/").key(&key).send_on(worker).status == 403).then_some(())
        });
    }
    gate.audited("REVOKED_KEY", |row| row["key_id"] == key.id.as_str());
}

#[test]
fn what_the_application_calls_itself_does_not_pass_the_sidecar() {
    let gate = Gate::builder()
        .edit_envoy(ReadyFile::new("sidecar.yaml").upstream("application").edit())
        .start();
    let listeners = gate.stack.envoy.admin_get("/listeners?format=json").unwrap();
    let listeners: Value = serde_json::from_str(&listeners.body).unwrap();
    let names: Vec<_> = listeners["listener_statuses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["inbound"]);
}
