//! Whose address counts: the trusted one, in every spelling, in both ways of telling it.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::http::Request;
use tests::{Gate, GateBuilder, fresh_address, unknown_key};
use xtask::edge_config::EdgeConfig;

const DAY: u32 = 86_400;

#[test]
fn one_trusted_proxy_tells_the_clients_address() {
    for mode in both_modes() {
        println!("{mode}");
        let gate = gate(&mode, DAY).start();
        // Of the list, the entry that the proxy itself has appended.
        assert_eq!(client_of(&gate, |r| r.client("192.0.2.1, 198.51.100.7")), "198.51.100.7");
        assert_eq!(
            client_of(&gate, |r| r.client("192.0.2.1").client("198.51.100.8")),
            "198.51.100.8"
        );
        assert_eq!(client_of(&gate, |r| r), "127.0.0.1");
        assert_eq!(client_of(&gate, |r| r.client("2001:db8::1")), "2001:db8::1");
        assert_eq!(client_of(&gate, |r| r.client("2001:DB8:0:0::2")), "2001:db8::2");
        // An IPv4-mapped address is the IPv4 address that it means.
        assert_eq!(client_of(&gate, |r| r.client("::ffff:198.51.100.9")), "198.51.100.9");
        // A client that writes the header between Envoy and the gate is not believed.
        let forged = |r: Request| r.header("X-Keygate-Client-Address", "192.0.2.66");
        assert_eq!(client_of(&gate, |r| forged(r).client("198.51.100.10")), "198.51.100.10");
        assert_eq!(client_of(&gate, |r| forged(forged(r))), "127.0.0.1");
        assert_eq!(
            client_of(&gate, |r| forged(r).client("198.51.100.11").http2()),
            "198.51.100.11"
        );
        networks_of_a_key_hold_in_every_spelling(&gate);
        failed_attempts_count_per_ipv6_64(&gate);
    }
}

#[test]
fn without_trusted_proxies_nobody_chooses_an_address() {
    for mode in both_modes() {
        println!("{mode}");
        let gate = gate(&mode, DAY).trusted_hops(0).start();
        let forged = |r: Request, n: u32| {
            let address = fresh_address();
            r.client(format!("192.0.2.{n}, {address}"))
                .header("X-Real-IP", &address)
                .header("Forwarded", format!("for={address}"))
                .header("X-Envoy-External-Address", &address)
                .header("x-keygate-client-address", &address)
        };
        assert_eq!(client_of(&gate, |r| forged(r, 1)), "127.0.0.1");
        let key =
            gate.admin().create_key(json!({"allowed_ips": ["192.0.2.0/24", "198.18.0.0/15"]}));
        let answer = forged(gate.get("/").key(&key), 2).send();
        answer.assert_problem(403, "ip_denied");
        // Nor gets anybody round a limit.
        let key = gate.admin().key_of_scope("read");
        let allowed = (0..30).filter(|n| {
            let answer = forged(gate.get("/limited").key(&key), *n).send();
            assert!([200, 429].contains(&answer.status), "{answer:?}");
            answer.status == 200
        });
        assert_eq!(allowed.count(), 10);
    }
}

#[test]
fn a_client_that_connects_by_ipv6_is_known_by_it() {
    for mode in both_modes() {
        println!("{mode}");
        let gate = gate(&mode, DAY)
            .trusted_hops(0)
            .edit_envoy(|config| {
                let listener = &mut config.document_mut()["static_resources"]["listeners"][0];
                let address = &mut listener["address"]["socket_address"];
                address["address"] = "::".into();
                address["ipv4_compat"] = true.into();
                Ok(())
            })
            .start();
        let port = gate.address().port();
        let ask = |server: &str| {
            let server = format!("{server}:{port}").parse().unwrap();
            let key = unknown_key();
            Request::new(server, "GET", "/")
                .key(&key)
                .send()
                .assert_problem(403, "invalid_api_key");
            address_audited(&gate, &key)
        };
        assert_eq!(ask("[::1]"), "::1");
        // The kernel shows Envoy an IPv4-mapped address.
        assert_eq!(ask("127.0.0.1"), "127.0.0.1");
        let admin = gate.admin();
        let of_v4 = admin.create_key(json!({"allowed_ips": ["127.0.0.0/8"]}));
        let of_v6 = admin.create_key(json!({"allowed_ips": ["::1"]}));
        let v6 = format!("[::1]:{port}").parse().unwrap();
        gate.get("/").key(&of_v4).send().upstream();
        gate.get("/").key(&of_v6).send().assert_problem(403, "ip_denied");
        Request::new(v6, "GET", "/").key(&of_v6).send().upstream();
        Request::new(v6, "GET", "/").key(&of_v4).send().assert_problem(403, "ip_denied");
    }
}

