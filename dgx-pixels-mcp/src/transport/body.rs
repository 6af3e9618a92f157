//! Bodies of requests, which are received whole before anything else happens.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures::future::poll_fn;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::answer::busy;
use super::connections::Connection;

/// The size from which a body is large. Nearly all requests are smaller.
pub(super) const LARGE_BYTES: usize = 64 << 10;
/// Large bodies in memory at once.
const MAX_LARGE: usize = 32;

/// The limits for the bodies of requests.
#[derive(Clone)]
pub(super) struct Bodies {
    max_bytes: usize,
    patience: Duration,
    large: Arc<Semaphore>,
}

impl Bodies {
    pub(super) fn new(max_bytes: usize, patience: Duration) -> Bodies {
        Bodies { max_bytes, patience, large: Arc::new(Semaphore::new(MAX_LARGE)) }
    }

    async fn collect(&self, body: Body) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Response> {
        let mut body = std::pin::pin!(body);
        let (mut collected, mut place) = (Vec::new(), None);
        while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            let frame = frame.map_err(|error| {
                (StatusCode::BAD_REQUEST, format!("the body ended early: {error}")).into_response()
            })?;
            let Ok(data) = frame.into_data() else { continue };
            if collected.len() + data.len() > self.max_bytes {
                return Err(too_large(self.max_bytes));
            }
            collected.extend_from_slice(&data);
            if place.is_none() && collected.len() >= LARGE_BYTES {
                let free = self.large.clone().try_acquire_owned();
                place = Some(free.map_err(|_| busy("too many large requests at once; try again", "1"))?);
            }
        }
        Ok((collected.into(), place))
    }
}

/// Receives the whole body of a request, within the limits, before it takes a place among the
/// running requests.
pub(super) async fn receive(State(bodies): State<Bodies>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let length =
        parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: usize| length > bodies.max_bytes) {
        return too_large(bodies.max_bytes);
    }
    let (body, place) = match timeout(bodies.patience, bodies.collect(body)).await {
        Ok(Ok(received)) => received,
        Ok(Err(refusal)) => return refusal,
        Err(_) => {
            let seconds = bodies.patience.as_secs_f64();
            let reason = format!("the request took longer than {seconds} s to arrive");
            return (StatusCode::REQUEST_TIMEOUT, [(header::CONNECTION, "close")], reason).into_response();
        }
    };
    if let Some(connection) = parts.extensions.get::<Arc<Connection>>() {
        connection.works();
    }
    let response = next.run(Request::from_parts(parts, body.into())).await;
    drop(place);
    response
}

fn too_large(max_bytes: usize) -> Response {
    let reason = format!("the request is too large; at most {max_bytes} bytes");
    (StatusCode::PAYLOAD_TOO_LARGE, reason).into_response()
}
