//! The CPU time that processes have taken.

use std::fs;
use std::time::Duration;

/// A process, or one and its children.
#[derive(Clone, Copy, Debug)]
pub(super) enum Processes {
    One(u32),
    WithChildren(u32),
}

/// The fields of `/proc/*/stat` after the name, which is in parentheses and may hold anything.
struct Stat {
    parent: u32,
    ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |place: usize| fields.get(place).and_then(|field| field.parse::<u64>().ok());
    Some(Stat { parent: u32::try_from(number(1)?).ok()?, ticks: number(11)? + number(12)? })
}

impl Processes {
    /// What they have taken so far, of those that still run.
    pub(super) fn time(self) -> Duration {
        let ticks = match self {
            Self::One(pid) => stat(pid).map_or(0, |it| it.ticks),
            Self::WithChildren(pid) => {
                let all = fs::read_dir("/proc").into_iter().flatten().flatten();
                let pids = all.filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok());
                let stats = pids.filter_map(|it| stat(it).map(|stat| (it, stat)));
                let ours = stats.filter(|(it, stat)| *it == pid || stat.parent == pid);
                ours.map(|(_, stat)| stat.ticks).sum()
            }
        };
        Duration::from_secs(1) * u32::try_from(ticks).unwrap_or(u32::MAX)
            / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100)
    }
}
