//! Latents as a coarse picture, without the VAE.

use image::RgbImage;
use tch::{Kind, Tensor};

use super::Result;
use super::device::Generator;
use super::image::{is_finite, read_pictures};
use super::vae::Vae;
use crate::device::{Device, Dtype};

/// A linear map from a latent's channels to the mean colour of the pixels that it stands for.
///
/// Fitted by least squares to what the model's own VAE makes of random latents, so that it holds
/// for any model. What it cannot show is all that lies in a latent's neighbours, and in finer
/// detail than its own pixels. Shapes are true, colours paler than the picture's.
pub(super) struct Preview {
    /// `[3, channels, 1, 1]`, a convolution's.
    weight: Tensor,
    /// `[3]`.
    bias: Tensor,
}

/// Sides of the random latents, and of the patches of one colour that are in them.
const SIDE: i64 = 16;
const PATCHES: [i64; 3] = [1, 4, 16];

/// How much patches of each size vary. Latents of pictures have a deviation near 1 and are smooth.
const SPREADS: [f64; 3] = [0.5, 0.8, 0.5];

/// Random latents in all, and those decoded together: a full-size VAE needs some hundred megabytes
/// for as many.
const SAMPLES: i64 = 32;
const TOGETHER: i64 = 4;

impl Preview {
    /// Takes about as long as decoding two pictures of 512x512.
    pub(super) fn fit(vae: &Vae, device: Device, dtype: Dtype) -> Result<Preview> {
        let channels = vae.latent_channels();
        // 1. random latents: patches of several sizes on each other
        let mut generator = Generator::new(0);
        let mut latents = Tensor::f_zeros([SAMPLES, channels, SIDE, SIDE], (Kind::Float, tch::Device::Cpu))?;
        for (patch, spread) in PATCHES.into_iter().zip(SPREADS) {
            let small = generator.randn(&[SAMPLES, channels, SIDE / patch, SIDE / patch], Kind::Float)?;
            let large = small.f_upsample_nearest2d([SIDE, SIDE], None, None)?;
            latents = latents.f_add(&large.f_mul_scalar(spread)?)?;
        }

        // 2. what the VAE makes of them, as the mean of each latent's pixels
        let mut colours = Vec::new();
        for start in (0..SAMPLES).step_by(TOGETHER as usize) {
            let some = latents.f_narrow(0, start, TOGETHER)?;
            let some = some.f_to_device(device.tch())?.f_to_kind(dtype.kind())?;
            // Not clamped: colours would come out paler still.
            let pictures = vae.decode_scaled(&some)?.f_to_kind(Kind::Float)?;
            colours.push(pictures.f_adaptive_avg_pool2d([SIDE, SIDE])?.f_to_device(tch::Device::Cpu)?);
        }

        // 3. least squares, by the normal equations
        let rows = |tensor: &Tensor| {
            tensor.f_to_kind(Kind::Double)?.f_permute([0, 2, 3, 1])?.f_reshape([-1, tensor.size()[1]])
        };
        let ones = Tensor::f_ones([SAMPLES, 1, SIDE, SIDE], (Kind::Float, tch::Device::Cpu))?;
        let known = rows(&Tensor::f_cat(&[&latents, &ones], 1)?)?;
        let asked = rows(&Tensor::f_cat(&colours, 0)?)?;
        let known_t = known.f_transpose(0, 1)?;
        let map = Tensor::f_linalg_solve(&known_t.f_matmul(&known)?, &known_t.f_matmul(&asked)?, true)?;
        let map = map.f_transpose(0, 1)?.f_to_kind(Kind::Float)?.f_to_device(device.tch())?;
        Ok(Preview {
            weight: map.f_narrow(1, 0, channels)?.f_reshape([3, channels, 1, 1])?,
            bias: map.f_narrow(1, channels, 1)?.f_reshape([3])?,
        })
    }

    /// `latents [1, channels, h, w]` → a picture of `w` by `h` pixels; `None` if they are not
    /// finite.
    pub(super) fn draw(&self, latents: &Tensor) -> Result<Option<RgbImage>> {
        let latents = latents.f_to_kind(Kind::Float)?;
        if !is_finite(&latents)? {
            return Ok(None);
        }
        let picture = latents.f_conv2d(&self.weight, Some(&self.bias), 1, 0, 1, 1)?;
        Ok(read_pictures(&picture)?.pop())
    }
}
