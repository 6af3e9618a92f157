//! The share of a device's memory that the engine may use.
//!
//! The device's thread turns a [`Budget`] into bytes once, when the first job comes. From then on
//! the worker admits a job only while the weights, the canvases and the most expensive call of one
//! image fit into it. If the program owns its process, libtorch's allocator refuses allocations
//! past it as well.

use std::fmt;
use std::str::FromStr;

use bytesize::ByteSize;

use crate::backend::Memory;
use crate::value_error::ValueError;

/// The part of a device's memory that an engine may use: `60GiB`, `80%` of it, or `-4GiB`, which
/// means all that is free except 4 GiB.
///
/// # Example
/// ```
/// use dgx_pixels_core::engine::Budget;
/// assert_eq!("80%".parse(), Ok(Budget::Share(0.8)));
/// assert_eq!("-4GiB".parse(), Ok(Budget::Leave(4 << 30)));
/// assert_eq!(
///     "much".parse::<Budget>().unwrap_err().to_string(),
///     "`budget` is `much`; expected bytes such as `60GiB`, a share such as `80%`, or `-4GiB` to leave free"
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// This many bytes.
    Bytes(u64),
    /// A share of all memory of the device, above 0 and up to 1.
    Share(f64),
    /// All but this many bytes of the memory that is free, or ours, when the engine starts.
    Leave(u64),
}

impl Default for Budget {
    /// `90%`.
    fn default() -> Self {
        Budget::Share(0.9)
    }
}

impl Budget {
    /// The most bytes that may be in use on a device whose memory is `memory` now.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::backend::Memory;
    /// use dgx_pixels_core::engine::Budget;
    ///
    /// let memory = Memory { total_bytes: 100 << 30, available_bytes: 60 << 30, used_bytes: 0, peak_bytes: 0 };
    /// assert_eq!(Budget::Share(0.5).bytes(memory), 50 << 30);
    /// assert_eq!(Budget::Leave(10 << 30).bytes(memory), 50 << 30);
    /// assert_eq!(Budget::Bytes(8 << 30).bytes(memory), 8 << 30);
    /// ```
    pub fn bytes(self, memory: Memory) -> u64 {
        match self {
            Budget::Bytes(bytes) => bytes,
            Budget::Share(share) => (memory.total_bytes as f64 * share) as u64,
            Budget::Leave(bytes) => (memory.available_bytes + memory.used_bytes).saturating_sub(bytes),
        }
    }
}

impl FromStr for Budget {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Budget, ValueError> {
        let budget = if let Some(percent) = text.strip_suffix('%') {
            let share = percent.trim().parse::<f64>().ok().map(|percent| percent / 100.0);
            share.filter(|share| *share > 0.0 && *share <= 1.0).map(Budget::Share)
        } else if let Some(left) = text.strip_prefix('-') {
            left.parse::<ByteSize>().ok().map(|bytes| Budget::Leave(bytes.as_u64()))
        } else {
            let bytes = text.parse::<ByteSize>().ok().map(|bytes| bytes.as_u64());
            bytes.filter(|bytes| *bytes > 0).map(Budget::Bytes)
        };
        budget.ok_or_else(|| {
            ValueError::new(
                "budget",
                text,
                "bytes such as `60GiB`, a share such as `80%`, or `-4GiB` to leave free",
            )
        })
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Budget::Bytes(bytes) => write!(f, "{}", ByteSize(*bytes)),
            Budget::Share(share) => write!(f, "{}%", share * 100.0),
            Budget::Leave(bytes) => write!(f, "-{}", ByteSize(*bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn each_form_means_what_it_says() {
        let memory =
            Memory { total_bytes: 100 * GIB, available_bytes: 50 * GIB, used_bytes: 10 * GIB, peak_bytes: 0 };
        for (text, gib) in [("60GiB", 60), ("80%", 80), ("-4GiB", 56), ("-99GiB", 0), ("1.5 TiB", 1536)] {
            assert_eq!(text.parse::<Budget>().unwrap().bytes(memory), gib * GIB, "{text}");
        }
    }

    #[test]
    fn what_is_no_budget_is_refused() {
        for text in ["", "0%", "101%", "-", "%", "NaN%", "0", "-4GiBs", "4 apples", "--4GiB", "-80%"] {
            assert!(text.parse::<Budget>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_budget_is_read_back_from_its_text() {
        for text in ["60.0 GiB", "80%", "-4.0 GiB"] {
            assert_eq!(text.parse::<Budget>().unwrap().to_string(), text);
        }
    }
}
