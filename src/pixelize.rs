//! `dgx-pixels pixelize`: pictures of pixel art go in, sprites come out.

use std::collections::HashMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use dgx_pixels_core::fields::check_pixel;
use dgx_pixels_core::picture_file::{is_sprite, says_sprite, sidecar, sprite_png};
use dgx_pixels_core::pixel::{
    Axis, Certificate, Grid, GridChoice, MAX_COLORS, MaxColors, Palette, PixelError, PixelOptions, Pixelized,
    Verdict, is_empty, is_lost, nearest_upscale, pixelize,
};
use dgx_pixels_core::{Error, ImageSize};
use image::RgbaImage;
use rayon::prelude::*;
use serde::Serialize;

use crate::failure::{Failure, one_line};
use crate::output::Destination;
use crate::picture;
use crate::progress::Bar;
use crate::{interrupt, output};

/// What `--help` says after the flags.
pub(crate) const NOTES: &str = "\
Beside each sprite `NAME.json` is written, its certificate; where it is not sure which grid is right, also
`NAME.candidates.png`, the sprites of the three likeliest. Pixel art at its own size is kept
as it is (verdict `native`); `--grid` reduces it. Where the grid is not sure (verdict `unsure`), `--unsure` says what is
made, and `--grid` decides it. Standard output holds the path of each sprite, or with --json one line a picture:
  {\"input\",\"output\",\"verdict\":\"grid\"|\"native\"|\"no_grid\"|\"unsure\",\"cols\",\"rows\",\"step_x\",\"step_y\",\"phase_x\",\"phase_y\",
   \"edges_x\",\"edges_y\" (of a grid that drifts),\"confidence\",\"others\" (if not sure),\"unsure_background\" (if not sure),\"colors\",\"certificate\":{...},\"timings_ms\":{\"read\",\"find\",\"draw\",\"write\"}}
or {\"input\",\"error\":{\"kind\",\"message\"}} for one that could not be made; all others are, and the exit code is 8.
With `--output -` standard output holds the PNG file itself, and nothing is written beside it.

Numbered files of a folder or a pattern are in the order of their numbers: `walk_2.png` before `walk_10.png`.";

/// Turn pictures of pixel art into sprites: one pixel for each cell.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Images (PNG, JPEG, WebP, GIF, BMP), folders of them, patterns, for example `'art/*.png'`, or `-` for standard input.
    #[arg(required = true)]
    input: Vec<PathBuf>,

    /// A file that ends in `.png`, for one input; a folder, made if absent; or `-`, for one input, to write the PNG file
    /// to standard output.
    #[arg(short, long, value_name = "PATH|DIR|-")]
    output: PathBuf,

    #[command(flatten)]
    options: PixelOptions,

    /// One palette for all pictures: as many colours as `--max-colors` says, of all of them. Takes twice the time.
    #[arg(long, conflicts_with = "palette")]
    shared_palette: bool,

    /// Also write `NAME.preview.png`, N times as large.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=32))]
    preview: Option<u32>,

    /// Also write `NAME.grid.png`: the picture with the grid drawn on it.
    #[arg(long)]
    overlay: bool,

    /// Replace files that exist. Folders, links and another program's `NAME.json` stay.
    #[arg(long)]
    force: bool,

    /// Print one JSON line a picture, see below.
    #[arg(long)]
    pub(crate) json: bool,

    /// Nothing on standard error but warnings and errors.
    #[arg(short, long)]
    quiet: bool,
}

/// The JSON line.
#[derive(Serialize)]
struct Line<'a> {
    input: &'a Path,
    output: &'a Path,
    verdict: Verdict,
    cols: usize,
    rows: usize,
    step_x: f64,
    step_y: f64,
    phase_x: f64,
    phase_y: f64,
    /// Where each column begins and the last one ends, of a grid that drifts.
    #[serde(skip_serializing_if = "Option::is_none")]
    edges_x: Option<Vec<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    edges_y: Option<Vec<usize>>,
    confidence: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    others: Vec<Other>,
    /// The color that may be the background, where that is not sure.
    #[serde(skip_serializing_if = "Option::is_none")]
    unsure_background: Option<String>,
    colors: usize,
    certificate: &'a Certificate,
    timings_ms: Timings,
}

/// What else the grid may be.
#[derive(Serialize)]
struct Other {
    cols: usize,
    rows: usize,
    step_x: f64,
    step_y: f64,
    confidence: f64,
}

#[derive(Serialize)]
struct Timings {
    read: f64,
    find: f64,
    draw: f64,
    write: f64,
}

