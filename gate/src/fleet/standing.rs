//! What part of each limit this Envoy may let through by itself.
//!
//! The control plane lends it so many parts of the shares, for some seconds at a time. When it
//! lends fewer, they are fewer at once. When it lends more, that is for what begins later: for the
//! windows that are under way, somebody else may have used up those parts. When the loan has run
//! out and nothing is heard, each Envoy goes on with the limit divided by how many they were.

use edge_protocol::Algorithm;
use edge_protocol::leases::{Presence, Slices, Standing as Told};
use filter_config::Quota;

use super::silence::{After, Silences};
use super::{EVERY_MS, MARGIN_MS};
use crate::Now;
use crate::limits::{Fields, FieldsMut};

/// How long after a change all workers go by it, in milliseconds: more than [`super::COPY_MS`].
const SETTLED_MS: u64 = 250;
/// How many growths are told apart.
const STEPS: usize = 8;

/// What may be let through without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// So many parts of the shares; more can be had for asking.
    Parts(u32),
    /// So many parts of the shares; there is nobody to ask.
    PartsAlone(u32),
    /// The limit divided by so many; there is nobody to ask, or it was so when the window began.
    Divided(u32),
    /// It has never been told how many they are: all that it has is what it asks for.
    Unknown,
}

/// So many parts since a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Step {
    since_ms: u64,
    parts: u32,
}

/// How an Envoy stands in its fleet, as its workers share it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// The number of the last announcement, and when it was sent.
    number: u64,
    sent_ms: u64,
    /// When an answer was last taken in.
    adopted_ms: u64,
    /// Until when the parts are lent.
    valid_until_ms: u64,
    /// How many Envoys there are; 0 until it was told.
    envoys: u32,
    /// The parts that are held and since when, each more than the one before. Where there are
    /// none, all zeros.
    steps: [Step; STEPS],
    silences: Silences,
}

impl Standing {
    pub(super) const BYTES: usize = 4 * 8 + 4 + STEPS * 12 + Silences::BYTES;

    pub(super) fn read(bytes: &[u8]) -> Self {
        if bytes.len() != Self::BYTES {
            return Self::default();
        }
        let mut fields = Fields(bytes);
        Self {
            number: fields.u64(),
            sent_ms: fields.u64(),
            adopted_ms: fields.u64(),
            valid_until_ms: fields.u64(),
            envoys: fields.u32(),
            steps: std::array::from_fn(|_| Step { since_ms: fields.u64(), parts: fields.u32() }),
            silences: Silences::read(&mut fields),
        }
    }

    pub(super) fn write(&self, into: &mut [u8]) {
        let mut fields = FieldsMut(into);
        for number in [self.number, self.sent_ms, self.adopted_ms, self.valid_until_ms] {
            fields.put(number.to_le_bytes());
        }
        fields.put(self.envoys.to_le_bytes());
        for step in self.steps {
            fields.put(step.since_ms.to_le_bytes());
            fields.put(step.parts.to_le_bytes());
        }
        self.silences.write(&mut fields);
    }

    /// What this Envoy may let through of a limit by itself.
    pub(super) fn share(&self, quota: Quota, now: Now) -> Share {
        let now_ms = now.unix_ms();
        let slides = quota.algorithm != Algorithm::FixedWindow;
        let window_ms = u64::from(quota.seconds.max(1)) * 1000;
        // What was granted may be spent to the end of its last slice.
        let Slices { ms, lasts, .. } = Slices::of(quota.algorithm, quota.seconds);
        let grant_ms = if slides { ms * lasts } else { 0 };
        let reach_ms = if slides { window_ms + grant_ms } else { now_ms % window_ms };
        // What counts together with this moment began then.
        let begins = now_ms.saturating_sub(reach_ms);
        let parts = self.parts_since(begins);
        let after = self.silences.after(begins, if slides { reach_ms } else { 0 });
        if let Some(After::Divided(envoys)) = after {
            return Share::Divided(envoys);
        }
        if self.is_lent(now) {
            return if after.is_none() { Share::Parts(parts) } else { Share::PartsAlone(parts) };
        }
        if self.envoys == 0 {
            Share::Unknown
        } else if begins < self.valid_until_ms.saturating_add(grant_ms) {
            Share::PartsAlone(parts)
        } else {
            Share::Divided(self.envoys)
        }
    }

