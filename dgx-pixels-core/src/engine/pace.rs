//! Averages of durations, from which the engine estimates the time that is left.
//!
//! The time of a round is taken as `fixed + slope * work`, where the work is rows times pixels. The
//! line is fitted by least squares to the rounds that were run, and a round fades to half its
//! weight after about 30 more. So the estimate follows a device that slows down.
//!
//! The same line decides how many images are drawn together: the fewest that reach 95 % of the rate
//! of a full batch, unless more than two batches wait.

use std::time::Duration;

/// The factor by which older rounds fade: a round counts half after about thirty more.
const FADE: f64 = 0.977;

/// Share of the best rate that is good enough, if it lets pictures be finished earlier.
const NEARLY: f64 = 0.95;

/// A line, time over rows, through the rounds that were run; newer ones count more.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    weight: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
}

impl Pace {
    /// A round with so much work, in whatever unit, took `time`.
    pub(crate) fn observe(&mut self, work: f64, time: Duration) {
        let seconds = time.as_secs_f64();
        for (sum, new) in [
            (&mut self.weight, 1.0),
            (&mut self.x, work),
            (&mut self.y, seconds),
            (&mut self.xx, work * work),
            (&mut self.xy, work * seconds),
        ] {
            *sum = *sum * FADE + new;
        }
    }

    /// The estimated time of a round with this much work; `None` before the first.
    pub(crate) fn time(&self, work: f64) -> Option<Duration> {
        if self.weight == 0.0 || self.x == 0.0 {
            return None;
        }
        // Rounds of one size say nothing of others: then time is taken to grow with the work.
        let (fixed, slope) = self.line().unwrap_or((0.0, self.y / self.x));
        Some(Duration::from_secs_f64(fixed + slope * work))
    }

    /// The part of a round's time that does not depend on its work, and what each unit of work
    /// adds. `None` while all rounds were about alike.
    fn line(&self) -> Option<(f64, f64)> {
        let spread = self.weight * self.xx - self.x * self.x;
        if spread <= 1e-2 * self.xx * self.weight {
            return None;
        }
        let slope = ((self.weight * self.xy - self.x * self.y) / spread).max(0.0);
        let fixed = (self.y - slope * self.x) / self.weight;
        Some(if fixed >= 0.0 { (fixed, slope) } else { (0.0, self.y / self.x) })
    }

    /// The fewest pictures of so much work each that are drawn together nearly as fast as `most`:
    /// more would only make all wait for each other. `most` while that is not known.
    pub(crate) fn enough(&self, work: f64, most: usize) -> usize {
        let Some((fixed, slope)) = self.line() else { return most };
        let rate = |together: usize| together as f64 / (fixed + slope * work * together as f64);
        (1..most).find(|together| rate(*together) >= NEARLY * rate(most)).unwrap_or(most)
    }
}

/// The number of images in a round: `enough`, or `most` while many wait, when the last bit of the
/// rate counts most. `enough` is only worked out where it is needed.
pub(crate) fn together(waiting: usize, most: usize, enough: impl FnOnce() -> usize) -> usize {
    if waiting > 2 * most { most } else { enough().min(most) }
}

/// The number of images that are decoded in the time of a round of steps where one takes `each`. It
/// is at least 1, and 1 while `each` is not known.
pub(crate) fn decoded_in(round: Duration, each: Duration) -> usize {
    let ratio = round.as_secs_f64() / each.as_secs_f64();
    if ratio.is_finite() { (ratio as usize).max(1) } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_full_only_while_more_than_two_rounds_wait() {
        for (waiting, enough, expected) in [(0, 2, 2), (9, 2, 2), (16, 2, 2), (17, 2, 8), (16, 20, 8)] {
            assert_eq!(together(waiting, 8, || enough), expected, "{waiting} wait, {enough} are enough");
        }
    }

    #[test]
    fn as_many_are_decoded_as_take_the_time_of_a_round() {
        for (round, each, expected) in [(90, 30, 3), (89, 30, 2), (10, 30, 1), (0, 30, 1), (90, 0, 1)] {
            let ms = Duration::from_millis;
            assert_eq!(decoded_in(ms(round), ms(each)), expected, "{round} ms, {each} ms each");
        }
    }

    fn ms(work: f64) -> Duration {
        Duration::from_secs_f64((12.0 + 5.0 * work) / 1000.0)
    }

    #[test]
    fn a_line_is_found_and_a_change_followed() {
        let mut pace = Pace::default();
        assert_eq!(pace.time(1.0), None);
        pace.observe(2.0, ms(2.0));
        assert_eq!(pace.time(4.0), Some(ms(2.0) * 2), "one round: time grows with work");
        for work in [1.0, 4.0, 8.0, 2.0] {
            pace.observe(work, ms(work));
        }
        let close = |pace: &Pace, work, expected: Duration| {
            let time = pace.time(work).unwrap().as_secs_f64();
            assert!((time / expected.as_secs_f64() - 1.0).abs() < 0.02, "{time} {expected:?}");
        };
        close(&pace, 16.0, ms(16.0));
        for work in [1.0, 8.0].into_iter().cycle().take(200) {
            pace.observe(work, ms(work) * 3);
        }
        close(&pace, 4.0, ms(4.0) * 3);
    }

    #[test]
    fn no_more_are_drawn_together_than_pays() {
        let mut pace = Pace::default();
        assert_eq!(pace.enough(2.0, 8), 8, "nothing is known yet");
        for together in [8.0, 1.0, 4.0, 2.0] {
            pace.observe(2.0 * together, ms(2.0 * together));
        }
        // 12 + 10 n ms: eight take 92 ms, 11.5 each, and six 72 ms, 12 each.
        assert_eq!(pace.enough(2.0, 8), 6);
        let mut linear = Pace::default();
        for together in [8.0, 1.0, 4.0, 2.0] {
            linear.observe(2.0 * together, Duration::from_secs_f64(0.02 * together + 0.001));
        }
        assert_eq!(linear.enough(2.0, 8), 1);
        (0..400).for_each(|_| linear.observe(2.0, ms(2.0)));
        assert_eq!(linear.enough(2.0, 8), 8, "long ago is forgotten, and tried again");
    }
}
