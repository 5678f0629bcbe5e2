//! `cargo xtask fuzz`: the targets of the crate `fuzz`, by the hour.
//!
//! libFuzzer leads, where there is a C++ compiler to build it: the stable compiler makes the
//! counters that it goes by, so no nightly one is needed. Elsewhere inputs are changed at random.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::process::{self, Captured};
use crate::{interrupt, progress, wait, workspace};

/// The longest that an input may take, in seconds, and the most memory, in MiB.
const SLOWEST_SECONDS: u32 = 10;
const MOST_MEMORY_MIB: u32 = 2048;
/// The longest input, in bytes.
const LONGEST: u32 = 4096;

/// What to feed, and for how long.
#[derive(Debug, Args)]
pub struct Fuzz {
    /// Targets, by their names [default: all of them]
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// Minutes, shared among the targets [default: one for each]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: Option<u64>,
    /// Draw everything from this number, which the run before has printed [default: another each time]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    seed: Option<u32>,
    /// What leads from one input to the next [default: coverage, where a C++ compiler is found]
    #[arg(long, value_enum)]
    engine: Option<Engine>,
    /// Run this input alone, on the one target that is named
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Show the targets, and what must hold of each
    #[arg(long)]
    list: bool,
}

/// What leads from one input to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// What the last one has reached: libFuzzer
    Coverage,
    /// Chance
    Random,
}

/// How a target was left.
struct Outcome {
    target: String,
    inputs: u64,
    /// How many edges of the program were reached, where that is counted.
    reached: Option<u64>,
    /// What broke its property, and the last words about it.
    broken: Option<(PathBuf, String)>,
}

/// Runs what was asked for.
pub(crate) fn run(options: &Fuzz) -> Result<()> {
    let plain = build(Engine::Random)?;
    let known = known(&plain)?;
    if options.list {
        for (name, property) in &known {
            println!("{name:22}{property}");
        }
        return Ok(());
    }
    let unknown = options.targets.iter().find(|name| !known.contains_key(*name));
    if let Some(name) = unknown {
        let names: Vec<_> = known.keys().map(String::as_str).collect();
        bail!("there is no target {name}; there are {}", names.join(", "));
    }
    if let Some(file) = &options.replay {
        let [target] = options.targets.as_slice() else {
            bail!("name the one target that the file is for");
        };
        return replay(&plain, target, file);
    }
    let targets = if options.targets.is_empty() {
        known.into_keys().collect()
    } else {
        options.targets.clone()
    };
    let count = u32::try_from(targets.len()).unwrap_or(u32::MAX).max(1);
    let each = match options.minutes {
        Some(minutes) => Duration::from_mins(minutes) / count,
        None => Duration::from_mins(1),
    };
    let engine = options.engine.unwrap_or_else(usual_engine);
    let program = if engine == Engine::Random { plain } else { build(engine)? };
    let seed = options.seed.unwrap_or_else(|| fastrand::u32(1..));
    let shown = engine.to_possible_value().map(|it| it.get_name().to_owned()).unwrap_or_default();
    progress::step(&format!("{count} targets, {} s each, by {shown}, seed {seed}", each.as_secs()));
    let mut outcomes = Vec::new();
    for target in targets {
        interrupt::check()?;
        let outcome = fuzz(engine, &program, target, each, seed)?;
        progress::note(&outcome.to_string());
        outcomes.push(outcome);
    }
    verdict(&outcomes)
}

fn usual_engine() -> Engine {
    let mut compiler = Command::new(std::env::var_os("CXX").unwrap_or_else(|| "c++".into()));
    compiler.arg("--version");
    if process::succeeds(compiler) {
        return Engine::Coverage;
    }
    progress::note("there is no C++ compiler for libFuzzer: inputs are changed at random");
    Engine::Random
}

fn build(engine: Engine) -> Result<PathBuf> {
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--quiet", "-p", "fuzz"]);
    let name = match engine {
        Engine::Random => "fuzz",
        Engine::Coverage => {
            let wrapper = workspace::root().join("fuzz/instrumented");
            cargo.args(["--features", "coverage"]).env("RUSTC_WORKSPACE_WRAPPER", wrapper);
            "fuzz-coverage"
        }
    };
    progress::step(&format!("building {name}"));
    cargo.args(["--bin", name]);
    process::run(cargo)?;
    Ok(workspace::target_dir()?.join("debug").join(name))
}

fn known(plain: &Path) -> Result<BTreeMap<String, String>> {
    let mut list = Command::new(plain);
    list.arg("list");
    let list = process::capture(list)?;
    let lines = list.lines().filter_map(|line| line.split_once('\t'));
    Ok(lines.map(|(name, property)| (name.to_owned(), property.to_owned())).collect())
}

