//! The host of backends: models that can be opened, and devices that report their memory.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::{Backend, Sketch};
use crate::error::Error;
use crate::model::{ControlUse, InversionUse, LoraUse, VaeUse};
use crate::request::{GenerateRequest, ModelDefaults};
use crate::scheduler::PredictionType;
use crate::value_error::ValueError;

/// The models that an engine serves. Asked from many threads.
///
/// # Example
/// ```
/// use dgx_pixels_core::backend::{Backend, Models, Sketches};
///
/// let info = Sketches.describe(None, "cpu")?;
/// assert_eq!((info.name.as_str(), info.weight_bytes), ("sketch", 0));
/// let sketch = Sketches.load("sketch", "cpu", &mut |_bytes| {})?;
/// assert_eq!(sketch.defaults(), info.defaults);
/// assert_eq!(Sketches.hash("sketch")?, None);
/// # Ok::<(), dgx_pixels_core::Error>(())
/// ```
pub trait Models: Send + Sync + 'static {
    /// The type of a loaded model.
    type Backend: Backend + 'static;

    /// The facts of a model, or of the one that is taken where none is named, as it would run on
    /// `device`: from its configs alone, quickly.
    ///
    /// # Errors
    /// [`Error::Model`]: there is none of this name, or its files are not what they should be.
    fn describe(&self, model: Option<&str>, device: &str) -> Result<ModelInfo, Error>;

    /// Loads a model onto `device`, one of the names in [`DeviceMemory::name`], telling the bytes
    /// of weights that are read so far.
    ///
    /// # Errors
    /// [`Error::Model`]; [`Error::Device`]; [`Error::OutOfMemory`].
    fn load(&self, model: &str, device: &str, on_bytes: &mut dyn FnMut(u64)) -> Result<Self::Backend, Error>;

    /// The facts of a model as a request changes it, with LoRAs, another VAE or control nets, as
    /// [`describe`](Self::describe) has them. The files are found and checked.
    ///
    /// # Errors
    /// Those of [`describe`](Self::describe); [`Error::Value`] from models that take none, which is
    /// the default; [`Error::ModelChoice`] for a name that no file has, and [`Error::Model`] for a
    /// file that is for another model.
    fn describe_for(
        &self,
        model: Option<&str>,
        request: &GenerateRequest,
        device: &str,
    ) -> Result<ModelInfo, Error> {
        let info = self.describe(model, device)?;
        refuse_changes(request, &format!("the model `{}` takes no other files", info.name))?;
        Ok(info)
    }

    /// Loads a model as it was described, with what changes it.
    ///
    /// # Errors
    /// Those of [`load`](Self::load).
    fn load_with(
        &self,
        info: &ModelInfo,
        device: &str,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<Self::Backend, Error> {
        self.load(&info.name, device, on_bytes)
    }

    /// BLAKE3 of the model's files, which takes seconds the first time; `None` for a model without
    /// files.
    ///
    /// # Errors
    /// [`Error::Model`] for a file that cannot be read.
    fn hash(&self, model: &str) -> Result<Option<String>, Error>;
}

/// Refuses a LoRA, a VAE or a control net for a model that takes none, because of `reason`.
///
/// # Errors
/// [`Error::Value`] naming the field.
///
/// # Example
/// ```
/// use dgx_pixels_core::GenerateRequest;
/// use dgx_pixels_core::backend::refuse_changes;
/// let request = GenerateRequest { vae: Some("sdxl-vae".into()), ..Default::default() };
/// let error = refuse_changes(&request, "`sketch` computes nothing").unwrap_err();
/// assert_eq!(error.to_string(), "`vae` is `sdxl-vae`; expected none, as `sketch` computes nothing");
/// ```
pub fn refuse_changes(request: &GenerateRequest, reason: &str) -> Result<(), Error> {
    let expected = || format!("none, as {reason}");
    match (request.lora.first(), &request.vae, request.control.first()) {
        (Some(lora), ..) => Err(ValueError::new("lora", lora, expected()).into()),
        (None, Some(vae), _) => Err(ValueError::new("vae", vae, expected()).into()),
        (None, None, Some(control)) => Err(ValueError::new("control", &control.model, expected()).into()),
        (None, None, None) => Ok(()),
    }
}

/// The facts of a model that are known before it is loaded.
///
/// The engine plans with it: `weight_bytes` decides whether the model fits, and `architecture`,
/// `dtype`, `mode` and `vae_tiling` choose the memory measurements that apply.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelInfo {
    /// The name it is asked for by.
    pub name: String,
    /// The architecture, which shapes the use of memory: two models of one architecture cost the
    /// same.
    pub architecture: String,
    /// The precision it runs in, as `bf16`.
    pub dtype: String,
    /// Bytes of its weights in that precision.
    pub weight_bytes: u64,
    /// The model's values for what a request leaves open.
    pub defaults: ModelDefaults,
    /// `true` if the model decodes in tiles.
    pub vae_tiling: bool,
    /// The mode, for example `fast`, which says how much the model does differently from diffusers
    /// for speed; `None` where that makes no difference.
    pub mode: Option<String>,
    /// The version of libtorch; `None` where it is not used.
    pub libtorch: Option<String>,
    /// The license of the model, if it is known, for example `openrail++`.
    pub licence: Option<String>,
    /// The settings that win over the model's files, and the files that change it.
    pub variant: Variant,
}

