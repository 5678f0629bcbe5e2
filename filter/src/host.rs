//! What Envoy offers, as safe functions. No status of the host is a reason to panic.

#![expect(unsafe_code, reason = "calls into the host are foreign functions")]

use gate::{LogTakes, Now};
use proxy_wasm::types::{Action, BufferType, LogLevel, MapType, MetricType};

use crate::buffer::HostBuffer;
use crate::pairs::PairsWriter;

/// A request stream, to `proxy_continue_stream`.
const REQUEST_STREAM: u32 = 0;
/// No gRPC status, to `proxy_send_local_response`.
const NO_GRPC_STATUS: i32 = -1;
const OK: u32 = 0;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_get_log_level(level: *mut u32) -> u32;
    fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        max: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> u32;
    fn proxy_get_property(
        path: *const u8,
        path_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
        cas: u32,
    ) -> u32;
    fn proxy_continue_stream(stream: u32) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_http_call(
        upstream: *const u8,
        upstream_size: usize,
        headers: *const u8,
        headers_size: usize,
        body: *const u8,
        body_size: usize,
        trailers: *const u8,
        trailers_size: usize,
        timeout_ms: u32,
        token: *mut u32,
    ) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, metric: *mut u32) -> u32;
    fn proxy_increment_metric(metric: u32, offset: i64) -> u32;
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn random_get(at: *mut u8, size: usize) -> u32;
}

/// Writes a line to Envoy's log.
pub(crate) fn log(level: LogLevel, line: &str) {
    // SAFETY: the host reads `line` while the call lasts.
    unsafe { proxy_log(level as u32, line.as_ptr(), line.len()) };
}

/// Which lines Envoy's log takes.
pub(crate) fn log_takes() -> LogTakes {
    let mut level = 0;
    // SAFETY: the host writes 4 bytes.
    unsafe { proxy_get_log_level(&raw mut level) };
    if level <= LogLevel::Info as u32 {
        LogTakes::Everything
    } else if level <= LogLevel::Warn as u32 {
        LogTakes::Warnings
    } else {
        LogTakes::Nothing
    }
}

/// The wall clock. Should it fail, time stands at the epoch: windows end and records expire the
/// later for it, never the sooner.
pub(crate) fn now() -> Now {
    let mut nanoseconds = 0;
    // SAFETY: the host writes 8 bytes.
    unsafe { proxy_get_current_time_nanoseconds(&raw mut nanoseconds) };
    Now::from_unix_ms(nanoseconds / 1_000_000)
}

/// Random bytes from the operating system; `None` when there are none to be had.
pub(crate) fn random() -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    // SAFETY: the host writes `bytes.len()` bytes.
    let status = unsafe { random_get(bytes.as_mut_ptr(), bytes.len()) };
    (status == OK && bytes != [0; 16]).then_some(bytes)
}

/// Asks for `proxy_on_tick` in this root context.
pub(crate) fn tick_every(milliseconds: u32) {
    // SAFETY: no memory is shared.
    unsafe { proxy_set_tick_period_milliseconds(milliseconds) };
}

/// Makes the calls that follow be about another context. False when it has gone.
pub(crate) fn turn_to(context: u32) -> bool {
    // SAFETY: no memory is shared.
    unsafe { proxy_set_effective_context(context) == OK }
}

/// The bytes of a buffer.
pub(crate) fn buffer(into: &mut HostBuffer, kind: BufferType, size: usize) -> &[u8] {
    // SAFETY: `receive` passes places that live while the call lasts.
    into.receive(|at, len| unsafe { proxy_get_buffer_bytes(kind as u32, 0, size, at, len) })
        .unwrap_or_default()
}

/// All headers of a map, to be read with [`crate::pairs::pairs`].
pub(crate) fn header_pairs(into: &mut HostBuffer, map: MapType) -> Option<&[u8]> {
    // SAFETY: as above.
    into.receive(|at, len| unsafe { proxy_get_header_map_pairs(map as u32, at, len) }).ok()
}

