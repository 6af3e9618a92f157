//! Many requests share one device: an urgent one overtakes, one is watched, one is cancelled.
//! Threads only, no runtime.
//!
//! `cargo run --release --example serve_blocking -- [MODEL]`, where MODEL is a folder, a name, or
//! `sketch`

use std::error::Error;

use dgx_pixels_core::engine::{EngineConfig, Shutdown};
use dgx_pixels_core::job::JobEvent;
use dgx_pixels_core::local::LocalModels;
use dgx_pixels_core::{Priority, Submission};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).unwrap_or("models/sprite-xl".into());
    let models = LocalModels::open(Some(&folder))?;
    let config = EngineConfig { budget: "80%".parse()?, max_batch: 4, ..Default::default() };
    let engine = models.start(config)?;

    // A job is taken at once; it waits for its turn.
    let potions = ["a red potion", "a blue potion", "a green potion", "a purple potion"]
        .map(|prompt| engine.submit(Submission::of(prompt)))
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    let urgent =
        engine.submit(Submission { priority: Priority::Urgent, ..Submission::of("a golden sword") })?;

    let mut events = urgent.events();
    while let Some(event) = events.next_blocking() {
        match event {
            JobEvent::Queued { position, eta } => {
                println!("the sword waits, {position}. in line, {eta:.1?} left")
            }
            JobEvent::Loading { bytes_done, bytes, .. } => println!("loading, {bytes_done} of {bytes} bytes"),
            JobEvent::Step { n, of, eta, .. } => println!("the sword is at step {n} of {of}, {eta:.1?} left"),
            JobEvent::Failed(error) => return Err(error.into()),
            _ => {}
        }
    }
    potions[3].cancel();
    for (place, job) in potions.iter().chain([&urgent]).enumerate() {
        let prompt = &job.submission().request.prompt;
        match job.wait() {
            Ok(finished) => {
                let path = std::env::temp_dir().join(format!("served-{place}.png"));
                finished.image.save(&path)?;
                println!("{prompt}: {} after {:.1?}", path.display(), finished.timings.total);
            }
            Err(error) => println!("{prompt}: {error}"),
        }
    }
    engine.shutdown(Shutdown::Drain);
    Ok(())
}
