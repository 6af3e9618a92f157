//! Batching, order, waiting and watching.

use std::collections::HashSet;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use dgx_pixels_core::backend::{Sketches, Unmetered};
use dgx_pixels_core::engine::{Engine, EngineConfig, Shutdown};
use dgx_pixels_core::job::{Job, JobEvent, JobId};
use dgx_pixels_core::{Error, ErrorKind, GenerateRequest, Generator, Priority, Submission, backend};

use crate::rig::{Gate, Rig, raw};

const MS: Duration = Duration::from_millis(1);

fn sketches() -> Engine {
    let devices = vec![Box::new(Unmetered("cpu".into())) as _];
    Engine::start(Sketches, devices, EngineConfig::default()).unwrap()
}

/// Blocks until the job has done a step.
fn started(job: &Job) {
    let mut events = job.events();
    while !matches!(events.next_blocking(), Some(JobEvent::Step { .. }) | None) {}
}

#[test]
fn pictures_are_those_of_the_backend_alone() {
    let engine = sketches();
    let jobs: Vec<_> =
        (0..20).map(|seed| engine.submit(raw("a frog", seed, 1 + seed as usize % 5)).unwrap()).collect();
    for job in jobs {
        let finished = job.wait().unwrap();
        let request = job.submission().request.clone();
        let alone = backend::paint(&mut backend::Sketch, &[request], |_| std::ops::ControlFlow::Continue(()));
        let alone = alone.unwrap().remove(0);
        assert_eq!(finished.image, image::DynamicImage::ImageRgb8(alone.image).into_rgba8());
        assert_eq!(finished.made.request, alone.request);
    }
}

#[test]
fn a_sprite_and_its_file_are_made_before_anybody_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/key.png");
    let engine = sketches();
    let job = engine.submit(Submission { output: Some(path.clone()), ..Submission::of("a key") }).unwrap();
    let finished = job.wait().unwrap();
    assert_eq!(finished.image.dimensions(), (32, 32));
    assert_eq!(image::open(&path).unwrap().into_rgba8(), finished.image);
    let certificate = std::fs::read_to_string(path.with_extension("json")).unwrap();
    assert_eq!(
        serde_json::from_str::<dgx_pixels_core::pixel::Certificate>(&certificate).ok(),
        finished.certificate
    );
    let names = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(names, 2, "no temporary file is left");
    let error = engine.submit(Submission { output: Some(path), ..Submission::of("a key") }).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
}

#[test]
fn canvases_join_and_leave_between_steps() {
    let rig = Rig::held();
    let engine = rig.engine();
    let long = engine.submit(raw("long", 1, 60)).unwrap();
    rig.wait_for_steps_of(1, 1);
    // One of each client goes a step, however little that gains.
    let short = engine.submit(Submission { client: "other".into(), ..raw("short", 2, 3) }).unwrap();
    let joins = rig.all_calls();
    rig.steps.open();
    short.wait().unwrap();
    long.wait().unwrap();
    assert_eq!(rig.calls_of(2), [joins, joins + 1, joins + 2], "the short one did not wait for the long one");
    assert_eq!(rig.calls_of(1).len(), 60);
    let shared = rig.calls.lock().unwrap().iter().filter(|call| call.len() == 2).count();
    assert_eq!(shared, 3);
}

#[test]
fn one_job_does_not_wait_for_another_clients_thousand() {
    let rig = Rig::held();
    let engine = rig.engine_with(1 << 40, EngineConfig { max_batch: 4, ..Default::default() });
    let of = |client: &str, seed, steps| Submission { client: client.into(), ..raw("a", seed, steps) };
    let many: Vec<_> = (1000..2000).map(|seed| engine.submit(of("many", seed, 20)).unwrap()).collect();
    rig.wait_for_steps_of(1000, 1);
    let joins = rig.all_calls();
    let one = engine.submit(of("one", 5000, 5)).unwrap();
    rig.steps.open();
    one.wait().unwrap();
    assert_eq!(rig.calls_of(5000), Vec::from_iter(joins..joins + 5), "it goes a step in every round");
    engine.shutdown(Shutdown::NextStep);
    assert!(many.last().unwrap().wait().is_err());
}

