//! The facts of a model folder that an engine needs before the model is loaded.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use safetensors::Dtype as StoredDtype;

use super::lora::{LoraSet, LoraUse};
use super::scales::is_fp8;
use super::{Component, Model, Options, VaeUse};
use crate::abi::LIBTORCH_VERSION;
use crate::backend::{ModelInfo, Variant};
use crate::error::Error;

/// A model folder under a name. What is read of its files is read once.
pub(crate) struct Checkpoint {
    pub(crate) name: String,
    pub(crate) model: Model,
    /// Numbers in the weights of each component.
    parameters: OnceLock<[u64; Component::ALL.len()]>,
    hash: Mutex<Option<String>>,
    /// The model with other VAEs, by their paths and hashes.
    with_vaes: Mutex<HashMap<(PathBuf, String), Arc<Checkpoint>>>,
}

impl Checkpoint {
    pub(crate) fn new(name: String, model: Model) -> Checkpoint {
        Checkpoint {
            name,
            model,
            parameters: OnceLock::new(),
            hash: Mutex::new(None),
            with_vaes: Mutex::default(),
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
        // What was read of the configs: names and versions in them shape nothing.
        let configs = format!("{:?}", (&model.text_encoder, &model.text_encoder_2, &model.unet, &model.vae));
        let mode = options.mode_on(device);
        let configs = format!("{configs}{mode:?}");
        Ok(ModelInfo {
            name: name.clone(),
            architecture: blake3::hash(configs.as_bytes()).to_hex().to_string(),
            dtype: options.dtype(device).to_string(),
            weight_bytes: bytes.sum(),
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

    /// The model with another VAE, opened once. The hash is still that of the model alone.
    pub(crate) fn with_vae(&self, vae: &VaeUse) -> Result<Arc<Checkpoint>, Error> {
        let key = (vae.path.clone(), vae.hash.clone());
        let mut opened = self.with_vaes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = opened.get(&key) {
            return Ok(known.clone());
        }
        let model = self.model.clone().with_vae(&vae.path)?;
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

/// `true` for the numbers that weights are made of.
pub(crate) fn is_float(dtype: StoredDtype) -> bool {
    matches!(dtype, StoredDtype::F64 | StoredDtype::F32 | StoredDtype::F16 | StoredDtype::BF16)
        || is_fp8(dtype)
}
