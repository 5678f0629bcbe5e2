//! Bytes that no decent client sends: always the documented answer, never a crash of the VM.

use serde_json::json;
use tests::http::{RawHttp2, Reaction};
use tests::{Answer, Gate, Key, fresh_address, unknown_key};

#[test]
fn no_credential_however_made_crashes_the_vm_or_passes() {
    let gate = Gate::builder().config(json!({"limits": []})).start();
    let key = gate.admin().create_key(json!({"scope": "write", "owner": "alice"}));
    let witness = Witness::of(&gate, &key);

    several_credentials_are_refused(&gate, &key);
    odd_values_are_refused(&gate, &key);
    odd_spellings_of_the_name_are_understood_or_refused(&gate, &key);
    odd_bytes_in_other_headers_do_no_harm(&gate, &key);

    witness.confirm(&gate, &key);
}

#[test]
fn no_request_however_framed_crashes_the_vm_or_passes_unchecked() {
    let gate = Gate::builder()
        .config(json!({
            "limits": [],
            "public": [{"path_prefix": "/open"}],
            "scopes": [{"path_prefix": "/admin", "scope": "admin"}],
        }))
        .start();
    let key = gate.admin().create_key(json!({"scope": "write", "owner": "alice"}));
    let witness = Witness::of(&gate, &key);

    paths_mean_one_thing_or_are_refused(&gate, &key);
    odd_request_lines_never_pass_without_a_key(&gate, &key);
    broken_framing_never_reaches_the_upstream(&gate, &key);
    requests_on_one_connection_are_judged_one_by_one(&gate, &key);
    http2_is_no_way_round(&gate, &key);
    noise_is_survived(&gate);

    witness.confirm(&gate, &key);
}

fn several_credentials_are_refused(gate: &Gate, key: &Key) {
    let other = unknown_key();
    for request in [
        gate.get("/").key(key).key(key),
        gate.get("/").key(key).key(&other),
        gate.get("/").key(&other).key(key),
        gate.get("/").key(key).key(""),
        gate.get("/").key("").key(key),
        gate.get("/").header("X-API-KEY", key).header("a", "b").header("x-api-key", key),
        gate.get("/").key(key).key(key).key(key),
        gate.get("/").key(format!("{},{}", key.text, key.text)),
        gate.get("/").key(format!("{}, {}", key.text, key.text)),
        gate.get("/").key(format!("{},", key.text)),
        gate.get("/").key(format!(",{}", key.text)),
    ] {
        for request in [request.clone(), request.http2()] {
            let answer = request.clone().client(fresh_address()).send();
            refused_as_malformed(&answer, &format!("{request:?}"));
        }
    }
}

fn odd_values_are_refused(gate: &Gate, key: &Key) {
    let mut values: Vec<Vec<u8>> = vec![
        [key.text.as_bytes(), b"\xff"].concat(),
        [b"\xff\xfe", key.text.as_bytes()].concat(),
        b"\x80".repeat(60),
        // UTF-8, but no ASCII; then a truncated and an overlong sequence.
        "kg_live_ключ_schlüssel_鍵_0123456789abcdefABCDEF".into(),
        [key.text.as_bytes(), "\u{200b}".as_bytes()].concat(),
        b"kg_live_3c5588afe5b04bdd_\xe2\x82AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_vec(),
        b"kg_live_3c5588afe5b04bdd_\xc0\xafAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_vec(),
        (0x80..=0xff).collect(),
        [key.text.as_bytes(), b" with words"].concat(),
        [key.text.as_bytes(), b"\tx"].concat(),
        key.text.repeat(20).into(),
        b"a".repeat(257),
        b"aB3x".repeat(16_384),
        b"\xff".repeat(65_536),
    ];
    values.extend((0x80..=0xff_u8).step_by(17).map(|byte| vec![byte]));
    for value in values {
        let name = String::from_utf8_lossy(&value[..value.len().min(60)]).into_owned();
        let request = gate.get("/").key(&value);
        refused_as_malformed(&request.clone().client(fresh_address()).send(), &name);
        // Envoy takes no more than 64 KiB in one HTTP/2 header block's field.
        if value.len() < 60_000 {
            refused_as_malformed(&request.http2().client(fresh_address()).send(), &name);
        }
    }
    let long = fresh_address();
    gate.get("/")
        .key("aB3x".repeat(16_384))
        .client(&long)
        .send()
        .assert_problem(400, "invalid_format");
    let row = gate.audited("INVALID_FORMAT", |row| row["client_ip"] == long.as_str());
    assert_eq!((&row["details"], &row["key_hash"]), (&json!("reason=too_long"), &json!(null)));
    // Nothing is no key; optional white space is no part of a value (RFC 9110, section 5.5).
    for nothing in ["", " ", "\t", "   \t "] {
        let answer = gate.get("/").key(nothing).client(fresh_address()).send();
        answer.assert_problem(403, "missing_api_key");
    }
    gate.get("/").key("").http2().send().assert_problem(403, "missing_api_key");
    gate.get("/").key(format!(" \t{} \t ", key.text)).send().upstream();
    // Above Envoy's own bound it answers by itself.
    let huge = raw(gate, &format!("X-API-Key: {}\r\n", "a".repeat(200_000)));
    assert!(huge.is_none_or(|answer| answer.status == 431));
}

