//! `sheet`, `validate` and `deploy`: from frames to sprites in a game's project.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use dgx_pixels_manifest::Manifest;
use image::{Rgba, RgbaImage};
use serde_json::json;

use super::kills::kills;
use super::{Desk, Ran};

/// 16x16, another picture for each number.
fn frame(desk: &Desk, name: &str, n: u8) {
    let picture = RgbaImage::from_fn(16, 16, |x, y| Rgba([n, (x / 4 * 60) as u8, (y / 4 * 60) as u8, 255]));
    picture.save(desk.path(name)).unwrap();
}

/// A desk with a game's project in `game`.
fn desk() -> Desk {
    let desk = Desk::new();
    fs::create_dir(desk.path("game")).unwrap();
    fs::write(desk.path("game/Cargo.toml"), "[dependencies]\nbevy = \"0.19\"\n").unwrap();
    desk
}

fn deploy(desk: &Desk, args: &[&str]) -> Ran {
    desk.run([&["deploy", "--project", "game", "--no-reload"], args].concat())
}

fn manifest(desk: &Desk) -> (PathBuf, Manifest) {
    let path = desk.path("game/assets/sprites/manifest.json");
    let manifest = Manifest::read(&fs::read(&path).unwrap()).unwrap();
    (path, manifest)
}

/// That all the manifest names is there, as it says.
#[track_caller]
fn assert_whole(desk: &Desk) {
    let (path, manifest) = manifest(desk);
    assert_eq!(manifest.faults(), []);
    for (image, entry) in manifest.images {
        let bytes = fs::read(path.with_file_name(&image)).unwrap();
        assert_eq!(blake3::hash(&bytes).to_hex().as_str(), entry.blake3, "{image}");
    }
}

