//! Standard streams: images through pipes, and what a terminal gets to see.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Output, Stdio};
use std::ptr::null_mut;

use image::{Rgba, RgbaImage};
use serde_json::Value;

use super::{Desk, names};

/// A sprite of 8x8 cells of 8 pixels.
fn save_art(desk: &Desk, name: impl AsRef<OsStr>) {
    let cell =
        |x: u32, y: u32| Rgba([(x * y * 37 % 256) as u8, (x * 91 % 256) as u8, (y * 53 % 256) as u8, 255]);
    let image = RgbaImage::from_fn(64, 64, |x, y| cell(x / 8, y / 8));
    image.save_with_format(desk.folder.path().join(name.as_ref()), image::ImageFormat::Png).unwrap();
}

fn output(command: &mut Command, stdin: &[u8]) -> Output {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    child.wait_with_output().unwrap()
}

/// Standard output of the command where that is a terminal, without the terminal's carriage
/// returns.
fn shown(command: &mut Command) -> String {
    let (mut master, mut slave) = (0, 0);
    // SAFETY: both are written to; the name and the settings may be null.
    let opened = unsafe { libc::openpty(&mut master, &mut slave, null_mut(), null_mut(), null_mut()) };
    assert_eq!(opened, 0);
    // SAFETY: both were just opened, and belong to nothing else.
    let (master, slave) = unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
    let mut child = command.stdout(Stdio::from(slave)).stderr(Stdio::null()).spawn().unwrap();
    // The command holds the terminal's other end too.
    command.stdout(Stdio::null());
    let (mut master, mut bytes, mut buffer) = (File::from(master), vec![], [0; 4096]);
    // A terminal without its other end is an error on Linux, and no end.
    while let Ok(count @ 1..) = master.read(&mut buffer) {
        bytes.extend(&buffer[..count]);
    }
    child.wait().unwrap();
    String::from_utf8(bytes).unwrap().replace('\r', "")
}

fn has_escape(text: &str) -> bool {
    text.chars().any(|letter| letter.is_control() && letter != '\n' || "\u{202e}\u{2066}".contains(letter))
}

#[test]
fn an_image_goes_through_pipes() {
    let desk = Desk::new();
    let sketch = ["--model", "sketch", "--seed", "7", "--steps", "1"];
    let drawn = output(&mut desk.command([&["generate", "key", "-o", "-"], &sketch[..]].concat()), b"");
    assert_eq!(desk.files(), [""; 0]);
    assert_eq!(desk.run([&["generate", "key", "-o", "key.png"], &sketch[..]].concat()).code, Some(0));
    assert_eq!(drawn.stdout, fs::read(desk.path("key.png")).unwrap());

    save_art(&desk, "art.png");
    let art = fs::read(desk.path("art.png")).unwrap();
    let piped = output(&mut desk.command(["pixelize", "-", "--output", "-"]), &art);
    assert_eq!(image::load_from_memory(&piped.stdout).unwrap().to_rgba8().dimensions(), (8, 8));
    assert_eq!(desk.run(["pixelize", "art.png", "--output", "sprite.png"]).code, Some(0));
    assert_eq!(piped.stdout, fs::read(desk.path("sprite.png")).unwrap());
    // A sprite of ours is known as one, from a pipe too.
    let again =
        output(&mut desk.command(["pixelize", "-", "--output", "-", "--shared-palette"]), &piped.stdout);
    assert_eq!(image::load_from_memory(&again.stdout).unwrap().to_rgba8().dimensions(), (8, 8));
    let named = output(&mut desk.command(["pixelize", "-", "--output", "out"]), &art);
    assert_eq!(String::from_utf8(named.stdout).unwrap(), "out/stdin.png\n");

    let sheet = output(&mut desk.command(["sheet", "sprite.png", "sprite.png", "-o", "-"]), b"");
    assert_eq!(image::load_from_memory(&sheet.stdout).unwrap().to_rgba8().dimensions(), (16, 8));
    let reproduced = output(&mut desk.command(["reproduce", "key.png", "-o", "-"]), b"");
    assert_eq!(reproduced.stdout, fs::read(desk.path("key.png")).unwrap());
    assert_eq!(desk.files(), ["art.png", "key.json", "key.png", "out", "sprite.json", "sprite.png"]);
}

