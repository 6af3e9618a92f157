//! Conversion from tensors to images.

use image::RgbImage;
use tch::{Kind, Tensor};

use super::Result as TorchResult;

/// Rounds `[b, 3, h, w]` in -1..=1 to `[b, h, w, 3]` of 8 bits.
pub(super) fn pixels(pictures: &Tensor) -> TorchResult<Tensor> {
    let scaled = pictures.f_mul_scalar(0.5)?.f_add_scalar(0.5)?.f_clamp(0.0, 1.0)?;
    let pixels = scaled.f_to_kind(Kind::Float)?.f_mul_scalar(255.0)?.f_round()?.f_to_kind(Kind::Uint8)?;
    pixels.f_permute([0, 2, 3, 1])?.f_contiguous()
}

/// Reads `[b, 3, h, w]` in -1..=1 as `b` images.
pub(super) fn read_pictures(pictures: &Tensor) -> TorchResult<Vec<RgbImage>> {
    images(&pixels(pictures)?.f_to_device(tch::Device::Cpu)?)
}

/// Reads `[b, h, w, 3]` of 8 bits on the CPU as `b` images.
pub(super) fn images(pixels: &Tensor) -> TorchResult<Vec<RgbImage>> {
    let (b, h, w, _) = pixels.size4()?;
    (0..b)
        .map(|i| {
            let bytes = Vec::<u8>::try_from(pixels.f_get(i)?.f_flatten(0, -1)?)?;
            Ok(RgbImage::from_raw(w as u32, h as u32, bytes).expect("three bytes a pixel"))
        })
        .collect()
}

/// `true` if no element is infinite or not a number.
pub(super) fn is_finite(tensor: &Tensor) -> TorchResult<bool> {
    Ok(tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0)
}
