use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::SystemTime;

use image::Rgba;
use tempfile::TempDir;

use super::*;
use crate::error::{ErrorKind, one_line};
use crate::picture_file::sprite_png;

pub(super) fn game() -> (TempDir, Project) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("Cargo.toml"), "[dependencies]\nbevy = \"0.19\"\n").unwrap();
    let project = Project::open(folder.path()).unwrap();
    (folder, project)
}

/// 16x16 of one colour.
pub(super) fn plain(color: u8) -> Vec<u8> {
    sprite_png(&RgbaImage::from_pixel(16, 16, Rgba([color, 40, 90, 255])), None).unwrap()
}

pub(super) fn sprite(name: &str, color: u8) -> NewSprite {
    NewSprite::new(name.parse().unwrap(), plain(color))
}

/// That all a manifest names is there, as it says.
#[track_caller]
pub(super) fn assert_whole(project: &Project) {
    for (path, image) in project.manifest().unwrap().images {
        let bytes = fs::read(project.sprites().join(&path)).unwrap();
        assert_eq!(blake3::hash(&bytes).to_hex().as_str(), image.blake3, "{path}");
    }
}

fn pictures(project: &Project) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(project.sprites().join("enemy"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_sprite_is_added_kept_and_replaced() {
    let (_folder, project) = game();
    let first = project.deploy(&[sprite("enemy_slime", 1)]).unwrap();
    assert_eq!((first.sprites[0].change, first.changed), (Change::Added, true));
    assert_eq!(blake3::hash(&fs::read(&first.manifest).unwrap()).to_hex().as_str(), first.blake3);
    assert_eq!(project.manifest().unwrap().images.first_key_value().unwrap().1.palette, ["#01285a"]);

    let again = project.deploy(&[sprite("enemy_slime", 1)]).unwrap();
    assert_eq!((again.sprites[0].change, again.changed), (Change::Unchanged, false));
    assert_eq!(again.blake3, first.blake3);

    let other = project.deploy(&[sprite("enemy_slime", 2)]).unwrap();
    assert_eq!((other.sprites[0].change, other.changed), (Change::Replaced, true));
    assert_ne!(other.sprites[0].path, first.sprites[0].path);
    assert!(first.sprites[0].path.exists(), "the version before is kept");
    assert_whole(&project);
    assert!(!project.root().join(".dgx-pixels/staging").exists());
}

#[test]
fn a_plan_says_what_a_deploy_does_and_writes_nothing() {
    let (folder, project) = game();
    let plan = project.plan(&[sprite("enemy_slime", 1)]).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(project.deploy(&[sprite("enemy_slime", 1)]).unwrap(), plan);
}

#[test]
fn a_rollback_puts_the_version_before_back_and_another_takes_that_back() {
    let (_folder, project) = game();
    let nothing = project.rollback().unwrap_err().to_string();
    assert!(nothing.ends_with("there is no deploy to take back"), "{nothing}");
    let first = project.deploy(&[sprite("enemy_slime", 1)]).unwrap();
    let second = project.deploy(&[sprite("enemy_slime", 2), sprite("enemy_ghost", 3)]).unwrap();
    let back = project.rollback().unwrap();
    assert_eq!(back.blake3, first.blake3);
    assert_eq!(back.sprites.iter().map(|sprite| sprite.change).collect::<Vec<_>>(), [Change::Replaced]);
    assert_whole(&project);
    assert_eq!(project.rollback().unwrap().blake3, second.blake3);
    assert_whole(&project);
}

#[test]
fn the_first_deploy_can_be_taken_back_when_there_was_a_manifest() {
    let (_folder, project) = game();
    fs::create_dir_all(project.sprites()).unwrap();
    fs::write(project.manifest_path(), Manifest::default().to_json()).unwrap();
    project.deploy(&[sprite("enemy_slime", 1)]).unwrap();
    project.rollback().unwrap();
    assert_eq!(project.manifest().unwrap(), Manifest::default());
}

#[test]
fn pictures_go_when_no_version_needs_them_and_they_are_old() {
    let (_folder, project) = game();
    for color in 1..=3 {
        project.deploy(&[sprite("enemy_slime", color)]).unwrap();
    }
    assert_eq!(pictures(&project).len(), 3, "a game may be loading the oldest");
    fs::write(project.sprites().join("enemy/drawn-by-hand.png"), "").unwrap();
    let left = [".dgx-pixels/.dgx-pixels-1", "assets/sprites/enemy/.dgx-pixels-2"];
    left.iter().for_each(|left| fs::write(project.root().join(left), "half").unwrap());
    for name in pictures(&project) {
        let file = File::options().write(true).open(project.sprites().join("enemy").join(name)).unwrap();
        file.set_modified(SystemTime::now() - 2 * ORPHAN_AGE).unwrap();
    }
    project.deploy(&[sprite("enemy_slime", 4)]).unwrap();
    assert!(left.iter().all(|left| !project.root().join(left).exists()), "what killed deploys left is gone");
    let kept = pictures(&project);
    assert!(kept.contains(&"drawn-by-hand.png".into()), "{kept:?}");
    assert_eq!(kept.len(), 3, "its picture, and those of this version and the one before: {kept:?}");
    project.rollback().unwrap();
    assert_whole(&project);
}

#[test]
fn eight_at_once_lose_nothing() {
    let (_folder, project) = game();
    thread::scope(|scope| {
        for worker in 0..8_u8 {
            let project = &project;
            scope.spawn(move || {
                for round in 0..8 {
                    let name = format!("enemy_{worker}_{round}");
                    project.deploy(&[sprite(&name, worker * 8 + round)]).unwrap();
                    assert!(project.manifest().unwrap().sprites.contains_key(name.as_str()));
                }
            });
        }
    });
    assert_eq!(project.manifest().unwrap().sprites.len(), 64);
    assert_whole(&project);
}

#[test]
fn a_damaged_picture_is_put_right_by_the_next_deploy() {
    let (_folder, project) = game();
    let deployed = project.deploy(&[sprite("enemy_slime", 1)]).unwrap();
    fs::write(&deployed.sprites[0].path, "text").unwrap();
    assert!(!project.deploy(&[sprite("enemy_slime", 1)]).unwrap().changed);
    assert_whole(&project);
}

#[test]
fn a_manifest_that_cannot_be_read_is_named_and_the_one_before_comes_back() {
    let (_folder, project) = game();
    project.deploy(&[sprite("enemy_slime", 1)]).unwrap();
    let second = project.deploy(&[sprite("enemy_slime", 2)]).unwrap();
    let third = project.deploy(&[sprite("enemy_slime", 3)]).unwrap();
    let whole = fs::read(&third.manifest).unwrap();
    let newer = String::from_utf8(whole.clone()).unwrap().replace("\"version\": 1", "\"version\": 2");
    for broken in [&whole[..whole.len() / 2], newer.as_bytes(), b""] {
        fs::write(&third.manifest, broken).unwrap();
        let error = project.deploy(&[sprite("enemy_slime", 4)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
        assert!(
            error.to_string().contains("manifest.json") && error.to_string().contains("--rollback"),
            "{error}"
        );
        assert_eq!(fs::read(&third.manifest).unwrap(), broken, "nothing was changed");
    }
    assert_eq!(project.rollback().unwrap().blake3, second.blake3);
    assert_eq!(
        fs::read(project.root().join(".dgx-pixels/unreadable.json")).unwrap(),
        b"",
        "what could not be read is kept"
    );
    assert_whole(&project);
}

#[test]
fn only_a_bevy_project_is_deployed_into() {
    let folder = tempfile::tempdir().unwrap();
    let said = |path: &Path| one_line(&Project::open(path).unwrap_err());
    assert!(said(&folder.path().join("absent")).contains("No such file"));
    assert!(said(folder.path()).contains("it has no `Cargo.toml`"));
    fs::write(folder.path().join("Cargo.toml"), "[dependencies]\nserde = \"1\" # not bevy\n").unwrap();
    assert!(said(folder.path()).contains("does not name Bevy"));
    fs::write(folder.path().join("Cargo.toml"), "[dependencies.bevy]\nversion = \"0.19\"\n").unwrap();
    assert!(Project::open(folder.path()).is_ok());
}

#[test]
fn what_no_game_can_show_is_refused_and_nothing_is_written() {
    let (folder, project) = game();
    let large = sprite_png(&RgbaImage::new(1, 4097), None).unwrap();
    let outside = Frame { rect: Rect { min: [8, 0], max: [24, 16] }, duration_ms: 100 };
    let cases = [
        (vec![NewSprite { png: b"text".into(), ..sprite("enemy_slime", 1) }], "a PNG file"),
        (vec![NewSprite { png: plain(1)[..60].into(), ..sprite("enemy_slime", 1) }], "a PNG file"),
        (vec![NewSprite { png: large, ..sprite("enemy_slime", 1) }], "at most 4096 pixels a side"),
        (vec![sprite("enemy_slime", 1), sprite("enemy_slime", 2)], "each name once"),
        (
            vec![NewSprite { frames: vec![outside], ..sprite("enemy_slime", 1) }],
            "inside the picture of 16x16",
        ),
        (vec![NewSprite { anchor: [0.0, 2.0], ..sprite("enemy_slime", 1) }], "from -0.5 to 0.5"),
    ];
    for (sprites, expected) in cases {
        let error = project.deploy(&sprites).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!folder.path().join("assets").exists());
    }
}

#[test]
fn a_project_that_may_not_be_written_is_as_it_was() {
    let (folder, project) = game();
    let deployed = project.deploy(&[sprite("enemy_slime", 1)]).unwrap();
    let before = fs::read(&deployed.manifest).unwrap();
    let set = |mode| fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
    set(0o755);
    fs::remove_dir_all(folder.path().join(".dgx-pixels")).unwrap();
    set(0o555);
    let error = thread::scope(|scope| {
        let deploy = || {
            // Root may write everywhere; another user of the filesystem, which this thread becomes,
            // may not. SAFETY: it takes a number, and changes this thread alone.
            unsafe { libc::setfsuid(65_534) };
            project.deploy(&[sprite("enemy_slime", 2)]).unwrap_err()
        };
        scope.spawn(deploy).join().unwrap()
    });
    set(0o755);
    assert_eq!(error.kind(), ErrorKind::Output);
    assert!(one_line(&error).contains("Permission denied"), "{error}");
    assert_eq!(fs::read(&deployed.manifest).unwrap(), before);
}
