//! Answers that several parts of the HTTP server give: refusals, the mark of a stream, and bodies
//! that hold what they use until they are sent.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hyper::body::{Frame, SizeHint};

use super::message::Fault;

/// Marks the response of a stream that no call waits for.
#[derive(Clone)]
pub(super) struct Listening;

/// Says when to come back.
pub(super) fn busy(reason: &'static str, seconds: &'static str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, seconds)], reason).into_response()
}

/// HTTP 400, with the fault as JSON-RPC.
pub(super) fn bad_request(fault: Fault) -> Response {
    (StatusCode::BAD_REQUEST, axum::Json(fault.message())).into_response()
}

/// The body of an answer, with a value that is dropped when all of it was sent or the client has
/// gone.
pub(super) struct Holding<T> {
    body: Body,
    held: Option<T>,
}

impl<T: Send + Unpin + 'static> Holding<T> {
    pub(super) fn response(response: Response, held: T) -> Response {
        response.map(|body| Body::new(Holding { body, held: Some(held) }))
    }
}

impl<T: Unpin> HttpBody for Holding<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None)) {
            self.held = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
