//! The methods of Bevy's remote protocol, asked at their port.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use bevy::asset::{RenderAssetUsages, uuid_handle};
use bevy::camera::RenderTarget;
use bevy::prelude::*;
use bevy::remote::http::RemoteHttpPlugin;
use bevy::remote::{RemoteLast, RemoteSystems};
use bevy::render::render_resource::{Extent3d, TextureDimension, TextureFormat};
use bevy::render::view::screenshot::{Screenshot, ScreenshotCaptured};
use dgx_pixels_core::asset;
use dgx_pixels_manifest::GAME_PORT;
use serde_json::{Value, json};

use crate::rig::{Game, app, project, sprite, status};

/// The `result` or `error` of a call.
fn ask(game: &mut Game, method: &str, params: Value) -> (Option<Value>, Option<Value>) {
    let port = game.port;
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    let text = game.during(move || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let head = format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        // What is watched comes as an event, and the stream stays open.
        let lines = BufReader::new(stream).lines().map_while(Result::ok);
        let mut answers = lines.filter_map(|line| line.find("{\"jsonrpc").map(|at| line[at..].to_owned()));
        answers.next().expect("it answers")
    });
    let answer: Value = serde_json::from_str(&text).expect(&text);
    (answer.get("result").cloned(), answer.get("error").cloned())
}

#[test]
fn a_deploy_is_live_when_the_game_says_so() {
    let mut game = Game::new();
    let slime = game.spawn("enemy_slime");
    game.until(|world| status(world).error.is_some());
    for color in [10, 20, 30] {
        let (project, port) = (game.project.clone(), game.port);
        let live = game.during(move || {
            let deployed = project.deploy(&[sprite("enemy_slime", 16, color)]).unwrap();
            asset::Game::new(port).confirm(&project, &deployed, Duration::from_secs(20))
        });
        assert!(live.live, "{live:?}");
        assert_eq!(game.picture(slime), (16, color));
    }
}

#[test]
fn what_is_shown_is_told() {
    let mut game = Game::new();
    game.deploy(&[sprite("enemy_slime", 16, 10)]);
    let (told, _) = ask(&mut game, "sprites/status", Value::Null);
    let told = told.unwrap();
    assert_eq!(told, json!(game.status()));
    assert_eq!((&told["sprites"], &told["assets"]), (&json!(1), &json!(game.project.root().join("assets"))));
    assert!(told["load_ms"].as_f64().unwrap() > 0.0);

    fs::write(game.project.manifest_path(), "text").unwrap();
    assert!(ask(&mut game, "sprites/reload", Value::Null).0.is_some());
    game.until(|world| status(world).error.is_some());
}

#[test]
fn a_call_without_what_it_takes_is_told_so() {
    let mut game = Game::new();
    for (method, field) in [("sprites/reload+watch", "`manifest`"), ("sprites/screenshot+watch", "`id`")] {
        for params in [Value::Null, json!({}), json!({ "manifest": 7, "id": 7 }), json!([1])] {
            let (_, error) = ask(&mut game, method, params);
            assert!(error.as_ref().unwrap()["message"].as_str().unwrap().contains(field), "{error:?}");
        }
    }
    // Nothing is drawn here.
    let (_, error) = ask(&mut game, "sprites/screenshot+watch", json!({ "id": "1" }));
    assert!(error.as_ref().unwrap()["message"].as_str().unwrap().contains("no camera"), "{error:?}");
}

/// In place of Bevy's renderer: pictures of this width, of which it takes one in a frame and
/// removes the others, as Bevy does.
#[derive(Resource)]
struct Renderer {
    width: u32,
    /// So many more of the first are removed too.
    lost: u32,
    /// Removed because there were two in a frame.
    refused: u32,
    /// Frames since a picture was last asked for.
    idle: u32,
}

const TARGET: Handle<Image> = uuid_handle!("5f3c1d52-8a0e-4b6e-9d8c-6a2f4e1b7c90");

impl Renderer {
    /// Draws what a game shows from now on.
    fn start(game: &mut Game, lost: u32) {
        game.app.world_mut().spawn((Camera::default(), RenderTarget::Image(TARGET.into())));
        let renderer = Renderer { width: 1, lost, refused: 0, idle: 0 };
        game.app.insert_resource(renderer).add_systems(First, Renderer::draw);
    }