fn odd_spellings_of_the_name_are_understood_or_refused(gate: &Gate, key: &Key) {
    for name in ["X-aPi-kEY", "x-api-key", "X-API-KEY"] {
        let seen = gate.get("/").header(name, key).send().upstream();
        assert_eq!(seen.header("x-keygate-owner"), ["alice"], "{name}");
        assert_eq!(seen.header("x-api-key"), [""; 0], "{name}");
    }
    // `Name:value` without a space is the same field.
    let tight = raw(gate, &format!("X-API-Key:{}\r\n", key.text)).unwrap();
    tight.upstream();
    // One header to many frameworks, so none to us.
    for name in ["x_api_key", "X_API-Key", "x-keygate_key_id", "x_keygate_owner"] {
        let answer = gate.get("/").key(key).header(name, "forged").send();
        assert_eq!(answer.status, 400, "{name}: {answer:?}");
    }
    for lines in [
        format!("X-API-Key : {}\r\n", key.text),
        format!(" X-API-Key: {}\r\n", key.text),
        format!("X-API-Key\r\n: {}\r\n", key.text),
        format!("X-API-Key\t: {}\r\n", key.text),
        format!("X-API\0-Key: {}\r\n", key.text),
        format!("X-API-Key: {}\0\r\n", key.text),
        format!("X-API-Key: \0{}\r\n", key.text),
        format!("X-API-Key: {}\rX-Other: b\r\n", key.text),
        format!(": {}\r\n", key.text),
        format!("X-API-Key {}\r\n", key.text),
    ] {
        never_passes(gate, &lines);
    }
    // An old way to go on in the next line (RFC 9112, section 5.2): refused, or one value with a
    // space in it, which is no key.
    let (start, end) = key.text.split_at(30);
    for lines in [
        format!("X-API-Key: {start}\r\n {end}\r\n"),
        format!("X-API-Key: {start}\r\n\t{end}\r\n"),
        format!("X-API-Key: {}\r\n \r\n", unknown_key()),
    ] {
        never_passes(gate, &lines);
    }
}

