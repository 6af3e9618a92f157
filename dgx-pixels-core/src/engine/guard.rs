//! Calls of a backend under the eyes of the watchdog, which return a panic as an answer.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::journal::NOWHERE;
use super::shared::{Busy, Shared};
use super::task::Task;
use crate::error::Error;

/// A backend's panic, in its words.
pub(super) struct Panic(String);

impl From<Panic> for Error {
    fn from(Panic(message): Panic) -> Error {
        Error::internal("calling the model", format!("it panicked: {message}"))
    }
}

/// The message of a panic.
pub(super) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".into())
}

impl Shared {
    /// Calls a backend while the watchdog looks on. `tasks` are all that are lost if the call does
    /// not return; one that is alone has its place noted.
    ///
    /// # Errors
    /// The panic of the call.
    pub(super) fn guarded<T>(
        &self,
        device: usize,
        doing: &'static str,
        tasks: Vec<Arc<Task>>,
        call: impl FnOnce() -> T,
    ) -> Result<T, Panic> {
        let alone = if let [task] = &tasks[..] { Some(task.clone()) } else { None };
        if let Some(task) = &alone {
            let step = task.steps_done.load(Ordering::Relaxed) + 1;
            let place = if doing == "denoising" { format!("{doing}, step {step}") } else { doing.to_owned() };
            self.note_place(task, &place);
        }
        self.lock().devices[device].busy = Some(Busy { since: Instant::now(), doing, tasks });
        let answer = catch_unwind(AssertUnwindSafe(call));
        if let Some(task) = &alone {
            self.note_place(task, NOWHERE);
        }
        let mut state = self.lock();
        let device = &mut state.devices[device];
        device.busy = None;
        if !device.up {
            tracing::warn!(device = &*device.name, "the device answers again");
            self.metrics.device_up.with_label_values(&[&*device.name]).set(1);
            device.up = true;
        }
        answer.map_err(|panic| Panic(panic_message(&*panic)))
    }
}
