//! The console blocks of our documents are run as a reader would run them, and print what they say.
//!
//! In a block marked `console`, a line that begins with `$ ` is a command, and the lines under it
//! are what it prints on standard output. A document's blocks run in their order, in one folder
//! that looks like a fresh checkout. Times and hashes may differ. Commands that take a GPU, Bevy,
//! or minutes stand in blocks marked `sh`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use image::{Rgba, RgbaImage, imageops};
use tempfile::TempDir;

/// The lines about a running game, as there is none here: the gate from prompt to play has one.
const GAME_ANSWERS: [&str; 2] = ["live in game", "deployed; no game has confirmed it"];

/// A command of a document and what it is to print.
#[derive(Debug)]
struct Example {
    line: usize,
    command: String,
    prints: Vec<String>,
}

/// The commands in the `console` blocks of `text`.
fn examples(text: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = vec![];
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        if let Some(kind) = line.strip_prefix("```") {
            inside = !inside && kind == "console";
        } else if inside && let Some(command) = line.strip_prefix("$ ") {
            let command = command.to_owned();
            examples.push(Example { line: number + 1, command, prints: vec![] });
        } else if inside {
            let example = examples.last_mut().expect("a block begins with a command");
            match example.command.strip_suffix('\\') {
                Some(begun) => example.command = format!("{begun}{}", line.trim_start()),
                None => example.prints.push(line.to_owned()),
            }
        }
    }
    examples
}

/// `line` without what differs from run to run: numbers before a unit of time, and hashes.
fn lasting(line: &str) -> String {
    let words: Vec<_> = line.split(' ').collect();
    let is_number = |word: &str| word.parse::<f64>().is_ok();
    let is_hash = |part: &&str| part.len() >= 8 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let lasting = words.iter().enumerate().map(|(i, word)| {
        if is_number(word) && words.get(i + 1).is_some_and(|unit| ["s", "ms"].contains(unit)) {
            return "N".to_owned();
        }
        let parts: Vec<_> = word.split('.').map(|part| if is_hash(&part) { "HASH" } else { part }).collect();
        parts.join(".")
    });
    lasting.collect::<Vec<_>>().join(" ")
}

/// A folder that looks like a fresh checkout after `make demo`, with the files that documents speak
/// of.
struct Checkout(TempDir);

impl Checkout {
    fn new() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = Checkout(tempfile::tempdir().unwrap());
        let release = folder.path("target/release");
        fs::create_dir_all(&release).unwrap();
        let built = Path::new(env!("CARGO_BIN_EXE_dgx-pixels")).parent().unwrap();
        for program in ["dgx-pixels", "dgx-pixels-mcp", "libdgx_pixels_torch.so"] {
            let program = (built.join(program), release.join(program));
            let built = fs::hard_link(&program.0, &program.1).or_else(|_| {
                // Another filesystem than the temporary folder's.
                fs::copy(&program.0, &program.1).map(|_| ())
            });
            built.expect("`make test` builds the programs and the object");
        }
        for name in ["models", ".torch"] {
            std::os::unix::fs::symlink(root.join(name), folder.path(name)).unwrap();
        }
        fs::copy(root.join("Makefile"), folder.path("Makefile")).unwrap();
        super::program::copy(
            &root.join("tests/fixtures/tiny_sdxl_a"),
            &folder.path("path/to/stable-diffusion-xl-base-1.0"),
        );
        for game in ["examples/bevy_game", "."] {
            fs::create_dir_all(folder.path(game).join("assets")).unwrap();
            fs::copy(root.join("examples/bevy_game/Cargo.toml"), folder.path(game).join("Cargo.toml"))
                .unwrap();
        }
        fs::create_dir(folder.path("pictures")).unwrap();
        folder.save("pictures/lamp.png", &enlarged(3, 8));
        folder.save("pictures/stone.png", &enlarged(5, 6));
        fs::copy(root.join("docs/images/book/broken.png"), folder.path("broken.png")).unwrap();
        for name in ["walk_0", "walk_1", "walk_2", "walk_3", "idle_0", "idle_1"] {
            folder.save(&format!("{name}.png"), &enlarged(name.len() as u32 + 3, 1));
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn save(&self, name: &str, image: &RgbaImage) {
        image.save(self.path(name)).unwrap();
    }

    /// The shell that runs `command` in this folder, where `dgx-pixels` is on the path.
    fn shell(&self, command: &str) -> Command {
        let mut shell = Command::new("bash");
        let path = format!("{}:{}", self.path("target/release").display(), std::env::var("PATH").unwrap());
        shell.args(["-euo", "pipefail", "-c", command]).current_dir(self.0.path());
        shell.env("PATH", path).env("HOME", self.path(".home")).stdin(Stdio::null());
        for name in ["DGX_PIXELS_MODELS", "XDG_DATA_HOME", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE"] {
            shell.env_remove(name);
        }
        shell
    }

    fn run(&self, example: &Example) -> Result<(), String> {
        let command = example.command.as_str();
        if let Some(target) = command.strip_prefix("make ") {
            // CI runs these by themselves.
            let target = target.split_whitespace().next().unwrap_or_default();
            let makefile = fs::read_to_string(self.path("Makefile")).unwrap();
            let known = makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
            return if known { Ok(()) } else { Err(format!("the Makefile has no `{target}`")) };
        }
        if let Some(name) = command.strip_prefix("cat ").filter(|name| !self.path(name).exists()) {
            // The document shows a file that its reader has.
            return fs::write(self.path(name), example.prints.join("\n") + "\n")
                .map_err(|error| error.to_string());
        }
        if command.contains("dgx-pixels-mcp http") {
            return self.serve(command);
        }
        let output = self.shell(command).output().map_err(|error| error.to_string())?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(format!("{}: {stderr}", output.status));
        }
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stdout = stdout.replace(&*self.0.path().to_string_lossy(), "/home/me/dgx-pixels");
        let of_program = |line: &&str| !GAME_ANSWERS.iter().any(|start| line.starts_with(start));
        let printed: Vec<_> = stdout.lines().filter(of_program).map(lasting).collect();
        let expected: Vec<_> =
            example.prints.iter().map(|line| line.as_str()).filter(of_program).map(lasting).collect();
        if !expected.is_empty() && printed != expected {
            return Err(format!("it prints\n{stdout}\nand the document says\n{}", example.prints.join("\n")));
        }
        Ok(())
    }