#[test]
fn frames_become_a_sheet_and_an_animated_sprite_of_a_game() {
    let desk = desk();
    for n in 0..4 {
        frame(&desk, &format!("walk_{n}.png"), n);
    }
    let frames = ["walk_0.png", "walk_1.png", "walk_2.png", "walk_3.png"];
    let flags =
        ["--output", "hero.png", "--gutter", "1", "--extrude", "1", "--duration", "80", "--meta", "--json"];
    let [line] = desk.run([&["sheet"], &frames[..], &flags].concat()).json().try_into().unwrap();
    assert_eq!((&line["width"], &line["frames"], &line["tags"]), (&json!(37), &json!(4), &json!(["walk"])));
    assert!(desk.path("hero.json").exists() && desk.path("hero.png.meta").exists());
    assert_eq!(desk.run(["validate", "hero.png"]).stdout, "1 file, 0 errors, 0 warnings\n");

    let ran =
        deploy(&desk, &["hero.png", "--category", "character", "--anchor", "0,-0.5", "--tag", "knight"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(
        ran.stdout.starts_with("character_hero  added  37x37, 4 frames  assets/sprites/character/"),
        "{}",
        ran.stdout
    );
    let (_, manifest) = manifest(&desk);
    let hero = &manifest.sprites["character_hero"];
    assert_eq!((hero.frames[1].rect.min, hero.frames[1].duration_ms), ([20, 1], 80));
    assert_eq!(hero.animations["walk"].frames, [0, 1, 2, 3]);
    assert_eq!((hero.anchor, &hero.tags[..]), ([0.0, -0.5], &["knight".to_owned()][..]));
    let checked = desk.run(["validate", "game", "--json"]);
    assert_eq!(checked.json()[0]["findings"], json!([]));
}

#[test]
fn a_sprite_of_the_sketch_says_in_the_game_how_it_was_made() {
    let desk = desk();
    let small =
        ["generate", "a slime", "--model", "sketch", "--width", "64", "--height", "64", "--steps", "2"];
    desk.run([&small[..], &["--seed", "7", "--output", "enemy_slime.png"]].concat());
    assert_eq!(deploy(&desk, &["enemy_slime.png"]).code, Some(0));
    let (_, manifest) = manifest(&desk);
    let made = manifest.sprites["enemy_slime"].made.clone().unwrap();
    assert_eq!((made.prompt.as_str(), made.seed, made.model.as_str()), ("a slime", 7, "sketch"));
}

#[test]
fn a_deploy_is_told_before_done_and_taken_back() {
    let desk = desk();
    frame(&desk, "enemy_slime.png", 1);
    let [plan] = deploy(&desk, &["enemy_slime.png", "--dry-run", "--json"]).json().try_into().unwrap();
    assert_eq!((&plan["dry_run"], &plan["sprites"][0]["change"]), (&json!(true), &json!("added")));
    assert!(!desk.path("game/assets").exists());
    let [done] = deploy(&desk, &["enemy_slime.png", "--json"]).json().try_into().unwrap();
    assert_eq!((&done["blake3"], &done["live"]), (&plan["blake3"], &json!(null)));
    frame(&desk, "enemy_slime.png", 2);
    deploy(&desk, &["enemy_slime.png"]);
    let [back] = deploy(&desk, &["--rollback", "--json"]).json().try_into().unwrap();
    assert_eq!(back["blake3"], done["blake3"]);
    assert_whole(&desk);
}

#[test]
fn without_a_game_the_deploy_is_done_and_says_so() {
    let desk = desk();
    frame(&desk, "enemy_slime.png", 1);
    // A port that nobody has: it was just given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let ran = desk.run(["deploy", "enemy_slime.png", "--project", "game", "--port", &port]);
    assert_eq!(ran.code, Some(0));
    assert!(
        ran.stdout.contains("no game has confirmed it") && ran.stdout.contains("nothing listens there"),
        "{}",
        ran.stdout
    );
    assert_whole(&desk);
}

#[test]
fn what_is_wrong_is_told_and_nothing_is_written() {
    let desk = desk();
    frame(&desk, "slime.png", 1);
    frame(&desk, "enemy_slime.png", 1);
    fs::write(desk.path("enemy_text.png"), "text").unwrap();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["slime.png"], 2, "give `--category enemy`"),
        (&["slime.png", "--category", "En emy"], 2, "`category` is `En emy`"),
        (&["absent_slime.png"], 8, "absent_slime.png"),
        (&["enemy_text.png"], 2, "expected a PNG file"),
        (&["enemy_slime.png", "slime.png", "--name", "enemy_a"], 2, "`--name` names one asset"),
        (&["enemy_slime.png", "--anchor", "0,2"], 2, "two numbers from -0.5 to 0.5"),
        (&["enemy_slime.png", "--rollback"], 2, "cannot be used with"),
        (&["--rollback"], 2, "no deploy to take back"),
        (&[], 2, "ASSET"),
    ];
    for (args, code, message) in cases {
        let ran = deploy(&desk, args);
        assert_eq!(ran.code, Some(*code), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(message), "{args:?}: {}", ran.stderr);
        assert!(!desk.path("game/assets").exists());
    }
    let ran = desk.run(["deploy", "enemy_slime.png", "--project", "."]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("it has no `Cargo.toml`"), "{}", ran.stderr);
}

#[test]
fn faults_are_a_failure_of_validate_and_warnings_are_not() {
    let desk = Desk::new();
    frame(&desk, "key.png", 1);
    fs::write(desk.path("text.png"), "text").unwrap();
    let ran = desk.run(["validate", "."]);
    assert_eq!(ran.code, Some(16));
    assert!(ran.stdout.contains("text.png: error: "), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("2 files, 1 error, 0 warnings\n"), "{}", ran.stdout);
    assert_eq!(ran.stderr, "error: 1 error found\n");
    RgbaImage::from_pixel(8, 8, Rgba([9, 9, 9, 255])).save(desk.path("text.png")).unwrap();
    let ran = desk.run(["validate", ".", "--json"]);
    assert_eq!((ran.code, &ran.json()[0]["warnings"]), (Some(0), &json!(1)));
    assert_eq!(desk.run(["validate", "absent"]).code, Some(8));
    assert_eq!(desk.run(["validate"]).code, Some(2));
}