#[test]
fn an_urgent_job_pauses_others_that_then_go_on() {
    let rig = Arc::new(Rig { steps: Gate::closed(), loading: Gate::closed(), ..Default::default() });
    let engine = rig.engine_with(1 << 40, EngineConfig { max_batch: 2, ..Default::default() });
    let usual: Vec<_> = (1..3).map(|seed| engine.submit(raw("a", seed, 30)).unwrap()).collect();
    rig.loading.open();
    rig.wait_for_steps_of(2, 1);
    let urgent = |seed| Submission { priority: Priority::Urgent, ..raw("a", seed, 8) };
    let urgent: Vec<_> = (10..12).map(|seed| engine.submit(urgent(seed)).unwrap()).collect();
    let before = rig.all_calls();
    rig.steps.open();
    urgent.iter().chain(&usual).for_each(|job| drop(job.wait().unwrap()));
    let steps = [1, 2, 10, 11].map(|seed| rig.calls_of(seed).len());
    assert_eq!(steps, [30, 30, 8, 8], "no step was lost or done twice");
    let first_back = [1, 2].map(|seed| rig.calls_of(seed).into_iter().find(|call| *call >= before));
    let last_urgent = [10, 11].map(|seed| rig.calls_of(seed).pop());
    assert!(first_back.iter().min() > last_urgent.iter().max(), "{first_back:?} {last_urgent:?}");
}

#[test]
fn a_paused_job_counts_when_clients_take_turns() {
    let rig = Rig::held();
    let engine = rig.engine_with(1 << 40, EngineConfig { max_batch: 1, ..Default::default() });
    let of = |client: &str, seed| Submission { client: client.into(), ..raw("a", seed, 3) };
    let place = |job: &Job| match job.latest() {
        Some(JobEvent::Queued { position, .. }) => position,
        other => panic!("{other:?}"),
    };
    let paused = engine.submit(of("busy", 1)).unwrap();
    rig.wait_for_steps_of(1, 1);
    let urgent = Submission { priority: Priority::Urgent, ..of("urgent", 2) };
    let urgent = engine.submit(urgent).unwrap();
    rig.steps.allow(1);
    rig.wait_for_steps_of(2, 1);
    let second = engine.submit(of("busy", 3)).unwrap();
    let other = engine.submit(of("other", 4)).unwrap();
    assert_eq!(place(&other), 1, "it is the first of its client, and the one before it is the second");
    rig.steps.open();
    [paused, urgent, second, other].iter().for_each(|job| drop(job.wait().unwrap()));
}

#[test]
fn events_tell_the_whole_way_in_order() {
    // Bytes that are loaded are told of ten times in a second.
    let load_time = 120 * MS;
    let (steps, loading) = (Gate::closed(), Gate::closed());
    let rig = Arc::new(Rig { steps, loading, load_time, ..Default::default() });
    let engine = rig.engine();
    let job = engine.submit(Submission { preview_every: 2, ..raw("a", 1, 6) }).unwrap();
    let mut events = job.events();
    let mut told: Vec<String> = vec![];
    let mut held = Duration::ZERO;
    // Reads up to the next step, or to the end.
    let mut read = |told: &mut Vec<String>, held: Duration| {
        while let Some(event) = events.next_blocking() {
            let name = match &event {
                JobEvent::Queued { position, .. } => {
                    assert_eq!(*position, 1);
                    rig.loading.open();
                    "queued".into()
                }
                JobEvent::Loading { model, bytes_done, bytes } => {
                    assert_eq!((&**model, bytes_done), ("a", bytes));
                    "loading".into()
                }
                JobEvent::Started { device } => format!("started on {device}"),
                JobEvent::Step { n, of, step_time, .. } => {
                    assert!(*step_time >= held, "{step_time:?} of {held:?}");
                    format!("step {n} of {of}")
                }
                JobEvent::Preview { image, n } => {
                    assert_eq!(image.dimensions(), (8, 8));
                    format!("preview {n}")
                }
                JobEvent::Finished(_) => "finished".into(),
                other => panic!("{other:?}"),
            };
            // A job that waits may hear of its place again.
            if !told.contains(&name) {
                told.push(name);
            }
            if matches!(event, JobEvent::Step { .. }) {
                return;
            }
        }
    };
    rig.steps.allow(1);
    read(&mut told, Duration::ZERO);
    for step in 2..=6 {
        rig.wait_for_steps_of(1, step);
        let begun = Instant::now();
        thread::yield_now();
        let step_held = begun.elapsed();
        held += step_held;
        rig.steps.allow(1);
        read(&mut told, step_held);
    }
    read(&mut told, Duration::ZERO);
    let expected = "queued, loading, started on rig, step 1 of 6, step 2 of 6, preview 2, step 3 of 6, step 4 of 6, preview 4, \
                    step 5 of 6, step 6 of 6, finished";
    assert_eq!(told.join(", "), expected);
    let timings = job.wait().unwrap().timings;
    assert!(timings.denoise >= held, "{timings:?} of {held:?}");
    let parts = timings.waiting + timings.begin + timings.denoise + timings.finish;
    assert!(timings.total >= parts, "{timings:?}");
}

