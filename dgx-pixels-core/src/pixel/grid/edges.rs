//! Edges one by one: where each line of a picture changes most, and how far apart such places are.
//!
//! The sums of a whole axis, which the spectra are of, mix parts that lie at phases of their own.
//! The distance between two edges that follow each other on one line does not: it is a multiple of
//! the step, whatever the phase, in each part of a sheet. And a step that is a part of the true one
//! explains no distance that the true one leaves unexplained, while many distances would have to be
//! shorter than the true one. (Distances between changes: pixel-art-fixer of Retro Diffusion, MIT,
//! describes a comb over run lengths.)

use std::f32::consts::TAU;

use super::Axis;

/// Entries of the histogram for each pixel.
const FINE: f32 = 4.0;
/// Longer distances say nothing of steps.
const LONGEST: f32 = 320.0;
/// An edge ends where the change falls below this share of its top.
const FALLS: i32 = 60;
/// A change of this weight is an edge as good as any.
const ENOUGH: f32 = 120.0;
/// A border has edges if it has this share of what a border has on average.
const HAS_EDGES: f64 = 0.05;
/// Parts of a picture along each axis, whose phases are compared.
const PARTS: usize = 4;
/// Places that are looked at one by one: those of every second line, every third, ... where there
/// are at least twice as many. Distances are of all lines.
const ENOUGH_PLACES: usize = 10_000;
/// Distances of up to so many steps are looked at: an error of the step adds up.
const STEPS: f32 = 4.5;

/// The edges along one axis.
pub(super) struct Edges {
    /// Pixels of all lines.
    pixels: usize,
    /// The number of places before each line.
    starts: Vec<usize>,
    /// Place between two pixels, and weight.
    places: Vec<(f32, f32)>,
    /// The number of places of all lines.
    count: usize,
    /// The share of lines that have any.
    busy: f64,
    /// Weights of distances between neighbors on a line, in quarters of a pixel.
    distances: Vec<f32>,
    /// Sums of `distances`, up to each entry.
    sums: Vec<f32>,
    waves: Vec<f32>,
}

impl Edges {
    pub(super) fn new() -> Edges {
        let waves = (0..1024).map(|i| (TAU * i as f32 / 1024.0).cos()).collect();
        Edges {
            pixels: 0,
            starts: vec![],
            places: vec![],
            count: 0,
            busy: 0.0,
            distances: vec![0.0; (LONGEST * FINE) as usize],
            sums: vec![],
            waves,
        }
    }

    /// Adds a line, whose pixel `i` differs from the one before by `changes[i]`.
    pub(super) fn add(&mut self, changes: &[i16], weakest: i32) {
        self.pixels += changes.len();
        self.starts.push(self.places.len());
        let mut last: Option<(f32, f32)> = None;
        let (mut top, mut from, mut low, mut rising) = (0i32, 0usize, 0i32, true);
        for (x, change) in changes.iter().map(|change| i32::from(*change)).chain([0]).enumerate() {
            if !rising {
                low = low.min(change);
                if FALLS * change > 100 * low + FALLS * weakest / 2 {
                    (top, from, rising) = (change, x, true);
                }
            } else if change > top {
                top = change;
            } else if 100 * change < FALLS * top {
                if top >= weakest {
                    let (mut sum, mut all) = (0i32, 0i32);
                    for (i, near) in changes[from..x].iter().enumerate() {
                        if 100 * i32::from(*near) >= FALLS * top {
                            sum += i32::from(*near) * i as i32;
                            all += i32::from(*near);
                        }
                    }
                    let at = from as f32 + sum as f32 / all.max(1) as f32;
                    let weight = (top - weakest / 2) as f32;
                    let weight = weight.min(ENOUGH);
                    if let Some((before, other)) = last
                        && at - before < LONGEST
                    {
                        let bin = ((at - before) * FINE + 0.5) as usize;
                        if let Some(distance) = self.distances.get_mut(bin) {
                            *distance += weight.min(other);
                        }
                    }
                    self.places.push((at, weight));
                    last = Some((at, weight));
                }
                (low, rising) = (change, false);
            }
        }
    }

    /// All lines are in.
    pub(super) fn finish(&mut self) {
        self.count = self.places.len();
        let ends = self.starts.iter().skip(1).chain([&self.count]);
        let busy = self.starts.iter().zip(ends).filter(|(start, end)| start < end).count();
        self.busy = busy as f64 / self.starts.len().max(1) as f64;
        let every = (self.count / ENOUGH_PLACES).max(1);
        if every > 1 {
            let ends = self.starts.iter().skip(1).chain([&self.count]);
            let lines: Vec<_> = self.starts.iter().zip(ends).step_by(every).collect();
            let mut places = Vec::with_capacity(2 * self.count / every);
            let mut starts = Vec::with_capacity(lines.len());
            for (start, end) in lines {
                starts.push(places.len());
                places.extend_from_slice(&self.places[*start..*end]);
            }
            (self.places, self.starts) = (places, starts);
        }
        let mut sum = 0.0;
        self.sums = self
            .distances
            .iter()
            .map(|distance| {
                sum += distance;
                sum
            })
            .collect();
    }

