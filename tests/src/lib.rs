//! What the end-to-end tests stand on: a whole Keygate of a test's own, and clients that send
//! exactly what a test says.
//!
//! ```ignore
//! let gate = Gate::builder()
//!     .config(json!({"limits": []}))            // over what it is otherwise (RFC 7396)
//!     .start();                                 // real Envoy, real wasm, real control plane
//! let key = gate.admin().create_key(json!({"scope": "write", "owner": "alice"}));
//!
//! let answer = gate.get("/path").key(&key).client(fresh_address()).send();
//! assert_eq!(answer.upstream().header("x-keygate-owner"), ["alice"]);
//!
//! gate.get("/path").send().assert_problem(403, "missing_api_key");
//! gate.audited("MISSING_API_KEY", |row| row["shadow"] == false);
//!
//! let mut connection = gate.connect_to_worker(1);         // HTTP/1.1, kept open
//! gate.get("/path").key(&key).send_on(&mut connection);
//! connection.exchange(b"GET / HTTP/1.1\r\nHost: x\r\nX-API-Key: \xff\r\n\r\n");
//! gate.get("/path").key(&key).http2().send();
//!
//! let mut gate = gate;
//! gate.stack.control_plane.process_mut().pause();          // freeze, kill, restart parts
//!
//! let second = Replica::start(&gate, "second", None);      // one more Envoy of the same fleet
//! Gate::builder().edit_envoy(ReadyFile::new("sidecar.yaml").upstream("application").edit());
//! ```
//!
//! - Every [`Gate`] has ports and a folder of its own, and ends when it is dropped; a test that
//!   fails shows the ends of the logs. There are two cores: few gates, one story each.
//! - Clients choose their address with `.client(…)`: one hop is trusted unless a test says
//!   otherwise. [`fresh_address`] gives one with untouched limits.
//! - Wait for conditions ([`eventually`]), never for a length of time. Tests that count in windows
//!   of a minute call [`wait_for_room_in_window`]; better they configure long windows.
//! - [`load`] has clients that ask and ask while a test breaks things, and a report of what they saw.
//! - The programs are built once in a run, see [`binaries`].

mod admin;
mod binaries;
mod builder;
mod certificates;
mod edge_proxy;
mod fleet;
mod gate;
pub mod http;
mod keys;
pub mod load;
mod ready_file;
mod wait;
mod wire;
mod workers;

pub use admin::Admin;
pub use binaries::{binaries, trap_filter, unfinished_filter};
pub use builder::{GateBuilder, patient, patiently};
pub use certificates::{Authority, Certificates};
pub use edge_proxy::{Call, Conduct, EdgeProxy, Line, Made};
pub use fleet::{Replica, another_control_plane, free_address};
pub use gate::{Gate, fresh_address};
pub use http::{Answer, Connection, Request};
pub use keys::{Key, key_hash, key_with_secret, mistyped, unknown_key, unknown_test_key};
pub use ready_file::{ReadyFile, control_planes_of};
pub use wait::{
    eventually, rfc3339, unix_ms, unix_seconds, wait_for_room_in_window,
    wait_for_room_in_window_of, within,
};
pub use wire::Wire;
pub use workers::Workers;
