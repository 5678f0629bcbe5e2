//! The engine that runs everywhere: inputs of the corpus, changed at random, from a seed.

use std::time::{Duration, Instant};

use crate::{Target, corpus};

/// Longer inputs find no more, and take longer.
const LONGEST: usize = 4096;
/// Pieces of what the parsers here read.
const WORDS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b":",
    b",",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1",
    b"1e999",
    b"4294967295",
    b"18446744073709551615",
    b"9223372036854775808",
    b"\\u0000",
    b"\\ud800",
    b"%",
    b"%00",
    b"%2f",
    b"%ff",
    b"%2e",
    b"/",
    b"//",
    b"..",
    b";",
    b"?",
    b"#",
    b"@",
    b"*",
    b"::",
    b"::ffff:",
    b"/0",
    b"/128",
    b"/129",
    b"\r\n",
    b"\0",
    b"\x7f",
    b"\xff",
    "é".as_bytes(),
    "\u{202e}".as_bytes(),
    b"kg_live_",
    b"kg_test_",
    b"version",
    b"key_id",
    b"0123456789abcdef",
];

/// What came of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ran {
    /// How many inputs.
    pub inputs: u64,
    /// The longest that one took.
    pub slowest: Duration,
}

/// Runs inputs until the time is over, or `most` of them, the corpus first. `watch` sees each input
/// before it is run: whoever keeps it knows which one it was when it does not come back.
pub fn run(
    target: &Target,
    seed: u64,
    time: Duration,
    most: u64,
    watch: &mut dyn FnMut(&[u8]),
) -> Ran {
    let mut random = fastrand::Rng::with_seed(seed);
    let seeds: Vec<_> = corpus::inputs(target.name).into_iter().map(|(_, bytes)| bytes).collect();
    let begun = Instant::now();
    let mut ran = Ran::default();
    let mut one = |input: &[u8]| {
        watch(input);
        let start = Instant::now();
        (target.run)(input);
        ran.inputs += 1;
        ran.slowest = ran.slowest.max(start.elapsed());
        ran.inputs < most && begun.elapsed() < time
    };
    if !seeds.iter().all(|input| one(input)) {
        return ran;
    }
    while one(&input(&seeds, &mut random)) {}
    ran
}

fn input(seeds: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut input = match random.choice(seeds) {
        Some(seed) if random.u8(..8) > 0 => seed.clone(),
        _ => bytes(random, 200),
    };
    for _ in 0..random.u8(1..6) {
        change(&mut input, seeds, random);
    }
    input.truncate(LONGEST);
    input
}

fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut fastrand::Rng) {
    let at = random.usize(..=input.len());
    let to = (at + random.usize(..16)).min(input.len());
    match random.u8(..8) {
        0 => input.truncate(at),
        1 => drop(input.drain(at..to)),
        2 => {
            let part = input[at..to].to_vec();
            input.splice(at..at, part);
        }
        3 => {
            let word = random.choice(WORDS).copied().unwrap_or_default();
            input.splice(at..at, word.iter().copied());
        }
        4 => {
            let word = random.choice(WORDS).copied().unwrap_or_default();
            input.splice(at..to, word.iter().copied());
        }
        5 => {
            let other = random.choice(seeds).cloned().unwrap_or_default();
            let from = random.usize(..=other.len());
            input.splice(at.., other[from..].iter().copied());
        }
        6 => {
            let new = bytes(random, 12);
            input.splice(at..at, new);
        }
        _ => {
            let (bit, value) = (1 << random.u8(..8), random.u8(..));
            if let Some(byte) = input.get_mut(at) {
                *byte = if random.bool() { *byte ^ bit } else { value };
            }
        }
    }
}

fn bytes(random: &mut fastrand::Rng, most: usize) -> Vec<u8> {
    let count = random.usize(..most);
    std::iter::repeat_with(|| random.u8(..)).take(count).collect()
}
