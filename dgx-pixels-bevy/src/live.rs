//! A sprite as it is shown: picture, rectangles and animations that belong together.

use std::collections::BTreeMap;
use std::sync::Arc;

use bevy::prelude::*;
use bevy::sprite::Anchor;
use dgx_pixels_manifest::{Frame, ManifestSprite};

/// The animation that plays by default, if the sprite has it.
const IDLE: &str = "idle";

/// A sprite that can be shown.
///
/// [`Sprites::get`](crate::Sprites::get) returns it. It does not change: a deploy of a sprite of
/// the same name makes another one.
#[derive(Debug)]
pub struct LiveSprite {
    /// The sprite's entry in the manifest.
    pub entry: ManifestSprite,
    /// The sprite's image.
    pub image: Handle<Image>,
    /// The frames in the picture; `None` where the picture is the only frame.
    pub layout: Option<Handle<TextureAtlasLayout>>,
    /// The point that lies on the entity's position.
    pub anchor: Anchor,
    clips: BTreeMap<String, Arc<Clip>>,
    /// The animation that plays if the entity names none.
    default_clip: Arc<Clip>,
}

/// An animation.
///
/// A step has the index of a frame of the sprite and the time that the frame is shown, in seconds.
/// A frame may come more than once, as in an animation that goes there and back.
#[derive(Debug, PartialEq)]
pub struct Clip {
    /// The name of the animation; empty for the frames of a sprite without animations.
    pub name: String,
    /// Frames with their seconds, at least one.
    pub steps: Vec<(usize, f64)>,
    /// `true` if the animation begins again at its end.
    pub repeat: bool,
}

impl LiveSprite {
    pub(crate) fn new(
        entry: &ManifestSprite,
        image: Handle<Image>,
        size: UVec2,
        layouts: &mut Assets<TextureAtlasLayout>,
    ) -> LiveSprite {
        let rects: Vec<_> = entry
            .frames
            .iter()
            .map(|Frame { rect, .. }| URect { min: rect.min.into(), max: rect.max.into() })
            .collect();
        let is_whole = rects == [URect { min: UVec2::ZERO, max: size }];
        let layout = (!is_whole).then(|| layouts.add(TextureAtlasLayout { size, textures: rects }));
        let step = |frame: usize| (frame, f64::from(entry.frames[frame].duration_ms) / 1e3);
        let clip = |name: &str, frames: &mut dyn Iterator<Item = usize>, repeat| {
            Arc::new(Clip { name: name.to_owned(), steps: frames.map(step).collect(), repeat })
        };
        let clips: BTreeMap<_, _> = entry
            .animations
            .iter()
            .map(|(name, one)| (name.clone(), clip(name, &mut one.frames.iter().copied(), one.repeat)))
            .collect();
        let default_clip = match clips.get(IDLE) {
            Some(idle) => Arc::clone(idle),
            None if clips.is_empty() => clip("", &mut (0..entry.frames.len()), true),
            None => clip("", &mut (0..1), true),
        };
        LiveSprite {
            anchor: Anchor(entry.anchor.into()),
            entry: entry.clone(),
            image,
            layout,
            clips,
            default_clip,
        }
    }

    /// The animation of this name. Without a name: `idle` if there is one; all frames of a sprite
    /// without animations; else the first frame.
    /// `None` for a name that the sprite does not have.
    pub fn clip(&self, name: Option<&str>) -> Option<&Arc<Clip>> {
        match name {
            Some(name) => self.clips.get(name),
            None => Some(&self.default_clip),
        }
    }

    /// Returns the names of the sprite's animations.
    pub fn animations(&self) -> impl Iterator<Item = &str> {
        self.clips.keys().map(String::as_str)
    }
}
