//! Rate limits within one Envoy: exact over both workers, told in every header.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tests::http::{Answer, Protocol, Request};
use tests::{
    Connection, Gate, eventually, fresh_address, mistyped, unix_seconds, unknown_key,
    wait_for_room_in_window,
};

const DAY: u32 = 86_400;
const WEEK: u32 = 7 * DAY;
/// Connections that hammer at once, half of them on either worker.
const CONNECTIONS: usize = 12;

#[test]
fn by_default_an_address_has_100_gets_50_posts_and_5_failures_a_minute() {
    let gate = Gate::start();
    let admin = gate.admin();
    let (key, other) = (admin.key_of_scope("write"), admin.key_of_scope("write"));
    let mut connections = [0, 1].map(|worker| gate.connect_to_worker(worker));
    for connection in &mut connections {
        gate.get("/").key(&key).client(fresh_address()).send_on(connection).upstream();
    }
    wait_for_room_in_window(45);
    let address = fresh_address();
    for (method, limit, name) in [("GET", 100, "address-get"), ("POST", 50, "address-post")] {
        for n in 0..limit {
            // One address, whatever the key, the path and the worker.
            let key = if n % 3 == 0 { &other } else { &key };
            let request = gate.request(method, &format!("/{n}")).header("Content-Length", "0");
            let connection = &mut connections[usize::try_from(n % 2).unwrap()];
            let answer = request.key(key).client(&address).send_on(connection);
            answer.upstream();
            assert_limit_headers(&answer, name, limit, limit - 1 - n, 60);
            assert_eq!(answer.header("retry-after"), None);
        }
        let request = gate.request(method, "/").header("Content-Length", "0").key(&key);
        for connection in &mut connections {
            let answer = request.clone().client(&address).send_on(connection);
            answer.assert_problem(429, "rate_limited");
            assert_limit_headers(&answer, name, limit, 0, 60);
            let wait = answer.number("retry-after");
            let left = answer.number("x-ratelimit-reset").saturating_sub(unix_seconds());
            assert!(was_left(wait, left.max(1)), "{wait} is not {left}");
        }
        // Others are not affected.
        let neighbour = request.client(fresh_address()).send();
        assert_limit_headers(&neighbour, name, limit, limit - 1, 60);
    }
    // No rule counts these.
    for method in ["PUT", "DELETE", "HEAD"] {
        let answer = gate.request(method, "/").key(&key).client(&address).send();
        assert_eq!((answer.status, limit_headers(&answer)), (200, vec![]), "{answer:?}");
    }
    let guessing = fresh_address();
    for n in 0..7 {
        let request = gate.get("/").key(unknown_key()).client(&guessing);
        let answer = request.send_on(&mut connections[n % 2]);
        if n < 5 {
            answer.assert_problem(403, "invalid_api_key");
        } else {
            answer.assert_problem(429, "too_many_failed_attempts");
            assert!((1..=60).contains(&answer.number("retry-after")), "{answer:?}");
        }
    }
}

#[test]
fn past_the_failed_attempts_an_unknown_key_makes_no_call_and_a_known_one_passes() {
    let gate = Gate::builder()
        .config(json!({"failed_attempts": {"requests": 5, "window_seconds": DAY}}))
        .start();
    gate.have_both_follow_the_feed();
    let admin = gate.admin();
    let (known, cold) = (admin.key_of_scope("read"), admin.key_of_scope("read"));
    let mut workers = [0, 1].map(|worker| gate.connect_to_worker(worker));
    let address = fresh_address();
    let ask = |key: &dyn AsRef<[u8]>, connection: &mut Connection| {
        gate.get("/").key(key).client(&address).send_on(connection)
    };
    for connection in &mut workers {
        ask(&known, connection).upstream();
    }
    // What cannot be a key is refused at no cost, and is no guess.
    for n in 0..8 {
        let answer = ask(&mistyped(&unknown_key()), &mut workers[n % 2]);
        answer.assert_problem(403, "invalid_format");
    }
    let guess = unknown_key();
    for n in 0..5 {
        // The same wrong key counts every time, remembered or not.
        ask(&guess, &mut workers[n % 2]).assert_problem(403, "invalid_api_key");
    }
    let before = admin.verify_calls();
    for n in 0..10 {
        let connection = &mut workers[n % 2];
        ask(&unknown_key(), connection).assert_problem(429, "too_many_failed_attempts");
        ask(&guess, connection).assert_problem(429, "too_many_failed_attempts");
        // A good key that this gate has not met is as unknown as any.
        ask(&cold, connection).assert_problem(429, "too_many_failed_attempts");
        ask(&known, connection).upstream();
    }
    assert_eq!(admin.verify_calls(), before);
    gate.get("/").key(&cold).client(fresh_address()).send().upstream();
    assert!(admin.verify_calls() > before);
}

