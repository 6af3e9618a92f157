//! The facts of a model folder that an engine needs before the model is loaded.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use safetensors::Dtype as StoredDtype;

use super::lora::{LoraSet, LoraUse};
use super::scales::is_fp8;
use super::{Component, Model, Options};
use crate::abi::LIBTORCH_VERSION;
use crate::backend::{ModelInfo, Variant};
use crate::error::Error;

/// The paths and hashes of the parts that a request names.
type PartsKey = Vec<(PathBuf, String)>;

/// A model folder under a name. What is read of its files is read once.
pub(crate) struct Checkpoint {
    pub(crate) name: String,
    pub(crate) model: Model,
    /// Numbers in the weights of each component.
    parameters: OnceLock<[u64; Component::ALL.len()]>,
    hash: Mutex<Option<String>>,
    /// The model with other VAEs and with control nets, by the paths and hashes of these.
    changed: Mutex<HashMap<PartsKey, Arc<Checkpoint>>>,
}

impl Checkpoint {
    pub(crate) fn new(name: String, model: Model) -> Checkpoint {
        Checkpoint {
            name,
            model,
            parameters: OnceLock::new(),
            hash: Mutex::new(None),
            changed: Mutex::default(),
        }
    }

    /// The facts of the model on the device of `options`, which is not `auto`.
    pub(crate) fn describe(&self, options: &Options) -> Result<ModelInfo, Error> {
        let Checkpoint { name, model, .. } = self;
        let device = options.device;
        let bytes = self
            .parameters(options)?
            .into_iter()
            .zip(Component::ALL)
            .map(|(count, component)| count * options.dtype_of(component, model, device).bytes());
        let mut of_controls = 0;
        for (_, control) in model.controls() {
            of_controls += control.weights()?.parameters();
        }
        let of_controls = of_controls * options.dtype(device).bytes();
        // What was read of the configs: names and versions in them shape nothing.
        let configs = format!("{:?}", (&model.text_encoder, &model.text_encoder_2, &model.unet, &model.vae));
        let mode = options.mode_on(device);
        let nets: Vec<_> = model.controls().iter().map(|(_, control)| &control.config).collect();
        let nets = if nets.is_empty() { String::new() } else { format!("{nets:?}") };
        let configs = format!("{configs}{nets}{mode:?}");
        Ok(ModelInfo {
            name: name.clone(),
            architecture: blake3::hash(configs.as_bytes()).to_hex().to_string(),
            dtype: options.dtype(device).to_string(),
            weight_bytes: bytes.sum::<u64>() + of_controls,
            defaults: model.defaults(),
            vae_tiling: options.vae_tiling,
            mode: mode.map(|mode| mode.to_string()),
            libtorch: Some(LIBTORCH_VERSION.into()),
            licence: model.licence.clone(),
            variant: Variant {
                prediction_type: options.prediction_type,
                zero_snr: options.zero_snr,
                ..Variant::default()
            },
        })
    }

    /// The facts of the model with the VAE and the control nets of `variant`, each opened once. The
    /// hash is still that of the model alone.
    pub(crate) fn describe_changed(&self, variant: &Variant, options: &Options) -> Result<ModelInfo, Error> {
        match variant.vae.is_none() && variant.controls.is_empty() {
            true => self.describe(options),
            false => self.changed(variant)?.describe(options),
        }
    }

    fn changed(&self, variant: &Variant) -> Result<Arc<Checkpoint>, Error> {
        let Variant { vae, controls, .. } = variant;
        let vae_key = vae.iter().map(|vae| (vae.path.clone(), vae.hash.clone()));
        let mut control_keys: Vec<_> =
            controls.iter().map(|one| (one.path.clone(), one.hash.clone())).collect();
        control_keys.sort_unstable();
        control_keys.dedup();
        let key: PartsKey = vae_key.chain(control_keys).collect();
        let mut opened = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = opened.get(&key) {
            return Ok(known.clone());
        }
        let model = changed(self.model.clone(), variant)?;
        let changed = Arc::new(Checkpoint::new(self.name.clone(), model));
        opened.insert(key, changed.clone());
        Ok(changed)
    }

    /// Checks that LoRAs are for this model.
    pub(crate) fn check_loras(&self, loras: &[LoraUse], options: &Options) -> Result<(), Error> {
        LoraSet::open(&self.model, loras, options).map(drop)
    }

    fn parameters(&self, options: &Options) -> Result<[u64; Component::ALL.len()], Error> {
        if let Some(known) = self.parameters.get() {
            return Ok(*known);
        }
        let mut counts = [0; Component::ALL.len()];
        for (count, component) in counts.iter_mut().zip(Component::ALL) {
            let files = self.model.weights(component, options.prefers_fp16(component, &self.model))?;
            let tensors = files.tensors().filter(|(_, weight)| is_float(weight.dtype));
            let sizes = tensors.map(|(_, weight)| weight.shape.iter().product::<usize>());
            *count = sizes.sum::<usize>() as u64;
        }
        Ok(*self.parameters.get_or_init(|| counts))
    }

    /// BLAKE3 of the files that `options` take; it takes seconds the first time.
    pub(crate) fn hash(&self, options: &Options) -> Result<String, Error> {
        // A caller that comes meanwhile waits for this one, and reads nothing.
        let mut hash = self.hash.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*hash {
            return Ok(known.clone());
        }
        let computed = self.model.hash_of(|component| options.prefers_fp16(component, &self.model))?;
        Ok(hash.insert(computed).clone())
    }
}

/// A model with the VAE and the control nets of `variant`.
pub(crate) fn changed(model: Model, variant: &Variant) -> Result<Model, Error> {
    let model = match &variant.vae {
        Some(vae) => model.with_vae(&vae.path)?,
        None => model,
    };
    model.with_controls(&variant.controls)
}

/// `true` for the numbers that weights are made of.
pub(crate) fn is_float(dtype: StoredDtype) -> bool {
    matches!(dtype, StoredDtype::F64 | StoredDtype::F32 | StoredDtype::F16 | StoredDtype::BF16)
        || is_fp8(dtype)
}
