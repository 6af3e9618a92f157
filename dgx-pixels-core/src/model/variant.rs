//! The settings and LoRAs of a loaded model, besides its own files.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The use of a LoRA: a file, and how strongly it changes a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraUse {
    /// The name that people call it by.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// BLAKE3 of the file.
    pub hash: String,
    /// The strength in the UNet.
    pub weight: f64,
    /// The strength in the text encoders.
    pub text_weight: f64,
}
