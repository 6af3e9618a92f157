//! The [`Backend`](crate::backend::Backend): from a request to pixels. Source: diffusers 0.42.1,
//! `StableDiffusionXLPipeline`.

mod backend;
mod predict;

use std::cell::RefCell;

use image::RgbImage;
use tch::Tensor;

use super::Result as TorchResult;
use super::canvas::{ControlRow, Row, SdxlCanvas, State};
use super::clip::TextEncoder;
use super::control::ControlNet;
use super::controls::Controls;
use super::cuda::{Event, Kernels, OnStream};
use super::device::{Generator, InferenceMode, fetch, place};
use super::edges;
use super::embeddings::{guidance_embedding, time_ids};
use super::failed;
use super::image::{images, pixels};
use super::inputs::{Begun, Onto};
use super::inversions::Inversions;
use super::passes::Passes;
use super::preview::Preview;
use super::prompts::{Prompts, Words};
use super::tokenizer::Tokenizer;
use super::unet::UNet;
use super::vae::Vae;
use super::weights::Weights;
use crate::backend::{Decoding, Latents};
use crate::device::{Device, Dtype};
use crate::error::Error;
use crate::model::lora::{LoraSet, LoraUse};
use crate::model::{Component, Model, Options};
use crate::pixel::Wrap;
use crate::request::{ImageSize, RequestError, ResolvedRequest};
use crate::scheduler::Scheduler;

/// An SDXL model on one device.
///
/// # Example
/// ```no_run
/// use std::ops::ControlFlow;
/// use dgx_pixels_core::{GenerateRequest, Model, backend::paint, torch::{Options, Sdxl}};
/// let mut sdxl = Sdxl::load(&Model::open("models/sdxl-base")?, &Options::default())?;
/// let request = GenerateRequest { prompt: "a brass key, pixel art".into(), seed: 7, ..Default::default() };
/// let drawn = paint(&mut sdxl, &[request], |_| ControlFlow::Continue(()))?;
/// drawn[0].image.save("key.png").unwrap();
/// # Ok::<(), dgx_pixels_core::Error>(())
/// ```
///
/// It computes as diffusers' `StableDiffusionXLPipeline` does, in these shapes:
///
/// | tensor | shape |
/// |---|---|
/// | latents of one image | `[1, 4, height / 8, width / 8]` |
/// | text embeddings of one prompt, both encoders joined | `[1, 77, 2048]` |
/// | pooled text embedding, of the second encoder | `[1, 1280]` |
/// | size conditioning: original size, crop, target size | 6 numbers |
///
/// The widths are SDXL base's; another model of the family has those of its configs. A forward pass
/// takes one row for each canvas without guidance, and two for each with it.
pub struct Sdxl {
    device: Device,
    dtype: Dtype,
    vae_dtype: Dtype,
    vae_slicing: bool,
    model: Model,
    prompts: Prompts,
    unet: UNet,
    vae: Vae,
    controls: Controls,
    passes: Passes,
    /// The end of the step before the last on a GPU: it works on one while the next is prepared.
    behind: Option<Event>,
    /// Made when it is first asked for.
    preview: Option<Preview>,
    next_id: u64,
}

/// A request that was checked and filled in, before anything is computed for it.
struct Draft {
    request: ResolvedRequest,
    scheduler: Box<dyn Scheduler>,
    /// The prompt, and what to keep away from where guidance needs it; no words are zeros.
    texts: Vec<Words>,
}

/// Canvases of one forward pass, by their places.
struct Group {
    size: Vec<i64>,
    shallow: bool,
    wrap: Wrap,
    canvases: Vec<usize>,
}

/// What decoding leaves on the CPU, once the device has come to its end.
struct Drawn {
    latents_are_finite: Tensor,
    pictures_are_finite: Tensor,
    /// `[b, h, w, 3]` of 8 bits.
    pixels: Tensor,
}

/// While it lives, this thread computes on a model's device, and keeps nothing for gradients.
struct Turn {
    _mode: InferenceMode,
    _stream: OnStream,
}

