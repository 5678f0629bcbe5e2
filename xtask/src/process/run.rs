//! Commands that run to their end.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use super::spawn;
use crate::interrupt;

const POLL: Duration = Duration::from_millis(50);

/// Runs a command that shows its own output, and fails when it fails.
///
/// # Errors
/// When it cannot be started, ends with another code than 0, or the tool is interrupted (the
/// command is then ended too).
pub fn run(mut command: Command) -> Result<()> {
    command.stdin(Stdio::null());
    let name = describe(&command);
    let status = finish(&mut spawn(command)?)?;
    if !status.success() {
        bail!("{name} failed ({status})");
    }
    Ok(())
}

/// Runs a command that shows its own output, as [`run`] does; and returns the lines of that too, of
/// both streams, also when it fails.
///
/// # Errors
/// When it cannot be started, or the tool is interrupted.
pub fn run_recorded(mut command: Command) -> Result<(Result<()>, Vec<String>)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let name = describe(&command);
    let mut child = spawn(command)?;
    let output = passing_on(child.stdout.take(), std::io::stdout());
    let errors = passing_on(child.stderr.take(), std::io::stderr());
    let status = finish(&mut child)?;
    let mut lines = output.join().unwrap_or_default();
    lines.extend(errors.join().unwrap_or_default());
    let ended =
        if status.success() { Ok(()) } else { Err(anyhow::anyhow!("{name} failed ({status})")) };
    Ok((ended, lines))
}

/// Runs a command and returns what it printed; its standard error is part of the error.
///
/// # Errors
/// As [`run`].
pub fn capture(command: Command) -> Result<String> {
    let name = describe(&command);
    let Captured { status, output, errors } = captured(command)?;
    if !status.success() {
        let said = if errors.trim().is_empty() { output.trim() } else { errors.trim() };
        bail!("{name} failed ({status}): {said}");
    }
    Ok(output)
}

/// What a command printed, and how it ended.
#[derive(Clone, Debug)]
pub struct Captured {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub output: String,
    /// Its standard error.
    pub errors: String,
}

/// Runs a command to whatever end it comes to.
///
/// # Errors
/// When it cannot be started, or the tool is interrupted.
pub fn captured(mut command: Command) -> Result<Captured> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(command)?;
    let output = reader(child.stdout.take());
    let errors = reader(child.stderr.take());
    let status = finish(&mut child)?;
    let output = output.join().unwrap_or_default();
    let errors = errors.join().unwrap_or_default();
    Ok(Captured { status, output, errors })
}

/// Whether a command can be run and ends well, its output unseen.
#[must_use]
pub fn succeeds(mut command: Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Shows lines as they come, and keeps them.
fn passing_on(
    pipe: Option<impl Read + Send + 'static>,
    mut to: impl Write + Send + 'static,
) -> std::thread::JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let mut lines = Vec::new();
        let Some(pipe) = pipe else { return lines };
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(line) = line else { break };
            // That nobody reads it any more does not end the tests.
            let _ = to.write_all(&line).and_then(|()| to.write_all(b"\n"));
            lines.push(String::from_utf8_lossy(&line).into_owned());
        }
        lines
    })
}

fn finish(child: &mut Child) -> Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a child")? {
            return Ok(status);
        }
        if interrupt::requested() {
            if let Some(group) = Pid::from_raw(i32::try_from(child.id()).unwrap_or(0)) {
                let _ = kill_process_group(group, Signal::TERM);
            }
            let _ = child.wait();
            bail!(interrupt::Interrupted);
        }
        std::thread::sleep(POLL);
    }
}

fn describe(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let mut words = vec![program.file_name().unwrap_or(program.as_os_str()).to_string_lossy()];
    words.extend(command.get_args().map(|word| word.to_string_lossy()));
    words.join(" ")
}
