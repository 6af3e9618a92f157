//! The hand-over from the threads of devices to the threads that write: a queue that several take
//! from, and that ends once it is closed and empty.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use image::RgbImage;

use super::task::Task;
use crate::backend::Latents;
use crate::error::Error;
use crate::job::JobTimings;
use crate::request::ResolvedRequest;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::mpsc::{self, Receiver, Sender};

/// The message that a device's thread hands over.
pub(super) enum Post {
    Decoded(Box<Decoded>),
    Failed { task: Arc<Task>, error: Error },
}

/// An image as the model gave it.
pub(super) struct Decoded {
    pub(super) task: Arc<Task>,
    /// The number in the queue, to which the job returns if it is drawn again.
    pub(super) number: u64,
    pub(super) image: RgbImage,
    pub(super) latents: Option<Latents>,
    /// The request with every default filled in.
    pub(super) request: ResolvedRequest,
    pub(super) dropped_words: Option<String>,
    pub(super) device: Arc<str>,
    pub(super) timings: JobTimings,
    pub(super) last_step: Instant,
}

/// A queue from many threads to many. Images are counted until they are written, so that the engine
/// does not end, and begins no new job, while too many wait.
pub(super) struct HandOver<T> {
    /// `None` once it is closed.
    sender: Mutex<Option<Sender<T>>>,
    receiver: Mutex<Receiver<T>>,
    unwritten: AtomicUsize,
}

impl<T> HandOver<T> {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel();
        HandOver {
            sender: Mutex::new(Some(sender)),
            receiver: Mutex::new(receiver),
            unwritten: AtomicUsize::new(0),
        }
    }

    /// Hands something over. After [`close`](Self::close) it is dropped.
    pub(super) fn hand(&self, item: T) {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = sender.as_ref().map(|sender| sender.send(item));
    }

    /// Hands an image over, which counts until [`written`](Self::written) is called for it.
    pub(super) fn hand_image(&self, image: T) {
        self.unwritten.fetch_add(1, Ordering::SeqCst);
        self.hand(image);
    }

    /// The next item; waits for it. `None` once all were taken and none comes any more.
    pub(super) fn take(&self) -> Option<T> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
    }

    /// An image is written, or will not be.
    pub(super) fn written(&self) {
        self.unwritten.fetch_sub(1, Ordering::SeqCst);
    }

    /// The images that were handed over and are not written yet.
    pub(super) fn unwritten(&self) -> usize {
        self.unwritten.load(Ordering::SeqCst)
    }

    /// Takes nothing more, and lets [`take`](Self::take) end when it has returned everything.
    pub(super) fn close(&self) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

#[cfg(all(test, shuttle))]
mod schedules;
