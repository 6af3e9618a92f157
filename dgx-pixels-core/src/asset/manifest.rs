//! `sprites/manifest.json`: the sprites of a game, their pictures and animations. Written here, and read by the game.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::name::SpriteName;
use crate::error::{Error, Reason};

/// Where the manifest is in a game's `assets` folder.
pub const MANIFEST_PATH: &str = "sprites/manifest.json";

/// The version that is written, and the newest that is read.
pub const MANIFEST_VERSION: u32 = 1;

/// The sprites of a game. Its JSON Schema is `docs/manifest.schema.json`.
///
/// Pictures are named by their content and never change, so that a manifest is valid together with its pictures or not there at all: putting
/// it into its place is what makes a deploy.
///
/// # Example
/// ```
/// use dgx_pixels_core::asset::Manifest;
/// let manifest = Manifest::read(br##"{
///   "version": 1,
///   "images": { "item/item_key.0a1b2c3d.png": { "blake3": "0a1b2c3d", "width": 32, "height": 16, "palette": ["#c8a028"] } },
///   "sprites": { "item_key": { "category": "item", "image": "item/item_key.0a1b2c3d.png", "frames": [
///     { "rect": { "min": [0, 0], "max": [16, 16] }, "duration_ms": 100 },
///     { "rect": { "min": [16, 0], "max": [32, 16] }, "duration_ms": 100 }
///   ] } }
/// }"##)?;
/// assert_eq!(manifest.sprites["item_key"].frames.len(), 2);
/// assert_eq!(manifest.faults(), []);
/// # Ok::<(), dgx_pixels_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`MANIFEST_VERSION`].
    pub version: u32,
    /// By their paths, from the manifest's folder on, with `/`.
    pub images: BTreeMap<String, ManifestImage>,
    /// By their names.
    pub sprites: BTreeMap<SpriteName, ManifestSprite>,
}

/// A PNG.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ManifestImage {
    /// Of the file, in hexadecimal digits. The first eight stand in its name.
    pub blake3: String,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Its colours as `#1a1c2c`, by their number of pixels; empty where there are more than 256.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub palette: Vec<String>,
}

/// A sprite, tile or animated character: frames of one picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ManifestSprite {
    /// What the game uses it for, as `enemy`; the name begins with it.
    pub category: String,
    /// A path of [`images`](Manifest::images).
    pub image: String,
    /// At least one. A sprite that does not move has one, as large as the picture.
    pub frames: Vec<Frame>,
    /// By name, as `walk`. One without animations that has several frames plays them all, again and again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub animations: BTreeMap<String, Animation>,
    /// The point of a frame that lies on the entity's position: from (-0.5, -0.5), bottom left, to (0.5, 0.5), as Bevy's `Anchor`.
    #[serde(default, skip_serializing_if = "is_center")]
    pub anchor: [f32; 2],
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Edges that meet: `[left and right, top and bottom]`.
    #[serde(default, skip_serializing_if = "is_no_tile")]
    pub tile: [bool; 2],
    /// How it was made; none for a picture from elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<MadeBy>,
}

/// A frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Frame {
    /// Where in the picture.
    pub rect: Rect,
    /// How long it is shown, in milliseconds.
    pub duration_ms: u32,
}

/// Pixels from `min` up to, and without, `max`; `[x, y]` from the top left. As Bevy's `URect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Rect {
    /// Top left.
    pub min: [u32; 2],
    /// Bottom right.
    pub max: [u32; 2],
}

/// Frames in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Animation {
    /// Places in [`frames`](ManifestSprite::frames).
    pub frames: Vec<usize>,
    /// Whether it begins again at its end. Default true.
    #[serde(default = "yes")]
    pub repeat: bool,
}

/// How a sprite was made, and under which terms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MadeBy {
    /// As it was given to the model.
    pub prompt: String,
    /// The noise.
    pub seed: u64,
    /// The model's name.
    pub model: String,
    /// The model's licence, if its card says one, as `openrail++`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// The program and version, as `dgx-pixels 0.1.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
}

fn yes() -> bool {
    true
}

fn is_center(anchor: &[f32; 2]) -> bool {
    *anchor == [0.0; 2]
}

fn is_no_tile(tile: &[bool; 2]) -> bool {
    *tile == [false; 2]
}

