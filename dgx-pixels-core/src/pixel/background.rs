//! The plain background of a sprite: what colours it has, and which cells are it.
//!
//! Idea: PixelRefiner (HappyOnigiri, MIT), which measures the border's colours and tests enclosed
//! regions against them. The thresholds are our own, set on 531 sprites and 930 wall and floor
//! tiles of Dungeon Crawl Stone Soup (CC0).

use super::Oklab;
use super::neighbours::{AROUND, Field, SIDES};

/// Border cells this near to each other, in Oklab, are one colour seen through noise.
const CLUSTER: f32 = 0.05;
/// Two clusters nearer than this are one background with a gradient.
const GRADIENT: f32 = 0.16;
/// Least share of the border that the background holds.
const BORDER_SHARE: f32 = 0.6;
/// Least share of the border that is flooded.
const FLOODED_SHARE: f32 = 0.65;
/// Bounds of what is taken for background, in Oklab.
const REACH: (f32, f32) = (0.022, 0.065);
/// Chroma from which a background is a key: a colour chosen to be found nowhere else.
const KEY_CHROMA: f32 = 0.13;
/// Distance in Oklab that a sprite's colours keep from a key.
const KEY_ROOM: f32 = 0.12;

/// A cell of the silhouette nearer to the background than this, in Oklab, may be of it.
const WEAK: f32 = 0.09;
/// A cleared cell that is this far from a background without noise may be an outline.
const EATEN: f32 = 0.012;
/// Spread of a background without noise.
const PLAIN: f32 = 0.004;
/// On a background darker than this, one cell in so many of the sprite that has its color says that
/// its outlines have too.
const DARK: f32 = 0.35;
const INK: usize = 40;

/// Colours on, or near, the line between two ends that may be the same.
pub(super) struct Background {
    ends: [Oklab; 2],
    /// Root mean square distance of the border's own cells.
    spread: f32,
    /// Distance up to which a cell counts as background.
    reach: f32,
}

impl Background {
    /// The colour that holds most of the border, or two that are close; `None` if the border is
    /// varied.
    pub(super) fn measure(field: Field, colors: &[Oklab]) -> Option<Background> {
        let border: Vec<Oklab> = field.border().map(|cell| colors[cell]).collect();
        let (first, rest) = densest(&border)?;
        let second = densest(&rest).map(|(second, _)| second);
        let ends = [first, second.filter(|second| first.distance(*second) < GRADIENT).unwrap_or(first)];
        let mut background = Background { ends, spread: 0.0, reach: CLUSTER };
        let near: Vec<f32> =
            border.iter().map(|&color| background.distance(color)).filter(|&far| far <= CLUSTER).collect();
        if (near.len() as f32) < BORDER_SHARE * border.len() as f32 {
            return None;
        }
        background.spread = (near.iter().map(|far| far * far).sum::<f32>() / near.len() as f32).sqrt();
        background.reach = (2.5 * background.spread).clamp(REACH.0, REACH.1);
        Some(background)
    }

    /// The distance of a color from the background's.
    pub(super) fn distance(&self, color: Oklab) -> f32 {
        let [start, end] = self.ends;
        let line = [end.l - start.l, end.a - start.a, end.b - start.b];
        let from = [color.l - start.l, color.a - start.a, color.b - start.b];
        let dot = |a: [f32; 3], b: [f32; 3]| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
        let t = (dot(from, line) / dot(line, line).max(1e-9)).clamp(0.0, 1.0);
        color.distance(Oklab { l: start.l + t * line[0], a: start.a + t * line[1], b: start.b + t * line[2] })
    }

    /// The commoner colour.
    pub(super) fn color(&self) -> Oklab {
        self.ends[0]
    }

    /// The cells that are background; `None` if what would be left is no sprite, as in a wall or a
    /// floor.
    pub(super) fn cells(&self, field: Field, colors: &[Oklab]) -> Option<Vec<bool>> {
        let near: Vec<bool> = colors.iter().map(|&color| self.distance(color) <= self.reach).collect();
        let mut cleared = field.flood(field.border(), SIDES, |cell| near[cell]);
        if !self.surrounds_a_sprite(field, colors, &cleared) {
            return None;
        }
        self.clear_specks(field, colors, &mut cleared);
        self.clear_holes(field, colors, &near, &mut cleared);
        Some(cleared)
    }

    /// `true` if the sprite may have lost a part to the background, or the background may have kept
    /// one: much of the silhouette is hardly different from the background, or is of the
    /// background's own ink.
    pub(super) fn is_doubtful(&self, field: Field, colors: &[Oklab], cleared: &[bool]) -> bool {
        let (mut pairs, mut weak, mut eaten) = (0, 0, 0);
        for cell in (0..field.len()).filter(|&cell| cleared[cell]) {
            for kept in field.sides(cell).filter(|&near| !cleared[near]) {
                pairs += 1;
                weak += usize::from(self.distance(colors[kept]) < WEAK);
                eaten += usize::from(self.distance(colors[cell]) > EATEN);
            }
        }
        let kept = cleared.iter().filter(|cleared| !**cleared).count();
        let is_own = |cell: usize| self.distance(colors[cell]) <= EATEN;
        let outside = field.flood(field.border(), SIDES, is_own);
        let ink = (0..field.len()).filter(|&cell| is_own(cell) && !outside[cell]).count();
        let is_ink = self.color().l < DARK && INK * ink >= kept;
        10 * weak > 3 * pairs || self.spread <= PLAIN && 10 * eaten > 3 * pairs || is_ink
    }

