//! The texts of our kernels: the files that each is put together from, its options, and the GPUs
//! that it is for. A GPU machine compiles them when it starts, and a test without a GPU compiles
//! all of them.

use std::ffi::c_int;

use super::nvrtc::Source;
use crate::device::Dtype;

/// Puts what the Hopper texts share before one of them. Messages of the compiler then name the file
/// and its own line.
macro_rules! for_hopper {
    ($file:literal) => {
        concat!(
            "#line 1 \"hopper.cu\"\n",
            include_str!("hopper.cu"),
            "#line 1 \"",
            $file,
            "\"\n",
            include_str!($file)
        )
    };
}

/// A text whose kernels are compiled together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// The passes over activations, for every GPU.
    Kernels,
    /// A linear layer with its GEGLU, for Hopper.
    LinearGeglu,
    /// Convolutions, for Hopper.
    Convolve,
    /// Products of 8-bit floats, for Hopper.
    ProductsE4m3,
}

impl Text {
    /// The CUDA source.
    fn cuda(self) -> &'static str {
        match self {
            Text::Kernels => include_str!("kernels.cu"),
            Text::LinearGeglu => for_hopper!("linear_geglu.cu"),
            Text::Convolve => for_hopper!("convolve.cu"),
            Text::ProductsE4m3 => for_hopper!("products_e4m3.cu"),
        }
    }

    /// Returns the compiler's name of a GPU with this compute capability, or `None` if the text is
    /// not for that GPU.
    pub(super) fn architecture(self, (major, minor): (u32, u32)) -> Option<String> {
        match (self, (major, minor)) {
            (Text::Kernels, (8.., _)) => Some(format!("sm_{major}{minor}")),
            // `wgmma` exists on this one GPU, and only by its name with an `a`.
            (Text::LinearGeglu | Text::Convolve | Text::ProductsE4m3, (9, 0)) => Some("sm_90a".into()),
            _ => None,
        }
    }

    /// Returns everything that NVRTC is given for this text on a GPU, or why the text is not for
    /// that GPU. `options` come from [`options`], and `driver` is the driver's CUDA version.
    pub(super) fn source(
        self,
        compute_capability: (u32, u32),
        options: &'static [&'static str],
        driver: c_int,
    ) -> Result<Source<'static>, String> {
        let (major, minor) = compute_capability;
        let least = if self == Text::Kernels { "8.0" } else { "9.0, and no other" };
        let architecture = self
            .architecture(compute_capability)
            .ok_or_else(|| format!("the GPU has compute capability {major}.{minor}; they need {least}"))?;
        Ok(Source { text: self.cuda(), options, architecture, driver })
    }
}

/// Returns the options that make the kernels compute in `dtype`.
pub(super) fn options(dtype: Dtype) -> Result<&'static [&'static str], String> {
    match dtype {
        Dtype::Bf16 => Ok(&["-DBF16=1"]),
        Dtype::F16 => Ok(&["-DBF16=0"]),
        Dtype::F32 => Err("they are for `bf16` and `f16`".into()),
    }
}
