//! Starts children that cannot outlive this tool.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

use anyhow::{Context, Result};

type Order = (Command, Sender<io::Result<Child>>);

/// Starts `command` in a process group of its own (a Ctrl-C reaches only this tool, which then
/// ends its children in order). On Linux the kernel kills it when this tool dies, however it dies.
///
/// # Errors
/// When the program cannot be started.
pub fn spawn(command: Command) -> Result<Child> {
    let name = command.get_program().to_string_lossy().into_owned();
    let (answer, answered) = channel();
    orders()?.send((command, answer)).ok().context("the spawner has ended")?;
    let child = answered.recv().context("the spawner has ended")?;
    child.with_context(|| format!("cannot run {name}"))
}

/// One thread starts all children and never ends: the kernel ties a child to the thread that
/// started it, and test threads come and go.
fn orders() -> Result<Sender<Order>> {
    static ORDERS: OnceLock<Sender<Order>> = OnceLock::new();
    if let Some(orders) = ORDERS.get() {
        return Ok(orders.clone());
    }
    let (orders, received) = channel::<Order>();
    std::thread::Builder::new().name("spawner".to_owned()).spawn(move || {
        for (mut command, answer) in received {
            command.process_group(0);
            die_with_parent(&mut command);
            // Whoever asked may have gone; the child is then dropped, and dies with this tool.
            let _ = answer.send(command.spawn());
        }
    })?;
    Ok(ORDERS.get_or_init(|| orders).clone())
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "code between fork and exec is unsafe by its nature")]
fn die_with_parent(command: &mut Command) {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    let parent = rustix::process::getpid();
    let tie = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the tie was made.
        if getppid() == Some(parent) {
            Ok(())
        } else {
            Err(io::Error::from(io::ErrorKind::BrokenPipe))
        }
    };
    // SAFETY: the closure makes two system calls, allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(tie);
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_command: &mut Command) {}
