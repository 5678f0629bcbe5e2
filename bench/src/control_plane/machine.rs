//! Where it was measured.

use std::fmt;
use std::fs;
use std::process::Command;

use serde::Serialize;

/// A machine and what runs on it.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The CPU, by its own name.
    pub cpu: String,
    /// How many of them.
    pub cpus: usize,
    /// Whether they have instructions for SHA-256.
    pub sha_ni: bool,
    /// The kernel.
    pub kernel: String,
    /// The compiler.
    pub rustc: String,
    /// The commit that is checked out.
    pub commit: String,
    /// `PostgreSQL`.
    pub postgres: String,
    /// Redis.
    pub redis: String,
    /// How many processes wanted a CPU in the minute before, on average.
    pub load: f64,
}

/// Looks at this one. What cannot be told is left empty.
pub(super) fn look() -> Machine {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value.trim())
    };
    let model = of("model name");
    let (family, number) = (of("cpu family"), of("model\t"));
    Machine {
        cpu: format!("{model} (family {family}, model {number})"),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        sha_ni: of("flags").split(' ').any(|flag| flag == "sha_ni"),
        kernel: said("uname", &["-sr"]),
        rustc: said("rustc", &["--version"]),
        commit: said("git", &["describe", "--always", "--dirty", "--abbrev=12"]),
        postgres: said("psql", &["--version"]),
        redis: said("redis-server", &["--version"]),
        load: load(),
    }
}

/// How many processes wanted a CPU in the minute before, on average.
pub(super) fn load() -> f64 {
    let loads = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    loads.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or_default()
}

/// The first line that a program prints.
fn said(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output();
    let text = output.map(|it| String::from_utf8_lossy(&it.stdout).into_owned());
    text.unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cpus, sha_ni, kernel, rustc, commit, postgres, redis, load } = self;
        let sha = if *sha_ni { "with" } else { "without" };
        writeln!(f, "{cpus} × {cpu} {sha} SHA-NI, {kernel}, {rustc}, commit {commit}")?;
        write!(f, "{postgres}; {redis}; load average before: {load}")
    }
}
