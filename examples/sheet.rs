//! Draws a sprite for each prompt and pastes them, enlarged, onto one sheet.
//!
//! `cargo run --release --example sheet -- [--seed N] [--output SHEET.png] [PROMPT...]`

use std::path::PathBuf;

use clap::Parser;
use dgx_pixels_core::engine::EngineConfig;
use dgx_pixels_core::local::LocalModels;
use dgx_pixels_core::pixel::nearest_upscale;
use dgx_pixels_core::{GenerateRequest, Submission};
use image::{Rgba, RgbaImage, imageops};

/// Pixels of the sheet for one of a sprite.
const CELL_PX: u32 = 8;
/// Dark and light squares, as editors show transparency.
const CHECKS: [u8; 2] = [96, 112];
const CHECK_PX: u32 = 16;
const COLUMNS: u32 = 4;
const GAP_PX: u32 = 4;

#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value = "sprite-xl")]
    model: String,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value = "sheet.png")]
    output: PathBuf,
    #[arg(default_values = [
        "a red potion", "a wizard", "a mushroom", "a golden key",
        "a pine tree", "a red heart", "a golden sword", "a hamburger",
    ])]
    prompts: Vec<String>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let models = LocalModels::open(Some(&arguments.model))?.owning_process()?;
    let engine = models.start(EngineConfig { max_batch: 1, ..Default::default() })?;
    let mut sprites = Vec::new();
    for prompt in &arguments.prompts {
        let request = GenerateRequest { prompt: prompt.clone(), seed: arguments.seed, ..Default::default() };
        let job = engine.submit(Submission { request, ..Submission::of(prompt) })?;
        sprites.push(nearest_upscale(&job.wait()?.image, CELL_PX)?);
        eprintln!("{prompt}");
    }
    if let Some(folder) = arguments.output.parent() {
        std::fs::create_dir_all(folder)?;
    }
    paste(&sprites).save(&arguments.output)?;
    println!("{}", arguments.output.display());
    Ok(())
}

/// All sprites, which are of one size, in rows.
fn paste(sprites: &[RgbaImage]) -> RgbaImage {
    let (width, height) = sprites[0].dimensions();
    let count = sprites.len() as u32;
    let (columns, rows) = (COLUMNS.min(count), count.div_ceil(COLUMNS));
    let size = (columns * (width + GAP_PX) + GAP_PX, rows * (height + GAP_PX) + GAP_PX);
    let mut sheet = RgbaImage::from_fn(size.0, size.1, |x, y| {
        let grey = CHECKS[((x / CHECK_PX + y / CHECK_PX) % 2) as usize];
        Rgba([grey, grey, grey, 255])
    });
    for (i, sprite) in (0..).zip(sprites) {
        let (x, y) = (i % COLUMNS * (width + GAP_PX) + GAP_PX, i / COLUMNS * (height + GAP_PX) + GAP_PX);
        imageops::overlay(&mut sheet, sprite, x.into(), y.into());
    }
    sheet
}
