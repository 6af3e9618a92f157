//! Jobs with another VAE through an engine, and what records say of VAEs and textual inversions.

#![cfg(all(feature = "torch", feature = "engine"))]

mod vaes;

use std::fs;
use std::path::{Path, PathBuf};

use dgx_pixels_core::engine::{Engine, EngineConfig};
use dgx_pixels_core::local::LocalModels;
use dgx_pixels_core::picture_file::{Made, picture_png};
use dgx_pixels_core::torch::{Device, Options};
use dgx_pixels_core::{GenerateRequest, Submission, one_line};
use image::RgbaImage;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use self::vaes::{inverse_file, inverse_vae};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

fn engine(model: &Path, folder: &Path) -> Engine {
    let models = LocalModels::open(model.to_str()).unwrap().with_files_of_requests();
    let models = models.with(Options { device: Device::Cpu, ..Default::default() }).unwrap();
    let costs = Some(folder.join("costs.json"));
    models.start(EngineConfig { costs, ..Default::default() }).unwrap()
}

fn submission(vae: Option<&Path>) -> Submission {
    let vae = vae.map(|path| path.to_str().unwrap().to_owned());
    let request = GenerateRequest { prompt: "a key".into(), steps: Some(2), vae, ..Default::default() };
    Submission { pixel: None, ..request.into() }
}

fn are_opposite(one: &RgbaImage, other: &RgbaImage) -> bool {
    let colors =
        |image: &RgbaImage| image.pixels().flat_map(|pixel| pixel.0[..3].to_vec()).collect::<Vec<_>>();
    colors(one).into_iter().zip(colors(other)).all(|(one, other)| one.abs_diff(255 - other) <= 1)
}

#[test]
fn a_vae_from_a_folder_or_a_file_decodes_in_place_of_the_models_own_and_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let own = fixture("tiny_sdxl_a/vae");
    let [inverse, sgm] = ["inverse", "sgm.safetensors"].map(|name| folder.path().join(name));
    fs::create_dir(&inverse).unwrap();
    inverse_vae(&own, &inverse);
    inverse_file(&fixture("tiny_sdxl_a.safetensors"), "first_stage_model.", &sgm);
    let named = inverse.join("diffusion_pytorch_model.safetensors");

    let engine = engine(&fixture("tiny_sdxl_a"), folder.path());
    // A whole checkpoint and a model's folder give their VAE.
    let (whole, model) = (fixture("tiny_sdxl_a.safetensors"), fixture("tiny_sdxl_a"));
    let vaes = [None, Some(&own), Some(&whole), Some(&model), Some(&inverse), Some(&named), Some(&sgm)];
    let jobs = engine.submit_all(vaes.iter().map(|vae| submission(vae.map(PathBuf::as_path))));
    let finished: Vec<_> = jobs.into_iter().map(|job| job.unwrap().wait().unwrap()).collect();
    for (vae, job) in vaes.iter().zip(&finished).take(4) {
        assert_eq!(job.image, finished[0].image, "its own VAE: {vae:?}");
    }
    let finished: Vec<_> = finished[..2].iter().chain(&finished[4..]).collect();
    for (vae, job) in vaes[4..].iter().zip(&finished[2..]) {
        assert!(are_opposite(&job.image, &finished[0].image), "{vae:?}");
        assert_eq!(job.image, finished[2].image, "{vae:?}");
    }

    // A record has a name and a hash, and not the path of this machine.
    let names = finished.iter().map(|job| job.made.request.vae.as_deref());
    let expected = [None, Some("vae"), Some("inverse"), Some("diffusion_pytorch_model"), Some("sgm")];
    assert_eq!(names.collect::<Vec<_>>(), expected);
    let hash = |path: &Path| blake3::hash(&fs::read(path).unwrap()).to_hex().to_string();
    assert_eq!(finished[0].made.vae_hash, None);
    assert_eq!(finished[3].made.vae_hash, Some(hash(&named)));
    assert_eq!(finished[4].made.vae_hash, Some(hash(&sgm)));
    let of_folder = finished[2].made.vae_hash.clone().unwrap();
    assert!(of_folder != hash(&named) && Some(&of_folder) != finished[1].made.vae_hash.as_ref());
    let image = image::DynamicImage::ImageRgba8(finished[2].image.clone()).into_rgb8();
    let png = picture_png(&image, &finished[2].made).unwrap();
    assert_eq!(Made::read(&png).unwrap(), finished[2].made);
}

