//! Threads of libtorch on a CPU: how many there are, and how they wait for each other.
//!
//! libtorch computes with OpenMP. While a thread of libgomp waits for the others it spins, 300,000
//! times as a rule, before it sleeps. On a machine that does anything else, it takes the core that
//! the others need, and an image takes ten times as long. Where libgomp manages more threads than
//! there are processors, it spins 1,000 times only: long enough for an idle machine, short enough
//! for a busy one.

use std::thread;

use tch::{Kind, Tensor};

use crate::error::Error;

/// The number of elements that libtorch gives one thread at least.
const GRAIN: i64 = 1 << 15;

/// Fits libtorch's threads to a machine that does other work too, before anything is drawn.
///
/// It takes no more threads than this process may use at once, by its CPU quota and its affinity:
/// OpenMP knows the affinity only, and would start 64 threads in a container that may use two of 64
/// processors. `OMP_NUM_THREADS` is the user's own choice, and is kept. And it keeps a second,
/// sleeping set of threads, for which libgomp spins less; `OMP_WAIT_POLICY` and `GOMP_SPINCOUNT`
/// still decide where they are set.
///
/// # Errors
/// [`Error::Internal`] if a thread cannot be started.
pub(super) fn share_processors() -> Result<(), Error> {
    let allowed = thread::available_parallelism().map_or(1, usize::from) as i32;
    if std::env::var_os("OMP_NUM_THREADS").is_none() && tch::get_num_threads() > allowed {
        tch::set_num_threads(allowed);
    }
    let threads = i64::from(tch::get_num_threads());
    let sleep = move || {
        // The set of threads that this makes belongs to this thread, and stays as long as it does.
        let _ = Tensor::f_zeros([threads * GRAIN], (Kind::Float, tch::Device::Cpu))
            .and_then(|zeros| zeros.f_exp());
        loop {
            thread::park();
        }
    };
    let started = thread::Builder::new().name("dgx-pixels idle".into()).spawn(sleep);
    started.map(drop).map_err(|error| Error::internal("starting threads", error))
}