fn odd_bytes_in_other_headers_do_no_harm(gate: &Gate, key: &Key) {
    for value in [&b"\xff\xfe\x80"[..], "schlüssel".as_bytes(), b"\xe9", &b"\xf5".repeat(8000)] {
        for name in
            ["X-Other", "User-Agent", "Cookie", "Referer", "X-Keygate-Owner", "X-Request-Id"]
        {
            let request = gate.get("/").header(name, value).client(fresh_address());
            request.clone().key(key).send().upstream();
            request.clone().http2().key(key).send().upstream();
            request.send().assert_problem(403, "missing_api_key");
        }
    }
    // An address that is none is no address, and no crash.
    for value in [&b"\xff\xff"[..], b"999.1.1.1", b"::ffff:", b"1.2.3.4:99999", b"unknown", b","] {
        let answer = gate.get("/").key(key).client(value).send();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let many = (0..200).fold(gate.get("/").key(key), |r, n| r.header(&format!("x-{n}"), "v"));
    assert_eq!(many.send().status, 431);
}

fn paths_mean_one_thing_or_are_refused(gate: &Gate, key: &Key) {
    for (path, upstream) in [
        ("/a//b", "/a/b"),
        ("//a///b", "/a/b"),
        ("/a/./b/../c", "/a/c"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/..;x=1/b", "/b"),
        ("/a?b=//c/../%2f", "/a"),
        ("/a%20b", "/a%20b"),
        ("/.well-known/x", "/.well-known/x"),
    ] {
        assert_eq!(gate.get(path).key(key).send().upstream().path(), upstream, "{path}");
    }
    for path in [
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a%5Cb",
        "/open/..%2fadmin",
        "/%2e%2e%2fadmin",
        "/a/%2e%2e;x=1/b",
        "/%00",
        "/a%00b",
    ] {
        let answer = gate.get(path).key(key).send();
        assert_eq!(answer.status, 400, "{path}: {answer:?}");
    }
    // No spelling of a protected path gets round its rule, nor round the need for a key.
    for path in [
        "/admin",
        "/admin/",
        "/admin/x",
        "/x/../admin",
        "//admin",
        "/./admin",
        "/admin;a",
        "/open/..;/admin",
        "/open/..;a/admin",
        "/open/%2e%2e;/admin",
        "/open/../admin",
        "/open/%2e%2e/admin",
        "/admin?/open",
        "/open/..//admin",
        "/admin#/open",
        "/;/admin",
        "/open/;x/admin",
        "/%3b/admin",
        "/%61dmin",
        "/admi%6E%3Bv=1",
    ] {
        let answer = gate.get(path).key(key).send();
        assert!([400, 403].contains(&answer.status), "{path}: {answer:?}");
        let answer = gate.get(path).send();
        assert!([400, 403].contains(&answer.status), "{path}: {answer:?}");
    }
    for target in
        [&b"/caf\xe9"[..], b"/\xff\xfe", b"/a\x00b", b"/a\x7fb", b"/a b", b"/a\tb", b"/a\\b"]
    {
        for with_key in [true, false] {
            let credential = format!("X-API-Key: {}\r\n", key.text);
            let fields = if with_key { &credential } else { "" };
            let request =
                [b"GET ", target, b" HTTP/1.1\r\nHost: a\r\n", fields.as_bytes(), b"\r\n"];
            let answer = gate.connect().exchange(&request.concat());
            let status = answer.as_ref().map_or(0, |answer| answer.status);
            println!("{:?} with key {with_key}: {status}", String::from_utf8_lossy(target));
            assert!(with_key || status != 200, "{answer:?}");
            assert!([0, 200, 400, 403].contains(&status), "{answer:?}");
        }
    }
}

fn odd_request_lines_never_pass_without_a_key(gate: &Gate, key: &Key) {
    let send = |line: &str, fields: &str| {
        let request = format!("{line}\r\n{fields}\r\n");
        gate.connect().exchange(request.as_bytes()).ok()
    };
    let credential = format!("X-API-Key: {}\r\n", key.text);
    for line in [
        "GET http://example.test/a/../b HTTP/1.1\r\nHost: a",
        "GET http://example.test HTTP/1.1\r\nHost: a",
        "OPTIONS * HTTP/1.1\r\nHost: a",
        "CONNECT example.test:443 HTTP/1.1\r\nHost: example.test:443",
        "TRACE / HTTP/1.1\r\nHost: a",
        "BREW / HTTP/1.1\r\nHost: a",
        "get / HTTP/1.1\r\nHost: a",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade, x-api-key",
        "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue",
    ] {
        let answer = send(line, "");
        println!("{line:?}: {:?}", answer.as_ref().map(|a| (a.status, a.code())));
        assert!(answer.is_none_or(|answer| answer.status >= 400), "{line}");
    }
    // The absolute form names the same path.
    let answer = send("GET http://example.test/a/../b?c HTTP/1.1\r\nHost: a", &credential).unwrap();
    assert_eq!(answer.upstream().path(), "/b");
    // `Connection` must not take the credential away from the gate and leave it to the upstream.
    let answer = send("GET / HTTP/1.1\r\nHost: a\r\nConnection: x-api-key", &credential);
    assert!(answer.is_none_or(|a| a.status != 200 || a.upstream().header("x-api-key").is_empty()));
    // An HTTP/1.0 client is told to upgrade, with or without a key.
    for fields in ["", &credential] {
        let answer = send("GET / HTTP/1.0\r\nHost: a", fields).unwrap();
        assert_eq!(answer.status, 426);
    }
    for line in [
        "GET / HTTP/1.1",
        "GET  / HTTP/1.1\r\nHost: a",
        "GET /\r\nHost: a",
        "GET / HTTP/9.9\r\nHost: a",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b",
        " GET / HTTP/1.1\r\nHost: a",
    ] {
        let answer = send(line, "");
        assert!(answer.is_none_or(|answer| answer.status >= 400), "{line}");
    }
}

fn broken_framing_never_reaches_the_upstream(gate: &Gate, key: &Key) {
    let hits = gate.upstream_hits();
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 5, 6\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
    ] {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nX-API-Key: {}\r\n{fields}\r\n0\r\n\r\nGET /open HTTP/1.1\r\n\r\n",
            key.text
        );
        let answer = gate.connect().exchange(request.as_bytes());
        let status = answer.map_or(0, |answer| answer.status);
        assert!([0, 400, 501].contains(&status), "{fields:?}: {status}");
    }
    assert_eq!(gate.upstream_hits(), hits);
    // A key in the trailers comes too late.
    let request = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-API-Key\r\n\r\n\
         3\r\nabc\r\n0\r\nX-API-Key: {}\r\n\r\n",
        key.text
    );
    let answer = gate.connect().exchange(request.as_bytes()).unwrap();
    answer.assert_problem(403, "missing_api_key");
}

