//! A backend that runs out of memory, panics, hangs or gives no picture; crowds; outputs that
//! cannot be written.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use dgx_pixels_core::engine::{Engine, EngineConfig, Shutdown};
use dgx_pixels_core::{Error, ErrorKind, Submission};

use crate::rig::{Gate, Rig, eventually, raw};

const MS: Duration = Duration::from_millis(1);

/// Eight jobs at once, the third with `prompt`; the kinds of those that failed, by seed.
fn eight_with(prompt: &str) -> (Arc<Rig>, Vec<(u64, ErrorKind)>) {
    let rig = Rig::slow(MS);
    let engine = rig.engine();
    let jobs: Vec<_> = (0..8)
        .map(|seed| engine.submit(raw(if seed == 3 { prompt } else { "a frog" }, seed, 6)).unwrap())
        .collect();
    let kinds =
        jobs.iter().zip(0..).filter_map(|(job, seed)| Some((seed, job.wait().err()?.kind()))).collect();
    engine.shutdown(Shutdown::Drain);
    (rig, kinds)
}

#[test]
fn a_panic_fails_its_job_alone_at_any_step() {
    for step in [0, 3, 5, 6] {
        let (rig, failed) = eight_with(&format!("panic@{step}"));
        assert_eq!(failed, [(3, ErrorKind::Internal)], "at step {step}");
        assert!(rig.loads.lock().unwrap().len() >= 2, "a backend that panicked is not used again");
    }
}

#[test]
fn values_that_are_not_finite_fail_their_job_alone() {
    let (rig, failed) = eight_with("nan");
    assert_eq!(failed, [(3, ErrorKind::NotFinite)]);
    assert_eq!(rig.loads.lock().unwrap().len(), 1);
}

#[test]
fn memory_that_runs_out_loses_nothing() {
    for step in [0, 3, 5, 6] {
        let (rig, failed) = eight_with(&format!("crowded@{step}"));
        assert_eq!(failed, [], "at step {step}");
        assert!((0..8).all(|seed| rig.calls_of(seed).len() >= 6));
    }
}

#[test]
fn a_job_that_never_fits_fails_alone_and_says_why() {
    for step in [0, 5, 6] {
        let (_, failed) = eight_with(&format!("oom@{step}"));
        assert_eq!(failed, [(3, ErrorKind::OutOfMemory)], "at step {step}");
    }
}

/// A rig whose calls hang where a prompt says so, and an engine that gives them up soon.
fn hanging(hang_after: Duration) -> (Arc<Rig>, Engine) {
    let rig = Arc::new(Rig { hang: Gate::closed(), ..Default::default() });
    let engine = rig.engine_with(1 << 40, EngineConfig { hang_after, ..Default::default() });
    (rig, engine)
}

#[test]
fn a_hang_fails_its_jobs_and_the_device_comes_back_when_it_answers() {
    for (prompt, doing) in [("hang@2", "denoising"), ("hang@5", "decoding")] {
        let (rig, engine) = hanging(400 * MS);
        let hung = engine.submit(raw(prompt, 1, 5)).unwrap();
        let error = hung.wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DeviceUnavailable);
        let text = error.to_string();
        assert!(text.contains("`rig` is not available: it has not answered for "), "{text}");
        assert!(text.contains(&format!(" s while {doing}")), "{text}");
        let refused = engine.submit(raw("a", 2, 2)).unwrap_err();
        assert_eq!(
            refused.kind(),
            ErrorKind::DeviceUnavailable,
            "nobody is left waiting for a device that is gone"
        );
        rig.hang.open();
        eventually(|| engine.submit(raw("a", 3, 2)).and_then(|job| job.wait()).ok());
    }
}

#[test]
fn an_engine_with_a_hanging_device_can_be_dropped() {
    let (rig, engine) = hanging(100 * MS);
    let hung = engine.submit(raw("hang", 1, 5)).unwrap();
    assert!(hung.wait().is_err());
    drop(engine);
    assert_eq!(rig.hang.held(), 1, "the engine has ended, and the device still hangs");
    rig.hang.open();
}

