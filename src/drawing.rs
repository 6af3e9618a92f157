//! The flags of the commands that draw.

use std::path::PathBuf;

use dgx_pixels_core::device::{Device, Dtype, Mode};
use dgx_pixels_core::fields::{FieldError, SpriteFields};
use dgx_pixels_core::local::{LocalModel, LocalModels};
use dgx_pixels_core::model::Options;
use dgx_pixels_core::scheduler::PredictionType;
use dgx_pixels_core::{Error, Submission, folders};

use crate::failure::Failure;

/// The model, the fields of the request, and the way of computing.
#[derive(Clone, clap::Args)]
pub(crate) struct Drawing {
    /// A name that `dgx-pixels models` lists, a folder in diffusers' layout, or a `.safetensors`
    /// file with all of a model. `sketch` is built in: it paints a figure from the seed, and needs
    /// no model. Default: `sprite-xl`, or the only model there is.
    #[arg(short, long, value_name = "PATH|NAME")]
    pub(crate) model: Option<String>,

    /// The model that supplies what a single file lacks: text encoders, VAE and tokenizers.
    /// Default: none, and a file that lacks one of the first two is refused.
    #[arg(long, value_name = "PATH|NAME")]
    pub(crate) base: Option<String>,

    #[command(flatten)]
    pub(crate) fields: SpriteFields,

    #[command(flatten)]
    pub(crate) torch: TorchArgs,

    /// Write the model's images as they are, without the stages that make sprites of them.
    #[arg(long)]
    pub(crate) raw: bool,
}

impl Drawing {
    /// The models that the flags name. They take LoRAs, VAEs and control nets by path too.
    ///
    /// # Errors
    /// [`Error::ModelChoice`], or the model's own fault.
    pub(crate) fn models(&self) -> Result<LocalModels, Error> {
        let models = match &self.base {
            None => LocalModels::open(self.model.as_deref()),
            Some(base) => LocalModels::open_on(self.model.as_deref(), base),
        };
        Ok(models?.with_files_of_requests())
    }

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

/// The folder of the images that drawings began from, for `reproduce`.
pub(crate) fn inputs() -> Option<PathBuf> {
    folders::state().map(|state| state.join("inputs"))
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

    /// The answer of the model's UNet, if its files do not say it: `epsilon`,
    /// `v_prediction`, `sample` or `flow_prediction`. Default: what the files say, or `epsilon`.
    #[arg(long, value_name = "TYPE")]
    prediction_type: Option<PredictionType>,

    /// The model was trained to begin in pure noise (zero terminal SNR), where its files do not say
    /// it. `=false` if they say it wrongly. Default: what the files say.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    zero_snr: Option<bool>,

    /// Pass over what a LoRA changes and the model does not have, with a warning. Default: an error
    /// that names it.
    #[arg(long)]
    lenient: bool,
}

impl TorchArgs {
    /// The options of an engine that draws with `model`.
    ///
    /// # Errors
    /// [`Failure::Flags`] for flags that `sketch`, which computes nothing, would ignore.
    pub(crate) fn options(self, model: &LocalModel) -> Result<Options, Failure> {
        let TorchArgs { device, dtype, mode, vae_tiling, prediction_type, zero_snr, lenient } = self;
        for (flag, given) in [
            ("--dtype", dtype.is_some()),
            ("--vae-tiling", vae_tiling),
            ("--prediction-type", prediction_type.is_some()),
            ("--zero-snr", zero_snr.is_some()),
        ] {
            if given && model.is_sketch() {
                return Err(Failure::Flags(format!(
                    "`{flag}` is for a model, and `sketch` is none; leave it out"
                )));
            }
        }
        Ok(Options {
            device,
            dtype,
            mode,
            vae_tiling,
            prediction_type,
            zero_snr,
            lenient,
            ..Default::default()
        })
    }
}