fn requests_on_one_connection_are_judged_one_by_one(gate: &Gate, key: &Key) {
    let with = |fields: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let good = with(&format!("X-API-Key: {}\r\n", key.text));
    let cold = with(&format!("X-API-Key: {}\r\n", unknown_key()));
    // Two at a time: with more answers of its own under way Envoy ends the connection.
    let both = |first: &str, second: &str| {
        let mut connection = gate.connect();
        connection.write([first, second].concat().as_bytes()).unwrap();
        [0, 1].map(|_| connection.read_answer(true).unwrap())
    };
    let [passed, refused] = both(&good, &with(""));
    passed.upstream();
    refused.assert_problem(403, "missing_api_key");
    let [refused, passed] = both(&cold, &good);
    refused.assert_problem(403, "invalid_api_key");
    passed.upstream();
    let [refused, unknown] = both(&with(""), &cold);
    refused.assert_problem(403, "missing_api_key");
    unknown.assert_problem(403, "invalid_api_key");
    // A client that goes away while the gate asks about its key leaves nothing behind.
    for _ in 0..20 {
        let gone = with(&format!("X-API-Key: {}\r\n", unknown_key()));
        let mut connection = gate.connect();
        connection.write(gone.as_bytes()).unwrap();
    }
}

fn http2_is_no_way_round(gate: &Gate, key: &Key) {
    let pseudo: [(&[u8], &[u8]); 4] =
        [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a")];
    let text = key.text.as_bytes();
    let ask = |more: &[(&[u8], &[u8])]| {
        let fields = [&pseudo[..], more].concat();
        RawHttp2::open(gate.address()).unwrap().request(&fields).unwrap()
    };
    assert_eq!(ask(&[(b"x-api-key", text)]), Reaction::Answered);
    let hits = gate.upstream_hits();
    // Names in upper case, with odd bytes or none at all are errors (RFC 9113, section 8.2.1).
    for fields in [
        &[(&b"X-API-Key"[..], text)][..],
        &[(b"x-api-key", text), (b"X-Api-Key", text)],
        &[(b"x-api-key\x00", text)],
        &[(b"x-api-key", text), (b"", b"x")],
        &[(b"x-api-key", b"a\r\nx-other: b")],
        &[(b"x-api-key", text), (b"x-other", b"a\x00b")],
        &[(b"x-api-key", text), (b":path", b"/open")],
        &[(b"x-api-key", text), (b":other", b"x")],
        &[(b"x-api-key", text), (b"connection", b"x-api-key")],
    ] {
        let reaction = ask(fields);
        println!("{fields:?}: {reaction:?}");
        assert_eq!(gate.upstream_hits(), hits, "{fields:?}: {reaction:?}");
    }
    for fields in [
        &[(&b"x-api-key"[..], text), (b"x-api-key", text)][..],
        &[(b"x-api-key", b"\xff\xfe")],
        &[(b"x-api-key", b"")],
        &[],
    ] {
        assert_eq!(ask(fields), Reaction::Answered, "{fields:?}");
    }
    assert_eq!(gate.upstream_hits(), hits);
}

fn noise_is_survived(gate: &Gate) {
    let mut noise = vec![0; 4096];
    for _ in 0..50 {
        getrandom::fill(&mut noise).unwrap();
        let answer = gate.connect().exchange(&noise);
        assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status >= 400));
    }
}

