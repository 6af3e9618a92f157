//! Places for running calls. Calls that take long have places of their own, so that they cannot
//! keep the quick ones out.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::answer::{Holding, Listening, busy};

/// Calls that have just begun.
const QUICK: usize = 64;
/// The time after which a call needs a place among the long ones.
const QUICK_TIME: Duration = Duration::from_millis(250);
/// The time that a call waits to begin. Places get free at least every [`QUICK_TIME`].
const WAIT: Duration = Duration::from_secs(5);

/// The places.
#[derive(Clone)]
pub(super) struct Slots {
    quick: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

impl Slots {
    pub(super) fn new(long: usize) -> Slots {
        Slots { quick: Arc::new(Semaphore::new(QUICK)), long: Arc::new(Semaphore::new(long)) }
    }
}

/// Runs a call in a place, or answers when to come back.
pub(super) async fn admit(State(slots): State<Slots>, request: Request, next: Next) -> Response {
    let full = || busy("too many requests at once; try again", "1");
    let Ok(Ok(quick)) = timeout(WAIT, slots.quick.clone().acquire_owned()).await else { return full() };
    let mut call = std::pin::pin!(next.run(request));
    let ended = tokio::select! {
        response = &mut call => Ok(response),
        () = sleep(QUICK_TIME) => Err(quick),
    };
    match ended {
        Ok(response) if is_stream(&response) && response.extensions().get::<Listening>().is_none() => {
            // The call goes on while its stream is read.
            let Ok(long) = slots.long.try_acquire_owned() else { return full() };
            Holding::response(response, long)
        }
        Ok(response) => response,
        Err(quick) => {
            let Ok(long) = slots.long.try_acquire_owned() else { return full() };
            drop(quick);
            Holding::response(call.await, long)
        }
    }
}

fn is_stream(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}