#[test]
fn ten_thousand_jobs_from_sixty_four_threads_are_each_done_once() {
    let rig = Rig::slow(Duration::ZERO);
    let engine = rig
        .engine_with(1 << 40, EngineConfig { max_batch: 64, queue_capacity: 10_000, ..Default::default() });
    thread::scope(|scope| {
        for thread in 0..64u64 {
            let engine = engine.clone();
            scope.spawn(move || {
                let count = if thread < 16 { 157 } else { 156 };
                let client = thread.to_string();
                let jobs: Vec<_> = (0..count)
                    .map(|n| {
                        let one = Submission { client: client.clone(), ..raw("a", thread * 1000 + n, 1) };
                        engine.submit(one).unwrap()
                    })
                    .collect();
                jobs.iter().for_each(|job| drop(job.wait().unwrap()));
            });
        }
    });
    // One more was begun and finished to measure its memory, with seed 0.
    let [begun, finished] = [&rig.begun, &rig.finished].map(|count| count.load(Ordering::SeqCst));
    assert_eq!((begun, finished), (10_001, 10_001));
    let calls = rig.calls.lock().unwrap();
    let mut seeds: Vec<u64> = calls.iter().flatten().copied().collect();
    assert_eq!(seeds.len(), 10_001, "each has one step");
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), 10_000);
}

#[test]
fn nobody_who_stops_reading_holds_anybody_up() {
    let rig = Rig::slow(Duration::ZERO);
    let engine = rig.engine();
    let job = engine.submit(raw("a", 1, 1000)).unwrap();
    let _unread: Vec<_> = (0..100).map(|_| job.events()).collect();
    job.wait().unwrap();
}

#[test]
fn an_output_that_cannot_be_written_fails_its_job_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    let rig = Rig::slow(MS);
    let engine = rig.engine();
    let bad = Submission { output: Some(file.join("key.png")), ..raw("a", 1, 2) };
    let error = engine.submit(bad).unwrap().wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Output, "{error}");

    // Somebody else writes the file meanwhile: neither it nor a certificate is touched.
    let path = folder.path().join("key.png");
    let pixel = Submission::default().pixel;
    let job = engine.submit(Submission { output: Some(path.clone()), pixel, ..raw("a", 1, 40) }).unwrap();
    std::fs::write(&path, "mine").unwrap();
    assert!(matches!(job.wait(), Err(Error::Exists { .. })));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    engine.submit(raw("a", 1, 2)).unwrap().wait().unwrap();
}

/// The largest file that may be written from here on.
pub(crate) fn limit_file_size(bytes: libc::rlim_t) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: both are given what they ask for. Ignored, the signal becomes an error of the write.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
    }
}

#[test]
#[ignore = "run by `a_full_disk_fails_jobs_and_leaves_no_half_file`, in a process of its own"]
fn fills_its_disk() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Rig::slow(Duration::ZERO).engine_with(1 << 40, EngineConfig::default());
    let draw = |seed| {
        let output = Some(folder.path().join(format!("{seed}.png")));
        engine.submit(Submission { output, ..raw("a key", seed, 2) }).unwrap().wait()
    };
    limit_file_size(100);
    for seed in 1..9 {
        let error = draw(seed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Output, "{error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    limit_file_size(libc::RLIM_INFINITY);
    let finished = draw(1).unwrap();
    assert!(image::open(finished.path.as_ref().unwrap()).is_ok());
}

/// Runs an ignored test in a process of its own.
fn alone(test: &str) {
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn a_full_disk_fails_jobs_and_leaves_no_half_file() {
    alone("faults::fills_its_disk");
}

#[test]
#[ignore = "run by `no_file_is_written_that_the_journal_does_not_know`, in a process of its own"]
fn fills_the_disk_of_its_journal() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::held();
    let config = EngineConfig { journal: Some(folder.path().join("journal")), ..Default::default() };
    let engine = rig.engine_with(1 << 40, config);
    let output = folder.path().join("key.png");
    let job = engine.submit(Submission { output: Some(output.clone()), ..raw("a key", 1, 2) }).unwrap();
    rig.wait_for_steps_of(1, 1);
    // The journal is larger than this, and an image is smaller.
    limit_file_size(32 << 10);
    rig.steps.open();
    let error = job.wait().unwrap_err();
    assert!(matches!(error, Error::Journal { .. }), "{error}");
    assert!(!output.exists());
    limit_file_size(libc::RLIM_INFINITY);
    std::fs::write(&output, [0; 32 << 10]).unwrap();
}

#[test]
fn no_file_is_written_that_the_journal_does_not_know() {
    alone("faults::fills_the_disk_of_its_journal");
}
