//! How strongly a profile repeats at each frequency.

use std::f64::consts::TAU;

/// Power of a profile at evenly spaced frequencies, in units of what noise of the same variance has on average.
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

/// Entries for each cycle that fits the profile: fine enough not to miss a peak.
const OVERSAMPLING: f64 = 4.0;

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
    /// Of `values` between `lowest` and `highest` cycles per pixel.
    pub(super) fn new(values: &[f32], lowest: f64, highest: f64) -> Self {
        let n = values.len().max(1) as f64;
        let step = 1.0 / (OVERSAMPLING * n);
        let count = ((highest - lowest) / step).max(0.0) as usize + 1;
        let variance = values.iter().map(|value| f64::from(value * value)).sum::<f64>().max(1e-9);
        let power = (0..count)
            .map(|i| {
                let (re, im) = fourier(values, lowest + i as f64 * step);
                ((re * re + im * im) / variance) as f32
            })
            .collect();
        Spectrum { lowest, step, power }
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

/// The Fourier sum at one frequency; its angle over -TAU times the frequency is where the waves crest.
pub(super) fn fourier(values: &[f32], frequency: f64) -> (f64, f64) {
    // Eight rotors side by side, each advancing by eight steps, so that the loop has no long chain.
    const LANES: usize = 8;
    let angle = TAU * frequency;
    let mut re = [0.0f32; LANES];
    let mut im = [0.0f32; LANES];
    let mut cos = [0.0f32; LANES];
    let mut sin = [0.0f32; LANES];
    let (turn_sin, turn_cos) = ((LANES as f64 * angle).sin() as f32, (LANES as f64 * angle).cos() as f32);
    for (block, chunk) in values.chunks(LANES).enumerate() {
        if block % 32 == 0 {
            for lane in 0..LANES {
                let at = angle * (block * LANES + lane) as f64;
                (cos[lane], sin[lane]) = (at.cos() as f32, at.sin() as f32);
            }
        }
        for (lane, value) in chunk.iter().enumerate() {
            re[lane] += value * cos[lane];
            im[lane] -= value * sin[lane];
        }
        for lane in 0..LANES {
            let turned = cos[lane] * turn_cos - sin[lane] * turn_sin;
            sin[lane] = sin[lane] * turn_cos + cos[lane] * turn_sin;
            cos[lane] = turned;
        }
    }
    (re.iter().map(|value| f64::from(*value)).sum(), im.iter().map(|value| f64::from(*value)).sum())
}
