//! A project that somebody else made: links, hard links and pipes in it, and changes while deploys
//! run.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::SystemTime;

use rustix::fs::{CWD, FileType, Mode, RenameFlags};
use tempfile::TempDir;

use super::tests::{assert_whole, game, plain, sprite};
use super::*;
use crate::error::one_line;

/// Files that a deploy would empty, replace or remove if it followed a link to their folder.
const DIARIES: [&str; 10] = [
    "lock",
    ".gitignore",
    "previous.json",
    "unreadable.json",
    "manifest.json",
    "staging/0/0",
    "sprites/manifest.json",
    "sprites/enemy/enemy_slime.0a1b2c3d.png",
    "enemy/enemy_slime.0a1b2c3d.png",
    "enemy_slime.0a1b2c3d.png",
];

/// A folder outside of the project.
fn outside() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in DIARIES {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("a diary, {name}")).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - 2 * ORPHAN_AGE).unwrap();
    }
    folder
}

/// All that lies in a folder, links by their targets.
fn all(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = path.symlink_metadata().unwrap().file_type();
        let content = if kind.is_symlink() {
            path.read_link().unwrap().into_os_string().into_encoded_bytes()
        } else if kind.is_dir() {
            found.extend(all(&path));
            vec![]
        } else if kind.is_file() {
            fs::read(&path).unwrap()
        } else {
            b"special".to_vec()
        };
        found.insert(path, content);
    }
    found
}

/// A project with two deploys, as a clone would bring it.
fn clone() -> (TempDir, Project) {
    let (folder, project) = game();
    project.deploy(&[sprite("enemy_slime", 1)]).unwrap();
    project.deploy(&[sprite("enemy_slime", 2)]).unwrap();
    (folder, project)
}

