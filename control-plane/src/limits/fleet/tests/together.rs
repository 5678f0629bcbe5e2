//! A whole fleet in one story: Envoys that come, die and spend all they can, by shares and by
//! grants, with clocks that differ as far as they may. In no window is more spent than the limit.

use edge_protocol::{
    Algorithm,
    leases::{MAX_SKEW_MS, Presence, Slices, pool_of, share_of},
};
use proptest::prelude::*;

use crate::limits::fleet::{
    EnvoyId, VALID_MS,
    members::{Growth, Members},
    pool::{Pool, Sizes, Terms, Wish},
};

const START_MS: u64 = 1_795_608_005_000;
/// How much an Envoy waits on top before more parts count: each of two clocks may be off so far.
const MARGIN_MS: u64 = 2 * MAX_SKEW_MS;
const TICK_MS: u64 = 100;
const TICKS: u64 = 300;

/// An Envoy as the protocol has it.
#[derive(Clone, Debug)]
struct Envoy {
    id: EnvoyId,
    lives: std::ops::Range<u64>,
    /// What its clock shows more than Redis'.
    ahead_ms: u64,
    number: u64,
    holds: u32,
    until_ms: u64,
    /// What it held at each time of its clock.
    held: Vec<(u64, u32)>,
    /// When it spent of its shares.
    spent: Vec<u64>,
    slice: u64,
    granted: u32,
    used: u32,
    /// What is left of the slice before.
    carried: u32,
}

impl Envoy {
    /// The parts that count: of what it held since then, the least.
    fn parts(&self, since_ms: u64) -> u32 {
        let before = self.held.iter().rev().find(|(at, _)| *at <= since_ms);
        let since = self.held.iter().filter(|(at, _)| *at > since_ms);
        since.map(|it| it.1).chain([before.map_or(0, |it| it.1)]).min().unwrap_or(0)
    }

    fn spends_a_share(&mut self, terms: &Terms, window_ms: u64, now_ms: u64) -> bool {
        let (from, since_ms) = match terms.algorithm {
            Algorithm::FixedWindow => {
                let begins = now_ms / window_ms * window_ms;
                (begins, begins - MARGIN_MS)
            }
            Algorithm::SlidingWindow | Algorithm::TokenBucket => {
                (now_ms - window_ms + 1, now_ms - window_ms - MARGIN_MS)
            }
        };
        let share = share_of(terms.requests, self.parts(since_ms));
        let count = self.spent.iter().rev().take_while(|at| **at >= from).count();
        let fits = u32::try_from(count).expect("small") < share;
        if fits {
            self.spent.push(now_ms);
        }
        fits
    }
}

struct Control {
    members: Members,
    pool: Option<Pool>,
}

impl Control {
    /// Whether the pool lets the Envoy spend one more.
    fn grants(&mut self, terms: &Terms, now_ms: u64, envoy: &mut Envoy) -> bool {
        let slice = terms.slices.at(now_ms + envoy.ahead_ms - MAX_SKEW_MS);
        if envoy.slice != slice {
            let carries = terms.slices.lasts > 1 && slice == envoy.slice + 1;
            envoy.carried = if carries { envoy.granted - envoy.used } else { 0 };
            (envoy.slice, envoy.granted, envoy.used) = (slice, 0, 0);
        }
        if envoy.carried > 0 {
            envoy.carried -= 1;
            return true;
        }
        if envoy.used == envoy.granted && terms.out_of_step(slice, now_ms).is_none() {
            let learnt = self.members.learnt();
            if envoy.holds > 0 && now_ms < learnt.at_ms {
                self.members.note_foreign();
            }
            let certain = self.members.learnt().is_certain(terms.algorithm, terms.slices, slice);
            let sizes =
                Sizes { pool: pool_of(terms.requests), whole: certain.then_some(terms.requests) };
            let (used, granted) = (envoy.used, envoy.granted);
            let wish = Wish { envoy: envoy.id, slice, epoch: 1, granted, used, want: 7 };
            let pool = self.pool.get_or_insert_with(|| Pool::new(slice));
            envoy.granted = pool.ask(terms, sizes, 3, &wish).grant.granted;
        }
        let fits = envoy.used < envoy.granted;
        envoy.used += u32::from(fits);
        fits
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn shares_and_grants_together_are_never_more_than_the_limit(
        fixed: bool,
        window_seconds in 1_u32..12,
        requests in 1_u32..60,
        starts in 0_u64..5000,
        lives in proptest::collection::vec((0_u64..200, 20_u64..300, 0_u64..=2 * MAX_SKEW_MS), 1..5),
        hurry in proptest::collection::vec(0_u32..12, 7..30),
    ) {
        let algorithm = if fixed { Algorithm::FixedWindow } else { Algorithm::SlidingWindow };
        let terms = Terms { algorithm, slices: Slices::of(algorithm, window_seconds), requests };
        let window_ms = u64::from(window_seconds) * 1000;
        let start_ms = START_MS + starts;
        let mut control = Control { members: Members::new(start_ms), pool: None };
        let mut envoys: Vec<_> = (1..).zip(&lives).map(|(id, (from, time, ahead_ms))| Envoy {
            id: EnvoyId(id), lives: *from..from + time, ahead_ms: *ahead_ms, number: 0, holds: 0,
            until_ms: 0, held: Vec::new(), spent: Vec::new(), slice: 0, granted: 0, used: 0,
            carried: 0,
        }).collect();
        let (mut spent, mut pressed) = (Vec::new(), 0);
        for tick in 0..TICKS {
            let now_ms = start_ms + tick * TICK_MS;
            for envoy in &mut envoys {
                if !envoy.lives.contains(&tick) {
                    continue;
                }
                let its_ms = now_ms + envoy.ahead_ms - MAX_SKEW_MS;
                if now_ms >= envoy.until_ms {
                    envoy.holds = 0;
                }
                if (tick - envoy.lives.start).is_multiple_of(10) {
                    envoy.number += 1;
                    let presence =
                        Presence { number: envoy.number, holds: envoy.holds, now_ms: its_ms };
                    let place =
                        control.members.hear(now_ms, envoy.id, &presence, Growth::Allowed);
                    prop_assert!(!place.out_of_step);
                    (envoy.holds, envoy.until_ms) = (place.parts, now_ms + VALID_MS);
                }
                envoy.held.push((its_ms, envoy.holds));
                pressed += 1;
                for _ in 0..hurry[pressed % hurry.len()] {
                    let shares = envoy.spends_a_share(&terms, window_ms, its_ms);
                    if shares || control.grants(&terms, now_ms, envoy) {
                        spent.push(its_ms);
                    }
                }
            }
        }
        spent.sort_unstable();
        for (place, at) in spent.iter().enumerate() {
            let from = match algorithm {
                Algorithm::FixedWindow => at / window_ms * window_ms,
                _ => at - window_ms + 1,
            };
            let before = spent[..=place].iter().rev().take_while(|it| **it >= from).count();
            prop_assert!(before <= usize::try_from(requests).expect("small"),
                "{before} of {requests} in the window up to {}", at - start_ms);
        }
    }
}
