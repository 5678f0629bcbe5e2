//! Whether something grows: the slope of a line through noisy points.

/// A value over time.
#[derive(Clone, Debug, Default)]
pub(super) struct Series(Vec<(f64, f64)>);

impl Series {
    pub(super) fn add(&mut self, seconds: f64, value: f64) {
        self.0.push((seconds, value));
    }

    /// The part from a moment on.
    pub(super) fn from(&self, seconds: f64) -> Self {
        Self(self.0.iter().copied().filter(|(at, _)| *at >= seconds).collect())
    }

    pub(super) fn most(&self) -> f64 {
        self.0.iter().map(|(_, value)| *value).fold(0.0, f64::max)
    }

    pub(super) fn middle(&self) -> f64 {
        median(self.0.iter().map(|(_, value)| *value).collect())
    }

    /// For how long, in seconds.
    pub(super) fn length(&self) -> f64 {
        match (self.0.first(), self.0.last()) {
            (Some((first, _)), Some((last, _))) => last - first,
            _ => 0.0,
        }
    }

    /// By how much it grows in a second: the median of the slopes between any two points (Theil
    /// and Sen), which a few points that are far off do not move.
    pub(super) fn slope(&self) -> f64 {
        let mut slopes = Vec::new();
        for (place, (at, value)) in self.0.iter().enumerate() {
            for (later, then) in self.0.iter().skip(place + 1).filter(|(later, _)| later > at) {
                slopes.push((then - value) / (later - at));
            }
        }
        median(slopes)
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::Series;

    fn series(values: &[f64]) -> Series {
        let mut series = Series::default();
        let mut seconds = 0.0;
        for value in values {
            series.add(seconds, *value);
            seconds += 10.0;
        }
        series
    }

    #[test]
    fn what_grows_has_a_slope_and_an_outlier_makes_none() {
        assert!((series(&[1.0, 2.0, 3.0, 4.0]).slope() - 0.1).abs() < 1e-9);
        assert!(series(&[5.0, 5.0, 90.0, 5.0, 5.0]).slope().abs() < 1e-9);
        assert!(series(&[]).slope().abs() < 1e-9);
    }

    #[test]
    fn the_warm_up_can_be_left_out() {
        let later = series(&[9.0, 1.0, 2.0, 3.0]).from(10.0);
        assert!((later.length() - 20.0).abs() < 1e-9 && (later.middle() - 2.0).abs() < 1e-9);
        assert!((later.most() - 3.0).abs() < 1e-9);
    }
}
