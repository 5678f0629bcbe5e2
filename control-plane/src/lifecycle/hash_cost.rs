//! What one hash costs on this machine.

use anyhow::Context;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

use crate::{
    keys::{
        digest::PresentedKey,
        hashing::{HashRecipe, Iterations},
        pool::HashPool,
    },
    metrics,
};

/// A hash slower than this keeps a filter waiting; say so.
const SLOW_HASH: Duration = Duration::from_millis(40);

/// Says what one hash costs on this machine, since that bounds how many new keys a second can be
/// verified.
pub(super) async fn measure(pool: &HashPool, iterations: Iterations) -> anyhow::Result<()> {
    let key = PresentedKey::new(b"what does one hash cost here?".as_slice()).context("a key")?;
    let started = Instant::now();
    pool.hash(Arc::new(key), HashRecipe::current(iterations, [0; 16])).await?;
    let took = started.elapsed();
    ::metrics::gauge!(metrics::HASH_SECONDS).set(took.as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "a handful of threads")]
    let per_second = pool.threads() as f64 / took.as_secs_f64().max(f64::EPSILON);
    tracing::info!(
        took_ms = took.as_millis(),
        iterations = iterations.get(),
        threads = pool.threads(),
        "one hash; {per_second:.0} new keys a second"
    );
    if took > SLOW_HASH {
        tracing::warn!(
            took_ms = took.as_millis(),
            "hashing is slow here: the machine lacks SHA instructions, or is busy"
        );
    }
    Ok(())
}
