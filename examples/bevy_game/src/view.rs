//! The camera: one pixel of a sprite is a whole number of pixels of the screen.

use bevy::camera::RenderTarget;
use bevy::prelude::*;
use bevy::render::render_resource::TextureFormat;
use bevy::window::PrimaryWindow;

use crate::map;

/// What is seen, in pixels of sprites.
pub(crate) const SIZE: UVec2 =
    UVec2::new(map::WIDTH as u32 * map::TILE as u32, map::HEIGHT as u32 * map::TILE as u32);

/// Pixels of the screen for one of a sprite.
pub(crate) const SCALE: u32 = 2;

pub(crate) fn plugin(headless: bool) -> impl Plugin {
    move |app: &mut App| {
        app.insert_resource(ClearColor(Color::BLACK));
        match headless {
            true => app.add_systems(Startup, picture),
            false => app.add_systems(Startup, window),
        };
    }
}

fn middle() -> Transform {
    Transform::from_translation((SIZE.as_vec2() / 2.0).extend(0.0))
}

fn window(mut commands: Commands) {
    let mut projection = OrthographicProjection::default_2d();
    projection.scale = 1.0 / SCALE as f32;
    commands.spawn((Camera2d, Msaa::Off, Projection::Orthographic(projection), middle()));
}

fn picture(mut commands: Commands, mut images: ResMut<Assets<Image>>) {
    let image = images.add(Image::new_target_texture(SIZE.x, SIZE.y, TextureFormat::Rgba8UnormSrgb, None));
    commands.spawn((Camera2d, Msaa::Off, RenderTarget::Image(image.into()), middle()));
    // Nothing draws to it; keys that an agent sends are a window's.
    commands.spawn((Window { title: "DGX-Pixels, headless".into(), ..default() }, PrimaryWindow));
}
