//! Against real servers: the scripts are the arithmetic, and an outage costs nobody the limit.

mod figures;
mod outages;
mod scripts;
mod together;

use edge_protocol::{
    Algorithm,
    leases::{Ask, Grant, Presence, Slices},
};
use std::sync::Arc;

use super::{EnvoyId, FleetLimits};
use crate::{
    clock::{Clock, SystemClock, unix_ms},
    random::SystemRandom,
    redis::testing::Kept,
};

fn now_ms() -> u64 {
    unix_ms(SystemClock.now())
}

/// Of an hour, so that nothing comes back while a test runs; in the slice that is now.
fn ask(algorithm: Algorithm, subject: &str, requests: u32, granted: u32, want: u32) -> Ask {
    let window_seconds = 3600;
    Ask {
        limit: "l".to_owned(),
        subject: subject.to_owned(),
        algorithm,
        requests,
        window_seconds,
        slice: Slices::of(algorithm, window_seconds).at(now_ms()),
        epoch: 1,
        granted,
        used: granted,
        want,
        // So that nothing is granted of what shares are.
        holds: 1,
    }
}

fn fixed(subject: &str, requests: u32, granted: u32, want: u32) -> Ask {
    ask(Algorithm::FixedWindow, subject, requests, granted, want)
}

/// A control plane's authority.
struct Replica {
    kept: Option<Kept>,
    limits: Arc<FleetLimits>,
}

impl Replica {
    async fn at(url: &str) -> Self {
        let kept = Kept::at(url);
        kept.becomes(true).await;
        let redis = Some(Arc::clone(&kept.redis));
        let limits = FleetLimits::new(redis, Arc::new(SystemClock), &SystemRandom).expect("one");
        Self { kept: Some(kept), limits: Arc::new(limits) }
    }

    fn alone() -> Self {
        let limits = FleetLimits::new(None, Arc::new(SystemClock), &SystemRandom).expect("one");
        Self { kept: None, limits: Arc::new(limits) }
    }

    async fn becomes(&self, in_use: bool) {
        self.kept.as_ref().expect("Redis").becomes(in_use).await;
    }

    async fn grant(&self, envoy: u64, ask: &Ask) -> Grant {
        let asks = std::slice::from_ref(ask);
        let answer = self.limits.answer(EnvoyId(envoy), None, asks).await;
        *answer.grants.first().expect("an answer")
    }

    /// The parts that an Envoy is told of.
    async fn hear(&self, envoy: u64, number: u64, holds: u32) -> u32 {
        let presence = Presence { number, holds, now_ms: now_ms() };
        let answer = self.limits.answer(EnvoyId(envoy), Some(&presence), &[]).await;
        answer.standing.expect("a standing").parts
    }
}
