//! `sprites/manifest.json`: the sprites of a game, their images and animations.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{ManifestError, ManifestFault};
use crate::format::MANIFEST_VERSION;
use crate::name::SpriteName;

/// The sprites of a game. The JSON Schema is `docs/manifest.schema.json`.
///
/// An image is named by its content and never changes. A manifest and its images are therefore
/// valid together: a deploy takes effect at the moment when its manifest is renamed into place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the format, [`MANIFEST_VERSION`].
    pub version: u32,
    /// The images by their paths, which start in the manifest's folder and use `/`.
    pub images: BTreeMap<String, ManifestImage>,
    /// The sprites by their names.
    pub sprites: BTreeMap<SpriteName, ManifestSprite>,
}

/// An image: one PNG file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ManifestImage {
    /// The BLAKE3 hash of the file in hexadecimal digits. The file's name holds the first eight.
    pub blake3: String,
    /// The width in pixels.
    pub width: u32,
    /// The height in pixels.
    pub height: u32,
    /// The colors, for example `#1a1c2c`, the most frequent first; empty if there are more than
    /// 256.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub palette: Vec<String>,
}

/// A sprite, tile or animated character: frames of one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ManifestSprite {
    /// The use of the sprite in the game, for example `enemy`. The name begins with it.
    pub category: String,
    /// The path of its image, one of [`images`](Manifest::images).
    pub image: String,
    /// The frames, at least one. A sprite that does not move has one, as large as the image.
    pub frames: Vec<Frame>,
    /// The animations by their names, for example `walk`. A sprite with several frames and no
    /// animation plays all frames in a loop.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub animations: BTreeMap<String, Animation>,
    /// The point of a frame that lies on the entity's position: from (-0.5, -0.5), bottom left, to
    /// (0.5, 0.5), top right, like Bevy's `Anchor`. Default: (0, 0), the middle.
    #[serde(default, skip_serializing_if = "is_center")]
    pub anchor: [f32; 2],
    /// Words to find the sprite by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The edges that meet seamlessly: `[left and right, top and bottom]`.
    #[serde(default, skip_serializing_if = "is_no_tile")]
    pub tile: [bool; 2],
    /// The origin of the sprite; `None` for an image that DGX-Pixels did not make.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<MadeBy>,
}

/// A frame of a sprite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Frame {
    /// The place in the image.
    pub rect: Rect,
    /// The time that the frame is shown, in milliseconds, at least 1.
    pub duration_ms: u32,
}

/// The pixels from `min` up to, and without, `max`: `[x, y]` from the top left, like Bevy's
/// `URect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Rect {
    /// The top left corner.
    pub min: [u32; 2],
    /// The bottom right corner.
    pub max: [u32; 2],
}

/// An animation: frames in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Animation {
    /// Indices into [`frames`](ManifestSprite::frames), at least one.
    pub frames: Vec<usize>,
    /// `true` if the animation starts again at its end. Default: true.
    #[serde(default = "yes")]
    pub repeat: bool,
}

/// The origin of a sprite, and the terms of its model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MadeBy {
    /// The prompt, as the model got it.
    pub prompt: String,
    /// The seed of the noise.
    pub seed: u64,
    /// The model's name.
    pub model: String,
    /// The model's license if its card names one, for example `openrail++`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// The program and its version, for example `dgx-pixels 0.1.0`.
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
    /// Returns the rectangle that covers a whole image.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_manifest::Rect;
    /// let rect = Rect::of(32, 16);
    /// assert_eq!((rect.min, rect.max), ([0, 0], [32, 16]));
    /// assert_eq!((rect.width(), rect.height()), (32, 16));
    /// ```
    pub fn of(width: u32, height: u32) -> Rect {
        Rect { min: [0, 0], max: [width, height] }
    }

    /// Returns the width in pixels; 0 if the corners are in the wrong order.
    pub fn width(&self) -> u32 {
        self.max[0].saturating_sub(self.min[0])
    }

    /// Returns the height in pixels; 0 if the corners are in the wrong order.
    pub fn height(&self) -> u32 {
        self.max[1].saturating_sub(self.min[1])
    }
}

impl fmt::Display for Rect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}, {}) to ({}, {})", self.min[0], self.min[1], self.max[0], self.max[1])
    }
}

impl Manifest {
    /// Reads a manifest and checks the form of its text. [`faults`](Manifest::faults) checks the
    /// rest.
    ///
    /// # Errors
    /// [`ManifestError::Json`] if the text is not a manifest or was cut off, and
    /// [`ManifestError::Version`] if it has another version than [`MANIFEST_VERSION`].
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_manifest::{Manifest, ManifestError};
    /// assert!(matches!(Manifest::read(b"{"), Err(ManifestError::Json(_))));
    /// let newer = br#"{ "version": 9, "images": {}, "sprites": {} }"#;
    /// assert!(matches!(Manifest::read(newer), Err(ManifestError::Version(9))));
    /// ```
    pub fn read(json: &[u8]) -> Result<Manifest, ManifestError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_slice(json)?;
        if version != MANIFEST_VERSION {
            return Err(ManifestError::Version(version));
        }
        Ok(serde_json::from_slice(json)?)
    }

    /// Returns the text of the file. Equal manifests give equal texts.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_manifest::Manifest;
    /// let empty = Manifest::default();
    /// assert_eq!(Manifest::read(empty.to_json().as_bytes())?, empty);
    /// # Ok::<(), dgx_pixels_manifest::ManifestError>(())
    /// ```
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data turns into JSON; this is a bug") + "\n"
    }

    /// Returns the contradictions in the manifest, without a look at the image files: paths that
    /// lead out of the folder, rectangles outside the image, frames that do not exist.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_manifest::{Frame, Manifest, ManifestImage, ManifestSprite, Rect, SpriteName};
    ///
    /// let frame = Frame { rect: Rect::of(16, 16), duration_ms: 100 };
    /// let key = ManifestSprite {
    ///     category: "item".into(),
    ///     image: "item/item_key.0a1b2c3d.png".into(),
    ///     frames: vec![frame],
    ///     animations: Default::default(),
    ///     anchor: [0.0, 0.0],
    ///     tags: vec![],
    ///     tile: [false, false],
    ///     made: None,
    /// };
    /// let mut manifest = Manifest::default();
    /// manifest.sprites.insert(SpriteName::new("item", "key")?, key);
    /// // The manifest has no such image.
    /// assert_eq!(manifest.faults()[0].field, "sprites.item_key.image");
    /// let image = ManifestImage { blake3: "0a1b2c3d".into(), width: 16, height: 16, palette: vec![] };
    /// manifest.images.insert("item/item_key.0a1b2c3d.png".into(), image);
    /// assert!(manifest.faults().is_empty());
    /// # Ok::<(), dgx_pixels_manifest::ManifestError>(())
    /// ```
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

/// Returns `true` if a path stays in its folder on every system.
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
    fn a_manifest_of_another_version_or_cut_off_says_so() {
        let text = whole().to_json();
        let newer = text.replacen("\"version\": 1", "\"version\": 2", 1);
        let error = Manifest::read(newer.as_bytes()).unwrap_err();
        assert!(matches!(error, ManifestError::Version(2)), "{error}");
        assert!(error.to_string().contains("`version` is 2; expected 1"), "{error}");
        let error = Manifest::read(&text.as_bytes()[..text.len() / 2]).unwrap_err();
        assert!(matches!(&error, ManifestError::Json(cause) if cause.is_eof()), "{error}");
        assert!(error.to_string().starts_with("the manifest cannot be read: EOF"), "{error}");
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
