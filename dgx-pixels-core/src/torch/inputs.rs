//! Images that a drawing begins from, as latents.
//!
//! Numbers are drawn from the request's generator in diffusers' order: the latents of the image,
//! the noise of the drawing, and with a mask the latents of the masked image. Only a model for
//! inpainting uses these, and it encodes the image only where the drawing begins from it.
//! Source: diffusers 0.42.1, `StableDiffusionXLImg2ImgPipeline.prepare_latents`,
//! `StableDiffusionXLInpaintPipeline.prepare_latents` and its loop.

use image::{GrayImage, RgbImage};
use tch::{Kind, Tensor};

use super::Result;
use super::device::{Generator, place};
use super::edges;
use super::vae::Vae;
use crate::pixel::Wrap;
use crate::request::{ImageSize, Prepared};
use crate::scheduler::{Noised, Scheduler};

/// The latents that a drawing begins with, and those that it keeps.
pub(super) struct Begun {
    /// `[1, channels, h, w]`, in the model's dtype.
    pub(super) latents: Tensor,
    pub(super) kept: Option<Kept>,
    /// For a model for inpainting: the mask and the latents of the masked image, in the model's
    /// dtype, `[1, 1 + channels, h, w]`.
    pub(super) masked: Option<Tensor>,
}

/// The latents of an image, of which a mask keeps a part.
pub(super) struct Kept {
    /// `[1, channels, h, w]`, in `f32`.
    image: Tensor,
    /// The noise that the drawing began with, in `f32`: the kept part has the same at every level.
    noise: Tensor,
    /// `[1, 1, h, w]`, in `f32`: 1 where the image is drawn anew, else 0.
    mask: Tensor,
}

/// The tensors of a model that a drawing begins on.
pub(super) struct Onto<'a> {
    pub(super) vae: &'a Vae,
    pub(super) vae_kind: Kind,
    pub(super) kind: Kind,
    pub(super) device: tch::Device,
    pub(super) scale: u32,
    pub(super) wrap: Wrap,
    /// `true` if the UNet takes the mask and the masked image.
    pub(super) takes_mask: bool,
}

impl Onto<'_> {
    /// Encodes an image and adds noise of the schedule's first level.
    pub(super) fn begin(
        &self,
        prepared: &Prepared,
        strength: f64,
        scheduler: &dyn Scheduler,
        generator: &mut Generator,
    ) -> Result<Begun> {
        let (height, width) = (prepared.image.height() / self.scale, prepared.image.width() / self.scale);
        let shape = [1, self.vae.latent_channels(), i64::from(height), i64::from(width)];

        // 1. the image
        let pixels = self.pixels(&prepared.image)?;
        let from_noise = prepared.mask.is_some() && strength == 1.0;
        let image = match self.takes_mask && from_noise {
            true => None,
            false => Some(self.encoded(&pixels, &shape, generator)?),
        };

        // 2. noise
        let noise = place(&generator.randn(&shape, self.kind)?, self.device)?;
        let latents = match &image {
            Some(image) if !from_noise => noised(image, &noise, scheduler.noised(0))?.f_to_kind(self.kind)?,
            _ => noise.f_mul_scalar(scheduler.initial_sigma())?,
        };

        // 3. the masked image: diffusers encodes it also where nothing reads it
        let (mut kept, mut masked) = (None, None);
        if let Some(mask) = &prepared.mask {
            let of_latents = self.mask(mask)?;
            match image {
                Some(image) if !self.takes_mask => {
                    let _unused = generator.randn(&shape, self.vae_kind)?;
                    kept = Some(Kept {
                        image: image.f_to_kind(Kind::Float)?,
                        noise: noise.f_to_kind(Kind::Float)?,
                        mask: of_latents,
                    });
                }
                _ => {
                    // What is drawn anew is gray, the middle of the range.
                    let gray = pixels.f_masked_fill(&self.white(mask)?, 0.0)?;
                    let image = self.encoded(&gray, &shape, generator)?;
                    masked = Some(Tensor::f_cat(&[of_latents.f_to_kind(self.kind)?, image], 1)?);
                }
            }
        }
        Ok(Begun { latents, kept, masked })
    }

    /// `pixels [1, 3, H, W]` as latents that are drawn from the generator, in the model's dtype.
    fn encoded(&self, pixels: &Tensor, shape: &[i64; 4], generator: &mut Generator) -> Result<Tensor> {
        let drawn = place(&generator.randn(shape, self.vae_kind)?, self.device)?;
        edges::within(self.wrap, || self.vae.sample_scaled(pixels, &drawn))?.f_to_kind(self.kind)
    }

    /// `[1, 1, H, W]`: `true` where the image is drawn anew.
    fn white(&self, mask: &GrayImage) -> Result<Tensor> {
        let (width, height) = mask.dimensions();
        let values = Tensor::f_from_slice(mask.as_raw())?.f_gt(0.0)?;
        place(&values.f_view([1, 1, i64::from(height), i64::from(width)])?, self.device)
    }

    /// `[1, 3, H, W]` in -1..=1, in the VAE's dtype.
    fn pixels(&self, image: &RgbImage) -> Result<Tensor> {
        let (width, height) = image.dimensions();
        place(&Tensor::f_from_slice(image.as_raw())?, self.device)?
            .f_view([1, i64::from(height), i64::from(width), 3])?
            .f_permute([0, 3, 1, 2])?
            .f_to_kind(Kind::Float)?
            .f_div_scalar(127.5)?
            .f_sub_scalar(1.0)?
            .f_to_kind(self.vae_kind)
    }

    /// `[1, 1, h, w]`: the left top pixel of each latent decides.
    fn mask(&self, mask: &GrayImage) -> Result<Tensor> {
        let ImageSize { width, height } =
            ImageSize { width: mask.width() / self.scale, height: mask.height() / self.scale };
        let of_latent = |i: u32| mask.get_pixel(i % width * self.scale, i / width * self.scale)[0];
        let values: Vec<f32> = (0..width * height).map(|i| f32::from(of_latent(i) > 0)).collect();
        let values = Tensor::f_from_slice(&values)?.f_view([1, 1, i64::from(height), i64::from(width)])?;
        place(&values, self.device)
    }
}

impl Kept {
    /// The sample `next` of evaluation `i`, with the kept part as it is at that level. `next` is in
    /// `f32`.
    pub(super) fn blended(&self, next: &Tensor, i: usize, scheduler: &dyn Scheduler) -> Result<Tensor> {
        let kept = match i < scheduler.timesteps().len() {
            true => noised(&self.image, &self.noise, scheduler.noised(i))?,
            false => self.image.shallow_clone(),
        };
        // Where the mask is 1 the sample stays exactly as it is, and where it is 0 the image.
        next.f_where_self(&self.mask.f_gt(0.5)?, &kept)
    }
}

fn noised(image: &Tensor, noise: &Tensor, Noised { image: share, noise: level }: Noised) -> Result<Tensor> {
    let image = image.f_to_kind(Kind::Float)?.f_mul_scalar(share)?;
    image.f_add(&noise.f_to_kind(Kind::Float)?.f_mul_scalar(level)?)
}
