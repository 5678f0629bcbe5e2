//! What the operating system says of this process, under the names that every Prometheus client
//! uses for it. Read from `/proc` when it is asked for; what cannot be read is left out.

use rustix::process::{Resource, getrlimit};
use std::{fmt::Write, fs, path::Path};

use super::catalogue::{Kind, Metric};

/// Linux tells times of processes in hundredths of a second, whatever its own clock does
/// (`USER_HZ`, proc(5)).
const TICKS_A_SECOND: f64 = 100.0;
const BYTES_A_KILOBYTE: f64 = 1024.0;

macro_rules! process_metrics {
    ($($(#[doc = $meaning:literal])+ $field:ident = $kind:ident $name:literal;)+) => {
        /// All of them.
        pub const ALL: &[Metric] = &[$(Metric {
            name: $name,
            kind: Kind::$kind,
            labels: &[],
            meaning: concat!($($meaning),+),
            only: Some("on Linux"),
        }),+];

        #[derive(Default)]
        struct Readings { $($field: Option<f64>),+ }

        impl Readings {
            fn values(&self) -> [Option<f64>; ALL.len()] {
                [$(self.$field),+]
            }
        }
    };
}

process_metrics! {
    /// Processor time used, of user and system.
    cpu = Counter "process_cpu_seconds_total";
    /// Memory held in RAM.
    resident = Gauge "process_resident_memory_bytes";
    /// Memory addressed.
    addressed = Gauge "process_virtual_memory_bytes";
    /// Open files, connections among them.
    open_files = Gauge "process_open_fds";
    /// How many there may be.
    max_files = Gauge "process_max_fds";
    /// Threads.
    threads = Gauge "process_threads";
    /// When the process was started.
    started = Gauge "process_start_time_seconds";
}

/// The metrics of this process, in Prometheus' text format.
#[must_use]
pub fn render() -> String {
    let readings = read(Path::new("/proc"));
    let mut text = String::new();
    for (metric, value) in ALL.iter().zip(readings.values()) {
        let Some(value) = value else { continue };
        let (name, kind, meaning) = (metric.name, metric.kind.as_str(), metric.meaning.trim());
        // Writing to a string cannot fail.
        let _ = write!(text, "# HELP {name} {meaning}\n# TYPE {name} {kind}\n{name} {value}\n\n");
    }
    text
}

fn read(proc: &Path) -> Readings {
    let own = proc.join("self");
    let mut readings = Readings {
        open_files: fs::read_dir(own.join("fd")).ok().and_then(|files| {
            // The folder itself is open while it is read.
            u32::try_from(files.count().saturating_sub(1)).ok().map(f64::from)
        }),
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53, or no limit at all")]
        max_files: getrlimit(Resource::Nofile).current.map(|most| most as f64),
        ..Readings::default()
    };
    if let Ok(status) = fs::read_to_string(own.join("status")) {
        let field = |name: &str| {
            let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
            rest.split_whitespace().next()?.parse::<f64>().ok()
        };
        readings.resident = field("VmRSS:").map(|kb| kb * BYTES_A_KILOBYTE);
        readings.addressed = field("VmSize:").map(|kb| kb * BYTES_A_KILOBYTE);
        readings.threads = field("Threads:");
    }
    if let Ok(stat) = fs::read_to_string(own.join("stat")) {
        // The name of the program, in brackets, can hold anything; the state follows it.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let field = |number: usize| {
            // proc(5) counts from 1, and the name is the second.
            after_name.split_whitespace().nth(number - 3)?.parse::<f64>().ok()
        };
        readings.cpu =
            field(14).zip(field(15)).map(|(user, system)| (user + system) / TICKS_A_SECOND);
        readings.started =
            field(22).zip(booted_at(proc)).map(|(ticks, booted)| booted + ticks / TICKS_A_SECOND);
    }
    readings
}

/// When the machine was started, in seconds since the Unix epoch.
fn booted_at(proc: &Path) -> Option<f64> {
    let stat = fs::read_to_string(proc.join("stat")).ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reading_of_this_process_is_a_sane_one() {
        let readings = read(Path::new("/proc"));
        let resident = readings.resident.expect("memory");
        assert!((1e6..1e11).contains(&resident), "{resident}");
        assert!(readings.addressed.expect("memory") >= resident);
        assert!(readings.open_files.expect("files") >= 3.0);
        assert!(readings.threads.expect("threads") >= 1.0);
        assert!(readings.cpu.is_some());
        let started = readings.started.expect("a start");
        assert!(started > 1.6e9, "{started}");
    }

    #[test]
    fn where_there_is_nothing_to_read_nothing_is_shown() {
        let readings = read(Path::new("/nowhere"));
        assert!(readings.cpu.is_none() && readings.resident.is_none());
    }

    #[test]
    fn a_program_whose_name_has_brackets_and_spaces_is_read_all_the_same() {
        let folder = tempfile::TempDir::new().expect("a folder");
        fs::create_dir(folder.path().join("self")).expect("a folder");
        let stat = "7 (a) b (c) S 1 7 7 0 -1 0 0 0 0 0 150 50 0 0 20 0 9 0 12300 1 1";
        fs::write(folder.path().join("self/stat"), stat).expect("written");
        fs::write(folder.path().join("stat"), "cpu 1\nbtime 1700000000\n").expect("written");
        let readings = read(folder.path());
        assert_eq!(readings.cpu, Some(2.0));
        assert_eq!(readings.started, Some(1_700_000_123.0));
    }
}