impl Default for Manifest {
    fn default() -> Self {
        Manifest { version: MANIFEST_VERSION, images: BTreeMap::new(), sprites: BTreeMap::new() }
    }
}

impl Rect {
    /// The whole of a picture.
    pub fn of(width: u32, height: u32) -> Rect {
        Rect { min: [0, 0], max: [width, height] }
    }

    /// In pixels.
    pub fn width(&self) -> u32 {
        self.max[0].saturating_sub(self.min[0])
    }

    /// In pixels.
    pub fn height(&self) -> u32 {
        self.max[1].saturating_sub(self.min[1])
    }
}

impl fmt::Display for Rect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}, {}) to ({}, {})", self.min[0], self.min[1], self.max[0], self.max[1])
    }
}

/// Something that is wrong in a manifest, and how it is mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestFault {
    /// Whose fault, as `sprites.item_key.frames[1].rect`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl Manifest {
    /// Reads a manifest. What it says is not checked beyond its form; see [`faults`](Manifest::faults).
    ///
    /// # Errors
    /// [`Error::Manifest`] for text that is no manifest, was cut off, or is of a newer version.
    pub fn read(json: &[u8]) -> Result<Manifest, Error> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let fault = |reason: Reason| Error::Manifest { reason: reason.words, cause: reason.cause };
        let Version { version } = serde_json::from_slice(json).map_err(|error| fault(error.into()))?;
        if version != MANIFEST_VERSION {
            let reason = format!(
                "`version` is {version}; expected {MANIFEST_VERSION}, as this program knows no other"
            );
            return Err(fault(reason.into()));
        }
        serde_json::from_slice(json).map_err(|error| fault(error.into()))
    }

    /// As it is written to a file: the same manifest gives the same text.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data turns into JSON; this is a bug") + "\n"
    }

    /// What is wrong in itself, without a look at the pictures: paths that climb, rects outside, frames that are not there.
    pub fn faults(&self) -> Vec<ManifestFault> {
        let mut faults = vec![];
        let mut fault = |field: String, reason: String| faults.push(ManifestFault { field, reason });
        for path in self.images.keys().filter(|path| !is_plain(path)) {
            let reason =
                "leads out of the manifest's folder; expected a path as `item/item_key.0a1b2c3d.png`";
            fault(format!("images.{path}"), reason.into());
        }
        for (name, sprite) in &self.sprites {
            let at = format!("sprites.{name}");
            if !name.is_of(&sprite.category) {
                let reason = format!("the name does not begin with its category, `{}_`", sprite.category);
                fault(format!("{at}.category"), reason);
            }
            if sprite.frames.is_empty() {
                fault(format!("{at}.frames"), "is empty; expected one frame or more".into());
            }
            let Some(image) = self.images.get(&sprite.image) else {
                fault(format!("{at}.image"), format!("is `{}`, which `images` does not name", sprite.image));
                continue;
            };
            for (n, Frame { rect, duration_ms }) in sprite.frames.iter().enumerate() {
                let is_inside = rect.max[0] <= image.width && rect.max[1] <= image.height;
                if !is_inside || rect.width() == 0 || rect.height() == 0 {
                    let (width, height) = (image.width, image.height);
                    let reason = format!("is {rect}; expected pixels inside the picture of {width}x{height}");
                    fault(format!("{at}.frames[{n}].rect"), reason);
                }
                if *duration_ms == 0 {
                    fault(format!("{at}.frames[{n}].duration_ms"), "is 0; expected 1 or more".into());
                }
            }
            for (name, Animation { frames, .. }) in &sprite.animations {
                let at = format!("{at}.animations.{name}.frames");
                match frames.iter().find(|frame| **frame >= sprite.frames.len()) {
                    Some(frame) => fault(at, format!("names frame {frame} of {}", sprite.frames.len())),
                    None if frames.is_empty() => fault(at, "is empty; expected one frame or more".into()),
                    None => {}
                }
            }
            if sprite.anchor.iter().any(|part| !(-0.5..=0.5).contains(part)) {
                let reason = format!("is {:?}; expected two numbers from -0.5 to 0.5", sprite.anchor);
                fault(format!("{at}.anchor"), reason);
            }
        }
        faults
    }
}

/// Whether a path stays in its folder, on every system.
fn is_plain(path: &str) -> bool {
    let is_word =
        |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', ':', '\0']);
    path.split('/').all(is_word)
}

