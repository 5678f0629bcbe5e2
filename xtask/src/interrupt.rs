//! Ctrl-C and SIGTERM, as a flag that every wait of the tool looks at.
//!
//! Signals belong to the whole process, and so does the flag. Only the command line listens;
//! a test that uses this library never sees it raised.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// What [`check`] fails with: the person ended the tool, nothing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Whether the tool has been asked to end.
#[must_use]
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// Fails with [`Interrupted`] when the tool has been asked to end.
///
/// # Errors
/// [`Interrupted`], and nothing else.
pub fn check() -> Result<()> {
    if requested() {
        bail!(Interrupted);
    }
    Ok(())
}

/// Starts to listen. The first signal raises the flag; a second one ends the tool at once (its
/// children die with it).
///
/// # Errors
/// When the signals cannot be listened for.
pub fn listen() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("cannot listen for signals")?;
    let hangup_ignored = hangup_is_ignored();
    let (mut interrupt, mut terminate, mut hangup) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            if hangup_ignored { None } else { Some(signal(SignalKind::hangup())?) },
        )
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    () = closed(hangup.as_mut()) => {}
                }
                if REQUESTED.swap(true, Ordering::SeqCst) {
                    std::process::exit(130);
                }
            }
        });
    })?;
    Ok(())
}

/// The terminal was closed; never, where that is to be ignored.
async fn closed(hangup: Option<&mut Signal>) {
    match hangup {
        Some(hangup) => {
            hangup.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Whether the tool was started by `nohup`, or in its manner.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // Bit 0 is signal 1, SIGHUP.
    ignored
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}
