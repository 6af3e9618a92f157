//! The components' `config.json`, with diffusers' and transformers' names and defaults.
//!
//! An option that changes the arithmetic and that we do not compute is an error that names it: a
//! model is never drawn wrongly in silence. Options for training (`dropout`) are passed over.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::Reason;
use crate::request::{DEFAULT_GUIDANCE, DEFAULT_STEPS, MAX_GUIDANCE, MAX_SIDE, MAX_STEPS, MIN_SIDE};

/// `unet/config.json`. Source: diffusers 0.42.1, `models/unets/unet_2d_condition.py`,
/// `UNet2DConditionModel`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct UNetConfig {
    /// Native side of the latent picture, or its height and width.
    pub sample_size: Option<OneOrMany<u32>>,
    /// Channels of the latents.
    pub in_channels: i64,
    /// Channels of the answer.
    pub out_channels: i64,
    /// `true` if the timestep embedding has cosines first.
    pub flip_sin_to_cos: bool,
    /// Shift of the timestep embedding's frequencies.
    pub freq_shift: f64,
    /// One class name for each level, outermost first.
    pub down_block_types: Vec<String>,
    /// `UNetMidBlock2DCrossAttn`, `UNetMidBlock2D` or none.
    pub mid_block_type: Option<String>,
    /// One class name for each level, innermost first.
    pub up_block_types: Vec<String>,
    /// Channels of each level, outermost first.
    pub block_out_channels: Vec<i64>,
    /// ResNet blocks of each level.
    pub layers_per_block: OneOrMany<usize>,
    /// Padding of the strided convolution between levels.
    pub downsample_padding: i64,
    /// Divides the mid block's residual sums.
    pub mid_block_scale_factor: f64,
    /// The activation of ResNet blocks and time embedding.
    pub act_fn: Activation,
    /// Groups of every GroupNorm.
    pub norm_num_groups: i64,
    /// Added to the variance in ResNet blocks.
    pub norm_eps: f64,
    /// Width of the text embeddings.
    pub cross_attention_dim: OneOrMany<i64>,
    /// Transformer blocks in each attention; one number, one a level, or one an attention.
    pub transformer_layers_per_block: OneOrMany<OneOrMany<usize>>,
    /// The same for the way up, where it is not the reverse of the way down.
    pub reverse_transformer_layers_per_block: Option<Vec<OneOrMany<usize>>>,
    /// **Heads** of each level, whatever its name says (diffusers issue 2011).
    pub attention_head_dim: OneOrMany<i64>,
    /// `true` if `proj_in` and `proj_out` are linear layers instead of 1x1 convolutions.
    pub use_linear_projection: bool,
    /// Width of each embedded size number.
    pub addition_time_embed_dim: i64,
    /// The way in which time enters a ResNet block.
    pub resnet_time_scale_shift: TimeScaleShift,
    /// Width of the guidance embedding of a distilled model.
    pub time_cond_proj_dim: Option<i64>,
    /// Kernel side of the first convolution.
    pub conv_in_kernel: i64,
    /// Kernel side of the last convolution.
    pub conv_out_kernel: i64,
    /// Width of pooled text and embedded sizes together.
    pub projection_class_embeddings_input_dim: i64,
}

impl Default for UNetConfig {
    /// diffusers' defaults for what a file leaves out.
    fn default() -> Self {
        let names = |names: [&str; 4]| names.map(str::to_owned).to_vec();
        UNetConfig {
            sample_size: None,
            in_channels: 4,
            out_channels: 4,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
            down_block_types: names([
                "CrossAttnDownBlock2D",
                "CrossAttnDownBlock2D",
                "CrossAttnDownBlock2D",
                "DownBlock2D",
            ]),
            mid_block_type: Some("UNetMidBlock2DCrossAttn".into()),
            up_block_types: names([
                "UpBlock2D",
                "CrossAttnUpBlock2D",
                "CrossAttnUpBlock2D",
                "CrossAttnUpBlock2D",
            ]),
            block_out_channels: vec![320, 640, 1280, 1280],
            layers_per_block: OneOrMany::One(2),
            downsample_padding: 1,
            mid_block_scale_factor: 1.0,
            act_fn: Activation::Silu,
            norm_num_groups: 32,
            norm_eps: 1e-5,
            cross_attention_dim: OneOrMany::One(1280),
            transformer_layers_per_block: OneOrMany::One(OneOrMany::One(1)),
            reverse_transformer_layers_per_block: None,
            attention_head_dim: OneOrMany::One(8),
            use_linear_projection: false,
            addition_time_embed_dim: 0,
            resnet_time_scale_shift: TimeScaleShift::Default,
            time_cond_proj_dim: None,
            conv_in_kernel: 3,
            conv_out_kernel: 3,
            projection_class_embeddings_input_dim: 0,
        }
    }
}