#[test]
fn a_limit_is_exact_over_both_workers_under_concurrency() {
    let gate = Gate::builder()
        .config(json!({"limits": [
            {"name": "address", "per": "address", "path_prefix": "/address",
             "requests": 203, "window_seconds": DAY},
            {"name": "key", "per": "key", "path_prefix": "/key",
             "requests": 101, "window_seconds": DAY},
            {"name": "both", "per": "address_and_key", "path_prefix": "/both",
             "requests": 57, "window_seconds": DAY},
            {"name": "single", "per": "address", "path_prefix": "/single",
             "requests": 1, "window_seconds": DAY},
        ]}))
        .start();
    let admin = gate.admin();
    let plain = admin.key_of_scope("read");
    let own = json!({"rate_limit": {"requests": 77, "window_seconds": DAY}});
    let limited = admin.create_key(own);
    let (here, there) = (fresh_address(), fresh_address());
    let stories = [
        ("/address", &plain, Some(&here), 203),
        ("/address", &plain, Some(&there), 203),
        ("/key", &plain, None, 101),
        ("/both", &plain, Some(&here), 57),
        ("/both", &plain, Some(&there), 57),
        ("/own", &limited, None, 77),
        ("/single", &plain, Some(&here), 1),
    ];
    // All keys are cold at first: requests that waited for an answer count like any other.
    let requests: Vec<Request> = stories
        .iter()
        .map(|(path, key, address, _)| {
            let request = gate.get(path).key(key);
            address.map_or(request.clone(), |address| request.client(address))
        })
        .collect();
    let before = gate.connections_of_workers();
    let connections: Vec<_> = (0..CONNECTIONS).map(|n| gate.connect_to_worker(n % 2)).collect();
    assert_eq!(before.len(), 2);
    let allowed: Vec<_> = requests.iter().map(|_| AtomicUsize::new(0)).collect();
    let start = Barrier::new(connections.len());
    let rounds = 203 / CONNECTIONS * 2;
    std::thread::scope(|scope| {
        for mut connection in connections {
            let (requests, allowed, start) = (&requests, &allowed, &start);
            scope.spawn(move || {
                start.wait();
                for _ in 0..rounds {
                    for (request, allowed) in requests.iter().zip(allowed) {
                        let answer = request.send_on(&mut connection);
                        match answer.status {
                            200 => allowed.fetch_add(1, Ordering::Relaxed),
                            429 => 0,
                            _ => panic!("{answer:?}"),
                        };
                    }
                }
            });
        }
    });
    for ((path, _, address, limit), allowed) in stories.iter().zip(allowed) {
        assert_eq!(allowed.into_inner(), *limit, "{path} of {address:?}");
    }
    let after = gate.connections_of_workers();
    for worker in 0..2 {
        assert!(after[worker] >= before[worker] + 6, "{before:?} {after:?}");
    }
}

#[test]
fn failed_attempts_are_exact_over_both_workers_under_concurrency() {
    let gate = Gate::builder()
        .config(json!({"failed_attempts": {"requests": 300, "window_seconds": DAY}, "limits": []}))
        .start();
    let address = fresh_address();
    let known_as_unknown = unknown_key();
    let mut connections: Vec<_> = (0..CONNECTIONS).map(|n| gate.connect_to_worker(n % 2)).collect();
    for connection in &mut connections[..2] {
        let answer = gate.get("/").key(&known_as_unknown).client(fresh_address());
        answer.send_on(connection).assert_problem(403, "invalid_api_key");
    }
    let told = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for mut connection in connections {
            let request = gate.get("/").client(&address);
            let (told, known_as_unknown) = (&told, &known_as_unknown);
            scope.spawn(move || {
                for n in 0..50 {
                    // Failures count whether the control plane was asked or not.
                    let key = if n % 10 == 0 { unknown_key() } else { known_as_unknown.clone() };
                    let answer = request.clone().key(key).send_on(&mut connection);
                    match answer.code().as_str() {
                        "invalid_api_key" => told.fetch_add(1, Ordering::Relaxed),
                        "too_many_failed_attempts" => 0,
                        _ => panic!("{answer:?}"),
                    };
                }
            });
        }
    });
    // Of 600 guesses no more than 300 were told that they were wrong.
    assert_eq!(told.into_inner(), 300);
}