#[test]
fn an_output_is_never_a_folder_by_mistake() {
    let desk = Desk::new();
    save_art(&desk, "art.png");
    fs::write(desk.path("prompts"), "a key\n").unwrap();
    for name in ["o.tga", "o.json", "hero.aseprite", "o.JPEG"] {
        for args in [
            &["pixelize", "art.png", "--output", name][..],
            &["generate", "key", "--model", "sketch", "--output", name],
            &["batch", "prompts", "--model", "sketch", "--output", name],
            &["sheet", "art.png", "--output", name],
        ] {
            let ran = desk.run(args);
            assert_eq!(ran.code, Some(7), "{args:?}: {ran:?}");
            assert!(ran.stderr.contains("ends in `.png`"), "{args:?}: {}", ran.stderr);
        }
    }
    for args in [&["batch", "prompts", "-m", "sketch", "-o", "-"][..], &["sheet", "art.png", "-o", "sheet"]] {
        assert_eq!(desk.run(args).code, Some(7), "{args:?}");
    }
    assert_eq!(desk.files(), ["art.png", "prompts"]);
}

#[test]
fn a_terminal_gets_no_image_and_no_escapes() {
    let desk = Desk::new();
    let sketch = ["-m", "sketch", "--raw", "--width", "64", "--height", "64", "--steps", "1", "--seed", "7"];
    assert_eq!(shown(&mut desk.command([&["generate", "key", "-o", "-"], &sketch[..]].concat())), "");

    let prompt = "a \u{1b}[31mkey\u{9b}2J\u{202e}\u{7f}";
    let json = shown(&mut desk.command([&["generate", prompt, "--json"], &sketch[..]].concat()));
    assert!(!has_escape(&json), "{json:?}");
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["prompt"], prompt);

    let folder = "out\u{1b}]0;title\u{7}\u{202e}";
    let args = [&["generate", "key", "-o", folder], &sketch[..]].concat();
    assert_eq!(shown(&mut desk.command(&args)), "out\\u{1b}]0;title\\u{7}\\u{202e}/key-7.png\n");
    // A script gets the name itself.
    let ran = desk.run([&args[..], &["--force"]].concat());
    assert_eq!(ran.stdout, format!("{folder}/key-7.png\n"));
}

#[test]
fn what_others_named_reaches_nobody_raw() {
    let desk = Desk::new();
    let name = OsStr::from_bytes(b"\x1b[2J\xff\xc2\x9b.png");
    save_art(&desk, name);
    fs::create_dir_all(desk.path("models/evil\u{1b}[31m\u{202e}")).unwrap();
    fs::write(desk.path("prompts"), "{\"prompt\":\"a key\",\"\u{9b}2J\":1}\n").unwrap();
    let cases: [&[&OsStr]; 6] = [
        &["reproduce".as_ref(), name],
        &["generate".as_ref(), "key".as_ref(), "--seed".as_ref(), "\u{1b}[2J".as_ref()],
        &["\u{1b}[2J\u{202e}".as_ref()],
        &["generate".as_ref(), "key".as_ref(), "--model".as_ref(), "evil\u{1b}[31m".as_ref()],
        &["batch".as_ref(), "prompts".as_ref(), "-o".as_ref(), "out".as_ref()],
        &["validate".as_ref(), "\u{1b}[2Jnone".as_ref()],
    ];
    for args in cases {
        let done = output(&mut desk.command(args), b"");
        let text = String::from_utf8(done.stderr).unwrap();
        assert!(!done.status.success() && !text.is_empty(), "{args:?}");
        assert!(!has_escape(&text), "{args:?}: {text:?}");
    }
    let listed = shown(&mut desk.command(["models"]));
    assert!(listed.contains("evil\\u{1b}[31m") && !has_escape(&listed), "{listed:?}");
    // The name is no text, and its bytes come back.
    let done = output(
        desk.command(["pixelize".as_ref(), name, "-o".as_ref(), "out".as_ref()]).stderr(Stdio::null()),
        b"",
    );
    assert_eq!(done.stdout, b"out/\x1b[2J\xff\xc2\x9b.png\n");
    assert_eq!(fs::read_dir(desk.path("out")).unwrap().count(), 2);
}

