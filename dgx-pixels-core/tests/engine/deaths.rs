//! Jobs that kill their process, and journals that nobody holds any more.

use std::collections::{HashMap, HashSet};
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use dgx_pixels_core::engine::{Engine, EngineConfig, Shutdown};
use dgx_pixels_core::{ErrorKind, Submission};

use crate::rig::{Rig, raw};

const MS: Duration = Duration::from_millis(1);
/// Where a child process is to work.
const FOLDER: &str = "DGX_PIXELS_TEST_DEATHS";
/// The prompts of its jobs.
const PROMPTS: &str = "DGX_PIXELS_TEST_PROMPTS";

fn journalled(rig: &std::sync::Arc<Rig>, folder: &Path, adopt: &[PathBuf]) -> Engine {
    let config = EngineConfig { journal: Some(folder.into()), adopt: adopt.into(), ..Default::default() };
    rig.engine_with(1 << 40, config)
}

/// A prompt that names a model does so before a colon.
fn keyed(prompt: &str, seed: u64, steps: usize) -> Submission {
    let (model, prompt) = match prompt.split_once(':') {
        Some((model, prompt)) => (Some(model.to_owned()), prompt),
        None => (None, prompt),
    };
    Submission { idempotency_key: Some(seed.to_string()), model, ..raw(prompt, seed, steps) }
}

/// Hands the same jobs in as each life before, and waits for all.
#[test]
#[ignore = "run by the tests of this file, in a process of its own"]
fn life() {
    let (Some(folder), Ok(prompts)) = (env::var_os(FOLDER), env::var(PROMPTS)) else { return };
    let engine = journalled(&Rig::slow(MS), Path::new(&folder), &[]);
    let prompts = prompts.split(',').zip(1..);
    let jobs = engine.submit_all(prompts.map(|(prompt, seed)| keyed(prompt, seed, 60)));
    for (job, seed) in jobs.iter().zip(1..) {
        let job = job.as_ref().unwrap();
        match job.wait() {
            Ok(_) => println!("\nended {seed} {} finished", job.id()),
            Err(error) => println!("\nended {seed} {} {} {error}", job.id(), error.kind().as_str()),
        }
    }
    engine.shutdown(Shutdown::Drain);
}

/// Lives until one ends in peace: how many did not, and what the last one says of each seed.
fn lives(prompts: &str) -> (usize, HashMap<u64, String>) {
    let folder = tempfile::tempdir().unwrap();
    for deaths in 0..20 {
        let life = Command::new(env::current_exe().unwrap())
            .args(["--exact", "deaths::life", "--ignored", "--nocapture"])
            .env(FOLDER, folder.path())
            .env(PROMPTS, prompts)
            .stderr(Stdio::null())
            .output()
            .unwrap();
        if life.status.success() {
            let text = String::from_utf8(life.stdout).unwrap();
            let ended = text.lines().filter_map(|line| {
                let (seed, rest) = line.strip_prefix("ended ")?.split_once(' ')?;
                Some((seed.parse().ok()?, rest.split_once(' ')?.1.to_owned()))
            });
            return (deaths, ended.collect());
        }
    }
    panic!("it kills every process for ever");
}

#[test]
fn a_job_that_kills_its_process_fails_after_two_deaths() {
    let (deaths, ended) = lives("abort@9");
    assert_eq!(deaths, 2);
    let text = "process_died the process died 2 times while this job ran, 2 of them with no other job beside it, \
                the last time while denoising, step 10; it is not run again. A smaller `width` and `height` need \
                less memory";
    assert_eq!(ended[&1], text);
}

#[test]
fn jobs_beside_one_that_kills_its_process_are_all_done() {
    let (deaths, ended) = lives("frog,frog,abort@9,frog,frog,frog");
    assert_eq!(deaths, 3, "one beside the others, and two alone");
    let failed: Vec<_> = ended.iter().filter(|(_, how)| *how != "finished").collect();
    assert_eq!(failed.len(), 1, "{ended:?}");
    assert!(failed[0].1.starts_with("process_died the process died 3 times") && *failed[0].0 == 3);
    assert_eq!(ended.len(), 6);
}

