//! Sprites without a visible pixel are no results: they are drawn again with other seeds, and told
//! of.

use std::fs;
use std::time::Duration;

use dgx_pixels_core::engine::{EngineConfig, Shutdown};
use dgx_pixels_core::job::JobEvent;
use dgx_pixels_core::picture_file::Made;
use dgx_pixels_core::pixel::is_empty;
use dgx_pixels_core::{Error, ErrorKind, GenerateRequest, MOST_REDRAWS, Submission, redraw_seed};

use crate::rig::{Rig, raw};

const MS: Duration = Duration::from_millis(1);

/// A sprite of a few steps.
fn sprite(prompt: &str, seed: u64) -> Submission {
    Submission { pixel: Submission::default().pixel, ..raw(prompt, seed, 3) }
}

#[test]
fn a_sprite_without_a_visible_pixel_is_drawn_again_with_the_next_seed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spear.png");
    let rig = Rig::slow(MS);
    let engine = rig.engine();
    let job = engine.submit(Submission { output: Some(path.clone()), ..sprite("spear blank:7", 7) }).unwrap();
    let mut events = job.events();
    let finished = job.wait().unwrap();
    let next = redraw_seed(7, 1);
    assert_eq!((finished.redraws, finished.made.request.seed), (1, next));
    assert!(!is_empty(&finished.image));
    let told = std::iter::from_fn(|| events.next_blocking())
        .any(|event| matches!(event, JobEvent::Redraw { redraw: 1, seed } if seed == next));
    assert!(told);
    assert_eq!((rig.calls_of(7).len(), rig.calls_of(next).len()), (3, 3));
    let drawn_again = engine.metrics().gather();
    let drawn_again = drawn_again.iter().find(|family| family.name() == "dgx_pixels_redraws_total").unwrap();
    assert_eq!(drawn_again.get_metric()[0].get_counter().get_value(), 1.0);

    // The file tells of the seed that was used, and drawing that again gives the same file.
    let bytes = fs::read(&path).unwrap();
    let made = Made::read(&bytes).unwrap();
    assert_eq!(made.request.seed, next);
    let again = Submission {
        pixel: made.pixel.clone(),
        output: Some(path.clone()),
        force: true,
        ..GenerateRequest::from(made.request).into()
    };
    assert_eq!(engine.submit(again).unwrap().wait().unwrap().redraws, 0);
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_sprite_that_stays_empty_fails_and_names_its_seeds() {
    let folder = tempfile::tempdir().unwrap();
    let config = || EngineConfig { journal: Some(folder.path().join("journal")), ..Default::default() };
    let rig = Rig::slow(MS);
    let engine = rig.engine_with(1 << 40, config());
    let path = folder.path().join("spear.png");
    let job = engine.submit(Submission { output: Some(path.clone()), ..sprite("blank", 7) }).unwrap();
    let error = job.wait().unwrap_err();
    let seeds: Vec<u64> = (0..=MOST_REDRAWS).map(|redraw| redraw_seed(7, redraw)).collect();
    assert!(matches!(&error, Error::EmptySprite { seeds: tried } if *tried == seeds), "{error}");
    assert!(error.to_string().starts_with("none of 5 draws gave a sprite with a visible pixel; "), "{error}");
    assert!(!path.exists() && !path.with_extension("json").exists());
    assert!(seeds.iter().all(|seed| rig.calls_of(*seed).len() == 3));
    drop(engine);

    let engine = rig.engine_with(1 << 40, config());
    assert!(engine.recovered().is_empty());
    let known = engine.find(job.id()).unwrap().unwrap().wait().unwrap_err();
    assert_eq!((known.kind(), known.to_string()), (ErrorKind::EmptySprite, error.to_string()));
}

#[test]
fn an_empty_sprite_fails_alone_and_others_are_done_beside_it() {
    let engine = Rig::slow(MS).engine();
    let jobs = engine.submit_all((1..9).map(|seed| {
        sprite(
            if seed == 3 {
                "blank"
            } else if seed % 2 == 0 {
                "frog blank:4 blank:6"
            } else {
                "frog"
            },
            seed,
        )
    }));
    for (job, seed) in jobs.into_iter().zip(1..) {
        match job.unwrap().wait() {
            Ok(finished) => assert_eq!(finished.redraws, u32::from(seed == 4 || seed == 6), "{seed}"),
            Err(error) => assert_eq!((seed, error.kind()), (3, ErrorKind::EmptySprite)),
        }
    }
}

#[test]
fn a_models_image_is_left_as_it_is() {
    let engine = Rig::slow(MS).engine();
    let finished = engine.submit(raw("blank", 7, 3)).unwrap().wait().unwrap();
    assert_eq!((finished.redraws, finished.made.request.seed), (0, 7));
}

#[test]
fn a_redraw_is_waited_for_and_can_be_cancelled_and_come_too_late() {
    let engine = Rig::slow(MS).engine();
    let job = engine.submit(sprite("frog blank:7", 7)).unwrap();
    engine.shutdown(Shutdown::Drain);
    assert_eq!(job.wait().unwrap().redraws, 1);

    let engine = Rig::slow(5 * MS).engine();
    let job = engine.submit(sprite("blank", 7)).unwrap();
    let mut events = job.events();
    while !matches!(events.next_blocking(), Some(JobEvent::Redraw { .. })) {}
    job.cancel();
    assert_eq!(job.wait().unwrap_err().kind(), ErrorKind::Cancelled);

    let late = Submission { deadline: Some(40 * MS), ..raw("blank", 7, 6) };
    let late = Submission { pixel: Submission::default().pixel, ..late };
    assert_eq!(engine.submit(late).unwrap().wait().unwrap_err().kind(), ErrorKind::DeadlineExceeded);

    let job = engine.submit(sprite("blank", 7)).unwrap();
    engine.shutdown(Shutdown::NextStep);
    assert_eq!(job.wait().unwrap_err().kind(), ErrorKind::ShutDown);
}

#[test]
fn how_often_a_sprite_was_drawn_is_known_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let config = || EngineConfig { journal: Some(folder.path().into()), ..Default::default() };
    let engine = Rig::slow(MS).engine_with(1 << 40, config());
    let job = engine.submit(sprite("frog blank:7", 7)).unwrap();
    job.wait().unwrap();
    drop(engine);
    let engine = Rig::slow(MS).engine_with(1 << 40, config());
    let found = engine.find(job.id()).unwrap().unwrap().wait().unwrap();
    assert_eq!((found.redraws, found.made.request.seed), (1, redraw_seed(7, 1)));
}
