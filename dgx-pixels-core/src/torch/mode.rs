//! How a model is computed on a GPU.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::value_error::ValueError;

/// How much may be done differently from diffusers for speed. It makes no difference on a CPU.
///
/// # Example
/// ```
/// use dgx_pixels_core::torch::Mode;
/// assert_eq!("exact".parse(), Ok(Mode::Exact));
/// let error = "quick".parse::<Mode>().unwrap_err();
/// assert_eq!(error.to_string(), "`mode` is `quick`; expected `exact`, `fast` or `fp8`");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The operations of diffusers, rounded where it rounds: results differ in the order of sums.
    Exact,
    /// Sums are rounded less often, the fastest of several algorithms is taken for each product, and convolutions behind a doubling are of summed weights.
    #[default]
    Fast,
    /// As `fast`, and the transformers' products, and on Hopper the residual blocks' convolutions, are of 8-bit floats. Where a GPU has none, it is
    /// `fast`.
    Fp8,
}

impl Mode {
    /// All, the most exact first.
    pub const ALL: [Mode; 3] = [Mode::Exact, Mode::Fast, Mode::Fp8];

    /// The word, as `fast`.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Exact => "exact",
            Mode::Fast => "fast",
            Mode::Fp8 => "fp8",
        }
    }
}

impl FromStr for Mode {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Mode, ValueError> {
        let found = Mode::ALL.into_iter().find(|mode| mode.as_str() == text);
        found.ok_or_else(|| ValueError::new("mode", text, "`exact`, `fast` or `fp8`"))
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
