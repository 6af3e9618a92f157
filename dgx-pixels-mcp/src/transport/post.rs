//! Requests to `/mcp`, made ready for rmcp: messages are checked, batches taken apart, and clients
//! that read JSON only are answered in JSON.

use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header, request};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use futures::future::poll_fn;
use rmcp::model::{ClientJsonRpcMessage, ClientRequest, JsonRpcMessage, RequestId};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::answer::{Holding, Listening, bad_request};
use super::body::LARGE_BYTES;
use super::connections::Connection;
use super::message::{self, Fault, Incoming};
use super::sessions::{SESSION_ID, Sessions};

const JSON: &str = "application/json";
const EVENT_STREAM: &str = "text/event-stream";
const VERSION: &str = "mcp-protocol-version";
/// Messages of one batch that are answered at once.
const BATCH_AT_ONCE: usize = 8;
/// Sessions that begin at once.
const BEGIN_AT_ONCE: usize = 2;
/// The longest answer that is read back from rmcp for a client of JSON only.
const MAX_ANSWER: usize = 64 << 20;

/// The state that requests to `/mcp` share.
#[derive(Clone)]
pub(super) struct Entry {
    sessions: Arc<Sessions>,
    /// Large messages are read one at a time.
    turn: Arc<Semaphore>,
    /// Sessions begin a few at a time, so that a flood of them waits here, and not before
    /// everything else.
    beginnings: Arc<Semaphore>,
}

impl Entry {
    pub(super) fn new(sessions: Arc<Sessions>) -> Entry {
        Entry {
            sessions,
            turn: Arc::new(Semaphore::new(1)),
            beginnings: Arc::new(Semaphore::new(BEGIN_AT_ONCE)),
        }
    }
}

/// Takes a request, and answers as rmcp does or says what is wrong with it.
pub(super) async fn take(State(entry): State<Entry>, request: Request, next: Next) -> Response {
    let session = Sessions::id(request.headers());
    let using = session.clone().and_then(|id| entry.sessions.uses(id));
    let connection = request.extensions().get::<Arc<Connection>>().cloned();
    let mut response = match *request.method() {
        Method::POST => {
            let (parts, body) = request.into_parts();
            // It was received already, within its limit.
            match to_bytes(body, usize::MAX).await {
                Ok(bytes) if bytes.len() < LARGE_BYTES => entry.post(parts, bytes, next).await,
                Ok(bytes) => entry.post_large(parts, bytes, next).await,
                Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
            }
        }
        Method::GET => {
            let mut response = next.run(request).await;
            response.extensions_mut().insert(Listening);
            response
        }
        _ => next.run(request).await,
    };
    if session.is_none()
        && let Some(id) = Sessions::id(response.headers())
    {
        entry.sessions.began(id);
    }
    if response.extensions().get::<Listening>().is_some() && is_stream(response.headers()) {
        connection.inspect(|connection| connection.listens());
    } else {
        response.extensions_mut().remove::<Listening>();
    }
    match using {
        Some(using) => Holding::response(response, using),
        None => response,
    }
}

