//! Classifier-free guidance (Ho and Salimans 2022).

use tch::Tensor;

use super::Result as TorchResult;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Backend as _, Sketch};
    use crate::request::GenerateRequest;

    #[test]
    fn rescaling_gives_the_spread_of_the_positive_answer() {
        let negative = Tensor::from_slice(&[0.0_f32; 4]).view([1, 1, 2, 2]);
        let positive = Tensor::from_slice(&[1.0_f32, -1.0, 1.0, -1.0]).view([1, 1, 2, 2]);
        for (share, expected) in [(0.0, 2.0), (0.5, 1.5), (1.0, 1.0)] {
            let request =
                GenerateRequest { guidance_scale: Some(2.0), guidance_rescale: share, ..Default::default() };
            let request = request.resolve(&Sketch.defaults()).unwrap();
            let guided = guide(&negative, &positive, &request).unwrap();
            assert!(guided.allclose(&(&positive * expected), 1e-6, 1e-6, false), "{share}: {guided:?}");
        }
    }
}
