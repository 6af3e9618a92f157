//! The library on real folders.

mod adding;
mod damage;
mod keeping;
mod listing;
mod refused;
mod sharing;

use std::collections::HashSet;
use std::env;
use std::ffi::CString;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::pin::pin;
use std::process::{Command, Stdio};
use std::task::{Context, Poll, Waker};
use std::thread;

use image::{Rgba, RgbaImage};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::ErrorKind;
use crate::backend::{Backend as _, Sketch};
use crate::picture_file::{Made, plain_png, sidecar, sprite_png, write_sprite};
use crate::pixel::{Certificate, Wrap};
use crate::request::GenerateRequest;

const CHILD_ROOT: &str = "LIBRARY_TEST_ROOT";

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(root: &TempDir) -> Library {
    Library::open(root, Quota::default()).unwrap()
}

fn name(text: &str) -> AssetName {
    text.parse().unwrap()
}

fn id(text: &str) -> AssetId {
    text.parse().unwrap()
}

fn made(prompt: &str) -> Made {
    let request = GenerateRequest { prompt: prompt.into(), seed: 7, ..Default::default() };
    Made {
        request: request.resolve(&Sketch.defaults()).unwrap(),
        pixel: None,
        model: "sketch".into(),
        model_hash: None,
        dtype: "f32".into(),
        device: "cpu".into(),
        vae_tiling: false,
        mode: None,
        program: "0.1.0".into(),
        libtorch: None,
        licence: None,
        lora_hashes: vec![],
        vae_hash: None,
        control_hashes: vec![],
        inversions: vec![],
        prediction_type: None,
        zero_snr: None,
    }
}

fn sprite() -> RgbaImage {
    RgbaImage::from_fn(16, 8, |x, _| Rgba([200, 40, (x % 3) as u8, if x == 5 { 0 } else { 255 }]))
}

/// As an engine does.
fn draw(png: &Path, prompt: &str) {
    let bytes = sprite_png(&sprite(), Some(&made(prompt))).unwrap();
    write_sprite(png, &bytes, &Certificate::of(&sprite(), None, Wrap::default()), false).unwrap();
}

fn make(library: &Library, called: &str) -> Asset {
    let reserved = library.reserve(&name(called)).unwrap();
    draw(&reserved.png(), called);
    library.add(&reserved.keep(), Some(Verdict::Grid), BTreeMap::new()).unwrap()
}

fn ids(page: &Page) -> Vec<&str> {
    page.assets.iter().map(|asset| asset.id.as_str()).collect()
}

fn all(library: &Library) -> Vec<String> {
    let page = library.list(&Query { limit: MAX_LIMIT, ..Default::default() }).unwrap();
    ids(&page).into_iter().map(str::to_owned).collect()
}

fn age(path: &Path, age: Duration) {
    File::open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

const DAYS: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// This test program again, running one test of this file in `root`.
fn child(test: &str, root: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", &format!("library::tests::{test}"), "--nocapture", "--ignored"]);
    command.env(CHILD_ROOT, root).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn succeeds(mut child: Command) -> String {
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{errors}");
    text.into_owned()
}

fn created(root: &TempDir, asset: &Asset, created: SystemTime) {
    let record = root.path().join(format!("{0}/{0}.asset.json", asset.id));
    let asset = Asset { created, ..asset.clone() };
    fs::write(record, asset.to_json()).unwrap();
}