    /// How many parts no worker of this Envoy goes beyond. One that went on by itself says that it
    /// holds something.
    pub(super) fn holds(&self, now: Now) -> u32 {
        if self.is_lent(now) {
            self.steps.iter().map(|step| step.parts).max().unwrap_or(0)
        } else {
            u32::from(self.envoys > 0)
        }
    }

    pub(super) fn is_due(&self, now: Now) -> bool {
        let now_ms = now.unix_ms();
        // Far ahead, the clock was set back. Once it is announced it is no longer due, whatever the clock did.
        let said = self.sent_ms.saturating_add(EVERY_MS);
        let is_time = said <= now_ms || said > now_ms.saturating_add(2 * EVERY_MS);
        // What was adopted before that all workers read again.
        let settled = self.adopted_ms.saturating_add(SETTLED_MS) <= now_ms
            || self.adopted_ms > now_ms.saturating_add(SETTLED_MS);
        is_time && settled
    }

    pub(super) fn announce(&mut self, now: Now) -> Presence {
        self.number = self.number.saturating_add(1);
        // A clock that was set back makes no loan last longer.
        let set_back_by = self.sent_ms.saturating_sub(now.unix_ms());
        self.valid_until_ms = self.valid_until_ms.saturating_sub(set_back_by);
        self.sent_ms = now.unix_ms();
        Presence { number: self.number, holds: self.holds(now), now_ms: now.unix_ms() }
    }

    /// Takes in an answer, unless it is not to the last announcement.
    pub(super) fn adopt(&mut self, told: &Told, now: Now) -> bool {
        if told.number != self.number {
            return false;
        }
        let now_ms = now.unix_ms();
        if !self.is_lent(now) {
            // Where the clock was set back to before the loan, there was no silence.
            if self.envoys > 0 && self.valid_until_ms <= now_ms {
                self.silences.remember(self.valid_until_ms, now_ms, self.envoys);
            }
            self.steps = [Step::default(); STEPS];
        }
        // What was held when the clock was ahead is held at any rate now.
        for step in &mut self.steps {
            step.since_ms = step.since_ms.min(now_ms);
        }
        self.silences.are_over(now_ms);
        self.hold(told.parts, now_ms);
        // While not all are counted, as many as before: each that is cut off then would take the whole.
        if told.counted {
            self.envoys = told.envoys.max(1);
        }
        self.adopted_ms = now_ms;
        self.valid_until_ms = self.sent_ms.saturating_add(told.valid_ms);
        true
    }

    /// Holds so many parts from now on.
    fn hold(&mut self, parts: u32, now_ms: u64) {
        let held =
            self.steps.iter().take_while(|step| step.parts > 0 && step.parts < parts).count();
        let mut steps = self.steps.iter().copied();
        let mut kept = [Step::default(); STEPS];
        for (place, step) in kept.iter_mut().zip(steps.by_ref().take(held)) {
            *place = step;
        }
        // Fewer than were held, or as many: these, for as long. More: those, from now on.
        let since_ms =
            steps.next().filter(|step| step.parts > 0).map_or(now_ms, |step| step.since_ms);
        // Where there is no place, the latest growth counts from now.
        if let Some(place) = kept.get_mut(held.min(STEPS - 1))
            && parts > 0
        {
            *place = Step { since_ms, parts };
        }
        self.steps = kept;
    }

