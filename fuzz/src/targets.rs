//! The bodies of the fuzz targets: any bytes are read or refused, and what was read can be used.
//! None may panic, or take memory that is not in proportion to the bytes.
//!
//! `cargo test` replays the corpora with these very functions, so this file uses nothing but public
//! parts.

use std::fs;
use std::io::Cursor;

use dgx_pixels_core::asset::SheetIndex;
use dgx_pixels_core::backend::{Backend as _, Sketch};
use dgx_pixels_core::fields::SpriteFields;
use dgx_pixels_core::library::Asset;
use dgx_pixels_core::model::config::{ClipConfig, GenerationConfig, UNetConfig, VaeConfig};
use dgx_pixels_core::model::files::WeightFiles;
use dgx_pixels_core::picture_file::Made;
use dgx_pixels_core::pixel::{
    Certificate, GridChoice, Palette, PixelOptions, Transparent, Wrap, lint, pixelize, seam_score,
};
use dgx_pixels_core::scheduler::{SchedulerConfig, SchedulerName};
use dgx_pixels_core::{GenerateRequest, Submission, engine};
use dgx_pixels_manifest::Manifest;
use image::{ImageFormat, ImageReader, Limits, Rgba, RgbaImage};

/// A target's name, and what it does with the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of them. Each has a file in `fuzz_targets` and a folder in `corpus`.
pub const ALL: [Target; 17] = [
    ("png_text", png_text),
    ("made", made),
    ("pixel_options", pixel_options),
    ("submission", submission),
    ("sprite_fields", sprite_fields),
    ("words", words),
    ("palette", palette),
    ("picture", picture),
    ("sheet_index", sheet_index),
    ("manifest", manifest),
    ("asset_record", asset_record),
    ("journal_record", journal_record),
    ("costs", costs),
    ("model_config", model_config),
    ("scheduler_config", scheduler_config),
    ("safetensors", safetensors),
    ("weights_index", weights_index),
];

/// Cells of four pixels, in a picture that is no square.
fn card() -> RgbaImage {
    RgbaImage::from_fn(48, 36, |x, y| {
        let hash = ((x / 4 * 73_856_093) ^ (y / 4 * 19_349_663)).wrapping_mul(2_654_435_761);
        Rgba([(hash >> 24) as u8, (hash >> 16) as u8, (hash >> 8) as u8, 255])
    })
}

/// Options that may have come from anywhere: a sprite or an error.
fn draw_with(options: &PixelOptions) {
    let made = pixelize(&card(), options);
    assert!(options.validate().is_ok() || made.is_err(), "options out of range make no sprite");
}

fn use_made(made: &Made) {
    made.validate().expect("what was read is within its ranges");
    if let Some(pixel) = &made.pixel {
        draw_with(pixel);
    }
}

/// A whole PNG file.
pub fn png_text(data: &[u8]) {
    if let Ok(made) = Made::read(data) {
        use_made(&made);
    }
}

