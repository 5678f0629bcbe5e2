//! Against an exact oracle: what Envoys were told, added up over every interval.

use super::*;
use edge_protocol::leases::pool_of;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn terms(algorithm: Algorithm, requests: u32, window_seconds: u32) -> Terms {
    Terms { algorithm, slices: Slices::of(algorithm, window_seconds), requests }
}

fn wish(envoy: u64, slice: u64, granted: u32, used: u32, want: u32) -> Wish {
    Wish { envoy: EnvoyId(envoy), slice, epoch: 1, granted, used, want }
}

fn half(requests: u32) -> Sizes {
    Sizes { pool: pool_of(requests), whole: None }
}

/// One step of a story. Numbers are reduced to what there is.
#[derive(Clone, Debug)]
struct Step {
    envoy: u64,
    /// How many slices go by before it; mostly none.
    passes: u64,
    /// How far its own slice is behind.
    behind: u64,
    want: u32,
    /// How much of what it has it has spent, in sixteenths.
    spent: u32,
    /// Whether the answer gets lost.
    lost: bool,
    /// Whether the Envoy has forgotten everything before.
    forgets: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let passes = prop_oneof![6 => Just(0_u64), 3 => 1_u64..3, 1 => 1_u64..80];
    let behind = prop_oneof![8 => Just(0_u64), 1 => 1_u64..4];
    let step = (
        0_u64..5,
        passes,
        behind,
        1_u32..40,
        0_u32..=16,
        proptest::bool::weighted(0.2),
        proptest::bool::weighted(0.05),
    );
    let step = step.prop_map(|(envoy, passes, behind, want, spent, lost, forgets)| Step {
        envoy,
        passes,
        behind,
        want,
        spent,
        lost,
        forgets,
    });
    proptest::collection::vec(step, 1..250)
}

/// What Envoys know, and what they were granted.
#[derive(Default)]
struct Told {
    /// What each knows, by slice, Envoy and epoch.
    known: BTreeMap<(u64, u64, u32), u32>,
    /// What each was ever granted: what it could spend, whether the answer came or not.
    granted: BTreeMap<(u64, u64, u32), u64>,
    epochs: [u32; 5],
}

impl Told {
    fn tell(&mut self, step: &Step, slice: u64, ask: impl FnOnce(&Wish) -> Answer) -> Answer {
        let place = usize::try_from(step.envoy).expect("small");
        self.epochs[place] += u32::from(step.forgets);
        let at = (slice, step.envoy, self.epochs[place]);
        let granted = self.known.get(&at).copied().unwrap_or(0);
        let spent = u64::from(granted) * u64::from(step.spent) / 16;
        let (used, envoy) = (u32::try_from(spent).expect("less"), EnvoyId(step.envoy));
        let wish = Wish { envoy, slice, epoch: at.2, granted, used, want: step.want };
        let answer = ask(&wish);
        let all = self.granted.entry(at).or_default();
        *all = (*all).max(answer.grant.granted.into());
        if !step.lost {
            self.known.insert(at, answer.grant.granted);
        }
        answer
    }

    fn in_slices(&self) -> BTreeMap<u64, u64> {
        let mut sums = BTreeMap::new();
        for ((slice, ..), granted) in &self.granted {
            *sums.entry(*slice).or_default() += granted;
        }
        sums
    }

    /// That no interval has more than the size and, of a bucket, its refill; of intervals that begin
    /// in `from` or later.
    fn keeps(&self, terms: &Terms, size: u32, from: u64) -> Result<(), TestCaseError> {
        let window = u128::from(terms.slices.in_window);
        let sums: Vec<_> = self.in_slices().into_iter().filter(|(at, _)| *at >= from).collect();
        for (place, (first, _)) in sums.iter().enumerate() {
            let mut sum = 0_u128;
            for (last, more) in &sums[place..] {
                sum += u128::from(*more);
                // The shortest interval in which all of it may be spent lasts longer than so many
                // slices, and a window no longer than `in_window` of them.
                let between = u128::from((last - first).saturating_sub(terms.slices.lasts));
                let most = match terms.algorithm {
                    Algorithm::FixedWindow if last > first => continue,
                    Algorithm::SlidingWindow if last - first >= terms.slices.run() => continue,
                    Algorithm::FixedWindow | Algorithm::SlidingWindow => u128::from(size) * window,
                    Algorithm::TokenBucket => u128::from(size) * (window + between),
                };
                prop_assert!(sum * window <= most, "{sum} of {size} in {first}..={last}");
            }
        }
        Ok(())
    }
}

