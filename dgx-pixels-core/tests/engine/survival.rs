//! Jobs outlive the program: `kill -9` at any moment, restarts, journals that are damaged.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use dgx_pixels_core::engine::{Engine, EngineConfig, Shutdown};
use dgx_pixels_core::job::JobId;
use dgx_pixels_core::{Error, ErrorKind, Submission};

use crate::rig::{Rig, eventually, raw};

const MS: Duration = Duration::from_millis(1);
/// Where a child process is to work.
const FOLDER: &str = "DGX_PIXELS_TEST_FOLDER";

fn journalled(rig: &std::sync::Arc<Rig>, folder: &Path) -> Engine {
    let config = EngineConfig { journal: Some(folder.join("journal")), ..Default::default() };
    rig.engine_with(1 << 40, config)
}

fn keyed(seed: u64, folder: &Path) -> Submission {
    let output = folder.join(format!("out/{seed}.png"));
    Submission {
        output: Some(output),
        idempotency_key: Some(seed.to_string()),
        pixel: Submission::default().pixel,
        ..raw("a key", seed, 3)
    }
}

#[test]
fn a_finished_job_is_found_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::slow(MS);
    let engine = journalled(&rig, folder.path());
    let unnamed = engine.submit(Submission { output: None, ..keyed(7, folder.path()) }).unwrap();
    let first = unnamed.wait().unwrap();
    let failed = engine.submit(raw("nan", 8, 2)).unwrap();
    failed.wait().unwrap_err();
    drop(engine);

    let rig = Rig::slow(MS);
    let engine = journalled(&rig, folder.path());
    assert!(engine.recovered().is_empty());
    let found = engine.find(unnamed.id()).unwrap().unwrap().wait().unwrap();
    assert_eq!(
        (&found.image, &found.made, found.certificate),
        (&first.image, &first.made, first.certificate)
    );
    let again = engine.submit(Submission { output: None, ..keyed(7, folder.path()) }).unwrap();
    assert_eq!((again.id(), rig.all_calls()), (unnamed.id(), 0), "the same key does nothing twice");
    let error = engine.find(failed.id()).unwrap().unwrap().wait().unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (ErrorKind::NotFinite, failed.wait().unwrap_err().to_string())
    );

    // Its file changes behind our back.
    fs::write(found.path.as_ref().unwrap(), "something else").unwrap();
    let error = engine.find(unnamed.id()).unwrap().unwrap().wait().unwrap_err();
    assert!(error.to_string().ends_with("it was written, and has changed since"), "{error}");
}

#[test]
fn what_was_not_finished_is_done_by_the_next_engine() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::held();
    let config = EngineConfig {
        journal: Some(folder.path().join("journal")),
        client_bytes: 100_000,
        ..Default::default()
    };
    let engine = rig.engine_with(1 << 40, config);
    let jobs: Vec<_> = (1..=20).map(|seed| engine.submit(keyed(seed, folder.path())).unwrap()).collect();
    // Three steps, and one beside which the first image is decoded.
    rig.steps.allow(4);
    jobs[0].wait().unwrap();
    jobs[19].cancel();
    thread::scope(|scope| {
        scope.spawn(|| engine.shutdown(Shutdown::NextStep));
        let too_long = || Submission { client: "another".into(), ..raw(&"a ".repeat(50_000), 1, 1) };
        eventually(|| matches!(engine.submit(too_long()), Err(Error::ShutDown)).then_some(()));
        rig.steps.open();
    });
    let undone: Vec<_> =
        jobs.iter().filter(|job| matches!(job.result(), Some(Err(Error::ShutDown)))).collect();
    assert!(!undone.is_empty());

    let engine = journalled(&Rig::slow(MS), folder.path());
    let ids = |jobs: &[dgx_pixels_core::job::Job]| jobs.iter().map(|job| job.id()).collect::<HashSet<_>>();
    assert_eq!(ids(engine.recovered()), undone.iter().map(|job| job.id()).collect());
    engine.recovered().iter().for_each(|job| drop(job.wait().unwrap()));
    for job in &jobs[..19] {
        engine.find(job.id()).unwrap().unwrap().wait().unwrap();
    }
    let cancelled = engine.find(jobs[19].id()).unwrap().unwrap().wait();
    assert!(matches!(cancelled, Err(Error::Cancelled { .. })), "{cancelled:?}");
}

