//! Edges that meet: pictures whose convolutions go on at the opposite side.

use std::cell::Cell;

use tch::Tensor;

use super::Result;
use crate::pixel::Wrap;

thread_local! {
    static WRAP: Cell<Wrap> = const { Cell::new(Wrap { x: false, y: false }) };
}

/// What `work` returns, in which every convolution of this thread continues across these edges.
///
/// A scope and no argument of each layer, because the edges are one thing for a whole forward pass.
pub(super) fn within<T>(wrap: Wrap, work: impl FnOnce() -> T) -> T {
    struct Before(Wrap);
    impl Drop for Before {
        fn drop(&mut self) {
            WRAP.set(self.0);
        }
    }
    let _before = Before(WRAP.replace(wrap));
    work()
}

/// Whether no edges meet, so that any kernel may convolve.
pub(super) fn are_closed() -> bool {
    WRAP.get().is_none()
}

/// `picture [b, c, h, w]` with what a convolution of this padding reads beyond edges that meet, and
/// the zeros that are still to be read beyond the others: `[rows, columns]`.
pub(super) fn continued(picture: &Tensor, padding: i64) -> Result<(Tensor, [i64; 2])> {
    let Wrap { x, y } = WRAP.get();
    if padding == 0 || are_closed() {
        return Ok((picture.shallow_clone(), [padding; 2]));
    }
    let [beside, above] = [x, y].map(|meets| if meets { padding } else { 0 });
    let continued = picture.f_pad([beside, beside, above, above], "circular", None)?;
    Ok((continued, [padding - above, padding - beside]))
}

/// `picture [b, c, h, w]` with one column more at the right and one row more below: zeros, or what
/// is at the opposite edge that meets it.
pub(super) fn extended(picture: &Tensor) -> Result<Tensor> {
    if are_closed() {
        return picture.f_constant_pad_nd([0, 1, 0, 1]);
    }
    let Wrap { x, y } = WRAP.get();
    let (_, _, h, w) = picture.size4()?;
    let column =
        if x { picture.f_narrow(3, 0, 1)? } else { picture.f_narrow(3, w - 1, 1)?.f_zeros_like()? };
    let wide = Tensor::f_cat(&[picture, &column], 3)?;
    let row = if y { wide.f_narrow(2, 0, 1)? } else { wide.f_narrow(2, h - 1, 1)?.f_zeros_like()? };
    Tensor::f_cat(&[&wide, &row], 2)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use tch::Kind;

    use super::*;
    use crate::backend::{Backend, begin};
    use crate::device::{Device, Dtype};
    use crate::model::{Component, Model, Options};
    use crate::request::GenerateRequest;
    use crate::scheduler::SchedulerName;
    use crate::torch::Sdxl;
    use crate::torch::device::{Generator, InferenceMode};
    use crate::torch::vae::Vae;
    use crate::torch::weights::Weights;

    const TOLERANCE: f64 = 1e-4;

    fn models() -> [PathBuf; 4] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        [
            "tests/fixtures/tiny_sdxl_a",
            "tests/fixtures/tiny_sdxl_b",
            "tests/fixtures/tiny_sdxl_c",
            "models/sprite-xl",
        ]
        .map(|model| root.join(model))
    }

    fn apart(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn decoding_and_encoding_move_with_what_is_moved_across_edges_that_meet() {
        let _mode = InferenceMode::enter();
        tch::set_num_threads(1);
        for path in models() {
            let model = Model::open(&path).unwrap();
            let files = model.weights(Component::Vae, false).unwrap();
            let weights = Weights::new(files, Device::Cpu, Dtype::F32, &|_| ());
            let vae = Vae::load(weights.root(), &model.vae, false).unwrap();
            let cell = i64::from(model.vae.scale_factor());
            let latents = Generator::new(1).randn(&[1, vae.latent_channels(), 8, 8], Kind::Float).unwrap();
            for (wrap, moved, by) in [
                (Wrap { x: true, y: true }, vec![2, 3], vec![3, 5]),
                (Wrap { x: true, y: false }, vec![3], vec![1]),
                (Wrap { x: false, y: true }, vec![2], vec![6]),
            ] {
                let in_pixels: Vec<i64> = by.iter().map(|by| by * cell).collect();
                let picture = within(wrap, || vae.decode(&latents)).unwrap();
                let rolled = within(wrap, || vae.decode(&latents.roll(&by, &moved))).unwrap();
                let gap = apart(&rolled, &picture.roll(&in_pixels, &moved));
                assert!(gap < TOLERANCE, "{}: decoding with {wrap:?}: {gap}", path.display());
                let read = within(wrap, || vae.encode(&picture)).unwrap();
                let again = within(wrap, || vae.encode(&picture.roll(&in_pixels, &moved))).unwrap();
                let gap = apart(&again, &read.roll(&by, &moved));
                assert!(gap < TOLERANCE, "{}: encoding with {wrap:?}: {gap}", path.display());
            }
        }
    }

    /// Latents after four steps from noise moved by `by`, moved back; drawn beside a picture with
    /// closed edges.
    fn drawn(sdxl: &mut Sdxl, wrap: Option<Wrap>, by: &[i64; 2]) -> Tensor {
        let cell = sdxl.defaults().multiple;
        let request = GenerateRequest {
            prompt: "a brick wall".into(),
            steps: Some(4),
            // It draws no noise of its own, which would not move.
            scheduler: Some(SchedulerName::Euler),
            seed: 3,
            width: Some(32 * cell),
            height: Some(32 * cell),
            wrap,
            ..Default::default()
        };
        let closed = GenerateRequest { wrap: None, seed: 4, ..request.clone() };
        let mut canvases = begin(sdxl, &[request, closed]).unwrap();
        canvases[0].state.latents = canvases[0].state.latents.roll(by, [2, 3]);
        for _ in 0..4 {
            let [one, other] = &mut canvases[..] else { unreachable!() };
            sdxl.step(&mut [one, other]).unwrap();
        }
        canvases[0].state.latents.roll(by.map(|by| -by), [2, 3])
    }

    #[test]
    fn a_picture_moves_with_its_noise_across_edges_that_meet_and_not_across_closed_ones() {
        let _mode = InferenceMode::enter();
        let both = Some(Wrap { x: true, y: true });
        for path in models() {
            let options = Options { device: Device::Cpu, ..Default::default() };
            let mut sdxl = Sdxl::load(&Model::open(&path).unwrap(), &options).unwrap();
            let moved = [8, 16];
            let gap = apart(&drawn(&mut sdxl, both, &[0, 0]), &drawn(&mut sdxl, both, &moved));
            assert!(gap < TOLERANCE, "{}: {gap}", path.display());
            let closed = apart(&drawn(&mut sdxl, None, &[0, 0]), &drawn(&mut sdxl, None, &moved));
            assert!(closed > 10.0 * TOLERANCE, "{}: {closed}", path.display());
        }
    }
}