fn pipe(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

/// Every place that a deploy of `enemy_slime` of colour 3 uses.
fn places() -> Vec<String> {
    let (_folder, project) = game();
    let plan = project.plan(&[sprite("enemy_slime", 3)]).unwrap();
    let picture = plan.sprites[0].path.strip_prefix(project.root()).unwrap().display().to_string();
    let fixed = [
        ".dgx-pixels",
        ".dgx-pixels/.gitignore",
        ".dgx-pixels/previous.json",
        ".dgx-pixels/unreadable.json",
        ".dgx-pixels/staging",
        "assets",
        "assets/sprites",
        "assets/sprites/manifest.json",
        "assets/sprites/enemy",
    ];
    fixed.into_iter().map(str::to_owned).chain([picture]).collect()
}

/// Removes whatever is at `path`.
fn clear(path: &Path) {
    let kind = path.symlink_metadata().map(|about| about.is_dir());
    let _ = if kind.unwrap_or(false) { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}

#[test]
fn a_link_of_any_kind_at_any_place_is_refused_by_name_and_nothing_changes() {
    for place in places() {
        for kind in ["file", "folder", "dangling", "dangling folder", "relative", "inside", "loop", "pipe"] {
            let outside = outside();
            let (folder, project) = clone();
            let path = project.root().join(&place);
            clear(&path);
            let up = "../".repeat(place.split('/').count());
            let name = outside.path().file_name().unwrap().display();
            match kind {
                "file" => symlink(outside.path().join("lock"), &path).unwrap(),
                "folder" => symlink(outside.path(), &path).unwrap(),
                "dangling" => symlink(outside.path().join("new"), &path).unwrap(),
                "dangling folder" => symlink(outside.path().join("new/folder"), &path).unwrap(),
                "relative" => symlink(format!("{up}{name}"), &path).unwrap(),
                "inside" => {
                    fs::create_dir(folder.path().join("other")).unwrap();
                    symlink(folder.path().join("other"), &path).unwrap();
                }
                "loop" => symlink(path.file_name().unwrap(), &path).unwrap(),
                _ => pipe(&path),
            }
            let before = [all(outside.path()), all(folder.path())];
            let new = [sprite("enemy_slime", 3)];
            let errors = [project.plan(&new), project.deploy(&new)].map(|result| result.unwrap_err());
            for error in errors {
                let told = one_line(&error);
                assert_eq!(error.kind(), crate::ErrorKind::InvalidRequest, "{place}, {kind}: {told}");
                assert!(told.contains(&format!("`{}`", path.display())), "{place}, {kind}: {told}");
                let what = if kind == "pipe" { "it is a pipe" } else { "it is a symbolic link" };
                assert!(told.contains(what), "{place}, {kind}: {told}");
                assert!(!told.contains("diary"), "{place}, {kind}: {told}");
            }
            assert_eq!([all(outside.path()), all(folder.path())], before, "{place}, {kind}");
            let _ = project.rollback();
            assert_eq!(all(outside.path()), before[0], "{place}, {kind}");
        }
    }
}

#[test]
fn a_rollback_refuses_links_too() {
    for place in places() {
        let outside = outside();
        let (folder, project) = clone();
        let mut path = project.root().join(&place);
        if place.ends_with(".png") {
            // The picture that the manifest before names.
            let previous = project.read_previous().unwrap().unwrap().0;
            path = project.sprites().join(previous.images.first_key_value().unwrap().0);
        }
        clear(&path);
        symlink(outside.path(), &path).unwrap();
        let before = [all(outside.path()), all(folder.path())];
        let told = one_line(&project.rollback().unwrap_err());
        assert!(told.contains(&format!("`{}`", path.display())), "{place}: {told}");
        assert!(told.contains("it is a symbolic link"), "{place}: {told}");
        assert_eq!(all(outside.path()), before[0], "{place}");
    }
}

#[test]
fn a_cargo_toml_that_is_no_file_is_refused_at_once() {
    let outside = outside();
    fs::write(outside.path().join("Cargo.toml"), "bevy = 1").unwrap();
    let (folder, project) = game();
    let path = folder.path().join("Cargo.toml");
    let told = |expected: &str| {
        let told = one_line(&Project::open(project.root()).unwrap_err());
        assert!(told.contains("its `Cargo.toml` cannot be read") && told.contains(expected), "{told}");
    };
    fs::remove_file(&path).unwrap();
    pipe(&path);
    told("it is a pipe, a device or a socket");
    fs::remove_file(&path).unwrap();
    symlink(outside.path().join("Cargo.toml"), &path).unwrap();
    told("it is a symbolic link");
    fs::remove_file(&path).unwrap();
    File::create(&path).unwrap().set_len(1 << 40).unwrap();
    told("expected at most 16777216");
}

#[test]
fn a_manifest_that_is_huge_is_refused_at_once() {
    let (_folder, project) = clone();
    for path in [project.manifest_path(), project.root().join(".dgx-pixels/previous.json")] {
        let whole = fs::read(&path).unwrap();
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let told = one_line(&project.rollback().unwrap_err());
        assert!(told.contains("1099511627776 bytes"), "{told}");
        fs::write(&path, whole).unwrap();
    }
    project.rollback().unwrap();
}

#[test]
fn the_content_of_a_hard_link_never_changes() {
    let outside = outside();
    let diary = outside.path().join("lock");
    for place in places().into_iter().filter(|place| place.contains('.') && place != ".dgx-pixels") {
        let (_folder, project) = clone();
        let path = project.root().join(&place);
        let whole = fs::read(&path).ok();
        clear(&path);
        fs::hard_link(&diary, &path).unwrap();
        let before = all(outside.path());
        let _ = project.deploy(&[sprite("enemy_slime", 3)]);
        let _ = project.rollback();
        let _ = project.rollback();
        assert_eq!(all(outside.path()), before, "{place}");
        // A manifest of another link is read and replaced, and not changed in its place.
        if let Some(whole) = whole {
            let other = outside.path().join("other");
            fs::write(&other, &whole).unwrap();
            clear(&path);
            fs::hard_link(&other, &path).unwrap();
            let _ = project.deploy(&[sprite("enemy_slime", 4)]);
            let _ = project.rollback();
            assert_eq!(fs::read(&other).unwrap(), whole, "{place}");
            fs::remove_file(&other).unwrap();
        }
    }
}

#[test]
fn a_file_called_lock_is_not_used() {
    let outside = outside();
    let before = all(outside.path());
    for kind in ["link", "dangling", "hard link", "pipe"] {
        let (folder, project) = game();
        fs::create_dir(folder.path().join(".dgx-pixels")).unwrap();
        let path = folder.path().join(".dgx-pixels/lock");
        match kind {
            "link" => symlink(outside.path().join("lock"), &path).unwrap(),
            "dangling" => symlink(outside.path().join("new"), &path).unwrap(),
            "hard link" => fs::hard_link(outside.path().join("lock"), &path).unwrap(),
            _ => pipe(&path),
        }
        project.deploy(&[sprite("enemy_slime", 1)]).unwrap();
        assert_whole(&project);
        assert_eq!(all(outside.path()), before, "{kind}");
    }
}

#[test]
fn links_that_a_killed_deploy_may_have_left_are_removed_and_not_followed() {
    let outside = outside();
    let before = all(outside.path());
    let (folder, project) = clone();
    let staging = folder.path().join(".dgx-pixels/staging");
    fs::create_dir_all(staging.join("deep")).unwrap();
    symlink(outside.path(), staging.join("folder")).unwrap();
    symlink(outside.path().join("lock"), staging.join("deep/file")).unwrap();
    project.deploy(&[sprite("enemy_slime", 3)]).unwrap();
    assert!(!staging.exists());
    assert_eq!(all(outside.path()), before);
}

#[test]
fn cleaning_follows_no_link() {
    let outside = outside();
    let before = all(outside.path());
    let (_folder, project) = clone();
    symlink(outside.path().join("enemy"), project.sprites().join("item")).unwrap();
    let link = project.sprites().join("enemy/enemy_old.0a1b2c3d.png");
    symlink(outside.path().join("enemy/enemy_slime.0a1b2c3d.png"), &link).unwrap();
    project.deploy(&[sprite("enemy_slime", 3)]).unwrap();
    assert_eq!(all(outside.path()), before);
    assert!(link.is_symlink(), "a link is nobody's picture");
}

#[test]
fn assets_may_be_a_link_where_the_user_says_so_and_no_other_folder() {
    // Another disk, where there is one.
    let shared = Path::new("/dev/shm");
    let disk = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.unwrap();
    let (folder, project) = game();
    symlink(disk.path(), folder.path().join("assets")).unwrap();
    let told = one_line(&project.deploy(&[sprite("enemy_slime", 1)]).unwrap_err());
    assert!(told.contains("--follow-assets-link"), "{told}");
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);

    let project = project.follow_assets_link();
    let first = project.deploy(&[sprite("enemy_slime", 1)]).unwrap();
    assert!(disk.path().join("sprites/manifest.json").is_file());
    project.deploy(&[sprite("enemy_slime", 2)]).unwrap();
    assert_whole(&project);
    assert_eq!(project.rollback().unwrap().blake3, first.blake3);

    let outside = outside();
    let before = all(outside.path());
    symlink(outside.path(), disk.path().join("sprites/item")).unwrap();
    let told = one_line(&project.deploy(&[sprite("item_key", 1)]).unwrap_err());
    assert!(told.contains("assets/sprites/item`") && told.contains("it is a symbolic link"), "{told}");
    assert_eq!(all(outside.path()), before);

    fs::remove_file(folder.path().join("assets")).unwrap();
    symlink(outside.path().join("new"), folder.path().join("assets")).unwrap();
    let told = one_line(&project.deploy(&[sprite("item_key", 1)]).unwrap_err());
    assert!(told.contains("it is a symbolic link to nothing"), "{told}");
    assert!(!outside.path().join("new").exists());
}

/// A thread swaps a folder and a link to a folder outside, again and again, while others deploy.
#[test]
fn folders_that_become_links_during_a_deploy_lead_nowhere() {
    let outside = outside();
    let before = all(outside.path());
    for place in ["assets", "assets/sprites", "assets/sprites/enemy", ".dgx-pixels", ".dgx-pixels/staging"] {
        let (folder, project) = clone();
        let (path, link) = (folder.path().join(place), folder.path().join("link"));
        let _ = fs::create_dir(&path);
        symlink(outside.path(), &link).unwrap();
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    // The staging folder comes and goes.
                    let _ = rustix::fs::renameat_with(CWD, &path, CWD, &link, RenameFlags::EXCHANGE);
                }
            });
            for n in 0..60 {
                let _ = project.deploy(&[sprite("enemy_slime", n)]);
                let _ = project.rollback();
                let _ = crate::asset::validate(folder.path());
            }
            is_done.store(true, Ordering::Relaxed);
        });
        assert_eq!(all(outside.path()), before, "{place}");
    }
}

