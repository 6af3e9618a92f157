//! `dgx-pixels sheet`: the frames of a sprite in one picture, with what is where.

use std::fs;
use std::path::{Path, PathBuf};

use dgx_pixels_core::asset::{
    BEVY_META, DEFAULT_FRAME_MS, Direction, Sheet, SheetFrame, SheetLayout, SheetOptions, Tag, optimized,
};
use dgx_pixels_core::files::write_whole;
use dgx_pixels_core::picture_file::{Made, plain_png, sidecar};
use dgx_pixels_manifest::MadeBy;
use serde_json::json;

use crate::failure::{Failure, counted};
use crate::order::undo_shell_order;
use crate::output::Destination;
use crate::{output, picture};

/// The text that `--help` prints after the flags.
pub(crate) const NOTES: &str = "\
Beside the image NAME.png it writes NAME.json, as Aseprite exports it: the frames in the order
given, and tags, which `dgx-pixels deploy` turns into animations. Without --tag, frames such as
`walk_0.png` and `walk_1.png` are a tag `walk`.

In Bevy's `TextureAtlasLayout::from_grid`, a grid has the offset E and the padding G + 2E, for
--extrude E and --gutter G.

Standard output names the files, or with --json one line:
{\"output\",\"index\",\"meta\",\"width\",\"height\",\"frames\",\"tags\"}";

/// Put frames into one image.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Images in order, folders of them, or patterns, for example `'walk_*.png'`. Numbered files
    /// that a shell has sorted by their letters are put in the order of their numbers: `walk_2.png`
    /// before `walk_10.png`.
    #[arg(value_name = "FRAME", required = true)]
    frames: Vec<PathBuf>,

    /// The sheet's file, which ends in `.png`; its JSON goes beside it. `-` writes the image alone
    /// to standard output.
    #[arg(short, long, value_name = "PATH|-")]
    output: PathBuf,

    /// `grid`, frames of one size in rows, or `packed`, of any size close together.
    #[arg(long, default_value = "grid", value_parser = ["grid", "packed"])]
    layout: String,

    /// Frames in a row of a grid. Default: nearly square.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    columns: Option<u32>,

    /// Empty pixels between frames, 0 to 64.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=64))]
    gutter: u32,

    /// Repeat each frame's edge this many times around it, 0 to 64, so that its neighbors do not
    /// shine through.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=64))]
    extrude: u32,

    /// Time for which each frame is shown, in milliseconds, 1 to 60000. Default: 100.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    duration: Option<u32>,

    /// Frames that are an animation, counted from 0, for example `walk=0-3`; `:reverse`,
    /// `:pingpong` or `:pingpong_reverse` after it is the order. May be given again.
    #[arg(long = "tag", value_name = "NAME=FROM-TO")]
    tags: Vec<Tag>,

    /// Write NAME.png.meta too, which keeps pixels sharp in a Bevy game without the plugin.
    #[arg(long)]
    meta: bool,

    /// Replace files that exist. Folders, links and another program's `NAME.json` stay.
    #[arg(long)]
    force: bool,

    /// Print one JSON line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Writes the sheet, its JSON and settings.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let layout = match (args.layout.as_str(), args.columns) {
        ("packed", None) => SheetLayout::Packed,
        ("packed", Some(_)) => {
            let reason = "is for a grid, and `--layout` is `packed`; leave one out";
            return Err(Failure::Flags(format!("`--columns` {reason}")));
        }
        (_, columns) => SheetLayout::Grid { columns },
    };
    let destination = output::single(&args.output)?;
    let flags = [
        ("--json", args.json),
        ("--meta", args.meta),
        ("--tag", !args.tags.is_empty()),
        ("--duration", args.duration.is_some()),
        ("--force", args.force),
    ];
    destination.refuse_beside_stdout(&flags)?;
    let index = sidecar(&args.output);
    let meta = args.meta.then(|| meta_of(&args.output));
    if destination != Destination::Stdout {
        let beside: Vec<_> = [Some(index.clone()), meta.clone()].into_iter().flatten().collect();
        output::check(Some(&args.output), std::slice::from_ref(&args.output), &beside, args.force)?;
    }
    // A frame that is given twice is shown twice.
    let expanded = args.frames.iter().map(|frame| picture::expand(std::slice::from_ref(frame)));
    let mut paths = expanded.collect::<Result<Vec<_>, _>>()?.concat();
    undo_shell_order(&mut paths);
    let duration = args.duration.unwrap_or(DEFAULT_FRAME_MS);
    let frames = paths.iter().map(|path| frame(path, duration)).collect::<Result<Vec<_>, _>>()?;
    let tags = match args.tags.is_empty() {
        true => tags_by_name(&frames),
        false => args.tags.clone(),
    };
    let options = SheetOptions { layout, gutter: args.gutter, extrude: args.extrude };
    let mut sheet = Sheet::new(&frames, tags, &options)?;
    sheet.index.made = paths.iter().find_map(|path| Made::read(&fs::read(path).ok()?).ok()).map(MadeBy::from);
    let name = args.output.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let png = optimized(&plain_png(&sheet.image)?)?;
    if destination == Destination::Stdout {
        return output::say_bytes(&png);
    }
    if let Some(meta) = &meta {
        write_whole(meta, BEVY_META.as_bytes(), args.force)?;
    }
    write_whole(&index, sheet.index.to_json(&name).as_bytes(), args.force)?;
    write_whole(&args.output, &png, args.force)?;
    let (width, height) = sheet.image.dimensions();
    let tags: Vec<_> = sheet.index.tags.iter().map(|tag| tag.name.as_str()).collect();
    if args.json {
        return output::say_json(&json!({
            "output": args.output, "index": index, "meta": meta, "width": width, "height": height,
            "frames": frames.len(), "tags": tags,
        }));
    }
    let told = if tags.is_empty() { String::new() } else { format!(", tags {}", tags.join(", ")) };
    output::say(&format_args!(
        "{}  {width}x{height}, {}{told}",
        args.output.display(),
        counted(frames.len(), "frame")
    ))
}

