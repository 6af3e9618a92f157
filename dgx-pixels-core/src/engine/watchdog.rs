//! Looks after the devices: a call that does not come back fails its jobs instead of keeping
//! everybody waiting.
//!
//! It looks once in an eighth of the time that a call may take, but every 5 ms at most and every
//! second at least. A thread that hangs in a driver cannot be stopped, so the device stays down
//! until the program is started anew. If no device is left, the jobs that wait fail as well.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::shared::{Course, Shared};
use crate::error::Error;

/// Looks until the engine ends.
pub(super) fn run(shared: Arc<Shared>) {
    let hang_after = shared.config.hang_after;
    let nap = (hang_after / 8).clamp(Duration::from_millis(5), Duration::from_secs(1));
    loop {
        thread::sleep(nap);
        let mut state = shared.lock();
        if state.devices.iter().all(|device| !device.up && device.busy.is_none())
            && state.course != Course::Serve
        {
            return;
        }
        let now = Instant::now();
        let mut lost = vec![];
        for device in &mut state.devices {
            let Some(busy) = &mut device.busy else { continue };
            let since = now.saturating_duration_since(busy.since);
            if since < hang_after || !device.up {
                continue;
            }
            device.up = false;
            let reason = format!("it has not answered for {:.0} s while {}", since.as_secs_f64(), busy.doing);
            tracing::error!(device = &*device.name, reason, "the device hangs; its jobs fail");
            shared.metrics.hangs.with_label_values(&[&*device.name]).inc();
            shared.metrics.device_up.with_label_values(&[&*device.name]).set(0);
            let error = Error::device(&*device.name, reason);
            lost.extend(busy.tasks.drain(..).map(|task| (task, error.clone())));
        }
        // With no device left, those that wait are told instead of left waiting.
        if let Some(error) = state.gone() {
            lost.extend(state.queue.drain(None).into_iter().map(|waiting| (waiting.item, error.clone())));
        }
        drop(state);
        lost.into_iter().for_each(|(task, error)| shared.fail(task, error));
    }
}
