//! One picture between two steps, and where a step takes it.

use tch::{Kind, Tensor};

use super::Result as TorchResult;
use super::control::Followed;
use super::cuda::OnStream;
use super::device::{Generator, place};
use super::failed;
use super::inputs::Kept;
use crate::backend::{Canvas, Latents};
use crate::device::Device;
use crate::error::Error;
use crate::request::ResolvedRequest;
use crate::scheduler::{Mix, Scheduler};

/// What conditions one row of the forward passes.
pub(super) struct Row {
    /// `[1, width]`, from [`UNet::keys_values`](super::unet::UNet::keys_values); `None` is a text
    /// of zeros.
    pub(super) text: Option<Tensor>,
    /// The tokens of the text.
    pub(super) tokens: i64,
    /// `[steps, time_width]`, from [`UNet::embed_time`](super::unet::UNet::embed_time).
    pub(super) time: Tensor,
    /// The same two for the control net of each control of the request, in its order.
    pub(super) of_controls: Vec<ControlRow>,
}

/// The inputs that condition one row of a control net's passes.
pub(super) struct ControlRow {
    /// `[1, width]`; `None` is a text of zeros.
    pub(super) text: Option<Tensor>,
    /// `[steps, time_width]`.
    pub(super) time: Tensor,
}

/// A picture on its way through [`Sdxl`](super::Sdxl).
///
/// It owns the latents, the embeddings of its prompts, the schedule, and a generator of noise that
/// begins with its request's seed. Its thread may use it between calls of the model that began it.
pub struct SdxlCanvas {
    pub(super) id: u64,
    pub(super) request: ResolvedRequest,
    pub(super) dropped_words: Option<String>,
    pub(super) device: Device,
    pub(super) scheduler: Box<dyn Scheduler>,
    pub(super) positive: Row,
    /// Present where guidance needs it.
    pub(super) negative: Option<Row>,
    pub(super) generator: Generator,
    /// Drawn for the coming step and not yet used: a step that failed and is tried again draws no
    /// other.
    pub(super) noise: Option<Tensor>,
    /// The image whose parts outside a mask stay.
    pub(super) kept: Option<Kept>,
    /// The inputs of a model for inpainting besides the latents, `[1, 1 + channels, h, w]`.
    pub(super) masked: Option<Tensor>,
    /// The images that control nets follow, one for each control of the request.
    pub(super) followed: Vec<Followed>,
    pub(super) state: State,
}

/// The UNet's answer for one canvas.
pub(super) struct Answer {
    /// With guidance.
    pub(super) guided: Tensor,
    /// What the inner levels made of the positive and the negative row, if they were computed and
    /// are to be kept.
    pub(super) deep: Option<[Option<Tensor>; 2]>,
}

/// What a step changes.
pub(super) struct State {
    /// `[1, channels, h, w]`, in the model's dtype.
    pub(super) latents: Tensor,
    /// Converted outputs of the evaluations before, newest first, in `f32`.
    pub(super) previous: [Option<Tensor>; 3],
    /// A sample that a scheduler comes back to, in `f32`.
    pub(super) anchor: Option<Tensor>,
    pub(super) steps_done: usize,
    /// What the UNet's inner levels made of the positive and the negative row, for steps that go
    /// without them.
    pub(super) deep: [Option<Tensor>; 2],
}

impl Canvas for SdxlCanvas {
    fn request(&self) -> &ResolvedRequest {
        &self.request
    }

    fn steps_done(&self) -> usize {
        self.state.steps_done
    }

    fn steps(&self) -> usize {
        self.scheduler.timesteps().len()
    }

    fn rows(&self) -> usize {
        1 + usize::from(self.guiding().is_some())
    }

    fn dropped_words(&self) -> Option<&str> {
        self.dropped_words.as_deref()
    }
}

impl SdxlCanvas {
    /// The latents as they are now.
    ///
    /// # Errors
    /// [`Error::Internal`] if libtorch refuses the copy.
    pub fn latents(&self) -> Result<Latents, Error> {
        let read = || {
            let _stream = OnStream::enter(self.device)?;
            Latents::read(&self.state.latents)
        };
        read().map_err(|error| failed(error, self.device, "reading latents"))
    }

    /// Makes the next step fail, or undoes that.
    #[cfg(test)]
    pub(super) fn break_conditioning(&mut self) {
        self.positive.time = self.positive.time.transpose(0, 1);
    }

    /// The negative row, if the coming step is guided.
    pub(super) fn guiding(&self) -> Option<&Row> {
        let [from, to] = self.request.guidance_interval.unwrap_or([0.0, 1.0]);
        let share = (self.state.steps_done as f64 + 0.5) / self.scheduler.timesteps().len() as f64;
        self.negative.as_ref().filter(|_| (from..=to).contains(&share))
    }

    /// Whether the coming step goes without the UNet's inner levels.
    pub(super) fn is_shallow(&self) -> bool {
        let [positive, negative] = &self.state.deep;
        let is_between =
            self.request.deep_cache.is_some_and(|every| !self.state.steps_done.is_multiple_of(every));
        is_between && positive.is_some() && (negative.is_some() || self.guiding().is_none())
    }

