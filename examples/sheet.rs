//! Draws a sprite for each prompt and pastes them onto one sheet, without the model's background.
//!
//! `cargo run --release --example sheet -- [--seed N] [--output SHEET.png] [PROMPT...]`

use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Parser;
use dgx_pixels_core::backend::paint;
use dgx_pixels_core::torch::{Options, Sdxl};
use dgx_pixels_core::{GenerateRequest, Model};
use image::{Rgb, RgbImage, imageops};

/// What `sprite-xl` paints where nothing is.
const MATTE: Rgb<u8> = Rgb([255, 0, 255]);
/// Dark and light squares, as editors show transparency.
const CHECKS: [Rgb<u8>; 2] = [Rgb([96, 96, 96]), Rgb([112, 112, 112])];
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
    let mut sprites = Vec::new();
    for prompt in &arguments.prompts {
        let request = GenerateRequest { prompt: prompt.clone(), seed: arguments.seed, ..Default::default() };
        sprites.push(paint(&mut sdxl, &[request], |_| ControlFlow::Continue(()))?.remove(0).image);
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
fn paste(sprites: &[RgbImage]) -> RgbImage {
    let (width, height) = sprites[0].dimensions();
    let count = sprites.len() as u32;
    let (columns, rows) = (COLUMNS.min(count), count.div_ceil(COLUMNS));
    let mut sheet = RgbImage::new(columns * (width + GAP_PX) + GAP_PX, rows * (height + GAP_PX) + GAP_PX);
    for (i, sprite) in (0..).zip(sprites) {
        let keyed = RgbImage::from_fn(width, height, |x, y| {
            let pixel = *sprite.get_pixel(x, y);
            if pixel == MATTE { CHECKS[((x / CHECK_PX + y / CHECK_PX) % 2) as usize] } else { pixel }
        });
        let (x, y) = (i % COLUMNS * (width + GAP_PX) + GAP_PX, i / COLUMNS * (height + GAP_PX) + GAP_PX);
        imageops::replace(&mut sheet, &keyed, x.into(), y.into());
    }
    sheet
}
