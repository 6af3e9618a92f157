//! HTTP+SSE of revision 2024-11-05: a client listens at `/sse`, is told where to post, and posts to `/messages`.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::channel::mpsc::{self, SendError, Sender};
use futures::{Sink, SinkExt as _, Stream, StreamExt as _};
use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, JsonRpcMessage, RequestId, ServerJsonRpcMessage,
};
use rmcp::{ServerHandler, ServiceExt as _};
use serde::Deserialize;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::http::busy;

/// Clients that may listen at once.
const MAX_SESSIONS: usize = 64;
/// Calls of one client that may be under way. Over plain HTTP the connections bound them, but here each is answered at once.
const MAX_CALLS: usize = 64;
/// Messages that may wait to be read; a client with more is let go.
const MAX_UNREAD: usize = 64;
const KEEP_ALIVE: Duration = Duration::from_secs(15);

struct Sessions<H> {
    handler: H,
    cancel: CancellationToken,
    open: Mutex<HashMap<Uuid, Session>>,
}

#[derive(Clone)]
struct Session {
    posts: Sender<ClientJsonRpcMessage>,
    calls: Calls,
}

/// Ids of the calls that are under way.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<HashSet<RequestId>>>);

impl<H> Sessions<H> {
    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Calls {
    fn lock(&self) -> MutexGuard<'_, HashSet<RequestId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what the client says may be passed on.
    fn take(&self, message: &ClientJsonRpcMessage) -> bool {
        let mut calls = self.lock();
        match message {
            JsonRpcMessage::Request(request) => calls.len() < MAX_CALLS && calls.insert(request.id.clone()),
            JsonRpcMessage::Notification(notice) => {
                if let ClientNotification::CancelledNotification(cancelled) = &notice.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    // It is not answered any more.
                    calls.remove(id);
                }
                true
            }
            _ => true,
        }
    }

    fn answered(&self, message: &ServerJsonRpcMessage) {
        match message {
            JsonRpcMessage::Response(response) => drop(self.lock().remove(&response.id)),
            JsonRpcMessage::Error(error) => drop(error.id.as_ref().map(|id| self.lock().remove(id))),
            _ => {}
        }
    }
}

/// Where messages wait to be read. Nobody waits for a client that does not read, as each answer that waits is memory.
struct Answers {
    unread: Sender<ServerJsonRpcMessage>,
    served: CancellationToken,
}

impl Sink<ServerJsonRpcMessage> for Answers {
    type Error = SendError;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, message: ServerJsonRpcMessage) -> Result<(), SendError> {
        self.unread.try_send(message).map_err(|error| {
            self.served.cancel();
            error.into_send_error()
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Poll::Ready(Ok(()))
    }
}

pub(super) fn router<H: ServerHandler + Clone>(handler: H, cancel: CancellationToken) -> Router {
    let sessions = Arc::new(Sessions { handler, cancel, open: Mutex::default() });
    Router::new().route("/sse", get(listen::<H>)).route("/messages", post(take::<H>)).with_state(sessions)
}

/// Ends the session when the client has gone and the stream is dropped.
struct Leave<H> {
    sessions: Arc<Sessions<H>>,
    id: Uuid,
    _served: DropGuard,
}

impl<H> Drop for Leave<H> {
    fn drop(&mut self) {
        self.sessions.lock().remove(&self.id);
    }
}

async fn listen<H: ServerHandler + Clone>(State(sessions): State<Arc<Sessions<H>>>) -> Response {
    let id = Uuid::new_v4();
    let (posts, posted) = mpsc::channel(0);
    let (unread, answers) = mpsc::channel(MAX_UNREAD);
    let calls = Calls::default();
    {
        let mut open = sessions.lock();
        if open.len() >= MAX_SESSIONS {
            return busy("too many clients listen; try again in a minute", "60");
        }
        open.insert(id, Session { posts, calls: calls.clone() });
    }
    let served = sessions.cancel.child_token();
    let leave = Leave { sessions: sessions.clone(), id, _served: served.clone().drop_guard() };
    let answered = Answers { unread, served: served.clone() };
    tokio::spawn(async move {
        match sessions.handler.clone().serve_with_ct((answered, posted), served).await {
            Ok(running) => drop(running.waiting().await),
            Err(error) => tracing::debug!(%error, "a client of /sse did not begin"),
        }
        sessions.lock().remove(&id);
    });
    Sse::new(events(id, answers, calls, leave))
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response()
}

fn events<H: Send + Sync + 'static>(
    id: Uuid,
    answers: mpsc::Receiver<ServerJsonRpcMessage>,
    calls: Calls,
    leave: Leave<H>,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let endpoint = Event::default().event("endpoint").data(format!("/messages?session_id={id}"));
    let messages = answers.filter_map(move |message| {
        let _stays_until_the_stream_goes = &leave;
        calls.answered(&message);
        let event = Event::default().event("message").json_data(&message);
        std::future::ready(event.ok())
    });
    futures::stream::once(std::future::ready(endpoint)).chain(messages).map(Ok)
}

#[derive(Deserialize)]
struct Place {
    session_id: Uuid,
}

async fn take<H>(
    State(sessions): State<Arc<Sessions<H>>>,
    Query(Place { session_id }): Query<Place>,
    body: Bytes,
) -> Response {
    let gone = (StatusCode::NOT_FOUND, "there is no such session; begin one at /sse");
    let Some(Session { mut posts, calls }) = sessions.lock().get(&session_id).cloned() else {
        return gone.into_response();
    };
    let message = match serde_json::from_slice::<ClientJsonRpcMessage>(&body) {
        Ok(message) => message,
        Err(error) => {
            return (StatusCode::BAD_REQUEST, format!("this is no JSON-RPC message: {error}"))
                .into_response();
        }
    };
    if !calls.take(&message) {
        return busy(
            "too many calls are under way, or one has this id; try again when one was answered",
            "1",
        );
    }
    match posts.send(message).await {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(_) => gone.into_response(),
    }
}