/// Makes all that can be made, and then says how many could not.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    check_pixel(&args.options, |_| true)?;
    args.options.validate().map_err(PixelError::from).map_err(Error::from)?;
    let mut jobs = plan(args)?;
    for job in jobs.iter_mut().filter(|job| is_stream(&job.input)) {
        job.stdin = Some(picture::read_stdin(&job.input)?);
    }
    let mut options = args.options.clone();
    interrupt::listen();
    if args.shared_palette {
        share_palette(&jobs, &mut options, args.quiet)?;
    }
    let bar = Bar::pictures(args.quiet, jobs.len());
    let lines: Vec<_> = jobs
        .par_iter()
        .map(|job| {
            interrupt::check()?;
            let line = make(job, &options, args);
            bar.advance();
            Ok((job, line))
        })
        .collect::<Result<_, Failure>>()?;
    drop(bar);
    // In the order of the inputs, whichever was done first.
    let mut failed = 0;
    for (job, line) in lines {
        match line {
            Ok(Made::Path) => output::say_path(&job.output)?,
            Ok(Made::Json(line)) => output::say_bytes(format!("{line}\n").as_bytes())?,
            Ok(Made::Png(bytes)) => output::say_bytes(&bytes)?,
            Err(failure) if jobs.len() == 1 => return Err(failure),
            Err(failure) => {
                failed += 1;
                let message = one_line(&failure);
                output::note(format_args!("error: `{}`: {message}", job.input.display()));
                if args.json {
                    let error = serde_json::json!({ "kind": failure.kind().as_str(), "message": message });
                    output::say_json(&serde_json::json!({ "input": job.input, "error": error }))?;
                }
            }
        }
    }
    if failed > 0 { Err(Failure::Some { failed, of: jobs.len() }) } else { Ok(()) }
}

/// Takes the palette of all sprites together, before the sprites themselves are made.
fn share_palette(jobs: &[Job], options: &mut PixelOptions, quiet: bool) -> Result<(), Failure> {
    let most = match options.max_colors {
        MaxColors::AtMost(count) => Some(count.into()),
        MaxColors::Auto | MaxColors::Elbow => None,
        MaxColors::All => Some(MAX_COLORS),
    };
    options.max_colors = MaxColors::All;
    let bar = Bar::pictures(quiet, jobs.len());
    let sprites: Vec<_> = jobs
        .par_iter()
        .map(|job| {
            interrupt::check()?;
            // A picture that cannot be made is told of when it is to be written.
            let picture = job.read(true).ok();
            let made = picture.and_then(|picture| pixelize(&picture, &for_picture(options, job)).ok());
            bar.advance();
            Ok(made.map(|made| made.sprite))
        })
        .collect::<Result<_, Failure>>()?;
    let sprites: Vec<_> = sprites.iter().flatten().collect();
    options.palette = Some(Palette::extract(&sprites, most));
    Ok(())
}

/// One image and where its sprite goes.
struct Job {
    input: PathBuf,
    /// The bytes of standard input, which can be read once.
    stdin: Option<Vec<u8>>,
    /// `-` for standard output.
    output: PathBuf,
}

impl Job {
    fn read(&self, quiet: bool) -> Result<RgbaImage, Failure> {
        match &self.stdin {
            Some(bytes) => picture::decode(&self.input, bytes, quiet),
            None => picture::read(&self.input, quiet),
        }
    }
}

/// What standard output gets for an image.
enum Made {
    Path,
    Json(String),
    Png(Vec<u8>),
}

/// Every input once, in order, with places that differ and that may be written.
fn plan(args: &Args) -> Result<Vec<Job>, Failure> {
    let destination = Destination::of(&args.output)?;
    let flags = [
        ("--json", args.json),
        ("--preview", args.preview.is_some()),
        ("--overlay", args.overlay),
        ("--force", args.force),
    ];
    destination.refuse_beside_stdout(&flags)?;
    let (streams, files): (Vec<_>, Vec<_>) = args.input.iter().cloned().partition(|input| is_stream(input));
    let mut inputs = if files.is_empty() { vec![] } else { picture::expand(&files)? };
    inputs.extend(streams.into_iter().next());
    let is_single = !matches!(destination, Destination::Folder(_));
    if is_single && inputs.len() > 1 {
        let reason = format!("{} images do not go into one file; expected a folder", inputs.len());
        return Err(Failure::output(&args.output, reason));
    }
    let mut jobs: Vec<Job> = vec![];
    let mut taken: HashMap<PathBuf, PathBuf> = HashMap::new();
    for input in inputs {
        let stem = if is_stream(&input) { "stdin".as_ref() } else { input.file_stem().unwrap_or_default() };
        let mut name = stem.to_os_string();
        name.push(".png");
        let output = if is_single { args.output.clone() } else { args.output.join(name) };
        if let Some(other) = taken.insert(output.clone(), input.clone()) {
            let reason = format!("`{}` and `{}` would both become it", other.display(), input.display());
            return Err(Failure::output(output, reason));
        }
        jobs.push(Job { input, stdin: None, output });
    }
    if destination == Destination::Stdout {
        return Ok(jobs);
    }
    let beside = |job: &Job| {
        let preview = args.preview.map(|_| preview_of(&job.output));
        let grid = args.overlay.then(|| grid_of(&job.output));
        let candidates = Some(candidates_of(&job.output)).filter(|_| args.options.grid == GridChoice::Auto);
        [Some(sidecar(&job.output)), candidates, preview, grid].into_iter().flatten()
    };
    let named: Vec<_> = jobs.iter().map(|job| job.output.clone()).collect();
    let beside: Vec<_> = jobs.iter().flat_map(beside).collect();
    output::check(Some(&args.output), &named, &beside, args.force)?;
    Ok(jobs)
}

