//! The bounds of work on images and files, shared by the calls of all clients.
//!
//! Work goes on threads beside those that answer. Short work, such as a list or a preview, and long
//! work, such as a grid that is to be found, have places of their own, so that a few long calls do
//! not take all threads. Memory is taken in advance, from what the headers of images say: small
//! images are worked on together, and one that needs more than all of it goes alone.

use std::thread::available_parallelism;

use dgx_pixels_core::ErrorKind;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::answer::Fault;

/// The memory that images of several calls may take together, in MiB.
const TOGETHER_MIB: u32 = 256;
/// The most long calls at once, on however many cores.
const MOST_LONG: usize = 4;
/// The fewest short calls at once: each mostly waits for the disk.
const FEWEST_SHORT: usize = 4;

/// Places for work, and memory for it.
#[derive(Debug)]
pub(crate) struct PixelWork {
    short: Semaphore,
    long: Semaphore,
    memory: Semaphore,
}

/// The expected length of work, which decides the places that it shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// Milliseconds, for example a list or a preview.
    Short,
    /// Up to seconds of a core.
    Long,
    /// Up to seconds, of which nearly all is waiting for another program.
    Waits,
}

/// `true` once a call is not wanted any more.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    /// The client has given the call up, or has gone.
    pub(crate) call: CancellationToken,
    /// The server stops.
    pub(crate) server: CancellationToken,
}

impl Stop {
    pub(crate) fn is_set(&self) -> bool {
        self.call.is_cancelled() || self.server.is_cancelled()
    }

    /// Returns when it is set.
    pub(crate) async fn set(&self) {
        tokio::select! {
            () = self.call.cancelled() => {}
            () = self.server.cancelled() => {}
        }
    }

    /// # Errors
    /// The fault for a call that is not wanted any more.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        if self.is_set() { Err(self.fault()) } else { Ok(()) }
    }

    /// The answer to it, though only a server that stops is still heard.
    pub(crate) fn fault(&self) -> Fault {
        match self.server.is_cancelled() {
            true => dgx_pixels_core::Error::ShutDown.into(),
            false => Fault::new(ErrorKind::Cancelled, "the call was given up"),
        }
    }
}

impl PixelWork {
    pub(crate) fn new() -> PixelWork {
        let cores = available_parallelism().map_or(1, usize::from);
        PixelWork {
            short: Semaphore::new((2 * cores).max(FEWEST_SHORT)),
            long: Semaphore::new((cores / 2).clamp(1, MOST_LONG)),
            memory: Semaphore::new(TOGETHER_MIB as usize),
        }
    }

    /// Runs `work` on a thread beside those that answer, once there is a place.
    ///
    /// # Errors
    /// The fault for a call that was given up before it had a place; that of `work`.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        length: Length,
        stop: &Stop,
        work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let places = match length {
            Length::Short => Some(&self.short),
            Length::Long => Some(&self.long),
            Length::Waits => None,
        };
        let place = async {
            match places {
                Some(places) => places.acquire().await.ok(),
                None => None,
            }
        };
        let _place = tokio::select! {
            biased;
            () = stop.set() => return Err(stop.fault()),
            place = place => place,
        };
        let done = spawn_blocking(work).await;
        done.unwrap_or_else(|_| {
            Err(Fault::new(ErrorKind::Internal, "failed while working on images; this is a bug"))
        })
    }

    /// Waits until there is memory for `bytes`, on a thread that may wait. It is given back when
    /// the answer is dropped. A thread takes memory once: whoever held some and waited for more
    /// could wait for another that does the same.
    ///
    /// # Errors
    /// The fault for a call that was given up meanwhile.
    pub(crate) fn memory(&self, bytes: u64, stop: &Stop) -> Result<Memory<'_>, Fault> {
        let wanted = u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX).clamp(1, TOGETHER_MIB);
        Handle::current().block_on(async {
            tokio::select! {
                biased;
                () = stop.set() => Err(stop.fault()),
                taken = self.memory.acquire_many(wanted) => Ok(Memory { _taken: taken.ok() }),
            }
        })
    }
}

/// Memory that was taken.
pub(crate) struct Memory<'a> {
    _taken: Option<SemaphorePermit<'a>>,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn stop() -> Stop {
        Stop { call: CancellationToken::new(), server: CancellationToken::new() }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn long_work_never_takes_all_threads_and_short_work_goes_beside_it() {
        let work = Arc::new(PixelWork::new());
        let most = work.long.available_permits();
        let (now, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let begun = Arc::new(tokio::sync::Notify::new());
        let end = CancellationToken::new();
        let calls: Vec<_> = (0..8)
            .map(|_| {
                let (work, now, peak, begun, end) =
                    (work.clone(), now.clone(), peak.clone(), begun.clone(), end.clone());
                tokio::spawn(async move {
                    let job = move || {
                        peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        begun.notify_one();
                        Handle::current().block_on(end.cancelled());
                        now.fetch_sub(1, Ordering::SeqCst);
                        Ok(())
                    };
                    work.run(Length::Long, &stop(), job).await
                })
            })
            .collect();
        begun.notified().await;
        assert_eq!(work.run(Length::Short, &stop(), || Ok(7)).await, Ok(7));
        end.cancel();
        for call in calls {
            call.await.unwrap().unwrap();
        }
        assert!(peak.load(Ordering::SeqCst) <= most);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn small_images_go_together_and_a_large_one_alone() {
        let work = Arc::new(PixelWork::new());
        let waits = work.clone();
        let job = move || {
            let memory = |bytes| waits.memory(bytes, &stop()).unwrap();
            let small = [memory(1 << 20), memory(100 << 20)];
            assert_eq!(waits.memory.available_permits(), 155);
            let gone = Stop { call: CancellationToken::new(), ..stop() };
            gone.call.cancel();
            assert_eq!(
                waits.memory(1 << 40, &gone).err().map(|fault| fault.kind),
                Some(ErrorKind::Cancelled)
            );
            drop(small);
            let _large = memory(1 << 40);
            assert_eq!(waits.memory.available_permits(), 0);
            Ok(())
        };
        work.run(Length::Long, &stop(), job).await.unwrap();
        assert_eq!(work.memory.available_permits(), TOGETHER_MIB as usize);
    }

    #[tokio::test]
    async fn a_call_that_was_given_up_does_not_wait_for_a_place() {
        let work = PixelWork::new();
        let _all = work.long.acquire_many(work.long.available_permits() as u32).await.unwrap();
        let gone = stop();
        gone.call.cancel();
        let fault = work.run(Length::Long, &gone, || Ok(())).await.unwrap_err();
        assert_eq!(fault.kind, ErrorKind::Cancelled);
    }
}
