//! A batch that is killed over and over, and resumed, makes every sprite once.
//!
//! `make kills` kills hundreds of times, deploys too.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, SystemTime};

use dgx_pixels_core::picture_file::Made;
use serde_json::Value;

use super::{Desk, names};

/// Times that a program is killed, if nothing else is asked for.
pub(super) fn kills(usual: usize) -> usize {
    env::var("DGX_PIXELS_KILLS").map_or(usual, |kills| kills.parse().expect("a number of kills"))
}

/// Moments from 0 to `most` ms.
fn moments(most: u64) -> impl FnMut() -> Duration {
    let mut state = 19_u64;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        Duration::from_millis((state >> 33) % most)
    }
}

/// Runs the program, and kills it after `moment`; `true` if it had ended by itself.
fn killed(desk: &Desk, args: &[&str], moment: Duration) -> bool {
    let mut command = desk.command(args);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    thread::sleep(moment);
    let has_ended = child.try_wait().unwrap().is_some();
    child.kill().unwrap();
    child.wait().unwrap();
    has_ended
}

#[test]
fn a_batch_that_is_killed_and_resumed_makes_every_sprite_once() {
    let desk = Desk::new();
    let prompts: Vec<_> = (1..=60).map(|n| format!("frog number {n}")).collect();
    fs::write(desk.path("p.txt"), prompts.join("\n")).unwrap();
    let mut moment = moments(500);
    let kills = kills(12);
    let (mut kills_left, mut batches) = (kills, 0);
    while kills_left > 0 {
        batches += 1;
        let folder = format!("out-{batches}");
        let args = ["batch", "p.txt", "--output", &folder, "--model", "sketch", "--resume", "--quiet"];
        let mut seen: HashMap<String, SystemTime> = HashMap::new();
        let made = |seen: &mut HashMap<String, SystemTime>| {
            let manifest = fs::read_to_string(desk.path(&folder).join("manifest.jsonl")).unwrap_or_default();
            // The last line may be half written; the next run mends it.
            let lines = manifest.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            for line in lines.filter(|line| line["status"] == "finished") {
                let name = line["path"].as_str().unwrap().to_owned();
                let time = fs::metadata(desk.path(&folder).join(&name)).unwrap().modified().unwrap();
                assert_eq!(*seen.entry(name.clone()).or_insert(time), time, "`{name}` is made once");
            }
        };
        while kills_left > 0 {
            kills_left -= 1;
            let has_ended = killed(&desk, &args, moment());
            made(&mut seen);
            if has_ended {
                break;
            }
        }
        // A sprite that was being drawn at two kills may have been given up; the next run draws it.
        let ran = (0..3).map(|_| desk.run(args)).find(|ran| ran.code == Some(0));
        assert!(ran.is_some(), "batch {batches}");
        made(&mut seen);
        assert_eq!(seen.len(), prompts.len());
        for name in names(&desk.path(&folder)).iter().filter(|name| name.ends_with(".png")) {
            let bytes = fs::read(desk.path(&folder).join(name)).unwrap();
            assert!(
                Made::read(&bytes).is_ok() && image::load_from_memory(&bytes).is_ok(),
                "`{name}` is torn"
            );
        }
    }
    println!("{kills} kills in {batches} batches");
}
