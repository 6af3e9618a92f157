//! The files that change a loaded model or a prompt, besides the model's own.

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

/// The use of a VAE in place of a model's own.
///
/// # Example
/// ```
/// use dgx_pixels_core::model::VaeUse;
/// let json = r#"{"name": "sdxl-vae", "path": "models/vae/sdxl-vae.safetensors", "hash": "0a"}"#;
/// let vae: VaeUse = serde_json::from_str(json)?;
/// assert_eq!(vae.name, "sdxl-vae");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaeUse {
    /// The name that people call it by.
    pub name: String,
    /// The file, or the folder.
    pub path: PathBuf,
    /// BLAKE3 of the file, or of the config and the weights in the folder, as 64 hexadecimal
    /// digits.
    pub hash: String,
}

/// The use of a control net beside a model.
///
/// # Example
/// ```
/// use dgx_pixels_core::model::ControlUse;
/// let json = r#"{"name": "canny", "path": "models/controlnet/canny", "hash": "0a"}"#;
/// let control: ControlUse = serde_json::from_str(json)?;
/// assert_eq!(control.name, "canny");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlUse {
    /// The name that requests call it by.
    pub name: String,
    /// The file, or the folder.
    pub path: PathBuf,
    /// BLAKE3 of the file, or of the config and the weights in the folder, as 64 hexadecimal
    /// digits.
    pub hash: String,
}

/// The use of a textual inversion: vectors that a prompt names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InversionUse {
    /// The name in the prompt, after `embedding:`.
    pub name: String,
    /// BLAKE3 of the file, as 64 hexadecimal digits.
    pub hash: String,
}
