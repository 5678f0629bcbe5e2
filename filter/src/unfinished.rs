//! What a module answers that `cargo xtask wasm` has not finished.
//!
//! Such a module still has the SDK's entry points, and the SDK lets everything pass when it finds
//! no context of ours. So it is given one, which refuses every configuration. Finishing drops
//! this, since nothing calls it any more.

#![expect(unsafe_code, reason = "exporting a symbol by name is unsafe by definition")]

use proxy_wasm::traits::{Context, RootContext};
use proxy_wasm::types::LogLevel;

use crate::host;

struct Unfinished;

impl Context for Unfinished {}

impl RootContext for Unfinished {
    fn on_configure(&mut self, _size: usize) -> bool {
        let line = "keygate: this module is not finished: use target/keygate_filter.wasm, \
                    which `cargo xtask wasm` makes";
        host::log(LogLevel::Critical, line);
        false
    }
}

#[unsafe(export_name = "_initialize")]
extern "C" fn initialize() {
    proxy_wasm::set_root_context(|_| Box::new(Unfinished));
}
