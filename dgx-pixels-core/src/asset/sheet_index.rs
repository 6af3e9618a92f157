//! The index of a sheet: JSON as Aseprite exports it, which other engines read too.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use dgx_pixels_manifest::{Animation, Frame, MadeBy, Rect};
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;

use crate::error::Error;
use crate::value_error::ValueError;

/// The most bytes of the JSON. Aseprite writes some 2 MB for [`MAX_FRAMES`] frames.
pub const MAX_INDEX_BYTES: usize = 16 << 20;

/// The most frames of a sheet.
pub const MAX_FRAMES: usize = 4096;

/// The most animations of a sheet.
pub const MAX_TAGS: usize = 1024;

/// The most frames that all animations of a sheet show together. A short list of tags may each show
/// every frame.
pub const MAX_SHOWN: usize = 1 << 16;

/// The longest side of a sheet, in pixels: larger textures exist on no GPU.
const MAX_INDEX_SIDE: u32 = 1 << 14;

/// The key in `meta` that records how the frames were made. Other programs leave it alone.
const MADE: &str = "dgx-pixels";

/// The frames and tags of a sheet.
///
/// # Example
/// ```
/// use dgx_pixels_core::asset::SheetIndex;
/// let index = SheetIndex::read(br#"{
///   "frames": { "hero 0.aseprite": { "frame": { "x": 0, "y": 0, "w": 16, "h": 16 }, "duration": 100 },
///               "hero 1.aseprite": { "frame": { "x": 16, "y": 0, "w": 16, "h": 16 }, "duration": 250 } },
///   "meta": { "size": { "w": 32, "h": 16 }, "frameTags": [ { "name": "walk", "from": 0, "to": 1, "direction": "forward" } ] }
/// }"#)?;
/// assert_eq!(index.to_frames()[1].duration_ms, 250);
/// assert_eq!(index.to_animations()["walk"].frames, [0, 1]);
/// # Ok::<(), dgx_pixels_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SheetIndex {
    /// Width and height of the sheet in pixels.
    pub size: (u32, u32),
    /// The frames, in order.
    pub frames: Vec<IndexedFrame>,
    /// Animations.
    pub tags: Vec<Tag>,
    /// The provenance of the first frame, if that is known.
    pub made: Option<MadeBy>,
}

/// A frame of a sheet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexedFrame {
    /// The name of the file that the frame was made of, without the extension.
    pub name: String,
    /// The place of the frame in the sheet.
    pub rect: Rect,
    /// The time that the frame is shown, in milliseconds.
    pub duration_ms: u32,
}

/// Frames that belong together.
///
/// # Example
/// ```
/// use dgx_pixels_core::asset::Tag;
///
/// let tag: Tag = "walk=0-3:pingpong".parse()?;
/// assert_eq!(tag.to_frames(), [0, 1, 2, 3, 2, 1]);
/// assert_eq!("hurt=4".parse::<Tag>()?.to_frames(), [4]);
/// assert!("walk".parse::<Tag>().is_err());
/// # Ok::<(), dgx_pixels_core::ValueError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// The name, for example `walk`.
    pub name: String,
    /// The first frame.
    pub from: usize,
    /// The last frame.
    pub to: usize,
    /// The order in which the frames are shown.
    #[serde(default)]
    pub direction: Direction,
}

/// The order of a tag's frames.
///
/// # Example
/// ```
/// use dgx_pixels_core::asset::{Direction, Tag};
/// let tag = |direction| Tag { name: "walk".into(), from: 0, to: 2, direction };
/// assert_eq!(tag(Direction::Forward).to_frames(), [0, 1, 2]);
/// assert_eq!(tag(Direction::Reverse).to_frames(), [2, 1, 0]);
/// assert_eq!(tag(Direction::Pingpong).to_frames(), [0, 1, 2, 1]);
/// assert_eq!(tag(Direction::PingpongReverse).to_frames(), [2, 1, 0, 1]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// First to last.
    #[default]
    Forward,
    /// Last to first.
    Reverse,
    /// There and back; neither end is shown twice.
    Pingpong,
    /// Last to first and back; neither end is shown twice.
    PingpongReverse,
}

