use std::os::unix::fs::symlink;

use image::{DynamicImage, Rgba, RgbaImage};
use tempfile::TempDir;

use super::*;
use crate::asset::{NewSprite, Project, Sheet, SheetFrame, SheetOptions};
use crate::picture_file::{sprite_png, write_sprite};
use crate::pixel::Wrap;

fn sprite() -> RgbaImage {
    RgbaImage::from_fn(32, 32, |x, y| {
        Rgba([(x / 8 * 60) as u8, (y / 8 * 60) as u8, 90, 255 * u8::from(x > 3)])
    })
}

fn deployed() -> (TempDir, Project) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("Cargo.toml"), "[dependencies]\nbevy = \"0.19\"\n").unwrap();
    let project = Project::open(folder.path()).unwrap();
    let png = sprite_png(&sprite(), None).unwrap();
    project.deploy(&[NewSprite::new("enemy_slime".parse().unwrap(), png)]).unwrap();
    (folder, project)
}

/// The kinds of findings.
#[track_caller]
fn found(path: &Path) -> Vec<(Severity, &'static str)> {
    let report = validate(path).unwrap();
    assert!(report.findings.iter().all(|finding| !finding.mend.is_empty() && !finding.reason.is_empty()));
    assert_eq!(report.errors + report.warnings, report.findings.len());
    report.findings.iter().map(|finding| (finding.severity, finding.check)).collect()
}

#[test]
fn what_we_write_has_nothing_wrong() {
    let (folder, project) = deployed();
    let frame = |n: u32| SheetFrame { name: format!("walk_{n}"), image: sprite(), duration_ms: 100 };
    let sheet = Sheet::new(&[frame(0), frame(1)], vec![], &SheetOptions::default()).unwrap();
    fs::write(folder.path().join("hero.png"), sprite_png(&sheet.image, None).unwrap()).unwrap();
    fs::write(folder.path().join("hero.json"), sheet.index.to_json("hero.png")).unwrap();
    let certificate = Certificate::of(&sprite(), None, Wrap::default());
    let png = sprite_png(&sprite(), None).unwrap();
    write_sprite(&folder.path().join("slime-7.png"), &png, &certificate, false).unwrap();
    // The version before is kept.
    let other = sprite_png(&RgbaImage::from_pixel(32, 32, Rgba([9, 9, 9, 255])), None).unwrap();
    project.deploy(&[NewSprite::new("enemy_slime".parse().unwrap(), other)]).unwrap();
    assert_eq!(found(folder.path()), []);
    assert_eq!(found(&project.manifest_path()), []);
    assert_eq!(found(&folder.path().join("hero.png")), []);
}

#[test]
fn pictures_that_games_cannot_use_are_told() {
    use Severity::{Error, Warning};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.png");
    let save = |picture: DynamicImage| picture.save(&path).unwrap();
    save(sprite().into());
    assert_eq!(found(&path), []);
    let whole = fs::read(&path).unwrap();
    for broken in [&b"text"[..], &whole[..whole.len() / 2], b""] {
        fs::write(&path, broken).unwrap();
        assert_eq!(found(&path), [(Error, "format")]);
    }
    save(DynamicImage::from(sprite()).into_luma8().into());
    assert_eq!(found(&path), [(Error, "color_type")]);
    save(DynamicImage::from(sprite()).into_rgba16().into());
    assert_eq!(found(&path), [(Error, "color_type")]);
    save(RgbaImage::from_pixel(8, 32, Rgba([1, 2, 3, 255])).into());
    assert_eq!(found(&path), [(Warning, "size")]);
    save(RgbaImage::from_pixel(16, 4097, Rgba([1, 2, 3, 255])).into());
    assert_eq!(found(&path), [(Error, "size")]);
    save(RgbaImage::new(32, 32).into());
    assert_eq!(found(&path), [(Error, "empty")]);
    save(RgbaImage::from_pixel(32, 32, Rgba([1, 2, 3, 128])).into());
    assert_eq!(found(&path), [(Error, "alpha")]);
    save(RgbaImage::from_fn(32, 32, |x, y| Rgba([x as u8, y as u8, 3, 255])).into());
    assert_eq!(found(&path), [(Warning, "palette")]);
    save(sprite().into());
    fs::rename(&path, folder.path().join("My Key.png")).unwrap();
    assert_eq!(found(folder.path()), [(Warning, "name")]);
}

#[test]
fn a_manifest_is_held_against_what_is_there() {
    use Severity::{Error, Warning};
    let (folder, project) = deployed();
    let path = project.manifest_path();
    let whole = fs::read_to_string(&path).unwrap();
    let image = fs::read_dir(path.with_file_name("enemy")).unwrap().next().unwrap().unwrap().path();
    let cases = [
        (whole[..whole.len() / 2].to_owned(), "manifest"),
        (whole.replace("\"version\": 1", "\"version\": 2"), "manifest"),
        (whole.replace("\"category\"", "\"kategory\""), "manifest"),
        (whole.replace("32\n            ]", "33\n            ]"), "rect"),
        (whole.replace("\"blake3\": \"", "\"blake3\": \"0"), "name"),
    ];
    for (text, check) in cases {
        assert_ne!(text, whole, "{check}");
        fs::write(&path, &text).unwrap();
        assert!(found(folder.path()).contains(&(Error, check)), "{check}: {:?}", validate(folder.path()));
    }
    let climbing = whole.replace("\"enemy/enemy_slime", "\"../enemy/enemy_slime");
    fs::write(&path, climbing).unwrap();
    assert!(found(&path).contains(&(Error, "manifest")));
    fs::write(&path, &whole).unwrap();
    assert_eq!(found(folder.path()), []);

    fs::copy(&image, image.with_file_name("enemy_copy.png")).unwrap();
    assert_eq!(found(folder.path()), [(Warning, "orphan")]);
    fs::remove_file(image.with_file_name("enemy_copy.png")).unwrap();
    sprite().crop_and_save(&image);
    assert_eq!(found(folder.path()), [(Error, "hash"), (Error, "size"), (Error, "palette")]);
    fs::remove_file(&image).unwrap();
    assert_eq!(found(folder.path()), [(Error, "missing")]);
}

