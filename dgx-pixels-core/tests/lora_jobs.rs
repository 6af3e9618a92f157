//! Jobs with LoRAs through an engine: each is drawn by the model as its own set changes it, and
//! says so.

#![cfg(all(feature = "torch", feature = "engine"))]

use std::path::{Path, PathBuf};

use dgx_pixels_core::engine::{Engine, EngineConfig};
use dgx_pixels_core::local::LocalModels;
use dgx_pixels_core::picture_file::{Made, picture_png};
use dgx_pixels_core::torch::{Device, Options};
use dgx_pixels_core::{GenerateRequest, LoraChoice, Submission, one_line};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

fn engine(folder: &Path) -> Engine {
    let models = LocalModels::open(fixture("tiny_sdxl_a").to_str()).unwrap().with_files_of_requests();
    let models = models.with(Options { device: Device::Cpu, ..Default::default() }).unwrap();
    let costs = Some(folder.join("costs.json"));
    models.start(EngineConfig { costs, ..Default::default() }).unwrap()
}

fn choice(name: &str, weight: f64) -> LoraChoice {
    let path = fixture("lora").join(format!("{name}.safetensors"));
    LoraChoice { name: path.to_str().unwrap().to_owned(), weight, text_weight: None }
}

fn submission(lora: Vec<LoraChoice>) -> Submission {
    let request = GenerateRequest { prompt: "a key".into(), steps: Some(2), lora, ..Default::default() };
    Submission { pixel: None, ..request.into() }
}

#[test]
fn each_job_is_drawn_with_its_own_set_and_records_it() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path());
    let sets = [
        vec![],
        vec![choice("kohya", 1.0)],
        vec![choice("kohya", 0.5)],
        vec![choice("loha", 1.0), choice("oft", 1.0)],
    ];
    // Jobs of several sets wait together, and come twice.
    let jobs = engine.submit_all(sets.iter().chain(&sets).cloned().map(submission));
    let finished: Vec<_> = jobs.into_iter().map(|job| job.unwrap().wait().unwrap()).collect();
    for (i, one) in finished.iter().enumerate() {
        for (j, other) in finished.iter().enumerate() {
            assert_eq!(one.image == other.image, i % sets.len() == j % sets.len(), "{i} and {j}");
        }
    }

    let made = &finished[2].made;
    // The path of this machine is not in the record.
    assert_eq!(made.request.lora, ["kohya:0.5".parse().unwrap()]);
    let hash = blake3_of(&fixture("lora/kohya.safetensors"));
    assert_eq!(made.lora_hashes, [hash]);
    assert_eq!(finished[0].made.lora_hashes, [""; 0]);
    let image = image::DynamicImage::ImageRgba8(finished[2].image.clone()).into_rgb8();
    let png = picture_png(&image, made).unwrap();
    assert_eq!(&Made::read(&png).unwrap(), made);
}

fn blake3_of(path: &Path) -> String {
    blake3::hash(&std::fs::read(path).unwrap()).to_hex().to_string()
}

#[test]
fn a_set_that_does_not_fit_is_refused_before_it_waits() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path());
    let error = |lora| one_line(&engine.submit(submission(lora)).expect_err("it is refused"));
    let with = |name: &str, weight| vec![LoraChoice { name: name.into(), weight, text_weight: None }];
    assert_eq!(error(with("x", 1e9)), "`lora` has `x` with the weight 1000000000; expected -10 to 10");
    assert_eq!(error(with("x", f64::NAN)), "`lora` has `x` with the weight NaN; expected -10 to 10");
    assert_eq!(error([with("x", 1.0), with("x", 2.0)].concat()), "`lora` has `x` twice; expected each once");
    let many = (0..17).flat_map(|i| with(&i.to_string(), 1.0)).collect();
    assert_eq!(error(many), "`lora` has 17 entries; expected at most 16");
    assert!(
        error(with("no-such-style", 1.0))
            .starts_with("no LoRA or file is called `no-such-style`; there are ")
    );
    let model = fixture("tiny_sdxl_a.safetensors");
    assert!(error(with(model.to_str().unwrap(), 1.0)).ends_with("it is an SDXL checkpoint; expected a LoRA"));

    let sketch = LocalModels::open(Some("sketch"))
        .unwrap()
        .with_files_of_requests()
        .start(EngineConfig::default())
        .unwrap();
    let refused = one_line(&sketch.submit(submission(vec![choice("kohya", 1.0)])).unwrap_err());
    assert!(
        refused.contains("expected none, as `sketch` computes nothing that another file could change"),
        "{refused}"
    );
}