fn any_terms() -> impl Strategy<Value = Terms> {
    let algorithm = prop_oneof![
        Just(Algorithm::FixedWindow),
        Just(Algorithm::SlidingWindow),
        Just(Algorithm::TokenBucket),
    ];
    let requests = prop_oneof![1_u32..5, 1_u32..300, Just(u32::MAX)];
    let window = prop_oneof![Just(1_u32), Just(2), Just(7), Just(10), Just(60), Just(3600)];
    (algorithm, requests, window)
        .prop_map(|(algorithm, requests, window)| terms(algorithm, requests, window))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn no_interval_has_more_than_the_pool_whatever_is_lost_repeated_late_or_forgotten(
        terms in any_terms(), steps in steps(), envoys in 1_u32..40,
    ) {
        let sizes = half(terms.requests);
        let mut pool = Pool::new(1000);
        let (mut told, mut now) = (Told::default(), 1000);
        for step in &steps {
            now += step.passes;
            let answer = told.tell(step, now - step.behind, |wish| {
                let first = pool.ask(&terms, sizes, envoys, wish);
                // The same ask again, as when the call was sent twice, gets nothing new.
                let again = pool.ask(&terms, sizes, envoys, wish);
                assert_eq!(again.fresh, 0, "{first:?} {again:?}");
                assert_eq!(again.grant.granted, first.grant.granted);
                first
            });
            prop_assert!(answer.grant.again.is_some_and(|again| again > now - step.behind)
                || answer.grant.left > 0);
        }
        told.keeps(&terms, sizes.pool, 0)?;
    }

    #[test]
    fn a_pool_that_becomes_less_keeps_to_both_sizes(
        terms in any_terms(), steps in steps(), changes in 1000_u64..1040,
    ) {
        let mut pool = Pool::new(1000);
        let (mut told, mut now) = (Told::default(), 1000);
        for step in &steps {
            now += step.passes;
            let slice = now - step.behind;
            let whole = (slice < changes).then_some(terms.requests);
            let sizes = Sizes { pool: pool_of(terms.requests), whole };
            told.tell(step, slice, |wish| pool.ask(&terms, sizes, 3, wish));
        }
        told.keeps(&terms, terms.requests, 0)?;
        told.keeps(&terms, pool_of(terms.requests), changes)?;
    }

    /// Where memory was lost, what Envoys say makes it whole again, but for slices that are over.
    #[test]
    fn a_pool_that_was_forgotten_is_healed_by_those_who_ask(
        requests in 2_u32..300, wants in proptest::collection::vec((0_u64..4, 1_u32..20), 1..60),
    ) {
        let terms = terms(Algorithm::FixedWindow, requests, 60);
        let (mut pool, mut known) = (Pool::new(7), [0_u32; 4]);
        let mut total = 0;
        for (place, (envoy, want)) in wants.iter().enumerate() {
            let at = usize::try_from(*envoy).expect("small");
            if place == wants.len() / 2 {
                pool = Pool::new(7);
                for (envoy, known) in known.iter().enumerate() {
                    let envoy = u64::try_from(envoy).expect("small");
                    pool.ask(&terms, half(0), 4, &wish(envoy, 7, *known, 0, 1));
                }
            }
            let ask = wish(*envoy, 7, known[at], known[at], *want);
            known[at] = pool.ask(&terms, half(requests), 4, &ask).grant.granted;
            total = known.iter().sum();
        }
        prop_assert!(total <= pool_of(requests));
    }

    #[test]
    fn two_memories_of_a_pool_that_come_together_know_all_that_either_granted(
        terms in any_terms(), steps in steps(),
    ) {
        let sizes = half(terms.requests / 2);
        let mut pools = [Pool::new(1000), Pool::new(1000)];
        let (mut told, mut now) = (Told::default(), 1000);
        for step in &steps {
            now += step.passes;
            let pool = &mut pools[usize::try_from(step.envoy % 2).expect("small")];
            told.tell(step, now, |wish| pool.ask(&terms, sizes, 3, wish));
        }
        let [mut one, other] = pools;
        one.merge(&terms, sizes, &other);
        let latest = told.in_slices().get(&one.latest).copied().unwrap_or(0);
        match terms.algorithm {
            Algorithm::FixedWindow => prop_assert_eq!(one.level, latest),
            Algorithm::SlidingWindow => {
                let now = one.sums.iter().find(|(slice, _)| *slice == one.latest);
                prop_assert_eq!(now.map_or(0, |it| it.1), latest);
                prop_assert_eq!(one.level, one.sums.iter().map(|it| it.1).sum::<u64>());
            }
            Algorithm::TokenBucket => {
                let least = latest * token(terms.slices);
                prop_assert!(one.level >= least.min(u64::from(terms.requests)));
            }
        }
        let before = one.clone();
        one.merge(&terms, sizes, &other);
        prop_assert_eq!(one, before, "once more changes nothing");
    }
}

