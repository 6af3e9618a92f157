//! The budget holds, models come and go.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dgx_pixels_core::engine::{Budget, Engine, EngineConfig};
use dgx_pixels_core::{Error, ImageSize, Submission};
use proptest::prelude::*;

use crate::rig::{Gate, Rig, WEIGHTS, raw};

fn sized(side: u32, seed: u64) -> Submission {
    let mut submission = raw("a", seed, 4);
    submission.request = submission.request.with_size(ImageSize { width: side, height: side });
    submission
}

fn config(bytes: u64) -> EngineConfig {
    EngineConfig { budget: Budget::Bytes(bytes), ..Default::default() }
}

#[test]
fn a_budget_makes_batches_smaller_and_fails_nobody() {
    let rig = Rig::slow(std::time::Duration::ZERO);
    // Weights, and room for about three pictures of two rows at once.
    let engine = rig.engine_with(1 << 30, config(WEIGHTS + 700));
    let jobs: Vec<_> = (1..30).map(|seed| engine.submit(sized(64, seed)).unwrap()).collect();
    jobs.iter().for_each(|job| drop(job.wait().unwrap()));
    let largest = rig.calls.lock().unwrap().iter().map(Vec::len).max();
    assert!(matches!(largest, Some(2 | 3)), "{largest:?}");
    assert_eq!(recoveries(&engine), 0.0);
}

#[test]
fn what_ran_out_of_memory_is_not_tried_again_and_again() {
    let rig = Rig::slow(std::time::Duration::ZERO);
    let engine = rig.engine_with(1 << 30, config(WEIGHTS + 700));
    engine.submit(sized(64, 1)).unwrap().wait().unwrap();
    // A neighbour has taken what the budget counts on.
    rig.memory.limit.store(WEIGHTS + 450, Ordering::SeqCst);
    let jobs: Vec<_> = (1..30).map(|seed| engine.submit(sized(64, seed)).unwrap()).collect();
    jobs.iter().for_each(|job| drop(job.wait().unwrap()));
    let recoveries = recoveries(&engine);
    assert!((1.0..10.0).contains(&recoveries), "{recoveries} of some 60 steps");
}

/// The number of calls that ran out of memory.
fn recoveries(engine: &Engine) -> f64 {
    let families = engine.metrics().gather();
    let family =
        families.iter().find(|family| family.name() == "dgx_pixels_out_of_memory_recoveries_total").unwrap();
    family.get_metric()[0].get_counter().get_value()
}

#[test]
fn what_the_allocator_keeps_is_given_back_when_memory_runs_out() {
    let rig = Arc::new(Rig { steps: Gate::closed(), loading: Gate::closed(), ..Default::default() });
    let engine = rig.engine_with(1 << 30, config(WEIGHTS + 700));
    let jobs = [1, 2].map(|seed| engine.submit(sized(64, seed)).unwrap());
    rig.loading.open();
    rig.wait_for_steps_of(2, 1);
    // Beside this much not even one of the two can go a step.
    rig.memory.kept.store(500, Ordering::SeqCst);
    rig.steps.open();
    jobs.iter().for_each(|job| drop(job.wait().unwrap()));
    assert_eq!(recoveries(&engine), 1.0);
}

#[test]
fn a_job_over_the_budget_is_told_what_it_needs() {
    let rig = Rig::slow(std::time::Duration::ZERO);
    let engine = rig.engine_with(1 << 30, config(WEIGHTS + 700));
    let job = engine.submit(sized(512, 1)).unwrap();
    let error = job.wait().unwrap_err();
    assert!(matches!(error, Error::OverBudget { budget_bytes: 1700, .. }), "{error}");
    let engine = Rig::slow(std::time::Duration::ZERO).engine_with(1 << 30, config(WEIGHTS / 2));
    assert!(matches!(engine.submit(sized(64, 1)).unwrap().wait(), Err(Error::OverBudget { .. })));
}

#[test]
fn the_longest_unused_model_leaves_for_another() {
    let rig = Rig::slow(std::time::Duration::ZERO);
    let engine = rig.engine_with(1 << 30, config(2 * WEIGHTS + 700));
    for model in ["a", "b", "a", "c", "a", "b"] {
        let job = engine.submit(Submission { model: Some(model.into()), ..sized(64, 1) }).unwrap();
        job.wait().unwrap();
    }
    assert_eq!(*rig.loads.lock().unwrap(), ["a", "b", "c", "b"]);
    assert!(rig.memory.used.load(Ordering::SeqCst) <= 2 * WEIGHTS + 100);
}

#[test]
fn models_that_do_not_fit_together_take_turns() {
    let rig = Rig::slow(std::time::Duration::ZERO);
    let engine = rig.engine_with(1 << 30, config(WEIGHTS + 700));
    let jobs: Vec<_> = (0..20)
        .map(|n| {
            engine
                .submit(Submission { model: Some(["a", "b"][n % 2].into()), ..sized(64, n as u64) })
                .unwrap()
        })
        .collect();
    jobs.iter().for_each(|job| drop(job.wait().unwrap()));
    let loads = rig.loads.lock().unwrap().len();
    assert!(loads <= 20, "{loads}");
}

#[test]
fn old_jobs_of_models_that_do_not_fit_together_do_not_wait_for_each_other() {
    let rig = Rig::slow(std::time::Duration::ZERO);
    let ageing = std::time::Duration::from_nanos(1);
    let engine = rig.engine_with(1 << 30, EngineConfig { ageing, ..config(WEIGHTS + 700) });
    let of = |model: &str, seed| Submission { model: Some(model.into()), ..sized(64, seed) };
    let jobs: Vec<_> = (0..20).map(|n| engine.submit(of(["a", "b"][n % 2], n as u64)).unwrap()).collect();
    jobs.iter().for_each(|job| drop(job.wait().unwrap()));
}

#[test]
fn costs_are_measured_once_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let costs = Some(folder.path().join("costs.json"));
    let begun = || {
        let rig = Rig::slow(std::time::Duration::ZERO);
        let engine = rig.engine_with(1 << 30, EngineConfig { costs: costs.clone(), ..config(1 << 20) });
        engine.submit(sized(64, 1)).unwrap().wait().unwrap();
        drop(engine);
        rig.begun.load(Ordering::SeqCst)
    };
    assert!(begun() > 1, "some were begun to be measured");
    assert_eq!(begun(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..Default::default() })]
    #[test]
    fn the_budget_is_never_exceeded(
        room in 250u64..4000,
        jobs in proptest::collection::vec((0usize..3, 0usize..3, 0u64..3), 1..40),
    ) {
        let rig = Rig::slow(std::time::Duration::ZERO);
        let budget = WEIGHTS + room;
        let engine = rig.engine_with(1 << 30, config(budget));
        let jobs: Vec<_> = jobs.into_iter().enumerate().map(|(seed, (side, model, client))| {
            let mut one = sized([64, 96, 128][side], seed as u64);
            one.model = Some(["a", "b", "c"][model].into());
            one.client = client.to_string();
            engine.submit(one).unwrap()
        }).collect();
        for job in &jobs {
            // Whatever can be done at all is done.
            match job.wait() {
                Ok(_) | Err(Error::OverBudget { .. }) => {}
                Err(error) => prop_assert!(false, "{error}"),
            }
        }
        prop_assert_eq!(recoveries(&engine), 0.0, "the device never had to refuse");
        drop(engine);
        prop_assert_eq!(rig.memory.used.load(Ordering::SeqCst), 0, "nothing is kept");
        let _: Arc<Rig> = rig;
    }
}
