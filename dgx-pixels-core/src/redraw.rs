//! Seeds of sprites that are drawn again because the draw before left no visible pixel.

/// Times that a sprite without a visible pixel is drawn again, each time with another seed.
pub const MOST_REDRAWS: u32 = 4;

/// The seed of the `redraw`th draw after the first one, of a request with this `seed`; `seed`
/// itself for 0.
///
/// It is the upper half of the `redraw`th output of SplitMix64 (Steele, Lea and Flood 2014) whose
/// state begins as `seed`: 32 bits, which every JSON reader keeps.
///
/// # Example
/// ```
/// use dgx_pixels_core::redraw_seed;
/// assert_eq!(redraw_seed(7, 0), 7);
/// assert_eq!(redraw_seed(7, 1), redraw_seed(7, 1));
/// assert_ne!(redraw_seed(7, 1), redraw_seed(7, 2));
/// ```
pub fn redraw_seed(seed: u64, redraw: u32) -> u64 {
    if redraw == 0 {
        return seed;
    }
    splitmix(seed.wrapping_add(GOLDEN.wrapping_mul(u64::from(redraw)))) >> 32
}

/// The number by which SplitMix64's state grows.
pub(crate) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's finalizer: a small hash that is the same everywhere.
pub(crate) fn splitmix(mut state: u64) -> u64 {
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_of_redraws_are_those_of_splitmix64() {
        // The first outputs of the reference implementation from state 1234567.
        let known = [6_457_827_717_110_365_317_u64, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        for (redraw, output) in (1..).zip(known) {
            assert_eq!(redraw_seed(1_234_567, redraw), output >> 32);
        }
    }
}
