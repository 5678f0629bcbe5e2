//! The warm path allocates nothing, counted by the allocator itself.

#![expect(unsafe_code, reason = "an allocator is unsafe by definition")]

use crate::world::{World, passed};
use edge_protocol::Scope;
use gate::{ClientAddress, Credential, Now, Request, StreamId};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The store is not what is measured: it keeps its slots in place.
struct StillSlots {
    content: [u8; gate::MAX_SLOT_BYTES],
    len: usize,
}

impl gate::SharedSlots for StillSlots {
    fn load(&mut self, _slot: &gate::SlotName, into: &mut [u8]) -> Option<(usize, gate::Version)> {
        into[..self.len].copy_from_slice(&self.content[..self.len]);
        Some((self.len, gate::Version(1)))
    }

    fn store(
        &mut self,
        _slot: &gate::SlotName,
        content: &[u8],
        _expected: Option<gate::Version>,
    ) -> bool {
        self.content[..content.len()].copy_from_slice(content);
        self.len = content.len();
        true
    }
}

#[test]
fn a_known_key_is_decided_without_allocating() {
    let mut world = World::new(
        r#"{"version":1,"scopes":[{"path_prefix":"/admin","scope":"admin"}],
            "public":[{"path_prefix":"/open"}],
            "limits":[{"name":"address","per":"address","requests":1000000,"window_seconds":60},
                      {"name":"both","per":"address_and_key","algorithm":"sliding_window","requests":1000000,"window_seconds":60},
                      {"name":"k","per":"key","algorithm":"token_bucket","requests":1000000,"window_seconds":60}]}"#,
    );
    let key = world.issue_with(|r| {
        r.scope = Scope::Write;
        r.allowed_ips = vec!["192.0.2.0/24".parse().unwrap()];
    });
    passed(world.get(&key));
    world.pass_ms(1000);

    let mut slots = StillSlots { content: [0; gate::MAX_SLOT_BYTES], len: 0 };
    let request = Request {
        stream: StreamId(7),
        method: b"GET",
        path: b"/v1/things?x=1",
        credential: Credential::One(key.as_bytes()),
        client: ClientAddress::parse(b"192.0.2.1:4711"),
    };
    let now = Now::from_unix_ms(world.now_ms);
    let before = ALLOCATIONS.get();
    for _ in 0..1000 {
        let pass = passed(world.gate.on_request(&request, now, &mut slots));
        let identity = pass.entry.and_then(|entry| world.gate.identity(entry)).unwrap();
        assert_eq!(identity.owner, Some("acme"));
        let report = pass.report.unwrap();
        let name = world.gate.limit_name(&report);
        let mut length = 0;
        report.write_headers(name, world.gate.rate_limit_headers(), now, |_, value| {
            length += value.len();
        });
        assert!(length > 0);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
}
