//! The model that the project brings along, `models/sprite-xl`.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use dgx_pixels_core::backend::paint;
use dgx_pixels_core::device::Device;
use dgx_pixels_core::loaded::{Libtorch, LoadedModel};
use dgx_pixels_core::model::Options;
use dgx_pixels_core::{GenerateRequest, Model};
use image::{Rgb, RgbImage};

const MATTE: Rgb<u8> = Rgb([255, 0, 255]);
const CELL_PX: u32 = 8;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One picture for each of `requests.json`, drawn once for all tests.
static DRAWN: LazyLock<Vec<RgbImage>> = LazyLock::new(|| {
    let requests = fs::read_to_string(root().join("tests/fixtures/sprite_xl/requests.json")).unwrap();
    let requests: Vec<GenerateRequest> = serde_json::from_str(&requests).unwrap();
    let model = Model::open(root().join("models/sprite-xl")).unwrap();
    let options = Options { device: Device::Cpu, ..Default::default() };
    let mut sdxl = LoadedModel::load(Libtorch::load(true).unwrap(), &model, &options, &mut |_| ()).unwrap();
    requests
        .into_iter()
        .map(|request| paint(&mut sdxl, &[request], |_| ControlFlow::Continue(())).unwrap().remove(0).image)
        .collect()
});

#[track_caller]
fn assert_as_in(folder: &Path) {
    for (i, drawn) in DRAWN.iter().enumerate() {
        let theirs = image::open(folder.join(format!("{i}.png"))).unwrap().into_rgb8();
        assert_eq!(drawn.dimensions(), theirs.dimensions(), "picture {i}");
        let pairs = drawn.as_raw().iter().zip(theirs.as_raw());
        let worst = pairs.map(|(ours, theirs)| ours.abs_diff(*theirs)).max();
        assert!(worst <= Some(1), "picture {i}: {worst:?} of 255 apart");
    }
}

#[test]
fn its_pictures_stay_those_of_the_golden_sheet() {
    assert_as_in(&root().join("tests/fixtures/sprite_xl"));
}

#[test]
fn live_diffusers_opens_it_and_draws_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let python = root().join(".venv/bin/python");
    let made = Command::new(&python)
        .arg(root().join("tests/fixtures/make_sprite_xl.py"))
        .arg(folder.path())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; `make test` sets Python up", python.display()));
    assert!(made.status.success(), "make_sprite_xl.py failed:\n{}", String::from_utf8_lossy(&made.stderr));
    assert_as_in(folder.path());
}

#[test]
fn every_cell_has_one_colour_and_the_background_is_exactly_the_matte() {
    for (i, picture) in DRAWN.iter().enumerate() {
        let mut seen = 0;
        for (x, y) in (0..picture.height() / CELL_PX)
            .flat_map(|y| (0..picture.width() / CELL_PX).map(move |x| (x * CELL_PX, y * CELL_PX)))
        {
            let first = *picture.get_pixel(x, y);
            let cell = (0..CELL_PX * CELL_PX).map(|j| picture.get_pixel(x + j % CELL_PX, y + j / CELL_PX));
            assert!(cell.clone().all(|pixel| *pixel == first), "picture {i}: the cell at {x}, {y}");
            // Nothing that is seen comes near the matte, so keying it out is exact.
            assert!(first == MATTE || first.0[1] >= 1, "picture {i}: {first:?} at {x}, {y}");
            seen += usize::from(first != MATTE);
        }
        assert!(seen > 30, "picture {i} shows {seen} cells");
    }
}

#[test]
fn every_training_image_has_its_origin_and_a_free_licence() {
    let script = "
import json, lzma, sys
lines = lzma.open(sys.argv[1]).read().decode().splitlines()
print(json.dumps([[record['source'], record['licence']] for record in map(json.loads, lines)]))";
    let data = root().join("tools/train_sprite_xl/data");
    let python = Command::new(root().join(".venv/bin/python"))
        .args(["-c", script])
        .arg(data.join("records.jsonl.xz"))
        .output()
        .unwrap();
    assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
    let records: Vec<(String, String)> = serde_json::from_slice(&python.stdout).unwrap();
    assert_eq!(records.len(), 22_335);
    let notice = fs::read_to_string(data.join("NOTICE.md")).unwrap();
    for (source, licence) in BTreeSet::from_iter(records) {
        let told = match &*licence {
            "CC0-1.0" => "CC0 1.0",
            "public-domain" => "public domain",
            "MIT" => "MIT",
            "Apache-2.0" => "Apache 2.0",
            other => panic!("{source}: {other}"),
        };
        let names_both =
            |row: &str| row.starts_with('|') && row.contains(source.as_str()) && row.contains(told);
        assert!(notice.lines().any(names_both), "{source}: {licence}");
    }
    // The model's folder travels without the tools.
    assert_eq!(notice, fs::read_to_string(root().join("models/sprite-xl/NOTICE.md")).unwrap());
}

#[test]
fn it_fits_into_a_repository() {
    let mut total = 0;
    let mut folders: Vec<PathBuf> = vec![root().join("models/sprite-xl")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = path.metadata().unwrap().len();
            assert!(bytes <= 16 << 20, "{} has {bytes} bytes", path.display());
            total += bytes;
        }
    }
    assert!(total <= 64 << 20, "{total} bytes");
}