#[test]
fn a_sheet_that_cannot_be_made_leaves_nothing() {
    let desk = Desk::new();
    frame(&desk, "a_0.png", 1);
    RgbaImage::new(17, 16).save(desk.path("b.png")).unwrap();
    fs::write(desk.path("text.png"), "text").unwrap();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["a_0.png", "b.png"], 2, "frames of one size in a grid"),
        (&["a_0.png", "text.png"], 8, "text.png"),
        (&["a_0.png", "--tag", "walk=0-1"], 2, "frames 0 to 0"),
        (&["a_0.png", "--tag", "walk"], 2, "as `walk=0-3`"),
        (&["a_0.png", "--duration", "0"], 2, "--duration"),
        (&["a_0.png", "--columns", "0"], 2, "--columns"),
    ];
    for (args, code, message) in cases {
        let ran = desk.run([&["sheet", "--output", "s.png"], *args].concat());
        assert_eq!(ran.code, Some(*code), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(message), "{args:?}: {}", ran.stderr);
        assert_eq!(desk.files(), ["a_0.png", "b.png", "text.png"]);
    }
    assert_eq!(
        desk.run(["sheet", "a_0.png", "b.png", "--layout", "packed", "--output", "s.png"]).code,
        Some(0)
    );
    let again = desk.run(["sheet", "a_0.png", "--output", "s.png"]);
    assert_eq!(again.code, Some(7));
    assert!(again.stderr.contains("already exists"), "{}", again.stderr);
}

#[test]
fn a_full_disk_leaves_the_sprites_as_they_were() {
    let desk = desk();
    frame(&desk, "enemy_slime.png", 1);
    deploy(&desk, &["enemy_slime.png"]);
    let (_, before) = manifest(&desk);
    // Noise, so that the file is large.
    let noise = RgbaImage::from_fn(64, 64, |x, y| {
        let hash = (x.wrapping_mul(73_856_093) ^ y.wrapping_mul(19_349_663)).wrapping_mul(2_654_435_761);
        Rgba([(hash >> 24) as u8, (hash >> 16) as u8, (hash >> 8) as u8, 255])
    });
    noise.save(desk.path("enemy_noise.png")).unwrap();
    let program = super::program().display().to_string();
    // No file may grow past 4 KiB, as on a disk that is full.
    let script = "trap '' XFSZ; ulimit -f 4; exec \"$0\" deploy enemy_noise.png --project game --no-reload";
    let ran = Ran::of(
        std::process::Command::new("bash").args(["-c", script, &program]).current_dir(desk.path(".")),
    );
    assert_eq!(ran.code, Some(7), "{}", ran.stderr);
    assert!(ran.stderr.contains("cannot write"), "{}", ran.stderr);
    assert_eq!(manifest(&desk).1, before);
    assert!(!desk.path("game/.dgx-pixels/staging").exists());
}