#[test]
fn a_model_that_kills_the_process_fails_its_job_and_no_other() {
    let (deaths, ended) = lives("fatal:frog,frog");
    assert_eq!(deaths, 4, "a process that is killed is often loading");
    assert!(
        ended[&1].starts_with("process_died ") && ended[&1].contains("while loading the model"),
        "{ended:?}"
    );
    assert_eq!(ended[&2], "finished");
}

#[test]
fn two_that_kill_their_process_are_both_found() {
    let (deaths, ended) = lives("abort@2,frog,abort@5,frog");
    assert!((4..=5).contains(&deaths), "{deaths}");
    let died: HashSet<_> =
        ended.iter().filter(|(_, how)| how.starts_with("process_died")).map(|(seed, _)| *seed).collect();
    assert_eq!(died, [1, 3].into());
}

#[test]
fn an_engine_that_is_stopped_in_peace_counts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let engine = journalled(&Rig::slow(MS), folder.path(), &[]);
    let id = engine.submit(keyed("a frog", 1, 1000)).unwrap().id();
    for _ in 0..4 {
        drop(engine.find(id));
    }
    drop(engine);
    for _ in 0..4 {
        let engine = journalled(&Rig::slow(MS), folder.path(), &[]);
        assert_eq!(engine.recovered().len(), 1);
        let mut events = engine.recovered()[0].events();
        while !matches!(events.next_blocking(), Some(dgx_pixels_core::job::JobEvent::Step { .. })) {}
        drop(engine);
    }
    let engine = journalled(&Rig::slow(Duration::ZERO), folder.path(), &[]);
    engine.recovered()[0].wait().unwrap();
}

#[test]
fn a_starting_engine_adopts_journals_that_nobody_holds() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["0", "1"].map(|name| folder.path().join(name));
    let gone = journalled(&Rig::slow(5 * MS), &second, &[]);
    let finished = gone.submit(keyed("a frog", 1, 1)).unwrap();
    let pixels = finished.wait().unwrap().image.clone();
    let failed = gone.submit(raw("nan", 2, 1)).unwrap();
    failed.wait().unwrap_err();
    let waiting: Vec<_> = (3..9).map(|seed| gone.submit(keyed("a frog", seed, 100)).unwrap().id()).collect();
    gone.shutdown(Shutdown::NextStep);
    drop(gone);

    let engine = journalled(&Rig::slow(Duration::ZERO), &first, &[first.clone(), second.clone()]);
    assert_eq!(engine.recovered().iter().map(|job| job.id()).collect::<Vec<_>>(), waiting);
    engine.recovered().iter().for_each(|job| drop(job.wait().unwrap()));
    assert_eq!(engine.find(finished.id()).unwrap().unwrap().wait().unwrap().image, pixels);
    let error = engine.find(failed.id()).unwrap().unwrap().wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFinite);
    assert_eq!(engine.submit(keyed("a frog", 1, 1)).unwrap().id(), finished.id(), "keys are adopted too");
    assert!(!second.join("journal.redb").exists());

    // The folder serves another engine, and what it held is done once.
    let other = journalled(&Rig::slow(Duration::ZERO), &second, &[]);
    assert!(other.recovered().is_empty() && other.find(waiting[0]).unwrap().is_none());
}

#[test]
fn a_journal_that_another_engine_holds_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["0", "1"].map(|name| folder.path().join(name));
    let running = journalled(&Rig::slow(MS), &second, &[]);
    let job = running.submit(keyed("a frog", 1, 50)).unwrap();
    let engine = journalled(&Rig::slow(MS), &first, std::slice::from_ref(&second));
    assert!(engine.recovered().is_empty() && engine.find(job.id()).unwrap().is_none());
    job.wait().unwrap();
    assert!(running.find(job.id()).unwrap().is_some());
}
