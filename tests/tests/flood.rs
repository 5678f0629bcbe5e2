//! A flood of client addresses costs a bounded amount of memory and gives no busy client a fresh
//! start.
//!
//! `KEYGATE_FLOOD_ADDRESSES=10000000 cargo nextest run -p tests --test flood --no-capture` shows it
//! for ten million addresses, in some minutes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use serde_json::json;
use tests::{Gate, eventually, wait_for_room_in_window_of};

const DAY: u64 = 86_400;
/// Threads that flood, and how many connections each has. There is one request at a time on each:
/// Envoy closes connections on which answers pile up.
const THREADS: usize = 2;
const CONNECTIONS: u32 = 32;
/// How many addresses come between two looks at the busy client.
const STEP: u32 = 10_000;
/// What memory may grow by in the second half: noise of the allocators, far less than the 16 MB
/// that each 100,000 addresses would take if each were kept.
const TOLERANCE_KB: u64 = 4096;
const STATUS_LINE: &[u8] = b"HTTP/1.1 200 ";
const BUSY: &str = "203.0.113.7";
/// As in the default limits. A much smaller one is reached by bystanders too, once some millions of
/// addresses are active in one window: a count may be too high then, but never too low.
const LIMIT: u64 = 100;

/// Sends one request from each of the addresses up to `end` and reads the answers: all of them
/// must have passed.
fn flood(connections: &mut [TcpStream], next: &AtomicU32, end: u32) {
    let mut answer = [0; 4096];
    loop {
        let start = next.fetch_add(CONNECTIONS, Ordering::Relaxed);
        let batch = start.min(end)..start.saturating_add(CONNECTIONS).min(end);
        if batch.is_empty() {
            return;
        }
        let used = batch.len();
        for (n, connection) in batch.zip(&mut *connections) {
            let client = Ipv4Addr::from_bits(0x0a00_0000 + n);
            let request = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {client}\r\n\r\n");
            connection.write_all(request.as_bytes()).unwrap();
        }
        for connection in &mut connections[..used] {
            let mut length = 0;
            // Answers without a body: each ends with an empty line.
            while !answer[..length].ends_with(b"\r\n\r\n") {
                let read = connection.read(&mut answer[length..]).unwrap();
                assert!(read > 0, "the gate closed the connection");
                length += read;
                let text = &answer[..length];
                assert!(
                    length < STATUS_LINE.len() || text.starts_with(STATUS_LINE),
                    "an address pays for others: {}",
                    String::from_utf8_lossy(text)
                );
            }
        }
    }
}

/// The resident memory of a process in KB (proc_pid_status(5)).
fn resident_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_flood_of_addresses_takes_bounded_memory_and_resets_nobody() {
    let addresses: u32 = std::env::var("KEYGATE_FLOOD_ADDRESSES")
        .map_or(100_000, |number| number.parse().expect("KEYGATE_FLOOD_ADDRESSES is no number"));
    // All in one window, which is the worst case: nothing can be forgotten.
    wait_for_room_in_window_of(DAY, 60 + u64::from(addresses) / 2000);
    let gate = Gate::builder()
        .config(json!({
            "public": [{"path_prefix": "/"}],
            "limits": [
                {"name": "flooded", "per": "address", "requests": LIMIT, "window_seconds": DAY},
            ],
        }))
        // Envoy answers itself: it is the gate that is flooded, not an upstream.
        .edit_envoy(|config| {
            let manager = config.connection_manager_mut()?;
            // Lines that wait for a slow disk would count as its memory.
            manager.as_object_mut().unwrap().remove("access_log");
            let route = &mut manager["route_config"]["virtual_hosts"][0]["routes"][0];
            route.as_object_mut().unwrap().remove("route");
            route["direct_response"] = json!({"status": 200});
            Ok(())
        })
        .start();
    let health = gate.vm_health();
    let envoy = gate.stack.envoy.process().pid();
    let mut workers = [gate.connect_to_worker(0), gate.connect_to_worker(1)];
    let mut busy_is_refused = || {
        for worker in &mut workers {
            let answer = gate.get("/").client(BUSY).send_on(worker);
            answer.assert_problem(429, "rate_limited");
        }
    };
    for left in (0..LIMIT).rev() {
        let answer = gate.get("/").client(BUSY).send();
        assert_eq!(answer.number("x-ratelimit-remaining"), left, "{answer:?}");
    }
    busy_is_refused();

    let start = Instant::now();
    let mut resident = vec![resident_kb(envoy)];
    let next = AtomicU32::new(0);
    let connect = || TcpStream::connect(gate.address()).unwrap();
    let mut threads: Vec<Vec<_>> =
        (0..THREADS).map(|_| (0..CONNECTIONS).map(|_| connect()).collect()).collect();
    for connection in threads.iter().flatten() {
        connection.set_nodelay(true).unwrap();
    }
    for half in [addresses / 2, addresses] {
        while next.load(Ordering::Relaxed) < half {
            let end = (next.load(Ordering::Relaxed) + STEP).min(half);
            std::thread::scope(|scope| {
                for connections in &mut threads {
                    scope.spawn(|| flood(connections, &next, end));
                }
            });
            next.store(end, Ordering::Relaxed);
            busy_is_refused();
            if end % (addresses / 10).max(STEP) == 0 {
                println!("{end} addresses after {:?}: {} KB", start.elapsed(), resident_kb(envoy));
            }
        }
        resident.push(resident_kb(envoy));
    }
    let took = start.elapsed();
    println!(
        "{addresses} addresses in {took:?}: Envoy's resident memory in KB before, after half of \
         them, after all: {resident:?}"
    );
    let [_, middle, after] = resident[..] else { unreachable!() };
    assert!(after <= middle + TOLERANCE_KB, "it grew from {middle} to {after} KB");
    assert_eq!(gate.vm_health(), health);
    assert_eq!(gate.stat("wasmcustom.keygate.limits.unknown"), 0, "a count was not to be had");
    eventually("all were counted", || {
        (gate.stat("wasmcustom.keygate.anonymous") == u64::from(addresses) + LIMIT).then_some(())
    });
}