#[test]
fn chunks_shrink_and_the_last_of_a_pool_goes_to_whoever_asks() {
    let terms = terms(Algorithm::FixedWindow, 2000, 60);
    let (mut pool, mut granted, mut calls) = (Pool::new(5), 0, Vec::new());
    loop {
        let answer = pool.ask(&terms, half(2000), 10, &wish(1, 5, granted, granted, 1));
        if answer.fresh == 0 {
            assert_eq!(answer.grant, Grant { granted: 1000, left: 0, again: Some(6) });
            break;
        }
        calls.push(answer.fresh);
        granted = answer.grant.granted;
    }
    assert_eq!(calls[..3], [50, 48, 46], "a twentieth of what is left, for ten Envoys");
    assert!(calls.is_sorted_by(|a, b| a >= b));
    assert_eq!(calls.iter().sum::<u32>(), 1000);
    assert!(calls.len() < 100, "{}", calls.len());
    // Who wants more than its part gets it.
    let answer = Pool::new(5).ask(&terms, half(2000), 10, &wish(1, 5, 0, 0, 700));
    assert_eq!((answer.fresh, answer.grant.left), (700, 300));
    // And who has enough gets nothing.
    let enough = Pool::new(5).ask(&terms, half(2000), 10, &wish(1, 5, 30, 10, 20));
    assert_eq!((enough.fresh, enough.grant.granted, enough.grant.left), (0, 30, 970));
}

#[test]
fn it_is_told_when_there_may_be_more() {
    let take = |pool: &mut Pool, terms: &Terms, slice, want| {
        pool.ask(terms, half(terms.requests), 1, &wish(1, slice, 0, 0, want)).grant
    };
    // 32 slices and two more until what was granted falls out.
    let sliding = terms(Algorithm::SlidingWindow, 20, 60);
    let mut pool = Pool::new(100);
    assert_eq!(take(&mut pool, &sliding, 100, 4), Grant { granted: 4, left: 6, again: None });
    assert_eq!(take(&mut pool, &sliding, 110, 9).again, Some(134));
    assert_eq!(take(&mut pool, &sliding, 133, 1), nothing(0, 134));
    assert_eq!(take(&mut pool, &sliding, 134, 9).granted, 4);
    // A bucket of 10 less two refills: 9 whole tokens and a part of another, then one every 3.2 slices.
    let bucket = terms(Algorithm::TokenBucket, 20, 60);
    let mut pool = Pool::new(100);
    assert_eq!(take(&mut pool, &bucket, 100, 10), Grant { granted: 9, left: 0, again: Some(102) });
    assert_eq!(take(&mut pool, &bucket, 102, 1), Grant { granted: 1, left: 0, again: Some(106) });
    assert_eq!(take(&mut pool, &bucket, 105, 1), nothing(0, 106));
    assert_eq!(take(&mut pool, &bucket, 106, 1).granted, 1);
    // Of one: a token in 34 slices.
    let one = terms(Algorithm::TokenBucket, 1, 60);
    let mut pool = Pool::new(100);
    assert_eq!(take(&mut pool, &one, 100, 1), Grant { granted: 1, left: 0, again: Some(134) });
    assert_eq!(take(&mut pool, &one, 133, 1), nothing(0, 134));
    assert_eq!(take(&mut pool, &one, 134, 1).granted, 1);
}

