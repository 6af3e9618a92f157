//! `dgx-pixels reproduce`: a picture that `generate` wrote is made again, and compared.

use std::path::PathBuf;

use dgx_pixels_core::backend::Models as _;
use dgx_pixels_core::device::Mode;
use dgx_pixels_core::engine::{EngineConfig, Shutdown};
use dgx_pixels_core::files::{MAX_PICTURE_BYTES, read_regular};
use dgx_pixels_core::input_image::{self, KeptImages};
use dgx_pixels_core::local::{LocalModel, LocalModels};
use dgx_pixels_core::model::Options;
use dgx_pixels_core::model::parts::Parts;
use dgx_pixels_core::picture_file::Made;
use dgx_pixels_core::{Cause, ValueError};
use dgx_pixels_core::{GenerateRequest, LoraChoice, SourceImage, Submission};
use serde_json::json;

use crate::failure::Failure;
use crate::follow::{follow, png};
use crate::output::{self, Destination};
use crate::{drawing, interrupt, picture};

/// The text that `--help` prints after the flags.
pub(crate) const NOTES: &str = "\
Standard output says `same`, or with --json {\"input\",\"same\":true}. A different image is a
failure that names the change:
the model's files, the program, or libtorch. If none of them has changed, another kind of CPU or
GPU may round differently.";

/// Make an image again from its own record, and compare all bytes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A PNG file that `generate` wrote.
    #[arg(value_name = "FILE")]
    input: PathBuf,

    /// Name or folder of the model. Default: the model folder of the name that the image records. A
    /// path in the image is never opened.
    #[arg(short, long, value_name = "PATH|NAME")]
    model: Option<String>,

    /// The model that supplies what a single file lacks, as it was given when the image was drawn.
    #[arg(long, value_name = "PATH|NAME")]
    base: Option<String>,

    /// The path of a LoRA that is in no model folder. Several may be given. A LoRA is known by the
    /// hash that the image records.
    #[arg(long, value_name = "PATH")]
    lora: Vec<PathBuf>,

    /// The path of a VAE that is in no model folder. It is known by the hash that the image
    /// records.
    #[arg(long, value_name = "PATH")]
    vae: Option<PathBuf>,

    /// The path of a control net that is in no model folder. Several may be given. It is known by
    /// the hash that the image records.
    #[arg(long, value_name = "PATH")]
    control: Vec<PathBuf>,

    /// The path of an image that the drawing began from or followed, or of its mask, if it was
    /// drawn on another machine. Several may be given. An image is known by the hash that the
    /// record has.
    #[arg(long, value_name = "PATH")]
    image: Vec<PathBuf>,

    /// Write the new image to this file that ends in `.png`. With `-` it is the only output on
    /// standard output.
    #[arg(short, long, value_name = "PATH|-")]
    output: Option<PathBuf>,

    /// Replace a file that exists.
    #[arg(long, requires = "output")]
    force: bool,

    /// Print one JSON line.
    #[arg(long)]
    pub(crate) json: bool,

    /// Nothing on standard error but warnings and errors.
    #[arg(short, long)]
    quiet: bool,
}

/// Draws it as it says it was drawn.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let bytes =
        read_regular(&args.input, MAX_PICTURE_BYTES).map_err(|error| Failure::input(&args.input, error))?;
    let before = output::read_made(&args.input, &bytes)?;
    let destination = args.output.as_deref().map(output::single).transpose()?;
    match destination {
        Some(Destination::File(path)) => output::check(Some(path), &[path.to_owned()], &[], args.force)?,
        Some(stdout) => stdout.refuse_beside_stdout(&[("--json", args.json), ("--force", args.force)])?,
        None => {}
    }
    interrupt::listen();
    let (after, again) = draw(args, &before)?;
    match destination {
        Some(Destination::File(path)) => output::write(path, &again, args.force)?,
        Some(_) => output::say_bytes(&again)?,
        None => {}
    }
    if again == bytes {
        return match destination {
            _ if args.json => output::say_json(&json!({ "input": args.input, "same": true })),
            Some(Destination::Stdout) => Ok(()),
            _ => output::say(&"same"),
        };
    }
    let differ =
        match (picture::decode(&args.input, &bytes, true)?, picture::decode(&args.input, &again, true)?) {
            (was, is) if was.dimensions() != is.dimensions() => {
                let size = |(width, height)| format!("{width}x{height}");
                format!("it is {} now, and was {}", size(is.dimensions()), size(was.dimensions()))
            }
            (was, is) => match was.pixels().zip(is.pixels()).filter(|(was, is)| was != is).count() {
                0 => "its pixels are the same, and the bytes around them are not".into(),
                count => format!("{count} of {} pixels differ", was.pixels().len()),
            },
        };
    let changed = changes(&before, &after);
    let since = if changed.is_empty() { "nothing that is told".into() } else { changed.join("; ") };
    Err(Failure::Changed(format!(
        "`{}` is not the same: {differ}; changed since: {since}",
        args.input.display()
    )))
}