impl Entry {
    /// Answers a large message. Reading it takes milliseconds, which nobody else should wait for,
    /// so there is one at a time, on a thread that answers nobody else.
    async fn post_large(&self, parts: request::Parts, bytes: Bytes, next: Next) -> Response {
        let mut turn = self.turn.clone().acquire_owned().await.ok();
        let gone = CancellationToken::new();
        let (entry, has_gone, _guard) = (self.clone(), gone.clone(), gone.drop_guard());
        let runtime = Handle::current();
        let work = move || {
            runtime.block_on(async {
                let mut answered = std::pin::pin!(entry.post(parts, bytes, next));
                let answered = poll_fn(|cx| {
                    let polled = answered.as_mut().poll(cx);
                    // What follows only waits.
                    turn = None;
                    polled
                });
                has_gone.run_until_cancelled(answered).await
            })
        };
        match spawn_blocking(work).await {
            Ok(Some(response)) => response,
            _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }

    async fn post(&self, parts: request::Parts, bytes: Bytes, next: Next) -> Response {
        let accepts = Accepts::of(&parts.headers);
        if !accepts.json {
            let reason = "Accept does not allow the answer; expected application/json and text/event-stream";
            return (StatusCode::NOT_ACCEPTABLE, reason).into_response();
        }
        if !is(parts.headers.get(header::CONTENT_TYPE), JSON) {
            let reason = "Content-Type is not supported; expected application/json";
            return (StatusCode::UNSUPPORTED_MEDIA_TYPE, reason).into_response();
        }
        match message::read(&bytes) {
            Ok(Incoming::One(message)) => self.one(parts, *message, bytes, accepts, next).await,
            Ok(Incoming::Batch(messages)) => self.batch(parts, messages, next).await,
            Err(fault) => self.refuse(&parts.headers, fault).await,
        }
    }

    /// Passes a message on to rmcp.
    async fn one(
        &self,
        mut parts: request::Parts,
        message: ClientJsonRpcMessage,
        bytes: Bytes,
        accepts: Accepts,
        next: Next,
    ) -> Response {
        let (mut id, mut listens, mut beginning) = (None, false, None);
        if let JsonRpcMessage::Request(request) = message {
            match request.request {
                ClientRequest::InitializeRequest(_) if !parts.headers.contains_key(SESSION_ID) => {
                    beginning = self.beginnings.acquire().await.ok();
                    self.sessions.make_room().await;
                }
                ClientRequest::SubscriptionsListenRequest(_) => listens = true,
                _ => {}
            }
            id = Some(request.id);
        }
        // rmcp insists on both, and where one answer is due the other form can be made of it.
        let both = HeaderValue::from_static("application/json, text/event-stream");
        parts.headers.insert(header::ACCEPT, both);
        parts.headers.insert(header::CONTENT_LENGTH, bytes.len().into());
        let mut response = next.run(Request::from_parts(parts, Body::from(bytes))).await;
        drop(beginning);
        if accepts.stream || !is_stream(response.headers()) {
            if listens {
                response.extensions_mut().insert(Listening);
            }
            return response;
        }
        if listens {
            let reason = "Accept does not allow the answer, a stream; expected text/event-stream";
            return (StatusCode::NOT_ACCEPTABLE, reason).into_response();
        }
        let (mut parts, body) = response.into_parts();
        match id {
            Some(id) => match answer_in(body, &id).await {
                Some(answer) => {
                    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
                    parts.headers.remove(header::CONTENT_LENGTH);
                    Response::from_parts(parts, answer.to_string().into())
                }
                None => {
                    (StatusCode::SERVICE_UNAVAILABLE, "the session ended before the answer").into_response()
                }
            },
            None => Response::from_parts(parts, body),
        }
    }

    /// Answers every message of a batch, as revision 2025-03-26 has them, with a batch of JSON.
    async fn batch(&self, parts: request::Parts, messages: Vec<Vec<u8>>, next: Next) -> Response {
        let version = parts.headers.get(VERSION).and_then(|version| version.to_str().ok());
        if let Some(fault) = message::fault_of_batch(version) {
            return self.refuse(&parts.headers, fault).await;
        }
        let answers = futures::stream::iter(messages).map(|bytes| {
            let (parts, next) = (parts.clone(), next.clone());
            async move {
                let read = message::read_one(&bytes);
                let read = read.and_then(|message| match message::fault_in_batch(&message) {
                    Some(fault) => Err(fault),
                    None => Ok(message),
                });
                let message = match read {
                    Ok(message) => message,
                    Err(fault) => return Ok(Some(json!(fault.message()))),
                };
                let is_request = matches!(message, JsonRpcMessage::Request(_));
                let accepts = Accepts { json: true, stream: false };
                let response = self.one(parts, message, bytes.into(), accepts, next).await;
                let (head, body) = response.into_parts();
                let bytes = to_bytes(body, MAX_ANSWER).await.unwrap_or_default();
                match serde_json::from_slice::<Value>(&bytes) {
                    Ok(answer) if is_request => Ok(Some(answer)),
                    _ if head.status.is_success() && !is_request => Ok(None),
                    // The session is not there, and so for all of them.
                    _ => Err(Response::from_parts(head, bytes.into())),
                }
            }
        });
        let answers: Vec<_> = answers.buffered(BATCH_AT_ONCE).collect().await;
        let mut all = vec![];
        for answer in answers {
            match answer {
                Ok(answer) => all.extend(answer),
                Err(response) => return response,
            }
        }
        match all.as_slice() {
            [] => StatusCode::ACCEPTED.into_response(),
            _ => axum::Json(all).into_response(),
        }
    }

    /// The answer to what cannot be passed on.
    async fn refuse(&self, headers: &HeaderMap, fault: Fault) -> Response {
        if fault.is_about_params() {
            // An answer like any other: the message was a request.
            return match Sessions::id(headers) {
                Some(id) if !self.sessions.has(&id).await => {
                    (StatusCode::NOT_FOUND, "Not Found: Session not found").into_response()
                }
                _ => axum::Json(fault.message()).into_response(),
            };
        }
        bad_request(fault)
    }
}

/// The answer to the request `id` in a stream of events.
async fn answer_in(body: Body, id: &RequestId) -> Option<Value> {
    let id = json!(id);
    let mut body = body.into_data_stream();
    let (mut text, mut searched) = (Vec::new(), 0_usize);
    while let Some(Ok(bytes)) = body.next().await {
        text.extend_from_slice(&bytes);
        while let Some(end) = text[searched..].windows(2).position(|end| end == b"\n\n") {
            let event: Vec<u8> = text.drain(..searched + end + 2).collect();
            searched = 0;
            let lines = event.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"data:"));
            let message: Option<Value> = serde_json::from_slice(&lines.collect::<Vec<_>>().concat()).ok();
            let is_answer = |message: &Value| message["id"] == id && message["method"].is_null();
            if let Some(message) = message.filter(is_answer) {
                return Some(message);
            }
        }
        if text.len() > MAX_ANSWER {
            return None;
        }
        searched = text.len().saturating_sub(1);
    }
    None
}