#[test]
fn numbered_frames_are_in_the_order_of_their_numbers() {
    let desk = Desk::new();
    fs::create_dir(desk.path("art")).unwrap();
    for n in [1, 2, 10] {
        RgbaImage::from_pixel(8, 8, Rgba([n, 0, 0, 255]))
            .save(desk.path(&format!("art/walk_{n}.png")))
            .unwrap();
    }
    let sorted = ["out/walk_1.png", "out/walk_2.png", "out/walk_10.png"];
    for input in ["art", "art/*.png"] {
        let ran = desk.run(["pixelize", input, "-o", "out", "--grid", "1", "--force"]);
        assert_eq!(ran.stdout.lines().collect::<Vec<_>>(), sorted, "{ran:?}");
    }
    let red = |image: &RgbaImage| [4, 12, 20].map(|x| image.get_pixel(x, 4)[0]);
    let by_shell = ["art/walk_1.png", "art/walk_10.png", "art/walk_2.png"];
    for frames in [&["art"][..], &["art/*.png"], &by_shell] {
        let args = [&["sheet", "-o", "sheet.png", "--columns", "3", "--force"], frames].concat();
        assert_eq!(desk.run(args).code, Some(0), "{frames:?}");
        assert_eq!(red(&image::open(desk.path("sheet.png")).unwrap().to_rgba8()), [1, 2, 10], "{frames:?}");
    }
    assert_eq!(names(&desk.path("art")).len(), 3);
}

#[test]
fn flags_that_would_change_nothing_are_refused() {
    let desk = Desk::new();
    save_art(&desk, "art.png");
    fs::create_dir(desk.path("game")).unwrap();
    let cases: [(&[&str], &str); 9] = [
        (&["pixelize", "art.png", "-o", "o.png", "--grid", "8x8", "--detail", "high"], "`detail` is `high`"),
        (&["pixelize", "art.png", "-o", "o.png", "--grid", "8x8", "--strip", "3"], "`strip` is 3"),
        (&["pixelize", "art.png", "-o", "-", "--overlay"], "`--overlay`"),
        (&["pixelize", "art.png", "-o", "-", "--preview", "2"], "`--preview`"),
        (&["pixelize", "art.png", "-o", "o.png", "--anchor", "bottom"], "`anchor`"),
        (&["sheet", "art.png", "-o", "o.png", "--layout", "packed", "--columns", "2"], "`--columns`"),
        (&["sheet", "art.png", "-o", "-", "--meta"], "`--meta`"),
        (&["reproduce", "art.png", "--force"], "--output"),
        (&["deploy", "art.png", "--project", "game", "--no-reload", "--wait", "9"], "cannot be used with"),
    ];
    for (args, what) in cases {
        let ran = desk.run(args);
        assert_eq!(ran.code, Some(2), "{args:?}: {ran:?}");
        assert!(ran.stderr.contains(what), "{args:?}: {}", ran.stderr);
    }
    assert_eq!(desk.files(), ["art.png", "game"]);
}

#[test]
fn help_is_a_command_and_common_flags_are_short() {
    let desk = Desk::new();
    let text = |args: &[&str]| {
        let ran = desk.run(args);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.stdout
    };
    assert_eq!(text(&["help", "generate"]), text(&["generate", "--help"]));
    assert!(text(&["help"]).contains("Exit codes:"));
    for (command, flags) in [
        ("generate", &["-o, --output", "-n, --count", "-m, --model", "-q, --quiet"][..]),
        ("batch", &["-o, --output", "-n, --count", "-m, --model", "--guidance-interval", "--deep-cache"]),
        ("pixelize", &["-o, --output"]),
        ("sheet", &["-o, --output"]),
        ("reproduce", &["-o, --output", "-m, --model"]),
    ] {
        let help = text(&["help", command]);
        for flag in flags {
            assert!(help.contains(flag), "{command}: {flag}: {help}");
        }
    }
    assert_eq!(desk.run(["generate", "key", "--sed", "7"]).code, Some(2));
    let unknown = desk.run(["pixelise"]);
    assert!(unknown.stderr.contains("a similar subcommand exists: 'pixelize'"), "{}", unknown.stderr);
}