    fn draw(
        mut commands: Commands,
        screenshots: Query<Entity, With<Screenshot>>,
        mut renderer: ResMut<Renderer>,
    ) {
        renderer.idle += 1;
        for (n, entity) in screenshots.iter().enumerate() {
            renderer.idle = 0;
            if n > 0 {
                renderer.refused += 1;
            } else if renderer.lost > 0 {
                renderer.lost -= 1;
            } else {
                let size = Extent3d { width: renderer.width, height: 1, ..default() };
                let (format, usage) = (TextureFormat::Rgba8UnormSrgb, RenderAssetUsages::all());
                let image = Image::new_fill(size, TextureDimension::D2, &[1, 2, 3, 255], format, usage);
                commands.trigger(ScreenshotCaptured { entity, image });
            }
            commands.entity(entity).despawn();
        }
    }
}

/// The width of a screenshot.
fn screenshot(game: &mut Game, id: &str) -> Option<u64> {
    ask(game, "sprites/screenshot+watch", json!({ "id": id })).0?["width"].as_u64()
}

#[test]
fn a_screenshot_is_of_now_also_by_an_id_that_was_used() {
    let mut game = Game::new();
    Renderer::start(&mut game, 0);
    assert_eq!(screenshot(&mut game, "1"), Some(1));
    // Bevy asks on until it notices that the caller has gone.
    game.until(|world| world.resource::<Renderer>().idle > 20);
    game.app.world_mut().resource_mut::<Renderer>().width = 2;
    assert_eq!(screenshot(&mut game, "1"), Some(2));
}

#[test]
fn a_screenshot_that_bevy_drops_is_taken_again() {
    let mut game = Game::new();
    Renderer::start(&mut game, 2);
    assert_eq!(screenshot(&mut game, "1"), Some(1));
}

#[test]
fn a_screenshot_takes_none_from_another_plugin() {
    let mut game = Game::new();
    Renderer::start(&mut game, 0);
    // One that asks for a picture in every other frame, where the methods of plugins do.
    let other = |mut commands: Commands, mut frame: Local<u32>| {
        *frame += 1;
        if frame.is_multiple_of(2) {
            commands.spawn(Screenshot::image(TARGET));
        }
    };
    game.app.add_systems(RemoteLast, other.in_set(RemoteSystems::ProcessRequests));
    for n in 0..5 {
        assert_eq!(screenshot(&mut game, &n.to_string()), Some(1));
    }
    assert_eq!(game.app.world().resource::<Renderer>().refused, 0);
}

#[test]
fn a_deploy_that_mends_a_file_is_live_at_once() {
    let mut game = Game::new();
    let deployed = game.project.deploy(&[sprite("enemy_slime", 16, 10)]).unwrap();
    fs::write(&deployed.sprites[0].path, "text").unwrap();
    let slime = game.spawn("enemy_slime");
    game.until(|world| !status(world).faults.is_empty());
    // The same sprite again: the manifest stays as it is, its picture is put right.
    let (project, port) = (game.project.clone(), game.port);
    let live = game.during(move || {
        let deployed = project.deploy(&[sprite("enemy_slime", 16, 10)]).unwrap();
        asset::Game::new(port).confirm(&project, &deployed, Duration::from_secs(20))
    });
    assert!(live.live, "{live:?}");
    assert_eq!(game.picture(slime), (16, 10));
}

#[test]
fn a_second_game_on_the_port_runs_and_sees_deploys_by_itself() {
    let port = std::env::var("BRP_EXTRAS_PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(GAME_PORT);
    // If it cannot be had, another game has it already.
    let _first = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let (folder, project) = project();
    // Nor does Bevy's watcher see anything, without a folder at the start.
    fs::remove_dir(project.assets()).unwrap();
    let app = app(&project, ());
    assert!(!app.is_plugin_added::<RemoteHttpPlugin>());
    let mut game = Game { folder, project, app, port };
    let slime = game.spawn("enemy_slime");
    game.deploy(&[sprite("enemy_slime", 16, 10)]);
    assert_eq!(game.picture(slime), (16, 10));
}
