//! The strength with which a profile repeats at each frequency.

use std::f64::consts::TAU;

use rustfft::FftPlannerScalar;
use rustfft::num_complex::Complex;

/// Power of a profile at evenly spaced frequencies, in units of what noise of the same variance has
/// on average.
pub(super) struct Spectrum {
    /// Cycles per pixel of entry 0.
    lowest: f64,
    /// Between entries.
    step: f64,
    power: Vec<f32>,
}

/// A frequency where power is higher than around it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peak {
    /// Cycles per pixel.
    pub(super) frequency: f64,
    pub(super) power: f32,
}

/// Entries for each cycle that fits the profile, at least: fine enough not to miss a peak.
const OVERSAMPLING: usize = 4;

/// `values` over their mean in a window around them, less 1: what content does slowly is taken out.
pub(super) fn flattened(values: &[f32]) -> Vec<f32> {
    const RADIUS: usize = 40;
    let mut sums = vec![0.0f64; values.len() + 1];
    for (i, value) in values.iter().enumerate() {
        sums[i + 1] = sums[i] + f64::from(*value);
    }
    let overall = sums[values.len()] / values.len().max(1) as f64;
    (0..values.len())
        .map(|i| {
            let (from, to) = (i.saturating_sub(RADIUS), (i + RADIUS + 1).min(values.len()));
            let mean = (sums[to] - sums[from]) / (to - from) as f64;
            // Where nearly nothing happens, ratios mean nothing.
            let floor = 0.2 * overall + 1e-9;
            ((f64::from(values[i]) - mean) / mean.max(floor)).clamp(-1.0, 6.0) as f32
        })
        .collect()
}

impl Spectrum {
    /// The spectrum of `values` from `lowest` cycles per pixel to one in two.
    pub(super) fn new(values: &[f32], lowest: f64) -> Self {
        let size = (OVERSAMPLING * values.len().max(1)).next_power_of_two();
        let mut buffer: Vec<_> = values.iter().map(|value| Complex::new(*value, 0.0)).collect();
        buffer.resize(size, Complex::ZERO);
        // The scalar one, so that all machines find the same.
        FftPlannerScalar::new().plan_fft_forward(size).process(&mut buffer);
        let variance = values.iter().map(|value| f64::from(value * value)).sum::<f64>().max(1e-9) as f32;
        let first = (lowest * size as f64).ceil() as usize;
        let power = buffer.get(first..=size / 2).unwrap_or_default();
        Spectrum {
            lowest: first as f64 / size as f64,
            step: 1.0 / size as f64,
            power: power.iter().map(|value| value.norm_sqr() / variance).collect(),
        }
    }

    /// Highest first, at most `count`.
    pub(super) fn peaks(&self, count: usize) -> Vec<Peak> {
        let at = |i: usize| self.power[i];
        let mut peaks: Vec<_> = (1..self.power.len().saturating_sub(1))
            .filter(|&i| at(i) >= at(i - 1) && at(i) > at(i + 1))
            .map(|i| {
                // The top of the parabola through three entries.
                let (a, b, c) = (at(i - 1), at(i), at(i + 1));
                let shift = if a - 2.0 * b + c < 0.0 { 0.5 * (a - c) / (a - 2.0 * b + c) } else { 0.0 };
                Peak { frequency: self.lowest + (i as f64 + f64::from(shift)) * self.step, power: b }
            })
            .collect();
        peaks.sort_by(|a, b| b.power.total_cmp(&a.power));
        peaks.truncate(count);
        peaks
    }
}

/// The power of a profile's wave of one frequency, not over its variance.
pub(super) fn power_at(values: &[f32], frequency: f64) -> f64 {
    wave_at(values, frequency, 0.0).1
}

/// The wave of one frequency of a profile whose first value lies at `start`: the part that is
/// highest at 0, and the power.
pub(super) fn wave_at(values: &[f32], frequency: f64, start: f64) -> (f64, f64) {
    let turn = Complex::from_polar(1.0, -TAU * frequency);
    let mut rotor = Complex::from_polar(1.0, -TAU * frequency * start);
    let mut sum = Complex::new(0.0, 0.0);
    for value in values {
        sum += rotor * f64::from(*value);
        rotor *= turn;
    }
    (sum.re, sum.norm_sqr())
}