impl UNetConfig {
    /// Reads `unet/config.json`.
    ///
    /// # Errors
    /// Names the option, its value and what would be right.
    pub fn parse(text: &str) -> Result<Self, Reason> {
        let map = object(text)?;
        only(&map, "_class_name", &["UNet2DConditionModel".into()])?;
        UNetConfig::of_map(map)
    }

    /// Reads the options, whatever class they are of.
    pub(super) fn of_map(map: Map<String, Value>) -> Result<Self, Reason> {
        only(&map, "addition_embed_type", &["text_time".into()])?;
        for name in ["class_embed_type", "encoder_hid_dim", "encoder_hid_dim_type", "num_class_embeds"] {
            only(&map, name, &[Value::Null])?;
        }
        for name in
            ["time_embedding_dim", "time_embedding_act_fn", "timestep_post_act", "cross_attention_norm"]
        {
            only(&map, name, &[Value::Null])?;
        }
        only(&map, "num_attention_heads", &[Value::Null])?;
        only(&map, "mid_block_only_cross_attention", &[Value::Null, false.into()])?;
        for name in
            ["center_input_sample", "dual_cross_attention", "resnet_skip_time_act", "class_embeddings_concat"]
        {
            only(&map, name, &[false.into()])?;
        }
        only(&map, "resnet_out_scale_factor", &[1.0.into(), 1.into()])?;
        only(&map, "time_embedding_type", &["positional".into()])?;
        only(&map, "attention_type", &["default".into()])?;
        match map.get("only_cross_attention") {
            Some(Value::Array(levels)) if levels.iter().all(|level| level == &Value::Bool(false)) => {}
            _ => only(&map, "only_cross_attention", &[false.into()])?,
        }

        let config: UNetConfig = typed(map)?;
        for (name, types, known) in [
            ("down_block_types", &config.down_block_types, ["DownBlock2D", "CrossAttnDownBlock2D"]),
            ("up_block_types", &config.up_block_types, ["UpBlock2D", "CrossAttnUpBlock2D"]),
        ] {
            if let Some(unknown) = types.iter().find(|class| !known.contains(&class.as_str())) {
                return Err(
                    format!("`{name}` has `{unknown}`; expected `{}` or `{}`", known[0], known[1]).into()
                );
            }
        }
        let mid = config.mid_block_type.as_deref();
        if !matches!(mid, None | Some("UNetMidBlock2DCrossAttn" | "UNetMidBlock2D")) {
            return Err(format!(
                "`mid_block_type` is `{}`; expected `UNetMidBlock2DCrossAttn`, `UNetMidBlock2D` or null",
                mid.unwrap_or_default()
            )
            .into());
        }
        config.check()?;
        Ok(config)
    }
}

