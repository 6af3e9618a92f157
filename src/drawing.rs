//! The flags of the commands that draw.

use dgx_pixels_core::Submission;
use dgx_pixels_core::device::{Device, Dtype, Mode};
use dgx_pixels_core::fields::{FieldError, SpriteFields};
use dgx_pixels_core::local::LocalModel;
use dgx_pixels_core::model::Options;

use crate::failure::Failure;

/// The model, the fields of the request, and the way of computing.
#[derive(Clone, clap::Args)]
pub(crate) struct Drawing {
    /// A name that `dgx-pixels models` lists, or a folder in diffusers' layout. `sketch` is built
    /// in: it paints a figure from the seed, and needs no model. Default: `sprite-xl`, or the only
    /// model there is.
    #[arg(short, long, value_name = "PATH|NAME")]
    pub(crate) model: Option<String>,

    #[command(flatten)]
    pub(crate) fields: SpriteFields,

    #[command(flatten)]
    pub(crate) torch: TorchArgs,

    /// Write the model's images as they are, without the stages that make sprites of them.
    #[arg(long)]
    pub(crate) raw: bool,
}

impl Drawing {
    /// Refuses flags that would change nothing.
    ///
    /// # Errors
    /// The field that is given in vain.
    pub(crate) fn check(&self) -> Result<(), FieldError> {
        self.check_asked(|_| true)
    }

    /// Checks the fields that `is_asked` names, like [`check`](Self::check).
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub(crate) fn check_asked(&self, is_asked: impl Fn(&str) -> bool) -> Result<(), FieldError> {
        if self.raw
            && let Some(field) =
                SpriteFields::pixel_names().find(|name| is_asked(name) && self.fields.differs(name))
        {
            return Err(FieldError::new(field, format!("`{field}` does not go with `raw`")));
        }
        self.fields.check(is_asked)
    }

    /// The submission of one image.
    pub(crate) fn submission(&self, seed: u64) -> Submission {
        let submission = self.fields.submission(seed);
        Submission { pixel: submission.pixel.filter(|_| !self.raw), ..submission }
    }
}

/// Options for computing a model with libtorch, which `sketch` does not need.
#[derive(Clone, Copy, clap::Args)]
pub(crate) struct TorchArgs {
    /// `f32`, `f16` or `bf16`. Default: `f32` on the CPU, `bf16` on a GPU.
    #[arg(long, value_name = "D")]
    dtype: Option<Dtype>,

    /// `cpu`, `cuda:N`, or `auto`: the first GPU if there is one.
    #[arg(long, value_name = "D", default_value_t = Device::Auto)]
    device: Device,

    /// `fast`; `exact`, which rounds where diffusers rounds; or `fp8`, which computes in 8 bits on
    /// GPUs that can and is `fast` elsewhere. On a CPU all are the same.
    #[arg(long, value_name = "MODE", default_value_t = Mode::Fast)]
    mode: Mode,

    /// Decode in overlapping tiles: less memory for large images, and slightly other colors.
    #[arg(long)]
    vae_tiling: bool,
}

impl TorchArgs {
    /// The options of an engine that draws with `model`.
    ///
    /// # Errors
    /// [`Failure::Flags`] for flags that `sketch`, which computes nothing, would ignore.
    pub(crate) fn options(self, model: &LocalModel) -> Result<Options, Failure> {
        let TorchArgs { device, dtype, mode, vae_tiling } = self;
        for (flag, given) in [("--dtype", dtype.is_some()), ("--vae-tiling", vae_tiling)] {
            if given && model.is_sketch() {
                return Err(Failure::Flags(format!(
                    "`{flag}` is for a model, and `sketch` is none; leave it out"
                )));
            }
        }
        Ok(Options { device, dtype, mode, vae_tiling, ..Default::default() })
    }
}