    /// Weight of all distances.
    pub(super) fn weight(&self) -> f32 {
        self.sums.last().copied().unwrap_or(0.0)
    }

    /// The number of pixels that they are edges of.
    pub(super) fn pixels(&self) -> f64 {
        self.pixels as f64
    }

    /// The number of edges.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The share of lines that have edges.
    pub(super) fn busy(&self) -> f64 {
        self.busy
    }

    /// The degree to which distances are multiples of `step`, -1 to 1, and the weight of those
    /// looked at. Distances below half a step speak against it.
    pub(super) fn comb(&self, step: f64) -> (f32, f32) {
        let step = step as f32 * FINE;
        let (half, end) = ((0.5 * step) as usize, ((STEPS * step) as usize).min(self.distances.len()));
        if half >= end {
            return (0.0, 0.0);
        }
        let below = if half == 0 { 0.0 } else { self.sums[half - 1] };
        let turn = 1024.0 / step;
        let mut sum = -below;
        for (i, distance) in self.distances[half..end].iter().enumerate() {
            if *distance > 0.0 {
                sum += distance * self.waves[((half + i) as f32 * turn) as usize % 1024];
            }
        }
        let weight = self.sums[end - 1];
        (if weight > 0.0 { sum / weight } else { 0.0 }, weight)
    }

    /// The share of the distances that [`comb`](Self::comb) looks at which are one step.
    pub(super) fn single(&self, step: f64) -> f64 {
        let step = step as f32 * FINE;
        let at =
            |steps: f32| self.sums.get((steps * step) as usize).or(self.sums.last()).copied().unwrap_or(0.0);
        let all = at(STEPS);
        if all > 0.0 { f64::from((at(1.4) - at(0.6)) / all) } else { 0.0 }
    }

    /// The degree to which parts of the picture have one phase: 1 if all have, near 0 if each has
    /// its own.
    pub(super) fn coherence(&self, axis: &Axis) -> f64 {
        if axis.is_in_parts() {
            return self.on_borders(axis).near.max(0.0).sqrt();
        }
        self.coherence_of(axis.step, axis.span(axis.cells() - 1).1)
    }

    /// The same for a regular axis of `len` pixels.
    pub(super) fn coherence_of(&self, step: f64, len: usize) -> f64 {
        let turn = 1024.0 / step as f32;
        let part_len = (len as f32 / PARTS as f32).max(1.0);
        let mut parts = [[(0.0f32, 0.0f32); PARTS]; PARTS];
        for (line, start) in self.starts.iter().enumerate() {
            let end = self.starts.get(line + 1).copied().unwrap_or(self.places.len());
            let row = &mut parts[line * PARTS / self.starts.len()];
            for (at, weight) in &self.places[*start..end] {
                let (re, im) = &mut row[((at / part_len) as usize).min(PARTS - 1)];
                let angle = (at * turn) as usize;
                *re += weight * self.waves[angle % 1024];
                *im += weight * self.waves[(angle + 768) % 1024];
            }
        }
        let (mut re, mut im, mut alone) = (0.0, 0.0, 0.0);
        for (a, b) in parts.iter().flatten() {
            (re, im) = (re + a, im + b);
            alone += a.hypot(*b);
        }
        if alone > 0.0 { f64::from(re.hypot(im) / alone) } else { 0.0 }
    }

    /// The direction in which the edges of `from..to` lie in a cell of `step` pixels: the sum of
    /// their weights as points of a circle.
    pub(super) fn phase(&self, step: f64, from: f32, to: f32) -> (f32, f32) {
        let turn = 1024.0 / step as f32;
        let (mut re, mut im) = (0.0, 0.0);
        for (at, weight) in self.places.iter().filter(|(at, _)| (from..=to).contains(at)) {
            let angle = (at * turn) as usize;
            re += weight * self.waves[angle % 1024];
            im += weight * self.waves[(angle + 768) % 1024];
        }
        (re, im)
    }

    /// The step that distances of up to three cells have on average, if there are any.
    pub(super) fn mean_step(&self, step: f64) -> Option<f64> {
        let quarters = step as f32 * FINE;
        let (mut sum, mut steps) = (0.0f64, 0.0f64);
        for (i, distance) in self.distances.iter().enumerate().take((3.3 * quarters) as usize) {
            let times = i as f32 / quarters;
            let whole = times.round();
            if whole > 0.0 && (times - whole).abs() < 0.25 {
                sum += f64::from(*distance) * i as f64;
                steps += f64::from(distance * whole);
            }
        }
        (steps > 0.0).then(|| sum / steps / f64::from(FINE))
    }

