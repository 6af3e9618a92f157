//! Sprites on their way into a game, without one that runs; `scripts/check_integration_m4_gate.sh`
//! has one.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::desk::{Desk, Stdin};

/// A server that was started beside a game, and the game's folder.
fn beside_a_game(desk: &Desk) -> (Stdin, PathBuf) {
    let game = desk.path("game");
    fs::create_dir(&game).unwrap();
    fs::write(game.join("Cargo.toml"), "[dependencies]\nbevy = \"0.19\"\n").unwrap();
    // Nobody listens where somebody has just listened.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    (desk.stdio(&["--game-port", &port]), game)
}

fn manifest(game: &std::path::Path) -> Value {
    serde_json::from_slice(&fs::read(game.join("assets/sprites/manifest.json")).unwrap()).unwrap()
}

#[test]
fn a_sprite_is_drawn_and_deployed_in_one_call() {
    let desk = Desk::new();
    let (mut client, game) = beside_a_game(&desk);
    let wanted = json!({ "prompt": "a green slime", "width": 16, "seed": 3, "name": "slime", "category": "enemy", "project": game });
    for change in ["added", "unchanged"] {
        let deployed = client.facts("generate_sprite", wanted.clone())["deployed"].clone();
        assert_eq!(
            (&deployed["sprites"][0]["name"], &deployed["sprites"][0]["change"]),
            (&json!("enemy_slime"), &json!(change))
        );
        assert_eq!(deployed["live"], false);
        assert!(deployed["reason"].as_str().unwrap().contains("nothing listens there"), "{deployed}");
        assert!(
            PathBuf::from(deployed["sprites"][0]["path"].as_str().unwrap())
                .starts_with(game.canonicalize().unwrap())
        );
    }
    let made = &manifest(&game)["sprites"]["enemy_slime"]["made"];
    assert_eq!((&made["prompt"], &made["seed"]), (&json!("a green slime"), &json!(3)));

    let many = json!({ "prompts": ["a key", "a door"], "width": 16, "count": 2, "category": "item", "project": game });
    let deployed = client.facts("generate_batch", many)["deployed"].clone();
    let names: Vec<_> = deployed["sprites"]
        .as_array()
        .unwrap()
        .iter()
        .map(|sprite| sprite["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["item_a-key_1", "item_a-key_2", "item_a-door_1", "item_a-door_2"]);
    assert_eq!(manifest(&game)["sprites"].as_object().unwrap().len(), 5);
}

#[test]
fn assets_are_deployed_as_sprites_or_as_frames_and_taken_back() {
    let desk = Desk::new();
    let (mut client, game) = beside_a_game(&desk);
    client.facts("generate_sprite", json!({ "prompt": "a hero", "width": 16, "count": 3, "name": "hero" }));
    let assets = json!(["hero", "hero-2", "hero-3"]);
    let frames = json!({
        "assets": assets, "project": game, "category": "character", "names": ["hero"], "animations": ["idle=0", "walk=0-2:pingpong"],
        "frame_ms": 120, "anchor": "bottom",
    });
    let mut plan = frames.clone();
    plan["dry_run"] = json!(true);
    assert_eq!(client.facts("deploy_to_bevy", plan)["sprites"][0]["frames"], 3);
    assert!(!game.join("assets").exists());
    let deployed = client.facts("deploy_to_bevy", frames);
    let hero = manifest(&game)["sprites"]["character_hero"].clone();
    assert_eq!(hero["animations"]["walk"]["frames"], json!([0, 1, 2, 1]));
    assert_eq!((&hero["frames"][0]["duration_ms"], &hero["anchor"]), (&json!(120), &json!([0.0, -0.5])));
    assert_eq!(hero["made"]["prompt"], "a hero");

    // One that the library holds, and one that lies in a folder of the server's.
    let loose = desk.path("ghost.png");
    fs::copy(deployed["sprites"][0]["path"].as_str().unwrap(), &loose).unwrap();
    let mixed = json!({ "assets": ["hero-2", loose], "project": game, "category": "enemy" });
    let deployed = client.facts("deploy_to_bevy", mixed);
    assert_eq!(
        (&deployed["sprites"][0]["name"], &deployed["sprites"][1]["name"]),
        (&json!("enemy_hero-2"), &json!("enemy_ghost"))
    );
    client.facts("deploy_to_bevy", json!({ "rollback": true, "project": game }));
    assert_eq!(
        manifest(&game)["sprites"].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["character_hero"]
    );
}

#[test]
fn what_cannot_be_deployed_is_told_before_anything_is_drawn() {
    let desk = Desk::new();
    let (mut client, game) = beside_a_game(&desk);
    let elsewhere = tempfile::tempdir().unwrap();
    let wanted = |fields: Value| {
        let mut all = json!({ "prompt": "a key", "width": 16, "project": game });
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        all
    };
    let cases = [
        (wanted(json!({ "project": elsewhere.path() })), "may not be used: it lies outside"),
        (wanted(json!({ "project": desk.path(".") })), "it has no `Cargo.toml`"),
        (wanted(json!({ "project": game.join("none") })), "No such file"),
        (wanted(json!({})), "`a-key` does not say what the game uses it for; expected a `category`"),
        (wanted(json!({ "category": "../enemy" })), "`category` is `../enemy`"),
        (wanted(json!({ "project": null, "category": "item" })), "`project` is missing"),
    ];
    for (arguments, expected) in cases {
        let fault = client.fault("generate_sprite", arguments);
        assert!(fault.contains(expected), "{fault}");
    }
    assert_eq!(client.facts("list_assets", json!({}))["assets"], json!([]));

    client.facts("generate_sprite", json!({ "prompt": "a key", "width": 16 }));
    let cases = [
        (json!({ "project": game }), "`assets` is missing"),
        (json!({ "assets": ["a-key"], "category": "item" }), "`project` is missing"),
        (json!({ "assets": ["a-door"], "category": "item", "project": game }), "a-door"),
        (json!({ "assets": ["a-key"], "project": game }), "expected a `category`"),
        (
            json!({ "assets": ["a-key"], "names": ["item_a", "item_b"], "project": game }),
            "`names` has 2; expected 1",
        ),
        (
            json!({ "assets": ["a-key"], "category": "item", "animations": ["walk=0-1"], "project": game }),
            "frames 0 to 0",
        ),
        (
            json!({ "assets": ["a-key"], "category": "item", "animations": ["walk"], "project": game }),
            "`animations` is `walk`",
        ),
        (json!({ "assets": ["/etc/passwd"], "category": "item", "project": game }), "may not be used"),
        (json!({ "assets": ["a-key"], "rollback": true, "project": game }), "leave `assets` out"),
        (json!({ "rollback": true, "project": game }), "there is no deploy to take back"),
    ];
    for (arguments, expected) in cases {
        let fault = client.fault("deploy_to_bevy", arguments.clone());
        assert!(fault.contains(expected), "{arguments}: {fault}");
    }
    assert!(!game.join("assets").exists());
}

#[test]
fn without_a_game_there_is_advice() {
    let desk = Desk::new();
    let (mut client, _) = beside_a_game(&desk);
    for tool in ["game_status", "game_screenshot"] {
        let fault = client.fault(tool, json!({}));
        assert!(fault.contains("nothing listens there") && fault.contains("start the game"), "{fault}");
    }
}

#[test]
fn a_project_that_cannot_be_written_loses_no_picture() {
    let desk = Desk::new();
    let (mut client, game) = beside_a_game(&desk);
    // A file where the folder would be: also root cannot write there.
    fs::write(game.join("assets"), "").unwrap();
    let wanted = json!({ "prompt": "a key", "width": 16, "category": "item", "project": game });
    let facts = client.facts("generate_sprite", wanted);
    assert!(facts["deploy_error"].as_str().unwrap().contains("assets"), "{facts}");
    assert!(PathBuf::from(facts["path"].as_str().unwrap()).exists());
}

#[test]
fn links_in_a_project_and_beside_a_picture_lead_nowhere() {
    let desk = Desk::new();
    let (mut client, game) = beside_a_game(&desk);
    client.facts("generate_sprite", json!({ "prompt": "a key", "width": 16 }));
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("secret"), r#"{"frames": "hunter2", "meta": "hunter2"}"#).unwrap();
    let key = json!({ "assets": ["a-key"], "category": "item", "project": game });

    for place in [".dgx-pixels", "assets"] {
        symlink(elsewhere.path(), game.join(place)).unwrap();
        let fault = client.fault("deploy_to_bevy", key.clone());
        assert!(fault.contains(&format!("{place}`")) && fault.contains("it is a symbolic link"), "{fault}");
        fs::remove_file(game.join(place)).unwrap();
    }
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);

    client.facts("deploy_to_bevy", key);
    let loose = desk.path("loose.png");
    let path = fs::read_dir(game.join("assets/sprites/item")).unwrap().next().unwrap().unwrap().path();
    fs::copy(path, &loose).unwrap();
    symlink(elsewhere.path().join("secret"), desk.path("loose.json")).unwrap();
    let fault =
        client.fault("deploy_to_bevy", json!({ "assets": [loose], "category": "item", "project": game }));
    assert!(fault.contains("loose.json") && fault.contains("it is a symbolic link"), "{fault}");
    assert!(!fault.contains("hunter2"), "{fault}");

    fs::remove_file(game.join("Cargo.toml")).unwrap();
    symlink(elsewhere.path().join("secret"), game.join("Cargo.toml")).unwrap();
    let fault =
        client.fault("deploy_to_bevy", json!({ "assets": ["a-key"], "category": "item", "project": game }));
    assert!(fault.contains("its `Cargo.toml` cannot be read: it is a symbolic link"), "{fault}");
}
