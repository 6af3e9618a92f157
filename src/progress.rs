//! Bars on stderr while it is a terminal; silence elsewhere.

use dgx_pixels_core::backend::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// A bar or a spinner. Gone from the screen when dropped.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A spinner for work whose length is not known.
    #[cfg(feature = "torch")]
    pub(crate) fn waiting(quiet: bool, doing: String) -> Self {
        let bar = bar(quiet, "{spinner} {msg} ({elapsed})");
        bar.set_message(doing);
        bar.enable_steady_tick(std::time::Duration::from_millis(100));
        Bar(bar)
    }

    /// A bar of denoising steps for pictures drawn together, as in `2 of 8 pictures`.
    pub(crate) fn steps(quiet: bool, doing: String) -> Self {
        let bar = bar(quiet, "{msg} [{bar:30}] {pos}/{len} steps, {rate}, {eta} left");
        bar.set_message(doing);
        Bar(bar)
    }

    /// A bar of pictures that are made one by one, or many at once.
    pub(crate) fn pictures(quiet: bool, count: usize) -> Self {
        let bar = bar(quiet || count < 2, "[{bar:30}] {pos}/{len} pictures, {rate}, {eta} left");
        bar.set_length(count as u64);
        Bar(bar)
    }

    /// One picture more is done.
    pub(crate) fn advance(&self) {
        self.0.inc(1);
    }

    /// Has `work` write to the terminal without the bar in its way.
    pub(crate) fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.suspend(work)
    }

    /// Shows where the batch stands.
    pub(crate) fn show(&self, progress: Progress) {
        if progress.steps_done == 0 {
            self.0.set_length(progress.steps as u64);
            self.0.reset();
        } else {
            self.0.set_position(progress.steps_done as u64);
        }
        if progress.steps_done == progress.steps {
            self.0.set_message("decoding");
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
    let style = ProgressStyle::with_template(template)
        .expect("the templates are constants; this is a bug")
        .progress_chars("=> ")
        .with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = write!(out, "{:.2} it/s", state.per_sec());
        });
    ProgressBar::with_draw_target(None, target).with_style(style)
}
