//! The thread that tells event loops of asyncio: it alone takes Python's lock for them, so that an
//! engine's thread never waits for it.

use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// A callback, and the event loop that is to call it.
pub(crate) struct Notice {
    pub(crate) event_loop: Py<PyAny>,
    pub(crate) callback: Py<PyAny>,
}

/// Has the event loop call the callback, soon and on its own thread.
pub(crate) fn notify(notice: Notice) {
    static SENDER: OnceLock<Sender<Notice>> = OnceLock::new();
    let sender = SENDER.get_or_init(|| {
        let (sender, receiver) = mpsc::channel();
        thread::Builder::new()
            .name("dgx-pixels notifier".into())
            .spawn(move || run(&receiver))
            .expect("the system starts one more thread");
        sender
    });
    // The thread ends with the interpreter; nobody is left to be told then.
    if let Err(mpsc::SendError(notice)) = sender.send(notice) {
        std::mem::forget(notice);
    }
}

fn run(receiver: &Receiver<Notice>) {
    while let Ok(first) = receiver.recv() {
        let mut notices = vec![first];
        notices.extend(receiver.try_iter());
        let is_told = Python::try_attach(|py| {
            for Notice { event_loop, callback } in notices.drain(..) {
                let told = event_loop.bind(py).call_method1("call_soon_threadsafe", (callback,));
                // A closed loop has nobody who waits.
                if let Err(error) = told.map(drop)
                    && !error.is_instance_of::<PyRuntimeError>(py)
                {
                    error.write_unraisable(py, None);
                }
            }
        });
        if is_told.is_none() {
            notices.into_iter().for_each(std::mem::forget);
            return;
        }
    }
}
