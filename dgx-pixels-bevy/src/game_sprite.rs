//! The component that names a sprite, and how an entity comes to show it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use bevy::image::TRANSPARENT_IMAGE_HANDLE;
use bevy::prelude::*;
use bevy::sprite::Anchor;

use crate::animation::{Playback, Soonest};
use crate::live::LiveSprite;
use crate::sprites::Sprites;

/// Shows a sprite of the manifest. It fills in `image`, `texture_atlas` and the [`Anchor`] of
/// Bevy's [`Sprite`]; colour, flips and size stay yours.
///
/// A name that the manifest does not have shows as a checkerboard of magenta and black, until a
/// deploy brings it.
///
/// # Example
/// ```
/// use bevy::prelude::*;
/// use dgx_pixels_bevy::GameSprite;
/// let mut world = World::new();
/// let hero = world.spawn((GameSprite::new("character_hero"), Transform::from_xyz(8.0, 8.0, 1.0))).id();
/// world.get_mut::<GameSprite>(hero).unwrap().play("walk");
/// assert_eq!(world.get::<GameSprite>(hero).unwrap().animation.as_deref(), Some("walk"));
/// ```
#[derive(Component, Reflect, Clone, Debug, PartialEq, Eq)]
#[reflect(Component)]
#[require(Sprite = nothing_yet(), Playback)]
pub struct GameSprite {
    /// The name of the sprite in the manifest.
    pub name: Cow<'static, str>,
    /// The name of the animation to play; without one, `idle` if there is one, or all frames of a
    /// sprite that has no animations.
    pub animation: Option<Cow<'static, str>>,
}

impl GameSprite {
    /// The sprite of this name.
    /// It plays its default animation. The name need not be in the manifest yet.
    pub fn new(name: impl Into<Cow<'static, str>>) -> GameSprite {
        GameSprite { name: name.into(), animation: None }
    }

    /// Returns this sprite with an animation to play.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_bevy::GameSprite;
    /// let hero = GameSprite::new("character_hero").playing("walk");
    /// assert_eq!(hero.animation.as_deref(), Some("walk"));
    /// ```
    pub fn playing(mut self, animation: impl Into<Cow<'static, str>>) -> GameSprite {
        self.animation = Some(animation.into());
        self
    }

    /// Plays an animation from its first frame on. Call it when the animation changes, not each
    /// frame.
    /// A name that the sprite does not have shows its default animation.
    pub fn play(&mut self, animation: impl Into<Cow<'static, str>>) {
        self.animation = Some(animation.into());
    }
}

/// Shown before the first manifest: nothing, not white.
fn nothing_yet() -> Sprite {
    Sprite::from_image(TRANSPARENT_IMAGE_HANDLE)
}

type Shown<'a> = (Ref<'a, GameSprite>, &'a mut Sprite, &'a mut Anchor, &'a mut Playback);

/// Entities that are new, or name another sprite or animation.
pub(crate) fn show_changed(
    sprites: Res<Sprites>,
    time: Res<Time>,
    mut soonest: ResMut<Soonest>,
    mut entities: Query<Shown, Changed<GameSprite>>,
    mut warned: Local<HashSet<String>>,
) {
    for (game_sprite, mut sprite, mut anchor, mut playback) in &mut entities {
        show(&sprites, time.elapsed_secs_f64(), &game_sprite, &mut sprite, &mut anchor, &mut playback, true);
        soonest.note(&playback);
        let is_unknown = playback.sprite.is_none() && sprites.status().manifest.is_some();
        if is_unknown && warned.insert(game_sprite.name.to_string()) {
            warn!("the manifest has no sprite `{}`; a checkerboard is shown", game_sprite.name);
        }
    }
}

/// After a manifest took over: entities whose sprite is another now. What they are doing goes on.
pub(crate) fn show_swapped(
    sprites: Res<Sprites>,
    time: Res<Time>,
    mut soonest: ResMut<Soonest>,
    mut entities: Query<Shown>,
    mut shown: Local<u64>,
) {
    if *shown == sprites.version {
        return;
    }
    *shown = sprites.version;
    for (game_sprite, mut sprite, mut anchor, mut playback) in &mut entities {
        let is_same = match (sprites.get(&game_sprite.name), &playback.sprite) {
            (Some(new), Some(old)) => Arc::ptr_eq(new, old),
            _ => false,
        };
        if !is_same {
            show(
                &sprites,
                time.elapsed_secs_f64(),
                &game_sprite,
                &mut sprite,
                &mut anchor,
                &mut playback,
                false,
            );
            soonest.note(&playback);
        }
    }
}

fn show(
    sprites: &Sprites,
    now: f64,
    game_sprite: &GameSprite,
    sprite: &mut Sprite,
    anchor: &mut Anchor,
    playback: &mut Playback,
    from_start: bool,
) {
    let live = sprites.get(&game_sprite.name);
    playback.sprite = live.cloned();
    let Some(live) = live else {
        playback.stop();
        sprite.texture_atlas = None;
        if sprites.version > 0 {
            sprite.image = sprites.fallback.clone();
        }
        return;
    };
    let wanted = game_sprite.animation.as_deref();
    let clip = live.clip(wanted).or_else(|| live.clip(None));
    if let Some(clip) = clip {
        playback.play(clip, now, from_start);
    }
    sprite.image = live.image.clone();
    sprite.texture_atlas = atlas(live, playback.frame());
    *anchor = live.anchor;
}

fn atlas(live: &LiveSprite, frame: usize) -> Option<TextureAtlas> {
    live.layout.clone().map(|layout| TextureAtlas { layout, index: frame })
}
