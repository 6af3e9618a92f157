//! A palette from pictures: few of their own colours that show them well.

use std::collections::HashMap;

use image::RgbaImage;

use super::{MAX_COLORS, Palette};
use crate::pixel::Oklab;

/// Root mean square distance, in Oklab, below which more colours add little: about what is just
/// seen side by side.
const ELBOW: f32 = 0.02;
/// A colour this far from its palette's is missed even if it is rare: a glint, an outline.
const MISSED: f32 = 0.12;
/// Most colours that the elbow gives.
const ELBOW_MOST: usize = 64;
/// Rounds of moving colours to the nearest group.
const ROUNDS: usize = 6;

/// A colour of the pictures.
struct Color {
    rgb: [u8; 3],
    lab: Oklab,
    /// The root of how often it is there: rare colours are small, not unimportant.
    weight: f32,
}

impl Palette {
    /// Returns a palette of at most `max_colors` (1 to 256) of the visible colors of `sprites`,
    /// which share it; without a number, of as many as are seen to matter, up to 64. Images of no
    /// more colors keep them all. No color is invented. The same colors give the same palette, in
    /// whatever order they come; it is sorted from dark to light.
    ///
    /// Groups are split along the line between their farthest members, the worst group first, and
    /// then refined (Lloyd 1982) in Oklab; each is shown by its member nearest to the mean.
    ///
    /// A picture without visible pixels has the palette of black alone.
    pub fn extract(sprites: &[&RgbaImage], max_colors: Option<usize>) -> Palette {
        let most = max_colors.unwrap_or(ELBOW_MOST).clamp(1, MAX_COLORS);
        let colors = colors(sprites);
        let mut chosen: Vec<[u8; 3]> = if colors.len() <= most {
            colors.iter().map(|color| color.rgb).collect()
        } else {
            groups(&colors, most, max_colors.is_none()).iter().map(|group| medoid(&colors, group)).collect()
        };
        if chosen.is_empty() {
            chosen.push([0; 3]);
        }
        chosen
            .sort_unstable_by(|a, b| Oklab::from_rgb(*a).l.total_cmp(&Oklab::from_rgb(*b).l).then(a.cmp(b)));
        Palette::new(chosen).expect("between one and 256 colours were chosen; this is a bug")
    }
}

/// The visible colours, in a fixed order.
fn colors(sprites: &[&RgbaImage]) -> Vec<Color> {
    let mut counts: HashMap<[u8; 3], u32> = HashMap::new();
    for pixel in sprites.iter().flat_map(|sprite| sprite.pixels()) {
        let [r, g, b, a] = pixel.0;
        if a > 0 {
            *counts.entry([r, g, b]).or_default() += 1;
        }
    }
    let mut colors: Vec<_> = counts
        .into_iter()
        .map(|(rgb, count)| Color { rgb, lab: Oklab::from_rgb(rgb), weight: (count as f32).sqrt() })
        .collect();
    colors.sort_unstable_by_key(|color| color.rgb);
    colors
}

/// Members of a group, as indices, with what splitting needs.
struct Group {
    members: Vec<usize>,
    mean: Oklab,
    /// Weighted sum of squared distances from the mean.
    error: f32,
    /// The largest distance from the mean.
    reach: f32,
}

impl Group {
    fn new(colors: &[Color], members: Vec<usize>) -> Group {
        let (mut sum, mut total) = ([0.0f32; 3], 0.0);
        for color in members.iter().map(|i| &colors[*i]) {
            for (sum, value) in sum.iter_mut().zip([color.lab.l, color.lab.a, color.lab.b]) {
                *sum += color.weight * value;
            }
            total += color.weight;
        }
        let [l, a, b] = sum.map(|sum| sum / total.max(f32::MIN_POSITIVE));
        let mean = Oklab { l, a, b };
        let squares = || members.iter().map(|i| (colors[*i].weight, colors[*i].lab.distance_squared(mean)));
        let error = squares().map(|(weight, square)| weight * square).sum();
        let reach = squares().map(|(_, square)| square).fold(0.0, f32::max).sqrt();
        Group { members, mean, error, reach }
    }

    /// Two groups around the member farthest from the mean, and the one farthest from that.
    fn split(&self, colors: &[Color]) -> [Group; 2] {
        let farthest = |from: Oklab| {
            let distance = |i: &usize| colors[*i].lab.distance_squared(from);
            let far = self.members.iter().max_by(|a, b| distance(a).total_cmp(&distance(b)));
            far.map_or(from, |i| colors[*i].lab)
        };
        let one = farthest(self.mean);
        let other = farthest(one);
        let nearer =
            |i: &usize| colors[*i].lab.distance_squared(one) <= colors[*i].lab.distance_squared(other);
        let (near, far) = self.members.iter().partition(|i| nearer(i));
        [Group::new(colors, near), Group::new(colors, far)]
    }
}

