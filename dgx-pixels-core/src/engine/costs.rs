//! The memory that calls of a backend need: measured, fitted to sizes that were not measured yet,
//! and kept on disk.
//!
//! A call's cost is its peak above the memory that was in use before it. It depends on the size of
//! the images and on the number of rows, that is, of images, or of UNet rows for a step.
//!
//! A prediction takes the first of these that is known:
//!
//! 1. the highest peak that was measured for this size and this number of rows;
//! 2. a line of bytes over pixels times rows through the measurements of this size, lifted until
//!    none of them lies above it, and 5 % more;
//! 3. the same line through the measurements of all sizes.
//!
//! A call that ran out of memory raises the predictions of all calls with as much work or more:
//! they need 5 % more than the memory that was free then.
//!
//! In the file, costs are kept by hardware, version of libtorch, architecture and precision, so
//! that models of one architecture share them. A file that is lost or damaged costs one measurement
//! of each model, and nothing else.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::files::write_whole;
use crate::files::{MAX_TEXT_BYTES, read_regular};
use crate::request::{ImageSize, MAX_SIDE};

/// The factor for predictions of calls that were not measured. Calls differ in more than their
/// work, for example in the kernels that a library chooses. On an H100 the line through measured
/// calls lay up to 5 % too low for 768x1344.
const NOT_SEEN: f64 = 1.05;

/// The factor by which more memory must be free before a call that ran out of memory is tried
/// again. Otherwise every canvas that leaves would trigger a retry.
const NOT_ENOUGH: f64 = 1.05;

/// The most rows of a call in a file, far above any batch.
const MAX_ROWS: u32 = 1 << 16;
/// The most bytes of a call in a file, 1 PiB: above any device.
const MAX_PEAK: u64 = 1 << 50;

/// One kind of call: bytes at its peak, above what was in use before it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Peaks {
    /// The most that was seen, by width, height and rows.
    seen: BTreeMap<String, (u64, u64)>,
    /// The free memory that did not suffice, until it does. It is not kept on disk, because the
    /// device may have held other things then.
    #[serde(skip)]
    refused: BTreeMap<String, (u64, u64)>,
}

impl Peaks {
    /// A call with so many rows of this size came to `bytes`.
    pub(crate) fn observe(&mut self, size: ImageSize, rows: usize, bytes: u64) {
        let (_, known) = self.seen.entry(key(size, rows)).or_insert((work(size, rows), 0));
        *known = bytes.max(*known);
        self.refused.remove(&key(size, rows));
    }

    /// A call with so many rows of this size ran out of memory where `bytes` were free.
    pub(crate) fn refuse(&mut self, size: ImageSize, rows: usize, bytes: u64) {
        let more = (bytes as f64 * NOT_ENOUGH) as u64 + 1;
        self.refused.insert(key(size, rows), (work(size, rows), more));
    }

    /// The bytes of a call: as seen; or by a line through what was seen of this size, else of all
    /// sizes, that lies below none of it; and more than what did not suffice. `None` if nothing was
    /// seen.
    pub(crate) fn predict(&self, size: ImageSize, rows: usize) -> Option<u64> {
        let most = work(size, rows);
        let refused = self.refused.values().filter(|(work, _)| *work <= most).map(|(_, bytes)| *bytes).max();
        self.fitted(size, rows).max(refused)
    }

    fn fitted(&self, size: ImageSize, rows: usize) -> Option<u64> {
        if let Some((_, bytes)) = self.seen.get(&key(size, rows)) {
            return Some(*bytes);
        }
        let of_size = format!("{}x{}x", size.width, size.height);
        let points = |wanted: &dyn Fn(&str) -> bool| -> Vec<_> {
            let seen = self.seen.iter().filter(|(key, _)| wanted(key));
            seen.map(|(_, (work, bytes))| (*work as f64, *bytes as f64)).collect()
        };
        let mut near = points(&|key| key.starts_with(&of_size));
        if near.is_empty() {
            near = points(&|_| true);
        }
        let (fixed, each) = line(&near)?;
        // Lines through what was seen may lie low where nothing was.
        let above = near.iter().map(|(work, bytes)| bytes - (fixed + each * work)).fold(0.0, f64::max);
        Some(((fixed + each * work(size, rows) as f64 + above) * NOT_SEEN) as u64)
    }