impl Tag {
    /// Returns an upper bound of the number of frames that [`to_frames`](Tag::to_frames) gives.
    pub(super) fn shown(&self) -> usize {
        let there = self.to.saturating_sub(self.from).saturating_add(1);
        match self.direction {
            Direction::Forward | Direction::Reverse => there,
            Direction::Pingpong | Direction::PingpongReverse => there.saturating_mul(2),
        }
    }

    /// Places in the sheet's frames, as they are shown.
    pub fn to_frames(&self) -> Vec<usize> {
        let there = self.from..=self.to;
        let between = || (self.from + 1..self.to).collect::<Vec<_>>();
        match self.direction {
            Direction::Forward => there.collect(),
            Direction::Reverse => there.rev().collect(),
            Direction::Pingpong => there.chain(between().into_iter().rev()).collect(),
            Direction::PingpongReverse => there.rev().chain(between()).collect(),
        }
    }
}

/// Parses a word such as `walk=0-3`, `hurt=4` or `walk=0-3:pingpong`.
impl FromStr for Tag {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Tag, ValueError> {
        let read = || {
            let (name, range) = text.split_once('=')?;
            let (range, direction) = range.split_once(':').unwrap_or((range, "forward"));
            let (from, to) = range.split_once('-').unwrap_or((range, range));
            let direction = match direction {
                "forward" => Direction::Forward,
                "reverse" => Direction::Reverse,
                "pingpong" => Direction::Pingpong,
                "pingpong_reverse" => Direction::PingpongReverse,
                _ => return None,
            };
            let tag =
                Tag { name: name.to_owned(), from: from.parse().ok()?, to: to.parse().ok()?, direction };
            (!name.is_empty()).then_some(tag)
        };
        let expected = "a name and frames, as `walk=0-3` or `walk=0-3:pingpong`";
        read().ok_or_else(|| ValueError::new("tag", text, expected))
    }
}

impl SheetIndex {
    /// Reads JSON that Aseprite (array or hash) or `dgx-pixels sheet` wrote.
    ///
    /// # Errors
    /// [`Error::Value`] for other text, frames outside the sheet, and frames that were trimmed or
    /// rotated, which a game would have to undo; for more than 16 MiB, [`MAX_FRAMES`] frames,
    /// [`MAX_TAGS`] tags, [`MAX_SHOWN`] frames in all tags, and a sheet of more than 16,384 pixels
    /// a side.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::asset::SheetIndex;
    /// // The frame lies outside the sheet.
    /// let error = SheetIndex::read(br#"{
    ///   "frames": [{ "filename": "key", "frame": { "x": 8, "y": 0, "w": 16, "h": 16 }, "duration": 100 }],
    ///   "meta": { "size": { "w": 16, "h": 16 } }
    /// }"#).unwrap_err();
    /// assert!(error.field().is_some(), "{error}");
    /// ```
    pub fn read(text: &[u8]) -> Result<SheetIndex, Error> {
        let fault =
            |value: String, expected: &str| Error::from(ValueError::new("sheet", value, expected.to_owned()));
        if text.len() > MAX_INDEX_BYTES {
            let expected = format!("at most {} MiB", MAX_INDEX_BYTES >> 20);
            return Err(fault(format!("JSON of {} bytes", text.len()), &expected));
        }
        let file: File = serde_json::from_slice(text)
            .map_err(|error| fault(error.to_string(), "JSON as Aseprite exports it for a sheet"))?;
        let size = (file.meta.size.w, file.meta.size.h);
        if size.0.max(size.1) > MAX_INDEX_SIDE {
            let expected = format!("a sheet of at most {MAX_INDEX_SIDE} pixels a side");
            return Err(fault(format!("{}x{}", size.0, size.1), &expected));
        }
        let mut frames = vec![];
        for FileFrame { filename, frame, rotated, trimmed, duration } in file.frames.0 {
            if rotated || trimmed {
                let what = if rotated { "rotated" } else { "trimmed" };
                return Err(fault(
                    format!("{filename} is {what}"),
                    "whole frames; export without `Trim` and rotation",
                ));
            }
            let end = |at: u32, side: u32, of: u32| at.checked_add(side).filter(|end| side > 0 && *end <= of);
            let (Some(right), Some(bottom)) = (end(frame.x, frame.w, size.0), end(frame.y, frame.h, size.1))
            else {
                let value = format!("{filename} at ({}, {}) of {}x{}", frame.x, frame.y, frame.w, frame.h);
                return Err(fault(value, &format!("a frame inside the sheet of {}x{}", size.0, size.1)));
            };
            if duration == 0 {
                return Err(fault(format!("{filename} with `duration` 0"), "1 ms or more"));
            }
            let name = filename.rsplit_once('.').map_or(filename.as_str(), |(name, _)| name).to_owned();
            let rect = Rect { min: [frame.x, frame.y], max: [right, bottom] };
            frames.push(IndexedFrame { name, rect, duration_ms: duration });
        }
        if frames.is_empty() {
            return Err(fault("without frames".into(), "one frame or more"));
        }
        check_tags(&file.meta.frame_tags, frames.len())?;
        Ok(SheetIndex { size, frames, tags: file.meta.frame_tags, made: file.meta.made })
    }

