//! The entry points that Envoy calls, by the proxy-wasm ABI 0.2.1.
//!
//! Callbacks that are not here (`proxy_on_done`, `proxy_on_delete`, `proxy_on_log`, …) are not
//! exported, since each export is one more entry into the VM for each request.

#![expect(unsafe_code, reason = "exporting a symbol by name is unsafe by definition")]

use proxy_wasm::types::Action;

use crate::buffer;
use crate::filter::with_filter;
use crate::host;

/// The host asks for room for an answer.
#[unsafe(export_name = "keygate_malloc")]
extern "C" fn malloc(size: usize) -> *mut u8 {
    buffer::room_for_host(size)
}

/// A context begins: a root context when `parent` is 0, else a request.
#[unsafe(export_name = "keygate_on_context_create")]
extern "C" fn on_context_create(context: u32, parent: u32) {
    with_filter((), |filter| filter.on_context_create(context, parent));
}

/// A configuration arrives for a root context. 0 refuses it.
#[unsafe(export_name = "keygate_on_configure")]
extern "C" fn on_configure(root: u32, size: usize) -> u32 {
    u32::from(with_filter(false, |filter| filter.on_configure(root, size)))
}

/// Time has passed for a root context.
#[unsafe(export_name = "keygate_on_tick")]
extern "C" fn on_tick(root: u32) {
    with_filter((), |filter| filter.on_tick(root));
}

/// A request's headers have arrived.
#[unsafe(export_name = "keygate_on_request_headers")]
extern "C" fn on_request_headers(context: u32, _count: usize, _end: u32) -> u32 {
    let action = with_filter(None, |filter| Some(filter.on_request_headers(context)));
    // Without a filter there is no decision, and without a decision nothing passes.
    let action = action.unwrap_or_else(host::refuse_without_gate);
    action as u32
}

/// A response's headers are on their way to the client.
#[unsafe(export_name = "keygate_on_response_headers")]
extern "C" fn on_response_headers(context: u32, _count: usize, _end: u32) -> u32 {
    with_filter((), |filter| filter.on_response_headers(context));
    Action::Continue as u32
}

/// The answer to a call to the control plane.
#[unsafe(export_name = "keygate_on_http_call_response")]
extern "C" fn on_http_call_response(
    root: u32,
    token: u32,
    headers: usize,
    body_size: usize,
    _trailers: usize,
) {
    with_filter((), |filter| {
        filter.on_http_call_response(root, token, headers, body_size);
    });
}