/// The forms of an answer that a client reads.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Accepts {
    json: bool,
    stream: bool,
}

impl Accepts {
    fn of(headers: &HeaderMap) -> Accepts {
        if !headers.contains_key(header::ACCEPT) {
            return Accepts { json: true, stream: false };
        }
        let mut accepts = Accepts { json: false, stream: false };
        let lists = headers.get_all(header::ACCEPT).iter().filter_map(|list| list.to_str().ok());
        for range in lists.flat_map(|list| list.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
            if weight.is_some_and(|weight| weight.parse() == Ok(0.0)) {
                continue;
            }
            accepts.json |= ["application/json", "application/*", "*/*"].contains(&kind.as_str());
            accepts.stream |= [EVENT_STREAM, "text/*"].contains(&kind.as_str());
        }
        accepts
    }
}

fn is_stream(headers: &HeaderMap) -> bool {
    is(headers.get(header::CONTENT_TYPE), EVENT_STREAM)
}

fn is(value: Option<&HeaderValue>, kind: &str) -> bool {
    let value = value.and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_is_read_with_ranges_and_weights() {
        for (value, json, stream) in [
            ("application/json, text/event-stream", true, true),
            ("application/json", true, false),
            ("Application/JSON;q=0.9", true, false),
            ("*/*", true, false),
            ("text/event-stream", false, true),
            ("text/html", false, false),
            ("application/json;q=0", false, false),
            ("application/json; q=0.0, text/event-stream;q=1", false, true),
            ("", false, false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, value.parse().unwrap());
            assert_eq!(Accepts::of(&headers), Accepts { json, stream }, "{value}");
        }
        assert_eq!(Accepts::of(&HeaderMap::new()), Accepts { json: true, stream: false });
    }
}
