//! The queue of the engine for the benches. It is private to the library and needs little of it, so
//! the file is compiled here as it is.

#[expect(dead_code, reason = "the benches call a part of it")]
#[rustfmt::skip] // It is formatted where it is.
#[path = "../../../dgx-pixels-core/src/engine/queue.rs"]
mod queue;

mod submission {
    pub(crate) use dgx_pixels_core::Priority;
}

mod request {
    pub(crate) use dgx_pixels_core::ImageSize;
}

use std::sync::Arc;
use std::time::{Duration, Instant};

use dgx_pixels_core::{ImageSize, Priority};

use self::queue::{Limits, Needs, Queue, Waiting};

/// The number of jobs in each bench of the queue.
pub const JOBS: usize = 1000;

/// Jobs that have no place yet.
pub struct Jobs(Vec<Waiting<usize>>);

impl Jobs {
    /// Jobs of this many clients for two models, at all priorities, with deadlines for every third.
    pub fn of(clients: usize) -> Jobs {
        let priorities = [Priority::Low, Priority::Normal, Priority::High, Priority::Urgent];
        let since = Instant::now();
        let client: Vec<Arc<str>> = (0..clients).map(|n| n.to_string().into()).collect();
        let model: [Arc<str>; 2] = ["sprite-xl".into(), "sdxl".into()];
        let job = |n: usize| Waiting {
            item: n,
            model: model[n / 7 % 2].clone(),
            client: client[n % clients].clone(),
            priority: priorities[n / 3 % 4],
            first: false,
            since: since + Duration::from_millis(n as u64),
            deadline: (n % 3 == 0).then(|| since + Duration::from_secs(60 + n as u64)),
            steps: 12 + n % 19,
            work: (n as u64 * 7919) % 1000,
            bytes: 400,
            needs: Needs { size: ImageSize { width: 256, height: 256 }, rows: 2, weight_bytes: 1 << 26 },
        };
        Jobs((0..JOBS).map(job).collect())
    }

    /// Gives each a place, and then puts it into the queue.
    pub fn accept(self) -> Line {
        let limits = Limits { jobs: JOBS, client_jobs: JOBS, client_bytes: 1 << 20 };
        let mut queue = Queue::new(limits, Duration::from_secs(30));
        for job in self.0 {
            let (client, bytes) = (job.client.clone(), job.bytes);
            queue.reserve(&client, bytes).expect("there is a place for each");
            queue.release(&client, bytes);
            queue.push(job);
        }
        Line(queue)
    }
}

/// Jobs that wait in the queue.
pub struct Line(Queue<usize>);

impl Line {
    /// The queue with the jobs of this many clients.
    pub fn full(clients: usize) -> Line {
        Jobs::of(clients).accept()
    }

    /// Chooses and takes the jobs one after another, eight at a time. The sum of their numbers.
    pub fn take_all(mut self) -> usize {
        let (mut running, mut sum) = (Vec::new(), 0);
        while let Some(rank) = self.0.first(|_| true) {
            let taken = self.0.take(rank.number).expect("it was first");
            sum += taken.item;
            running.push(taken.client);
            if running.len() == 8 {
                running.drain(..).for_each(|client| self.0.leave(&client));
            }
        }
        sum
    }

    /// The sum of all positions.
    pub fn positions(&self) -> usize {
        (0..JOBS as u64).map(|number| self.0.position(number).expect("it waits").0).sum()
    }
}
