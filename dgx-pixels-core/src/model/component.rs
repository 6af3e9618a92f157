//! The parts of a model that have weights.

/// A part of a model that has weights.
///
/// # Example
/// ```
/// use dgx_pixels_core::model::Component;
/// let folders = Component::ALL.map(Component::name);
/// assert_eq!(folders, ["text_encoder", "text_encoder_2", "unet", "vae"]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The first CLIP text encoder.
    TextEncoder,
    /// The second, with projection.
    TextEncoder2,
    /// The denoiser.
    UNet,
    /// Pixels to latents and back.
    Vae,
}

impl Component {
    /// All of them, in the order of a request's way.
    pub const ALL: [Component; 4] =
        [Component::TextEncoder, Component::TextEncoder2, Component::UNet, Component::Vae];

    /// Returns the name of the component's folder.
    pub fn name(self) -> &'static str {
        match self {
            Component::TextEncoder => "text_encoder",
            Component::TextEncoder2 => "text_encoder_2",
            Component::UNet => "unet",
            Component::Vae => "vae",
        }
    }

    /// Returns the name of the component's weight files without their ending.
    pub fn stem(self) -> &'static str {
        match self {
            Component::TextEncoder | Component::TextEncoder2 => "model",
            Component::UNet | Component::Vae => "diffusion_pytorch_model",
        }
    }
}