impl Turn {
    fn begin(device: Device) -> Result<Turn, Error> {
        let stream = OnStream::enter(device).map_err(|error| failed(error, device, "taking turns"))?;
        Ok(Turn { _mode: InferenceMode::enter(), _stream: stream })
    }
}

impl Sdxl {
    /// Reads the weights, tensor by tensor, onto the device.
    ///
    /// # Errors
    /// [`Error::Device`]; [`Error::Model`] for a file that is missing, truncated or not what its
    /// config says; [`Error::OutOfMemory`].
    ///
    /// The files are mapped, and each tensor is copied to the device and converted there.
    pub fn load(model: &Model, options: &Options) -> Result<Sdxl, Error> {
        Sdxl::load_and_tell(model, options, &mut |_| ())
    }

    /// Loads as [`load`](Sdxl::load) does, and reports after each tensor the bytes of weights on
    /// the device so far.
    ///
    /// # Errors
    /// Those of [`load`](Sdxl::load).
    pub fn load_and_tell(
        model: &Model,
        options: &Options,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<Sdxl, Error> {
        Sdxl::load_merged(model, options, &[], on_bytes)
    }

    /// Loads as [`load_and_tell`](Sdxl::load_and_tell) does, with weights that `loras` change. The
    /// changes are computed in `f32` from the weights in the files.
    ///
    /// # Errors
    /// Those of [`load`](Sdxl::load), and [`Error::Model`] for a LoRA that is for another model.
    pub fn load_merged(
        model: &Model,
        options: &Options,
        loras: &[LoraUse],
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<Sdxl, Error> {
        let set = LoraSet::open(model, loras, options)?;
        for (lora, names) in &set.unknown {
            let first = names.first().map_or("", |name| name);
            tracing::warn!(
                lora,
                modules = names.len(),
                first,
                "the LoRA changes modules that the model does not have; they are passed over"
            );
        }
        Sdxl::build(model, options, Some(&set), on_bytes)
    }

    /// Builds a model with weights drawn at random in place of a checkpoint's, of which nothing is
    /// read but the tokenizers: for measurements.
    ///
    /// # Errors
    /// Those of [`load`](Sdxl::load).
    pub fn random(model: &Model, options: &Options, seed: u64) -> Result<Sdxl, Error> {
        // Also where there is no GPU yet: each device's generator takes the last seed that was set.
        options.device.resolve()?;
        tch::manual_seed(seed as i64);
        Sdxl::build(model, options, None, &mut |_| ())
    }

    /// Builds a model from its files as `loras` change them, or without files from random weights.
    fn build(
        model: &Model,
        options: &Options,
        loras: Option<&LoraSet>,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<Sdxl, Error> {
        let device = options.device.resolve()?;
        let dtype = options.dtype(device);
        let vae_dtype = options.dtype_of(Component::Vae, model, device);
        let _turn = Turn::begin(device)?;
        let kernels = match options.mode_on(device) {
            Some(mode) => Kernels::load(device, dtype, mode)
                .inspect_err(|reason| {
                    tracing::warn!(%device, "all is computed by libtorch's kernels, as ours cannot be loaded: {reason}");
                })
                .ok(),
            None => None,
        };
        let told = RefCell::new((0, on_bytes));
        let on_bytes = |bytes: u64| {
            let (done, on_bytes) = &mut *told.borrow_mut();
            *done += bytes;
            on_bytes(*done);
        };
        let weights = |component, dtype| -> Result<Weights, Error> {
            // The VAE may be in another precision.
            let kernels = kernels.clone().filter(|kernels| kernels.dtype() == dtype);
            let weights = match loras {
                None => Weights::random(device, dtype, &on_bytes),
                Some(loras) => {
                    let files = model.weights(component, dtype == Dtype::F16)?;
                    Weights::new(files, device, dtype, &on_bytes).with_loras(loras, component)
                }
            };
            Ok(weights.with_kernels(kernels))
        };
        let tokenizer = |folder, positions, vocab_size| match model.tokenizer_folder(folder) {
            Some(folder) => Tokenizer::open(&folder, positions, vocab_size),
            None => Tokenizer::clip(folder == "tokenizer_2", positions, vocab_size, &model.path),
        };
        let text_encoder = |component, config, projects| -> Result<TextEncoder, Error> {
            let weights = weights(component, dtype)?;
            let text_encoder = TextEncoder::load(&weights, config, projects)?;
            weights.finish().map(|()| text_encoder)
        };

        let mut tokenizers = [
            tokenizer(
                "tokenizer",
                model.text_encoder.max_position_embeddings,
                model.text_encoder.vocab_size,
            )?,
            tokenizer(
                "tokenizer_2",
                model.text_encoder_2.max_position_embeddings,
                model.text_encoder_2.vocab_size,
            )?,
        ];
        if loras.is_none() {
            // They are another model's, whose texts may be shorter.
            tokenizers.iter_mut().for_each(|one| one.lengthen(model.text_encoder.max_position_embeddings));
        }
        let text_encoders = [
            text_encoder(Component::TextEncoder, &model.text_encoder, false)?,
            text_encoder(Component::TextEncoder2, &model.text_encoder_2, true)?,
        ];
        let unet_weights = weights(Component::UNet, dtype)?;
        let unet = UNet::load(unet_weights.root(), &model.unet)?;
        unet_weights.finish()?;
        let vae_weights = weights(Component::Vae, vae_dtype)?;
        let vae = Vae::load(vae_weights.root(), &model.vae, options.vae_tiling)?;
        vae_weights.finish()?;
        let mut nets = vec![];
        for (name, control) in model.controls() {
            // Kernels of 8-bit floats round by what a UNet's norms make, which is not tested for
            // control nets.
            let kernels = kernels.clone().filter(|kernels| !kernels.is_fp8());
            let weights = Weights::new(control.weights()?, device, dtype, &on_bytes).with_kernels(kernels);
            nets.push((name.clone(), ControlNet::load(weights.root(), &control.config)?));
            weights.finish()?;
        }

        let prompts = Prompts::new(device, tokenizers, text_encoders, Inversions::of(model));
        Ok(Sdxl {
            passes: Passes::new(device, kernels),
            behind: None,
            device,
            dtype,
            vae_dtype,
            vae_slicing: options.vae_slicing,
            model: {
                let mut model = model.clone();
                model.scheduler = options.scheduler(&model.scheduler);
                model
            },
            prompts,
            unet,
            vae,
            controls: Controls::new(nets),
            preview: None,
            next_id: 0,
        })
    }

    /// Returns the device that the model runs on.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Multiplications and additions of the UNet in the last step, for all canvases of one size
    /// together.
    /// Divided by the step's time it is comparable to [`matrix_rate`](super::matrix_rate).
    pub fn step_flops(&self) -> u64 {
        self.passes.flops()
    }

    /// The precision it runs in.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// A picture as latents: the VAE's mean, scaled as schedulers expect it.
    ///
    /// # Errors
    /// [`Error::Request`] for a size that the VAE cannot do; [`Error::OutOfMemory`].
    ///
    /// Pixels become `value / 127.5 - 1`. The latents have the shape `[4, height / 8, width / 8]`
    /// for SDXL's VAE, and are multiplied by its `scaling_factor`.
    pub fn encode_image(&self, image: &RgbImage) -> Result<Latents, Error> {
        let (width, height) = image.dimensions();
        ImageSize { width, height }.validate(self.model.vae.scale_factor())?;
        let _turn = Turn::begin(self.device)?;
        let encode = || -> TorchResult<Latents> {
            let pixels = Tensor::f_from_slice(image.as_raw())?
                .f_view([1, i64::from(height), i64::from(width), 3])?
                .f_permute([0, 3, 1, 2])?
                .f_to_device(self.device.tch())?
                .f_to_kind(self.vae_dtype.kind())?;
            Latents::read(&self.vae.encode_scaled(&pixels.f_div_scalar(127.5)?.f_sub_scalar(1.0)?)?)
        };
        encode().map_err(|error| failed(error, self.device, "encoding a picture"))
    }

    /// Latents as schedulers leave them, as a picture.
    ///
    /// # Errors
    /// [`Error::NotFinite`]; [`Error::OutOfMemory`].
    ///
    /// It is the inverse of [`encode_image`](Self::encode_image), up to what the VAE loses.
    pub fn decode_latents(&self, latents: &Latents) -> Result<RgbImage, Error> {
        let _turn = Turn::begin(self.device)?;
        let [channels, height, width] = latents.shape.map(|side| side as i64);
        let place = || {
            Tensor::f_from_slice(&latents.values)?
                .f_view([1, channels, height, width])?
                .f_to_device(self.device.tch())?
                .f_to_kind(self.dtype.kind())
        };
        let placed = place().map_err(|error| failed(error, self.device, "decoding"))?;
        Ok(self.decode(&[(placed, Wrap::default())])?.wait()?.remove(0))
    }

    /// Each `[b, channels, h, w]` in the model's dtype, with the edges that meet → the pictures of
    /// all, in order.
    ///
    /// Nothing waits for the device here: it may be given more to do before the pictures are asked
    /// for.
    fn decode(&self, latents: &[(Tensor, Wrap)]) -> Result<Decoding, Error> {
        let Sdxl { device, dtype, vae_dtype, .. } = *self;
        let refused = move |error| failed(error, device, "decoding");
        let are_finite = |tensor: &Tensor| fetch(&tensor.f_isfinite()?.f_all()?);
        let draw = |(latents, wrap): &(Tensor, Wrap)| -> TorchResult<Drawn> {
            let scaled = latents.f_to_kind(vae_dtype.kind())?;
            let pictures = edges::within(*wrap, || self.vae.decode_scaled(&scaled))?;
            Ok(Drawn {
                latents_are_finite: are_finite(latents)?,
                pictures_are_finite: are_finite(&pictures)?,
                pixels: fetch(&pixels(&pictures)?)?,
            })
        };
        let drawn = latents.iter().map(draw).collect::<TorchResult<Vec<_>>>().map_err(refused)?;
        let end = Event::record(device).map_err(refused)?;
        Ok(Decoding::new(move || {
            let _mode = InferenceMode::enter();
            end.map_or(Ok(()), |end| end.synchronize()).map_err(refused)?;
            let mut pictures = vec![];
            for Drawn { latents_are_finite, pictures_are_finite, pixels } in drawn {
                for (are_finite, what, dtype) in [
                    (latents_are_finite, "the latents", dtype),
                    (pictures_are_finite, "the decoded picture", vae_dtype),
                ] {
                    if are_finite.f_int64_value(&[]).map_err(refused)? == 0 {
                        return Err(Error::NotFinite { what, dtype: dtype.as_str() });
                    }
                }
                pictures.extend(images(&pixels).map_err(refused)?);
            }
            Ok(pictures)
        }))
    }

    /// The schedule of a request, and the texts that it conditions on.
    fn draft(&self, request: &ResolvedRequest) -> Result<Draft, Error> {
        if !request.wrap.is_none() && self.passes.are_fp8() {
            let field = if request.wrap.x { "tile_x" } else { "tile_y" };
            return Err(RequestError::Wrap { field }.into());
        }
        let mut schedule = self.model.scheduler.clone();
        if request.scheduler != schedule.name() {
            schedule = schedule.with_name(request.scheduler);
        }
        schedule.timestep_spacing = request.timestep_spacing.or(schedule.timestep_spacing);
        schedule.eta = request.eta;
        let steps = request.schedule();
        let scheduler = match request.strength {
            Some(strength) => schedule.build_from(&steps, strength)?,
            None => schedule.build_for(&steps)?,
        };
        let texts = Words::of(request, &self.model);
        Ok(Draft { request: request.clone(), scheduler, texts })
    }

    /// A canvas whose texts have been read.
    fn canvas(&self, draft: Draft, id: u64) -> Result<SdxlCanvas, Error> {
        let Draft { request, scheduler, texts } = draft;
        let (device, kind) = (self.device.tch(), self.dtype.kind());

        // 1. text, and the times and sizes that condition it
        let timesteps: Vec<f32> = scheduler.timesteps().iter().map(|timestep| *timestep as f32).collect();
        let nets = self.controls.of(&request)?;
        let row = |words| -> TorchResult<Row> {
            let text = self.prompts.text(words);
            let timesteps = place(&Tensor::f_from_slice(&timesteps)?, device)?;
            let time_ids = Tensor::f_from_slice(&time_ids(&request))?.f_unsqueeze(0)?.f_to_kind(kind)?;
            let time_ids = place(&time_ids, device)?;
            let added = self.unet.embed_added(&text.pooled, &time_ids)?;
            let of_controls = nets.iter().map(|(i, net)| {
                let text_of_net = text.of_controls.get(*i).map(Tensor::shallow_clone);
                let time = net.embed_time(&timesteps, &text.pooled, &time_ids)?;
                Ok(ControlRow { text: text_of_net, time })
            });
            let of_controls = of_controls.collect::<TorchResult<Vec<_>>>()?;
            let width = self.model.unet.time_cond_proj_dim;
            let guidance = width
                .map(|width| guidance_embedding(request.guidance_scale, width, device)?.f_to_kind(kind))
                .transpose()?;
            Ok(Row {
                text: text.keys_values.as_ref().map(Tensor::shallow_clone),
                tokens: text.tokens,
                time: self.unet.embed_time(&timesteps, &added, guidance.as_ref())?,
                of_controls,
            })
        };
        let rows: TorchResult<Vec<Row>> = texts.iter().map(row).collect();
        let mut rows = rows.map_err(|error| failed(error, self.device, "encoding the prompt"))?.into_iter();
        let positive = rows.next().expect("a draft has a prompt");
        let dropped: Vec<&str> =
            texts.iter().filter_map(|words| self.prompts.text(words).dropped_words.as_deref()).collect();

        // 2. noise, and the image to begin from
        let mut generator = Generator::new(request.seed);
        let ImageSize { width, height } = request.size;
        let scale = self.model.vae.scale_factor();
        let channels = self.model.vae.latent_channels;
        let shape = [1, channels, i64::from(height / scale), i64::from(width / scale)];
        let takes_mask = self.model.defaults().needs_mask;
        let prepared = request.prepared(self.model.generation.matte);
        let mut draw = || -> TorchResult<Begun> {
            if let Some((prepared, strength)) = prepared.as_ref().zip(request.strength) {
                let vae_kind = self.vae_dtype.kind();
                let onto =
                    Onto { vae: &self.vae, vae_kind, kind, device, scale, wrap: request.wrap, takes_mask };
                return onto.begin(prepared, strength, &*scheduler, &mut generator);
            }
            let noise = place(&generator.randn(&shape, kind)?, device)?;
            Ok(Begun { latents: noise.f_mul_scalar(scheduler.initial_sigma())?, kept: None, masked: None })
        };
        let Begun { latents, kept, masked } =
            draw().map_err(|error| failed(error, self.device, "drawing the noise"))?;

        // 3. the images that control nets follow
        let followed = self
            .controls
            .followed(&request, kind, device)
            .map_err(|error| failed(error, self.device, "reading the image of a control"))?;

        Ok(SdxlCanvas {
            id,
            dropped_words: (!dropped.is_empty()).then(|| dropped.join(" ")),
            request,
            device: self.device,
            scheduler,
            positive,
            negative: rows.next(),
            generator,
            noise: None,
            kept,
            masked,
            followed,
            state: State {
                latents,
                previous: [None, None, None],
                anchor: None,
                steps_done: 0,
                deep: [None, None],
            },
        })
    }
}
