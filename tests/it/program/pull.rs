use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::hub::{COMMIT, Hub, Manner, Stored, folder, large, small};
use super::{Desk, Ran};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn pipeline() -> Vec<Stored> {
    folder(&fixture("tiny_sdxl_c"))
}

fn lora() -> Vec<Stored> {
    vec![
        small("README.md", "---\nlicense: mit\n---\n"),
        large("pixel.safetensors", fs::read(fixture("lora/kohya.safetensors")).unwrap()),
    ]
}

impl Desk {
    fn cache(&self) -> PathBuf {
        self.home.path().join(".cache/huggingface/hub")
    }

    /// The program with this hub and nothing of the tester's own settings.
    fn with_hub(&self, hub: &Hub, args: &[&str]) -> Command {
        let mut command = self.command(args);
        for name in ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE"] {
            command.env_remove(name);
        }
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        command.env("HF_ENDPOINT", &hub.address).env("HF_HUB_DOWNLOAD_TIMEOUT", "5");
        command
    }

    fn pull(&self, hub: &Hub, args: &[&str]) -> Ran {
        Ran::of(&mut self.with_hub(hub, &[&["pull"], args].concat()))
    }
}

#[test]
fn a_pulled_pipeline_lies_in_the_cache_as_pythons_library_has_it() {
    let (desk, hub) = (Desk::new(), Hub::new(pipeline()));
    let [line] = desk.pull(&hub, &["org/frog", "--json"]).json().try_into().unwrap();
    let snapshot = desk.cache().join("models--org--frog/snapshots").join(COMMIT);
    assert_eq!((&line["path"], &line["commit"]), (&json!(snapshot), &json!(COMMIT)));
    assert_eq!(line["bytes"], line["fetched_bytes"]);
    let target = fs::read_link(snapshot.join("unet/config.json")).unwrap();
    assert!(target.starts_with("../../../blobs/"), "{target:?}");
    assert!(snapshot.join("unet/config.json").is_file());
    assert_eq!(fs::read_to_string(desk.cache().join("models--org--frog/refs/main")).unwrap(), COMMIT);
    let is_there = |name: &str| snapshot.join(name).exists();
    assert!(is_there("text_encoder/model.safetensors") && !is_there("text_encoder/model.fp16.safetensors"));
    hub.asked();

    // What is there is not fetched again.
    let again = desk.pull(&hub, &["org/frog"]);
    assert_eq!((again.code, again.stderr.as_str()), (Some(0), ""), "{again:?}");
    assert_eq!(again.stdout, format!("{}\n", snapshot.display()));
    assert!(hub.asked().iter().all(|asked| !asked[0].starts_with("GET /storage/")));

    let all = desk.pull(&hub, &["org/frog", "--force", "--json"]).json();
    assert_eq!(all[0]["fetched_bytes"], line["bytes"]);
    hub.asked();

    let [shown] = desk.run(["models", "org/frog", "--json"]).json().try_into().unwrap();
    assert_eq!((&shown["name"], &shown["kind"]), (&json!("org/frog"), &json!("folder")));
    let offline = Ran::of(desk.with_hub(&hub, &["pull", "org/frog"]).env("HF_HUB_OFFLINE", "1"));
    assert_eq!((offline.code, offline.stdout), (Some(0), format!("{}\n", snapshot.display())));
    assert!(hub.asked().is_empty());
}

#[test]
fn a_fetch_that_broke_off_goes_on_where_it_stopped() {
    let (desk, hub) = (Desk::new(), Hub::new(lora()));
    let all = lora()[1].bytes.len();
    hub.set(Manner { breaks_at: Some((all / 2, true)), ..Manner::default() });
    let broken = desk.pull(&hub, &["org/frog@main"]);
    assert_eq!((broken.code, broken.stdout.as_str()), (Some(23), ""), "{broken:?}");
    let told =
        format!("the connection broke at {} of {all} bytes of `pixel.safetensors`; run it again", all / 2);
    assert!(broken.stderr.contains(&told), "{broken:?}");
    hub.asked();

    hub.set(Manner::default());
    let [line] = desk.pull(&hub, &["org/frog@main", "--json"]).json().try_into().unwrap();
    assert_eq!(line["fetched_bytes"], json!(all - all / 2));
    let range = format!("range: bytes={}-", all / 2);
    assert!(hub.asked().iter().any(|asked| asked.contains(&range)));
    let path = Path::new(line["path"].as_str().unwrap()).join("pixel.safetensors");
    assert_eq!(fs::read(path).unwrap(), lora()[1].bytes);

    // One that breaks often is asked again at once, and one without parts sends all of it.
    for (name, manner) in [
        ("often", Manner { breaks_at: Some((all / 3, false)), ..Manner::default() }),
        ("whole", Manner { knows_no_parts: true, ..Manner::default() }),
    ] {
        let desk = Desk::new();
        if name == "whole" {
            hub.set(Manner { breaks_at: Some((all / 2, true)), ..Manner::default() });
            assert_eq!(desk.pull(&hub, &["org/frog"]).code, Some(23));
        }
        hub.set(manner);
        let ran = desk.pull(&hub, &["org/frog"]);
        assert_eq!(ran.code, Some(0), "{name}: {ran:?}");
        assert_eq!(fs::read(ran.stdout.trim_end()).unwrap(), lora()[1].bytes, "{name}");
    }
}