/// `NAME.png.meta`, where Bevy looks for an image's settings.
fn meta_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".meta");
    name.into()
}

fn frame(path: &Path, duration_ms: u32) -> Result<SheetFrame, Failure> {
    let image = picture::read(path, false)?;
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(SheetFrame { name, image, duration_ms })
}

/// A tag for each run of frames whose names differ in the number at their end alone.
fn tags_by_name(frames: &[SheetFrame]) -> Vec<Tag> {
    let stem = |frame: &SheetFrame| {
        let name = frame.name.trim_end_matches(|letter: char| letter.is_ascii_digit());
        let is_numbered = name.len() < frame.name.len();
        is_numbered.then(|| name.trim_end_matches(['_', '-', ' ']).to_owned()).filter(|name| !name.is_empty())
    };
    let mut tags: Vec<Tag> = vec![];
    for (n, frame) in frames.iter().enumerate() {
        let Some(name) = stem(frame) else { continue };
        match tags.last_mut() {
            Some(last) if last.name == name && last.to + 1 == n => last.to = n,
            _ => tags.push(Tag { name, from: n, to: n, direction: Direction::Forward }),
        }
    }
    tags.retain(|tag| tag.to > tag.from);
    tags
}

#[cfg(test)]
mod tests {
    use image::RgbaImage;

    use super::*;

    fn tags(names: &[&str]) -> Vec<(String, usize, usize)> {
        let frame =
            |name: &&str| SheetFrame { name: (*name).into(), image: RgbaImage::new(1, 1), duration_ms: 1 };
        let frames: Vec<_> = names.iter().map(frame).collect();
        tags_by_name(&frames).into_iter().map(|tag| (tag.name, tag.from, tag.to)).collect()
    }

    #[test]
    fn numbered_names_are_tags() {
        assert_eq!(
            tags(&["idle", "walk_0", "walk_1", "run1", "run2"]),
            [("walk".into(), 1, 2), ("run".into(), 3, 4)]
        );
        assert_eq!(tags(&["a_0", "b_0", "0", "1"]), []);
    }
}
