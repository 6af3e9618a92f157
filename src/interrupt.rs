//! Ctrl-C: the first asks the work to stop where nothing is half done, the second ends the program.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use dgx_pixels_core::ErrorKind;

/// The exit code that a shell reports for a program that Ctrl-C ended: 128 plus the signal's
/// number.
const EXIT_CODE: u8 = ErrorKind::Cancelled.exit_code();

static ASKED: AtomicBool = AtomicBool::new(false);
static WRITING: Mutex<()> = Mutex::new(());

/// Takes Ctrl-C over from the system, which would end the program at once.
pub(crate) fn listen() {
    let on_interrupt = || {
        if ASKED.swap(true, Ordering::SeqCst) {
            whole(|| exit_now());
        }
    };
    // Refused, it stays with the system: that loses the picture being drawn, and leaves no half
    // file either.
    let _ = ctrlc::set_handler(on_interrupt);
}

/// `true` if Ctrl-C was pressed.
pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// The error of work that stops because Ctrl-C was pressed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interrupted;

/// Goes on, unless Ctrl-C was pressed.
///
/// # Errors
/// [`Interrupted`].
pub(crate) fn check() -> Result<(), Interrupted> {
    if asked() { Err(Interrupted) } else { Ok(()) }
}

/// Runs `work`, which a second Ctrl-C does not break off: while a temporary file lies there.
pub(crate) fn whole<T>(work: impl FnOnce() -> T) -> T {
    let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    work()
}

/// Ends the program with [`EXIT_CODE`], whatever its threads do.
pub(crate) fn exit_now() -> ! {
    // SAFETY: ends the process. `std::process::exit` would run libtorch's destructors, under
    // threads that may still be loading weights.
    unsafe { libc::_exit(i32::from(EXIT_CODE)) }
}