/// `true` for standard input or output.
fn is_stream(path: &Path) -> bool {
    path == Path::new("-")
}

fn preview_of(sprite: &Path) -> PathBuf {
    sprite.with_extension("preview.png")
}

fn candidates_of(sprite: &Path) -> PathBuf {
    sprite.with_extension("candidates.png")
}

fn grid_of(sprite: &Path) -> PathBuf {
    sprite.with_extension("grid.png")
}

/// A sprite of ours has no grid to be found.
fn for_picture(options: &PixelOptions, job: &Job) -> PixelOptions {
    let is_sprite = || match &job.stdin {
        Some(bytes) => says_sprite(Cursor::new(bytes)),
        None => is_sprite(&job.input),
    };
    let grid = match options.grid {
        GridChoice::Auto if is_sprite() => GridChoice::Step(1.0),
        grid => grid,
    };
    PixelOptions { grid, ..options.clone() }
}

/// Reads, makes and writes one.
fn make(job: &Job, options: &PixelOptions, args: &Args) -> Result<Made, Failure> {
    let started = std::time::Instant::now();
    let picture = job.read(args.quiet)?;
    let options = &for_picture(options, job);
    let read = started.elapsed();
    let made = pixelize(&picture, options).map_err(Error::from)?;
    if is_lost(&picture, &made.sprite) {
        return Err(Error::EmptySprite { seeds: vec![] }.into());
    }
    if is_empty(&made.sprite) {
        output::note(format_args!("warning: `{}` has no visible pixel", job.input.display()));
    }
    let started = std::time::Instant::now();
    let Pixelized { sprite, grid, certificate, .. } = &made;
    let png = sprite_png(sprite, None)?;
    let to_stdout = is_stream(&job.output);
    if !to_stdout {
        output::write_sprite(&job.output, &png, certificate, args.force)?;
    }
    if let Some(factor) = args.preview {
        let preview = nearest_upscale(sprite, factor).map_err(|error| Error::Pixel(error.into()))?;
        output::write_beside(&preview_of(&job.output), &preview, args.force)?;
    }
    if args.overlay {
        output::write_beside(&grid_of(&job.output), &overlay(&picture, &made), args.force)?;
    }
    let has_sheet = !made.others.is_empty() && !to_stdout;
    if has_sheet {
        output::write_beside(&candidates_of(&job.output), &candidates(&picture, &made, options), args.force)?;
    }
    if !args.quiet && (made.verdict == Verdict::Unsure || !made.others.is_empty()) {
        let sheet = has_sheet.then(|| candidates_of(&job.output));
        output::note(format_args!("warning: `{}`: {}", job.input.display(), doubt(&made, sheet.as_deref())));
    }
    if let Some([r, g, b]) = made.unsure_background.filter(|_| !args.quiet) {
        output::note(format_args!(
            "warning: `{}`: not sure that #{r:02X}{g:02X}{b:02X} is its background; it was kept opaque: choose with \
             `--transparent`",
            job.input.display(),
        ));
    }
    if made.verdict == Verdict::Native && made.others.is_empty() && !args.quiet {
        output::note(format_args!(
            "note: `{}` is pixel art at its own size, {}x{}; it was kept, not reduced",
            job.input.display(),
            picture.width(),
            picture.height(),
        ));
    }
    if to_stdout {
        return Ok(Made::Png(png));
    }
    if !args.json {
        return Ok(Made::Path);
    }
    let milliseconds = |time: std::time::Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
    let others = made.others.iter().map(|Grid { x, y, confidence, .. }| Other {
        cols: x.cells(),
        rows: y.cells(),
        step_x: x.step,
        step_y: y.step,
        confidence: *confidence,
    });
    let line = Line {
        input: &job.input,
        output: &job.output,
        verdict: made.verdict,
        cols: grid.x.cells(),
        rows: grid.y.cells(),
        step_x: grid.x.step,
        step_y: grid.y.step,
        phase_x: grid.x.phase,
        phase_y: grid.y.phase,
        edges_x: edges(&grid.x),
        edges_y: edges(&grid.y),
        confidence: made.confidence,
        others: others.collect(),
        unsure_background: made.unsure_background.map(|[r, g, b]| format!("#{r:02X}{g:02X}{b:02X}")),
        colors: certificate.colors,
        certificate,
        timings_ms: Timings {
            read: milliseconds(read),
            find: milliseconds(made.find),
            draw: milliseconds(made.draw),
            write: milliseconds(started.elapsed()),
        },
    };
    Ok(Made::Json(output::json_line(&line)))
}

