//! Keygate before several services, as `envoy/gateway.yaml` has it.

use std::time::Duration;

use serde_json::json;
use tests::{Gate, Key, ReadyFile, Request, fresh_address, wait_for_room_in_window_of, within};
use xtask::stack::EchoServer;

const DAY: u64 = 86_400;

struct Gateway {
    gate: Gate,
    website: EchoServer,
    catalog: EchoServer,
    reports: EchoServer,
}

impl Gateway {
    fn start() -> Self {
        let [website, catalog, reports] = [(); 3].map(|()| EchoServer::start(0).unwrap());
        // Its limits as they are, but in windows that do not end while the test runs.
        wait_for_room_in_window_of(DAY, 300);
        let file = EdgeLimits::of_file();
        let ready = ReadyFile::new("gateway.yaml")
            .upstream("orders")
            .upstream_at("website", website.address())
            .upstream_at("catalog", catalog.address())
            .upstream_at("reports", reports.address())
            .filter(json!({"limits": file.in_days()}));
        let gate = Gate::builder().edit_envoy(ready.edit()).start();
        Self { gate, website, catalog, reports }
    }

    fn get(&self, path: &str) -> Request {
        self.gate.get(path).client(fresh_address())
    }

    fn post(&self, path: &str) -> Request {
        self.gate.post(path).client(fresh_address())
    }

    fn keys(&self) -> [Key; 3] {
        ["read", "write", "admin"].map(|scope| self.gate.admin().key_of_scope(scope))
    }
}

struct EdgeLimits(serde_json::Value);

impl EdgeLimits {
    fn of_file() -> Self {
        let file = xtask::workspace::root().join("envoy/gateway.yaml");
        let mut config = xtask::edge_config::EdgeConfig::read(&file).unwrap();
        Self(config.filter_configuration().unwrap()["limits"].take())
    }

    fn in_days(mut self) -> serde_json::Value {
        for limit in self.0.as_array_mut().unwrap() {
            limit["window_seconds"] = DAY.into();
        }
        self.0
    }
}

#[test]
fn each_route_asks_for_what_it_is_said_to_and_leads_to_its_service() {
    let it = Gateway::start();
    let [read, write, admin] = it.keys();

    // For anybody, and the filter does not run: the route takes away what it would have.
    let seen = it
        .get("/docs/start")
        .key(&read)
        .header("x-keygate-scope", "admin")
        .header("x-keygate-key-id", "0000000000000000")
        .send()
        .upstream();
    assert_eq!((seen.path(), it.website.hits()), ("/docs/start", 1));
    for hidden in ["x-api-key", "x-keygate-scope", "x-keygate-key-id", "x-keygate-client-address"] {
        assert!(seen.header(hidden).is_empty(), "{hidden}: {seen:?}");
    }
    // Anybody, and the filter counts.
    let answer = it.get("/catalog/1").header("x-keygate-scope", "admin").send();
    assert_eq!(answer.number("x-ratelimit-limit"), 300);
    assert!(answer.upstream().header("x-keygate-scope").is_empty());
    assert!(it.get("/catalog/1").key(&read).send().upstream().header("x-api-key").is_empty());
    assert_eq!(it.catalog.hits(), 2);
    it.post("/catalog/1").send().assert_problem(403, "missing_api_key");
    it.post("/catalog/1").key(&read).send().assert_problem(403, "scope_denied");
    assert_eq!(it.post("/catalog/1").key(&write).send().status, 200);

    it.get("/orders").send().assert_problem(403, "missing_api_key");
    let seen = it.get("/orders").key(&read).send().upstream();
    assert_eq!(seen.header("x-keygate-key-id"), [read.id.as_str()]);
    it.post("/orders").key(&read).send().assert_problem(403, "scope_denied");
    assert_eq!(it.post("/orders").key(&write).send().status, 200);
    assert_eq!(it.gate.upstream_hits(), 2);

    it.get("/reports/1").key(&write).send().assert_problem(403, "scope_denied");
    assert_eq!(it.get("/reports/1").key(&admin).send().status, 200);
    assert_eq!(it.reports.hits(), 1);

    // Without a key nobody learns which paths there are.
    it.get("/nothing").send().assert_problem(403, "missing_api_key");
    assert_eq!(it.get("/nothing").key(&read).send().status, 404);
    // Nor is there a way around through what is public.
    for path in ["/docs/../orders", "/docs/%2e%2e/orders", "/docsorders", "/catalog/../orders"] {
        it.get(path).send().assert_problem(403, "missing_api_key");
    }
    for path in ["/docs%2f..%2forders", "/docs/..%5corders"] {
        assert_eq!(it.get(path).send().status, 400, "{path}");
    }
    assert_eq!(it.gate.upstream_hits(), 2);

    let mut workers = [0, 1].map(|worker| it.gate.connect_to_worker(worker));
    it.gate.admin().revoke(&read.id);
    for worker in &mut workers {
        within(Duration::from_secs(5), "a worker refuses the revoked key", || {
            (it.get("/orders").key(&read).send_on(worker).status == 403).then_some(())
        });
        assert_eq!(it.get("/docs").key(&read).send_on(worker).status, 200);
    }
}

#[test]
fn each_route_has_limits_of_its_own() {
    let it = Gateway::start();
    let [_, write, admin] = it.keys();
    let other = it.gate.admin().key_of_scope("admin");
    for left in (0..10).rev() {
        let answer = it.get("/reports").key(&admin).send();
        assert_eq!((answer.status, answer.number("x-ratelimit-remaining")), (200, left));
    }
    it.get("/reports").key(&admin).send().assert_problem(429, "rate_limited");
    assert_eq!(it.get("/reports").key(&other).send().status, 200);
    assert_eq!(it.get("/orders").key(&admin).send().number("x-ratelimit-remaining"), 599);

    // Both of the orders' limits count a change; the one nearer to its end is told.
    let answer = it.post("/orders").key(&write).send();
    assert_eq!(answer.number("x-ratelimit-limit"), 60);
    assert_eq!(it.get("/orders").key(&write).send().number("x-ratelimit-remaining"), 598);

    // What is public natively is counted by nobody.
    assert!(it.get("/docs").send().header("x-ratelimit-limit").is_none());
    let client = fresh_address();
    for left in (297..300).rev() {
        let answer = it.gate.get("/catalog").client(&client).send();
        assert_eq!(answer.number("x-ratelimit-remaining"), left);
    }
}