/// `vae/config.json`. Source: diffusers 0.42.1, `models/autoencoders/autoencoder_kl.py`,
/// `AutoencoderKL`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct VaeConfig {
    /// Channels of a picture.
    pub in_channels: i64,
    /// Channels of a picture.
    pub out_channels: i64,
    /// Channels of each level, outermost first.
    pub block_out_channels: Vec<i64>,
    /// ResNet blocks of each level of the encoder; the decoder has one more.
    pub layers_per_block: usize,
    /// The activation of ResNet blocks.
    pub act_fn: Activation,
    /// Channels of the latents.
    pub latent_channels: i64,
    /// Groups of every GroupNorm.
    pub norm_num_groups: i64,
    /// Side of a tile in tiled decoding, in pixels.
    pub sample_size: OneOrMany<u32>,
    /// Latents are divided by this before decoding.
    pub scaling_factor: f64,
    /// Mean of each latent channel, with `latents_std`.
    pub latents_mean: Option<Vec<f64>>,
    /// Spread of each latent channel.
    pub latents_std: Option<Vec<f64>>,
    /// `true` if the VAE runs in `f32` where the rest runs in `f16`.
    pub force_upcast: bool,
    /// `true` if the encoder ends in a 1x1 convolution.
    pub use_quant_conv: bool,
    /// `true` if the decoder begins with a 1x1 convolution.
    pub use_post_quant_conv: bool,
    /// `true` if the mid blocks have an attention.
    pub mid_block_add_attention: bool,
}

impl Default for VaeConfig {
    /// diffusers' defaults for what a file leaves out.
    fn default() -> Self {
        VaeConfig {
            in_channels: 3,
            out_channels: 3,
            block_out_channels: vec![64],
            layers_per_block: 1,
            act_fn: Activation::Silu,
            latent_channels: 4,
            norm_num_groups: 32,
            sample_size: OneOrMany::One(32),
            scaling_factor: 0.18215,
            latents_mean: None,
            latents_std: None,
            force_upcast: true,
            use_quant_conv: true,
            use_post_quant_conv: true,
            mid_block_add_attention: true,
        }
    }
}

/// `generation_config.json`, a file of our own beside `model_index.json`: what a request that names
/// no steps or guidance gets. diffusers passes it over. Absent, or without an entry, SDXL's usual
/// values hold.
///
/// # Example
/// ```
/// use dgx_pixels_core::model::config::GenerationConfig;
/// let config = GenerationConfig::parse(r#"{"num_inference_steps": 8}"#).unwrap();
/// assert_eq!((config.num_inference_steps, config.guidance_scale), (8, 5.0));
/// assert!(GenerationConfig::parse(r#"{"num_inference_steps": 0}"#).is_err());
/// assert!(GenerationConfig::parse(r#"{"max_image_size": 0}"#).is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerationConfig {
    /// Denoising steps, 1 to 1000. Default [`DEFAULT_STEPS`].
    pub num_inference_steps: usize,
    /// The guidance scale: the strength with which the prompt steers, 0 to 100. Default:
    /// [`DEFAULT_GUIDANCE`].
    pub guidance_scale: f64,
    /// The longest side of an image that a model made for sprites was trained for, in pixels, up to
    /// [`MAX_SIDE`]. Default: that of the UNet's `sample_size`.
    pub max_image_size: Option<u32>,
    /// The color that the model draws in place of transparent pixels: red, green and blue. Another
    /// than white becomes transparent wherever it is. Default: white.
    pub matte: [u8; 3],
}

impl Default for GenerationConfig {
    fn default() -> Self {
        GenerationConfig {
            num_inference_steps: DEFAULT_STEPS,
            guidance_scale: DEFAULT_GUIDANCE,
            max_image_size: None,
            matte: [255; 3],
        }
    }
}

impl GenerationConfig {
    /// Reads `generation_config.json`.
    ///
    /// # Errors
    /// Names the option, its value and what would be right.
    pub fn parse(text: &str) -> Result<Self, Reason> {
        let config: GenerationConfig = typed(object(text)?)?;
        if !(1..=MAX_STEPS).contains(&config.num_inference_steps) {
            let steps = config.num_inference_steps;
            return Err(format!("`num_inference_steps` is {steps}; expected 1 to {MAX_STEPS}").into());
        }
        if !(0.0..=MAX_GUIDANCE).contains(&config.guidance_scale) {
            let scale = config.guidance_scale;
            return Err(format!("`guidance_scale` is {scale}; expected 0 to {MAX_GUIDANCE}").into());
        }
        if let Some(side) = config.max_image_size.filter(|side| !(MIN_SIDE..=MAX_SIDE).contains(side)) {
            return Err(format!("`max_image_size` is {side}; expected {MIN_SIDE} to {MAX_SIDE}").into());
        }
        Ok(config)
    }
}

