//! Bars on stderr while it is a terminal; silence elsewhere.

use std::time::Duration;

use dgx_pixels_core::job::JobEvent;
use dgx_pixels_core::printable::one_line;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// A bar or a spinner. Gone from the screen when dropped.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A spinner until the first step of a job, then a bar of steps.
    pub(crate) fn job(quiet: bool) -> Self {
        let bar = bar(quiet, "{spinner} {msg} ({elapsed})");
        bar.enable_steady_tick(Duration::from_millis(100));
        Bar(bar)
    }

    /// A bar of pictures that are made one by one, or many at once.
    pub(crate) fn pictures(quiet: bool, count: usize) -> Self {
        let bar = bar(quiet || count < 2, "[{bar:30}] {pos}/{len} pictures, {rate}, {eta} left");
        bar.set_length(count as u64);
        Bar(bar)
    }

    /// A bar of bytes that are fetched.
    pub(crate) fn bytes(quiet: bool, count: u64) -> Self {
        let bar =
            bar(quiet, "[{bar:30}] {binary_bytes}/{binary_total_bytes}, {binary_bytes_per_sec}, {eta} left");
        bar.set_length(count);
        Bar(bar)
    }

    /// Some bytes more have come.
    pub(crate) fn advance_by(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    /// One picture more is done.
    pub(crate) fn advance(&self) {
        self.0.inc(1);
    }

    /// Has `work` write to the terminal without the bar in its way.
    pub(crate) fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.suspend(work)
    }

    /// Shows where a job stands.
    pub(crate) fn show(&self, event: &JobEvent) {
        match event {
            JobEvent::Loading { model, .. } => self.0.set_message(format!("loading {}", one_line(model))),
            JobEvent::Started { .. } => self.0.set_message("drawing"),
            JobEvent::Step { n, of, .. } => {
                if self.0.length().is_none() {
                    self.0.set_style(style("{msg} [{bar:30}] {pos}/{len} steps, {rate}, {eta} left"));
                    self.0.set_length(*of as u64);
                    self.0.reset_eta();
                }
                self.0.set_position(*n as u64);
                if n == of {
                    self.0.set_message("decoding");
                }
            }
            _ => {}
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn bar(quiet: bool, template: &str) -> ProgressBar {
    // `stderr()` hides itself where stderr is no terminal.
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    ProgressBar::with_draw_target(None, target).with_style(style(template))
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates are constants; this is a bug")
        .progress_chars("=> ")
        .with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = write!(out, "{:.2} it/s", state.per_sec());
        })
}
