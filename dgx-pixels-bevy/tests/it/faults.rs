//! What is broken in a project while its game runs.

use std::fs;
use std::path::PathBuf;

use bevy::prelude::*;
use dgx_pixels_manifest::Manifest;

use crate::rig::{Game, app, picture, sprite, status};

#[test]
fn a_broken_manifest_changes_nothing_and_the_next_one_is_shown() {
    let mut game = Game::new();
    let slime = game.spawn("enemy_slime");
    game.deploy(&[sprite("enemy_slime", 16, 10)]);
    let path = game.project.manifest_path();
    let whole = fs::read_to_string(&path).unwrap();
    let mut outside = Manifest::read(whole.as_bytes()).unwrap();
    outside.sprites.values_mut().next().unwrap().frames[0].rect.max = [17, 16];
    let broken = [
        (whole[..whole.len() / 2].to_owned(), "EOF"),
        (whole.replace("\"version\": 1", "\"version\": 2"), "version"),
        (whole.replace("\"enemy/enemy_slime", "\"../enemy/enemy_slime"), "../enemy"),
        (whole.replace("\"duration_ms\": 100", "\"duration_ms\": 0"), "duration_ms"),
        (outside.to_json(), "rect"),
        (String::new(), "EOF"),
    ];
    for (text, expected) in broken {
        assert_ne!(text, whole);
        fs::write(&path, text).unwrap();
        game.until(|world| status(world).error.is_some_and(|error| error.contains(expected)));
        assert_eq!(game.picture(slime), (16, 10));
        fs::write(&path, &whole).unwrap();
        game.until(|world| status(world).error.is_none());
    }
    game.deploy(&[sprite("enemy_slime", 16, 50)]);
    assert_eq!(game.picture(slime), (16, 50));
}

#[test]
fn what_cannot_be_shown_is_a_checkerboard_and_named() {
    let mut game = Game::new();
    let project = game.project.clone();
    let deployed = project.deploy(&[sprite("enemy_slime", 16, 10), sprite("item_key", 16, 20)]).unwrap();
    fs::write(&deployed.sprites[0].path, "text").unwrap();
    let [slime, key, unknown] = ["enemy_slime", "item_key", "enemy_nobody"].map(|name| game.spawn(name));
    game.until(|world| status(world).manifest.is_some());
    let faults = game.status().faults;
    assert_eq!(faults.iter().map(|fault| fault.sprite.as_str()).collect::<Vec<_>>(), ["enemy_slime"]);
    assert_eq!(game.picture(key), (16, 20));
    assert_eq!((game.picture(slime), game.picture(unknown)), ((16, 255), (16, 255)));
    // The file is put right, and another sprite comes: both show.
    game.deploy(&[sprite("enemy_slime", 16, 11), sprite("enemy_nobody", 16, 12)]);
    assert_eq!((game.picture(slime), game.picture(unknown)), ((16, 11), (16, 12)));
    assert!(game.folder.path().join("assets").exists());
}

/// A game that shows a slime, and the slime's file.
fn with_slime() -> (Game, Entity, PathBuf) {
    let mut game = Game::new();
    let slime = game.spawn("enemy_slime");
    let path = game.deploy(&[sprite("enemy_slime", 16, 10)]);
    assert_eq!(game.picture(slime), (16, 10));
    (game, slime, path)
}

#[test]
fn a_picture_that_becomes_text_or_another_size_keeps_what_was_shown() {
    let (mut game, slime, path) = with_slime();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, "text").unwrap();
    game.until(|world| !status(world).faults.is_empty());
    assert_eq!(game.picture(slime), (16, 10));
    assert!(game.status().faults[0].reason.contains("cannot be shown"), "{:?}", game.status());
    fs::write(&path, whole).unwrap();
    game.until(|world| status(world).faults.is_empty());

    // The manifest's rectangles would cut it wrongly.
    fs::write(&path, sprite("enemy_slime", 32, 11).png).unwrap();
    game.until(|world| !status(world).faults.is_empty());
    assert!(game.status().faults[0].reason.contains("a picture of 32x16"), "{:?}", game.status());
}

#[test]
fn a_deleted_picture_stays_on_the_screen_and_a_deploy_brings_it_back() {
    let (mut game, slime, path) = with_slime();
    fs::remove_file(&path).unwrap();
    game.deploy(&[sprite("item_key", 16, 20)]);
    assert_eq!(game.picture(slime), (16, 10));
    // Another start of the game finds no file.
    let mut restarted = Game { app: app(&game.project, ()), ..game };
    let slime = restarted.spawn("enemy_slime");
    restarted.until(|world| !status(world).faults.is_empty());
    assert_eq!(restarted.picture(slime), (16, 255));
    restarted.deploy(&[sprite("enemy_slime", 16, 10)]);
    restarted.until(|world| status(world).faults.is_empty());
    assert_eq!(restarted.picture(slime), (16, 10));
    assert!(path.exists());
}

#[test]
fn a_meta_file_that_cannot_be_read_keeps_what_was_shown() {
    let (mut game, slime, path) = with_slime();
    let meta = path.with_extension("png.meta");
    fs::write(&meta, "no meta").unwrap();
    fs::write(&path, sprite("enemy_slime", 16, 11).png).unwrap();
    game.until(|world| !status(world).faults.is_empty());
    assert_eq!(game.picture(slime), (16, 10));
    // Bevy does not tell of a meta file that goes; the next manifest has the picture read again.
    fs::remove_file(meta).unwrap();
    game.deploy(&[sprite("item_key", 16, 20)]);
    game.until(|world| status(world).faults.is_empty() && picture(world, slime) == (16, 11));
}
