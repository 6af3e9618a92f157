//! A job under a thousand schedules of its threads.

use std::sync::Arc;

use super::*;
use crate::sync::{atomic, thread};

const SCHEDULES: usize = 1000;

fn new() -> (Job, JobWriter) {
    Job::new(JobId::new(), Submission::of("a key"))
}

fn step(n: usize) -> JobEvent {
    JobEvent::Step { n, of: 2, step_time: Duration::ZERO, eta: Duration::ZERO }
}

#[test]
fn all_who_wait_hear_of_the_end_once() {
    let check = || {
        let (job, writer) = new();
        let ends = Arc::new(atomic::AtomicUsize::new(0));
        let waiting =
            [job.clone(), job.clone()].map(|job| thread::spawn(move || job.wait().unwrap_err().kind()));
        let mut events = job.events();
        let reader = thread::spawn(move || {
            let mut last = 0;
            let mut end = false;
            while let Some(event) = events.next_blocking() {
                assert!(!end, "nothing comes after the end");
                match event {
                    JobEvent::Step { n, .. } => {
                        assert!(n > last);
                        last = n;
                    }
                    event => end = event.is_end(),
                }
            }
            assert!(end);
        });
        let counted = ends.clone();
        let reacts = thread::spawn(move || {
            job.on_end(move || {
                counted.fetch_add(1, Ordering::SeqCst);
            })
        });
        (1..3).for_each(|n| assert!(writer.tell(step(n))));
        assert!(writer.fail(Error::ShutDown));
        assert!(!writer.fail(Error::ShutDown), "a job ends once");
        for thread in waiting {
            assert_eq!(thread.join().unwrap(), crate::ErrorKind::ShutDown);
        }
        reader.join().unwrap();
        reacts.join().unwrap();
        assert_eq!(ends.load(Ordering::SeqCst), 1);
    };
    shuttle::check_random(check, SCHEDULES);
}

#[test]
fn a_task_that_waits_hears_of_the_end() {
    let check = || {
        let (job, writer) = new();
        let task = thread::spawn(move || shuttle::future::block_on(job.finished()).unwrap_err().kind());
        drop(writer);
        assert_eq!(task.join().unwrap(), crate::ErrorKind::Internal, "a forgotten job ends");
    };
    shuttle::check_random(check, SCHEDULES);
}
