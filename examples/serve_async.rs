//! The engine behind [`Generator`], the trait for clients of any executor, from async tasks. Each
//! client has a time limit, and its job is cancelled when the client goes away.
//!
//! `cargo run --release --example serve_async -- [MODEL]`, where MODEL is a folder, a name, or
//! `sketch`

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use dgx_pixels_core::engine::EngineConfig;
use dgx_pixels_core::job::JobEvent;
use dgx_pixels_core::local::LocalModels;
use dgx_pixels_core::{Generator, Submission};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).unwrap_or("models/sprite-xl".into());
    let models = LocalModels::open(Some(&folder))?;
    let engine = models.start(EngineConfig::default())?;
    let generator: Arc<dyn Generator> = Arc::new(engine);

    let patient = tokio::spawn(client(generator.clone(), "anna", "a brass key", Duration::from_secs(600)));
    let hasty = tokio::spawn(client(generator, "bob", "a wooden chest", Duration::from_millis(300)));
    println!("{}", patient.await??);
    println!("{}", hasty.await??);
    Ok(())
}

async fn client(
    generator: Arc<dyn Generator>,
    name: &str,
    prompt: &str,
    patience: Duration,
) -> Result<String, dgx_pixels_core::Error> {
    let submission = Submission { client: name.into(), ..Submission::of(prompt) };
    // Whoever stops waiting drops this, and the job leaves the device at its next step.
    let job = generator.submit(submission).await?.cancel_on_drop();
    let watched = async {
        let mut events = job.events();
        while let Some(event) = events.next().await {
            if let JobEvent::Step { n, of, .. } = event {
                println!("{name}: step {n} of {of}");
            }
        }
        job.finished().await
    };
    match tokio::time::timeout(patience, watched).await {
        Ok(finished) => {
            let (width, height) = finished?.image.dimensions();
            Ok(format!("{name} has {prompt}, {width}x{height}"))
        }
        Err(_) => Ok(format!("{name} did not wait for {prompt}")),
    }
}
