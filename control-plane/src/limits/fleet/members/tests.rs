//! Envoys whose calls and answers are slow, lost and overtaken, against what they may hold in all.

use super::*;
use proptest::prelude::*;

const START_MS: u64 = 1_000_000;

fn presence(number: u64, holds: u32, now_ms: u64) -> Presence {
    Presence { number, holds, now_ms }
}

/// Hears an Envoy whose clock is right.
fn hear(table: &mut Members, now_ms: u64, envoy: u64, number: u64, holds: u32) -> Place {
    table.hear(now_ms, EnvoyId(envoy), &presence(number, holds, now_ms), Growth::Allowed)
}

/// Hears the first Envoy, once a second, until all may have been heard: its last call was number 4.
fn learn(table: &mut Members) {
    for second in 0..5 {
        assert!(!hear(table, START_MS + second * 1000, 1, second, 0).counted);
    }
}

/// An Envoy as the protocol has it.
#[derive(Clone, Debug, Default)]
struct Envoy {
    number: u64,
    holds: u32,
    until_ms: u64,
    calls_at_ms: u64,
}

/// What is on its way.
#[derive(Clone, Debug)]
enum Way {
    Call { at_ms: u64, envoy: usize, presence: Presence },
    Answer { at_ms: u64, envoy: usize, number: u64, sent_ms: u64, parts: u32 },
}

impl Way {
    fn at_ms(&self) -> u64 {
        match self {
            Self::Call { at_ms, .. } | Self::Answer { at_ms, .. } => *at_ms,
        }
    }
}

#[derive(Clone, Debug)]
struct Luck {
    delays: Vec<u64>,
    lost: Vec<bool>,
    next: usize,
}

impl Luck {
    fn delay(&mut self) -> u64 {
        self.next += 1;
        self.delays[self.next % self.delays.len()]
    }

    fn loses(&mut self) -> bool {
        self.next += 1;
        self.lost[self.next % self.lost.len()]
    }
}

fn luck() -> impl Strategy<Value = Luck> {
    let delay = prop_oneof![12 => 0_u64..100, 3 => 100_u64..2000, 1 => 2000_u64..9000];
    let delays = proptest::collection::vec(delay, 31..90);
    let lost = proptest::collection::vec(proptest::bool::weighted(0.1), 31..90);
    (delays, lost).prop_map(|(delays, lost)| Luck { delays, lost, next: 0 })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn all_together_never_hold_more_than_there_is(
        mut luck in luck(),
        sleeps in proptest::collection::vec((0_usize..6, 0_u64..60_000, 1000_u64..20_000), 0..8),
    ) {
        let mut table = Members::new(START_MS);
        let mut envoys = vec![Envoy { calls_at_ms: START_MS, ..Envoy::default() }; 6];
        let mut ways: Vec<Way> = Vec::new();
        for now_ms in (START_MS..START_MS + 60_000).step_by(50) {
            let asleep = |place: usize| sleeps.iter().any(|(who, from, time)| {
                *who == place && (START_MS + from..START_MS + from + time).contains(&now_ms)
            });
            for (place, envoy) in envoys.iter_mut().enumerate() {
                if now_ms >= envoy.until_ms {
                    envoy.holds = 0;
                }
                if now_ms < envoy.calls_at_ms || asleep(place) {
                    continue;
                }
                envoy.calls_at_ms = now_ms + 1000;
                envoy.number += 1;
                let presence = presence(envoy.number, envoy.holds, now_ms);
                if !luck.loses() {
                    let at_ms = now_ms + luck.delay();
                    ways.push(Way::Call { at_ms, envoy: place, presence });
                }
            }
            let (mut due, rest): (Vec<_>, Vec<_>) =
                ways.drain(..).partition(|way| way.at_ms() <= now_ms);
            due.sort_by_key(Way::at_ms);
            ways = rest;
            for way in due {
                match way {
                    Way::Call { envoy, presence, .. } => {
                        let id = EnvoyId(u64::try_from(envoy).expect("small"));
                        // Late calls would count as wrong clocks.
                        let told = Presence { now_ms, ..presence };
                        let place = table.hear(now_ms, id, &told, Growth::Allowed);
                        if !luck.loses() {
                            let (at_ms, number) = (now_ms + luck.delay(), presence.number);
                            let (sent_ms, parts) = (presence.now_ms, place.parts);
                            ways.push(Way::Answer { at_ms, envoy, number, sent_ms, parts });
                        }
                    }
                    Way::Answer { envoy, number, sent_ms, parts, .. } => {
                        let envoy = &mut envoys[envoy];
                        if number == envoy.number && sent_ms + VALID_MS > now_ms {
                            envoy.holds = parts;
                            envoy.until_ms = sent_ms + VALID_MS;
                        }
                    }
                }
            }
            let held: u64 = envoys
                .iter()
                .filter(|envoy| now_ms < envoy.until_ms)
                .map(|envoy| u64::from(envoy.holds))
                .sum();
            prop_assert!(held <= u64::from(ALL_SHARES), "{held} at {now_ms}");
        }
    }
}

