//! A key is never written anywhere in plain text: canaries go through every path there is, then
//! everything that was written or answered is searched for them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use tests::{
    Gate, eventually, fresh_address, key_hash, mistyped, trap_filter, unknown_key, unknown_test_key,
};

/// What a generated key ends with: 32 characters of secret and 6 of checksum.
const SECRET_AND_CHECKSUM: usize = 38;
const CHECKSUM: usize = 6;

/// What must not be found of a key: its secret, as it is and in hex.
fn needles(key: &str) -> [String; 2] {
    let secret = &key[key.len() - SECRET_AND_CHECKSUM..key.len() - CHECKSUM];
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    [secret.to_owned(), hex]
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Everything that is to be searched.
#[derive(Default)]
struct Haystack(Vec<(String, String)>);

impl Haystack {
    fn add(&mut self, name: impl Into<String>, content: impl Into<Vec<u8>>) {
        // What is no UTF-8 is replaced, which leaves all ASCII in its place.
        let content = String::from_utf8_lossy(&content.into()).into_owned();
        self.0.push((name.into(), content));
    }

    fn add_answer(&mut self, name: impl Into<String>, answer: &tests::Answer) {
        let fields = answer.headers.0.iter().flat_map(|(_, value)| [value, &b"\n"[..]].concat());
        self.add(name, fields.chain(answer.body.clone()).collect::<Vec<_>>());
    }

    /// Where one of the needles is.
    fn find(&self, needles: &[String]) -> Vec<&str> {
        let has = |content: &str| needles.iter().any(|needle| content.contains(needle));
        let found = self.0.iter().filter(|(_, content)| has(content));
        found.map(|(name, _)| name.as_str()).collect()
    }
}

/// Sends a canary through the gate, in every place a client may put it. Where the upstream must
/// not see it, its answer is searched as well.
fn through_the_gate(gate: &Gate, key: &str, haystack: &mut Haystack) {
    let half = key.len() / 2;
    let get = |path: &str| gate.get(path).client(fresh_address());
    // Cold and warm, at whichever worker.
    for _ in 0..2 {
        for request in [
            get("/").key(key),
            get("/").key(key),
            get("/").key(key).http2(),
            gate.post("/").client(fresh_address()).key(key),
            // Duplicates, joined ones, bytes and whitespace around it.
            get("/").key(key).key(key),
            get("/").key(key).key(unknown_key()),
            get("/").key(format!("{key},{key}")),
            get("/").key([key.as_bytes(), b"\xff"].concat()),
            get("/").key(format!("Bearer {key}")),
            get("/").key(&key[..half]),
            get("/").key(key.repeat(5)),
            get("/").key(key.to_lowercase()),
            get("/a/..%5Cb").key(key),
        ] {
            let answer = request.send();
            haystack.add_answer(format!("the gate's answer to {}", answer.status), &answer);
            let answer = request.http2().send();
            haystack
                .add_answer(format!("the gate's answer to {} by HTTP/2", answer.status), &answer);
        }
        // In the wrong place: this is the upstream's to see, and nobody's to write down.
        for request in [
            get(&format!("/canary-query?api_key={key}")),
            get(&format!("/canary-query?api_key={key}")).key(key),
            get("/").header("Authorization", format!("Bearer {key}")),
            get("/").header("Cookie", format!("key={key}")).key(key),
            get("/").header("X-Api-Token", key).key(key),
            get("/").header("x_api_key", key),
            get("/").header("X-Request-Id", key),
            get("/").header("User-Agent", key),
            get("/").header("x-keygate-owner", key),
            gate.post("/").client(fresh_address()).key(key).header("Content-Type", "text/plain"),
        ] {
            request.send();
        }
        // A client that puts it where the path stands has it in the access log: the path is
        // what access logs are for. So that is left out here.
    }
}

/// Sends a canary to the control plane, where it is no admin's key, in every place again.
fn to_the_admin_api(gate: &Gate, key: &str, haystack: &mut Haystack) {
    const KEYS: &str = "/api/v1/admin/api-keys/";
    const LOG: &str = "/api/v1/admin/audit-log";
    let admin = gate.admin();
    for (method, path) in
        [("GET", KEYS), ("POST", KEYS), ("GET", LOG), ("DELETE", KEYS), ("GET", "/x")]
    {
        let with_query = format!("{path}?api_key={key}");
        for (place, request) in [
            ("X-API-Key", admin.request(method, path).key(key)),
            ("two X-API-Key", admin.request(method, path).key(key).key(key)),
            ("X-API-Key, joined", admin.request(method, path).key(format!("{key},{key}"))),
            (
                "Authorization",
                admin.request(method, path).header("Authorization", format!("Bearer {key}")),
            ),
            ("X-Request-Id", admin.request(method, path).header("X-Request-Id", key)),
            ("query", admin.request(method, &with_query)),
            ("query and X-API-Key", admin.request(method, &with_query).key(key)),
        ] {
            haystack
                .add_answer(format!("{method} {path} with the canary in {place}"), &request.send());
        }
    }
    // An administrator who mixes things up.
    for path in [
        format!("{KEYS}{key}"),
        format!("{KEYS}?cursor={key}"),
        format!("{KEYS}?{key}=1"),
        format!("{LOG}?event={key}"),
        format!("{LOG}?key_id={key}"),
        format!("{LOG}?cursor={key}"),
        format!("{LOG}?limit={key}"),
        format!("/{key}"),
    ] {
        for method in ["GET", "DELETE"] {
            let answer = admin.call(method, &path, None);
            assert!(answer.status >= 400, "{method} {path}: {answer:?}");
            haystack.add_answer(format!("an admin's {method} {}", path.replace(key, "…")), &answer);
        }
    }
    for body in [
        json!(key),
        json!({"name": "x", "scope": key}),
        json!({"name": "x", "environment": key}),
        json!({"name": "x", "expires_at": key}),
        json!({"name": "x", "allowed_ips": [key]}),
        json!({"name": "x", "metadata": key}),
        json!({"name": "x", "rate_limit": key}),
        json!({"name": "x", key: 1}),
        json!({"name": "x", "api_key": key}),
    ] {
        let answer = admin.call("POST", KEYS, Some(&body));
        assert!(answer.status >= 400, "{body}: {answer:?}");
        haystack.add_answer(format!("POST {KEYS} of {}", shape(&body)), &answer);
    }
}

/// A body's fields, for messages.
fn shape(body: &serde_json::Value) -> String {
    let names = body.as_object().into_iter().flat_map(|fields| fields.keys());
    names
        .map(|name| if name.len() > 20 { "the canary" } else { name })
        .collect::<Vec<_>>()
        .join(", ")
}

/// Sends a canary to the edge API, as a filter, as a broken one, and as nobody.
fn to_the_edge_api(gate: &Gate, key: &str, haystack: &mut Haystack) {
    let edge = gate.stack.control_plane.edge_address();
    let token = &gate.stack.options().control_plane_env["KEYGATE_EDGE_TOKEN"];
    let good = json!({"key": key}).to_string();
    for authorization in
        [format!("Bearer {token}"), format!("Bearer {key}"), format!("Basic {key}")]
    {
        for (method, path, body) in [
            ("POST", "/edge/v1/verify".to_owned(), good.as_str()),
            ("POST", "/edge/v1/verify".to_owned(), &good[..good.len() - 1]),
            ("POST", "/edge/v1/verify".to_owned(), key),
            ("POST", "/edge/v1/events".to_owned(), good.as_str()),
            ("POST", "/edge/v1/events".to_owned(), key),
            ("GET", format!("/edge/v1/changes?epoch={key}"), ""),
            ("GET", format!("/edge/v1/changes?since={key}"), ""),
            ("GET", format!("/edge/v1/{key}"), ""),
        ] {
            let answer = tests::Request::new(edge, method, &path)
                .header("Authorization", &authorization)
                .header("Content-Type", "application/json")
                .header("Content-Length", body.len().to_string())
                .body(body)
                .send();
            haystack.add_answer(
                format!("{method} {} on the edge API", path.replace(key, "…")),
                &answer,
            );
        }
    }
}

#[test]
fn no_key_is_found_in_anything_that_is_written_or_answered() {
    let mut gate = Gate::builder()
        .filter(trap_filter())
        .config(json!({
            "environment": "production",
            "limits": [],
            "failed_attempts": {"requests": 1_000_000},
            "audit": {"success": "all"},
        }))
        .env("KEYGATE_LOG", "debug")
        // All that the filter says. Envoy's own `http` component prints whole requests at this
        // level, headers included: whoever switches that on asks for them.
        .envoy_arg("--component-log-level")
        .envoy_arg("wasm:debug,upstream:info")
        .start();
    let mut haystack = Haystack::default();
    let admin = gate.admin();
    let keygate = gate.stack.control_plane.keygate();
    let by_api =
        admin.create_key(json!({"scope": "write", "owner": "canary", "metadata": {"a": 1}}));
    let create = ["keys", "create", "--name", "canary", "--scope", "read"];
    let by_cli = keygate.run_json(&[&create[..], &["--json"]].concat()).unwrap();
    let by_cli = by_cli["api_key"].as_str().unwrap().to_owned();
    let shown = keygate.run(&create).unwrap();
    let shown = shown.split_whitespace().find(|word| word.starts_with("kg_live_")).unwrap();
    let expired = admin.expired_key(json!({"scope": "read"})).text;
    let revoked = admin.key_of_scope("write");
    let test_key = admin.create_key(json!({"scope": "read", "environment": "test"})).text;
    // A secret that the command line has just shown, and an admin's own: their holders use them.
    let mut canaries = vec![
        by_api.text.clone(),
        by_cli,
        shown.to_owned(),
        expired,
        test_key,
        unknown_key(),
        unknown_test_key(),
        mistyped(&unknown_key()),
    ];
    through_the_gate(&gate, &revoked.text, &mut haystack);
    admin.revoke(&revoked.id);
    canaries.push(revoked.text.clone());
    for canary in &canaries {
        through_the_gate(&gate, canary, &mut haystack);
        to_the_admin_api(&gate, canary, &mut haystack);
        to_the_edge_api(&gate, canary, &mut haystack);
    }
    // The VM crashes with a canary in its hands, and while it waits for an answer about one.
    for canary in &canaries {
        let trapping = gate.get("/").key(canary).client(fresh_address());
        let answer = trapping.header("x-keygate-trap", "1").send();
        assert_eq!(answer.status, 503, "{answer:?}");
        haystack.add_answer("the answer of a crash", &answer);
    }
    // The control plane is gone, then back.
    gate.stack.control_plane.process_mut().kill().unwrap();
    for canary in &canaries {
        haystack.add_answer(
            "an answer in an outage",
            &gate.get("/").key(canary).client(fresh_address()).send(),
        );
    }
    gate.stack.control_plane.restart().unwrap();
    eventually("keys can be told again", || {
        let answer = gate.get("/").key(&by_api).client(fresh_address()).send();
        (answer.status == 200).then_some(())
    });
    canaries.push(gate.admin_key().to_owned());
    let used = key_hash(&by_api.text);
    gate.audited("VALID_API_KEY", |row| row["key_hash"] == used.as_str());

    // Whatever can be read of the running system.
    for path in [
        "/config_dump?include_eds",
        "/stats",
        "/stats/prometheus",
        "/clusters",
        "/listeners",
        "/server_info",
        "/memory",
        "/init_dump",
        "/certs",
        "/runtime",
    ] {
        let answer = gate.stack.envoy.admin_get(path).unwrap();
        haystack.add(format!("Envoy's {path}"), answer.body);
    }
    haystack.add("the audit log by the API", json!(admin.audit_log()).to_string());
    haystack.add("the keys by the API", json!(admin.keys()).to_string());
    haystack.add("a key by the API", admin.get_key(&by_api.id).to_string());
    for path in ["/metrics", "/health", "/livez", "/readyz"] {
        haystack.add_answer(path, &admin.request("GET", path).send());
    }
    for command in [
        &["keys", "list"][..],
        &["keys", "list", "--json"],
        &["keys", "show", &by_api.id],
        &["keys", "show", &by_api.id, "--json"],
        &["audit", "list", "--limit", "100000"],
        &["audit", "list", "--limit", "100000", "--json"],
    ] {
        haystack.add(format!("keygate {}", command.join(" ")), keygate.run(command).unwrap());
    }
    gate.stack.envoy.process_mut().stop().unwrap();
    let before_end = files(gate.dir());
    for file in before_end {
        haystack.add(format!("{} while it runs", file.display()), fs::read(&file).unwrap());
    }
    gate.stack.control_plane.process_mut().stop().unwrap();
    for file in files(gate.dir()) {
        haystack.add(file.display().to_string(), fs::read(&file).unwrap());
    }

    // The search finds what is there: the canary's hash in both logs and in the database, the
    // path of the query in the access log.
    let found = |text: &str| haystack.find(&[text.to_owned()]).join("\n");
    for place in ["keygate.db", "logs/envoy.log", "audit log by the API", "audit list"] {
        assert!(found(&used).contains(place), "{place} is not in {}", found(&used));
    }
    assert!(found(&key_hash(&revoked.text)).contains("logs/control-plane.log"));
    assert!(found("/canary-query").contains("logs/envoy-access.log"));
    assert!(!found("api_key=kg_").contains("logs/"));
    assert!(found("wasm log").contains("logs/envoy.log"));

    for canary in &canaries {
        let found = haystack.find(&needles(canary));
        assert!(found.is_empty(), "a key is in {found:#?}");
    }
    // Nor are the two secrets of the deployment, but in the one file that Envoy reads.
    for name in ["KEYGATE_EDGE_TOKEN", "KEYGATE_SECRET_KEY"] {
        let secret = gate.stack.options().control_plane_env[name].clone();
        let mut found = haystack.find(&[secret]);
        found.retain(|place| !place.contains("envoy/edge_token"));
        assert!(found.is_empty(), "{name} is in {found:#?}");
    }
}