#[test]
fn a_corrupt_journal_is_set_aside_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal");
    fs::create_dir_all(&journal).unwrap();
    fs::write(journal.join("journal.redb"), "no journal at all").unwrap();
    let engine = journalled(&Rig::slow(MS), folder.path());
    let aside = engine.set_aside().unwrap();
    assert_eq!(fs::read_to_string(aside).unwrap(), "no journal at all");
    engine.submit(keyed(1, folder.path())).unwrap().wait().unwrap();
    let second = EngineConfig { journal: Some(journal), ..Default::default() };
    let devices = vec![Box::new(dgx_pixels_core::backend::Unmetered("cpu".into())) as _];
    let error = Engine::start(dgx_pixels_core::backend::Sketches, devices, second).err().unwrap();
    assert!(matches!(error, Error::Journal { .. }), "two engines with one journal: {error}");
}

/// The life of one child: takes up what there is, then submits job after job until it is killed.
#[test]
#[ignore = "run by `killed_fifty_times_under_load_nothing_is_lost_or_done_twice`"]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    // Until here it was the system that loaded libraries.
    println!("\nready");
    let rig = Rig::slow(Duration::from_micros(300));
    let engine = journalled(&rig, folder);
    thread::scope(|scope| {
        for submitter in 0..4u64 {
            let engine = &engine;
            scope.spawn(move || {
                for n in 0.. {
                    // Keys that earlier lives may have brought already.
                    let job = engine.submit(keyed(4 * n + submitter, folder)).unwrap();
                    println!("accepted {} {}", 4 * n + submitter, job.id());
                    if n % 3 == 0 && job.wait().is_ok() {
                        println!("finished {} {}", 4 * n + submitter, job.id());
                    }
                }
            });
        }
    });
}

#[test]
fn killed_fifty_times_under_load_nothing_is_lost_or_done_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut accepted: HashMap<u64, JobId> = HashMap::new();
    let mut told_finished: HashMap<u64, JobId> = HashMap::new();
    let mut written: HashMap<String, std::time::SystemTime> = HashMap::new();
    let mut random = 7u64;
    for life in 0..50 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "survival::child", "--ignored", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let until_killed = MS * ((random >> 33) as u32 % 140);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line == "ready"));
        let reader = thread::spawn(move || lines.collect::<Vec<_>>());
        thread::sleep(until_killed);
        child.kill().unwrap();
        child.wait().unwrap();
        for line in reader.join().unwrap() {
            let mut words = line.split(' ');
            let (Some(word), Some(seed), Some(id)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            let (Ok(seed), Ok(id)) = (seed.parse(), id.parse()) else { continue };
            let known = if word == "accepted" { &mut accepted } else { &mut told_finished };
            assert_eq!(
                *known.entry(seed).or_insert(id),
                id,
                "life {life}: key {seed} is the same job for ever"
            );
        }
        // A picture that was told as finished is never written again.
        for seed in told_finished.keys() {
            let name = format!("{seed}.png");
            let changed = fs::metadata(folder.path().join("out").join(&name)).unwrap().modified().unwrap();
            assert_eq!(*written.entry(name).or_insert(changed), changed, "life {life}");
        }
    }
    assert!(accepted.len() > 50, "{} jobs under load", accepted.len());

    let rig = Rig::slow(Duration::ZERO);
    let engine = journalled(&rig, folder.path());
    engine.recovered().iter().for_each(|job| drop(job.wait().unwrap()));
    let mut given_up = 0;
    for (seed, id) in &accepted {
        let job = engine.find(*id).unwrap().unwrap_or_else(|| panic!("job {id} of key {seed} is lost"));
        match job.wait() {
            // It ran alone at kill after kill.
            Err(error) if error.kind() == ErrorKind::ProcessDied => given_up += 1,
            answer => drop(answer.unwrap()),
        }
    }
    let pictures = fs::read_dir(folder.path().join("out")).unwrap();
    let names: Vec<_> = pictures.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let ended = names.iter().filter(|name| name.ends_with(".png") && !name.starts_with('.')).count();
    assert!(ended + given_up >= accepted.len() && given_up <= 1, "each has its picture: {given_up}");
}
