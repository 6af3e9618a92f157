//! The primitives that threads share around a job, the journal and the writers.
//!
//! They are those of the standard library and of `event-listener`. Built with `--cfg shuttle` they
//! are shuttle's, so that tests try a thousand schedules of the threads. Such a build runs no other
//! tests: shuttle's primitives work inside its scheduler only.

#[cfg(not(all(test, shuttle)))]
mod real {
    pub(crate) use std::sync::{Mutex, MutexGuard, atomic, mpsc};
    pub(crate) use std::thread;

    pub(crate) use event_listener::{Event, Listener};
}

#[cfg(all(test, shuttle))]
mod scheduled;

#[cfg(not(all(test, shuttle)))]
pub(crate) use real::{Event, Listener, Mutex, MutexGuard, atomic, mpsc, thread};
#[cfg(all(test, shuttle))]
pub(crate) use scheduled::{Event, Listener, Mutex, MutexGuard, atomic, mpsc, thread};
