//! What the plugin takes of a frame: 5,000 sprites through it, and 5,000 of Bevy's own:
//! `cargo bench --package bevy_game --bench frames`.
//!
//! Both scenes are drawn into a picture by the same program, which changes between them after every
//! few frames, so that whatever else the machine does falls on both. `still` is one picture each;
//! `animated` is a sheet of four frames, in Bevy's scene with the timer that its own example has.
//! Each is measured once more with the camera off, where a frame is the game's work alone.

use std::fs;
use std::time::Instant;

use bevy::camera::RenderTarget;
use bevy::prelude::*;
use bevy::render::render_resource::TextureFormat;
use bevy::window::ExitCondition;
use bevy::winit::WinitPlugin;
use dgx_pixels_bevy::{GameSprite, Sprites, SpritesPlugin};
use dgx_pixels_core::asset::{NewSprite, Project};
use dgx_pixels_core::picture_file::sprite_png;
use dgx_pixels_manifest::{Frame, Rect};
use image::{Rgba, RgbaImage};

const SPRITES: usize = 5000;
const FRAMES: u32 = 4;
const FRAME_MS: u32 = 100;
/// Frames of one scene before it is the other's turn, after one that is not counted.
const TURN: usize = 10;
const TURNS: usize = 60;
const SIZE: UVec2 = UVec2::new(640, 360);

/// As Bevy's example `sprite_sheet` animates.
#[derive(Component)]
struct Beat(Timer);

fn beat(time: Res<Time>, mut entities: Query<(&mut Beat, &mut Sprite)>) {
    for (mut beat, mut sprite) in &mut entities {
        beat.0.tick(time.delta());
        if beat.0.just_finished()
            && let Some(atlas) = &mut sprite.texture_atlas
        {
            atlas.index = (atlas.index + 1) % FRAMES as usize;
        }
    }
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder for a project");
    fs::write(folder.path().join("Cargo.toml"), "[dependencies]\nbevy = \"0.19\"\n")
        .expect("it can be written");
    let project = Project::open(folder.path()).expect("it is a project");
    let still = |name: &str, width: u32| {
        let picture = RgbaImage::from_fn(width, 16, |x, y| Rgba([x as u8 * 3, y as u8 * 9, 90, 255]));
        let png = sprite_png(&picture, None).expect("memory takes a PNG");
        NewSprite::new(name.parse().expect("a name"), png)
    };
    let frame =
        |n: u32| Frame { rect: Rect { min: [n * 16, 0], max: [n * 16 + 16, 16] }, duration_ms: FRAME_MS };
    let animated =
        NewSprite { frames: (0..FRAMES).map(frame).collect(), ..still("item_animated", FRAMES * 16) };
    project.deploy(&[still("item_still", 16), animated]).expect("the project takes sprites");

    let mut app = App::new();
    let windows = WindowPlugin { primary_window: None, exit_condition: ExitCondition::DontExit, ..default() };
    let assets = AssetPlugin { file_path: project.assets().display().to_string(), ..default() };
    app.add_plugins(
        DefaultPlugins
            .set(ImagePlugin::default_nearest())
            .set(windows)
            .set(assets)
            .disable::<WinitPlugin>()
            .disable::<bevy::log::LogPlugin>(),
    )
    .add_plugins(SpritesPlugin)
    .add_systems(Update, beat);
    app.finish();
    app.cleanup();
    let target = app.world_mut().resource_mut::<Assets<Image>>().add(Image::new_target_texture(
        SIZE.x,
        SIZE.y,
        TextureFormat::Rgba8UnormSrgb,
        None,
    ));
    let camera = app.world_mut().spawn((Camera2d, Msaa::Off, RenderTarget::Image(target.into()))).id();
    while app.world().resource::<Sprites>().get("item_still").is_none() {
        app.update();
    }
    for (scene, drawn) in [("still", true), ("animated", true), ("still", false), ("animated", false)] {
        app.world_mut().get_mut::<Camera>(camera).expect("it is a camera").is_active = drawn;
        let scenes = [spawn_plain, spawn_ours];
        let mut times = [vec![], vec![]];
        for turn in 0..2 * TURNS {
            let entities = scenes[turn % 2](app.world_mut(), scene);
            // The first frames of a scene give its entities their render data.
            for _ in 0..3 {
                app.update();
            }
            for _ in 0..TURN {
                let began = Instant::now();
                app.update();
                times[turn % 2].push(began.elapsed().as_secs_f64() * 1e3);
            }
            for entity in entities {
                app.world_mut().despawn(entity);
            }
        }
        let [plain, ours] = times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        });
        println!(
            "{scene}, {}: {SPRITES} sprites, {} frames each, {}x{}: Bevy's {plain:.3} ms, ours {ours:.3} ms, {:+.2} %",
            if drawn { "drawn" } else { "not drawn" },
            TURN * TURNS,
            SIZE.x,
            SIZE.y,
            (ours / plain - 1.0) * 100.0
        );
    }
}

fn place(n: usize) -> Transform {
    let (x, y) = ((n % 100) as f32 * 6.0, (n / 100) as f32 * 6.0);
    Transform::from_xyz(x - 300.0, y - 150.0, 0.0)
}

fn spawn_ours(world: &mut World, scene: &str) -> Vec<Entity> {
    let name = format!("item_{scene}");
    (0..SPRITES).map(|n| world.spawn((GameSprite::new(name.clone()), place(n))).id()).collect()
}

fn spawn_plain(world: &mut World, scene: &str) -> Vec<Entity> {
    let shown = world.resource::<Sprites>().get(&format!("item_{scene}")).expect("it was deployed").clone();
    let spawn = |n| {
        let sprite = match &shown.layout {
            None => Sprite::from_image(shown.image.clone()),
            Some(layout) => Sprite::from_atlas_image(
                shown.image.clone(),
                TextureAtlas { layout: layout.clone(), index: 0 },
            ),
        };
        let mut entity = world.spawn((sprite, place(n)));
        if shown.layout.is_some() {
            entity.insert(Beat(Timer::from_seconds(FRAME_MS as f32 / 1e3, TimerMode::Repeating)));
        }
        entity.id()
    };
    (0..SPRITES).map(spawn).collect()
}