#[test]
fn the_headers_tell_of_the_limit_that_is_nearest_to_its_end() {
    let gate = Gate::builder()
        .config(json!({"public": [{"path_prefix": "/open"}], "limits": [
            {"name": "wide", "per": "address", "requests": 10, "window_seconds": DAY},
            {"name": "narrow", "per": "key", "requests": 4, "window_seconds": WEEK},
        ]}))
        .start();
    let own = json!({"rate_limit": {"requests": 3, "window_seconds": DAY}});
    let (plain, limited) = (gate.admin().key_of_scope("read"), gate.admin().create_key(own));
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let address = fresh_address();
        let ask = |path: &str| gate.get(path).client(&address).protocol(protocol);
        assert_limit_headers(&ask("/open").send(), "wide", 10, 9, DAY);
        let left = if protocol == Protocol::Http1 { 3 } else { 2 };
        assert_limit_headers(&ask("/").key(&plain).send(), "narrow", 4, left, WEEK);
        assert_limit_headers(&ask("/").key(&limited).send(), "key", 3, left - 1, DAY);
        for wide in (0..7).rev() {
            assert_limit_headers(&ask("/open").send(), "wide", 10, wide, DAY);
        }
        let answer = ask("/open").send();
        answer.assert_problem(429, "rate_limited");
        assert_limit_headers(&answer, "wide", 10, 0, DAY);
    }
    // Refusals of other layers say nothing of limits.
    let refused = gate.get("/").send();
    refused.assert_problem(403, "missing_api_key");
    assert_eq!(limit_headers(&refused), [""; 0]);
}

#[test]
fn the_headers_about_limits_can_be_chosen() {
    let gate = Gate::builder()
        .config(json!({
            "public": [{"path_prefix": "/open"}],
            "rate_limit_headers": {"x_ratelimit": false, "ietf": "off"},
            "limits": [{"name": "one", "per": "address", "requests": 1, "window_seconds": DAY}],
        }))
        .start();
    let address = fresh_address();
    let ask = || gate.get("/open").client(&address).send();
    assert_eq!((ask().status, limit_headers(&ask())), (200, vec![]));
    let refused = ask();
    refused.assert_problem(429, "rate_limited");
    assert_eq!(limit_headers(&refused), [""; 0]);
    assert!((1..=u64::from(DAY)).contains(&refused.number("retry-after")));
}

#[test]
fn a_window_ends_and_the_next_one_begins_anew() {
    let gate = Gate::builder()
        .config(json!({
            "public": [{"path_prefix": "/open"}],
            "limits": [{"name": "short", "per": "address", "requests": 2, "window_seconds": 4}],
        }))
        .start();
    let address = fresh_address();
    let ask = || gate.get("/open").client(&address).send();
    for _ in 0..3 {
        let refused = eventually("the limit is reached", || {
            let answer = ask();
            (answer.status == 429).then_some(answer)
        });
        let reset = refused.number("x-ratelimit-reset");
        assert_eq!(reset % 4, 0, "windows are aligned to the epoch: {refused:?}");
        let allowed = eventually("the next window begins", || {
            let answer = ask();
            (answer.status == 200).then_some(answer)
        });
        assert!(unix_seconds() >= reset, "it passed before the time it was told: {allowed:?}");
        assert_eq!(allowed.number("x-ratelimit-remaining"), 1);
        assert!(allowed.number("x-ratelimit-reset") > reset);
    }
}

/// All headers about a limit are there, once, and agree with each other.
#[track_caller]
fn assert_limit_headers(answer: &Answer, name: &str, limit: u32, remaining: u32, window: u32) {
    assert_eq!(answer.number("x-ratelimit-limit"), u64::from(limit), "{answer:?}");
    assert_eq!(answer.number("x-ratelimit-remaining"), u64::from(remaining), "{answer:?}");
    let (now, reset) = (unix_seconds(), answer.number("x-ratelimit-reset"));
    // A second may have begun since.
    assert!(reset + 1 >= now && reset <= now + u64::from(window), "{now}: {answer:?}");
    assert_eq!(reset % u64::from(window), 0, "{answer:?}");
    let policy = answer.header("ratelimit-policy");
    assert_eq!(policy, Some(format!("\"{name}\";q={limit};w={window}")), "{answer:?}");
    let state = answer.header("ratelimit").unwrap();
    let start = format!("\"{name}\";r={remaining};t=");
    let left: u64 =
        state.strip_prefix(&start).unwrap_or_else(|| panic!("{state}")).parse().unwrap();
    assert!(left >= 1 && was_left(left, reset.saturating_sub(now)), "{left} {now} {answer:?}");
}

/// Whether so many seconds were told when the gate decided, of which so many are left by now: a
/// second may have begun between the two, and on a busy machine one more.
fn was_left(told: u64, now: u64) -> bool {
    (now.saturating_sub(1)..=now + 2).contains(&told)
}

fn limit_headers(answer: &Answer) -> Vec<&str> {
    let names = answer.headers.0.iter().map(|(name, _)| name.as_str());
    names.filter(|name| name.contains("ratelimit")).collect()
}