#[test]
fn a_vae_is_opened_again_when_its_file_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let vae = folder.path().join("vae.safetensors");
    fs::copy(fixture("tiny_sdxl_a/vae/diffusion_pytorch_model.safetensors"), &vae).unwrap();
    let engine = engine(&fixture("tiny_sdxl_a"), folder.path());
    let draw = || engine.submit(submission(Some(&vae))).unwrap().wait().unwrap();
    let before = draw();
    let other = folder.path().join("other");
    inverse_file(&vae, "", &other);
    fs::rename(&other, &vae).unwrap();
    let after = draw();
    assert!(are_opposite(&before.image, &after.image));
    assert_ne!(before.made.vae_hash, after.made.vae_hash);
}

/// Copies a file with the tensors that `keep` chooses.
fn filtered(from: &Path, to: &Path, keep: impl Fn(&str) -> bool) {
    let bytes = fs::read(from).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let kept = tensors.iter().filter(|(name, _)| keep(name)).map(|(name, view)| {
        (name.to_owned(), TensorView::new(view.dtype(), view.shape().to_vec(), view.data()).unwrap())
    });
    fs::write(to, safetensors::serialize(kept, None).unwrap()).unwrap();
}

/// Writes tensors of zeros in half precision.
fn zeros(path: &Path, tensors: &[(&str, &[usize])]) {
    let data = vec![0; tensors.iter().map(|(_, shape)| 2 * shape.iter().product::<usize>()).max().unwrap()];
    let views = tensors.iter().map(|(name, shape)| {
        let bytes = &data[..2 * shape.iter().product::<usize>()];
        (*name, TensorView::new(safetensors::Dtype::F16, shape.to_vec(), bytes).unwrap())
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// The tensors of a checkpoint by which its sides are known, as few and as small as they may be
/// beside SDXL's 32 groups.
const WITHOUT_VAE: [(&str, &[usize]); 22] = [
    ("conditioner.embedders.0.transformer.text_model.final_layer_norm.weight", &[64]),
    ("conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight", &[512, 64]),
    ("conditioner.embedders.0.transformer.text_model.embeddings.position_embedding.weight", &[77, 64]),
    ("conditioner.embedders.0.transformer.text_model.encoder.layers.0.mlp.fc1.weight", &[64, 64]),
    ("conditioner.embedders.0.transformer.text_model.encoder.layers.1.mlp.fc1.weight", &[64, 64]),
    ("conditioner.embedders.1.model.ln_final.weight", &[64]),
    ("conditioner.embedders.1.model.token_embedding.weight", &[512, 64]),
    ("conditioner.embedders.1.model.positional_embedding", &[77, 64]),
    ("conditioner.embedders.1.model.transformer.resblocks.0.mlp.c_fc.weight", &[64, 64]),
    ("conditioner.embedders.1.model.transformer.resblocks.1.mlp.c_fc.weight", &[64, 64]),
    ("conditioner.embedders.1.model.text_projection", &[64, 64]),
    ("model.diffusion_model.input_blocks.0.0.weight", &[32, 4, 3, 3]),
    ("model.diffusion_model.input_blocks.1.0.in_layers.2.weight", &[32, 32, 3, 3]),
    ("model.diffusion_model.input_blocks.2.0.op.weight", &[32, 32, 3, 3]),
    ("model.diffusion_model.input_blocks.3.0.in_layers.2.weight", &[64, 32, 3, 3]),
    ("model.diffusion_model.input_blocks.3.1.transformer_blocks.0.attn2.to_k.weight", &[64, 128]),
    ("model.diffusion_model.middle_block.0.in_layers.2.weight", &[64, 64, 3, 3]),
    ("model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight", &[64, 128]),
    ("model.diffusion_model.output_blocks.0.0.in_layers.2.weight", &[64, 128, 3, 3]),
    ("model.diffusion_model.output_blocks.2.0.in_layers.2.weight", &[32, 96, 3, 3]),
    ("model.diffusion_model.label_emb.0.0.weight", &[128, 256]),
    ("model.diffusion_model.out.2.weight", &[4, 32, 3, 3]),
];

const VAE: [(&str, &[usize]); 9] = [
    ("first_stage_model.decoder.conv_in.weight", &[32, 4, 3, 3]),
    ("first_stage_model.decoder.up.0.block.0.norm1.weight", &[32]),
    ("first_stage_model.decoder.up.1.block.0.norm1.weight", &[32]),
    ("first_stage_model.decoder.up.2.block.0.norm1.weight", &[32]),
    ("first_stage_model.decoder.up.3.block.0.norm1.weight", &[32]),
    ("first_stage_model.encoder.down.0.block.0.conv1.weight", &[32, 32, 3, 3]),
    ("first_stage_model.encoder.down.1.block.0.conv1.weight", &[32, 32, 3, 3]),
    ("first_stage_model.encoder.down.2.block.0.conv1.weight", &[32, 32, 3, 3]),
    ("first_stage_model.encoder.down.3.block.0.conv1.weight", &[32, 32, 3, 3]),
];

#[test]
fn a_checkpoint_without_a_vae_waits_for_one_that_a_request_names() {
    let folder = tempfile::tempdir().unwrap();
    let [without, vae] = ["without.safetensors", "vae.safetensors"].map(|name| folder.path().join(name));
    zeros(&without, &WITHOUT_VAE);
    zeros(&vae, &VAE);

    let engine = engine(&without, folder.path());
    let refused = one_line(&engine.submit(submission(None)).unwrap_err());
    let remedy = "it lacks `vae`; name a VAE with `--vae`, or a model that has one with `--base`";
    assert!(refused.ends_with(remedy), "{refused}");
    // With a VAE it is accepted, and what this file lacks besides is found when it is loaded.
    let failed = engine.submit(submission(Some(&vae))).unwrap().wait().unwrap_err();
    assert!(one_line(&failed).contains("text_model.encoder.layers.0."), "{failed}");
}

#[test]
fn a_vae_that_does_not_fit_is_refused_before_it_waits() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(&fixture("tiny_sdxl_a"), folder.path());
    let error = |vae: &Path| one_line(&engine.submit(submission(Some(vae))).expect_err("it is refused"));
    let because = "as the model draws latents for it";

    // 1. VAEs of other models
    for (model, reason) in [
        ("tiny_sdxl_b", format!("its side of a latent is 4 pixels; expected 8 pixels, {because}")),
        ("tiny_sdxl_c", format!("its number of latent channels is 8; expected 4, {because}")),
    ] {
        for path in [fixture(model), fixture(model).join("vae")] {
            assert!(error(&path).ends_with(&reason), "{}", error(&path));
        }
    }
    let scaled = folder.path().join("scaled");
    fs::create_dir(&scaled).unwrap();
    inverse_vae(&fixture("tiny_sdxl_a/vae"), &scaled);
    let config = fs::read_to_string(scaled.join("config.json")).unwrap();
    fs::write(scaled.join("config.json"), config.replace("0.13025", "0.18215")).unwrap();
    assert!(
        error(&scaled).ends_with(&format!("its `scaling_factor` is 0.18215; expected 0.13025, {because}"))
    );

    // 2. no VAEs
    let lora = error(&fixture("lora/kohya.safetensors"));
    assert!(lora.ends_with("it is a LoRA; expected a VAE of the SDXL family"), "{lora}");
    let empty = error(folder.path());
    assert!(empty.contains("it has no `config.json`; expected the folder of a VAE"), "{empty}");
    fs::write(scaled.join("config.json"), r#"{"_class_name": "AutoencoderTiny"}"#).unwrap();
    assert!(error(&scaled).contains("`_class_name` is \"AutoencoderTiny\""), "{}", error(&scaled));
    let absent = error(Path::new("no-such-vae"));
    assert!(absent.starts_with("no VAE, folder or file is called `no-such-vae`; there are "), "{absent}");

    // 3. a file that was cut off, and one whose tensors are others
    let cut = folder.path().join("cut.safetensors");
    let whole = fs::read(fixture("tiny_sdxl_a/vae/diffusion_pytorch_model.safetensors")).unwrap();
    fs::write(&cut, &whole[..whole.len() - 1]).unwrap();
    assert!(error(&cut).contains("truncated or corrupt"), "{}", error(&cut));
    let part = folder.path().join("part.safetensors");
    let named = fixture("tiny_sdxl_a/vae/diffusion_pytorch_model.safetensors");
    filtered(&named, &part, |name| name != "decoder.conv_norm_out.weight");
    let failed = engine.submit(submission(Some(&part))).unwrap().wait().unwrap_err();
    assert!(one_line(&failed).contains("decoder.conv_norm_out.weight"), "{failed}");

    // 4. a model that decodes nothing
    let sketch = LocalModels::open(Some("sketch")).unwrap().with_files_of_requests();
    let sketch = sketch.start(EngineConfig::default()).unwrap();
    let refused = one_line(&sketch.submit(submission(Some(&cut))).unwrap_err());
    assert!(refused.contains("`vae` is ") && refused.contains("`sketch` computes nothing"), "{refused}");
}

#[test]
fn a_record_names_the_textual_inversions_of_both_prompts_by_hash() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("tiny");
    std::os::unix::fs::symlink(fixture("tiny_sdxl_a"), &model).unwrap();
    fs::create_dir(folder.path().join("embeddings")).unwrap();
    let write = |name: &str, value: f32| {
        let [l, g] = [16, 24]
            .map(|width| vec![value; width].iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>());
        let view =
            |width: usize, data| TensorView::new(safetensors::Dtype::F32, vec![1, width], data).unwrap();
        let tensors = [("clip_l", view(16, &l)), ("clip_g", view(24, &g))];
        let path = folder.path().join(format!("embeddings/{name}.safetensors"));
        fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
        blake3::hash(&fs::read(path).unwrap()).to_hex().to_string()
    };
    let (frog, toad) = (write("frog", 0.25), write("toad", -0.5));
    let engine = engine(&model, folder.path());
    let draw = |prompt: &str, negative: Option<&str>| {
        let request = GenerateRequest {
            prompt: prompt.into(),
            negative_prompt: negative.map(str::to_owned),
            steps: Some(2),
            ..Default::default()
        };
        engine.submit(Submission { pixel: None, ..request.into() }).and_then(|job| job.wait())
    };
    let uses = |made: &Made| {
        made.inversions.iter().map(|one| (one.name.clone(), one.hash.clone())).collect::<Vec<_>>()
    };
    let both = draw("a (embedding:frog:1.1), embedding:frog", Some("embedding:toad")).unwrap();
    assert_eq!(uses(&both.made), [("frog".into(), frog.clone()), ("toad".into(), toad)]);
    assert_eq!(uses(&draw("a frog", None).unwrap().made), []);
    let image = image::DynamicImage::ImageRgba8(both.image.clone()).into_rgb8();
    assert_eq!(Made::read(&picture_png(&image, &both.made).unwrap()).unwrap(), both.made);

    // A file that changes is read again: the record names the vectors that were used.
    let before = draw("embedding:frog", None).unwrap();
    let other = write("frog", 0.75);
    let after = draw("embedding:frog", None).unwrap();
    assert_eq!(uses(&after.made), [("frog".into(), other)]);
    assert_ne!(after.image, before.image);

    let unknown = draw("a key", Some("embedding:newt")).unwrap_err();
    assert_eq!(unknown.field(), Some("negative_prompt"));
    assert!(one_line(&unknown).contains("there are `frog`, `toad`"), "{unknown}");
}