#[test]
fn a_deploy_that_is_killed_leaves_no_half() {
    const SPRITES: u8 = 6;
    let desk = desk();
    let names: Vec<_> = (0..SPRITES).map(|n| format!("enemy_{n}.png")).collect();
    names.iter().for_each(|name| frame(&desk, name, 0));
    deploy(&desk, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let colors = || -> Vec<u8> {
        let (path, manifest) = manifest(&desk);
        let color = |image: &String| image::open(path.with_file_name(image)).unwrap().into_rgba8()[(0, 0)][0];
        manifest.sprites.values().map(|sprite| color(&sprite.image)).collect()
    };
    let mut done = 0;
    let rounds = kills(60);
    for round in 1..=rounds {
        let color = (round % 256) as u8;
        names.iter().for_each(|name| frame(&desk, name, color));
        let args = ["deploy", "--project", "game", "--no-reload"]
            .into_iter()
            .chain(names.iter().map(String::as_str));
        let mut child = desk.command(args).stdout(std::process::Stdio::null()).spawn().unwrap();
        // Up to about as long as it takes, so that it is killed at each of its moments.
        thread::sleep(Duration::from_micros((round % 60) as u64 * 900));
        let _ = child.kill();
        child.wait().unwrap();
        assert_whole(&desk);
        let colors = colors();
        assert!(colors.iter().all(|color| *color == colors[0]), "all or none: {colors:?}");
        done += usize::from(colors[0] == color);
    }
    assert!(done < rounds, "some were killed in time");
    deploy(&desk, &names.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(!Path::new(&desk.path("game/.dgx-pixels/staging")).exists(), "what they left is gone");
}

/// A folder with a file that nobody may change, beside the game.
fn diary(desk: &Desk) -> PathBuf {
    fs::create_dir(desk.path("home")).unwrap();
    fs::write(desk.path("home/diary.txt"), "precious").unwrap();
    desk.path("home/diary.txt")
}

#[test]
fn a_hostile_clone_is_refused_by_the_name_of_its_link() {
    let places = [
        ".dgx-pixels",
        ".dgx-pixels/.gitignore",
        ".dgx-pixels/previous.json",
        ".dgx-pixels/staging",
        "assets",
        "assets/sprites",
        "assets/sprites/manifest.json",
        "assets/sprites/enemy",
    ];
    for place in places {
        for target in ["home/diary.txt", "home", "home/new"] {
            let desk = desk();
            let diary = diary(&desk);
            frame(&desk, "enemy_slime.png", 1);
            let path = desk.path("game").join(place);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(desk.path(target), &path).unwrap();
            assert_eq!(deploy(&desk, &["--rollback"]).code, Some(2), "{place}");
            for args in [&["enemy_slime.png"][..], &["enemy_slime.png", "--dry-run"]] {
                let ran = deploy(&desk, args);
                assert_eq!(ran.code, Some(2), "{place}: {}", ran.stderr);
                assert!(ran.stderr.contains(&format!("{place}`")), "{place}: {}", ran.stderr);
                assert!(ran.stderr.contains("it is a symbolic link"), "{place}: {}", ran.stderr);
            }
            let follows = deploy(&desk, &["enemy_slime.png", "--follow-assets-link"]);
            assert_eq!(follows.code == Some(0), place == "assets" && target == "home", "{}", follows.stderr);
            assert_eq!(fs::read(&diary).unwrap(), b"precious", "{place}");
            assert!(!desk.path("home/new").exists());
        }
    }
}

#[test]
fn a_clone_that_brings_a_lock_is_deployed_into_and_harms_nothing() {
    for target in ["../../home/diary.txt", "../../home/new"] {
        let desk = desk();
        let diary = diary(&desk);
        frame(&desk, "enemy_slime.png", 1);
        fs::create_dir(desk.path("game/.dgx-pixels")).unwrap();
        symlink(target, desk.path("game/.dgx-pixels/lock")).unwrap();
        assert_eq!(deploy(&desk, &["enemy_slime.png"]).code, Some(0));
        assert_whole(&desk);
        assert_eq!(fs::read(&diary).unwrap(), b"precious");
        assert!(!desk.path("home/new").exists());
    }
}

#[test]
fn a_link_beside_an_asset_is_refused_and_nothing_told_of_its_target() {
    let desk = desk();
    frame(&desk, "enemy_slime.png", 1);
    fs::write(desk.path("secret"), r#"{"frames": "hunter2", "meta": "hunter2"}"#).unwrap();
    symlink(desk.path("secret"), desk.path("enemy_slime.json")).unwrap();
    let ran = deploy(&desk, &["enemy_slime.png"]);
    assert_eq!(ran.code, Some(8), "{}", ran.stderr);
    assert!(ran.stderr.contains("enemy_slime.json") && ran.stderr.contains("it is a symbolic link"));
    assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
    let ran = desk.run(["validate", "enemy_slime.png"]);
    assert_eq!(ran.code, Some(16), "{}", ran.stdout);
    assert!(ran.stdout.contains("enemy_slime.json: error: it is a symbolic link"), "{}", ran.stdout);
}
