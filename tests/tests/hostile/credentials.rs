//! Credentials: too many, of odd bytes, under odd names.

use serde_json::json;
use tests::{Answer, Gate, Key, fresh_address, unknown_key};

use super::{Witness, raw};

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

fn refused_as_malformed(answer: &Answer, what: &str) {
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (400, "invalid_format"),
        "{what}: {answer:?}"
    );
    answer.assert_problem(400, "invalid_format");
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
