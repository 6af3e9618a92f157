//! Shuttle's primitives, and an event that is made of them.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use shuttle::sync::{Arc, Condvar};
pub(crate) use shuttle::sync::{Mutex, MutexGuard, atomic, mpsc};
pub(crate) use shuttle::thread;

/// The event of `event-listener`, made of shuttle's parts.
#[derive(Default)]
pub(crate) struct Event(Arc<(Mutex<Notified>, Condvar)>);

#[derive(Default)]
struct Notified {
    times: u64,
    wakers: Vec<Waker>,
}

impl Event {
    pub(crate) fn new() -> Self {
        Event::default()
    }

    /// Listens for the notifications from now on.
    pub(crate) fn listen(&self) -> EventListener {
        let seen = self.0.0.lock().unwrap().times;
        EventListener { event: self.0.clone(), seen }
    }

    pub(crate) fn notify(&self, _: usize) {
        let mut notified = self.0.0.lock().unwrap();
        notified.times += 1;
        notified.wakers.drain(..).for_each(Waker::wake);
        self.0.1.notify_all();
    }
}

pub(crate) struct EventListener {
    event: Arc<(Mutex<Notified>, Condvar)>,
    seen: u64,
}

pub(crate) trait Listener {
    fn wait(self);
    fn wait_deadline(self, deadline: Instant) -> Option<()>;
}

impl Listener for EventListener {
    fn wait(self) {
        let mut notified = self.event.0.lock().unwrap();
        while notified.times == self.seen {
            notified = self.event.1.wait(notified).unwrap();
        }
    }

    /// Time does not pass between scheduled threads.
    fn wait_deadline(self, _: Instant) -> Option<()> {
        self.wait();
        Some(())
    }
}

impl Future for EventListener {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut notified = self.event.0.lock().unwrap();
        if notified.times != self.seen {
            return Poll::Ready(());
        }
        notified.wakers.push(context.waker().clone());
        Poll::Pending
    }
}
