//! HTTP+SSE of revision 2024-11-05: a client listens at `/sse`, is told where to post, and posts to `/messages`.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::channel::mpsc::{self, Sender};
use futures::{SinkExt as _, Stream, StreamExt as _};
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::{ServerHandler, ServiceExt as _};
use serde::Deserialize;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

/// Clients that may listen at once.
const MAX_SESSIONS: usize = 64;
/// Messages that wait for a client who does not read, or for a server that is busy. More make whoever sends them wait.
const BUFFERED: usize = 32;
const KEEP_ALIVE: Duration = Duration::from_secs(15);

struct Sessions<H> {
    handler: H,
    stop: CancellationToken,
    posts: Mutex<HashMap<Uuid, Sender<ClientJsonRpcMessage>>>,
}

impl<H> Sessions<H> {
    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Sender<ClientJsonRpcMessage>>> {
        self.posts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn router<H: ServerHandler + Clone>(handler: H, stop: CancellationToken) -> Router {
    let sessions = Arc::new(Sessions { handler, stop, posts: Mutex::default() });
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
    let (posts, posted) = mpsc::channel(BUFFERED);
    let (answers, answered) = mpsc::channel::<ServerJsonRpcMessage>(BUFFERED);
    {
        let mut open = sessions.lock();
        if open.len() >= MAX_SESSIONS {
            return (StatusCode::SERVICE_UNAVAILABLE, "too many clients listen; try again").into_response();
        }
        open.insert(id, posts);
    }
    let served = sessions.stop.child_token();
    let leave = Leave { sessions: sessions.clone(), id, _served: served.clone().drop_guard() };
    let handler = sessions.handler.clone();
    tokio::spawn(async move {
        match handler.serve_with_ct((answers, posted), served).await {
            Ok(running) => drop(running.waiting().await),
            Err(error) => tracing::debug!(%error, "a client of /sse did not begin"),
        }
    });
    Sse::new(events(id, answered, leave)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

fn events<H: Send + Sync + 'static>(
    id: Uuid,
    answered: mpsc::Receiver<ServerJsonRpcMessage>,
    leave: Leave<H>,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let endpoint = Event::default().event("endpoint").data(format!("/messages?session_id={id}"));
    let messages = answered.filter_map(move |message| {
        let _stays_until_the_stream_goes = &leave;
        let event = Event::default().event("message").json_data(&message);
        std::future::ready(event.ok())
    });
    futures::stream::once(std::future::ready(endpoint)).chain(messages).map(Ok)
}

#[derive(Deserialize)]
struct Session {
    session_id: Uuid,
}

async fn take<H>(
    State(sessions): State<Arc<Sessions<H>>>,
    Query(Session { session_id }): Query<Session>,
    body: Bytes,
) -> Response {
    let Some(mut posts) = sessions.lock().get(&session_id).cloned() else {
        return (StatusCode::NOT_FOUND, "there is no such session; begin one at /sse").into_response();
    };
    let message = match serde_json::from_slice::<ClientJsonRpcMessage>(&body) {
        Ok(message) => message,
        Err(error) => {
            return (StatusCode::BAD_REQUEST, format!("this is no JSON-RPC message: {error}"))
                .into_response();
        }
    };
    match posts.send(message).await {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(_) => (StatusCode::GONE, "the session has ended; begin one at /sse").into_response(),
    }
}
