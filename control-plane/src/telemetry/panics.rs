//! A panic as an event like any other: one line in the log's own form, and a report where these
//! are on. Rust's own hook would write plain text between the lines of JSON; Sentry's would keep
//! the thread that panicked, and all that it serves, until the report has left.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    panic::{self, PanicHookInfo},
    thread,
};

/// From now on.
pub(super) fn into_the_log() {
    panic::set_hook(Box::new(tell));
}

fn tell(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("without a message");
    let location = info.location().map(tracing::field::display);
    let thread = thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    // RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then_some(backtrace);
    let backtrace = backtrace.as_ref().map(tracing::field::display);
    tracing::error!(panic = message, location, thread, backtrace, "a bug: something panicked");
}
