//! The committer under a thousand schedules of its threads.

use super::*;
use crate::sync::Mutex;

const SCHEDULES: usize = 1000;

/// A store in memory whose second commit fails, though its jobs are kept: as a disk may do.
struct Memory {
    kept: Arc<Mutex<Vec<JobId>>>,
    commits: usize,
}

impl Commit for Memory {
    fn commit(
        &mut self,
        revoked: &[JobId],
        changes: &[(JobId, Change)],
    ) -> Result<Vec<Result<(), Error>>, Error> {
        self.commits += 1;
        let mut kept = self.kept.lock().unwrap();
        kept.retain(|id| !revoked.contains(id));
        kept.extend(changes.iter().map(|(id, _)| *id));
        match self.commits {
            2 => Err(Error::internal("keeping jobs", "the disk is full")),
            _ => Ok(changes.iter().map(|_| Ok(())).collect()),
        }
    }
}

#[test]
fn each_change_is_answered_and_a_refused_job_is_not_kept() {
    let check = || {
        let kept = Arc::new(Mutex::new(vec![]));
        let committer = Arc::new(Committer::start(Memory { kept: kept.clone(), commits: 0 }).unwrap());
        let clients: Vec<_> = (0..3)
            .map(|client| {
                let committer = committer.clone();
                thread::spawn(move || {
                    let ids = [JobId::new(), JobId::new()];
                    let mut open = vec![];
                    let wanted = ids.map(|id| {
                        let (promise, pending) = promise();
                        open.push(pending);
                        (id, Change::Accept { submission: String::new(), key: None }, promise)
                    });
                    committer.send(wanted.into());
                    // One client is a task; the others are threads.
                    let wait = |pending: Pending| match client {
                        0 => shuttle::future::block_on(pending.done()),
                        _ => pending.wait(),
                    };
                    let answers: Vec<_> = open.into_iter().map(|pending| wait(pending).is_ok()).collect();
                    assert_eq!(answers[0], answers[1], "they were sent together");
                    ids.map(|id| (id, answers[0]))
                })
            })
            .collect();
        let told: Vec<_> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        drop(Arc::into_inner(committer));
        let kept = kept.lock().unwrap();
        for (id, accepted) in told {
            assert_eq!(kept.contains(&id), accepted, "a job is kept if, and only if, its client was told so");
        }
    };
    shuttle::check_random(check, SCHEDULES);
}

#[test]
fn a_change_that_comes_too_late_is_answered() {
    let check = || {
        let (promise, pending) = promise();
        let waits = thread::spawn(move || pending.wait().is_err());
        drop(promise);
        assert!(waits.join().unwrap());
    };
    shuttle::check_random(check, SCHEDULES);
}
