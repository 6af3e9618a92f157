//! The order of numbered files: `walk_2` before `walk_10`.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Compares paths folder by folder and name by name, with runs of digits as numbers. Only equal
/// paths are equal.
pub(crate) fn by_number(a: &Path, b: &Path) -> Ordering {
    let parts = |path: &Path| path.components().map(|part| part.as_os_str().to_owned()).collect::<Vec<_>>();
    let (a_parts, b_parts) = (parts(a), parts(b));
    let differ = a_parts.iter().zip(&b_parts).map(|(a, b)| names(a, b)).find(|ordering| ordering.is_ne());
    differ.unwrap_or_else(|| a_parts.len().cmp(&b_parts.len())).then_with(|| a.cmp(b))
}

fn names(a: &OsStr, b: &OsStr) -> Ordering {
    let (mut a_rest, mut b_rest) = (a.as_encoded_bytes(), b.as_encoded_bytes());
    loop {
        let (a_digits, b_digits) = (digits(a_rest), digits(b_rest));
        if a_digits > 0 && b_digits > 0 {
            let ((a_number, a_next), (b_number, b_next)) =
                (a_rest.split_at(a_digits), b_rest.split_at(b_digits));
            // Numbers of any length: without leading zeros the longer one is larger.
            let (a_number, b_number) = (significant(a_number), significant(b_number));
            let ordering = a_number.len().cmp(&b_number.len()).then_with(|| a_number.cmp(b_number));
            if ordering.is_ne() {
                return ordering;
            }
            (a_rest, b_rest) = (a_next, b_next);
            continue;
        }
        match (a_rest.split_first(), b_rest.split_first()) {
            (Some((a_first, a_next)), Some((b_first, b_next))) if a_first == b_first => {
                (a_rest, b_rest) = (a_next, b_next);
            }
            (a_first, b_first) => {
                // The ending's dot comes first: `walk.png` before `walk-2.png`.
                let rank = |first: Option<(&u8, &[u8])>| first.map(|(byte, _)| (*byte != b'.', *byte));
                // Names that differ only in leading zeros.
                return rank(a_first).cmp(&rank(b_first)).then_with(|| a.cmp(b));
            }
        }
    }
}

fn digits(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

fn significant(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|digit| **digit == b'0').count();
    &number[zeros..]
}

/// Puts frames into the order of their numbers where a shell has sorted them by their letters:
/// `walk_*.png` gives `walk_1`, `walk_10`, `walk_2`. Any other order is the user's own and stays.
pub(crate) fn undo_shell_order(paths: &mut [PathBuf]) {
    let mut start = 0;
    while start < paths.len() {
        let same = paths[start..].iter().take_while(|path| frame_of(path) == frame_of(&paths[start])).count();
        let run = &mut paths[start..start + same];
        if run.is_sorted() {
            run.sort_by(|a, b| by_number(a, b));
        }
        start += same;
    }
}

/// The parts of a path that the frames of one animation share: all but the number before its
/// ending.
fn frame_of(path: &Path) -> Option<(&Path, String, &OsStr)> {
    let stem = path.file_stem()?.to_string_lossy();
    let name = stem.trim_end_matches(|letter: char| letter.is_ascii_digit());
    Some((path.parent()?, name.to_owned(), path.extension().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sorted(names: &[&str]) -> Vec<String> {
        let mut paths: Vec<_> = names.iter().map(PathBuf::from).collect();
        paths.sort_by(|a, b| by_number(a, b));
        paths.iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        assert_eq!(
            sorted(&["walk_10.png", "walk_2.png", "walk_1.png", "walk.png", "idle_3.png"]),
            ["idle_3.png", "walk.png", "walk_1.png", "walk_2.png", "walk_10.png"]
        );
        assert_eq!(sorted(&["a10/1.png", "a9/2.png", "a9/10.png"]), ["a9/2.png", "a9/10.png", "a10/1.png"]);
        assert_eq!(sorted(&["f010", "f9", "f09"]), ["f09", "f9", "f010"]);
        let large = ["f18446744073709551617", "f18446744073709551616", "f2"];
        assert_eq!(sorted(&large), [large[2], large[1], large[0]]);
        assert_eq!(sorted(&["1b2", "1a10", "1a9"]), ["1a9", "1a10", "1b2"]);
    }

    #[test]
    fn only_the_order_of_a_shell_is_undone() {
        let reordered = |names: &[&str]| {
            let mut paths: Vec<_> = names.iter().map(PathBuf::from).collect();
            undo_shell_order(&mut paths);
            paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(reordered(&["w1.png", "w10.png", "w2.png"]), ["w1.png", "w2.png", "w10.png"]);
        assert_eq!(
            reordered(&["b1.png", "b10.png", "b2.png", "a1.png"]),
            ["b1.png", "b2.png", "b10.png", "a1.png"]
        );
        for own in [["w2.png", "w10.png", "w1.png"], ["w11.png", "w10.png", "w9.png"]] {
            assert_eq!(reordered(&own), own);
        }
    }

    proptest! {
        #[test]
        fn the_order_is_total(names in prop::collection::vec("[a01.9/-]{0,6}", 3)) {
            let [a, b, c]: [PathBuf; 3] = names.iter().map(PathBuf::from).collect::<Vec<_>>().try_into().unwrap();
            prop_assert_eq!(by_number(&a, &b), by_number(&b, &a).reverse());
            prop_assert_eq!(by_number(&a, &b).is_eq(), a == b);
            if by_number(&a, &b).is_le() && by_number(&b, &c).is_le() {
                prop_assert!(by_number(&a, &c).is_le());
            }
        }
    }
}