#[test]
fn a_cancel_takes_effect_within_a_step() {
    let rig = Rig::held();
    let engine = rig.engine_with(1 << 40, EngineConfig { max_batch: 1, ..Default::default() });
    for moment in 0..30 {
        let seed = 100 + moment as u64;
        let job = engine.submit(raw("a", seed, 40)).unwrap();
        rig.steps.allow(moment);
        rig.wait_for_steps_of(seed, moment + 1);
        job.cancel();
        rig.steps.allow(1);
        match job.wait() {
            Err(Error::Cancelled { steps_done, steps: 40 }) => assert_eq!(steps_done, moment + 1),
            other => panic!("{other:?}"),
        }
    }
    // Those that wait go at once.
    let first = engine.submit(raw("a", 1, 9)).unwrap();
    rig.wait_for_steps_of(1, 1);
    let calls = rig.all_calls();
    let jobs: Vec<_> = (2..100).map(|seed| engine.submit(raw("a", seed, 9)).unwrap()).collect();
    jobs.iter().chain([&first]).for_each(Job::cancel);
    assert!(jobs.iter().all(|job| matches!(job.wait(), Err(Error::Cancelled { steps_done: 0, .. }))));
    rig.steps.open();
    assert!(matches!(first.wait(), Err(Error::Cancelled { steps_done: 1, .. })));
    engine.shutdown(Shutdown::Drain);
    assert_eq!(rig.all_calls(), calls, "nothing is done for any of them anymore");
    let steps: usize = (100..130).map(|seed| rig.calls_of(seed).len()).sum();
    assert_eq!(steps, 465, "1 to 30");
}

#[test]
fn a_deadline_that_passes_ends_the_job_waiting_or_running() {
    let rig = Rig::slow(5 * MS);
    let engine = rig.engine_with(1 << 40, EngineConfig { max_batch: 1, ..Default::default() });
    // Its model is loaded before time counts.
    engine.submit(raw("a", 1, 1)).unwrap().wait().unwrap();
    let within = |seed| Submission { deadline: Some(300 * MS), ..raw("a", seed, 1000) };
    // Submitted at once, they are too late at the same moment.
    let jobs = engine.submit_all([within(1), within(2)]).into_iter();
    let errors: Vec<_> = jobs.map(|job| job.unwrap().wait().unwrap_err()).collect();
    assert!(matches!(errors[0], Error::DeadlineExceeded { steps_done: 1.., .. }), "{:?}", errors[0]);
    assert_eq!(errors[1].to_string(), "the deadline of 0.3 s passed after 0 of 1000 steps");
}