/// Draws the image again, and returns the new record and the file.
fn draw(args: &Args, before: &Made) -> Result<(Made, Vec<u8>), Failure> {
    let models = match (&args.model, &args.base) {
        (wanted, Some(base)) => LocalModels::open_on(Some(wanted.as_deref().unwrap_or(&before.model)), base)?,
        (Some(wanted), None) => LocalModels::open(Some(wanted))?,
        (None, None) => LocalModels::recorded(&before.model)?,
    };
    let models = models.with_files_of_requests();
    output::warn(models.notes());
    let chosen = models.default_model().clone();
    let models = models.with(options(args, before, &chosen)?)?.owning_process()?;
    let hash = models.hash(&chosen.name)?;
    if hash != before.model_hash {
        let word = |hash: &Option<String>| hash.clone().unwrap_or_else(|| "none".into());
        output::note(format_args!(
            "warning: the model `{}` is not the one that drew `{}`: its hash is {}, and the image records {}",
            chosen.name,
            args.input.display(),
            word(&hash),
            word(&before.model_hash),
        ));
    }
    let engine = models.start(EngineConfig::default())?;
    let mut request = GenerateRequest::from(before.request.clone());
    fill_images(args, &mut request)?;
    for (lora, hash) in request.lora.iter_mut().zip(&before.lora_hashes) {
        lora.name = lora_file(args, models.parts(), &lora.name, hash)?;
    }
    if let (Some(vae), Some(hash)) = (&mut request.vae, &before.vae_hash) {
        *vae = vae_file(args, models.parts(), vae, hash)?;
    }
    for (control, hash) in request.control.iter_mut().zip(&before.control_hashes) {
        control.model = control_file(args, models.parts(), &control.model, hash)?;
    }
    let submission = Submission { pixel: before.pixel.clone(), ..request.into() };
    let finished = follow(&engine.submit(submission)?, args.quiet);
    engine.shutdown(Shutdown::NextStep);
    let finished = finished?;
    // The same model at another place, or with a word on its terms, is no other model.
    let (model, licence) = (before.model.clone(), before.licence.clone());
    // The sketch is computed on no device; a server that also has other models records theirs.
    let device = if chosen.is_sketch() { &before.device } else { &finished.made.device };
    let mut made = Made { model, licence, device: device.clone(), ..finished.made.clone() };
    // A file may have another name now; its hash says that it is the same.
    made.request.lora.clone_from(&before.request.lora);
    made.request.vae.clone_from(&before.request.vae);
    made.request.control.clone_from(&before.request.control);
    let bytes = png(&finished, &made)?;
    Ok((made, bytes))
}

/// Finds the images that the drawing began from or followed: those that were given, and those that
/// `generate` kept. The engine names one that is in neither.
fn fill_images(args: &Args, request: &mut GenerateRequest) -> Result<(), Failure> {
    for path in &args.image {
        let given = input_image::read(path).map_err(|error| Failure::input(path, Cause::from(error)))?;
        let given = SourceImage::new(given.pixels);
        for wanted in request.images_mut() {
            if *wanted == given {
                *wanted = given.clone();
            }
        }
    }
    if let Some(kept) = drawing::inputs().map(KeptImages::new) {
        kept.fill(request);
    }
    Ok(())
}

/// The path of the LoRA with this hash: of the files that were given, or in the model folders. A
/// path in the image is never opened.
fn lora_file(args: &Args, parts: &Parts, name: &str, hash: &str) -> Result<String, Failure> {
    for path in &args.lora {
        let given = LoraChoice { name: path.display().to_string(), weight: 1.0, text_weight: None };
        if parts.lora(&given)?.hash == hash {
            return Ok(given.name);
        }
    }
    Ok(parts.lora_with_hash(name, hash)?.display().to_string())
}

/// The path of the VAE with this hash, as [`lora_file`] finds a LoRA.
fn vae_file(args: &Args, parts: &Parts, name: &str, hash: &str) -> Result<String, Failure> {
    if let Some(path) = &args.vae {
        let given = path.display().to_string();
        if parts.vae(&given)?.hash == hash {
            return Ok(given);
        }
    }
    Ok(parts.vae_with_hash(name, hash)?.display().to_string())
}

/// The path of the control net with this hash, as [`lora_file`] finds a LoRA.
fn control_file(args: &Args, parts: &Parts, name: &str, hash: &str) -> Result<String, Failure> {
    for path in &args.control {
        let given = path.display().to_string();
        if parts.control(&given)?.hash == hash {
            return Ok(given);
        }
    }
    Ok(parts.control_with_hash(name, hash)?.display().to_string())
}

/// The options of the engine that drew it before.
fn options(args: &Args, before: &Made, model: &LocalModel) -> Result<Options, Failure> {
    if model.is_sketch() {
        return Ok(Options::default());
    }
    let unknown = |error: ValueError| Failure::input(&args.input, Cause::from(error));
    Ok(Options {
        dtype: Some(before.dtype.parse().map_err(unknown)?),
        device: before.device.parse().map_err(unknown)?,
        // Pictures from before there were modes were drawn as `exact` draws.
        mode: match &before.mode {
            Some(mode) => mode.parse().map_err(unknown)?,
            None => Mode::Exact,
        },
        vae_tiling: before.vae_tiling,
        prediction_type: before.prediction_type,
        zero_snr: before.zero_snr,
        // What was passed over then is passed over again.
        lenient: true,
        ..Default::default()
    })
}

/// The facts that differ from the record, for example `libtorch 2.10.0 to 2.11.0`.
fn changes(before: &Made, after: &Made) -> Vec<String> {
    let none = || "none".to_owned();
    let told = |made: &Made| {
        [
            ("model_hash", made.model_hash.clone().unwrap_or_else(none)),
            ("dtype", made.dtype.clone()),
            ("device", made.device.clone()),
            ("program", made.program.clone()),
            ("libtorch", made.libtorch.clone().unwrap_or_else(none)),
        ]
    };
    let both = told(before).into_iter().zip(told(after));
    let facts =
        both.filter(|(was, is)| was != is).map(|((name, was), (_, is))| format!("{name} {was} to {is}"));
    let vectors = before.inversions.iter().filter(|was| !after.inversions.contains(was)).map(|was| {
        let is = after.inversions.iter().find(|is| is.name == was.name).map_or("none", |is| &is.hash);
        format!("embedding:{} {} to {is}", was.name, was.hash)
    });
    facts.chain(vectors).collect()
}