trait CropAndSave {
    fn crop_and_save(&self, path: &Path);
}

impl CropAndSave for RgbaImage {
    fn crop_and_save(&self, path: &Path) {
        image::imageops::crop_imm(self, 0, 0, 16, 16).to_image().save(path).unwrap();
    }
}

#[test]
fn what_lies_beside_a_picture_must_tell_of_it() {
    use Severity::Error;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hero.png");
    sprite().save(&path).unwrap();
    let certificate = Certificate::of(&RgbaImage::new(32, 32), None, Wrap::default());
    fs::write(folder.path().join("hero.json"), serde_json::to_string(&certificate).unwrap()).unwrap();
    assert_eq!(found(&path), [(Error, "certificate")]);
    let index = SheetIndex { size: (64, 32), frames: vec![], tags: vec![], made: None };
    fs::write(folder.path().join("hero.json"), index.to_json("hero.png")).unwrap();
    assert_eq!(found(&path), [(Error, "sheet")]);
    fs::write(folder.path().join("hero.json"), "{\"other\": 1}").unwrap();
    assert_eq!(found(&path), []);
}

#[test]
fn a_path_to_nothing_or_to_another_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("notes.txt"), "").unwrap();
    for name in ["absent", "notes.txt"] {
        assert!(validate(&folder.path().join(name)).is_err());
    }
}

fn pipe(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode};
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

/// The findings' words.
fn words(path: &Path) -> String {
    let findings = validate(path).unwrap().findings;
    findings.iter().map(|finding| format!("{}: {}\n", finding.path.display(), finding.reason)).collect()
}

#[test]
fn links_and_pipes_in_a_folder_are_told_and_never_read() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret.json");
    fs::write(&secret, r#"{"frames": "hunter2", "meta": "hunter2", "version": "hunter2"}"#).unwrap();
    let make: [fn(&Path, &Path); 2] = [|secret, path| symlink(secret, path).unwrap(), |_, path| pipe(path)];
    for make in make {
        // What lies beside a picture.
        let folder = tempfile::tempdir().unwrap();
        sprite().save(folder.path().join("hero.png")).unwrap();
        make(&secret, &folder.path().join("hero.json"));
        for path in [folder.path().to_owned(), folder.path().join("hero.png")] {
            assert_eq!(found(&path), [(Severity::Error, "sheet")]);
            assert!(words(&path).contains("expected a regular file"), "{}", words(&path));
            assert!(!words(&path).contains("hunter2"), "{}", words(&path));
        }
        // The manifest, the one before, and a picture that it names.
        let (folder, project) = deployed();
        let picture = project.sprites().join(project.manifest().unwrap().images.first_key_value().unwrap().0);
        let previous = folder.path().join(".dgx-pixels/previous.json");
        for (path, check) in
            [(picture, "missing"), (previous, "manifest"), (project.manifest_path(), "manifest")]
        {
            let whole = fs::read(&path);
            let _ = fs::remove_file(&path);
            make(&secret, &path);
            for from in [folder.path().to_owned(), project.assets(), project.sprites()] {
                assert!(found(&from).contains(&(Severity::Error, check)), "{check}: {}", words(&from));
                assert!(words(&from).contains("expected a regular file"), "{}", words(&from));
                assert!(!words(&from).contains("hunter2"), "{}", words(&from));
            }
            fs::remove_file(&path).unwrap();
            let _ = whole.map(|whole| fs::write(&path, whole));
        }
        assert_eq!(found(folder.path()), []);
    }
}

#[test]
fn a_folder_of_pictures_that_is_a_link_is_told() {
    let outside = tempfile::tempdir().unwrap();
    let (folder, project) = deployed();
    let enemies = project.sprites().join("enemy");
    fs::rename(&enemies, outside.path().join("enemy")).unwrap();
    symlink(outside.path().join("enemy"), &enemies).unwrap();
    assert_eq!(found(folder.path()), [(Severity::Error, "missing")]);
    let told = words(folder.path());
    assert!(
        told.contains(&format!("`{}` is in the way: it is a symbolic link", enemies.display())),
        "{told}"
    );
}

#[test]
fn a_named_file_may_be_a_link_and_is_refused_at_once_if_it_is_a_pipe_or_huge() {
    let folder = tempfile::tempdir().unwrap();
    sprite().save(folder.path().join("hero.png")).unwrap();
    symlink("hero.png", folder.path().join("link.png")).unwrap();
    assert_eq!(found(&folder.path().join("link.png")), []);
    for name in ["pipe.png", "pipe.json"] {
        pipe(&folder.path().join(name));
        assert!(words(&folder.path().join(name)).contains("it is a pipe"));
    }
    let huge = folder.path().join("huge.png");
    fs::File::create(&huge).unwrap().set_len(1 << 40).unwrap();
    assert!(words(&huge).contains("1099511627776 bytes"));
    fs::rename(&huge, folder.path().join("hero.json")).unwrap();
    assert!(words(&folder.path().join("hero.png")).contains("1099511627776 bytes"));
}
