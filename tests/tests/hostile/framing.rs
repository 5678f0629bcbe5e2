//! Paths, request lines, framing and HTTP/2: what is asked for is one thing, or it is refused.

use serde_json::json;
use tests::http::{RawHttp2, Reaction};
use tests::{Gate, Key, unknown_key};

use super::Witness;

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
