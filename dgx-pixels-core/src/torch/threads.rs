//! Threads of libtorch on a CPU: how many there are, and how they wait for each other.
//!
//! libtorch computes with OpenMP, whose threads spin while they wait. On a machine that does anything
//! else, a spinning thread takes the core that the thread it waits for needs, and an image takes ten
//! times as long. libgomp reads the policy in its constructor, before `main`, so a program has to set
//! it before libgomp is loaded.

use std::ffi::{CStr, c_char, c_int};
use std::ptr;

/// The variables of libgomp that decide how its threads wait. The user's own choice is kept.
const DECIDED_BY: [&[u8]; 2] = [b"OMP_WAIT_POLICY=", b"GOMP_SPINCOUNT="];
/// Environments of more variables are left as they are.
const MAX_VARIABLES: usize = 4096;

/// A function that the dynamic linker calls before any library's constructor.
pub type BeforeLibraries = unsafe extern "C" fn(c_int, *const *const c_char, *const *const c_char);

/// Makes OpenMP's threads sleep while they wait: starts this program once more, with
/// `OMP_WAIT_POLICY=passive` in its environment.
///
/// A program names it in `.preinit_array`, which the dynamic linker runs before the constructors of
/// libraries. libtorch's take a quarter of a second, and so are run once; what is done twice is the
/// mapping of the libraries, some 10 ms. Where the variable is set already, or the program cannot be
/// started again, nothing is done.
///
/// # Safety
/// To be called by the dynamic linker alone, with the process's arguments and environment. Neither
/// Rust's runtime nor any library is initialized then, so nothing here allocates.
///
/// # Example
/// ```no_run
/// use dgx_pixels_core::torch::{BeforeLibraries, wait_passively};
///
/// #[used]
/// #[unsafe(link_section = ".preinit_array")]
/// static WAIT_PASSIVELY: BeforeLibraries = wait_passively;
/// ```
pub unsafe extern "C" fn wait_passively(
    _count: c_int,
    arguments: *const *const c_char,
    environment: *const *const c_char,
) {
    let mut variables: [*const c_char; MAX_VARIABLES + 2] = [ptr::null(); MAX_VARIABLES + 2];
    variables[0] = c"OMP_WAIT_POLICY=passive".as_ptr();
    // SAFETY: both arrays are the process's own and end in a null pointer; each entry before it is a
    // string that ends in a zero byte. `execve` is a system call and needs no initialized library.
    unsafe {
        for i in 0.. {
            let variable = *environment.add(i);
            if variable.is_null() {
                break;
            }
            let text = CStr::from_ptr(variable).to_bytes();
            if i == MAX_VARIABLES || DECIDED_BY.iter().any(|name| text.starts_with(name)) {
                return;
            }
            variables[i + 1] = variable;
        }
        libc::execve(c"/proc/self/exe".as_ptr(), arguments, variables.as_ptr());
    }
}

/// Takes no more threads than this process may use at once, by its CPU quota and its affinity.
///
/// OpenMP knows the affinity only: in a container that may use two of 64 processors it would start 64
/// threads. `OMP_NUM_THREADS` is the user's own choice, and is kept.
pub fn limit_threads() {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from) as i32;
    if std::env::var_os("OMP_NUM_THREADS").is_none() && tch::get_num_threads() > allowed {
        tch::set_num_threads(allowed);
    }
}