/// Sets a header to this one value.
pub(crate) fn set_header(map: MapType, name: &[u8], value: &[u8]) {
    // SAFETY: the host reads both while the call lasts.
    unsafe {
        proxy_replace_header_map_value(
            map as u32,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        );
    }
}

/// Removes all values of a request header.
pub(crate) fn remove_request_header(name: &[u8]) {
    let map = MapType::HttpRequestHeaders as u32;
    // SAFETY: the host reads `name` while the call lasts.
    unsafe { proxy_remove_header_map_value(map, name.as_ptr(), name.len()) };
}

/// The client's address with its port, as Envoy knows it.
pub(crate) fn source_address(into: &mut HostBuffer) -> Option<&[u8]> {
    const PATH: &[u8] = b"source\0address";
    // SAFETY: as in `buffer`, and the host reads `PATH`.
    into.receive(|at, len| unsafe { proxy_get_property(PATH.as_ptr(), PATH.len(), at, len) }).ok()
}

/// A value that all VMs of this Envoy share, and its version.
pub(crate) fn shared<'b>(into: &'b mut HostBuffer, key: &[u8]) -> Option<(&'b [u8], u32)> {
    let mut cas = 0;
    let place = &raw mut cas;
    // SAFETY: as in `buffer`, the host reads `key` and writes 4 bytes to `place`.
    let value = into.receive(|at, len| unsafe {
        proxy_get_shared_data(key.as_ptr(), key.len(), at, len, place)
    });
    value.ok().map(|value| (value, cas))
}

/// Sets a shared value if its version is still `cas`, and says whether it did.
pub(crate) fn set_shared(key: &[u8], value: &[u8], cas: u32) -> bool {
    // SAFETY: the host reads both while the call lasts.
    let status =
        unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) };
    status == OK
}

/// Lets a paused request go on.
pub(crate) fn resume_request() {
    // SAFETY: no memory is shared.
    unsafe { proxy_continue_stream(REQUEST_STREAM) };
}

/// Answers a request here.
pub(crate) fn answer(status: u16, details: &str, headers: &PairsWriter, body: &str) {
    let headers = headers.list();
    // SAFETY: the host reads all four while the call lasts.
    unsafe {
        proxy_send_local_response(
            status.into(),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            NO_GRPC_STATUS,
        );
    }
}

/// Answers a request that no gate can decide on.
pub(crate) fn refuse_without_gate() -> Action {
    answer(503, "keygate_not_ready", &PairsWriter::new(), "");
    Action::Pause
}

/// Sends a request to a cluster. Returns the token that its answer will carry.
pub(crate) fn call(
    cluster: &str,
    headers: &PairsWriter,
    body: &[u8],
    timeout_ms: u32,
) -> Option<u32> {
    let headers = headers.list();
    let trailers = PairsWriter::new().list();
    let mut token = 0;
    // SAFETY: the host reads all of it while the call lasts, and writes 4 bytes to `token`.
    let status = unsafe {
        proxy_http_call(
            cluster.as_ptr(),
            cluster.len(),
            headers.as_ptr(),
            headers.len(),
            body.as_ptr(),
            body.len(),
            trailers.as_ptr(),
            trailers.len(),
            timeout_ms,
            &raw mut token,
        )
    };
    (status == OK).then_some(token)
}

/// Makes a counter known to Envoy, or finds it again.
pub(crate) fn counter(name: &str) -> Option<u32> {
    let mut metric = 0;
    // SAFETY: the host reads `name` and writes 4 bytes to `metric`.
    let status = unsafe {
        proxy_define_metric(MetricType::Counter as u32, name.as_ptr(), name.len(), &raw mut metric)
    };
    (status == OK).then_some(metric)
}

/// Adds to a counter.
pub(crate) fn increase(metric: u32, by: u32) {
    // SAFETY: no memory is shared.
    unsafe { proxy_increment_metric(metric, by.into()) };
}