impl VaeConfig {
    /// Reads `vae/config.json`.
    ///
    /// # Errors
    /// Names the option, its value and what would be right.
    pub fn parse(text: &str) -> Result<Self, Reason> {
        let map = object(text)?;
        only(&map, "_class_name", &["AutoencoderKL".into()])?;
        only(&map, "shift_factor", &[Value::Null])?;
        for (name, known) in
            [("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")]
        {
            for class in map.get(name).and_then(Value::as_array).into_iter().flatten() {
                if class != known {
                    return Err(format!("`{name}` has {class}; expected `{known}`").into());
                }
            }
        }
        let config: VaeConfig = typed(map)?;
        config.check()?;
        Ok(config)
    }

    /// Pixels of a picture for one of a latent, along a side.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::model::config::VaeConfig;
    /// // Each level but the last halves a side.
    /// let vae = VaeConfig { block_out_channels: vec![128, 256, 512, 512], ..Default::default() };
    /// assert_eq!(vae.scale_factor(), 8);
    /// ```
    pub fn scale_factor(&self) -> u32 {
        1 << (self.block_out_channels.len() - 1)
    }
}

/// `text_encoder/config.json` and `text_encoder_2/config.json`. Source: transformers 5.23,
/// `CLIPTextConfig`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct ClipConfig {
    /// `CLIPTextModel` or `CLIPTextModelWithProjection`.
    pub architectures: Vec<String>,
    /// Rows of the token table.
    pub vocab_size: i64,
    /// Width.
    pub hidden_size: i64,
    /// Width inside the feed-forward layers.
    pub intermediate_size: i64,
    /// Width of the projected pooled vector.
    pub projection_dim: i64,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads.
    pub num_attention_heads: i64,
    /// Longest text in tokens.
    pub max_position_embeddings: i64,
    /// The activation of the feed-forward layers.
    pub hidden_act: Activation,
    /// Added to the variance in LayerNorms.
    pub layer_norm_eps: f64,
    /// The token at which the pooled vector is read; 2 means the highest id (an old error that
    /// checkpoints rely on).
    pub eos_token_id: i64,
}

impl Default for ClipConfig {
    /// transformers' defaults for what a file leaves out.
    fn default() -> Self {
        ClipConfig {
            architectures: Vec::new(),
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: 2048,
            projection_dim: 512,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
            eos_token_id: 49407,
        }
    }
}

impl ClipConfig {
    /// Reads a text encoder's `config.json`.
    ///
    /// # Errors
    /// Names the option, its value and what would be right.
    pub fn parse(text: &str) -> Result<Self, Reason> {
        let config: ClipConfig = typed(object(text)?)?;
        config.check()?;
        Ok(config)
    }
}

/// Activations that SDXL-family configs name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x·σ(x)`.
    #[serde(alias = "swish")]
    Silu,
    /// `x·tanh(softplus(x))`.
    Mish,
    /// `max(x, 0)`.
    Relu,
    /// Exact GELU.
    Gelu,
    /// `x·σ(1.702·x)`.
    QuickGelu,
}

/// The way in which time enters a ResNet block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeScaleShift {
    /// Added before the second norm.
    Default,
    /// Scales and shifts the second norm's answer.
    ScaleShift,
}

/// One value for all levels, or one for each.
///
/// # Example
/// ```
/// use dgx_pixels_core::model::config::OneOrMany;
/// assert_eq!(*OneOrMany::One(2).get(1), 2);
/// assert_eq!(*OneOrMany::Many(vec![5, 10, 20]).get(1), 10);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// One for each. First, so that a list of nested lists is read level by level.
    Many(Vec<T>),
    /// The same for all.
    One(T),
}

impl<T> OneOrMany<T> {
    /// The value of level or layer `i`.
    pub fn get(&self, i: usize) -> &T {
        match self {
            OneOrMany::One(value) => value,
            OneOrMany::Many(values) => &values[i],
        }
    }

