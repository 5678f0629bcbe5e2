//! Questions about keys: cold, remembered, unknown; among few keys and among many.

use std::sync::Arc;

use anyhow::Result;
use edge_protocol::VERIFY_PATH;
use hyper::body::Bytes;

use super::ground::Ground;
use super::load::{Bodies, Timings, closed, each, of, open};
use super::report::{Figure, Target};
use super::{Options, hashing, keys};

/// Cold keys a second: a fleet that starts afresh, say.
const COLD_RATE: f64 = 20.0;
/// Filters that ask at the same time.
const CONNECTIONS: usize = 32;
/// Keys that are asked about again and again.
const WARM_KEYS: usize = 200;
const FEW_KEYS: u32 = 1000;

/// Each connection goes round the keys from a place of its own.
fn round(keys: &[String]) -> Result<Bodies> {
    let questions = keys.iter().map(|key| keys::question(key)).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(move |connection, call| {
        let place = connection * 7919 + usize::try_from(call).unwrap_or_default();
        questions.get(place % questions.len()).cloned().unwrap_or_default()
    }))
}

pub(super) async fn measure(options: &Options, ground: &Ground) -> Result<Vec<Figure>> {
    let mut figures = cold(options, ground).await?;
    let warm = keys::issue(ground, WARM_KEYS).await?;
    // Each of them is hashed once, and remembered.
    let first = warm.iter().map(|key| keys::question(key)).collect::<Result<Vec<_>>>()?;
    each(&ground.edge, VERIFY_PATH, first).await?;
    figures.extend(remembered(options, ground, &warm).await?);

    for count in [FEW_KEYS, options.many_keys()] {
        keys::fill(&ground.database, count).await?;
        figures.extend(look_up(options, ground, &warm, count).await?);
    }
    Ok(figures)
}

async fn cold(options: &Options, ground: &Ground) -> Result<Vec<Figure>> {
    let keys = keys::issue(ground, if options.quick { 60 } else { 400 }).await?;
    let questions: Vec<Bytes> =
        keys.iter().map(|key| keys::question(key)).collect::<Result<_>>()?;
    let raw = hashing::raw(if options.quick { 20 } else { 100 });
    let raw = |percentile| hashing::percentile_ms(&raw, percentile);
    let cold = open(&ground.edge, VERIFY_PATH, COLD_RATE, questions).await?;
    let figure = |name, percentile| {
        let name = format!("cold verification at {COLD_RATE} a second, {name}");
        Figure::new(name, cold.percentile_ms(percentile), "ms")
            .on(ground.store)
            .beside("raw PBKDF2", raw(percentile))
    };
    Ok(vec![
        figure("median", 50.0),
        figure("p95", 95.0).to_be(Target::AtMost(25.0)).claimed(Target::AtMost(60.0)),
        figure("p99", 99.0),
        Figure::new(
            format!("of {} cold keys refused as too many", keys.len()),
            of(cold.failures),
            "",
        )
        .on(ground.store)
        .to_be(Target::AtMost(0.0)),
    ])
}

async fn remembered(options: &Options, ground: &Ground, keys: &[String]) -> Result<Vec<Figure>> {
    let (bodies, span) = (round(keys)?, options.span());
    let call = |target, watched| {
        closed(target, VERIFY_PATH, CONNECTIONS, span, watched, Arc::clone(&bodies))
    };
    let nothing: Timings = call(&ground.idle, vec![ground.nothing()]).await?;
    let own = call(&ground.edge, ground.with_database()?).await?;
    let of_itself = of(own.answers) / own.cpu.first().copied().unwrap_or(f64::NAN);
    Ok(vec![
        Figure::new("remembered keys a second of a core", of_itself, "/s")
            .on(ground.store)
            .to_be(Target::AtLeast(10_000.0))
            .beside("a server that does nothing", nothing.rate_of_a_core()),
        Figure::new("the same with the database's share", own.rate_of_a_core(), "/s")
            .on(ground.store),
        Figure::new("remembered keys a second, with the load on the same cores", own.rate(), "/s")
            .on(ground.store)
            .beside("a server that does nothing", nothing.rate()),
    ])
}

async fn look_up(
    options: &Options,
    ground: &Ground,
    warm: &[String],
    count: u32,
) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let unknown = keys::unknown(20_000)?;
    for (what, keys) in [("known", warm), ("unknown", &unknown)] {
        let span = options.span() / 2;
        let nothing = closed(&ground.idle, VERIFY_PATH, 1, span, vec![], round(keys)?).await?;
        let own = closed(&ground.edge, VERIFY_PATH, 1, span, vec![], round(keys)?).await?;
        for (name, percentile, claim) in
            [("median", 50.0, None), ("p99", 99.0, Some(Target::AtMost(10.0)))]
        {
            let name = format!("look-up of {what} keys among {count}, {name}");
            let figure = Figure::new(name, own.percentile_ms(percentile), "ms")
                .on(ground.store)
                .beside("a server that does nothing", nothing.percentile_ms(percentile));
            figures.push(Figure { claim, ..figure });
        }
    }
    Ok(figures)
}
