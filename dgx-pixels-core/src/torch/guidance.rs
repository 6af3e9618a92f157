//! Classifier-free guidance (Ho and Salimans 2022).

use tch::Tensor;

use super::layers::Result as TorchResult;
use crate::request::ResolvedRequest;

/// Moves away from the negative answer, toward the positive one, each `[1, channels, h, w]`.
pub(super) fn guide(negative: &Tensor, positive: &Tensor, request: &ResolvedRequest) -> TorchResult<Tensor> {
    let difference = positive.f_sub(negative)?.f_mul_scalar(request.guidance_scale)?;
    let guided = negative.f_add(&difference)?;
    if request.guidance_rescale == 0.0 {
        return Ok(guided);
    }
    // Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", section 3.4.
    let spread = |tensor: &Tensor| tensor.f_std_dim([1, 2, 3].as_slice(), true, true);
    let rescaled = guided.f_mul(&spread(positive)?.f_div(&spread(&guided)?)?)?;
    let share = request.guidance_rescale;
    rescaled.f_mul_scalar(share)?.f_add(&guided.f_mul_scalar(1.0 - share)?)
}
