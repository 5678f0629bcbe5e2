//! Bytes that no decent client sends: always the documented answer, never a crash of the VM.

mod credentials;
mod framing;

use tests::{Answer, Gate, Key, fresh_address};

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

/// Sends a GET request with these header lines as they are.
fn raw(gate: &Gate, lines: &str) -> Option<Answer> {
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    gate.connect().exchange(request.as_bytes()).ok()
}
