//! The settings that libtorch has once for a whole process, and the right to change them.

use std::sync::OnceLock;

use super::threads::share_processors;
use crate::error::Error;

static OWNED: OnceLock<Result<(), Error>> = OnceLock::new();

/// Lets this library change what libtorch has of the whole process. For programs, before they draw;
/// only the first call does something.
///
/// - CPU memory is counted for all tensors, large blocks are kept for the next tensor, and a budget
///   is kept by refusing allocations. For that `malloc` is told to map each block of 256 KiB or
///   more by itself.
/// - Threads are fitted to a machine that does other work too.
/// - A budget of GPU memory becomes the limit of libtorch's allocator.
/// - cuDNN's attention is switched off where it would crash for lack of NVRTC.
///
/// Without this call nothing of it happens: the process may be Python's, or another user of
/// libtorch's. Memory is then counted on the threads that draw, and a budget is kept by planning
/// alone.
///
/// # Errors
/// [`Error::Internal`] if a thread cannot be started.
pub fn own_process() -> Result<(), Error> {
    let own = || {
        // SAFETY: libtorch reads both pointers at each use; blocks know who frees them.
        unsafe {
            dgx_cpu_install();
            dgx_note_all_errors();
        }
        share_processors()
    };
    OWNED.get_or_init(own).clone()
}

/// `true` after [`own_process`].
pub(super) fn is_owned() -> bool {
    OWNED.get().is_some()
}

unsafe extern "C" {
    fn dgx_cpu_install();
    fn dgx_note_all_errors();
}
