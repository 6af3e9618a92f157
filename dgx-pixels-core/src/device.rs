//! The words for where and how a model is computed. They stand in flags and records of builds
//! without libtorch too.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::value_error::ValueError;

/// The device on which tensors live.
///
/// # Example
/// ```
/// use dgx_pixels_core::device::Device;
/// assert_eq!("cuda:1".parse(), Ok(Device::Cuda(1)));
/// assert_eq!("cuda".parse::<Device>().unwrap().to_string(), "cuda:0");
/// assert_eq!(
///     "tpu".parse::<Device>().unwrap_err().to_string(),
///     "`device` is `tpu`; expected `auto`, `cpu`, `cuda` or `cuda:N`"
/// );
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Device {
    /// The first GPU if there is one, the CPU otherwise.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU by its index.
    Cuda(usize),
}

impl FromStr for Device {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Device, ValueError> {
        match text {
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
            "cuda" => Ok(Device::Cuda(0)),
            _ => match text.strip_prefix("cuda:").and_then(|index| index.parse::<i8>().ok()) {
                Some(index @ 0..) => Ok(Device::Cuda(index as usize)),
                _ => Err(ValueError::new("device", text, "`auto`, `cpu`, `cuda` or `cuda:N`")),
            },
        }
    }
}

impl From<Device> for String {
    fn from(device: Device) -> String {
        device.to_string()
    }
}

impl TryFrom<String> for Device {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Device, ValueError> {
        text.parse()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// The precision of weights and activations.
///
/// # Example
/// ```
/// use dgx_pixels_core::device::Dtype;
/// assert_eq!("bf16".parse(), Ok(Dtype::Bf16));
/// assert_eq!(Dtype::F32.to_string(), "f32");
/// assert!("int8".parse::<Dtype>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    /// 32-bit float.
    F32,
    /// 16-bit float with 5 bits of exponent; SDXL's own VAE overflows in it and then runs in `f32`.
    F16,
    /// 16-bit float with 8 bits of exponent.
    Bf16,
}

impl Dtype {
    /// The word, as `bf16`.
    pub fn as_str(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::Bf16 => "bf16",
        }
    }
}

impl Dtype {
    /// Bytes of one number.
    #[cfg(any(feature = "engine", feature = "torch"))]
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
        }
    }
}

impl FromStr for Dtype {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Dtype, ValueError> {
        [Dtype::F32, Dtype::F16, Dtype::Bf16]
            .into_iter()
            .find(|dtype| dtype.as_str() == text)
            .ok_or_else(|| ValueError::new("dtype", text, "`f32`, `f16` or `bf16`"))
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The freedom to differ from diffusers for speed. It makes no difference on a CPU.
///
/// # Example
/// ```
/// use dgx_pixels_core::device::Mode;
/// assert_eq!("exact".parse(), Ok(Mode::Exact));
/// let error = "quick".parse::<Mode>().unwrap_err();
/// assert_eq!(error.to_string(), "`mode` is `quick`; expected `exact`, `fast` or `fp8`");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The operations of diffusers, rounded where it rounds: results differ in the order of sums.
    Exact,
    /// Sums are rounded less often, the fastest of several algorithms is taken for each product,
    /// and convolutions behind a doubling are of summed weights.
    #[default]
    Fast,
    /// The speed of `fast`, with 8-bit floats in the products of the transformers, and on Hopper in
    /// the convolutions of the residual blocks. It is `fast` on a GPU without 8-bit floats.
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
