//! Times in which nothing was heard of the control plane, and what holds after them: each Envoy had gone on
//! by itself, and what began then ends so.

use super::{EVERY_MS, MARGIN_MS};
use crate::limits::{Fields, FieldsMut};

/// How many are told apart.
const KEPT: usize = 4;
/// Within so long after a silence all Envoys hear of its end, in milliseconds.
const RETURN_MS: u64 = 2 * EVERY_MS;
/// So much earlier than for this Envoy a silence may have begun for another, in milliseconds: two answers
/// that it did not get, and what clocks may differ.
const EARLIER_MS: u64 = 2 * EVERY_MS + MARGIN_MS;

/// One that has ended. All zeros: there was none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Silence {
    from_ms: u64,
    until_ms: u64,
    /// How many Envoys there were before; 0: it stands for several, with times between in which something
    /// was heard.
    envoys: u32,
}

/// What holds after a silence, of what had begun by its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// All divided the limit by so many.
    Divided(u32),
    /// Others may have divided it, and this Envoy did not.
    Alone,
}

impl Silence {
    fn after(&self, begins_ms: u64, reach_ms: u64) -> Option<After> {
        let Self { from_ms, until_ms, envoys } = *self;
        let since_ms = from_ms.saturating_sub(EARLIER_MS);
        // In a silence shorter than that, nobody divided.
        if until_ms.saturating_sub(since_ms) <= reach_ms || begins_ms < since_ms {
            return None;
        }
        let divides_until = until_ms.saturating_add(MARGIN_MS);
        // Where only others may have divided, this Envoy keeps to its parts.
        let alike =
            until_ms.saturating_sub(from_ms) > reach_ms && begins_ms >= from_ms && envoys > 0;
        if alike && begins_ms < divides_until {
            return Some(After::Divided(envoys));
        }
        // Others, whose silence ended later, may be dividing still, or what was divided counts still.
        let counts_until = divides_until.saturating_add(RETURN_MS + MARGIN_MS + reach_ms);
        (begins_ms < counts_until).then_some(After::Alone)
    }
}

/// The last ones, the latest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Silences([Silence; KEPT]);

impl Silences {
    pub(super) const BYTES: usize = KEPT * 20;

    pub(super) fn read(fields: &mut Fields<'_>) -> Self {
        Self(std::array::from_fn(|_| Silence {
            from_ms: fields.u64(),
            until_ms: fields.u64(),
            envoys: fields.u32(),
        }))
    }

    pub(super) fn write(&self, fields: &mut FieldsMut<'_>) {
        for silence in self.0 {
            fields.put(silence.from_ms.to_le_bytes());
            fields.put(silence.until_ms.to_le_bytes());
            fields.put(silence.envoys.to_le_bytes());
        }
    }

    /// What holds of things that count from `begins_ms` on, or of what slides, which reaches back by
    /// `reach_ms`; nothing for a fixed window. Where it differs from one silence to another: to be alone.
    pub(super) fn after(&self, begins_ms: u64, reach_ms: u64) -> Option<After> {
        let mut holds = None;
        for silence in self.0.iter().filter(|it| it.until_ms > 0) {
            match silence.after(begins_ms, reach_ms) {
                Some(After::Alone) => return Some(After::Alone),
                Some(After::Divided(by)) => {
                    let before = if let Some(After::Divided(before)) = holds { before } else { 0 };
                    holds = Some(After::Divided(by.max(before)));
                }
                None => {}
            }
        }
        holds
    }

    /// Remembers one in which so many went on by themselves; the two oldest are one where there is no place.
    pub(super) fn remember(&mut self, from_ms: u64, until_ms: u64, envoys: u32) {
        let [first, second, before_last, last] = self.0;
        let oldest = if last.until_ms == 0 {
            before_last
        } else {
            Silence { from_ms: last.from_ms, until_ms: before_last.until_ms, envoys: 0 }
        };
        self.0 = [Silence { from_ms, until_ms, envoys }, first, second, oldest];
    }

    /// What was over when the clock was ahead is so at any rate now.
    pub(super) fn are_over(&mut self, now_ms: u64) {
        for silence in &mut self.0 {
            silence.until_ms = silence.until_ms.min(now_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasm_bindgen_test::wasm_bindgen_test;

    #[wasm_bindgen_test(unsupported = test)]
    fn one_after_another_does_not_end_what_the_first_began() {
        let mut silences = Silences::default();
        assert_eq!(silences.after(100_000, 0), None);
        // A window begins in the first of them.
        for nth in 1..=9 {
            silences.remember(nth * 100_000, nth * 100_000 + 20_000, 4);
            let right = if nth <= 4 { After::Divided(4) } else { After::Alone };
            assert_eq!(silences.after(110_000, 0), Some(right), "after {nth}");
            assert_eq!(silences.after(nth * 100_000 + 10_000, 0), Some(After::Divided(4)));
            // Before all of them.
            assert_eq!(silences.after(90_000, 0), None);
        }
        // Of more than are told apart, it is not known who did what between the oldest.
        assert_eq!(silences.after(350_000, 0), Some(After::Alone));
        assert_eq!(silences.after(850_000, 0), None);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn they_survive_being_written_and_read() {
        let mut silences = Silences::default();
        for nth in 1..6 {
            silences.remember(nth * 1000, nth * 1000 + 500, 3);
        }
        let mut bytes = [0; Silences::BYTES];
        silences.write(&mut FieldsMut(&mut bytes));
        assert_eq!(Silences::read(&mut Fields(&bytes)), silences);
    }
}