#[test]
fn a_new_table_learns_then_splits_evenly_and_takes_back_before_it_gives() {
    let mut table = Members::new(START_MS);
    for second in 0..5 {
        let place = hear(&mut table, START_MS + second * 1000, 1, second + 1, 0);
        assert_eq!((place.parts, place.live, place.counted), (0, 1, false));
    }
    let now_ms = START_MS + VALID_MS;
    let place = hear(&mut table, now_ms, 1, 6, 0);
    assert_eq!((place.parts, place.counted), (ALL_SHARES, true));
    // Another one comes: nothing is free until the first says that it goes by less.
    let place = hear(&mut table, now_ms + 1, 2, 1, 0);
    assert_eq!((place.parts, place.live), (0, 2));
    assert_eq!(hear(&mut table, now_ms + 2, 1, 7, ALL_SHARES).parts, ALL_SHARES / 2);
    assert_eq!(hear(&mut table, now_ms + 3, 2, 2, 0).parts, 0);
    hear(&mut table, now_ms + 4, 1, 8, ALL_SHARES / 2);
    assert_eq!(hear(&mut table, now_ms + 5, 2, 3, 0).parts, ALL_SHARES / 2);
    // The first dies: what it held is free when its time is over.
    let late = now_ms + 4 + VALID_MS;
    for second in 1..5 {
        hear(&mut table, now_ms + second * 1000, 2, 3 + second, ALL_SHARES / 2);
    }
    assert_eq!(hear(&mut table, late - 1, 2, 8, ALL_SHARES / 2).parts, ALL_SHARES / 2);
    hear(&mut table, late + LOOK_EVERY_MS, 2, 9, ALL_SHARES / 2);
    let place = hear(&mut table, late + LOOK_EVERY_MS, 2, 10, ALL_SHARES / 2);
    assert_eq!((place.parts, place.live, place.counted), (ALL_SHARES, 1, true));
    assert!(!table.learnt().foreign);
}

#[test]
fn a_call_that_was_overtaken_changes_nothing() {
    let mut table = Members::new(0);
    learn(&mut table);
    let now_ms = START_MS + VALID_MS;
    assert_eq!(hear(&mut table, now_ms, 1, 5, 0).parts, ALL_SHARES);
    let before = table.clone();
    for number in [4, 5] {
        assert_eq!(hear(&mut table, now_ms, 1, number, 0).parts, 0);
        assert_eq!(table, before);
    }
}

#[test]
fn a_clock_that_is_off_gets_nothing_and_gives_up_what_it_holds_in_its_own_time() {
    let mut table = Members::new(0);
    learn(&mut table);
    let now_ms = START_MS + VALID_MS;
    hear(&mut table, now_ms, 1, 5, 0);
    let place =
        table.hear(now_ms, EnvoyId(1), &presence(6, ALL_SHARES, now_ms + 1001), Growth::Allowed);
    assert!(place.out_of_step && place.parts == 0);
    assert_eq!(hear(&mut table, now_ms, 2, 1, 0).parts, 0, "it may still be holding them");
}

#[test]
fn who_holds_what_was_never_given_is_noticed() {
    let mut table = Members::new(START_MS);
    assert!(!hear(&mut table, START_MS, 1, 1, 0).learnt.foreign);
    assert!(hear(&mut table, START_MS, 2, 1, 100).learnt.foreign);
    assert_eq!(hear(&mut table, START_MS + 1, 2, 2, 100).parts, 100, "and it keeps it");
}

#[test]
fn who_may_not_give_away_lets_everybody_keep_what_they_hold() {
    let mut table = Members::new(0);
    for number in 1..9 {
        let call = presence(number, 100, START_MS + number * 1000);
        assert_eq!(table.hear(call.now_ms, EnvoyId(1), &call, Growth::Frozen).parts, 100);
    }
}

#[test]
fn a_table_that_heard_nobody_for_long_learns_again() {
    let mut table = Members::new(0);
    learn(&mut table);
    assert_eq!(hear(&mut table, START_MS + VALID_MS, 1, 5, 0).parts, ALL_SHARES);
    let later = START_MS + 60_000;
    // The first to come back holds what memory let it keep meanwhile, and so may the others.
    assert_eq!(hear(&mut table, later, 2, 1, 0).parts, 0);
    assert_eq!(hear(&mut table, later + 1, 1, 6, ALL_SHARES).parts, ALL_SHARES / 2);
}

#[test]
fn who_lives_is_not_counted_while_some_may_be_taken_for_gone() {
    let mut table = Members::new(0);
    learn(&mut table);
    assert!(hear(&mut table, START_MS + 5_000, 1, 5, 0).counted);
    assert!(hear(&mut table, START_MS + 7_400, 1, 6, ALL_SHARES).counted);
    // Whom it had heard of a second before is gone by its own time.
    let quiet = START_MS + 10_000;
    let place = hear(&mut table, quiet, 1, 7, ALL_SHARES);
    assert_eq!((place.parts, place.counted), (ALL_SHARES, false));
    for second in 1..5 {
        assert!(!hear(&mut table, quiet + second * 1000, 1, 7 + second, ALL_SHARES).counted);
    }
    assert!(hear(&mut table, quiet + VALID_MS, 1, 12, ALL_SHARES).counted);
}

#[test]
fn there_are_no_more_than_so_many() {
    let mut table = Members::new(0);
    let most = u64::try_from(MAX_MEMBERS).expect("small");
    for envoy in 0..most {
        hear(&mut table, START_MS, envoy, 1, 0);
    }
    let place = hear(&mut table, START_MS, most, 1, 0);
    assert_eq!((place.parts, place.live), (0, 4096));
}
