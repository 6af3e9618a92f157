//! The methods of Bevy's remote protocol, asked at their port.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use bevy::prelude::*;
use bevy::remote::http::RemoteHttpPlugin;
use dgx_pixels_core::asset::{self, GAME_PORT};
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
