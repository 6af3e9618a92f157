//! The promises of plans, whatever comes: no job is lost, none starves, the budget holds, clients
//! take turns.

mod world;

use std::time::Duration;

use proptest::prelude::*;

use self::world::*;
use crate::submission::Priority;

fn spec(client: u8, side: u32, steps: usize) -> Spec {
    Spec {
        at: Duration::ZERO,
        client,
        priority: Priority::Normal,
        model: 0,
        side,
        rows: 1,
        steps,
        deadline: None,
        cancelled: None,
        fault: Fault::None,
        suspect: false,
    }
}

fn setup() -> Setup {
    Setup {
        max_batch: 4,
        max_wait: Duration::ZERO,
        room: Some(4000),
        step_time: (MS, MS),
        load_time: 50 * MS,
        write_time: 5 * MS,
    }
}

fn faults() -> impl Strategy<Value = Fault> {
    prop_oneof![
        8 => Just(Fault::None),
        1 => (0usize..6).prop_map(Fault::Panic),
        1 => (0usize..6).prop_map(Fault::Crowded),
        1 => prop_oneof![Just(Fault::NeverFits), Just(Fault::NotFinite), Just(Fault::PanicAtLast), Just(Fault::Empty)],
    ]
}

fn specs() -> impl Strategy<Value = Vec<Spec>> {
    let when =
        (0u64..400, proptest::option::weighted(0.1, 0u64..300), proptest::option::weighted(0.2, 0u64..300));
    let who = (0u8..4, 0usize..4, prop_oneof![6 => Just(0u8), 3 => Just(1), 2 => Just(2), 1 => Just(9)]);
    let what = (0usize..3, 1usize..3, 1usize..7, faults(), proptest::bool::weighted(0.05));
    let one = (when, who, what).prop_map(|((at, deadline, cancelled), (client, priority, model), what)| {
        let (side, rows, steps, fault, suspect) = what;
        let ms = |ms: u64| MS * ms as u32;
        Spec {
            at: ms(at.saturating_sub(100)),
            client,
            priority: Priority::ALL[priority],
            model,
            side: [64, 96, 128][side],
            rows,
            steps,
            deadline: deadline.map(ms),
            cancelled: cancelled.map(ms),
            fault,
            suspect,
        }
    });
    proptest::collection::vec(one, 1..24)
}

fn setups() -> impl Strategy<Value = Setup> {
    let room = prop_oneof![1 => Just(None), 4 => (60u64..5000).prop_map(Some)];
    (1usize..9, 0u32..3, room, (0u32..8, 0u32..4), 1u32..150, 0u32..60).prop_map(
        |(max_batch, max_wait, room, (fixed, each), load, write)| Setup {
            max_batch,
            max_wait: 15 * MS * max_wait,
            room,
            step_time: (MS * fixed + MS / 10, MS * each / 2),
            load_time: MS * load,
            write_time: MS * write,
        },
    )
}

/// The ends that a job of this kind may come to. `peers` are jobs whose faults may be its own.
fn may_end(spec: &Spec, end: End, metered: bool) -> bool {
    match end {
        End::Finished => spec.model != 9 && !matches!(spec.fault, Fault::NeverFits | Fault::NotFinite),
        End::Cancelled => spec.cancelled.is_some(),
        End::TooLate => spec.deadline.is_some(),
        End::OverBudget => metered,
        End::OutOfMemory => spec.fault == Fault::NeverFits || metered,
        End::Failed => {
            let own = matches!(spec.fault, Fault::Panic(_) | Fault::NotFinite | Fault::PanicAtLast);
            own || spec.model == 9
        }
    }
}

#[test]
fn old_jobs_of_two_models_that_do_not_fit_together_do_not_wait_for_each_other() {
    let after = |ms: u32, model: u8| Spec { at: ms * MS, model, ..spec(0, 64, 1) };
    let setup = Setup { max_batch: 1, room: Some(110), load_time: 300 * MS, ..setup() };
    let mut world = World::new(setup, vec![after(0, 0), after(1, 1), after(301, 0)]);
    world.drain();
    assert!(world.ends().all(|(_, outcome)| outcome.end == Some(End::Finished)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, max_shrink_iters: 400, ..Default::default() })]

    /// The world checks each thing that it is told: the budget, ranks, suspects, readiness.
    #[test]
    fn every_job_comes_to_its_own_end(setup in setups(), specs in specs()) {
        let metered = setup.room.is_some();
        let mut world = World::new(setup, specs);
        world.drain();
        for (spec, outcome) in world.ends() {
            let end = outcome.end.expect("no job is lost");
            prop_assert!(may_end(spec, end, metered), "{spec:?} came to {end:?}");
        }
        prop_assert_eq!(world.refused, 0, "the device never had to refuse");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, max_shrink_iters: 400, ..Default::default() })]

    /// The flood is of short urgent jobs, from one client or many, and never ends.
    #[test]
    fn no_job_starves_under_a_flood_of_shorter_and_more_urgent_ones(
        priority in 0usize..4, steps in 1usize..7, clients in 1u8..20, same_model in any::<bool>(), max_batch in 1usize..5,
    ) {
        let patient = Spec { priority: Priority::ALL[priority], ..spec(0, 128, steps) };
        let mut world = World::new(Setup { max_batch, room: Some(1000), ..setup() }, vec![patient]);
        let mut last = 0;
        while world.jobs[0].end.is_none() && world.elapsed() < 4000 * MS {
            while world.waiting_jobs() < 8 {
                last = last % clients + 1;
                let flood = Spec { at: world.elapsed(), priority: Priority::Urgent, ..spec(last, 64, 1) };
                world.add(Spec { model: u8::from(!same_model), ..flood });
            }
            world.go_on();
        }
        prop_assert_eq!(world.jobs[0].end, Some(End::Finished));
        // Its level rises every 200 ms, and once more.
        let rises = 200 * MS * (priority as u32 + 1);
        prop_assert!(world.jobs[0].ended_at < rises + 600 * MS, "{:?}", world.jobs[0]);
    }

    /// Each client goes a step in every round, however many jobs the others have.
    #[test]
    fn one_of_each_client_goes_a_step_in_every_round(
        jobs in proptest::collection::vec(1usize..30, 2..5), more in 0usize..4, steps in 1usize..5,
    ) {
        let max_batch = jobs.len() + more;
        let jobs: Vec<Spec> = jobs.iter().zip(0u8..).flat_map(|(count, client)| vec![spec(client, 64, steps); *count]).collect();
        let clients = jobs.last().map_or(0, |spec| spec.client + 1);
        let mut world = World::new(Setup { max_batch, room: None, ..setup() }, jobs);
        loop {
            let waits: Vec<u8> = (0..clients).filter(|client| world.steps_left_of(*client) > 0).collect();
            let calls = world.calls.len();
            if waits.is_empty() {
                break;
            }
            world.go_on();
            for call in &world.calls[calls..] {
                prop_assert!(waits.iter().all(|client| call.contains(client)), "{call:?} of {waits:?}");
            }
        }
    }
}