#[test]
fn a_full_queue_answers_at_once_and_says_when_to_come_back() {
    let rig = Rig::held();
    let engine =
        rig.engine_with(1 << 40, EngineConfig { max_batch: 1, queue_capacity: 3, ..Default::default() });
    let _first = engine.submit(raw("a", 77, 50)).unwrap();
    rig.wait_for_steps_of(77, 1);
    let jobs: Vec<_> = (1..4).map(|seed| engine.submit(raw("a", seed, 1)).unwrap()).collect();
    let error = engine.submit(raw("a", 9, 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QueueFull);
    assert!(
        error.to_string().starts_with("the queue is full: 3 jobs wait, capacity 3; try again in "),
        "{error}"
    );
    jobs[0].cancel();
    assert!(jobs[0].wait().is_err());
    engine.submit(raw("a", 9, 1)).unwrap();
    rig.steps.open();
}

#[test]
fn a_client_with_its_share_waiting_is_refused_alone_and_told_when_to_come_back() {
    let rig = Rig::held();
    let config = EngineConfig { max_batch: 1, client_jobs: 2, client_bytes: 20_000, ..Default::default() };
    let engine = rig.engine_with(1 << 40, config);
    let of = |client: &str, seed| Submission { client: client.into(), ..raw("a", seed, 30) };
    let _first = engine.submit(of("first", 77)).unwrap();
    rig.wait_for_steps_of(77, 1);
    let jobs = engine.submit_all((1..4).map(|seed| of("many", seed)));
    assert_eq!(jobs.iter().filter(|job| job.is_ok()).count(), 2);
    let error = jobs[2].as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    assert!(error.retry_after().is_some());
    let text = "the client `many` has 3 jobs waiting, and 2 may; try again in ";
    assert!(error.to_string().starts_with(text), "{error}");
    let wordy = Submission { client: "wordy".into(), ..raw(&"a ".repeat(10_000), 5, 1) };
    let error = engine.submit(wordy).unwrap_err();
    assert!(error.to_string().contains(" bytes waiting, and 20000 may; "), "{error}");
    engine.submit(of("other", 6)).unwrap();
    jobs[0].as_ref().unwrap().cancel();
    engine.submit(of("many", 7)).unwrap();
    rig.steps.open();
}

#[test]
fn many_are_taken_at_once_each_with_its_own_answer() {
    let folder = tempfile::tempdir().unwrap();
    let config = EngineConfig { journal: Some(folder.path().into()), ..Default::default() };
    let engine = Rig::slow(Duration::ZERO).engine_with(1 << 40, config);
    let keyed = |key: &str, seed| Submission { idempotency_key: Some(key.into()), ..raw("a", seed, 2) };
    let mut wanted = vec![keyed("k", 1), raw("a", 2, 0), keyed("k", 1), keyed("k", 3)];
    wanted.extend((10..1000).map(|seed| raw("a", seed, 1)));
    let answers = engine.submit_all(wanted);
    let first = answers[0].as_ref().unwrap().id();
    assert_eq!(answers[1].as_ref().unwrap_err().kind(), ErrorKind::InvalidRequest);
    assert_eq!(answers[2].as_ref().unwrap().id(), first);
    assert!(matches!(answers[3], Err(Error::KeyTaken { .. })));
    for answer in &answers[4..] {
        let job = answer.as_ref().unwrap();
        job.wait().unwrap();
        assert!(engine.find(job.id()).unwrap().is_some());
    }
    assert_eq!(answers.len(), 994);
}

#[test]
fn the_same_key_is_the_same_job_and_another_request_with_it_an_error() {
    let engine = sketches();
    let keyed = |seed| Submission { idempotency_key: Some("k".into()), ..raw("a", seed, 3) };
    let job = engine.submit(keyed(1)).unwrap();
    assert_eq!(engine.submit(keyed(1)).unwrap().id(), job.id());
    job.wait().unwrap();
    assert_eq!(engine.submit(keyed(1)).unwrap().id(), job.id(), "after it ended too");
    let error = engine.submit(keyed(2)).unwrap_err();
    assert!(error.to_string().contains("`idempotency_key` is `k`, which stands for job "), "{error}");
    assert_eq!(engine.find(job.id()).unwrap().unwrap().id(), job.id());
    assert!(engine.find(JobId::new()).unwrap().is_none());
}

#[test]
fn draining_does_all_and_stopping_tells_the_rest() {
    let rig = Rig::slow(MS);
    let engine = rig.engine();
    let jobs: Vec<_> = (0..30).map(|seed| engine.submit(raw("a", seed, 5)).unwrap()).collect();
    engine.shutdown(Shutdown::Drain);
    assert!(jobs.iter().all(|job| job.result().is_some_and(|result| result.is_ok())));
    assert!(matches!(engine.submit(raw("a", 1, 1)), Err(Error::ShutDown)));

    let rig = Rig::slow(5 * MS);
    let engine = rig.engine();
    let jobs: Vec<_> = (0..30).map(|seed| engine.submit(raw("a", seed, 500)).unwrap()).collect();
    started(&jobs[0]);
    drop(engine);
    assert!(jobs.iter().all(|job| matches!(job.result(), Some(Err(Error::ShutDown)))));
}

/// A picture that is decoded while another has steps to go, and both their jobs.
fn one_that_meets() -> (Arc<Rig>, Engine, [Job; 2]) {
    let rig = Arc::new(Rig { step_time: MS, meeting: Some(Barrier::new(2)), ..Default::default() });
    let engine = rig.engine();
    let other = engine.submit(raw("a", 1, 1000)).unwrap();
    started(&other);
    let one = engine.submit(raw("meet", 2, 2)).unwrap();
    rig.meeting.as_ref().unwrap().wait();
    (rig, engine, [one, other])
}

#[test]
fn steps_go_on_while_a_picture_is_decoded() {
    let rig = Rig::slow(MS);
    let engine = rig.engine();
    let other = engine.submit(raw("a", 1, 1000)).unwrap();
    started(&other);
    let jobs: Vec<_> = (2..6).map(|seed| engine.submit(raw("beside", seed, 3)).unwrap()).collect();
    jobs.iter().for_each(|job| drop(job.wait().unwrap()));
    other.cancel();
    assert!(matches!(other.wait(), Err(Error::Cancelled { .. })));
    assert_eq!(rig.loads.lock().unwrap().len(), 1);
}

#[test]
fn a_cancel_while_a_picture_is_decoded_ends_its_job_alone() {
    let (rig, engine, [one, other]) = one_that_meets();
    one.cancel();
    rig.meeting.as_ref().unwrap().wait();
    assert!(matches!(one.wait(), Err(Error::Cancelled { steps_done: 2, steps: 2 })));
    engine.submit(raw("beside", 3, 2)).unwrap().wait().unwrap();
    assert!(other.result().is_none());
}

#[test]
fn a_picture_that_is_being_decoded_when_the_engine_stops_is_finished() {
    let (rig, engine, [one, other]) = one_that_meets();
    thread::scope(|scope| {
        scope.spawn(|| engine.shutdown(Shutdown::NextStep));
        while engine.submit(raw("a", 3, 1)).is_ok() {}
        rig.meeting.as_ref().unwrap().wait();
    });
    one.wait().unwrap();
    assert!(matches!(other.wait(), Err(Error::ShutDown)));
}

#[test]
fn devices_share_one_queue() {
    let rig = Arc::new(Rig { step_time: 2 * MS, ..Default::default() });
    rig.memory.limit.store(u64::MAX, std::sync::atomic::Ordering::SeqCst);
    let devices = ["rig:0", "rig:1"].map(|name| Box::new(Unmetered(name.into())) as _).into();
    let config = EngineConfig { max_batch: 2, ..Default::default() };
    let engine = Engine::start(crate::rig::RigModels(rig.clone()), devices, config).unwrap();
    let jobs: Vec<_> = (0..40).map(|seed| engine.submit(raw("a", seed, 10)).unwrap()).collect();
    let mut used = HashSet::new();
    for job in &jobs {
        let mut events = job.events();
        while let Some(event) = events.next_blocking() {
            if let JobEvent::Started { device } = event {
                used.insert(device);
            }
        }
        job.wait().unwrap();
    }
    assert_eq!(used.len(), 2, "{used:?}");
    assert!((0..40).all(|seed| rig.calls_of(seed).len() == 10));
}

#[test]
fn a_model_is_loaded_once_for_many_and_a_broken_one_fails_those_who_want_it() {
    let rig = Arc::new(Rig { step_time: MS, load_time: 30 * MS, ..Default::default() });
    let engine = rig.engine();
    let of = |model: &str, seed| Submission { model: Some(model.into()), ..raw("a", seed, 3) };
    let jobs: Vec<_> = (0..10).map(|seed| engine.submit(of("a", seed)).unwrap()).collect();
    let broken: Vec<_> = (0..3).map(|seed| engine.submit(of("broken", seed)).unwrap()).collect();
    jobs.iter().for_each(|job| drop(job.wait().unwrap()));
    for job in broken {
        assert_eq!(
            job.wait().unwrap_err().to_string(),
            "cannot load the model in `broken`: its files are gone"
        );
    }
    assert_eq!(rig.loads.lock().unwrap().iter().filter(|name| *name == "a").count(), 1);
}

#[test]
fn it_serves_tasks_and_threads_alike() {
    let engine: Arc<dyn Generator> = Arc::new(sketches());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let drawn = runtime.block_on(async {
        let job = engine.submit(raw("a", 1, 3)).await.unwrap();
        let mut events = job.events();
        while events.next().await.is_some() {}
        assert!(engine.find(&job.id()).await.unwrap().is_some());
        job.finished().await.unwrap()
    });
    assert_eq!(drawn.image.dimensions(), (64, 64));
}

#[test]
fn tasks_get_an_answer_for_each_submission_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let devices = vec![Box::new(Unmetered("cpu".into())) as _];
    let config = EngineConfig { journal: Some(folder.path().into()), ..Default::default() };
    let engine: Arc<dyn Generator> = Arc::new(Engine::start(Sketches, devices, config).unwrap());
    let wanted = vec![raw("a", 1, 3), raw("b", 2, 0), raw("c", 3, 3)];
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let answers = runtime.block_on(engine.submit_all(wanted));
    let told = answers.iter().map(|answer| match answer {
        Ok(job) => job.submission().request.prompt.clone(),
        Err(error) => error.to_string(),
    });
    assert_eq!(told.collect::<Vec<_>>(), ["a", "`steps` is 0; expected 1 to 1000", "c"]);
    for job in answers.iter().flatten() {
        assert_eq!(runtime.block_on(job.finished()).unwrap().image.dimensions(), (64, 64));
    }
}