fn networks_of_a_key_hold_in_every_spelling(gate: &Gate) {
    let networks = json!(["203.0.113.0/25", "192.0.2.77", "2001:db8:1::/48", "2001:db8:2::5"]);
    let key = gate.admin().create_key(json!({"allowed_ips": networks}));
    for inside in [
        "203.0.113.0",
        "203.0.113.127",
        "::ffff:203.0.113.9",
        "::ffff:cb00:7109",
        "192.0.2.77",
        "2001:db8:1::",
        "2001:db8:1:ffff:ffff:ffff:ffff:ffff",
        "2001:DB8:0001:0::7",
        "2001:db8:2::5",
    ] {
        let answer = gate.get("/").key(&key).client(inside).send();
        assert_eq!(answer.status, 200, "{inside}: {answer:?}");
    }
    for outside in [
        "203.0.113.128",
        "203.0.112.255",
        "::ffff:203.0.113.128",
        "192.0.2.76",
        "2001:db8:0:ffff::1",
        "2001:db8:2::4",
        "::203.0.113.9",
        "127.0.0.1",
    ] {
        let answer = gate.get("/").key(&key).client(outside).send();
        assert_eq!((answer.status, answer.code().as_str()), (403, "ip_denied"), "{outside}");
    }
}

fn failed_attempts_count_per_ipv6_64(gate: &Gate) {
    let guess = |address: &str| gate.get("/").key(unknown_key()).client(address).send();
    for n in 1..=5 {
        guess(&format!("2001:db8:64:1:{n}::{n}")).assert_problem(403, "invalid_api_key");
    }
    for address in ["2001:db8:64:1::6", "2001:db8:64:1:ffff:ffff:ffff:ffff"] {
        guess(address).assert_problem(429, "too_many_failed_attempts");
    }
    guess("2001:db8:64:2::1").assert_problem(403, "invalid_api_key");
    // An IPv4 address is one client of its own, however it is written.
    for n in 0..5 {
        let address = ["203.0.113.200", "::ffff:203.0.113.200"][n % 2];
        guess(address).assert_problem(403, "invalid_api_key");
    }
    guess("203.0.113.200").assert_problem(429, "too_many_failed_attempts");
    guess("::ffff:203.0.113.200").assert_problem(429, "too_many_failed_attempts");
    guess("203.0.113.201").assert_problem(403, "invalid_api_key");
}

/// Both ways in which the gate learns an address: from Envoy's own word, as in the ready
/// configuration, or from a header that Envoy sets.
fn both_modes() -> [Value; 2] {
    [json!({"header": "x-keygate-client-address"}), json!("connection")]
}

fn gate(mode: &Value, window_seconds: u32) -> GateBuilder {
    let gate = Gate::builder().config(json!({
        "client_address": mode,
        "failed_attempts": {"requests": 5, "window_seconds": window_seconds},
        "limits": [{"name": "limited", "per": "address", "path_prefix": "/limited",
                    "requests": 10, "window_seconds": window_seconds}],
    }));
    match mode["header"].as_str() {
        Some(header) => gate.edit_envoy(sets_header(header.to_owned())),
        None => gate,
    }
}

/// Has Envoy tell the client's address in a header, in the place of whatever a client sent.
fn sets_header(name: String) -> impl Fn(&mut EdgeConfig) -> Result<()> + Send + Sync + 'static {
    move |config| {
        let mutation = json!({
            "name": "client_address",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
                "mutations": {"request_mutations": [{"append": {
                    "header": {"key": name, "value": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"},
                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                }}]},
            },
        });
        let filters = config.connection_manager_mut()?["http_filters"].as_array_mut();
        filters.context("no filters")?.insert(0, mutation);
        Ok(())
    }
}

/// The address that the audit log has for a request.
fn client_of(gate: &Gate, change: impl Fn(Request) -> Request) -> String {
    // A typo is refused without counting as a failed attempt.
    let key = tests::mistyped(&unknown_key());
    change(gate.get("/").key(&key)).send().assert_problem(403, "invalid_format");
    let row =
        gate.audited("INVALID_FORMAT", |row| row["key_hash"] == tests::key_hash(&key).as_str());
    row["client_ip"].as_str().unwrap_or("none").to_owned()
}

fn address_audited(gate: &Gate, key: &str) -> String {
    let row = gate.audited("INVALID_KEY", |row| row["key_hash"] == tests::key_hash(key).as_str());
    row["client_ip"].as_str().unwrap_or("none").to_owned()
}
