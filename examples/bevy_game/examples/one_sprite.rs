//! The game of docs/bevy.md: one sprite, and whatever is deployed in its place.

use bevy::prelude::*;
use dgx_pixels_bevy::{GameSprite, SpritesPlugin};

fn main() {
    App::new()
        .add_plugins(DefaultPlugins.set(ImagePlugin::default_nearest()))
        .add_plugins(SpritesPlugin)
        .add_systems(Startup, |mut commands: Commands| {
            commands.spawn(Camera2d);
            commands.spawn((GameSprite::new("enemy_slime"), Transform::from_scale(Vec3::splat(8.0))));
        })
        .run();
}