/// What must be as it was after all.
struct Witness {
    active_vms: u64,
    failures: Vec<(String, u64)>,
}

impl Witness {
    fn of(gate: &Gate, key: &Key) -> Self {
        let witness = Self::look(gate);
        assert!(witness.active_vms > 0, "no VM at work: {:?}", gate.vm_health());
        witness.confirm(gate, key);
        witness
    }

    fn look(gate: &Gate) -> Self {
        let health = gate.vm_health();
        let active_vms = health.get("wasm.envoy.wasm.runtime.v8.active").copied().unwrap_or(0);
        let told = ["created", "reload", "fail", "crash"];
        let failures = health.into_iter().filter(|(name, _)| told.iter().any(|t| name.contains(t)));
        Self { active_vms, failures: failures.collect() }
    }

    /// Both workers serve, with the VMs that they began with.
    fn confirm(&self, gate: &Gate, key: &Key) {
        for worker in [0, 1] {
            let mut connection = gate.connect_to_worker(worker);
            let answer = gate.get("/").key(key).client(fresh_address()).send_on(&mut connection);
            assert_eq!(answer.upstream().header("x-keygate-owner"), ["alice"]);
        }
        let now = Self::look(gate);
        assert_eq!((now.active_vms, &now.failures), (self.active_vms, &self.failures));
        let log = gate.envoy_log();
        for trouble in ["the filter has failed", "Function: proxy_", "wasm trap", "unreachable"] {
            assert!(!log.contains(trouble), "{trouble:?} in Envoy's log");
        }
    }
}

fn refused_as_malformed(answer: &Answer, what: &str) {
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (400, "invalid_format"),
        "{what}: {answer:?}"
    );
    answer.assert_problem(400, "invalid_format");
}

/// Sends a GET request with these header lines as they are.
fn raw(gate: &Gate, lines: &str) -> Option<Answer> {
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    gate.connect().exchange(request.as_bytes()).ok()
}

/// Whatever the answer, if any, the upstream was not asked.
fn never_passes(gate: &Gate, lines: &str) {
    let hits = gate.upstream_hits();
    let answer = raw(gate, lines);
    let status = answer.as_ref().map(|answer| answer.status);
    println!("{lines:?}: {status:?}");
    assert!(status.is_none_or(|status| (400..500).contains(&status)), "{lines:?}: {answer:?}");
    assert_eq!(gate.upstream_hits(), hits, "{lines:?}");
}