    /// The latents as control nets take them at the coming step, and the UNet if it is for nothing
    /// but drawing.
    pub(super) fn scaled(&self) -> TorchResult<Tensor> {
        // Asked for by itself first: tch 0.24 panics where an operation that takes a number is
        // refused memory.
        let _room = self.state.latents.f_empty_like()?;
        match self.scheduler.input_scale(self.state.steps_done) {
            1.0 => Ok(self.state.latents.shallow_clone()),
            scale => self.state.latents.f_mul_scalar(scale),
        }
    }

    /// The latents as the UNet takes them at the coming step, of those that are
    /// [`scaled`](Self::scaled).
    pub(super) fn model_input(&self, scaled: &Tensor) -> TorchResult<Tensor> {
        match &self.masked {
            Some(masked) => Tensor::f_cat(&[scaled, masked], 1),
            None => Ok(scaled.shallow_clone()),
        }
    }

    /// The embedded time of a row at the coming step, `[1, time_width]` of `[steps, time_width]`.
    pub(super) fn time(&self, of_steps: &Tensor) -> TorchResult<Tensor> {
        of_steps.f_narrow(0, self.state.steps_done as i64, 1)
    }

    /// `true` if the control of this number acts at the coming step.
    pub(super) fn follows(&self, control: usize) -> bool {
        let (i, steps) = (self.state.steps_done, self.scheduler.timesteps().len());
        self.request.control[control].acts_at(i, steps)
    }

    pub(super) fn draw_noise(&mut self) -> TorchResult<()> {
        let latents = &self.state.latents;
        if self.noise.is_none() && self.scheduler.step(self.state.steps_done).next.noise != 0.0 {
            let kind = if self.scheduler.noise_in_f32() { Kind::Float } else { latents.kind() };
            self.noise = Some(self.generator.randn(&latents.size(), kind)?);
        }
        Ok(())
    }

    /// Where `answer` takes this canvas.
    pub(super) fn advanced(&self, answer: &Answer) -> TorchResult<State> {
        let State { latents, previous, anchor, steps_done, deep } = &self.state;
        let output = &answer.guided;
        let step = self.scheduler.step(*steps_done);
        let readout = self.scheduler.denoised(*steps_done);

        let sample = latents.f_to_kind(Kind::Float)?;
        let output = output.f_to_kind(Kind::Float)?;
        let mut denoised =
            sample.f_mul_scalar(readout.sample)?.f_add_(&output.f_mul_scalar(readout.output)?)?;
        if let Some(limit) = readout.clip {
            denoised = denoised.f_clamp_(-limit, limit)?;
        }
        let noise = match &self.noise {
            Some(noise) => Some(place(noise, latents.device())?.f_to_kind(Kind::Float)?),
            None => None,
        };
        let mixed = |mix: &Mix| {
            weighted_sum(&[
                (mix.sample, Some(&sample)),
                (mix.output, Some(&output)),
                (mix.denoised, Some(&denoised)),
                (mix.previous[0], previous[0].as_ref()),
                (mix.previous[1], previous[1].as_ref()),
                (mix.previous[2], previous[2].as_ref()),
                (mix.anchor, anchor.as_ref()),
                (mix.noise, noise.as_ref()),
            ])
        };
        let next = mixed(&step.next)?;
        let next = match &self.kept {
            Some(kept) => kept.blended(&next, steps_done + 1, &*self.scheduler)?,
            None => next,
        };
        let shallow = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::shallow_clone);
        let anchor = match &step.keep {
            Some(keep) => Some(mixed(keep)?),
            None => shallow(anchor),
        };
        Ok(State {
            latents: next.f_to_kind(latents.kind())?,
            previous: [Some(denoised), shallow(&previous[0]), shallow(&previous[1])],
            anchor,
            steps_done: steps_done + 1,
            deep: match &answer.deep {
                Some(deep) => deep.each_ref().map(shallow),
                None => deep.each_ref().map(shallow),
            },
        })
    }
}

impl Latents {
    pub(super) fn read(tensor: &Tensor) -> TorchResult<Latents> {
        let (_, channels, height, width) = tensor.size4()?;
        let flat =
            tensor.f_to_kind(Kind::Float)?.f_to_device(tch::Device::Cpu)?.f_contiguous()?.f_flatten(0, -1)?;
        Ok(Latents {
            values: Vec::try_from(flat)?,
            shape: [channels, height, width].map(|side| side as usize),
        })
    }
}

/// Sum of factor · tensor over the factors that are not zero.
fn weighted_sum(terms: &[(f64, Option<&Tensor>)]) -> TorchResult<Tensor> {
    let mut sum: Option<Tensor> = None;
    for (factor, tensor) in terms.iter().filter(|(factor, _)| *factor != 0.0) {
        let term = tensor.expect("a scheduler weighs only what it has seen").f_mul_scalar(*factor)?;
        sum = Some(match sum {
            Some(mut sum) => sum.f_add_(&term)?,
            None => term,
        });
    }
    Ok(sum.expect("a scheduler's step has a term"))
}