    /// `true` if a JSON file is meant to be one: it has `frames` and `meta`.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::asset::SheetIndex;
    /// assert!(SheetIndex::is_meant(br#"{ "frames": [], "meta": {} }"#));
    /// assert!(!SheetIndex::is_meant(br#"{ "colors": 4 }"#));
    /// ```
    pub fn is_meant(text: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Meant {
            frames: Option<IgnoredAny>,
            meta: Option<IgnoredAny>,
        }
        let meant = serde_json::from_slice::<Meant>(text);
        meant.is_ok_and(|meant| meant.frames.is_some() && meant.meta.is_some())
    }

    /// Returns Aseprite's JSON array, for an image of this file name.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::asset::{Sheet, SheetFrame, SheetIndex, SheetOptions};
    ///
    /// let frame = SheetFrame { name: "key".into(), image: image::RgbaImage::new(8, 8), duration_ms: 100 };
    /// let index = Sheet::new(&[frame], vec![], &SheetOptions::default())?.index;
    /// let read = SheetIndex::read(index.to_json("key.png").as_bytes())?;
    /// assert_eq!((read.size, read.frames[0].duration_ms), ((8, 8), 100));
    /// # Ok::<(), dgx_pixels_core::Error>(())
    /// ```
    pub fn to_json(&self, image: &str) -> String {
        let size = |(w, h): (u32, u32)| json!({ "w": w, "h": h });
        let frames = self.frames.iter().map(|frame| {
            let [x, y] = frame.rect.min;
            let (w, h) = (frame.rect.width(), frame.rect.height());
            json!({
                "filename": format!("{}.png", frame.name),
                "frame": { "x": x, "y": y, "w": w, "h": h },
                "rotated": false,
                "trimmed": false,
                "spriteSourceSize": { "x": 0, "y": 0, "w": w, "h": h },
                "sourceSize": size((w, h)),
                "duration": frame.duration_ms,
            })
        });
        let mut file = json!({
            "frames": frames.collect::<Vec<_>>(),
            "meta": {
                "app": "dgx-pixels",
                "version": env!("CARGO_PKG_VERSION"),
                "image": image,
                "format": "RGBA8888",
                "size": size(self.size),
                "scale": "1",
                "frameTags": self.tags,
            },
        });
        if let Some(made) = &self.made {
            file["meta"][MADE] = json!(made);
        }
        serde_json::to_string_pretty(&file).expect("plain data turns into JSON; this is a bug") + "\n"
    }

    /// Returns the frames as a manifest has them.
    pub fn to_frames(&self) -> Vec<Frame> {
        self.frames.iter().map(|frame| Frame { rect: frame.rect, duration_ms: frame.duration_ms }).collect()
    }

    /// Returns the animations as a manifest has them, one for each tag. They repeat.
    pub fn to_animations(&self) -> BTreeMap<String, Animation> {
        let animation = |tag: &Tag| (tag.name.clone(), Animation { frames: tag.to_frames(), repeat: true });
        self.tags.iter().map(animation).collect()
    }
}