#[cfg(test)]
mod tests {
    use std::{env, fs};

    use super::*;

    fn schema() -> serde_json::Value {
        schemars::schema_for!(Manifest).to_value()
    }

    fn whole() -> Manifest {
        let frame = |x: u32| Frame { rect: Rect { min: [x, 0], max: [x + 16, 16] }, duration_ms: 100 };
        let image = ManifestImage {
            blake3: "0a1b2c3d".into(),
            width: 32,
            height: 16,
            palette: vec!["#c8a028".into()],
        };
        let sprite = ManifestSprite {
            category: "item".into(),
            image: "item/item_key.0a1b2c3d.png".into(),
            frames: vec![frame(0), frame(16)],
            animations: BTreeMap::from([("spin".into(), Animation { frames: vec![0, 1], repeat: false })]),
            anchor: [0.0, -0.5],
            tags: vec!["gold".into()],
            tile: [true, false],
            made: Some(MadeBy {
                prompt: "a key".into(),
                seed: u64::MAX,
                model: "sprite-xl".into(),
                ..MadeBy::default()
            }),
        };
        Manifest {
            version: MANIFEST_VERSION,
            images: BTreeMap::from([(sprite.image.clone(), image)]),
            sprites: BTreeMap::from([("item_key".parse().unwrap(), sprite)]),
        }
    }

    #[test]
    fn the_schema_in_the_docs_is_the_one_of_the_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/manifest.schema.json");
        let schema = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
        if env::var_os("UPDATE_DOCS").is_some() {
            fs::write(path, &schema).unwrap();
        }
        assert_eq!(fs::read_to_string(path).unwrap(), schema, "UPDATE_DOCS=1 writes it anew");
    }

    #[test]
    fn what_is_written_keeps_to_the_schema_and_is_read_again() {
        let validator = jsonschema::validator_for(&schema()).unwrap();
        for manifest in [whole(), Manifest::default()] {
            let text = manifest.to_json();
            validator.validate(&serde_json::from_str(&text).unwrap()).unwrap();
            assert_eq!(Manifest::read(text.as_bytes()).unwrap(), manifest);
            assert_eq!(manifest.faults(), []);
        }
    }

    #[test]
    fn what_does_not_keep_to_the_schema_is_not_read() {
        let validator = jsonschema::validator_for(&schema()).unwrap();
        let text = whole().to_json();
        for (from, to) in [
            ("\"duration_ms\": 100", "\"duration_ms\": -1"),
            ("\"frames\"", "\"frame\""),
            ("\"version\": 1,", ""),
        ] {
            let broken = text.replacen(from, to, 1);
            assert!(!validator.is_valid(&serde_json::from_str(&broken).unwrap()), "{to}");
            assert!(Manifest::read(broken.as_bytes()).is_err(), "{to}");
        }
    }

    #[test]
    fn faults_name_the_field() {
        let mut manifest = whole();
        let image = manifest.images.pop_first().unwrap().1;
        manifest.images.insert("../key.png".into(), image.clone());
        manifest.images.insert("item/item_key.0a1b2c3d.png".into(), ManifestImage { width: 31, ..image });
        let sprite = manifest.sprites.first_entry().unwrap().into_mut();
        sprite.category = "enemy".into();
        sprite.anchor = [f32::NAN, 0.0];
        sprite.frames[0].duration_ms = 0;
        sprite.animations.insert("run".into(), Animation { frames: vec![2], repeat: true });
        sprite.animations.insert("rest".into(), Animation { frames: vec![], repeat: true });
        let fields: Vec<_> = manifest.faults().into_iter().map(|fault| fault.field).collect();
        let at = |field: &str| format!("sprites.item_key.{field}");
        let expected = [
            "images.../key.png".to_owned(),
            at("category"),
            at("frames[0].duration_ms"),
            at("frames[1].rect"),
            at("animations.rest.frames"),
            at("animations.run.frames"),
            at("anchor"),
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn paths_that_lead_out_are_faults_on_every_system() {
        for path in
            ["/etc/a.png", "a/../b.png", "C:\\a.png", "a\\b.png", "", "a//b.png", ".hidden/a.png", "./a.png"]
        {
            assert!(!is_plain(path), "{path}");
        }
        assert!(is_plain("enemy/enemy_slime.0a1b2c3d.png"));
    }
}