fn replay(plain: &Path, target: &str, file: &Path) -> Result<()> {
    let mut command = Command::new(plain);
    command.arg("replay").arg(target).arg(file).env("RUST_BACKTRACE", "1");
    process::run(command).with_context(|| format!("{} breaks {target}", file.display()))
}

/// Runs a target until its time is over, or something is found.
fn fuzz(
    engine: Engine,
    program: &Path,
    target: String,
    time: Duration,
    seed: u32,
) -> Result<Outcome> {
    let place = workspace::target_dir()?.join("fuzz").join(&target);
    let (found, grown) = (place.join("found"), place.join("corpus"));
    for folder in [&found, &grown] {
        fs::create_dir_all(folder)?;
    }
    // What an earlier run has found was told then.
    let before = files(&found)?;
    let mut command = Command::new(program);
    match engine {
        Engine::Random => {
            let seconds = time.as_secs().to_string();
            command.args(["run", &target, &seconds, &seed.to_string()]).arg(&found);
        }
        Engine::Coverage => {
            command.env("KEYGATE_FUZZ_TARGET", &target).arg(&grown);
            command.arg(workspace::root().join("fuzz/corpus").join(&target));
            command.arg(format!("-artifact_prefix={}/", found.display()));
            command.args([
                format!("-max_total_time={}", time.as_secs().max(1)),
                format!("-seed={seed}"),
                format!("-timeout={SLOWEST_SECONDS}"),
                format!("-rss_limit_mb={MOST_MEMORY_MIB}"),
                format!("-max_len={LONGEST}"),
                "-print_final_stats=1".to_owned(),
            ]);
        }
    }
    let watch = wait::Stopwatch::start();
    let Captured { status, output, errors } = process::captured(command)?;
    let inputs = number_after(&[&output, &errors], "stat::number_of_executed_units:");
    let reached = last_number_after(&errors, " cov: ");
    let broken = if status.success() {
        None
    } else {
        let new = files(&found)?.into_iter().find(|file| !before.contains(file));
        let file = new.or_else(|| Some(found.join("crash-random")).filter(|file| file.is_file()));
        let words = last_words(&errors);
        let Some(file) = file else { bail!("{target} cannot be run ({status}): {words}") };
        Some((file, format!("after {} s: {words}", watch.elapsed().as_secs())))
    };
    Ok(Outcome { target, inputs: inputs.unwrap_or(0), reached, broken })
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(fs::read_dir(folder)?.flatten().map(|entry| entry.path()).collect())
}

/// The message of the panic, or what the engine says of an input that takes too long or too much.
fn last_words(errors: &str) -> String {
    let mut lines = errors.lines();
    if lines.any(|line| line.contains("panicked at")) {
        return lines.take(3).collect::<Vec<_>>().join(" ").chars().take(400).collect();
    }
    let found = errors.lines().find(|line| line.contains("ERROR:"));
    found.unwrap_or("it does not say why").to_owned()
}

fn number_after(texts: &[&String], name: &str) -> Option<u64> {
    texts.iter().find_map(|text| last_number_after(text, name))
}

fn last_number_after(text: &str, name: &str) -> Option<u64> {
    let (_, rest) = text.rsplit_once(name)?;
    rest.split_whitespace().next()?.parse().ok()
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verdict = if self.broken.is_some() { "BROKEN" } else { "holds" };
        write!(f, "{:22} {verdict:6} {:>10} inputs", self.target, self.inputs)?;
        if let Some(reached) = self.reached {
            write!(f, ", {reached:>6} edges")?;
        }
        Ok(())
    }
}

fn verdict(outcomes: &[Outcome]) -> Result<()> {
    println!();
    for outcome in outcomes {
        println!("{outcome}");
    }
    let mut broken = Vec::new();
    for Outcome { target, broken: found, .. } in outcomes {
        let Some((file, words)) = found else { continue };
        println!("\n{target}, {words}");
        println!("  again:  cargo xtask fuzz {target} --replay {}", file.display());
        println!("  for good, once it is mended: keep the file in fuzz/corpus/{target}/");
        broken.push(target.as_str());
    }
    if !broken.is_empty() {
        bail!("broken: {}", broken.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{last_number_after, last_words};

    #[test]
    fn the_engines_last_words_are_understood() {
        let said = "#1\tINITED cov: 12 ft: 3\n#9\tDONE   cov: 34 ft: 5\nstat::number_of_executed_units: 99\n";
        assert_eq!(last_number_after(said, " cov: "), Some(34));
        assert_eq!(last_number_after(said, "stat::number_of_executed_units:"), Some(99));
        assert_eq!(last_number_after("", " cov: "), None);
        let panic = "x\nthread 'main' panicked at a.rs:1:2:\nassertion failed\nnote: more\n";
        assert_eq!(last_words(panic), "assertion failed note: more");
        assert_eq!(
            last_words("==1== ERROR: libFuzzer: timeout"),
            "==1== ERROR: libFuzzer: timeout"
        );
    }
}