    /// The places of edges within the cells of `axis`.
    pub(super) fn on_borders(&self, axis: &Axis) -> OnBorders {
        let len = axis.span(axis.cells() - 1).1;
        // Where in its cell each quarter of a pixel lies.
        let mut waves = vec![0.0f32; (len + 2) * 4];
        for cell in 0..axis.cells() {
            let (from, to) = axis.span(cell);
            for quarter in 0..4 * (to - from) {
                waves[4 * from + quarter] = (TAU * quarter as f32 / (4 * (to - from)) as f32).cos();
            }
        }
        // Weights at the borders: those of the edges that are nearest.
        let mut nearest = vec![0usize; len + 2];
        for cell in 0..axis.cells() {
            let (from, to) = axis.span(cell);
            let middle = (from + to) / 2;
            nearest[from..=middle].fill(cell);
            nearest[middle + 1..=to].fill(cell + 1);
        }
        let mut borders = vec![0.0f32; axis.cells() + 1];
        let (mut sum, mut twice, mut thrice, mut all) = (0.0f64, 0.0f64, 0.0f64, 0.0f64);
        for (at, weight) in &self.places {
            let wave = waves.get((at * 4.0 + 0.5) as usize).copied().unwrap_or(0.0);
            sum += f64::from(wave * weight);
            // The cosines of the doubled and the tripled angle.
            twice += f64::from((2.0 * wave * wave - 1.0) * weight);
            thrice += f64::from((4.0 * wave * wave - 3.0) * wave * weight);
            all += f64::from(*weight);
            if wave > 0.3 {
                borders[nearest[(*at as usize).min(len)]] += weight;
            }
        }
        if all == 0.0 {
            return OnBorders::default();
        }
        let enough = (all / borders.len() as f64 * HAS_EDGES) as f32;
        let has = |border: &f32| *border > enough;
        let ends = borders.iter().position(has).zip(borders.iter().rposition(has));
        let filled = ends.map_or(0.0, |(first, last)| {
            let within = &borders[first..=last];
            within.iter().filter(|border| has(border)).count() as f64 / within.len() as f64
        });
        OnBorders { near: sum / all, halves: twice / all, thirds: thrice / all, filled }
    }
}

/// The places of edges within the cells of an axis.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OnBorders {
    /// The nearness to borders: 1 on them, -1 in the middle of cells.
    pub(super) near: f64,
    /// The nearness to borders of halves of cells.
    pub(super) halves: f64,
    /// The nearness to borders of thirds of cells.
    pub(super) thirds: f64,
    /// The share of borders, from the first that has edges to the last, that have some.
    pub(super) filled: f64,
}

/// Both axes at one step: the comb, and the share of all distances that it was made of.
pub(super) fn comb(edges: [&Edges; 2], steps: [f64; 2]) -> (f64, f64) {
    let (mut sum, mut weight, mut all) = (0.0, 0.0, 0.0);
    for (edges, step) in edges.into_iter().zip(steps) {
        let (comb, seen) = edges.comb(step);
        sum += f64::from(comb * seen);
        weight += f64::from(seen);
        all += f64::from(edges.weight());
    }
    if weight > 0.0 { (sum / weight, weight / all) } else { (0.0, 0.0) }
}

/// Steps that are looked at grow by this factor.
const GROWTH: f64 = 1.008;
/// A longer step that explains this share of what the best explains is the true one.
const AS_WELL: f64 = 0.82;
/// Distances that a step explains are at least this share of all.
const COVERS: f64 = 0.3;

/// The longest square step whose multiples distances are about as well as of the best, with its
/// comb; `None` without edges.
pub(super) fn longest(edges: [&Edges; 2], most: f64) -> Option<(f64, f64)> {
    let mut steps = vec![];
    let mut step = 2.0;
    while step <= most {
        let (value, covers) = comb(edges, [step, step]);
        steps.push((step, if covers >= COVERS { value } else { value * covers / COVERS }));
        step *= GROWTH;
    }
    let best = steps.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    if best <= 0.0 {
        return None;
    }
    // Tops only: next to one, steps are as good and wrong.
    let is_top = |i: usize| {
        let near = &steps[i.saturating_sub(4)..(i + 5).min(steps.len())];
        near.iter().all(|(_, value)| *value <= steps[i].1)
    };
    let longest = (0..steps.len()).rev().find(|i| steps[*i].1 >= AS_WELL * best && is_top(*i))?;
    Some(steps[longest])
}