#[test]
fn what_lies_beside_a_sprite_is_read_only_if_it_is_a_file() {
    let outside = outside();
    let secret = outside.path().join("secret.json");
    fs::write(&secret, r#"{"frames": "hunter2", "meta": "hunter2"}"#).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("slime.png");
    let index = folder.path().join("slime.json");
    fs::write(&picture, plain(1)).unwrap();
    let name: SpriteName = "enemy_slime".parse().unwrap();
    let read = || {
        let open = Folder::open(folder.path()).unwrap();
        let ways = [
            NewSprite::read(name.clone(), &picture),
            NewSprite::read_in(name.clone(), &open, "slime.png".as_ref()),
        ];
        ways.map(|read| one_line(&read.unwrap_err()))
    };
    symlink(&secret, &index).unwrap();
    for told in read() {
        assert!(told.contains("slime.json") && told.contains("it is a symbolic link"), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
    fs::remove_file(&index).unwrap();
    pipe(&index);
    assert!(read().iter().all(|told| told.contains("it is a pipe")));
    fs::remove_file(&index).unwrap();
    File::create(&index).unwrap().set_len(1 << 40).unwrap();
    assert!(read().iter().all(|told| told.contains("1099511627776 bytes")));
    fs::remove_file(&index).unwrap();
    // The caller names the picture, which may be a link; a name in a folder may not.
    let link = folder.path().join("link.png");
    symlink(&picture, &link).unwrap();
    assert!(NewSprite::read(name.clone(), &link).is_ok());
    let open = Folder::open(folder.path()).unwrap();
    assert!(NewSprite::read_in(name.clone(), &open, "link.png".as_ref()).is_err());
    fs::remove_file(&link).unwrap();
    pipe(&link);
    assert!(one_line(&NewSprite::read(name, &link).unwrap_err()).contains("it is a pipe"));
}