    /// Runs a server until it says that it listens.
    fn serve(&self, command: &str) -> Result<(), String> {
        let mut shell = self.shell(&format!("exec {command}"));
        let mut server = shell.stderr(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
        let log = BufReader::new(server.stderr.take().expect("standard error is piped"));
        let mut said = String::new();
        let listens = log.lines().map_while(Result::ok).any(|line| {
            said += &line;
            line.contains("http://")
        });
        server.kill().and_then(|()| server.wait()).map_err(|error| error.to_string())?;
        if listens { Ok(()) } else { Err(format!("it does not listen: {said}")) }
    }
}

/// A figure of 16x16 cells of `cell` pixels each.
fn enlarged(seed: u32, cell: u32) -> RgbaImage {
    let figure =
        RgbaImage::from_fn(16, 16, |x, y| match (x.abs_diff(8) + y.abs_diff(8), (x * seed + y) % 3) {
            (8.., _) => Rgba([0, 0, 0, 0]),
            (_, 0) => Rgba([200, 60, 40, 255]),
            (_, 1) => Rgba([240, 200, 80, 255]),
            _ => Rgba([40, 40, 60, 255]),
        });
    imageops::resize(&figure, 16 * cell, 16 * cell, imageops::FilterType::Nearest)
}

fn check(document: &str) {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(document)).unwrap();
    let examples = examples(&text);
    assert!(!examples.is_empty(), "{document} has no console blocks");
    let checkout = Checkout::new();
    let faults: Vec<_> = examples
        .iter()
        .filter_map(|example| {
            let fault = checkout.run(example).err()?;
            Some(format!("{document}:{}: `{}`: {fault}", example.line, example.command))
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

#[test]
fn the_readme_does_what_it_says() {
    check("README.md");
}

#[test]
fn the_page_on_bevy_does_what_it_says() {
    check("docs/bevy.md");
}

#[test]
fn the_page_on_mcp_does_what_it_says() {
    check("docs/mcp.md");
}

#[test]
fn the_first_pages_of_the_book_do_what_they_say() {
    for page in ["docs/start/cpu.md", "docs/start/gpu.md", "docs/start/agent.md"] {
        check(page);
    }
}

#[test]
fn the_guides_of_the_book_do_what_they_say() {
    check("docs/guides/sprites.md");
    check("docs/guides/prompts.md");
    check("docs/guides/images.md");
    check("docs/guides/palettes.md");
    check("docs/guides/tiles.md");
    check("docs/guides/batch.md");
}

#[test]
fn times_and_hashes_may_differ() {
    let line = "live in game, 25 ms  assets/hero.3f0c9a51.png";
    assert_eq!(lasting(line), "live in game, N ms  assets/hero.HASH.png");
    assert_eq!(lasting("32x32, 1 frame"), "32x32, 1 frame");
}