fn groups(colors: &[Color], most: usize, elbow: bool) -> Vec<Group> {
    let total: f32 = colors.iter().map(|color| color.weight).sum();
    let mut groups = vec![Group::new(colors, (0..colors.len()).collect())];
    while groups.len() < most {
        let error: f32 = groups.iter().map(|group| group.error).sum();
        let enough = elbow && (error / total).sqrt() <= ELBOW;
        // Once the elbow is reached, only what would be missed is split off.
        let worth = |group: &Group| if enough && group.reach < MISSED { 0.0 } else { group.error };
        let worst = (0..groups.len()).max_by(|a, b| worth(&groups[*a]).total_cmp(&worth(&groups[*b])));
        let Some(worst) = worst.filter(|i| worth(&groups[*i]) > 0.0) else { break };
        let halves = groups.swap_remove(worst).split(colors);
        groups.extend(halves);
    }
    for _ in 0..ROUNDS {
        let mut members = vec![vec![]; groups.len()];
        for (i, color) in colors.iter().enumerate() {
            let distances = groups.iter().map(|group| group.mean.distance_squared(color.lab)).enumerate();
            let nearest = distances.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(i, _)| i);
            members[nearest].push(i);
        }
        groups = members
            .into_iter()
            .filter(|group| !group.is_empty())
            .map(|group| Group::new(colors, group))
            .collect();
    }
    groups
}

/// The member that is nearest to the mean; of equals the first.
fn medoid(colors: &[Color], group: &Group) -> [u8; 3] {
    let distance = |i: &usize| colors[*i].lab.distance_squared(group.mean);
    let nearest = group.members.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
    colors[*nearest.expect("a group has members; this is a bug")].rgb
}

#[cfg(test)]
mod tests {
    use image::Rgba;
    use proptest::prelude::*;

    use super::*;

    fn noisy(side: u32, colors: &[[u8; 3]], noise: i32) -> RgbaImage {
        let mut state = 1u32;
        let mut next = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as i32
        };
        RgbaImage::from_fn(side, side, |x, y| {
            let color = colors[((x / 4 + y / 4) as usize) % colors.len()];
            let [r, g, b] = color.map(|value| (i32::from(value) + next() % (noise + 1)).clamp(0, 255) as u8);
            Rgba([r, g, b, 255])
        })
    }

    const FOUR: [[u8; 3]; 4] = [[10, 10, 30], [200, 40, 40], [60, 180, 90], [230, 220, 160]];

    #[test]
    fn few_colours_are_kept_as_they_are() {
        let mut colors = Palette::extract(&[&noisy(32, &FOUR, 0)], None).colors().to_vec();
        colors.sort_unstable();
        let mut four = FOUR.to_vec();
        four.sort_unstable();
        assert_eq!(colors, four);
    }

    #[test]
    fn noise_is_brought_down_to_an_elbow() {
        let sprite = noisy(64, &FOUR, 24);
        let found = Palette::extract(&[&sprite], None);
        assert!((4..=24).contains(&found.colors().len()), "{}", found.colors().len());
    }

    #[test]
    fn a_rare_bright_glint_survives() {
        let mut sprite = noisy(64, &FOUR[..3], 24);
        sprite.put_pixel(9, 9, Rgba([255, 255, 255, 255]));
        let palette = Palette::extract(&[&sprite], None);
        assert!(palette.colors().contains(&[255, 255, 255]), "{:?}", palette.colors());
    }

    #[test]
    fn a_shared_palette_has_colours_of_each() {
        let (red, blue) = (noisy(8, &[[250, 0, 0]], 0), noisy(8, &[[0, 0, 250]], 0));
        assert_eq!(Palette::extract(&[&red, &blue], Some(2)).colors(), [[0, 0, 250], [250, 0, 0]]);
    }

    #[test]
    fn what_is_invisible_has_no_colours() {
        let nothing = RgbaImage::from_pixel(4, 4, Rgba([9, 9, 9, 0]));
        assert_eq!(Palette::extract(&[&nothing], None).colors(), [[0, 0, 0]]);
    }

    proptest! {
        #[test]
        fn at_most_so_many_and_all_from_the_picture(seed in any::<u32>(), most in 1usize..40) {
            let sprite = RgbaImage::from_fn(16, 16, |x, y| {
                let hash = (seed ^ (x * 73_856_093) ^ (y * 19_349_663)).wrapping_mul(2_654_435_761);
                Rgba([(hash >> 24) as u8, (hash >> 16) as u8, (hash >> 8) as u8, 255])
            });
            let palette = Palette::extract(&[&sprite], Some(most));
            prop_assert!(palette.colors().len() <= most);
            for [r, g, b] in palette.colors() {
                prop_assert!(sprite.pixels().any(|pixel| pixel.0 == [*r, *g, *b, 255]));
            }
        }
    }
}
