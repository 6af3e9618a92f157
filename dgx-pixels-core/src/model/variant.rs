//! The settings and LoRAs of a loaded model, besides its own files.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The use of a LoRA: a file, and how strongly it changes a model.
///
/// # Example
/// ```
/// use dgx_pixels_core::model::lora::LoraUse;
/// let lora = LoraUse {
///     name: "pixel-style".into(),
///     path: "models/loras/pixel-style.safetensors".into(),
///     hash: blake3_of_the_file(),
///     weight: 0.9,
///     text_weight: 0.0,
/// };
/// // With the weight 0 the text encoders stay as they are.
/// assert_eq!(serde_json::to_value(&lora)?["text_weight"], 0.0);
/// # fn blake3_of_the_file() -> String { "0a".repeat(32) }
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraUse {
    /// The name that people call it by.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// BLAKE3 of the file, as 64 hexadecimal digits.
    pub hash: String,
    /// The strength in the UNet, -10 to 10; 1 as its author made it.
    pub weight: f64,
    /// The strength in the text encoders, -10 to 10.
    pub text_weight: f64,
}
