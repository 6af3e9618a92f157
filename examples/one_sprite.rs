//! Draws one picture with a model folder on whatever device there is, and writes it.
//!
//! `cargo run --release --example one_sprite -- MODEL "a brass key, pixel art" key.png`

use std::ops::ControlFlow;

use dgx_pixels_core::backend::paint;
use dgx_pixels_core::loaded::{Libtorch, LoadedModel};
use dgx_pixels_core::model::Options;
use dgx_pixels_core::{GenerateRequest, Model};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(prompt), Some(path)) = (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("expected three arguments: MODEL PROMPT PICTURE.png".into());
    };

    let libtorch = Libtorch::load(true)?;
    let mut model = LoadedModel::load(libtorch, &Model::open(model)?, &Options::default(), &mut |_| ())?;
    let request = GenerateRequest { prompt, seed: 7, ..Default::default() };
    let drawn = paint(&mut model, &[request], |progress| {
        eprint!("\rstep {} of {}", progress.steps_done, progress.steps);
        ControlFlow::Continue(())
    })?;
    drawn[0].image.save(&path)?;
    eprintln!("\nwrote {path}");
    Ok(())
}