/// The text about a verdict that is not sure, and how to decide it.
fn doubt(made: &Pixelized, sheet: Option<&Path>) -> String {
    let name = |grid: &Grid| format!("{}x{}", grid.x.cells(), grid.y.cells());
    let is_kept = made.grid.x.step == 1.0 && made.grid.y.step == 1.0;
    let doubt = match made.verdict {
        Verdict::Native => "not sure that it is at its own size".into(),
        Verdict::Unsure if is_kept => "not sure of the grid; the image was kept".into(),
        Verdict::Unsure if made.grid.contrast == 0.0 => "not sure that there is no grid".into(),
        Verdict::NoGrid => "not sure that there is no grid".into(),
        Verdict::Grid | Verdict::Unsure => format!("not sure of the grid: {} is likeliest", name(&made.grid)),
    };
    let others: Vec<_> = made.others.iter().map(name).collect();
    let others =
        if others.is_empty() { String::new() } else { format!("; it may be {}", others.join(" or ")) };
    let see = sheet.map_or(String::new(), |sheet| format!("see `{}`, and ", sheet.display()));
    format!("{doubt} (confidence {:.2}){others}: {see}choose with `--grid`", made.confidence)
}

fn edges(axis: &Axis) -> Option<Vec<usize>> {
    let ends = (0..axis.cells()).map(|i| axis.span(i).1);
    axis.drifts().then(|| [axis.span(0).0].into_iter().chain(ends).collect())
}

/// The sprites of what the grid may be, side by side, each enlarged to about this many pixels; what was taken is first.
fn candidates(picture: &RgbaImage, made: &Pixelized, options: &PixelOptions) -> RgbaImage {
    const SIDE: u32 = 256;
    let sprites = made.others.iter().filter_map(|grid| {
        let (width, height) = (grid.x.cells() as u32, grid.y.cells() as u32);
        let options =
            PixelOptions { grid: GridChoice::Cells(ImageSize { width, height }), ..options.clone() };
        pixelize(picture, &options).ok().map(|made| made.sprite)
    });
    let shown: Vec<_> = [made.sprite.clone()]
        .into_iter()
        .chain(sprites)
        .map(|sprite| {
            let factor = (SIDE / sprite.width().max(sprite.height())).max(1);
            nearest_upscale(&sprite, factor).unwrap_or(sprite)
        })
        .collect();
    let height = shown.iter().map(|sprite| sprite.height()).max().unwrap_or(0);
    let mut sheet = RgbaImage::new(shown.iter().map(|sprite| sprite.width() + 8).sum::<u32>() - 8, height);
    let mut left = 0;
    for sprite in shown {
        image::imageops::replace(&mut sheet, &sprite, left, 0);
        left += i64::from(sprite.width()) + 8;
    }
    sheet
}

/// The picture with a line along each cell's first pixels, black or white, whichever is seen better.
fn overlay(picture: &RgbaImage, made: &Pixelized) -> RgbaImage {
    let mut drawn = picture.clone();
    let (width, height) = drawn.dimensions();
    let mut mark = |x: u32, y: u32| {
        let pixel = drawn.get_pixel_mut(x, y);
        let [r, g, b, a] = pixel.0.map(u32::from);
        let dark = a < 128 || 2 * r + 5 * g + b < 1024;
        pixel.0 = if dark { [255, 255, 255, 255] } else { [0, 0, 0, 255] };
    };
    for i in 0..made.grid.x.cells() {
        let x = made.grid.x.span(i).0 as u32;
        (0..height).for_each(|y| mark(x.min(width - 1), y));
    }
    for i in 0..made.grid.y.cells() {
        let y = made.grid.y.span(i).0 as u32;
        (0..width).for_each(|x| mark(x, y.min(height - 1)));
    }
    drawn
}
