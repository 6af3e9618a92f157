//! Our stream of each GPU, and graphs: a forward pass that was recorded and runs again without the
//! CPU (`stream.cpp`).

use std::ffi::{c_char, c_void};
use std::ptr;

use tch::TchError;

use super::super::device::message;
use crate::device::Device;

type Result<T> = std::result::Result<T, TchError>;

/// While it lives, this thread's operations go to the device, and there to our stream.
#[derive(Debug)]
pub(in super::super) struct OnStream(*mut c_void);

impl OnStream {
    /// Nothing on the CPU.
    pub(in super::super) fn enter(device: Device) -> Result<OnStream> {
        let mut guard = ptr::null_mut();
        if let Device::Cuda(index) = device {
            // SAFETY: makes a guard that `drop` frees, on this thread: the type is not `Send`.
            returned(unsafe { dgx_stream_enter(index as i8, &mut guard) })?;
        }
        Ok(OnStream(guard))
    }
}

impl Drop for OnStream {
    fn drop(&mut self) {
        // SAFETY: made by `enter`, freed once, on the same thread. Null is nothing.
        unsafe { dgx_stream_leave(self.0) }
    }
}

/// Our stream's handle, as CUDA's driver takes it.
pub(super) fn handle(index: usize) -> Result<*mut c_void> {
    let mut stream = ptr::null_mut();
    // SAFETY: `stream` outlives the call.
    returned(unsafe { dgx_stream_handle(index as i8, &mut stream) })?;
    Ok(stream)
}

/// A place in our stream that can be waited for.
#[derive(Debug)]
pub(in super::super) struct Event(*mut c_void);

// SAFETY: CUDA's events may be waited for and freed by any thread.
unsafe impl Send for Event {}

impl Event {
    /// Behind all that was given to our stream so far; `None` on the CPU.
    pub(in super::super) fn record(device: Device) -> Result<Option<Event>> {
        let Device::Cuda(index) = device else { return Ok(None) };
        let mut event = ptr::null_mut();
        // SAFETY: makes an event that `drop` frees, also if recording it failed.
        let failed = unsafe { dgx_event_record(index as i8, &mut event) };
        let event = Event(event);
        returned(failed).map(|()| Some(event))
    }

    /// Waits until the GPU has come there.
    pub(in super::super) fn synchronize(&self) -> Result<()> {
        // SAFETY: the event was recorded.
        returned(unsafe { dgx_event_synchronize(self.0) })
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made by `record`, freed once. Null is nothing.
        unsafe { dgx_event_free(self.0) }
    }
}

/// Memory that recorded graphs share: they run one after the other.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Pool(u64, u64);

impl Pool {
    pub(in super::super) fn new() -> Result<Pool> {
        let (mut first, mut second) = (0, 0);
        // SAFETY: both places outlive the call.
        returned(unsafe { dgx_graph_pool(&mut first, &mut second) })?;
        Ok(Pool(first, second))
    }
}

/// What a closure gave to our stream, to be given again.
#[derive(Debug)]
pub(in super::super) struct Graph(*mut c_void);

// SAFETY: the graph belongs to the one thread that owns its model.
unsafe impl Send for Graph {}

impl Graph {
    /// Records what `work` does, without doing it. The caller is on our stream.
    ///
    /// Tensors that `work` makes lie in `pool`; those that it returns hold what the last
    /// [`replay`](Graph::replay) made.
    pub(in super::super) fn record<T>(pool: Pool, work: impl FnOnce() -> Result<T>) -> Result<(Graph, T)> {
        let mut graph = ptr::null_mut();
        // SAFETY: makes a graph that `drop` frees, also if it cannot begin.
        let failed = unsafe { dgx_graph_begin(pool.0, pool.1, &mut graph) };
        let graph = Graph(graph);
        returned(failed)?;
        let made = work();
        // SAFETY: recording has begun. It is ended also after an error, as the stream is unusable
        // before.
        let ended = returned(unsafe { dgx_graph_end(graph.0) });
        let made = made?;
        ended.map(|()| (graph, made))
    }

    /// Gives it all to our stream once more.
    pub(in super::super) fn replay(&self) -> Result<()> {
        // SAFETY: recording has ended well; addresses in it belong to tensors that its owner keeps.
        returned(unsafe { dgx_graph_replay(self.0) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: made by `record`, freed once. Null is nothing.
        unsafe { dgx_graph_free(self.0) }
    }
}

fn returned(failed: *mut c_char) -> Result<()> {
    message(failed).map_or(Ok(()), |message| Err(TchError::Torch(message)))
}

unsafe extern "C" {
    fn dgx_stream_enter(index: i8, out: *mut *mut c_void) -> *mut c_char;
    fn dgx_stream_leave(guard: *mut c_void);
    fn dgx_stream_handle(index: i8, out: *mut *mut c_void) -> *mut c_char;
    fn dgx_event_record(index: i8, out: *mut *mut c_void) -> *mut c_char;
    fn dgx_event_synchronize(event: *const c_void) -> *mut c_char;
    fn dgx_event_free(event: *mut c_void);
    fn dgx_graph_pool(first: *mut u64, second: *mut u64) -> *mut c_char;
    fn dgx_graph_begin(first: u64, second: u64, out: *mut *mut c_void) -> *mut c_char;
    fn dgx_graph_end(graph: *mut c_void) -> *mut c_char;
    fn dgx_graph_replay(graph: *mut c_void) -> *mut c_char;
    fn dgx_graph_free(graph: *mut c_void);
}
