//! The slow hash by itself.

use std::hint::black_box;
use std::time::Instant;

use hdrhistogram::Histogram;
use pbkdf2::{pbkdf2_hmac, sha2::Sha256};

use super::Options;
use super::load::of;
use super::report::{Figure, Target};
use crate::load::histogram;

/// As many as keys at rest are hashed with.
const ITERATIONS: u32 = 100_000;

/// How long a hash takes, of several, one after the other.
pub(super) fn raw(times: u32) -> Histogram<u64> {
    let mut latencies = histogram();
    for number in 0..times {
        let key = format!("kg_live_3c5588afe5b04bdd_{number:032}000000");
        let started = Instant::now();
        let mut digest = [0; 32];
        pbkdf2_hmac::<Sha256>(key.as_bytes(), b"0123456789abcdef", ITERATIONS, &mut digest);
        black_box(digest);
        latencies.saturating_record(u64::try_from(started.elapsed().as_nanos()).unwrap_or(0));
    }
    latencies
}

/// A percentile in milliseconds.
pub(super) fn percentile_ms(latencies: &Histogram<u64>, percentile: f64) -> f64 {
    of(latencies.value_at_percentile(percentile)) / 1e6
}

pub(super) fn measure(options: &Options) -> Vec<Figure> {
    let latencies = raw(if options.quick { 20 } else { 200 });
    vec![
        Figure::new("PBKDF2 of one key, median", percentile_ms(&latencies, 50.0), "ms"),
        Figure::new("PBKDF2 of one key, p95", percentile_ms(&latencies, 95.0), "ms")
            .claimed(Target::AtMost(50.0)),
    ]
}
