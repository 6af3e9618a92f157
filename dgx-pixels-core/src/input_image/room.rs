//! A bound on the memory that decoding takes in the whole process.

use std::sync::{Condvar, Mutex, PoisonError};

/// Bytes that all images being decoded at one time may take together: 256 MiB.
///
/// An image that needs more than this by itself waits until no other is decoded, and is decoded
/// alone.
pub const MAX_DECODING_BYTES: u64 = 256 << 20;

static USED: Mutex<u64> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// Memory that is counted against [`MAX_DECODING_BYTES`] until this is dropped.
#[derive(Debug)]
pub struct Room {
    bytes: u64,
}

impl Room {
    /// Waits until `bytes` more fit, or nothing else is counted.
    pub(super) fn take(bytes: u64) -> Room {
        // The number is whole after every change, so a thread that panicked left it right.
        let used = USED.lock().unwrap_or_else(PoisonError::into_inner);
        let has_none = |used: &mut u64| *used > 0 && used.saturating_add(bytes) > MAX_DECODING_BYTES;
        let mut used = FREED.wait_while(used, has_none).unwrap_or_else(PoisonError::into_inner);
        *used = used.saturating_add(bytes);
        Room { bytes }
    }

    /// Gives back what is more than `bytes`.
    pub(super) fn shrink(&mut self, bytes: u64) {
        self.give_back(self.bytes.saturating_sub(bytes));
    }

    fn give_back(&mut self, bytes: u64) {
        self.bytes -= bytes;
        *USED.lock().unwrap_or_else(PoisonError::into_inner) -= bytes;
        FREED.notify_all();
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn more_than_the_bound_is_taken_by_one_alone() {
        let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|threads| {
            for i in 0..12 {
                let (now, most) = (&now, &most);
                threads.spawn(move || {
                    // A third of the bound, or twice as much as there is.
                    let bytes = if i % 3 == 0 { 2 * MAX_DECODING_BYTES } else { MAX_DECODING_BYTES / 3 };
                    let mut room = Room::take(bytes);
                    let sum = now.fetch_add(bytes, Ordering::SeqCst) + bytes;
                    assert!(sum == bytes || sum <= MAX_DECODING_BYTES, "{sum}");
                    most.fetch_max(sum, Ordering::SeqCst);
                    std::thread::yield_now();
                    now.fetch_sub(bytes, Ordering::SeqCst);
                    room.shrink(1);
                });
            }
        });
        assert_eq!(most.into_inner(), 2 * MAX_DECODING_BYTES);
    }
}