/// The text of a PNG file of ours.
pub fn made(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut file = vec![];
    let mut encoder = png::Encoder::new(&mut file, 1, 1);
    if encoder.add_itxt_chunk("dgx-pixels".into(), text.into()).is_err() {
        return;
    }
    let writer = encoder.write_header().and_then(|mut writer| writer.write_image_data(&[0]));
    writer.expect("one pixel is written");
    match Made::read(&file) {
        Ok(made) => {
            use_made(&made);
            let again = serde_json::to_string(&made).expect("what was read is written");
            assert_eq!(serde_json::from_str::<Made>(&again).expect("and read again"), made);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Pixel options in JSON.
pub fn pixel_options(data: &[u8]) {
    if let Ok(options) = serde_json::from_slice::<PixelOptions>(data) {
        draw_with(&options);
    }
}

/// A job in JSON, as the journal keeps it.
pub fn submission(data: &[u8]) {
    let Some(submission) = engine::fuzzing::submission(data) else { return };
    let is_valid = submission.validate().is_ok();
    if let Some(pixel) = &submission.pixel {
        assert!(!is_valid || pixel.validate().is_ok());
        draw_with(pixel);
    }
}

/// The fields of a sprite in JSON: a line of a batch, or the arguments of a tool.
pub fn sprite_fields(data: &[u8]) {
    let Ok(mut given) = serde_json::from_slice(data) else { return };
    let Ok(fields) = SpriteFields::take(&mut given) else { return };
    let is_checked = fields.check(|_| true).is_ok();
    let submission = fields.submission(fields.request.seed);
    if let Ok(resolved) = submission.resolve(&Sketch.defaults()) {
        let again = Submission {
            pixel: resolved.pixel.clone(),
            ..GenerateRequest::from(resolved.request.clone()).into()
        };
        assert_eq!(again.resolve(&Sketch.defaults()).expect("it was resolved before"), resolved);
    }
    let again = SpriteFields::take(&mut fields.to_json()).expect("what was read is written and read again");
    assert_eq!((again.check(|_| true).is_ok(), &again), (is_checked, &fields));
}

/// Options in the words that users write.
pub fn words(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut options = PixelOptions::default();
    for word in text.split_whitespace() {
        if let Ok(grid) = word.parse::<GridChoice>() {
            options.grid = grid;
        }
        if let Ok(transparent) = word.parse::<Transparent>() {
            options.transparent = transparent;
        }
        options.max_colors = word.parse().unwrap_or(options.max_colors);
        options.dither = word.parse().unwrap_or(options.dither);
        options.outline = word.parse().unwrap_or(options.outline);
        options.anchor = word.parse().unwrap_or(options.anchor);
        let _ = word.parse::<dgx_pixels_core::asset::Tag>().map(|tag| tag.name);
        let _ = word.parse::<SchedulerName>();
    }
    options.validate().expect("what a word means is in range");
    draw_with(&options);
}

/// A palette in any format.
pub fn palette(data: &[u8]) {
    if let Ok(palette) = serde_json::from_slice::<Palette>(data) {
        assert!((1..=256).contains(&palette.colors().len()));
    }
    let dir = folder();
    let path = dir.path().join("file");
    fs::write(&path, data).expect("the folder for scratch files can be written");
    if let Ok(palette) = Palette::read(&path) {
        assert!((1..=256).contains(&palette.colors().len()));
        assert!(palette.nearest([1, 2, 3]) < palette.colors().len());
        draw_with(&PixelOptions { palette: Some(palette), ..Default::default() });
    }
}

/// A picture in PNG.
pub fn picture(data: &[u8]) {
    let mut reader = ImageReader::with_format(Cursor::new(data), ImageFormat::Png);
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(96), Some(96));
    reader.limits(limits);
    let Ok(image) = reader.decode() else { return };
    let image = image.into_rgba8();
    let Ok(made) = pixelize(&image, &PixelOptions::default()) else { return };
    let wrap = Wrap { x: true, y: true };
    let _ =
        (lint(&made.sprite, wrap), seam_score(&made.sprite, wrap), Certificate::of(&made.sprite, None, wrap));
}

/// The JSON beside a sheet.
pub fn sheet_index(data: &[u8]) {
    let _ = SheetIndex::is_meant(data);
    let Ok(index) = SheetIndex::read(data) else { return };
    let frames = index.to_frames().len();
    for animation in index.to_animations().values() {
        assert!(animation.frames.iter().all(|frame| *frame < frames));
    }
    SheetIndex::read(index.to_json("sheet.png").as_bytes()).expect("what was written is read");
}

/// A game's manifest.
pub fn manifest(data: &[u8]) {
    let Ok(manifest) = Manifest::read(data) else { return };
    let faults = manifest.faults();
    let again = Manifest::read(manifest.to_json().as_bytes()).expect("what was written is read");
    assert_eq!((&again, again.faults()), (&manifest, faults));
}

/// The record of an asset, and the certificate of a sprite.
pub fn asset_record(data: &[u8]) {
    if let Ok(certificate) = serde_json::from_slice::<Certificate>(data) {
        serde_json::to_string(&certificate).expect("what was read is written");
    }
    let Ok(asset) = Asset::from_json(data) else { return };
    assert_eq!(Asset::from_json(asset.to_json().as_bytes()).expect("what was written is read"), asset);
    if let Some(made) = &asset.made {
        use_made(made);
    }
}

/// How far a job has come, as the journal keeps it.
pub fn journal_record(data: &[u8]) {
    engine::fuzzing::journal_record(data);
}

/// The file of measured costs.
pub fn costs(data: &[u8]) {
    engine::fuzzing::costs(data);
}

/// The config of a UNet, a VAE, a text encoder, or of a model's own steps.
pub fn model_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(unet) = UNetConfig::parse(text) {
        let levels = unet.block_out_channels.len();
        for level in 0..levels {
            let (down, up) = (&unet.down_block_types[level], &unet.up_block_types[levels - 1 - level]);
            let depths = unet.transformer_layers_per_block.get(level);
            let resnets = *unet.layers_per_block.get(level);
            if down.starts_with("CrossAttn") {
                assert!((0..resnets).all(|i| *depths.get(i) <= 64));
            }
            if up.starts_with("CrossAttn") {
                let reversed = unet.reverse_transformer_layers_per_block.as_ref();
                let depths = reversed.map_or(depths, |reversed| &reversed[levels - 1 - level]);
                assert!((0..=resnets).all(|i| *depths.get(i) <= 64));
            }
            assert!(unet.block_out_channels[level] / unet.attention_head_dim.get(level) > 0);
            assert!(*unet.cross_attention_dim.get(level) > 0);
        }
        if let Some(size) = &unet.sample_size {
            assert!(*size.get(0) * 128 > 0 && *size.get(1) * 128 > 0);
        }
    }
    if let Ok(vae) = VaeConfig::parse(text) {
        assert!(vae.sample_size.get(0) / vae.scale_factor() >= 2 && *vae.sample_size.get(1) > 0);
    }
    if let Ok(clip) = ClipConfig::parse(text) {
        assert!(clip.hidden_size / clip.num_attention_heads > 0 && clip.num_hidden_layers >= 2);
    }
    if let Ok(own) = GenerationConfig::parse(text) {
        assert!((1..=1000).contains(&own.num_inference_steps));
    }
}

/// A scheduler's config, and the schedules that it makes.
pub fn scheduler_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(config) = SchedulerConfig::from_json(text) else { return };
    // A hundred times what models have is allowed, and slow to fuzz.
    if config.num_train_timesteps.is_some_and(|timesteps| timesteps > 2000) {
        return;
    }
    let own = config.build(4);
    assert!(config.refused.is_none() || own.is_err());
    for name in SchedulerName::ALL {
        for steps in [1, 2, 7, 30] {
            let Ok(scheduler) = config.clone().with_name(name).build(steps) else { continue };
            assert!(scheduler.initial_sigma().is_finite() && !scheduler.timesteps().is_empty());
            for i in 0..scheduler.timesteps().len() {
                let (step, readout) = (scheduler.step(i), scheduler.denoised(i));
                assert!(step.next.sample.is_finite() && readout.output.is_finite());
            }
        }
    }
}

/// A file of weights.
pub fn safetensors(data: &[u8]) {
    let dir = folder();
    fs::write(dir.path().join("model.safetensors"), data)
        .expect("the folder for scratch files can be written");
    let Ok(files) = WeightFiles::open(dir.path(), "model", false) else { return };
    let _ = (files.parameters(), files.bytes(), files.dtypes());
    for (name, _) in files.tensors() {
        let (weight, shard) = files.get(name).expect("a name that is listed is found");
        let _ = &shard.bytes[weight.bytes.clone()];
    }
}

/// An index of shards.
pub fn weights_index(data: &[u8]) {
    let dir = folder();
    fs::write(dir.path().join("model.safetensors.index.json"), data)
        .expect("the folder for scratch files can be written");
    let _ = WeightFiles::open(dir.path(), "model", false).map(|files| files.parameters());
}

/// A folder that is gone when it is dropped; replayed inputs run side by side.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("the folder for scratch files can be made")
}