    /// Drops what no call of a backend can have cost.
    fn keep_possible(&mut self) {
        self.seen.retain(|key, (its_work, bytes)| {
            let mut numbers = key.split('x').map(|number| number.parse::<u32>().ok());
            let (Some(Some(width)), Some(Some(height)), Some(Some(rows)), None) =
                (numbers.next(), numbers.next(), numbers.next(), numbers.next())
            else {
                return false;
            };
            let possible =
                (1..=MAX_SIDE).contains(&width) && (1..=MAX_SIDE).contains(&height) && rows <= MAX_ROWS;
            possible && *its_work == work(ImageSize { width, height }, rows as usize) && *bytes <= MAX_PEAK
        });
    }

    pub(crate) fn is_known(&self, size: ImageSize, rows: usize) -> bool {
        self.seen.contains_key(&key(size, rows))
    }
}

fn key(size: ImageSize, rows: usize) -> String {
    format!("{}x{}x{rows}", size.width, size.height)
}

fn work(size: ImageSize, rows: usize) -> u64 {
    u64::from(size.width) * u64::from(size.height) * rows as u64
}

/// Least squares, with neither part below zero.
fn line(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let count = points.len() as f64;
    let mean = |part: fn(&(f64, f64)) -> f64| points.iter().map(part).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let joint: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    if points.is_empty() {
        return None;
    }
    let each = if spread > 0.0 { joint / spread } else { y / x };
    let through_zero = y / x;
    Some(match (each, y - each * x) {
        (each, fixed) if each >= 0.0 && fixed >= 0.0 => (fixed, each),
        (each, _) if each > 0.0 => (0.0, through_zero),
        _ => (y, 0.0),
    })
}

/// All that is known of one model on one device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Costs {
    /// The memory that a canvas keeps for as long as it lives; its rows are counted apart.
    pub(crate) canvas: Peaks,
    /// Beginning; rows are the canvases'.
    pub(crate) begin: Peaks,
    /// A forward pass; rows are its rows.
    pub(crate) step: Peaks,
    /// Decoding; a row for each picture.
    pub(crate) finish: Peaks,
}

/// The costs of all models and devices, as kept in a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CostFile {
    /// The costs by hardware, libtorch, architecture and precision.
    costs: BTreeMap<String, Costs>,
}