    /// The parts that were held all the time since a moment.
    fn parts_since(&self, begins_ms: u64) -> u32 {
        let early = |step: &&Step| step.since_ms.saturating_add(MARGIN_MS) <= begins_ms;
        self.steps.iter().take_while(early).map(|step| step.parts).max().unwrap_or(0)
    }

    fn is_lent(&self, now: Now) -> bool {
        // Before it was lent, the clock was set back.
        now.unix_ms() < self.valid_until_ms && self.sent_ms <= now.unix_ms()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_protocol::leases::ALL_SHARES;
    use wasm_bindgen_test::wasm_bindgen_test;

    const MINUTE: Quota = Quota { algorithm: Algorithm::FixedWindow, requests: 100, seconds: 60 };
    const SLIDING: Quota = Quota { algorithm: Algorithm::SlidingWindow, ..MINUTE };

    /// What a control plane tells; of no Envoys: one that has not yet counted all.
    fn told(number: u64, parts: u32, envoys: u32) -> Told {
        Told { number, parts, envoys: envoys.max(1), counted: envoys > 0, valid_ms: 5_000 }
    }

    /// What is told at so many seconds.
    fn tell(standing: &mut Standing, at: u64, parts: u32, envoys: u32) {
        let now = Now::from_unix_ms(at * 1000);
        let number = standing.announce(now).number;
        assert!(standing.adopt(&told(number, parts, envoys), now));
    }

    fn keep_telling(standing: &mut Standing, until: u64, parts: u32, envoys: u32) {
        for at in standing.sent_ms / 1000 + 1..=until {
            tell(standing, at, parts, envoys);
        }
    }

    fn share(standing: &Standing, quota: Quota, at: u64) -> Share {
        standing.share(quota, Now::from_unix_ms(at * 1000))
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn more_is_for_later_and_less_is_at_once() {
        let mut standing = Standing::default();
        assert_eq!(share(&standing, MINUTE, 600), Share::Unknown);
        tell(&mut standing, 610, ALL_SHARES / 2, 2);
        assert_eq!(share(&standing, MINUTE, 612), Share::Parts(0), "a window that had begun");
        keep_telling(&mut standing, 662, ALL_SHARES / 2, 2);
        assert_eq!(share(&standing, MINUTE, 662), Share::Parts(ALL_SHARES / 2));
        assert_eq!(share(&standing, SLIDING, 662), Share::Parts(0));
        keep_telling(&mut standing, 676, ALL_SHARES / 2, 2);
        assert_eq!(share(&standing, SLIDING, 676), Share::Parts(ALL_SHARES / 2));
        // One has gone: the rest is for the next window.
        tell(&mut standing, 677, ALL_SHARES, 1);
        assert_eq!(share(&standing, MINUTE, 678), Share::Parts(ALL_SHARES / 2));
        keep_telling(&mut standing, 721, ALL_SHARES, 1);
        assert_eq!(share(&standing, MINUTE, 721), Share::Parts(ALL_SHARES));
        // Two have come.
        tell(&mut standing, 722, ALL_SHARES / 3, 3);
        assert_eq!(share(&standing, MINUTE, 722), Share::Parts(ALL_SHARES / 3));
        assert_eq!(standing.holds(Now::from_unix_ms(722_000)), ALL_SHARES / 3);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn in_a_silence_each_goes_on_with_its_part_of_the_whole() {
        let mut standing = Standing::default();
        tell(&mut standing, 530, ALL_SHARES / 4, 4);
        keep_telling(&mut standing, 610, ALL_SHARES / 4, 4);
        assert_eq!(share(&standing, MINUTE, 614), Share::Parts(ALL_SHARES / 4));
        assert_eq!(share(&standing, MINUTE, 615), Share::PartsAlone(ALL_SHARES / 4));
        assert_eq!(share(&standing, MINUTE, 660), Share::Divided(4));
        assert_eq!(standing.holds(Now::from_unix_ms(660_000)), 1);
        // It ends within a window: that one goes on as it began.
        tell(&mut standing, 730, ALL_SHARES / 4, 4);
        assert_eq!(share(&standing, MINUTE, 731), Share::Divided(4));
        keep_telling(&mut standing, 780, ALL_SHARES / 4, 4);
        assert_eq!(share(&standing, MINUTE, 780), Share::Parts(ALL_SHARES / 4));
        // What slides reaches back to it for longer, and then to what was divided.
        assert_eq!(share(&standing, SLIDING, 780), Share::Divided(4));
        keep_telling(&mut standing, 850, ALL_SHARES / 4, 4);
        assert_eq!(share(&standing, SLIDING, 796), Share::PartsAlone(ALL_SHARES / 4));
        assert_eq!(share(&standing, SLIDING, 850), Share::PartsAlone(ALL_SHARES / 4));
        keep_telling(&mut standing, 864, ALL_SHARES / 4, 4);
        assert_eq!(share(&standing, SLIDING, 863), Share::PartsAlone(ALL_SHARES / 4));
        assert_eq!(share(&standing, SLIDING, 864), Share::Parts(ALL_SHARES / 4));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn after_a_silence_nobody_asks_in_a_window_that_another_divides() {
        // Two, of which one hears of the end two seconds later, by a clock that is two seconds ahead.
        let (mut first, mut last) = (Standing::default(), Standing::default());
        let second = Quota { seconds: 1, ..MINUTE };
        let mut asks_from = None;
        for at in 530..630 {
            for (standing, returns) in [(&mut first, 610), (&mut last, 614)] {
                if !(600..returns).contains(&at) {
                    tell(standing, at, ALL_SHARES / 4, 4);
                }
            }
            let divides = share(&last, second, at) == Share::Divided(4);
            let asks = matches!(share(&first, second, at), Share::Parts(_));
            assert!(!(divides && asks), "at {at}");
            asks_from = asks_from.filter(|_| asks).or(asks.then_some(at));
        }
        assert_eq!(asks_from, Some(616));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn who_is_told_by_a_control_plane_that_has_not_yet_counted_all_goes_by_as_many_as_before() {
        let mut standing = Standing::default();
        tell(&mut standing, 540, 0, 0);
        assert_eq!(share(&standing, MINUTE, 546), Share::Unknown);
        tell(&mut standing, 550, ALL_SHARES / 4, 4);
        tell(&mut standing, 590, 0, 0);
        assert_eq!(share(&standing, MINUTE, 660), Share::Divided(4));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_clock_that_is_set_back_makes_no_loan_last_longer() {
        let mut standing = Standing::default();
        tell(&mut standing, 5_000, ALL_SHARES / 4, 4);
        let _ = standing.announce(Now::from_unix_ms(1_400_000));
        assert!(standing.is_lent(Now::from_unix_ms(1_404_999)));
        assert!(!standing.is_lent(Now::from_unix_ms(1_405_000)));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_clock_that_was_ahead_for_a_moment_leaves_no_silence_behind() {
        let mut standing = Standing::default();
        tell(&mut standing, 530, ALL_SHARES / 4, 4);
        keep_telling(&mut standing, 610, ALL_SHARES / 4, 4);
        tell(&mut standing, 4_210, 0, 4);
        keep_telling(&mut standing, 4_212, 0, 4);
        for at in 612..730 {
            tell(&mut standing, at, ALL_SHARES / 4, 4);
        }
        assert_eq!(share(&standing, MINUTE, 729), Share::Parts(ALL_SHARES / 4));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn in_a_silence_shorter_than_what_slides_nothing_is_divided() {
        let mut standing = Standing::default();
        tell(&mut standing, 530, ALL_SHARES / 4, 4);
        keep_telling(&mut standing, 610, ALL_SHARES / 4, 4);
        assert_eq!(share(&standing, SLIDING, 620), Share::PartsAlone(ALL_SHARES / 4));
        tell(&mut standing, 625, ALL_SHARES / 4, 4);
        assert_eq!(share(&standing, SLIDING, 626), Share::Parts(0), "lent anew, for later");
        keep_telling(&mut standing, 691, ALL_SHARES / 4, 4);
        assert_eq!(share(&standing, SLIDING, 691), Share::Parts(ALL_SHARES / 4));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn who_heard_longer_than_others_does_not_ask_where_they_may_have_divided() {
        let ten = Quota { seconds: 10, ..SLIDING };
        let mut standing = Standing::default();
        tell(&mut standing, 530, ALL_SHARES / 4, 4);
        keep_telling(&mut standing, 610, ALL_SHARES / 4, 4);
        // Silent from 615, for less than what slides; another may have been from 611 on.
        tell(&mut standing, 624, ALL_SHARES / 4, 4);
        assert_eq!(share(&standing, ten, 625), Share::PartsAlone(0));
        keep_telling(&mut standing, 655, ALL_SHARES / 4, 4);
        assert_eq!(share(&standing, ten, 655), Share::Parts(ALL_SHARES / 4));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_clock_that_is_set_back_does_not_end_what_a_silence_began() {
        let mut standing = Standing::default();
        tell(&mut standing, 530, ALL_SHARES / 4, 4);
        keep_telling(&mut standing, 610, ALL_SHARES / 4, 4);
        tell(&mut standing, 730, ALL_SHARES / 4, 4);
        assert_eq!(share(&standing, MINUTE, 731), Share::Divided(4));
        let now = Now::from_unix_ms(732_000);
        let number = standing.announce(now).number;
        assert!(standing.adopt(&told(number, ALL_SHARES / 4, 4), Now::from_unix_ms(731_500)));
        assert_eq!(share(&standing, MINUTE, 733), Share::Divided(4));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn an_answer_that_comes_late_is_not_used() {
        let mut standing = Standing::default();
        let now = Now::from_unix_ms(600_000);
        let first = standing.announce(now).number;
        let second = standing.announce(now).number;
        let told = |number| told(number, 7, 1);
        assert!(!standing.adopt(&told(first), now));
        assert!(standing.adopt(&told(second), now));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn it_is_announced_once_a_second_however_far_the_clock_is_set_back() {
        for back_ms in (0..6_000).step_by(50) {
            let mut standing = Standing::default();
            tell(&mut standing, 100, ALL_SHARES / 2, 2);
            let mut said = vec![];
            for ms in (0..10_000).step_by(50) {
                let now = Now::from_unix_ms(100_000 - back_ms + ms);
                if standing.is_due(now) {
                    let _ = standing.announce(now);
                    said.push(ms);
                }
                assert!(!standing.is_due(now), "set back by {back_ms} ms, at {ms}");
            }
            let first = said[0];
            assert!(first <= 2 * EVERY_MS, "set back by {back_ms} ms: {first}");
            let gaps = said.windows(2).map(|two| two[1] - two[0]);
            let even = EVERY_MS..=EVERY_MS + 2 * SETTLED_MS;
            assert!(
                gaps.into_iter().all(|gap| even.contains(&gap)),
                "set back by {back_ms} ms: {said:?}"
            );
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn it_survives_being_written_and_read() {
        let mut standing = Standing::default();
        for (at, parts) in [(600, 5), (601, 9), (602, 7), (700, 8)] {
            tell(&mut standing, at, parts, 3);
        }
        let mut bytes = [0; Standing::BYTES];
        standing.write(&mut bytes);
        assert_eq!(Standing::read(&bytes), standing);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn many_growths_are_told_apart_or_counted_from_the_last() {
        let mut standing = Standing::default();
        for at in 1..=20 {
            tell(&mut standing, 600 + at, u32::try_from(at).unwrap(), 1);
        }
        assert_eq!(standing.holds(Now::from_unix_ms(620_000)), 20);
        assert_eq!(standing.parts_since(619_000), 7, "the eighth began at 20");
        assert_eq!(standing.parts_since(604_500), 2);
    }
}