#[test]
fn what_is_wrong_with_a_request_is_said_before_it_waits() {
    let engine = sketches();
    let bad = |request: GenerateRequest| engine.submit(request.into()).unwrap_err().to_string();
    assert_eq!(
        bad(GenerateRequest { steps: Some(0), ..Default::default() }),
        "`steps` is 0; expected 1 to 1000"
    );
    assert_eq!(
        bad(GenerateRequest { width: Some(68), height: Some(64), ..Default::default() }),
        "`width` is 68; expected a multiple of 8, 64 to 2048"
    );
    let error = engine.submit(Submission { model: Some("none".into()), ..Submission::of("a") }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidModel);
    let output = Some("key.jpg".into());
    let error = engine.submit(Submission { output, ..Submission::of("a") }).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot write `key.jpg`: pictures are written as PNG; expected a name that ends in `.png`"
    );
}

#[test]
fn metrics_are_those_of_what_was_done() {
    let rig = Rig::slow(MS);
    let engine = rig.engine();
    let jobs: Vec<_> = (0..5).map(|seed| engine.submit(raw("a", seed, 4)).unwrap()).collect();
    jobs.iter().for_each(|job| drop(job.wait().unwrap()));
    assert!(engine.submit(raw("a", 0, 0)).is_err());
    let text = prometheus::TextEncoder::new().encode_to_string(&engine.metrics().gather()).unwrap();
    for line in [
        "dgx_pixels_jobs_total{kind=\"\",outcome=\"finished\"} 5",
        "dgx_pixels_jobs_submitted_total{priority=\"normal\"} 5",
        "dgx_pixels_jobs_rejected_total{kind=\"invalid_request\"} 1",
        "dgx_pixels_steps_total 20",
        "dgx_pixels_images_total 5",
        "dgx_pixels_model_loads_total{model=\"a\"} 1",
        "dgx_pixels_job_stage_seconds_count{stage=\"denoising\"} 5",
        "dgx_pixels_device_up{device=\"rig\"} 1",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line}\n{text}");
    }
}
