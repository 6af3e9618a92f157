//! Draws a sprite for each prompt and pastes them, enlarged, onto one sheet.
//!
//! `cargo run --release --example sheet -- [--seed N] [--output SHEET.png] [PROMPT...]`

use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Parser;
use dgx_pixels_core::backend::paint;
use dgx_pixels_core::pixel::{MaxColors, PixelOptions, nearest_upscale, pixelize};
use dgx_pixels_core::torch::{Options, Sdxl};
use dgx_pixels_core::{GenerateRequest, Model};
use image::{DynamicImage, Rgba, RgbaImage, imageops};

/// Pixels of the model's picture for one of the sprite, and of the sheet again.
const CELL_PX: u32 = 8;
/// Dark and light squares, as editors show transparency.
const CHECKS: [u8; 2] = [96, 112];
const CHECK_PX: u32 = 16;
const COLUMNS: u32 = 4;
const GAP_PX: u32 = 4;

#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value = "models/sprite-xl")]
    model: PathBuf,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value = "sheet.png")]
    output: PathBuf,
    #[arg(default_values = [
        "a red potion", "a golden sword", "a blue shield", "a green tree",
        "a purple book", "a brick wall", "a green robe", "a red helmet",
    ])]
    prompts: Vec<String>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let mut sdxl = Sdxl::load(&Model::open(&arguments.model)?, &Options::default())?;
    let options = PixelOptions {
        expected_step: Some(CELL_PX.into()),
        max_colors: MaxColors::Elbow,
        ..Default::default()
    };
    let mut sprites = Vec::new();
    for prompt in &arguments.prompts {
        let request = GenerateRequest { prompt: prompt.clone(), seed: arguments.seed, ..Default::default() };
        let picture = paint(&mut sdxl, &[request], |_| ControlFlow::Continue(()))?.remove(0).image;
        let sprite = pixelize(&DynamicImage::ImageRgb8(picture).into_rgba8(), &options)?.sprite;
        sprites.push(nearest_upscale(&sprite, CELL_PX)?);
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