#[test]
fn a_slice_is_closed_when_a_later_one_was_asked_for() {
    let terms = terms(Algorithm::SlidingWindow, 20, 60);
    let mut pool = Pool::new(100);
    pool.ask(&terms, half(20), 1, &wish(1, 101, 0, 0, 1));
    let late = pool.ask(&terms, half(20), 1, &wish(2, 100, 3, 3, 1));
    assert_eq!((late.outcome, late.grant), (Outcome::Closed, nothing(3, 101)));
    assert_eq!(pool.level, 4, "what it says was granted counts");
}

#[test]
fn who_is_out_of_step_is_told_which_slice_it_is() {
    let terms = terms(Algorithm::FixedWindow, 20, 60);
    let minute = 60_000;
    for (now_ms, again) in [
        (10 * minute - 1000, None),
        (10 * minute - 1001, Some(11)),
        (11 * minute + 1000, None),
        (11 * minute + 1001, Some(11)),
        (20 * minute, Some(20)),
    ] {
        assert_eq!(terms.out_of_step(10, now_ms), again, "{now_ms}");
    }
    assert!(terms.out_of_step(u64::MAX, 10 * minute).is_some());
}

#[test]
fn a_pool_is_kept_while_anybody_may_ask_of_what_it_counts_in() {
    for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow, Algorithm::TokenBucket] {
        for window_seconds in [1, 4, 9, 60, 3600, 86_400] {
            let terms = terms(algorithm, 20, window_seconds);
            let counts = 1000 + terms.slices.run() - 1;
            let gone_ms = terms.kept_until_ms(1000);
            assert!(terms.out_of_step(counts, gone_ms).is_some(), "{algorithm:?} {window_seconds}");
        }
    }
}

#[test]
fn who_says_that_it_was_granted_more_than_there_is_closes_nothing_for_ever() {
    let terms = terms(Algorithm::TokenBucket, 20, 60);
    let mut pool = Pool::new(100);
    let answer = pool.ask(&terms, half(20), 1, &wish(1, 100, u32::MAX, 0, 1));
    assert_eq!((answer.fresh, answer.grant.granted), (0, u32::MAX));
    let later = 100 + 2 * terms.slices.in_window;
    assert!(pool.ask(&terms, half(20), 1, &wish(1, later, 0, 0, 1)).fresh > 0);
}

#[test]
fn more_holders_than_are_kept_apart_get_nothing() {
    let terms = terms(Algorithm::FixedWindow, 1_000_000, 60);
    let mut pool = Pool::new(5);
    for envoy in 0..MAX_HOLDERS {
        let envoy = u64::try_from(envoy).expect("small");
        assert!(pool.ask(&terms, half(1_000_000), 1000, &wish(envoy, 5, 0, 0, 1)).fresh > 0);
    }
    let late = pool.ask(&terms, half(1_000_000), 1000, &wish(u64::MAX, 5, 3, 3, 1));
    assert_eq!((late.outcome, late.grant), (Outcome::Full, nothing(3, 6)));
    assert!(pool.ask(&terms, half(1_000_000), 1000, &wish(u64::MAX, 6, 0, 0, 1)).fresh > 0);
}
