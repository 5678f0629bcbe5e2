//! What a command answers, on standard output.

use std::io::{self, ErrorKind, Write};

/// Writes an answer. A reader who has seen enough (`| head`) is no failure.
pub(super) fn answer(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Writes an answer as JSON.
pub(super) fn answer_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    Ok(answer(&format!("{}\n", serde_json::to_string_pretty(value)?))?)
}