#[test]
fn what_the_hub_refuses_is_told_with_the_next_step() {
    let (desk, hub) = (Desk::new(), Hub::new(lora()));
    for (status, headers, reason) in [
        (401, "", "it does not exist, or wants a token (401); set `HF_TOKEN`, or run `hf auth login`"),
        (
            403,
            "x-error-code: GatedRepo\r\n",
            "its license must be accepted on the hub's page of `org/frog`, by the account of the token",
        ),
        (404, "", "the hub has no such repository, revision or file (404)"),
        (404, "x-error-code: RevisionNotFound\r\n", "it has no revision `v9` (404)"),
        (
            429,
            "retry-after: 120\r\n",
            "the hub gets too many requests from here (429); try again in 120 seconds",
        ),
        (
            302,
            "location: file:///etc/passwd\r\n",
            "the hub sends to `file:///etc/passwd`; expected an `https` address",
        ),
        (418, "", "the hub answers with 418; expected 200"),
    ] {
        hub.set(Manner { refuses: Some((status, headers)), ..Manner::default() });
        desk.pull(&hub, &["org/frog@v9"]).assert_failed(23, &format!("cannot fetch `org/frog@v9`: {reason}"));
    }
    // A hub that is busy for a moment is asked again.
    let busy = Manner { refuses: Some((429, "retry-after: 0\r\n")), times: Some(2), ..Manner::default() };
    hub.set(busy);
    let ran = desk.pull(&hub, &["org/frog"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stderr.matches("the hub is busy (429); asking again in 0 s").count(), 2, "{ran:?}");
}

#[test]
fn the_token_goes_to_the_hub_and_not_to_its_storage() {
    let (desk, hub) = (Desk::new(), Hub::new(lora()));
    hub.set(Manner { token: Some("hf_secret"), ..Manner::default() });
    let none = desk.pull(&hub, &["org/frog"]);
    assert!(none.stderr.contains("set `HF_TOKEN`"), "{none:?}");
    let wrong = Ran::of(desk.with_hub(&hub, &["pull", "org/frog"]).env("HF_TOKEN", "hf_wrong"));
    assert!(wrong.stderr.contains("the hub refuses the token (401)"), "{wrong:?}");
    assert!(!wrong.stderr.contains("hf_wrong"));

    fs::create_dir_all(desk.home.path().join(".cache/huggingface")).unwrap();
    fs::write(desk.home.path().join(".cache/huggingface/token"), "hf_secret\n").unwrap();
    let ran = desk.pull(&hub, &["org/frog"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn a_pulled_lora_has_the_repositorys_name_in_every_command() {
    let (desk, hub) = (Desk::new(), Hub::new(lora()));
    assert_eq!(desk.pull(&hub, &["org/frog"]).code, Some(0));
    let [listed] = desk.run(["models", "--json"]).json().try_into().unwrap();
    assert_eq!((&listed["kind"], &listed["name"]), (&json!("lora"), &json!("org/frog/pixel")));
    for name in ["org/frog", "org/frog/pixel", "org/frog@main"] {
        let [shown] = desk.run(["models", name, "--json"]).json().try_into().unwrap();
        assert_eq!((&shown["kind"], &shown["modules"]), (&json!("lora"), &json!(10)), "{name}");
    }
    let absent = desk.run(["models", "org/toad"]);
    assert!(absent.stderr.contains("`dgx-pixels pull org/toad` fetches it"), "{absent:?}");
}

#[test]
fn no_other_command_fetches_a_model() {
    let (desk, hub) = (Desk::new(), Hub::new(pipeline()));
    let ran = Ran::of(&mut desk.with_hub(&hub, &["generate", "a key", "--model", "org/frog"]));
    ran.assert_failed(
        3,
        "no model or folder is called `org/frog`; if it is a model on the hub, `dgx-pixels pull org/frog` fetches it",
    );
    assert!(hub.asked().is_empty());
}

#[test]
fn damaged_and_hostile_files_never_reach_a_snapshot() {
    let index = json!({ "_class_name": "FluxPipeline" }).to_string();
    let mut damaged = lora();
    damaged[1].bytes[5000] ^= 1;
    let cases: [(Vec<Stored>, &[&str], &str); 6] = [
        (damaged, &["org/frog"], "`pixel.safetensors` came damaged: its bytes are not those"),
        (vec![small("model_index.json", "{}")], &["org/frog"], "`text_encoder` has no weights in the format"),
        (
            vec![small("../../escape.safetensors", "x")],
            &["org/frog", "../../escape.safetensors"],
            "expected a path inside the repository",
        ),
        (
            vec![Stored { etag: "../../../escape".into(), ..small("a.safetensors", "x") }],
            &["org/frog"],
            "the ETag of `a.safetensors` is `../../../escape`; expected letters and digits",
        ),
        (
            vec![small("a.safetensors", "x"), small("b.safetensors", "y")],
            &["org/frog"],
            "it has several models",
        ),
        (vec![small("a.bin", "x")], &["org/frog"], "neither `model_index.json` nor a `.safetensors` file"),
    ];
    for (files, args, reason) in cases {
        let (desk, hub) = (Desk::new(), Hub::new(files));
        let ran = desk.pull(&hub, args);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(23), ""), "{ran:?}");
        assert!(ran.stderr.contains(reason), "{ran:?}");
        let blobs = desk.cache().join("models--org--frog/blobs");
        let kept = blobs.read_dir().map_or(0, |entries| {
            let names = entries.flatten().map(|entry| entry.file_name().into_string().unwrap());
            names.filter(|name| name.len() == 64 || name.ends_with(".incomplete")).count()
        });
        assert_eq!(kept, 0, "{reason}");
        assert!(
            !desk.home.path().join("escape").exists() && !desk.home.path().join(".cache/escape").exists()
        );
    }
    // Another pipeline is refused before its weights come.
    let mut flux = pipeline();
    flux.iter_mut()
        .filter(|file| file.path == "model_index.json")
        .for_each(|file| file.bytes = index.clone().into());
    let (desk, hub) = (Desk::new(), Hub::new(flux));
    let ran = desk.pull(&hub, &["org/frog"]);
    assert!(ran.stderr.contains("it is a `FluxPipeline`; expected a model of the SDXL family"), "{ran:?}");
    assert!(hub.asked().iter().all(|asked| !asked[0].starts_with("GET /storage/")));
}

#[test]
fn names_and_settings_that_are_wrong_are_told() {
    let (desk, hub) = (Desk::new(), Hub::new(lora()));
    let expected = "expected `ORG/NAME` or `ORG/NAME@REVISION`, as on the hub's pages";
    desk.pull(&hub, &["frog"]).assert_failed(2, &format!("`name` is `frog`; {expected}"));
    desk.pull(&hub, &["../frog"]).assert_failed(2, &format!("`name` is `../frog`; {expected}"));
    for (variable, value, reason) in [
        ("HF_ENDPOINT", "file:///etc", "`HF_ENDPOINT` is `file:///etc`; expected an address such as"),
        (
            "HF_HUB_DOWNLOAD_TIMEOUT",
            "soon",
            "`HF_HUB_DOWNLOAD_TIMEOUT` is `soon`; expected seconds, 1 to 3600",
        ),
    ] {
        let ran = Ran::of(desk.with_hub(&hub, &["pull", "org/frog"]).env(variable, value));
        assert_eq!(ran.code, Some(2));
        assert!(ran.stderr.contains(reason), "{ran:?}");
    }
    let offline = Ran::of(desk.with_hub(&hub, &["pull", "org/frog"]).env("HF_HUB_OFFLINE", "true"));
    offline.assert_failed(
        23,
        "cannot fetch `org/frog`: it is not in the cache, and `HF_HUB_OFFLINE` forbids the network",
    );
    let nobody = Ran::of(desk.with_hub(&hub, &["pull", "org/frog"]).env("HF_ENDPOINT", "http://127.0.0.1:9"));
    assert_eq!(nobody.code, Some(23), "{nobody:?}");
    assert!(nobody.stderr.contains("`http://127.0.0.1:9` does not answer: "), "{nobody:?}");
}

#[test]
fn a_pulled_model_draws_with_a_textual_inversion_and_is_made_again() {
    let (desk, hub) = (Desk::new(), Hub::new(folder(&fixture("tiny_sdxl_b"))));
    assert_eq!(desk.pull(&hub, &["org/frog"]).code, Some(0));
    fs::create_dir_all(desk.path("models/embeddings")).unwrap();
    let file = "embeddings/moss.safetensors";
    fs::copy(fixture("prompts").join(file), desk.path("models").join(file)).unwrap();
    let draw = |prompt: &str, output: &str| {
        let model = ["--model", "org/frog", "--device", "cpu", "--steps", "2", "--seed", "7", "--raw"];
        desk.run([&["generate", prompt][..], &model, &["--output", output]].concat())
    };
    let drawn = draw("a key, (embedding:moss:1.2)", "moss.png");
    assert_eq!(drawn.code, Some(0), "{drawn:?}");
    assert_eq!(draw("a key, ", "plain.png").code, Some(0));
    assert_ne!(fs::read(desk.path("moss.png")).unwrap(), fs::read(desk.path("plain.png")).unwrap());
    assert_eq!(desk.run(["reproduce", "moss.png"]).stdout, "same\n");
    let absent = draw("a key, embedding:../moss", "absent.png");
    assert_eq!(absent.code, Some(2), "{absent:?}");
    assert!(
        absent.stderr.contains(
            "`prompt` names `embedding:../moss`, and no textual inversion is called so; there are `moss`"
        ),
        "{absent:?}"
    );
    let [_, listed] = desk.run(["models", "--json"]).json().try_into().unwrap();
    assert_eq!((&listed["kind"], &listed["name"]), (&json!("embedding"), &json!("moss")));
}
