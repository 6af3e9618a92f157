//! A model of one's own in the engine: everything but the painting (queue, batching, budget,
//! journal, sprites) is given.
//!
//! This one paints plasma, a little sharper with each step.
//!
//! `cargo run --release --example custom_backend`

use dgx_pixels_core::backend::{Backend, Canvas, Decoding};
use dgx_pixels_core::backend::{ModelInfo, Models, Unmetered, Variant};
use dgx_pixels_core::engine::{Engine, EngineConfig};
use dgx_pixels_core::scheduler::SchedulerName;
use dgx_pixels_core::{
    DEFAULT_GUIDANCE, DEFAULT_STEPS, Error, GenerateRequest, ImageSize, ModelDefaults, ResolvedRequest,
    Submission,
};
use image::{Rgb, RgbImage, imageops};

const SIDE: ImageSize = ImageSize { width: 256, height: 256 };
const CELL_PX: u32 = 8;

struct Plasma;

struct PlasmaCanvas {
    request: ResolvedRequest,
    steps_done: usize,
}

impl Canvas for PlasmaCanvas {
    fn request(&self) -> &ResolvedRequest {
        &self.request
    }

    fn steps_done(&self) -> usize {
        self.steps_done
    }
}

impl Backend for Plasma {
    type Canvas = PlasmaCanvas;

    fn defaults(&self) -> ModelDefaults {
        ModelDefaults {
            size: SIDE,
            largest: SIDE,
            multiple: CELL_PX,
            steps: DEFAULT_STEPS,
            guidance_scale: DEFAULT_GUIDANCE,
            scheduler: SchedulerName::Euler,
            is_distilled: false,
            matte: None,
            needs_mask: false,
        }
    }

    fn begin(&mut self, requests: &[ResolvedRequest]) -> Result<Vec<PlasmaCanvas>, Error> {
        Ok(requests.iter().map(|request| PlasmaCanvas { request: request.clone(), steps_done: 0 }).collect())
    }

    fn step(&mut self, canvases: &mut [&mut PlasmaCanvas]) -> Result<(), Error> {
        for canvas in canvases {
            canvas.steps_done = canvas.steps().min(canvas.steps_done + 1);
        }
        Ok(())
    }

    fn finish(&mut self, canvases: &[&PlasmaCanvas]) -> Result<Decoding, Error> {
        Ok(canvases.iter().map(|canvas| paint(canvas)).collect::<Vec<_>>().into())
    }

    fn preview(&mut self, canvas: &PlasmaCanvas) -> Result<RgbImage, Error> {
        let small = (SIDE.width / CELL_PX, SIDE.height / CELL_PX);
        Ok(imageops::resize(&paint(canvas), small.0, small.1, imageops::FilterType::Nearest))
    }
}

fn paint(canvas: &PlasmaCanvas) -> RgbImage {
    let ImageSize { width, height } = canvas.request.size;
    let phase = canvas.request.seed as f32;
    let levels = 1.0 + canvas.steps_done as f32 / 8.0;
    RgbImage::from_fn(width, height, |x, y| {
        let (x, y) = ((x / CELL_PX) as f32, (y / CELL_PX) as f32);
        let wave = ((x * 0.37 + phase).sin() + (y * 0.29 - phase).cos() + ((x + y) * 0.21).sin()) / 3.0;
        let level = (wave * levels).round() / levels;
        Rgb([(127.0 + 120.0 * level) as u8, (90.0 - 80.0 * level) as u8, (160.0 + 60.0 * level) as u8])
    })
}

/// The only model there is, under any name.
impl Models for Plasma {
    type Backend = Plasma;

    fn describe(&self, model: Option<&str>, _device: &str) -> Result<ModelInfo, Error> {
        Ok(ModelInfo {
            name: model.unwrap_or("plasma").into(),
            architecture: "plasma".into(),
            dtype: "f32".into(),
            weight_bytes: 0,
            defaults: Plasma.defaults(),
            vae_tiling: false,
            mode: None,
            libtorch: None,
            licence: None,
            variant: Variant::default(),
        })
    }

    fn load(&self, _: &str, _: &str, _: &mut dyn FnMut(u64)) -> Result<Plasma, Error> {
        Ok(Plasma)
    }

    fn hash(&self, _: &str) -> Result<Option<String>, Error> {
        Ok(None)
    }
}

fn main() -> Result<(), Error> {
    let engine = Engine::start(Plasma, vec![Box::new(Unmetered("cpu".into()))], EngineConfig::default())?;
    let jobs = (0..4).map(|seed| engine.submit(GenerateRequest { seed, ..Default::default() }.into()));
    for job in jobs.collect::<Result<Vec<_>, _>>()? {
        let output = std::env::temp_dir().join(format!("plasma-{}.png", job.submission().request.seed));
        let finished = job.wait()?;
        let size = finished.image.dimensions();
        // The same again, as a file.
        let again = Submission { output: Some(output.clone()), force: true, ..job.submission().clone() };
        engine.submit(again)?.wait()?;
        println!("{} {size:?}", output.display());
    }
    Ok(())
}
