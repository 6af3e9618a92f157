//! The record in a PNG file of how its image was made.

use serde::{Deserialize, Serialize};

use super::{Pixel, Request};
use crate::model::InversionUse;
use crate::picture_file::{Made, MadeError};
use crate::pixel::PixelOptions;
use crate::scheduler::PredictionType;

/// The record of how an image was made. It has the oldest version that can hold it, so that files
/// do not change with the program.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Provenance {
    #[serde(default = "oldest", skip_serializing_if = "is_oldest")]
    format_version: u32,
    request: Request,
    pixel: Option<Pixel>,
    model: String,
    model_hash: Option<String>,
    dtype: String,
    device: String,
    #[serde(default)]
    vae_tiling: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    program: String,
    libtorch: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    licence: Option<String>,
    /// Since version 3.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lora_hashes: Vec<String>,
    /// Since version 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prediction_type: Option<PredictionType>,
    /// Since version 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zero_snr: Option<bool>,
    /// Since version 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vae_hash: Option<String>,
    /// Since version 5: one for each control net of the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    control_hashes: Vec<String>,
    /// Since version 5.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inversions: Vec<InversionUse>,
}

fn oldest() -> u32 {
    1
}

fn is_oldest(version: &u32) -> bool {
    *version == oldest()
}

impl Provenance {
    /// Reads a record.
    ///
    /// # Errors
    /// [`MadeError::Newer`] and [`MadeError::Json`].
    pub(crate) fn parse(json: &str) -> Result<Provenance, MadeError> {
        #[derive(Deserialize)]
        struct Version {
            #[serde(default = "oldest")]
            format_version: u32,
        }
        match serde_json::from_str::<Version>(json) {
            Ok(Version { format_version: version }) if version > Request::NEWEST => {
                Err(MadeError::Newer { version, newest: Request::NEWEST })
            }
            _ => Ok(serde_json::from_str(json)?),
        }
    }
}

impl From<Made> for Provenance {
    fn from(made: Made) -> Provenance {
        let request = Request::of_image(made.request);
        let pixel = made.pixel.map(Pixel::from);
        Provenance {
            format_version: [
                request.version(),
                pixel.as_ref().map_or(1, Pixel::version),
                if made.prediction_type.is_some() || made.zero_snr.is_some() { 3 } else { 1 },
                if made.inversions.is_empty() { 1 } else { 5 },
            ]
            .into_iter()
            .fold(1, u32::max),
            request,
            pixel,
            model: made.model,
            model_hash: made.model_hash,
            dtype: made.dtype,
            device: made.device,
            vae_tiling: made.vae_tiling,
            mode: made.mode,
            program: made.program,
            libtorch: made.libtorch,
            licence: made.licence,
            lora_hashes: made.lora_hashes,
            prediction_type: made.prediction_type,
            zero_snr: made.zero_snr,
            vae_hash: made.vae_hash,
            control_hashes: made.control_hashes,
            inversions: made.inversions,
        }
    }
}

impl TryFrom<Provenance> for Made {
    type Error = MadeError;

    fn try_from(stored: Provenance) -> Result<Made, MadeError> {
        Ok(Made {
            request: stored.request.try_into()?,
            pixel: stored.pixel.map(PixelOptions::from),
            model: stored.model,
            model_hash: stored.model_hash,
            dtype: stored.dtype,
            device: stored.device,
            vae_tiling: stored.vae_tiling,
            mode: stored.mode,
            program: stored.program,
            libtorch: stored.libtorch,
            licence: stored.licence,
            lora_hashes: stored.lora_hashes,
            prediction_type: stored.prediction_type,
            zero_snr: stored.zero_snr,
            vae_hash: stored.vae_hash,
            control_hashes: stored.control_hashes,
            inversions: stored.inversions,
        })
    }
}