    /// `true` if the flooded cells look like the plain surroundings of something: of some depth,
    /// smooth beside the contrast at their edge, all around, and leaving few parts.
    fn surrounds_a_sprite(&self, field: Field, colors: &[Oklab], cleared: &[bool]) -> bool {
        let count = cleared.iter().filter(|&&cleared| cleared).count();
        let deep = (0..field.len())
            .filter(|&cell| {
                cleared[cell] && field.around(cell).filter(|&near| cleared[near]).count() == AROUND.len()
            })
            .count();
        let (mut inside, mut edge) = (Mean::default(), Mean::default());
        for cell in (0..field.len()).filter(|&cell| cleared[cell]) {
            let far = |other: usize| colors[cell].distance(colors[other]);
            for near in field.sides(cell) {
                if cleared[near] {
                    inside.add(far(near));
                } else {
                    // One cell further too: the first is often a mixture of both sides.
                    let further = field.sides(near).filter(|&further| !cleared[further]).map(far);
                    edge.add(further.fold(far(near), f32::max));
                }
            }
        }
        let ring = field.border().count();
        let flooded = field.border().filter(|&cell| cleared[cell]).count();
        let left: Vec<bool> = cleared.iter().map(|cleared| !cleared).collect();
        let parts = field.regions(AROUND, &left).len();
        deep * 8 >= count
            && flooded as f32 >= FLOODED_SHARE * ring as f32
            && edge.count > 0
            && edge.get() >= (10.0 * inside.get()).max(0.12)
            && (parts <= 10 || edge.get() >= 25.0 * inside.get())
    }

    /// Clears noise: one or two cells in the middle of the background that are just out of reach.
    fn clear_specks(&self, field: Field, colors: &[Oklab], cleared: &mut [bool]) {
        let left: Vec<bool> = cleared.iter().map(|cleared| !cleared).collect();
        for region in field.regions(AROUND, &left) {
            if region.len() <= 2 && region.iter().all(|&cell| self.distance(colors[cell]) <= 2.0 * self.reach)
            {
                region.into_iter().for_each(|cell| cleared[cell] = true);
            }
        }
    }

    /// Clears background that the sprite encloses. All of it if the background is a key and the
    /// sprite keeps clear of it. Else regions of three cells and more that are as plain as the
    /// border and end sharply, the smaller the sharper: others are eyes, teeth and highlights.
    fn clear_holes(&self, field: Field, colors: &[Oklab], near: &[bool], cleared: &mut [bool]) {
        let far: Vec<f32> = colors.iter().map(|&color| self.distance(color)).collect();
        let (mut close, mut sprite) = (0, 0);
        for cell in (0..field.len()).filter(|&cell| !near[cell]) {
            sprite += 1;
            close += usize::from(far[cell] <= KEY_ROOM);
        }
        let is_key = self.ends[0].a.hypot(self.ends[0].b) >= KEY_CHROMA && close * 100 <= sprite;
        let enclosed: Vec<bool> =
            near.iter().zip(&*cleared).map(|(near, cleared)| *near && !cleared).collect();
        for region in field.regions(SIDES, &enclosed) {
            let mut away = Mean::default();
            region.iter().for_each(|&cell| away.add(far[cell]));
            let plain = away.get() <= self.spread.max(0.004);
            let rim = region.iter().flat_map(|&cell| field.sides(cell)).filter(|&cell| !near[cell]);
            let sharp = rim.map(|cell| far[cell]).fold(1.0, f32::min) >= 0.12 + 0.9 / region.len() as f32;
            if is_key || region.len() >= 3 && plain && sharp {
                region.into_iter().for_each(|cell| cleared[cell] = true);
            }
        }
    }
}

#[derive(Default)]
struct Mean {
    sum: f32,
    count: usize,
}

impl Mean {
    fn add(&mut self, value: f32) {
        self.sum += value;
        self.count += 1;
    }

    fn get(&self) -> f32 {
        self.sum / self.count.max(1) as f32
    }
}

/// Mean of the colours within [`CLUSTER`] of the one that has most such neighbours, and the colours
/// that are not.
fn densest(colors: &[Oklab]) -> Option<(Oklab, Vec<Oklab>)> {
    let near = |a: &Oklab, b: &Oklab| a.distance_squared(*b) <= CLUSTER * CLUSTER;
    let crowd = |center: &Oklab| colors.iter().filter(|color| near(center, color)).count();
    // max_by_key takes the last of equals, so the walk is backwards.
    let center = colors.iter().rev().max_by_key(|color| crowd(color))?;
    let (members, rest): (Vec<Oklab>, Vec<Oklab>) =
        colors.iter().copied().partition(|color| near(center, color));
    let mean = |of: fn(&Oklab) -> f32| members.iter().map(of).sum::<f32>() / members.len() as f32;
    Some((Oklab { l: mean(|color| color.l), a: mean(|color| color.a), b: mean(|color| color.b) }, rest))
}