/// Checks the tags of a sheet of `count` frames.
///
/// # Errors
/// [`Error::Value`] for frames that are not there, more than [`MAX_TAGS`], and more shown than
/// [`MAX_SHOWN`].
pub(super) fn check_tags(tags: &[Tag], count: usize) -> Result<(), Error> {
    let fault = |value: String, expected: String| Err(ValueError::new("tag", value, expected).into());
    if tags.len() > MAX_TAGS {
        return fault(format!("{} tags", tags.len()), format!("at most {MAX_TAGS}"));
    }
    let mut shown = 0;
    for tag in tags {
        if tag.from > tag.to || tag.to >= count {
            // The name is another's, and may be long.
            let name: String = tag.name.chars().take(80).collect();
            let value = format!("{name}={}-{}", tag.from, tag.to);
            let last = count.saturating_sub(1);
            return fault(value, format!("frames 0 to {last}, the first not after the last"));
        }
        shown += tag.shown();
    }
    match shown <= MAX_SHOWN {
        true => Ok(()),
        false => fault(format!("{shown} frames in all tags"), format!("at most {MAX_SHOWN} together")),
    }
}

/// The part of the JSON that is read.
#[derive(Deserialize)]
struct File {
    frames: Frames,
    meta: Meta,
}

#[derive(Deserialize)]
struct Meta {
    size: Size,
    #[serde(default, rename = "frameTags")]
    frame_tags: Vec<Tag>,
    #[serde(rename = "dgx-pixels")]
    made: Option<MadeBy>,
}

#[derive(Deserialize)]
struct Size {
    w: u32,
    h: u32,
}

#[derive(Deserialize)]
struct FileFrame {
    #[serde(default)]
    filename: String,
    frame: FileRect,
    #[serde(default)]
    rotated: bool,
    #[serde(default)]
    trimmed: bool,
    duration: u32,
}

#[derive(Deserialize)]
struct FileRect {
    x: u32,
    y: u32,
    w: u32,
    h: u32,
}

/// A list, or an object by file names in the order that the file has them.
struct Frames(Vec<FileFrame>);