    pub(super) fn levels(&self, levels: usize) -> usize {
        match self {
            OneOrMany::One(_) => levels,
            OneOrMany::Many(values) => values.len(),
        }
    }

    pub(super) fn iter(&self, levels: usize) -> impl Iterator<Item = &T> {
        (0..levels).map(|i| self.get(i))
    }

    /// Those that are given.
    pub(super) fn values(&self) -> &[T] {
        match self {
            OneOrMany::One(value) => std::slice::from_ref(value),
            OneOrMany::Many(values) => values,
        }
    }
}

pub(super) fn object(text: &str) -> Result<Map<String, Value>, Reason> {
    serde_json::from_str(text).map_err(|error| Reason::from(("not a JSON object", error)))
}

pub(super) fn typed<T: serde::de::DeserializeOwned>(mut map: Map<String, Value>) -> Result<T, Reason> {
    // A null is an absent value, except where null means something; those fields are `Option`s.
    map.retain(|name, value| !value.is_null() || name == "mid_block_type");
    Ok(serde_json::from_value(Value::Object(map))?)
}

pub(super) fn only(map: &Map<String, Value>, name: &str, supported: &[Value]) -> Result<(), String> {
    match map.get(name) {
        Some(value) if !supported.contains(value) => {
            let supported = supported.iter().map(Value::to_string).collect::<Vec<_>>().join(" or ");
            Err(format!("`{name}` is {value}; expected {supported}"))
        }
        None if name == "addition_embed_type" => {
            Err(format!("`{name}` is missing; expected {}", supported[0]))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_leaves_out_takes_diffusers_defaults() {
        let config =
            VaeConfig::parse(r#"{"block_out_channels": [128, 256, 512, 512], "shift_factor": null}"#)
                .unwrap();
        assert_eq!((config.scale_factor(), config.latent_channels, config.scaling_factor), (8, 4, 0.18215));
        assert!(config.force_upcast);
    }

    #[test]
    fn a_models_own_steps_and_guidance_are_in_range() {
        let config = GenerationConfig::parse(r#"{"num_inference_steps": 12}"#).unwrap();
        assert_eq!(config, GenerationConfig { num_inference_steps: 12, ..Default::default() });
        let fault = |text| GenerationConfig::parse(text).unwrap_err().to_string();
        assert_eq!(fault(r#"{"num_inference_steps": 0}"#), "`num_inference_steps` is 0; expected 1 to 1000");
        assert!(fault(r#"{"steps": 12}"#).contains("unknown field `steps`"));
    }

    #[test]
    fn an_option_we_do_not_compute_is_named() {
        let base = r#"{"addition_embed_type": "text_time", "addition_time_embed_dim": 8"#;
        for (option, message) in [
            (r#""dual_cross_attention": true"#, "`dual_cross_attention` is true; expected false"),
            (r#""class_embed_type": "timestep""#, "`class_embed_type` is \"timestep\"; expected null"),
            (
                r#""act_fn": "tanh""#,
                "unknown variant `tanh`, expected one of `silu`, `swish`, `mish`, `relu`, `gelu`, `quick_gelu`",
            ),
            (
                r#""layers_per_block": [1, 2]"#,
                "`layers_per_block` has 2 entries; expected 4, as `block_out_channels` has",
            ),
        ] {
            let error = UNetConfig::parse(&format!("{base}, {option}}}")).unwrap_err().to_string();
            assert_eq!(error, message);
        }
        let error = UNetConfig::parse("{}").unwrap_err().to_string();
        assert_eq!(error, "`addition_embed_type` is missing; expected \"text_time\"");
    }

    #[test]
    fn nested_transformer_depths_are_read() {
        let config = UNetConfig::parse(
            r#"{"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "block_out_channels": [8, 8],
                "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"], "norm_num_groups": 4,
                "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"], "attention_head_dim": 2,
                "transformer_layers_per_block": [1, [1, 2, 1]]}"#,
        )
        .unwrap();
        let depths = &config.transformer_layers_per_block;
        assert_eq!((*depths.get(0).get(1), *depths.get(1).get(0), *depths.get(1).get(1)), (1, 1, 2));
    }
}
