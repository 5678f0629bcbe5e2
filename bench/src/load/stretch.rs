//! Stretches of a steady load: what is sent between two pauses.

/// Latencies by stretch.
#[derive(Default)]
pub(super) struct Stretches(Vec<Vec<u64>>);

impl Stretches {
    pub(super) fn record(&mut self, stretch: usize, nanoseconds: u64) {
        self.extend(stretch, [nanoseconds]);
    }

    pub(super) fn add(&mut self, others: Self) {
        for (stretch, latencies) in others.0.into_iter().enumerate() {
            self.extend(stretch, latencies);
        }
    }

    fn extend(&mut self, stretch: usize, latencies: impl IntoIterator<Item = u64>) {
        if self.0.len() <= stretch {
            self.0.resize_with(stretch + 1, Vec::new);
        }
        if let Some(of_stretch) = self.0.get_mut(stretch) {
            of_stretch.extend(latencies);
        }
    }

    /// What 99 in 100 requests of each took at most. The last may have ended early: one with less
    /// than half of what the fullest has is left out.
    pub(super) fn p99(self) -> Vec<u64> {
        let fullest = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let whole = self.0.into_iter().filter(|of| of.len() * 2 >= fullest);
        whole
            .filter_map(|mut of| {
                of.sort_unstable();
                let rank = (of.len() * 99).div_ceil(100);
                of.get(rank.checked_sub(1)?).copied()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Stretches;

    #[test]
    fn each_stretch_has_its_own_and_one_that_was_cut_short_has_none() {
        let [mut here, mut there] = [Stretches::default(), Stretches::default()];
        for n in 1..=50 {
            here.record(0, n);
            there.record(0, 50 + n);
            there.record(1, 7);
        }
        there.record(2, 9);
        here.add(there);
        assert_eq!(here.p99(), [99, 7]);
        assert_eq!(Stretches::default().p99(), [0; 0]);
    }
}