impl<'de> Deserialize<'de> for Frames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Frames, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Frames;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("frames in a list, or by file names")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Frames, A::Error> {
                let mut frames = vec![];
                while let Some(frame) = list.next_element()? {
                    push(&mut frames, frame)?;
                }
                Ok(Frames(frames))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Frames, A::Error> {
                let mut frames = vec![];
                while let Some((filename, frame)) = map.next_entry::<String, FileFrame>()? {
                    push(&mut frames, FileFrame { filename, ..frame })?;
                }
                Ok(Frames(frames))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// Takes a frame, unless there are as many as there may be: the rest of a long list is not even
/// read.
fn push<E: serde::de::Error>(frames: &mut Vec<FileFrame>, frame: FileFrame) -> Result<(), E> {
    if frames.len() == MAX_FRAMES {
        return Err(E::custom(format!("more than {MAX_FRAMES} frames")));
    }
    frames.push(frame);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> SheetIndex {
        let frame = |n: u32| IndexedFrame {
            name: format!("walk_{n}"),
            rect: Rect { min: [n * 16, 0], max: [n * 16 + 16, 16] },
            duration_ms: 100 + n,
        };
        let tag = Tag { name: "walk".into(), from: 0, to: 10, direction: Direction::Pingpong };
        SheetIndex {
            size: (176, 16),
            frames: (0..11).map(frame).collect(),
            tags: vec![tag],
            made: Some(MadeBy { seed: 7, ..MadeBy::default() }),
        }
    }

    #[test]
    fn it_survives_its_json() {
        assert_eq!(SheetIndex::read(index().to_json("hero.png").as_bytes()).unwrap(), index());
    }

    #[test]
    fn frames_by_name_keep_their_order() {
        let frame = |n| format!(r#""hero {n}.ase": {{"frame":{{"x":{n},"y":0,"w":1,"h":1}},"duration":9}}"#);
        let frames: Vec<_> = (0..12).map(frame).collect();
        let text = format!(r#"{{"frames":{{{}}},"meta":{{"size":{{"w":12,"h":1}}}}}}"#, frames.join(","));
        let read = SheetIndex::read(text.as_bytes()).unwrap();
        assert_eq!(
            read.frames.iter().map(|frame| frame.rect.min[0]).collect::<Vec<_>>(),
            (0..12).collect::<Vec<_>>()
        );
        assert_eq!(read.frames[11].name, "hero 11");
    }

    #[test]
    fn directions_are_those_of_aseprite() {
        let shown = |direction| Tag { name: String::new(), from: 2, to: 4, direction }.to_frames();
        assert_eq!(shown(Direction::Forward), [2, 3, 4]);
        assert_eq!(shown(Direction::Reverse), [4, 3, 2]);
        assert_eq!(shown(Direction::Pingpong), [2, 3, 4, 3]);
        assert_eq!(shown(Direction::PingpongReverse), [4, 3, 2, 3]);
        let one = Tag { name: String::new(), from: 1, to: 1, direction: Direction::Pingpong };
        assert_eq!(one.to_frames(), [1]);
    }

    #[test]
    fn a_tag_is_read_from_text() {
        let tag = |text: &str| text.parse::<Tag>();
        let walk = Tag { name: "walk".into(), from: 0, to: 3, direction: Direction::Pingpong };
        assert_eq!(tag("walk=0-3:pingpong").unwrap(), walk);
        assert_eq!(tag("hurt=4").unwrap().to, 4);
        for text in ["walk", "=0-1", "walk=a-b", "walk=0-1:up", "walk=-1-2"] {
            let error = tag(text).unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("walk=0-3"), "{error}");
        }
    }

    #[test]
    fn what_a_game_would_have_to_undo_or_cannot_show_is_refused() {
        let text = index().to_json("hero.png");
        let cases = [
            (text.replacen("\"trimmed\": false", "\"trimmed\": true", 1), "export without `Trim`"),
            (text.replacen("\"rotated\": false", "\"rotated\": true", 1), "is rotated"),
            (text.replacen("\"x\": 160", "\"x\": 161", 1), "inside the sheet of 176x16"),
            (text.replacen("\"x\": 160", "\"x\": 4294967295", 1), "inside the sheet of 176x16"),
            (text.replacen("\"duration\": 100", "\"duration\": 0", 1), "1 ms or more"),
            (text.replacen("\"to\": 10", "\"to\": 11", 1), "frames 0 to 10"),
            (text.replacen("\"w\": 176", "\"w\": 16385", 1), "a sheet of at most 16384 pixels a side"),
            (text[..text.len() / 2].to_owned(), "JSON as Aseprite exports it"),
            (r#"{"frames":[],"meta":{"size":{"w":1,"h":1}}}"#.into(), "one frame or more"),
        ];
        for (text, expected) in cases {
            let error = SheetIndex::read(text.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn a_short_index_cannot_ask_for_much_memory() {
        let frame = r#"{"frame":{"x":0,"y":0,"w":1,"h":1},"duration":9}"#;
        let index = |frames: usize, tags: usize, to: usize| {
            let tag = |n: usize| format!(r#"{{"name":"{n}","from":0,"to":{to}}}"#);
            format!(
                r#"{{"frames":[{}],"meta":{{"size":{{"w":1,"h":1}},"frameTags":[{}]}}}}"#,
                vec![frame; frames].join(","),
                (0..tags).map(tag).collect::<Vec<_>>().join(",")
            )
        };
        for (text, expected) in [
            (index(MAX_FRAMES + 1, 0, 0), "more than 4096 frames"),
            (index(1, 1025, 0), "1025 tags"),
            (index(4096, 17, 4095), "69632 frames in all tags"),
            (index(1, 1, usize::MAX), "frames 0 to 0"),
            (" ".repeat(MAX_INDEX_BYTES + 1), "JSON of 16777217 bytes"),
        ] {
            let error = SheetIndex::read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected) && error.len() < 400, "{error}");
        }
        assert!(SheetIndex::read(index(4096, 16, 4095).as_bytes()).is_ok());
        let meant = index(2, 1, 0);
        assert!(SheetIndex::is_meant(meant.as_bytes()));
        for text in [r#"{"frames":[]}"#, r#"{"frames":null,"meta":{}}"#, "[]", ""] {
            assert!(!SheetIndex::is_meant(text.as_bytes()), "{text}");
        }
    }
}
