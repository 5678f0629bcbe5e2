//! `fuzz list`, `fuzz run TARGET SECONDS SEED FOLDER`, `fuzz replay TARGET FILE`: what
//! `cargo xtask fuzz` calls. A process of its own, so that whatever an input does ends no more.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use fuzz::{TARGETS, Target, random};

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["list"] => {
            for Target { name, property, .. } in TARGETS {
                println!("{name}\t{property}");
            }
        }
        ["replay", name, file] => {
            let Some(target) = Target::named(name) else { return unknown(name) };
            let input = fs::read(file).unwrap_or_else(|error| panic!("{file}: {error}"));
            (target.run)(&input);
            println!("it holds");
        }
        ["run", name, seconds, seed, folder] => {
            let Some(target) = Target::named(name) else { return unknown(name) };
            let seconds = seconds.parse().expect("a number of seconds");
            let seed = seed.parse().expect("a number as the seed");
            run(target, Duration::from_secs(seconds), seed, Path::new(folder));
        }
        _ => {
            eprintln!("called by `cargo xtask fuzz`");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// The input that is being run is in a file, whatever becomes of the process.
fn run(target: &Target, time: Duration, seed: u64, folder: &Path) {
    fs::create_dir_all(folder).expect("a folder for what is found");
    let file = folder.join("crash-random");
    // Open all the time: a file that is made anew for each input would be most of the work.
    let keep = fs::File::create(&file).expect("a file for the input");
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let ran = random::run(target, seed, time, u64::MAX, &mut |input| {
        let kept = keep.write_all_at(input, 0);
        let length = u64::try_from(input.len()).expect("a length");
        kept.and_then(|()| keep.set_len(length)).expect("the input is kept");
    });
    fs::remove_file(file).expect("nothing was found");
    println!("stat::number_of_executed_units: {}", ran.inputs);
}

fn unknown(name: &str) -> ExitCode {
    eprintln!("there is no target {name}");
    ExitCode::FAILURE
}
