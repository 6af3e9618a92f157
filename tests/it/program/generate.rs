use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use dgx_pixels_core::scheduler::SchedulerName;
use serde_json::{Value, json};

use super::{Desk, Ran, names};

/// Keyword and text of each text chunk, in order; latin-1 ones first.
fn texts(bytes: &[u8]) -> Vec<(String, String)> {
    let reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
    let info = reader.info();
    let latin = info.uncompressed_latin1_text.iter().map(|chunk| (chunk.keyword.clone(), chunk.text.clone()));
    let utf8 = info.utf8_text.iter().map(|chunk| (chunk.keyword.clone(), chunk.get_text().unwrap()));
    latin.chain(utf8).collect()
}

#[test]
fn a_picture_is_written_and_its_path_printed() {
    let desk = Desk::new();
    let ran = desk.sketch(&["A brass key!", "--seed", "7"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "a-brass-key-7.png\n"));
    assert_eq!(desk.files(), ["a-brass-key-7.png"]);
    let image = image::open(desk.path("a-brass-key-7.png")).unwrap();
    assert_eq!((image.width(), image.height(), image.color()), (64, 64, image::ColorType::Rgb8));
}

#[test]
fn json_lines_hold_the_promised_fields_in_order() {
    let desk = Desk::new();
    let ran = desk.sketch(&["a brass key", "--seed", "7", "--json", "--quiet"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let (start, timings) = ran.stdout.split_once("\"timings_ms\":").unwrap();
    assert_eq!(
        start,
        r#"{"path":"a-brass-key-7.png","prompt":"a brass key","seed":7,"width":64,"height":64,"steps":2,"guidance_scale":5.0,"scheduler":"euler","model":"sketch","model_hash":null,"dtype":"none","device":"cpu","verdict":null,"certificate":null,"#
    );
    let timings: Value = serde_json::from_str(timings.strip_suffix("}\n").unwrap()).unwrap();
    for name in ["waiting", "begin", "denoise", "finish", "pixel", "total"] {
        assert!(timings[name].as_f64().is_some_and(|ms| ms >= 0.0), "{name}: {timings}");
    }
}

#[test]
fn a_sprite_has_a_pixel_for_each_cell_and_a_certificate_beside_it() {
    let desk = Desk::new();
    let args = ["generate", "a key", "--model", "sketch", "--seed", "7", "--max-colors", "4", "--json"];
    let [line] = desk.run(args).json().try_into().unwrap();
    assert_eq!(desk.files(), ["a-key-7.json", "a-key-7.png"]);
    let sprite = image::open(desk.path("a-key-7.png")).unwrap();
    assert_eq!((sprite.width(), sprite.height(), sprite.color()), (32, 32, image::ColorType::Rgba8));
    assert!(sprite.to_rgba8().pixels().all(|pixel| [0, 255].contains(&pixel.0[3])));
    assert_eq!((&line["width"], &line["verdict"]), (&json!(32), &json!("grid")));
    let certificate = fs::read_to_string(desk.path("a-key-7.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&certificate).unwrap(), line["certificate"]);
    assert!(line["certificate"]["colors"].as_u64().is_some_and(|colors| colors <= 4));

    let [_, (_, size), (_, made)] = texts(&fs::read(desk.path("a-key-7.png")).unwrap()).try_into().unwrap();
    assert_eq!(size, "32x32");
    let made: Value = serde_json::from_str(&made).unwrap();
    assert_eq!((&made["pixel"]["max_colors"], &made["pixel"]["expected_step"]), (&json!("4"), &json!(8.0)));
}

#[test]
fn a_certificate_of_another_sprite_stays_unless_forced() {
    let desk = Desk::new();
    let args = ["generate", "key", "--model", "sketch", "--output", "key.png", "--seed"];
    assert_eq!(desk.run([&args[..], &["1"]].concat()).code, Some(0));
    fs::remove_file(desk.path("key.png")).unwrap();
    desk.run([&args[..], &["2"]].concat())
        .assert_failed(7, "`key.json` already exists; give `--force` to replace it, or another `--output`");
    assert_eq!(desk.files(), ["key.json"]);
    assert_eq!(desk.run([&args[..], &["2", "--force"]].concat()).code, Some(0));
}

#[test]
fn a_file_of_another_program_stays_even_if_forced() {
    let desk = Desk::new();
    let theirs = r#"{"hero":{"width":16,"height":16}}"#;
    fs::write(desk.path("key.json"), theirs).unwrap();
    for flags in [&[][..], &["--force"]] {
        let ran =
            desk.run([&["generate", "key", "--model", "sketch", "--output", "key.png"], flags].concat());
        ran.assert_failed(
            7,
            "cannot write `key.json`: it is a file of another program, which is not replaced; move it away, or give \
             another output",
        );
        assert_eq!(fs::read_to_string(desk.path("key.json")).unwrap(), theirs);
        assert_eq!(desk.files(), ["key.json"]);
    }
}

#[test]
fn force_follows_no_link() {
    let desk = Desk::new();
    fs::write(desk.path("diary"), "dear diary").unwrap();
    std::os::unix::fs::symlink("diary", desk.path("key.png")).unwrap();
    let ran = desk.sketch(&["key", "--output", "key.png", "--force"]);
    ran.assert_failed(
        7,
        "cannot write `key.png`: it is a link, which is not replaced; expected a file or a free name",
    );
    assert_eq!(fs::read_to_string(desk.path("diary")).unwrap(), "dear diary");
}

#[test]
fn a_size_gets_a_canvas_that_fits() {
    let desk = Desk::new();
    for (size, drawn) in [("16x16", "128x128"), ("48x24", "384x192"), ("4x4", "64x64"), ("64x64", "256x256")]
    {
        let args =
            ["generate", "a red potion", "--model", "sketch", "--seed", "1", "--steps", "1", "--force"];
        let ran = desk.run([&args[..], &["--size", size, "--json", "-o", "potion.png"]].concat());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let line = &ran.json()[0];
        assert_eq!(format!("{}x{}", line["width"], line["height"]), size);
        let [_, _, (_, made)] = texts(&fs::read(desk.path("potion.png")).unwrap()).try_into().unwrap();
        let asked = &serde_json::from_str::<Value>(&made).unwrap()["request"]["size"];
        assert_eq!(format!("{}x{}", asked["width"], asked["height"]), drawn, "{size}");
        assert_eq!(desk.run(["reproduce", "potion.png"]).code, Some(0), "{size}");
    }
}

#[test]
fn a_size_that_the_canvas_does_not_have_is_refused_before_drawing() {
    let desk = Desk::new();
    let canvas = ["--width", "256", "--height", "256"];
    let ran =
        desk.run([&["generate", "potion", "--model", "sketch", "--size", "16x16"][..], &canvas].concat());
    ran.assert_failed(
        2,
        "`size` is 16x16, and an image of 256x256 becomes a sprite of 32x32; expected `width` 128 and `height` \
         128, or neither",
    );
    assert_eq!(desk.files(), [""; 0]);
}

#[test]
fn flags_that_would_change_nothing_are_refused() {
    let desk = Desk::new();
    let raw = ["--max-colors", "--anchor", "--dither", "--transparent", "--outline"];
    let values = ["4", "bottom", "bayer2", "off", "add"];
    for (flag, value) in raw.into_iter().zip(values) {
        let ran = desk.sketch(&["key", flag, value]);
        assert_eq!(ran.code, Some(2), "{flag}: {ran:?}");
        assert!(ran.stderr.contains("does not go with `raw`"), "{flag}: {}", ran.stderr);
    }
    let cases: [(&[&str], &str); 5] = [
        (
            &["--anchor", "bottom"],
            "`anchor` is `bottom` and there is no `size` that it places the sprite in; expected both or neither",
        ),
        (
            &["--dither", "bayer2", "--max-colors", "all"],
            "`dither` is `bayer2` and all colors are kept; expected a `palette`, or fewer `max_colors`",
        ),
        (
            &["-o", "-", "--json"],
            "`--json` does not go with `--output -`, which writes one image to standard output and nothing else; \
             leave one out",
        ),
        (
            &["-o", "-", "-n", "2"],
            "`--count` does not go with `--output -`, which writes one image to standard output and nothing else; \
             leave one out",
        ),
        (
            &["-o", "-", "--force"],
            "`--force` does not go with `--output -`, which writes one image to standard output and nothing else; \
             leave one out",
        ),
    ];
    for (flags, message) in cases {
        let ran = desk.run([&["generate", "key", "-m", "sketch"], flags].concat());
        if flags.contains(&"--json") {
            assert_eq!((ran.code, ran.stderr), (Some(2), format!("error: {message}\n")));
        } else {
            ran.assert_failed(2, message);
        }
    }
    assert_eq!(desk.files(), [""; 0]);
}

#[test]
fn the_same_request_gives_the_same_bytes() {
    let desk = Desk::new();
    for folder in ["one", "two"] {
        assert_eq!(desk.sketch(&["a frog", "--seed", "7", "--output", folder]).code, Some(0));
    }
    let read = |folder| fs::read(desk.path(folder).join("a-frog-7.png")).unwrap();
    assert_eq!(read("one"), read("two"));
}

#[test]
fn the_png_carries_the_request_with_its_defaults() {
    let desk = Desk::new();
    let ran = desk.run([
        "generate",
        "ein Schlüssel, 鍵",
        "--model",
        "sketch",
        "--raw",
        "--seed",
        "7",
        "--output",
        "key.png",
    ]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let texts = texts(&fs::read(desk.path("key.png")).unwrap());
    let [(software, version), (key, made)] = texts.as_slice() else { panic!("{texts:?}") };
    assert_eq!(
        (software.as_str(), version.as_str()),
        ("Software", concat!("dgx-pixels ", env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(key, "dgx-pixels");
    let size = json!({ "width": 256, "height": 256 });
    assert_eq!(
        serde_json::from_str::<Value>(made).unwrap(),
        json!({
            "request": {
                "prompt": "ein Schlüssel, 鍵", "negative_prompt": null, "prompt_syntax": "comfyui",
                "seed": 7, "steps": 30,
                "guidance_scale": 5.0, "guidance_rescale": 0.0, "scheduler": "euler", "size": size,
                "original_size": size, "crop": { "left": 0, "top": 0 }, "target_size": size,
            },
            "model": "sketch", "model_hash": null, "dtype": "none", "device": "cpu",
            "program": env!("CARGO_PKG_VERSION"), "libtorch": null,
            "vae_tiling": false, "pixel": null, "format_version": 3,
        })
    );
}

#[test]
fn without_a_seed_one_is_drawn_and_told() {
    let desk = Desk::new();
    let seeds = [0, 1].map(|_| desk.sketch(&["a key", "--json"]).json()[0]["seed"].as_u64().unwrap());
    assert_ne!(seeds[0], seeds[1]);
    let mut expected = seeds.map(|seed| format!("a-key-{seed}.png"));
    expected.sort_unstable();
    assert_eq!(desk.files(), expected);
}

#[test]
fn count_draws_the_seeds_that_follow() {
    let desk = Desk::new();
    let ran = desk.sketch(&["a frog", "--seed", "7", "--count", "6", "--output", "frog.png"]);
    let expected: Vec<_> = (7..13).map(|seed| format!("frog-{seed}.png")).collect();
    assert_eq!(ran.stdout.lines().collect::<Vec<_>>(), expected);

    assert_eq!(desk.sketch(&["a frog", "--seed", "9", "--output", "alone.png"]).code, Some(0));
    let read = |name| fs::read(desk.path(name)).unwrap();
    assert_eq!(read("frog-9.png"), read("alone.png"));
    assert_ne!(read("frog-9.png"), read("frog-10.png"));
}

#[test]
fn an_existing_picture_stays_unless_forced() {
    let desk = Desk::new();
    fs::write(desk.path("key.png"), "mine").unwrap();
    desk.sketch(&["a key", "--output", "key.png"])
        .assert_failed(7, "`key.png` already exists; give `--force` to replace it, or another `--output`");
    assert_eq!(fs::read(desk.path("key.png")).unwrap(), b"mine");

    assert_eq!(desk.sketch(&["a key", "--output", "key.png", "--force"]).code, Some(0));
    assert!(image::open(desk.path("key.png")).is_ok());
    assert_eq!(desk.files(), ["key.png"]);
}

#[test]
fn one_existing_picture_of_several_stops_them_all() {
    let desk = Desk::new();
    fs::write(desk.path("key-8.png"), "mine").unwrap();
    let ran = desk.sketch(&["a key", "--seed", "7", "--count", "2", "--output", "key.png"]);
    assert_eq!(ran.code, Some(7));
    assert_eq!(desk.files(), ["key-8.png"]);
}

#[test]
fn what_cannot_be_written_is_found_before_anything_is_drawn() {
    let desk = Desk::new();
    fs::write(desk.path("file"), "").unwrap();
    fs::create_dir_all(desk.path("taken/key-7.png")).unwrap();
    let long = format!("{}.png", "x".repeat(300));
    // `/proc`: not even root makes files there.
    let cases = [
        ("a/key.png", "cannot write `a/key.png`: the folder `a` does not exist; `mkdir -p 'a'` makes it"),
        ("a/b", "cannot write `a/b/key-7.png`: the folder `a` does not exist; `mkdir -p 'a'` makes it"),
        ("file", "cannot write `file/key-7.png`: `file` is a file; expected a folder"),
        ("file/x.png", "cannot write `file/x.png`: `file` is a file; expected a folder"),
        ("taken", "cannot write `taken/key-7.png`: it is a folder; expected a file or a free name"),
        ("/proc", "cannot write `/proc/key-7.png`: "),
        (&long, "cannot write `xxxxx"),
        (
            "key.jpg",
            "cannot write `key.jpg`: images are written as PNG, and it ends in `.jpg`; expected a name that ends in \
             `.png`, or a folder",
        ),
    ];
    for (output, message) in cases {
        for flags in [&[][..], &["--force"]] {
            let ran = desk.sketch(&[&["key", "--seed", "7", "--output", output], flags].concat());
            assert_eq!((ran.code, ran.stdout.as_str()), (Some(7), ""), "{output}");
            assert!(ran.stderr.starts_with(&format!("error: {message}")), "{output}: {}", ran.stderr);
            assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        }
    }
    assert_eq!(desk.files(), ["file", "taken"]);
}

#[test]
fn a_new_folder_is_made_with_the_first_picture() {
    let desk = Desk::new();
    assert_eq!(desk.sketch(&["key", "--seed", "7", "--output", "new"]).stdout, "new/key-7.png\n");
    assert_eq!(desk.sketch(&["key", "--output", "bad", "--width", "68"]).code, Some(2));
    assert_eq!(desk.files(), ["new"]);
}

#[test]
fn a_picture_is_as_readable_as_any_new_file() {
    let desk = Desk::new();
    desk.sketch(&["key", "--output", "key.png"]);
    let mode = |file: File| file.metadata().unwrap().permissions().mode();
    let any = File::create(desk.path("any")).unwrap();
    assert_eq!(mode(File::open(desk.path("key.png")).unwrap()), mode(any));
}

#[test]
fn values_at_fault_are_named_with_what_would_be_right() {
    let desk = Desk::new();
    let cases: [(&[&str], &str); 16] = [
        (&["--steps", "0"], "`steps` is 0; expected 1 to 1000"),
        (&["--steps", "1001"], "`steps` is 1001; expected 1 to 1000"),
        (
            &["--steps", "-1"],
            "invalid value '-1' for '--steps <N>': expected a whole number from 0 to 18446744073709551615",
        ),
        (&["--guidance-scale", "-1"], "`guidance_scale` is -1; expected 0 to 100"),
        (&["--guidance-scale", "nan"], "`guidance_scale` is NaN; expected 0 to 100"),
        (&["--guidance-scale", "x"], "invalid value 'x' for '--guidance-scale <X>': expected a number"),
        (&["--guidance-rescale", "-0.5"], "`guidance_rescale` is -0.5; expected 0 to 1"),
        (&["--count", "0"], "`count` is 0; expected 1 to 10000"),
        (&["--count", "10001"], "`count` is 10001; expected 1 to 10000"),
        (
            &["--seed", "18446744073709551615", "--count", "2"],
            "`seed` is 18446744073709551615; expected at most 18446744073709551614 for 2 images",
        ),
        (
            &["--seed", "-1"],
            "invalid value '-1' for '--seed <N>': expected a whole number from 0 to 18446744073709551615",
        ),
        (&["--width", "68", "--height", "64"], "`width` is 68; expected a multiple of 8, 64 to 2048"),
        (&["--width", "64"], "the following required arguments were not provided: --height <N>"),
        (
            &["--height", "-8", "--width", "64"],
            "invalid value '-8' for '--height <N>': expected a whole number from 0 to 4294967295",
        ),
        (&["--step", "3"], "unexpected argument '--step' found; tip: a similar argument exists: '--steps'"),
        (&["--output", ""], "a value is required for '--output <PATH|DIR|->' but none was supplied"),
    ];
    for (flags, message) in cases {
        let ran = desk.run([&["generate", "key", "--model", "sketch", "--quiet"], flags].concat());
        ran.assert_failed(2, message);
    }
    assert_eq!(desk.files(), [""; 0]);
}

#[test]
fn an_unknown_scheduler_is_answered_with_those_there_are() {
    let ran = Desk::new().sketch(&["key", "--scheduler", "dpm"]);
    assert_eq!(ran.code, Some(2));
    for name in SchedulerName::ALL.iter().map(SchedulerName::to_string) {
        assert!(ran.stderr.contains(&name), "{name}: {}", ran.stderr);
        assert_eq!(Desk::new().sketch(&["key", "--scheduler", &name]).code, Some(0));
    }
}

#[test]
fn an_unknown_model_ends_with_3() {
    let ran = Desk::new().run(["generate", "key", "--model", "nope"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), ""));
    assert!(ran.stderr.contains("`nope`"), "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
}

#[test]
fn with_json_a_failure_is_a_line_of_its_own() {
    let desk = Desk::new();
    let kind = |args: &[&str]| {
        let ran = desk.run([&["generate", "key", "--json"], args].concat());
        let [line] = ran.json().try_into().unwrap();
        assert_eq!(ran.stderr, format!("error: {}\n", line["error"]["message"].as_str().unwrap()));
        line["error"]["kind"].as_str().unwrap().to_owned()
    };
    assert_eq!(kind(&["--model", "sketch", "--steps", "0"]), "invalid_request");
    assert_eq!(kind(&["--model", "sketch", "--steps", "many"]), "invalid_request");
    assert_eq!(kind(&["--model", "nope"]), "invalid_model");
    assert_eq!(kind(&["--model", "sketch", "--output", "/proc"]), "output");
}

#[test]
fn any_prompt_makes_a_name() {
    let desk = Desk::new();
    let long = "long ".repeat(5000);
    for prompt in ["", "/", "..", "../../up", "two\nlines", "鍵", "💎", "\u{202e}x", "'; rm -rf /", &long]
    {
        let ran = desk.sketch(&[prompt, "--seed", "7", "--output", "out", "--force"]);
        assert_eq!(ran.code, Some(0), "{prompt:?}: {ran:?}");
    }
    assert_eq!(desk.files(), ["out"]);
    let files = names(&desk.path("out"));
    assert!(files.iter().all(|name| name.ends_with("-7.png")), "{files:?}");
}

#[test]
fn quiet_says_nothing_but_paths() {
    let ran = Desk::new().sketch(&["key", "--seed", "7", "--quiet"]);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("key-7.png\n", ""));
}

#[test]
fn no_bar_is_drawn_where_stderr_is_no_terminal() {
    let ran = Desk::new().sketch(&["key", "--seed", "7"]);
    let (first, second) = ran.stderr.split_once('\n').unwrap();
    assert_eq!(first, "drawing with sketch");
    assert!(second.starts_with("seed 7, 64x64, 2 steps, ") && second.ends_with(" s\n"), "{second:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let desk = Desk::new();
    let small = ["generate", "key", "--raw", "--model", "sketch", "--seed", "1", "--count", "5"];
    let mut child = desk.command(small).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(desk.files().len(), 5);
}

#[test]
fn ctrl_c_leaves_whole_pictures_and_ends_with_130() {
    let desk = Desk::new();
    let many =
        ["generate", "key", "--raw", "--model", "sketch", "--count", "10000", "--output", "out", "--json"];
    let mut child = desk.command(many).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());

    let lines: Vec<Value> = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    let (error, told) = lines.split_last().unwrap();
    assert_eq!(error["error"]["kind"], "cancelled");
    assert_eq!(child.wait().unwrap().code(), Some(130));

    let left = names(&desk.path("out"));
    assert_eq!(left.len(), told.len() + 1);
    for name in left {
        image::open(desk.path("out").join(name)).unwrap();
    }
}

#[test]
fn help_tells_flags_and_exit_codes() {
    let Ran { code, stdout, .. } = Desk::new().run(["generate", "--help"]);
    assert_eq!(code, Some(0));
    for text in ["Exit codes:", "  130  cancelled", "--negative-prompt", "Default: 1"] {
        assert!(stdout.contains(text), "{text}: {stdout}");
    }
}
