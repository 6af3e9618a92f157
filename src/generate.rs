//! `dgx-pixels generate`: a prompt goes in, pictures and one line for each come out.

use std::collections::VecDeque;
use std::path::PathBuf;

use dgx_pixels_core::engine::{EngineConfig, Shutdown};
use dgx_pixels_core::fields::SpriteFields;
use dgx_pixels_core::job::{Finished, Job};
use dgx_pixels_core::picture_file::sidecar;
use dgx_pixels_core::pixel::{Certificate, Verdict};
use dgx_pixels_core::scheduler::SchedulerName;
use dgx_pixels_core::{Error, Submission};
use serde::Serialize;

use crate::drawing::{self, Drawing};
use crate::failure::Failure;
use crate::follow::{follow, png, redrawn};
use crate::interrupt;
use crate::output::{self, Destination, TimingsMs};
use crate::terminal;

/// The most images of one call, and of one line of a batch.
pub(crate) const MAX_COUNT: u64 = 10_000;

/// The text that `--help` prints after the flags.
pub(crate) const NOTES: &str = "\
Standard output holds the path of each sprite, or with --json one line for each:
  {\"path\",\"prompt\",\"seed\",\"width\",\"height\",\"steps\",\"guidance_scale\",\"scheduler\",\"model\",
   \"model_hash\",\"dtype\",\"device\",\"verdict\":\"grid\"|\"no_grid\",\"certificate\":{...},
   \"timings_ms\":{\"waiting\",\"begin\",\"denoise\",\"finish\",\"pixel\",\"total\"}}
Width and height are the sprite's. Its certificate is also written beside it, as `NAME.json`.
Other messages go to standard error. With `--output -` standard output holds the PNG file itself,
and there is no certificate.

With `--size` the model draws a canvas that fits: 8 pixels for each pixel of the sprite, or about
the model's own area if the model is made for large images. A sprite that is larger than the
model's own size gets transparent room around it. If `--width` and `--height` do not fit `--size`,
nothing is drawn.

Ctrl-C stops between two steps. Sprites that were finished before stay.";

/// Draw sprites from a prompt.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(help = SpriteFields::help("prompt"))]
    prompt: String,

    #[command(flatten)]
    drawing: Drawing,

    /// A file that ends in `.png` (for several images the seed is added to its name), a folder,
    /// made if absent, or `-` for standard output. Default: the current folder, named from prompt
    /// and seed.
    #[arg(short, long, value_name = "PATH|DIR|-")]
    output: Option<PathBuf>,

    /// Replace files that exist. Folders, links and another program's `NAME.json` stay.
    #[arg(long)]
    force: bool,

    /// Print one JSON line for each sprite, see below.
    #[arg(long)]
    pub(crate) json: bool,

    /// Nothing on standard error but warnings and errors.
    #[arg(short, long)]
    quiet: bool,
}

/// Checks all that can be checked, and draws.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let submissions = args.submissions()?;
    let paths = args.paths(&submissions)?;

    let models = args.drawing.models()?;
    output::warn(models.notes());
    let model = models.default_model().clone();
    submissions[0].resolve(&model.defaults)?;
    interrupt::listen();
    let config =
        EngineConfig { queue_capacity: submissions.len(), inputs: drawing::inputs(), ..Default::default() };
    let engine = models.with(args.drawing.torch.options(&model)?)?.owning_process()?.start(config)?;
    if !args.quiet {
        output::note(format_args!("drawing with {}", model.name));
    }
    let jobs = submissions.into_iter().zip(paths);
    let jobs = jobs.map(|(submission, output)| Submission { output, force: args.force, ..submission });
    let jobs = engine.submit_all(jobs);
    let mut jobs = jobs.into_iter().collect::<Result<VecDeque<_>, Error>>()?;

    let mut teller = Teller { args, told_words: false };
    let ended = teller.tell_all(&mut jobs);
    engine.shutdown(Shutdown::NextStep);
    // Some may have been finished beside the one that was waited for.
    jobs.iter().filter_map(|job| job.result()?.ok()).try_for_each(|finished| teller.tell(&finished))?;
    ended
}

