//! The engine behind the trait that all doors are written against, from async tasks: each client has a time limit, and its job is cancelled when
//! the client goes away.
//!
//! `cargo run --release --example serve_async -- [MODEL_FOLDER]`

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use dgx_pixels_core::engine::{Engine, EngineConfig};
use dgx_pixels_core::job::JobEvent;
use dgx_pixels_core::torch::{Checkpoints, Device, Options, devices};
use dgx_pixels_core::{Generator, Submission};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).unwrap_or("models/sprite-xl".into());
    let models = Checkpoints::open([("sprite-xl", folder)], "sprite-xl", Options::default())?;
    let engine = Engine::start(models, devices(&[Device::Auto])?, EngineConfig::default())?;
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
