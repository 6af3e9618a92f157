//! `batch`: many prompts, broken off and gone on with.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::symlink;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::{Desk, Ran, names};

/// In few steps and pixels, so that a sprite is 8x8.
const SMALL: [&str; 8] = ["--model", "sketch", "--width", "64", "--height", "64", "--steps", "2"];

impl Desk {
    fn batch(&self, args: &[&str]) -> Ran {
        self.run([&["batch"], args, &SMALL].concat())
    }

    /// A batch that takes seconds, after its first line.
    fn long_batch(&self, args: &[&str]) -> (Child, std::io::Lines<BufReader<ChildStdout>>) {
        fs::write(self.path("long.txt"), long_input()).unwrap();
        let args = [&["batch", "long.txt", "--output", "out"], args, &SMALL].concat();
        let mut command = self.command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        lines.next().unwrap().unwrap();
        (child, lines)
    }

    fn manifest(&self, folder: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(folder).join("manifest.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Asserts that `long_batch` is whole: each picture once in the manifest, each file there, and
    /// nothing else.
    #[track_caller]
    fn assert_long_batch_is_whole(&self) {
        let manifest = self.manifest("out");
        let told: HashSet<_> = manifest.iter().map(|entry| entry["path"].as_str().unwrap()).collect();
        assert_eq!((manifest.len(), told.len()), (LONG, LONG));
        assert!(manifest.iter().all(|entry| entry["status"] == "finished"));
        let mut expected: Vec<_> =
            told.iter().flat_map(|name| [(*name).to_owned(), name.replace(".png", ".json")]).collect();
        expected.extend([".dgx-pixels".into(), "manifest.jsonl".into()]);
        expected.sort_unstable();
        assert_eq!(names(&self.path("out")), expected);
        for name in told {
            image::open(self.path("out").join(name)).unwrap();
        }
    }
}

const LONG: usize = 240;

fn long_input() -> String {
    (0..LONG).map(|i| format!("potion number {i}\n")).collect()
}

fn signal(child: &Child, which: &str) {
    assert!(Command::new("kill").args([which, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn prompts_a_line_become_sprites_and_a_manifest() {
    let desk = Desk::new();
    fs::write(desk.path("keys.txt"), "\u{feff}# keys\r\na brass key\r\n\r\n  a red potion  \n").unwrap();
    let ran = desk.batch(&["keys.txt", "--output", "out"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.starts_with("all 2 pictures are made, in "), "{}", ran.stderr);
    let paths: Vec<_> = ran.stdout.lines().collect();
    assert_eq!(paths.len(), 2);
    let manifest = desk.manifest("out");
    // They stand in the order in which they were made.
    let mut told: Vec<_> = manifest.iter().map(|entry| (&entry["line"], &entry["prompt"])).collect();
    told.sort_by_key(|(line, _)| line.as_u64());
    assert_eq!(told, [(&json!(2), &json!("a brass key")), (&json!(4), &json!("a red potion"))]);
    for (path, entry) in paths.iter().zip(&manifest) {
        let seed = entry["seed"].as_u64().unwrap();
        let stem = entry["prompt"].as_str().unwrap().replace(' ', "-");
        assert_eq!(*path, format!("out/{stem}-{seed}.png"));
        assert_eq!(entry["path"], json!(format!("{stem}-{seed}.png")));
        let sprite = image::open(desk.path(path)).unwrap();
        assert_eq!((sprite.width(), sprite.height()), (8, 8));
        let beside = fs::read(desk.path(path).with_extension("json")).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&beside).unwrap(), entry["certificate"]);
        assert_eq!((&entry["status"], &entry["error"]), (&json!("finished"), &Value::Null));
        assert!(entry["timings_ms"]["total"].as_f64().unwrap() > 0.0);
        assert_eq!(entry["job"].as_str().unwrap().len(), 36);
    }
    assert_eq!(names(&desk.path("out")).len(), 2 * 2 + 2);
}

#[test]
fn json_lines_say_what_differs_from_the_flags() {
    let desk = Desk::new();
    let lines = [
        r#"{"prompt":"a key","name":"key","max_colors":2}"#,
        r#"{"prompt":"a key","count":2,"seed":5,"size":"16x16","negative_prompt":"blur","guidance_scale":3}"#,
        r#"{"prompt":"a key","name":"raw","raw":true,"width":128,"height":64,"seed":null}"#,
    ];
    fs::write(desk.path("keys.jsonl"), lines.join("\n")).unwrap();
    let ran = desk.batch(&["keys.jsonl", "--output", "out", "--seed", "9", "--json", "--quiet"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    let mut told: Vec<_> = ran
        .json()
        .iter()
        .map(|line| {
            let field = |name: &str| line[name].clone();
            [field("path"), field("seed"), field("width"), field("height")]
        })
        .collect();
    // They are printed in the order in which they are done.
    told.sort_unstable_by_key(|[path, ..]| path.to_string());
    assert_eq!(
        json!(told),
        json!([
            ["out/a-key-5.png", 5, 16, 16],
            ["out/a-key-6.png", 6, 16, 16],
            ["out/key.png", 9, 8, 8],
            ["out/raw.png", 9, 128, 64],
        ])
    );
    assert!(!desk.path("out/raw.json").exists());

    // A sprite of a batch is one that `generate` draws.
    let alone =
        [&["generate", "a key", "--seed", "9", "--max-colors", "2", "--output", "key.png"], &SMALL[..]];
    assert_eq!(desk.run(alone.concat()).code, Some(0));
    assert_eq!(fs::read(desk.path("key.png")).unwrap(), fs::read(desk.path("out/key.png")).unwrap());
}

#[test]
fn json_lines_are_json_under_any_name() {
    let desk = Desk::new();
    // They are printed in the order in which they are done.
    let printed = |ran: &Ran| {
        let mut lines: Vec<_> = ran.stdout.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let json = "{\"prompt\":\"a key\",\"seed\":1}\r\n{\"prompt\":\"a frog\",\"seed\":2}\r\n";
    for (name, start) in
        [("p.ndjson", "\n"), ("p.txt", "\u{feff}# a comment\r\n\r\n"), ("p", ""), ("p.JSONL", "\u{feff}")]
    {
        fs::write(desk.path(name), format!("{start}{json}")).unwrap();
        let out = format!("out-{}", name.replace('.', "-"));
        let ran = desk.batch(&[name, "--output", &out]);
        let expected = [format!("{out}/a-frog-2.png"), format!("{out}/a-key-1.png")];
        assert_eq!(printed(&ran), expected, "{name}: {ran:?}");
    }
    fs::write(desk.path("words.txt"), "{red|blue} potion\n[glowing] key\n").unwrap();
    let ran = desk.batch(&["words.txt", "--output", "words", "--seed", "1"]);
    assert_eq!(printed(&ran), ["words/glowing-key-1.png", "words/red-blue-potion-1.png"], "{ran:?}");
}

#[test]
fn lines_of_two_kinds_are_refused_with_their_number() {
    let desk = Desk::new();
    let cases = [
        (
            "a key\n{\"prompt\":\"a frog\"}\n",
            "error: line 2: it is a JSON object, and the lines before it are prompts",
        ),
        ("{\"prompt\":\"a frog\"}\n\na key\n", "error: line 3: it is no JSON object: "),
        (
            "[\n{\"prompt\":\"a frog\"}\n]\n",
            "error: cannot read `p.txt`: it is a JSON list; expected a JSON object a line",
        ),
        ("{\n \"prompt\":\"a frog\"\n}\n", "error: line 1: it is no JSON object: "),
    ];
    for (text, message) in cases {
        fs::write(desk.path("p.txt"), text).unwrap();
        let ran = desk.batch(&["p.txt", "--output", "out"]);
        assert!(ran.stderr.starts_with(message), "{}", ran.stderr);
        assert_ne!(ran.code, Some(0));
        assert_eq!(desk.files(), ["p.txt"]);
    }
}

#[test]
fn a_size_of_a_line_gets_a_canvas_that_fits_or_is_refused_first() {
    let desk = Desk::new();
    let lines = "{\"prompt\":\"a potion\",\"size\":\"16x16\",\"seed\":1,\"steps\":2}\n";
    fs::write(desk.path("p.jsonl"), lines).unwrap();
    let ran = desk.run(["batch", "p.jsonl", "-o", "out", "-m", "sketch", "--json", "-q"]);
    assert_eq!((&ran.json()[0]["width"], &ran.json()[0]["height"]), (&json!(16), &json!(16)), "{ran:?}");

    let canvas = ["--width", "256", "--height", "256"];
    let ran = desk.run([&["batch", "p.jsonl", "-o", "new", "-m", "sketch"][..], &canvas].concat());
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.starts_with("error: line 1: `size` is 16x16, and an image of 256x256 "), "{ran:?}");
    assert!(!desk.path("new").exists());
}

#[test]
fn flags_and_fields_that_would_change_nothing_are_refused() {
    let desk = Desk::new();
    let fault = |line: &str, flags: &[&str]| {
        fs::write(desk.path("p"), line).unwrap();
        let ran = desk.run([&["batch", "p", "-o", "out", "-m", "sketch"], flags].concat());
        assert_eq!(ran.code, Some(2), "{ran:?}");
        ran.stderr
    };
    let anchor = fault(r#"{"prompt":"a key","anchor":"bottom"}"#, &[]);
    assert!(anchor.starts_with("error: line 1: `anchor` is `bottom` and there is no `size`"), "{anchor}");
    let raw = fault(r#"{"prompt":"a key","size":"16x16"}"#, &["--raw"]);
    assert!(raw.starts_with("error: line 1: `size` does not go with `raw`"), "{raw}");
    let flag = fault("a key", &["--anchor", "bottom"]);
    assert!(flag.starts_with("error: `anchor` is `bottom` and there is no `size`"), "{flag}");
    assert!(!desk.path("out").exists());
}

#[test]
fn standard_input_is_read_in_both_forms() {
    let desk = Desk::new();
    for (folder, lines) in
        [("one", "a key\na frog\n"), ("two", "\n{\"prompt\":\"a key\"}\n{\"prompt\":\"a frog\"}")]
    {
        let args = [&["batch", "-", "--seed", "7", "--output", folder], &SMALL[..]].concat();
        let mut child = desk
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        for name in ["a-key-7.png", "a-frog-7.png"] {
            assert!(desk.path(folder).join(name).is_file(), "{name}");
        }
    }
}

#[test]
fn faults_are_told_with_their_lines_before_anything_is_drawn() {
    let desk = Desk::new();
    let lines = [
        r#"{"prompt":"fine"}"#,
        r#"{"prompt":"a key","stepz":3}"#,
        "",
        r#"{"steps":0}"#,
        r#"{"prompt":7,"seed":-1,"name":"a/b","tile_x":"yes"}"#,
        r#"{"prompt":"a key","width":68,"height":64}"#,
        r#"{"prompt":"a key","raw":true,"palette":"pico-8"}"#,
        r#"{"prompt":"a key","anchor":"up","count":0}"#,
        "no json",
        r#"{"prompt":"a key","seed":18446744073709551615,"count":2}"#,
    ];
    fs::write(desk.path("bad.jsonl"), lines.join("\n")).unwrap();
    let ran = desk.batch(&["bad.jsonl", "--output", "out", "--json"]);
    assert_eq!(ran.code, Some(2));
    let said: Vec<_> = ran.stderr.lines().collect();
    let expected = [
        "error: line 2: `stepz` is 3, and there is no such field; the nearest are `steps`, ",
        "error: line 4: `prompt` is missing; expected a text",
        "error: line 5: `name` is \"a/b\"; expected a file's name without folder and ending",
        "error: line 5: `prompt` is 7; expected a text",
        "error: line 5: `tile_x` is \"yes\"; expected `true` or `false`",
        "error: line 5: `seed` is -1; expected a whole number, 0 or more",
        "error: line 6: `width` is 68; expected a multiple of 8, 64 to 2048",
        "error: line 7: `palette` does not go with `raw`",
        "error: line 8: `anchor` is `up`; expected ",
        "error: line 9: it is no JSON object: ",
        "error: line 10: `seed` is 18446744073709551615; expected at most 18446744073709551614 for 2 images",
        "error: `bad.jsonl` has 11 faults; nothing was drawn",
    ];
    assert_eq!(said.len(), expected.len(), "{}", ran.stderr);
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected), "{said}\n{expected}");
    }
    let told = ran.json();
    assert_eq!((told.len(), &told[0]["line"]), (12, &json!(2)));
    assert_eq!(told[11]["error"]["kind"], "invalid_request");
    assert_eq!(desk.files(), ["bad.jsonl"]);
}

#[test]
fn of_many_faults_twenty_are_told() {
    let desk = Desk::new();
    fs::write(desk.path("bad.jsonl"), "{}\n".repeat(50)).unwrap();
    let ran = desk.batch(&["bad.jsonl", "--output", "out"]);
    let said: Vec<_> = ran.stderr.lines().collect();
    assert_eq!(
        (said.len(), said[19], said[20]),
        (22, "error: line 20: `prompt` is missing; expected a text", "error: and 30 more")
    );
}

#[test]
fn what_cannot_be_read_or_asks_for_nothing_is_told() {
    let desk = Desk::new();
    fs::write(desk.path("empty.txt"), "# nothing\n\n").unwrap();
    desk.batch(&["empty.txt", "--output", "out"])
        .assert_failed(8, "cannot read `empty.txt`: it has no prompts; expected one a line");
    desk.batch(&["absent.txt", "--output", "out"])
        .assert_failed(8, "cannot read `absent.txt`: No such file or directory (os error 2)");
    fs::write(desk.path("latin.txt"), b"a key\nein Schl\xfcssel\n").unwrap();
    let ran = desk.batch(&["latin.txt", "--output", "out"]);
    assert!(ran.stderr.starts_with("error: line 2: it is no UTF-8 text; "), "{}", ran.stderr);
    assert_eq!(desk.files(), ["empty.txt", "latin.txt"]);
}

#[test]
fn the_same_prompt_twice_makes_two_files() {
    let desk = Desk::new();
    fs::write(desk.path("keys.txt"), "a key\na key\na key\n").unwrap();
    assert_eq!(desk.batch(&["keys.txt", "--output", "same", "--seed", "7"]).code, Some(0));
    let sprites = |folder: &str| {
        let names = names(&desk.path(folder));
        names.into_iter().filter(|name| name.ends_with(".png")).collect::<Vec<_>>()
    };
    assert_eq!(sprites("same"), ["a-key-7-line2.png", "a-key-7-line3.png", "a-key-7.png"]);

    // Without a seed each line has its own, in every run the same.
    for folder in ["one", "two"] {
        assert_eq!(desk.batch(&["keys.txt", "--output", folder]).code, Some(0));
    }
    assert_eq!((sprites("one").len(), sprites("one")), (3, sprites("two")));
}

#[test]
fn files_that_are_there_stay_unless_forced() {
    let desk = Desk::new();
    fs::write(desk.path("keys.txt"), "a key\na frog\n").unwrap();
    fs::create_dir(desk.path("out")).unwrap();
    fs::write(desk.path("out/a-frog-7.png"), "mine").unwrap();
    let batch = ["keys.txt", "--output", "out", "--seed", "7"];
    let message = "`out/a-frog-7.png` already exists; give `--force` to replace it, or another `--output`";
    for resume in [&[][..], &["--resume"]] {
        desk.batch(&[&batch, resume].concat()).assert_failed(7, message);
        assert_eq!(names(&desk.path("out")), ["a-frog-7.png"]);
    }
    assert_eq!(desk.batch(&[&batch[..], &["--force"]].concat()).code, Some(0));
    assert!(image::open(desk.path("out/a-frog-7.png")).is_ok());

    let message = "`out/manifest.jsonl` already exists; give `--force` to replace it, or another `--output`";
    desk.batch(&batch).assert_failed(7, message);
    assert_eq!(desk.batch(&[&batch[..], &["--force"]].concat()).stdout.lines().count(), 2);
    assert_eq!(desk.manifest("out").len(), 2);
    desk.batch(&["keys.txt", "--output", "a/b", "--seed", "7"]).assert_failed(
        7,
        "cannot write `a/b/a-key-7.png`: the folder `a` does not exist; `mkdir -p 'a'` makes it",
    );
    desk.batch(&["keys.txt", "--output", "b.png"])
        .assert_failed(7, "cannot write `b.png`: it is an image's name; expected a folder");
}

#[test]
fn ctrl_c_says_the_command_that_goes_on() {
    let desk = Desk::new();
    let (mut child, lines) = desk.long_batch(&["--negative-prompt", "it's blurry"]);
    signal(&child, "-INT");
    let told = 1 + lines.count();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{said}");
    assert!(told < LONG, "the batch is too short to be broken off");
    assert_eq!(desk.manifest("out").len(), told);
    let start = format!("error: interrupted; {told} of {LONG} pictures are made; `");
    let command = said.strip_prefix(&start).unwrap_or_else(|| panic!("{said:?}"));
    let command = command.strip_suffix("` goes on\n").unwrap();

    // A reader would take it for a new batch.
    let again = desk.batch(&["long.txt", "--output", "out"]);
    again.assert_failed(
        7,
        &format!(
            "`out` holds a batch of which {told} of {LONG} pictures are made; \
             give `--resume` to go on, `--force` to begin anew, or another `--output`"
        ),
    );

    let mut shell = Command::new("sh");
    let resumed = Ran::of(shell.args(["-c", command]).current_dir(desk.path("")));
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert_eq!(resumed.stdout.lines().count(), LONG - told);
    assert!(
        resumed.stderr.starts_with(&format!("{LONG} pictures as before, {told} of them made\n")),
        "{}",
        resumed.stderr
    );
    desk.assert_long_batch_is_whole();

    let done = Ran::of(Command::new("sh").args(["-c", command]).current_dir(desk.path("")));
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), ""));
    assert!(done.stderr.ends_with(&format!("all {LONG} pictures are made already\n")), "{}", done.stderr);
}

#[test]
fn a_batch_that_was_killed_ends_with_each_picture_once() {
    let desk = Desk::new();
    for run in 0..4 {
        let (mut child, mut lines) = desk.long_batch(if run == 0 { &[] } else { &["--resume"] });
        lines.nth(5 + 7 * run).unwrap().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // A line that was broken off, and a file.
    let mut manifest = fs::File::options().append(true).open(desk.path("out/manifest.jsonl")).unwrap();
    manifest.write_all(br#"{"line":3,"pa"#).unwrap();
    fs::write(desk.path("out/.dgx-pixels-1a2b3c"), "half").unwrap();

    let ran = desk.batch(&["long.txt", "--output", "out", "--resume"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    desk.assert_long_batch_is_whole();

    // The same as without the kills.
    assert_eq!(desk.batch(&["long.txt", "--output", "straight"]).code, Some(0));
    for name in names(&desk.path("straight")).iter().filter(|name| name.ends_with(".png")) {
        let read = |folder: &str| fs::read(desk.path(folder).join(name)).unwrap();
        assert!(read("out") == read("straight"), "{name}");
    }
}

#[test]
fn a_picture_that_was_deleted_or_is_new_is_made_and_the_others_are_kept() {
    let desk = Desk::new();
    let batch = ["keys.txt", "--output", "out", "--resume"];
    fs::write(desk.path("keys.txt"), "a key\na frog\na fly\n").unwrap();
    assert_eq!(desk.batch(&batch).stdout.lines().count(), 3);
    // The manifest has pictures in the order in which they were finished.
    let path = |line: usize| {
        let manifest = desk.manifest("out");
        manifest.iter().find(|entry| entry["line"] == line).unwrap()["path"].as_str().unwrap().to_owned()
    };
    let (key, frog) = (path(1), path(2));
    fs::remove_file(desk.path("out").join(&key)).unwrap();
    fs::write(desk.path("keys.txt"), "a key\na toad\na fly\na bee\n").unwrap();
    let modified = |name: &str| fs::metadata(desk.path("out").join(name)).unwrap().modified().unwrap();
    let fly = path(3);
    let before = modified(&fly);

    let ran = desk.batch(&[&batch[..], &["--force"]].concat());
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 3), "{ran:?}");
    let message = "2 pictures as before, 1 of them made; 2 new; \
                   1 not asked for any more, whose files stay if they were made\n";
    assert!(ran.stderr.starts_with(message), "{}", ran.stderr);
    assert!(desk.path("out").join(&key).is_file() && desk.path("out").join(&frog).is_file());
    assert_eq!(modified(&fly), before);
    let mut lines: Vec<_> =
        desk.manifest("out").iter().map(|entry| entry["line"].as_u64().unwrap()).collect();
    lines.sort_unstable();
    assert_eq!(lines, [1, 2, 3, 4]);
}

#[test]
fn failures_are_listed_and_the_others_are_made() {
    let desk = Desk::new();
    fs::write(desk.path("keys.txt"), "a key\na frog\na fly\n").unwrap();
    let batch = ["keys.txt", "--output", "out", "--seed", "7", "--json"];
    assert_eq!(desk.batch(&batch).code, Some(0));
    // Somebody puts a file of their own in the place of a sprite that the batch has lost.
    fs::write(desk.path("out/a-frog-7.png"), "mine").unwrap();
    fs::remove_dir_all(desk.path("out/.dgx-pixels/journal")).unwrap();
    let manifest = fs::read_to_string(desk.path("out/manifest.jsonl")).unwrap();
    let others =
        manifest.lines().filter(|line| !line.contains("a-frog-7.png")).map(|line| format!("{line}\n"));
    fs::write(desk.path("out/manifest.jsonl"), others.collect::<String>()).unwrap();
    for _ in 0..2 {
        let ran = desk.batch(&[&batch[..], &["--resume"]].concat());
        assert_eq!(ran.code, Some(8), "{ran:?}");
        let message = "error: 1 of 3 pictures could not be made; the others were\n";
        assert!(ran.stderr.contains("error: line 2: `out/a-frog-7.png`: "), "{}", ran.stderr);
        assert!(ran.stderr.ends_with(message), "{}", ran.stderr);
        let told = ran.json();
        assert_eq!(told.len(), 2);
        let failed = told.iter().find(|entry| entry["status"] == "failed").unwrap();
        assert_eq!((&failed["line"], &failed["error"]["kind"]), (&json!(2), &json!("output")));
        assert_eq!(told.last().unwrap()["error"]["kind"], "input");
        assert_eq!(desk.manifest("out").len(), 3);
    }
    let sprites = names(&desk.path("out")).into_iter().filter(|name| name.ends_with(".png"));
    assert_eq!(sprites.collect::<Vec<_>>(), ["a-fly-7.png", "a-frog-7.png", "a-key-7.png"]);
    assert_eq!(fs::read(desk.path("out/a-frog-7.png")).unwrap(), b"mine");
}

#[test]
fn a_folder_that_goes_away_stops_the_batch() {
    let desk = Desk::new();
    let (mut child, lines) = desk.long_batch(&[]);
    fs::rename(desk.path("out"), desk.path("away")).unwrap();
    fs::write(desk.path("out"), "").unwrap();
    let told = 1 + lines.count();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(7), "{said}");
    assert!(said.starts_with(&format!("stopped: {told} of {LONG} pictures are made; `")), "{said}");
    assert!(said.lines().last().unwrap().starts_with("error: cannot write `"), "{said}");

    // Back again, it goes on.
    fs::remove_file(desk.path("out")).unwrap();
    fs::rename(desk.path("away"), desk.path("out")).unwrap();
    let ran = desk.batch(&["long.txt", "--output", "out", "--resume", "--quiet"]);
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), LONG - told), "{ran:?}");
    desk.assert_long_batch_is_whole();
}

#[test]
fn what_the_journal_has_lost_is_made_again_and_other_files_stay() {
    let desk = Desk::new();
    fs::write(desk.path("keys.txt"), "a key\na frog\na fly\na bee\n").unwrap();
    let batch = ["keys.txt", "--output", "out", "--seed", "7", "--resume"];
    assert_eq!(desk.batch(&batch).code, Some(0));
    let out = desk.path("out");
    fs::remove_dir_all(out.join(".dgx-pixels/journal")).unwrap();
    // One picture is told of; one has only its certificate; one was replaced by something else.
    let manifest = fs::read_to_string(out.join("manifest.jsonl")).unwrap();
    let key = manifest.split_inclusive('\n').find(|line| line.contains("a-key-7.png")).unwrap();
    fs::write(out.join("manifest.jsonl"), key).unwrap();
    fs::remove_file(out.join("a-fly-7.png")).unwrap();
    fs::write(out.join("a-bee-7.png"), "mine").unwrap();

    let ran = desk.batch(&batch);
    // In the order in which they were finished.
    let mut made: Vec<_> = ran.stdout.lines().collect();
    made.sort_unstable();
    assert_eq!((ran.code, &made[..]), (Some(8), &["out/a-fly-7.png", "out/a-frog-7.png"][..]), "{ran:?}");
    assert!(ran.stderr.contains("error: line 4: `out/a-bee-7.png`: "), "{}", ran.stderr);
    assert_eq!(fs::read(out.join("a-bee-7.png")).unwrap(), b"mine");
}

#[test]
fn a_batch_that_moved_goes_on_where_it_is() {
    let desk = Desk::new();
    let (mut child, _lines) = desk.long_batch(&[]);
    child.kill().unwrap();
    child.wait().unwrap();
    fs::rename(desk.path("out"), desk.path("moved")).unwrap();
    let ran = desk.batch(&["long.txt", "--output", "moved", "--resume", "--quiet"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    // What the engine took up before it heard of the move leaves no picture, and perhaps a folder.
    let _ = fs::remove_dir(desk.path("out"));
    fs::rename(desk.path("moved"), desk.path("out")).unwrap();
    desk.assert_long_batch_is_whole();
}

#[test]
fn two_batches_do_not_share_a_folder() {
    let desk = Desk::new();
    let (mut child, _lines) = desk.long_batch(&[]);
    // It is at work for as long as this takes.
    // SAFETY: stops our own child.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGSTOP) }, 0);
    for flags in [&[][..], &["--resume"], &["--force"]] {
        let ran = desk.batch(&[&["long.txt", "--output", "out"], flags].concat());
        let message = "cannot write `out`: another `dgx-pixels batch` works in it; wait for it, or give another `--output`";
        ran.assert_failed(7, message);
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn help_tells_the_fields_of_a_line() {
    let Ran { code, stdout, .. } = Desk::new().run(["batch", "--help"]);
    assert_eq!(code, Some(0));
    for text in ["`negative_prompt`", "manifest.jsonl", "--resume", "  10   queue_full", "  8    input"] {
        assert!(stdout.contains(text), "{text}: {stdout}");
    }
}

/// A folder that somebody else made, with a link where the batch keeps its own files.
#[test]
fn a_link_in_the_output_folder_is_never_followed() {
    let names =
        [".dgx-pixels", "manifest.jsonl", ".dgx-pixels/batch.json", ".dgx-pixels/journal", "a-key-1.png"];
    for name in names {
        for target in ["home/diary.txt", "home", "home/new"] {
            let desk = Desk::new();
            fs::create_dir_all(desk.path("home/journal")).unwrap();
            let diaries =
                ["diary.txt", "lock", "batch.json", "manifest.jsonl", "journal/journal.redb", "journal.redb"];
            diaries.iter().for_each(|name| fs::write(desk.path("home").join(name), "precious").unwrap());
            fs::write(desk.path("in.txt"), "a key\n").unwrap();
            let path = desk.path("out").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(desk.path(target), &path).unwrap();
            for flags in [&[][..], &["--resume"], &["--force"], &["--force", "--resume"]] {
                let ran = desk.batch(&[&["in.txt", "--output", "out", "--seed", "1"], flags].concat());
                // `--force` replaces a link itself.
                let may_replace = flags.contains(&"--force") && !name.starts_with('.');
                assert!(ran.code != Some(0) || may_replace, "{name} to {target}: {flags:?}");
                for diary in diaries {
                    assert_eq!(fs::read(desk.path("home").join(diary)).unwrap(), b"precious", "{name}");
                }
                assert_eq!(fs::read_dir(desk.path("home")).unwrap().count(), 6, "{name}: {flags:?}");
                assert_eq!(fs::read_dir(desk.path("home/journal")).unwrap().count(), 1, "{name}: {flags:?}");
            }
        }
    }
}