/// The settings and the files of others that a loaded model has besides its own files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Variant {
    /// The meaning of the UNet's answer.
    pub prediction_type: Option<PredictionType>,
    /// `true` if the model begins in pure noise.
    pub zero_snr: Option<bool>,
    /// The LoRAs, in the order of the request.
    pub loras: Vec<LoraUse>,
    /// The VAE in place of the model's own.
    pub vae: Option<VaeUse>,
    /// The control nets beside the model, one for each control of the request.
    pub controls: Vec<ControlUse>,
    /// The textual inversions that the prompts name. They change no weights.
    pub inversions: Vec<InversionUse>,
}

impl ModelInfo {
    /// The name under which an engine keeps the loaded model: its own name, and with LoRAs, another
    /// VAE or control nets their names, hashes and weights. Two jobs with one key can share a
    /// forward pass.
    pub fn key(&self) -> Cow<'_, str> {
        let Variant { loras, vae, controls, .. } = &self.variant;
        if loras.is_empty() && vae.is_none() && controls.is_empty() {
            return Cow::Borrowed(&self.name);
        }
        let short = |hash: &str| hash.get(..16).unwrap_or(hash).to_owned();
        let loras = loras.iter().map(|lora| {
            let LoraUse { name, hash, weight, text_weight, .. } = lora;
            format!(" + {name}@{}:{weight}:{text_weight}", short(hash))
        });
        let vae = vae.iter().map(|vae| format!(" + vae {}@{}", vae.name, short(&vae.hash)));
        // Jobs that name the same nets in another order share the model.
        let controls: BTreeSet<_> =
            controls.iter().map(|one| format!(" + control {}@{}", one.name, short(&one.hash))).collect();
        Cow::Owned([self.name.clone()].into_iter().chain(loras).chain(vae).chain(controls).collect())
    }
}

/// One device and its memory. Owned by the device's thread.
///
/// The methods with an empty default body concern devices whose memory is counted: a GPU with
/// libtorch's allocator.
pub trait DeviceMemory: Send + 'static {
    /// The name, for example `cuda:0`.
    fn name(&self) -> &str;

    /// Begins to use the device, once, when the first job comes. Its memory is unknown before.
    ///
    /// # Errors
    /// [`Error::Libtorch`] or [`Error::Device`] if it cannot be used. A model that is loaded
    /// afterwards fails with the same.
    fn open(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// The name of the hardware, for example `NVIDIA H100 80GB HBM3`: measured costs are kept under
    /// this name.
    fn hardware(&self) -> String;

    /// Bytes there are, and bytes that nobody uses or that can be reclaimed at once. `None` if its
    /// memory is not counted.
    fn memory(&self) -> Option<Memory>;

    /// Begins a new [`Memory::peak_bytes`].
    fn reset_peak(&mut self) {}

    /// Gives memory that is kept for later back.
    fn empty_cache(&mut self) {}

    /// Has allocations past `bytes` refused, so that a wrong guess fails here and not in a
    /// neighbour.
    fn limit(&mut self, _bytes: u64) {}
}

impl DeviceMemory for Box<dyn DeviceMemory> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn open(&mut self) -> Result<(), Error> {
        (**self).open()
    }

    fn hardware(&self) -> String {
        (**self).hardware()
    }

    fn memory(&self) -> Option<Memory> {
        (**self).memory()
    }

    fn reset_peak(&mut self) {
        (**self).reset_peak();
    }

    fn empty_cache(&mut self) {
        (**self).empty_cache();
    }

    fn limit(&mut self, bytes: u64) {
        (**self).limit(bytes);
    }
}

/// A device's memory at one moment.
///
/// `total_bytes - available_bytes` is what all programs use together; `used_bytes` is this
/// process's part in tensors, without what the allocator keeps for later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All that the device has.
    pub total_bytes: u64,
    /// The bytes that no program uses, or that can be reclaimed at once.
    pub available_bytes: u64,
    /// The bytes in tensors of this process.
    pub used_bytes: u64,
    /// The most bytes that were in tensors since [`DeviceMemory::reset_peak`].
    pub peak_bytes: u64,
}

/// A device whose memory is not counted: the sketch's.
///
/// # Example
/// ```
/// use dgx_pixels_core::backend::{DeviceMemory, Unmetered};
/// let device = Unmetered("cpu".into());
/// assert_eq!((device.name(), device.memory()), ("cpu", None));
/// ```
#[derive(Clone, Debug)]
pub struct Unmetered(pub String);

impl DeviceMemory for Unmetered {
    fn name(&self) -> &str {
        &self.0
    }

    fn hardware(&self) -> String {
        self.0.clone()
    }

    fn memory(&self) -> Option<Memory> {
        None
    }
}

/// The built-in [`Sketch`](Sketch) as the only model, under the name `sketch`.
/// It describes and loads the same sketch for every device.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sketches;

impl Models for Sketches {
    type Backend = Sketch;

    fn describe(&self, model: Option<&str>, _: &str) -> Result<ModelInfo, Error> {
        match model {
            None | Some("sketch") => Ok(ModelInfo {
                name: "sketch".into(),
                architecture: "sketch".into(),
                dtype: "none".into(),
                weight_bytes: 0,
                defaults: Sketch.defaults(),
                vae_tiling: false,
                mode: None,
                libtorch: None,
                licence: None,
                variant: Variant::default(),
            }),
            Some(name) => Err(Error::model(name, "the only model is `sketch`")),
        }
    }

    fn load(&self, _: &str, _: &str, _: &mut dyn FnMut(u64)) -> Result<Sketch, Error> {
        Ok(Sketch)
    }

    fn hash(&self, _: &str) -> Result<Option<String>, Error> {
        Ok(None)
    }
}