impl CostFile {
    /// Reads the file at `path`. The result is empty if the file is missing or unreadable; costs
    /// are then measured again.
    pub(crate) fn read(path: &Path) -> CostFile {
        match read_regular(path, MAX_TEXT_BYTES) {
            Ok(text) => CostFile::parse(&text).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "the file of measured costs cannot be read; measuring again");
                CostFile::default()
            }),
            Err(_) => CostFile::default(),
        }
    }

    /// Reads the text of such a file, without entries that no call can have cost. Those are
    /// measured again.
    ///
    /// # Errors
    /// Where the text is no such file.
    pub(crate) fn parse(text: &[u8]) -> Result<CostFile, serde_json::Error> {
        let mut file: CostFile = serde_json::from_slice(text)?;
        for Costs { canvas, begin, step, finish } in file.costs.values_mut() {
            [canvas, begin, step, finish].into_iter().for_each(Peaks::keep_possible);
        }
        Ok(file)
    }

    /// All that are known.
    pub(super) fn all(&self) -> impl Iterator<Item = &Costs> {
        self.costs.values()
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Costs> {
        self.costs.get(key)
    }

    /// Keeps `costs`, beside what others wrote to the file meanwhile.
    ///
    /// # Errors
    /// [`Error::Output`].
    pub(crate) fn keep(path: &Path, key: &str, costs: &Costs) -> Result<(), Error> {
        let mut file = CostFile::read(path);
        file.costs.insert(key.to_owned(), costs.clone());
        let text = serde_json::to_string_pretty(&file).expect("plain data turns into JSON; this is a bug");
        write_whole(path, text.as_bytes(), true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn square(side: u32) -> ImageSize {
        ImageSize { width: side, height: side }
    }

    #[test]
    fn nothing_is_guessed_from_nothing() {
        assert_eq!(Peaks::default().predict(square(512), 2), None);
    }

    #[test]
    fn what_was_seen_is_what_is_predicted_and_the_most_of_it() {
        let mut peaks = Peaks::default();
        for bytes in [10, 30, 20] {
            peaks.observe(square(512), 2, bytes);
        }
        assert_eq!(peaks.predict(square(512), 2), Some(30));
    }

    #[test]
    fn what_did_not_suffice_is_predicted_as_more_until_it_does() {
        let mut peaks = Peaks::default();
        peaks.observe(square(512), 2, 10);
        peaks.refuse(square(512), 4, 100);
        assert_eq!(peaks.predict(square(512), 2), Some(10));
        assert_eq!(peaks.predict(square(512), 4), Some(106));
        assert_eq!(peaks.predict(square(512), 8), Some(106));
        peaks.observe(square(512), 4, 30);
        assert_eq!(peaks.predict(square(512), 4), Some(30));
    }

    #[test]
    fn other_sizes_lie_on_a_line() {
        let mut peaks = Peaks::default();
        let bytes = |side: u64, rows: u64| 1000 + 7 * side * side * rows;
        for (side, rows) in [(256, 2), (512, 2)] {
            peaks.observe(square(side as u32), rows as usize, bytes(side, rows));
        }
        let predicted = peaks.predict(square(1024), 16).unwrap() as f64;
        let expected = bytes(1024, 16) as f64 * NOT_SEEN;
        assert!((predicted - expected).abs() <= 4.0, "{predicted}");
        let one = Peaks { seen: peaks.seen.into_iter().take(1).collect(), ..Default::default() };
        assert!(one.predict(square(1024), 2).unwrap() >= 7 * 1024 * 1024 * 2);
    }

    #[test]
    fn costs_are_kept_beside_those_of_others_and_a_broken_file_is_measured_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("costs.json");
        let mut costs = Costs::default();
        costs.step.observe(square(64), 1, 5);
        CostFile::keep(&path, "a", &costs).unwrap();
        CostFile::keep(&path, "b", &Costs::default()).unwrap();
        assert_eq!(CostFile::read(&path).get("a"), Some(&costs));
        assert_eq!(CostFile::read(&path).get("b"), Some(&Costs::default()));
        std::fs::write(&path, "{").unwrap();
        assert_eq!(CostFile::read(&path), CostFile::default());
    }

    #[test]
    fn costs_that_no_call_can_have_are_measured_again() {
        let entry = |key: &str, work: u64, bytes: u64| {
            let text = serde_json::json!({ "costs": { "a": {
                "canvas": {}, "begin": {}, "finish": {}, "step": { key: [work, bytes] },
            } } });
            let file = CostFile::parse(text.to_string().as_bytes()).unwrap();
            file.get("a").unwrap().step.predict(square(128), 1)
        };
        assert!(entry("64x64x2", 8192, 1000).is_some());
        for (key, work, bytes) in [
            ("64x64x2", 8192, u64::MAX),
            ("64x64x2", 1, 1000),
            ("64x64", 4096, 1000),
            ("64x64x2x1", 8192, 1000),
            ("-64x64x2", 8192, 1000),
            ("99999x64x2", 99_999 * 128, 1000),
            ("", 0, 0),
        ] {
            assert_eq!(entry(key, work, bytes), None, "{key} {work} {bytes}");
        }
    }

    proptest! {
        #[test]
        fn a_prediction_lies_below_nothing_that_was_seen_of_less_work(
            seen in proptest::collection::vec((64u32..2048, 1usize..16, 0u64..1 << 40), 1..8),
            side in 64u32..2048, rows in 1usize..32,
        ) {
            let mut peaks = Peaks::default();
            for (side, rows, bytes) in &seen {
                peaks.observe(square(*side), *rows, *bytes);
            }
            prop_assume!(!peaks.is_known(square(side), rows));
            let predicted = peaks.predict(square(side), rows).unwrap();
            let same_size = seen.iter().any(|(known, ..)| *known == side);
            for (known_side, known_rows, bytes) in seen {
                let counts = known_side == side || !same_size;
                if counts && work(square(known_side), known_rows) <= work(square(side), rows) {
                    prop_assert!(predicted + 1 >= bytes, "{predicted} < {bytes}");
                }
            }
        }
    }
}
