//! Deploys into a game that runs.

use std::fs;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bevy::prelude::*;
use dgx_pixels_bevy::Sprites;
use dgx_pixels_core::asset;

use crate::rig::{Game, animated, picture, project, sprite, status};

#[test]
fn deploys_show_in_the_running_game_with_their_own_rectangles() {
    let mut game = Game::new();
    let slime = game.spawn("enemy_slime");
    // There is no manifest yet.
    game.until(|world| status(world).error.is_some());
    game.deploy(&[sprite("enemy_slime", 16, 10)]);
    assert_eq!(game.picture(slime), (16, 10));
    assert!(game.shown(slime).texture_atlas.is_none());
    for (width, color) in [(32, 20), (64, 30), (48, 40)] {
        game.deploy(&[animated("enemy_slime", width, color)]);
        assert_eq!(game.picture(slime), (width, color));
        let atlas = game.shown(slime).texture_atlas.clone().unwrap();
        let layout = game.app.world().resource::<Assets<TextureAtlasLayout>>().get(&atlas.layout).unwrap();
        assert_eq!((layout.textures.len() as u32, layout.size.x), (width / 16, width));
    }
    let frame = |world: &World| world.get::<Sprite>(slime).unwrap().texture_atlas.as_ref().unwrap().index;
    let before = frame(game.app.world());
    game.until(|world| frame(world) != before);
}

/// In each frame of the game: that every sprite's rectangles are those of the picture that it
/// shows. Colours are `width / 16`.
fn nothing_is_torn(
    sprites: Res<Sprites>,
    images: Res<Assets<Image>>,
    layouts: Res<Assets<TextureAtlasLayout>>,
    entities: Query<&Sprite>,
    torn: Res<Torn>,
) {
    for sprite in &entities {
        let Some(atlas) = &sprite.texture_atlas else { continue };
        let (Some(image), Some(layout)) = (images.get(&sprite.image), layouts.get(&atlas.layout)) else {
            torn.0.lock().unwrap().push("a handle leads to nothing".to_owned());
            continue;
        };
        let color = u32::from(image.data.as_ref().unwrap()[0]);
        let frames = layout.textures.len() as u32;
        if (color, image.width(), layout.size.x) != (frames, frames * 16, frames * 16)
            || atlas.index >= layout.textures.len()
        {
            torn.0.lock().unwrap().push(format!("color {color}, {}, {layout:?}", image.width()));
        }
    }
    if let Some(fault) = sprites.status().faults.first() {
        torn.0.lock().unwrap().push(fault.reason.clone());
    }
}

#[derive(Resource, Clone, Default)]
struct Torn(Arc<Mutex<Vec<String>>>);

#[test]
fn eight_deployers_at_once_lose_nothing_and_tear_nothing() {
    const DEPLOYERS: u32 = 8;
    const DEPLOYS: u32 = 12;
    let mut game = Game::new();
    let torn = Torn::default();
    game.app.insert_resource(torn.clone()).add_systems(Last, nothing_is_torn);
    for name in ["enemy_0", "enemy_3", "enemy_7"] {
        game.spawn(name);
    }
    let (project, port) = (game.project.clone(), game.port);
    game.during(move || {
        thread::scope(|scope| {
            for deployer in 0..DEPLOYERS {
                let project = &project;
                scope.spawn(move || {
                    for n in 0..DEPLOYS {
                        let frames = 2 + (deployer + n) % 7;
                        let wanted = animated(&format!("enemy_{deployer}"), frames * 16, frames as u8);
                        let deployed = project.deploy(&[wanted]).unwrap();
                        let live =
                            asset::Game::new(port).confirm(project, &deployed, Duration::from_secs(20));
                        assert!(live.live, "{live:?}");
                    }
                });
            }
        });
    });
    assert_eq!(*torn.0.lock().unwrap(), Vec::<String>::new());
    let status = game.status();
    assert_eq!((status.sprites, status.faults.len()), (DEPLOYERS as usize, 0));
    for deployer in 0..DEPLOYERS {
        let shown = game.app.world().resource::<Sprites>().get(&format!("enemy_{deployer}")).unwrap().clone();
        assert_eq!(shown.entry.frames.len() as u32, 2 + (deployer + DEPLOYS - 1) % 7);
    }
}

#[test]
fn a_thousand_deploys_in_a_row_are_each_shown_and_whole() {
    let mut game = Game::new();
    let torn = Torn::default();
    game.app.insert_resource(torn.clone()).add_systems(Last, nothing_is_torn);
    game.spawn("enemy_slime");
    let (project, port) = (game.project.clone(), game.port);
    game.during(move || {
        for n in 0..1000 {
            let frames = 2 + n % 7;
            let deployed = project.deploy(&[animated("enemy_slime", frames * 16, frames as u8)]).unwrap();
            let live = asset::Game::new(port).confirm(&project, &deployed, Duration::from_secs(20));
            assert!(live.live, "{n}: {live:?}");
        }
    });
    assert_eq!(*torn.0.lock().unwrap(), Vec::<String>::new());
    let deployed = game.project.manifest().unwrap();
    let shown = game.app.world().resource::<Sprites>().get("enemy_slime").unwrap();
    assert_eq!(shown.entry, deployed.sprites["enemy_slime"]);
}

#[test]
fn a_whole_folder_that_is_renamed_into_its_place_is_seen() {
    let (_folder, other) = project();
    other.deploy(&[sprite("enemy_slime", 16, 10)]).unwrap();
    let mut game = Game::new();
    let slime = game.spawn("enemy_slime");
    game.until(|world| status(world).error.is_some());
    fs::rename(other.assets().join("sprites"), game.project.assets().join("sprites")).unwrap();
    game.until(|world| status(world).manifest.is_some());
    assert_eq!(game.picture(slime), (16, 10));
}

#[test]
fn a_picture_that_is_edited_in_its_place_is_seen() {
    let mut game = Game::new();
    let slime = game.spawn("enemy_slime");
    let path = game.deploy(&[sprite("enemy_slime", 16, 10)]);
    fs::write(path, sprite("enemy_slime", 16, 77).png).unwrap();
    game.until(|world| picture(world, slime) == (16, 77));
}
