//! Who runs on which core, and how long it has run.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rustix::thread::{CpuSet, Pid, sched_setaffinity};
use serde::Serialize;

use crate::process;

/// Where the Envoys run, and nothing else.
pub(super) const MEASURED: usize = 0;
/// Where everything else does: the load, the control plane, the servers that are asked.
pub(super) const REST: usize = 1;

/// Keeps this process and all that it starts from now on to one core: each of its threads, since one of
/// them, which is there already, starts all children.
pub(super) fn keep_to(core: usize) -> Result<()> {
    move_to(std::process::id(), &[core])
}

/// Moves all threads of a process to some cores; those that they start stay there.
pub(super) fn move_to(process: u32, cores: &[usize]) -> Result<()> {
    for thread in threads(process)? {
        let id = thread.file_name().and_then(|name| name.to_str()).and_then(|id| id.parse().ok());
        set(Pid::from_raw(id.context("a thread has no number")?), cores)?;
    }
    Ok(())
}

fn set(thread: Option<Pid>, cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    sched_setaffinity(thread, &set)
        .with_context(|| format!("cannot run on {cores:?}: the benchmark takes two cores"))
}

/// During how much of the time each core was taken from a program that only watched the clock, in
/// percent: by the host, or by what else the system does. No latency can be told from such a stop.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Stopped {
    pub(super) measured: f64,
    pub(super) rest: f64,
}

impl Stopped {
    const LOOK: Duration = Duration::from_secs(5);
    const LEAST: Duration = Duration::from_micros(300);

    pub(super) fn look() -> Result<Self> {
        let rest = thread::spawn(|| Self::on(REST));
        // Of its own: the one that goes on from here keeps its cores.
        let measured = thread::spawn(|| Self::on(MEASURED));
        let of = |watched: thread::JoinHandle<Result<f64>>| {
            watched.join().map_err(|_| anyhow!("a look at a core has failed"))?
        };
        Ok(Self { measured: of(measured)?, rest: of(rest)? })
    }

    #[expect(clippy::disallowed_methods, reason = "this watches the real clock")]
    fn on(core: usize) -> Result<f64> {
        set(None, &[core])?;
        let (begun, mut stopped) = (Instant::now(), Duration::ZERO);
        let mut last = begun;
        while last - begun < Self::LOOK {
            let now = Instant::now();
            let gap = now - last;
            if gap > Self::LEAST {
                stopped += gap;
            }
            last = now;
        }
        Ok(100.0 * stopped.as_secs_f64() / (last - begun).as_secs_f64())
    }
}

/// Who gets a core that others want as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Whenever it wants it.
    First,
    /// Everybody in turn.
    Fair,
    /// Hardly ever: only a core that nobody else wants.
    Last,
}

/// Gives all threads of a process that turn; those that they start have it too.
pub(super) fn give_turn(process: u32, turn: Turn) -> Result<()> {
    let (class, priority) = match turn {
        Turn::First => ("--fifo", "1"),
        Turn::Fair => ("--other", "0"),
        Turn::Last => ("--idle", "0"),
    };
    let mut chrt = Command::new("chrt");
    chrt.args(["--all-tasks", class, "--pid", priority, &process.to_string()]);
    process::run(chrt).context(
        "the benchmark takes chrt, of the package util-linux, and the right to use it \
         (CAP_SYS_NICE): run it as root",
    )
}

/// How long the threads of a process have run on a core, by the kernel's own account.
pub(super) fn time_of(process: u32) -> Result<Duration> {
    let mut sum = 0;
    for thread in threads(process)? {
        // A thread may have ended in between.
        let account = fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
        let ran = account.split_whitespace().next().unwrap_or("0");
        sum += ran.parse::<u64>().context("the kernel keeps no account (CONFIG_SCHED_INFO)")?;
    }
    Ok(Duration::from_nanos(sum))
}

/// How much memory a process has in use, in bytes.
pub(super) fn memory_of(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line.and_then(|it| it.split_whitespace().next()).unwrap_or("0").parse()?;
    Ok(kib * 1024)
}

/// How much memory the largest of a process' WebAssembly VMs has, in bytes: such memory is followed by so
/// much room that no access can leave it.
pub(super) fn memory_of_vm(process: u32) -> Result<u64> {
    const ROOM: u64 = 4 << 30;
    let maps = fs::read_to_string(format!("/proc/{process}/maps"))?;
    let mut largest = 0;
    let mut before = None;
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (Some(range), Some(rights)) = (words.next(), words.next()) else { continue };
        let (first, end) = range.split_once('-').context("a mapping has no range")?;
        let (first, end) = (u64::from_str_radix(first, 16)?, u64::from_str_radix(end, 16)?);
        if let Some((own_first, own_end)) = before
            && own_end == first
            && rights.starts_with("---")
            && end - first >= ROOM
        {
            largest = largest.max(own_end - own_first);
        }
        before = rights.starts_with("rw-").then_some((first, end));
    }
    Ok(largest)
}

fn threads(process: u32) -> Result<Vec<PathBuf>> {
    let folder = format!("/proc/{process}/task");
    let entries = fs::read_dir(&folder).with_context(|| format!("{folder} cannot be read"))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}
