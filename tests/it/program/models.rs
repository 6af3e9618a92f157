use std::fs::{self, File};
use std::os::unix::fs::symlink;

use serde_json::json;

use super::{Desk, Ran};

#[test]
fn a_model_is_listed_with_its_size_and_scheduler() {
    let desk = Desk::new();
    desk.add_model("models/tiny");
    let ran = desk.run(["models"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let [head, row] = ran.stdout.lines().collect::<Vec<_>>().try_into().unwrap();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(head), ["NAME", "PARAMETERS", "DTYPE", "BYTES", "SCHEDULER", "PATH"]);
    assert!(row.starts_with("tiny") && row.ends_with("models/tiny"), "{row}");
}

#[test]
fn json_tells_the_parts_of_a_model() {
    let desk = Desk::new();
    desk.add_model("models/tiny");
    let [listed] = desk.run(["models", "--json"]).json().try_into().unwrap();
    let [shown] = desk.run(["models", "tiny", "--json"]).json().try_into().unwrap();
    let [by_path] = desk.run(["models", "models/tiny", "--json"]).json().try_into().unwrap();
    assert_eq!(listed, shown);
    assert_eq!(listed, by_path);

    assert_eq!((&listed["name"], &listed["path"]), (&json!("tiny"), &json!("models/tiny")));
    assert!(listed["error"].is_null());
    let parts = listed["components"].as_array().unwrap();
    let names: Vec<_> = parts.iter().map(|part| part["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["text_encoder", "text_encoder_2", "unet", "vae"]);
    let sum = |field: &str| parts.iter().map(|part| part[field].as_u64().unwrap()).sum::<u64>();
    assert_eq!(listed["parameters"].as_u64(), Some(sum("parameters")));
    assert_eq!(listed["bytes"].as_u64(), Some(sum("bytes")));
    assert!(listed["native_size"]["width"].as_u64().is_some_and(|width| width > 0));
}

#[test]
fn a_broken_folder_is_listed_with_its_error() {
    let desk = Desk::new();
    fs::create_dir_all(desk.path("models/empty")).unwrap();
    let weights = desk.add_model("models/cut").join("unet/diffusion_pytorch_model.safetensors");
    File::options().write(true).open(&weights).unwrap().set_len(1000).unwrap();

    let ran = desk.run(["models"]);
    assert_eq!(ran.code, Some(0));
    assert!(
        ran.stdout.contains("`empty` is broken: cannot load the model in `models/empty`: it has no"),
        "{ran:?}"
    );
    let cut = "`cut` is broken: cannot load the model in `models/cut/unet/diffusion_pytorch_model.safetensors`: \
               truncated or corrupt (1000 bytes)";
    assert!(ran.stdout.contains(cut), "{ran:?}");

    let [cut, empty] = desk.run(["models", "--json"]).json().try_into().unwrap();
    assert_eq!((&cut["name"], &empty["name"]), (&json!("cut"), &json!("empty")));
    assert!(cut["error"].is_string() && empty["error"].is_string());
    let shown = desk.run(["models", "cut"]);
    assert_eq!((shown.code, shown.stdout.as_str()), (Some(3), ""));
}

#[test]
fn every_place_is_searched_and_each_folder_listed_once() {
    let desk = Desk::new();
    desk.add_model("models/here");
    desk.add_model("first/one");
    desk.add_model("second");
    desk.add_model("data/dgx-pixels/models/mine");
    desk.add_model("hub/models--org--sprite-xl/snapshots/abc");
    symlink(desk.path("first/one"), desk.path("models/again")).unwrap();
    let path = format!("{}:{}", desk.path("first").display(), desk.path("second").display());
    let mut command = desk.command(["models", "--json"]);
    command.env("DGX_PIXELS_MODELS", path).env("XDG_DATA_HOME", desk.path("data"));
    let lines = Ran::of(command.env("HF_HUB_CACHE", desk.path("hub"))).json();
    let names: Vec<_> = lines.iter().map(|line| line["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["one", "second", "mine", "org/sprite-xl", "here"]);
}

#[test]
fn a_folders_own_models_replace_none_and_are_told() {
    let desk = Desk::new();
    let own = desk.add_model("own/sprite-xl");
    desk.add_model("models/sprite-xl");
    let command = |args: &[&str]| {
        let mut command = desk.command(args);
        command.env("DGX_PIXELS_MODELS", desk.path("own"));
        command
    };
    let lines = Ran::of(&mut command(&["models", "--json"])).json();
    let [first, second] = lines.try_into().unwrap();
    assert_eq!((&first["path"], &first["shadowed_by"]), (&json!(own), &json!(null)));
    assert_eq!((&second["path"], &second["shadowed_by"]), (&json!("models/sprite-xl"), &json!(own)));

    let note = format!(
        "`sprite-xl` is the model in `{}`; to use the one in `models/sprite-xl`, give its path",
        own.display()
    );
    let listed = Ran::of(&mut command(&["models"]));
    assert!(listed.stdout.ends_with(&format!("{note}\n")), "{listed:?}");
    let shown = Ran::of(&mut command(&["models", "sprite-xl"]));
    assert_eq!(shown.stderr, format!("warning: {note}\n"));
    assert!(shown.stdout.contains(own.to_str().unwrap()), "{shown:?}");
    let by_path = Ran::of(&mut command(&["models", "models/sprite-xl"]));
    assert_eq!((by_path.code, by_path.stderr.as_str()), (Some(0), ""));
    let doctor = Ran::of(&mut command(&["doctor"]));
    assert!(
        doctor.stdout.contains(&format!("problem    {note}\nmend       mv 'models/sprite-xl' ")),
        "{doctor:?}"
    );
}

#[test]
fn other_pipelines_in_hugging_faces_cache_are_passed_over() {
    let desk = Desk::new();
    let hub = desk.home.path().join(".cache/huggingface/hub");
    let snapshot = |name: &str, class: &str| {
        let snapshot = hub.join(name).join("snapshots/abc");
        fs::create_dir_all(&snapshot).unwrap();
        fs::write(snapshot.join("model_index.json"), json!({ "_class_name": class }).to_string()).unwrap();
    };
    snapshot("models--org--flux", "FluxPipeline");
    snapshot("models--org--half", "StableDiffusionXLPipeline");
    fs::create_dir_all(hub.join("models--org--llm/snapshots/abc")).unwrap();
    let [half] = desk.run(["models", "--json"]).json().try_into().unwrap();
    assert_eq!(half["name"], "org/half");
    assert!(half["error"].as_str().unwrap().contains("is missing"), "{half}");
}

#[test]
fn where_nothing_is_found_the_places_are_told() {
    let ran = Desk::new().run(["models"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""));
    assert!(ran.stderr.starts_with("no model is in `"), "{}", ran.stderr);
    assert!(ran.stderr.contains(", `models`; "), "{}", ran.stderr);
    assert!(ran.stderr.ends_with("`dgx-pixels doctor` says how to get one\n"), "{}", ran.stderr);
}

#[test]
fn an_unknown_name_is_answered_with_those_there_are() {
    let desk = Desk::new();
    desk.add_model("models/one");
    desk.add_model("models/two");
    let message = "no model or folder is called `three`; there are `one`, `two`";
    desk.run(["models", "three"]).assert_failed(3, message);
}

#[test]
fn a_folder_that_is_no_model_is_refused() {
    let desk = Desk::new();
    fs::create_dir(desk.path("folder")).unwrap();
    fs::write(desk.path("file"), "").unwrap();
    const FOLDER: &str = "a folder as diffusers' `save_pretrained` writes it";
    for (path, reason) in [
        ("folder", format!("it has no `model_index.json`; expected {FOLDER}")),
        ("file", "truncated or corrupt (0 bytes): it has 0 bytes; expected 8 and a header".into()),
        ("./none", format!("it does not exist; expected a `.safetensors` file, or {FOLDER}")),
    ] {
        desk.run(["models", path]).assert_failed(3, &format!("cannot load the model in `{path}`: {reason}"));
    }
}

fn fixture(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

#[test]
fn loras_are_listed_with_what_they_are_for() {
    let desk = Desk::new();
    desk.add_model("models/tiny");
    fs::create_dir(desk.path("models/loras")).unwrap();
    fs::copy(fixture("lora/kohya.safetensors"), desk.path("models/loras/frogs.safetensors")).unwrap();
    fs::write(desk.path("models/loras/cut.safetensors"), "cut").unwrap();

    let [model, cut, frogs] = desk.run(["models", "--json"]).json().try_into().unwrap();
    assert_eq!((&model["kind"], &model["name"]), (&json!("folder"), &json!("tiny")));
    assert_eq!((&cut["kind"], cut["error"].is_string()), (&json!("lora"), true));
    assert_eq!(
        (&frogs["kind"], &frogs["name"], &frogs["modules"]),
        (&json!("lora"), &json!("frogs"), &json!(10))
    );
    assert_eq!((&frogs["changes"], &frogs["ranks"]), (&json!(["LoRA"]), &json!([4, 8])));

    let listed = desk.run(["models"]);
    assert!(listed.stdout.contains("\nfrogs  LoRA"), "{listed:?}");
    assert!(listed.stdout.contains("`cut` is broken: "), "{listed:?}");
    let shown = desk.run(["models", "frogs"]);
    assert!(shown.stdout.contains("\nmodules      10\nranks        4, 8\n"), "{shown:?}");
    let as_model = fixture("lora/kohya.safetensors");
    let drawn = desk.run(["generate", "a key", "--model", as_model.to_str().unwrap()]);
    assert!(
        drawn.stderr.contains("it is a LoRA, which changes a model; name a model with `--model`"),
        "{drawn:?}"
    );
}

#[test]
fn a_file_that_lacks_nothing_is_a_model_by_its_name() {
    let desk = Desk::new();
    desk.add_model("models/base");
    fs::copy(fixture("tiny_sdxl_a.safetensors"), desk.path("models/one.safetensors")).unwrap();
    let listed = desk.run(["models", "--json"]).json();
    let file = listed.iter().find(|line| line["name"] == "one").unwrap();
    // Its few channels are not SDXL's, which only a base can say.
    assert_eq!(file["kind"], "file");
    assert!(file["error"].as_str().unwrap().contains("which 32 groups do not divide"), "{file}");
}
