//! Multiplications and additions of what is computed, counted where it is.

use std::cell::Cell;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// A product of so many multiplications, each with an addition, is computed by this thread.
pub(super) fn add(multiplications: i64) {
    COUNT.set(COUNT.get() + 2 * multiplications.max(0) as u64);
}

/// What `work` returns, and the operations that it took.
pub(super) fn count<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = COUNT.get();
    let done = work();
    (done, COUNT.get() - before)
}
