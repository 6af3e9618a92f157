//! The hero, and the keys.

use bevy::prelude::*;
use dgx_pixels_bevy::GameSprite;

use crate::map;

/// In pixels of a sprite a second.
const SPEED: f32 = 96.0;

#[derive(Component, Reflect)]
#[reflect(Component)]
pub(crate) struct Hero {
    /// Faster until then, in seconds of the game.
    pub(crate) quick_until: f32,
}

pub(crate) fn plugin(app: &mut App) {
    app.register_type::<Hero>().add_systems(Startup, spawn).add_systems(Update, walk);
}

/// Where the hero begins.
pub(crate) fn start() -> Vec2 {
    map::places(b'@').next().unwrap_or_default()
}

fn spawn(mut commands: Commands) {
    let hero = Hero { quick_until: 0.0 };
    let place = Transform::from_translation(start().extend(3.0));
    commands.spawn((Name::new("hero"), hero, GameSprite::new("character_hero"), place));
}

fn walk(
    keys: Res<ButtonInput<KeyCode>>,
    time: Res<Time>,
    mut heroes: Query<(&Hero, &mut Transform, &mut Sprite, &mut GameSprite)>,
) {
    let held = |keys_of: [KeyCode; 2]| f32::from(u8::from(keys.any_pressed(keys_of)));
    let wish = Vec2::new(
        held([KeyCode::ArrowRight, KeyCode::KeyD]) - held([KeyCode::ArrowLeft, KeyCode::KeyA]),
        held([KeyCode::ArrowUp, KeyCode::KeyW]) - held([KeyCode::ArrowDown, KeyCode::KeyS]),
    );
    for (hero, mut place, mut sprite, mut shown) in &mut heroes {
        let animation = if wish == Vec2::ZERO { "idle" } else { "walk" };
        if shown.animation.as_deref() != Some(animation) {
            shown.play(animation);
        }
        if wish.x != 0.0 {
            sprite.flip_x = wish.x < 0.0;
        }
        let quick = if time.elapsed_secs() < hero.quick_until { 1.6 } else { 1.0 };
        let step = wish.normalize_or_zero() * SPEED * quick * time.delta_secs();
        // Each axis alone, so that one slides along walls.
        for step in [Vec2::new(step.x, 0.0), Vec2::new(0.0, step.y)] {
            let next = place.translation.truncate() + step;
            if map::is_free(next) {
                place.translation = next.extend(place.translation.z);
            }
        }
    }
}
