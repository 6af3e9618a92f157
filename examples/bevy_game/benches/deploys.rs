//! Deploys into the running game: `cargo bench --package bevy_game --bench deploys`. It fails if
//! one is torn, missed or lost.
//!
//! The game is the example, drawn without a window. A deploy is timed from the sprite in memory to
//! the game's word that it shows it.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use dgx_pixels_core::asset::{Deployed, Game, NewSprite, Project};
use dgx_pixels_core::picture_file::sprite_png;
use dgx_pixels_manifest::{Frame, Rect};
use image::{Rgba, RgbaImage};

const PATIENCE: Duration = Duration::from_secs(30);
const DEPLOYERS: u32 = 8;

/// Ends with us.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder for a project");
    fs::write(folder.path().join("Cargo.toml"), "[dependencies]\nbevy = \"0.19\"\n")
        .expect("it can be written");
    let project = Project::open(folder.path()).expect("it is a project");
    fs::create_dir(project.assets()).expect("it can be written");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = port.expect("a free port").port();
    let _running = start(project.root(), port);
    let game = Game::new(port);
    while game.status().is_err() {
        thread::sleep(Duration::from_millis(50));
    }

    let mut times = vec![];
    for n in 0..200 {
        let began = Instant::now();
        let deployed = deploy(&project, &[animated("enemy_slime", n)]);
        confirm(&game, &project, &deployed);
        times.push(ms(began));
    }
    tell("deploy to live, control method", times);

    let mut times = vec![];
    for n in 0..40 {
        let deployed = deploy(&project, &[animated("enemy_slime", n + 3)]);
        let began = Instant::now();
        while game.status().expect("the game answers").manifest.as_ref() != Some(&deployed.blake3) {
            thread::sleep(Duration::from_millis(1));
        }
        times.push(ms(began));
    }
    tell("from the files to live, unasked", times);

    let mut times = vec![];
    for n in 0..40 {
        confirm(&game, &project, &deploy(&project, &[animated("item_one", n)]));
        times.push(game.status().expect("the game answers").load_ms.expect("a manifest is shown"));
    }
    tell("load time, one new sprite", times);

    let mut times = vec![];
    for round in 0..10 {
        let many: Vec<_> = (0..200).map(|n| animated(&format!("item_{n}"), n * 7 + round)).collect();
        confirm(&game, &project, &deploy(&project, &many));
        times.push(game.status().expect("the game answers").load_ms.expect("a manifest is shown"));
    }
    tell("load time, 200 new sprites", times);

    let began = Instant::now();
    for n in 0..1000 {
        confirm(&game, &project, &deploy(&project, &[animated("enemy_slime", n)]));
    }
    println!("1000 deploys in a row, each live: {:.1} s", began.elapsed().as_secs_f64());

    let times = Mutex::new(vec![]);
    thread::scope(|scope| {
        for deployer in 0..DEPLOYERS {
            let (project, game, times) = (&project, &game, &times);
            scope.spawn(move || {
                for n in 0..50 {
                    let began = Instant::now();
                    let deployed = deploy(project, &[animated(&format!("enemy_{deployer}"), deployer + n)]);
                    confirm(game, project, &deployed);
                    times.lock().expect("no deployer panics").push(ms(began));
                }
            });
        }
    });
    tell("8 deployers at once, 50 deploys each, each live", times.into_inner().expect("no deployer panics"));
    let manifest = project.manifest().expect("it can be read");
    let status = game.status().expect("the game answers");
    for deployer in 0..DEPLOYERS {
        assert!(manifest.sprites.contains_key(format!("enemy_{deployer}").as_str()), "an entry is lost");
    }
    assert_eq!((status.sprites, status.faults), (manifest.sprites.len(), vec![]), "an entry is not shown");
}

fn start(project: &Path, port: u16) -> Running {
    let game = Command::new(env!("CARGO_BIN_EXE_bevy_game"))
        .arg("--headless")
        .env("BEVY_ASSET_ROOT", project)
        .env("BRP_EXTRAS_PORT", port.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Running(game.expect("the game starts"))
}

/// Of 2 to 8 frames, another picture for each number.
fn animated(name: &str, n: u32) -> NewSprite {
    let frames = 2 + n % 7;
    let color = Rgba([n as u8, (n >> 8) as u8, frames as u8, 255]);
    let picture = RgbaImage::from_fn(frames * 32, 32, |x, y| match (x / 4 + y / 4) % 2 {
        0 => color,
        _ => Rgba([200, 30, 40, 255]),
    });
    let rect = |n: u32| Rect { min: [n * 32, 0], max: [n * 32 + 32, 32] };
    let png = sprite_png(&picture, None).expect("memory takes a PNG");
    NewSprite {
        frames: (0..frames).map(|n| Frame { rect: rect(n), duration_ms: 100 }).collect(),
        ..NewSprite::new(name.parse().expect("a name"), png)
    }
}

fn deploy(project: &Project, sprites: &[NewSprite]) -> Deployed {
    project.deploy(sprites).expect("the project takes sprites")
}

fn confirm(game: &Game, project: &Project, deployed: &Deployed) {
    let live = game.confirm(project, deployed, PATIENCE);
    assert!(live.live, "{:?}", live.reason);
}

fn ms(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}

fn tell(what: &str, mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("{what}: median {:.1} ms, p99 {:.1} ms, most {:.1} ms", at(0.5), at(0.99), at(1.0));
}