impl Args {
    /// The file of each request, none for standard output, after checking that all can be written.
    fn paths(&self, submissions: &[Submission]) -> Result<Vec<Option<PathBuf>>, Failure> {
        let output = self.output.as_deref();
        let destination = output.map(Destination::of).transpose()?;
        if let Some(destination @ Destination::Stdout) = destination {
            let flags = [("--count", submissions.len() > 1), ("--json", self.json), ("--force", self.force)];
            destination.refuse_beside_stdout(&flags)?;
            return Ok(vec![None]);
        }
        let seeds: Vec<_> = submissions.iter().map(|submission| submission.request.seed).collect();
        let paths = output::paths(output, &self.prompt, &seeds);
        let sidecars: Vec<_> = paths.iter().filter(|_| !self.drawing.raw).map(|path| sidecar(path)).collect();
        output::check(output, &paths, &sidecars, self.force)?;
        Ok(paths.into_iter().map(Some).collect())
    }

    /// One valid submission for each image.
    fn submissions(&self) -> Result<Vec<Submission>, Failure> {
        let mut drawing = self.drawing.clone();
        drawing.fields.request.prompt.clone_from(&self.prompt);
        drawing.check()?;
        // 32 bits: exact in every JSON reader, and short enough to type.
        let seeds = drawing.fields.series.seeds(MAX_COUNT, || fastrand::u32(..).into())?;
        let submissions: Vec<_> = seeds.map(|seed| drawing.submission(seed)).collect();
        submissions[0].validate()?;
        Ok(submissions)
    }
}

/// Tells of pictures that are made.
struct Teller<'a> {
    args: &'a Args,
    told_words: bool,
}

impl Teller<'_> {
    /// Prints the results in order. Jobs that it did not reach stay in `jobs`.
    fn tell_all(&mut self, jobs: &mut VecDeque<Job>) -> Result<(), Failure> {
        while let Some(job) = jobs.front() {
            let finished = follow(job, self.args.quiet)?;
            jobs.pop_front();
            self.tell(&finished)?;
        }
        Ok(())
    }

    fn tell(&mut self, finished: &Finished) -> Result<(), Failure> {
        let Finished { image, made, dropped_words, timings, .. } = finished;
        if let Some(words) = dropped_words.as_ref().filter(|_| !self.told_words) {
            output::note(format_args!("warning: past the model's length, these words are dropped: {words}"));
            self.told_words = true;
        }
        if let Some(words) = redrawn(finished) {
            output::note(format_args!("warning: {words}"));
        }
        match &finished.path {
            Some(path) if self.args.json => {
                output::say_json(&Line::new(path.display().to_string(), finished))?;
            }
            Some(path) => output::say_path(path)?,
            None => output::say_bytes(&png(finished, made)?)?,
        }
        if !self.args.quiet {
            if finished.verdict.is_some() {
                terminal::show(image);
            }
            let (seed, steps) = (made.request.seed, made.request.steps);
            let (width, height) = image.dimensions();
            let seconds = (timings.total - timings.waiting).as_secs_f64();
            output::note(format_args!("seed {seed}, {width}x{height}, {steps} steps, {seconds:.1} s"));
        }
        Ok(())
    }
}

/// The line that `--json` prints for an image. Scripts may rely on the order and the names.
#[derive(Serialize)]
struct Line<'a> {
    path: String,
    prompt: &'a str,
    seed: u64,
    width: u32,
    height: u32,
    steps: usize,
    guidance_scale: f64,
    scheduler: SchedulerName,
    model: &'a str,
    model_hash: Option<&'a str>,
    dtype: &'a str,
    device: &'a str,
    verdict: Option<Verdict>,
    certificate: Option<Certificate>,
    timings_ms: TimingsMs,
}

impl<'a> Line<'a> {
    fn new(path: String, finished: &'a Finished) -> Self {
        let made = &finished.made;
        let request = &made.request;
        Line {
            path,
            prompt: &request.prompt,
            seed: request.seed,
            width: finished.image.width(),
            height: finished.image.height(),
            steps: request.steps,
            guidance_scale: request.guidance_scale,
            scheduler: request.scheduler,
            model: &made.model,
            model_hash: made.model_hash.as_deref(),
            dtype: &made.dtype,
            device: &made.device,
            verdict: finished.verdict,
            certificate: finished.certificate,
            timings_ms: finished.timings.into(),
        }
    }
}
