//! HTTP+SSE of revision 2024-11-05: a client listens at `/sse`, is told where to post, and posts to
//! `/messages`.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Extension, Query, State};
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

use super::answer::{Listening, bad_request, busy};
use super::connections::Connection;
use super::message::{self, Fault, Incoming, Opening};

/// Clients that may listen at once; for another, the idlest is let go.
const MAX_SESSIONS: usize = 64;
/// Calls of one client that may be under way. Over plain HTTP the connections bound them, but here
/// each is answered at once.
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
    answers: Answers,
    calls: Calls,
    opening: Arc<Mutex<Opening>>,
    /// `true` if the client has posted anything.
    was_used: bool,
    last: Instant,
}

impl Session {
    /// A place in the order in which sessions are let go, the first first: clients that never
    /// posted, then those that wait for no answer, then the rest, each by its last message.
    fn rank(&self) -> (bool, bool, Instant) {
        (self.was_used, !self.calls.lock().is_empty(), self.last)
    }
}

/// Ids of the calls that are under way.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<HashSet<RequestId>>>);

impl<H> Sessions<H> {
    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a session in, and lets the idlest go where there are too many.
    fn begin(&self, id: Uuid, session: Session) {
        let mut open = self.lock();
        if open.len() >= MAX_SESSIONS {
            let idlest = open.iter().min_by_key(|(_, session)| session.rank()).map(|(id, _)| *id);
            if let Some(session) = idlest.and_then(|id| open.remove(&id)) {
                tracing::debug!("{MAX_SESSIONS} clients listen at /sse; the idlest is let go for another");
                session.answers.served.cancel();
            }
        }
        open.insert(id, session);
    }
}

impl Calls {
    fn lock(&self) -> MutexGuard<'_, HashSet<RequestId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `true` if the client's message may be passed on.
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

/// A buffer of messages that the client has not read. The server does not wait for a client that
/// does not read, because each waiting answer takes memory.
#[derive(Clone)]
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

async fn listen<H: ServerHandler + Clone>(
    State(sessions): State<Arc<Sessions<H>>>,
    connection: Option<Extension<Arc<Connection>>>,
) -> Response {
    let id = Uuid::new_v4();
    let (posts, posted) = mpsc::channel(0);
    let (unread, answers) = mpsc::channel(MAX_UNREAD);
    let calls = Calls::default();
    let served = sessions.cancel.child_token();
    let leave = Leave { sessions: sessions.clone(), id, _served: served.clone().drop_guard() };
    let answered = Answers { unread, served: served.clone() };
    sessions.begin(
        id,
        Session {
            posts,
            answers: answered.clone(),
            calls: calls.clone(),
            opening: Arc::default(),
            was_used: false,
            last: Instant::now(),
        },
    );
    tokio::spawn(async move {
        match sessions.handler.clone().serve_with_ct((answered, posted), served).await {
            Ok(running) => drop(running.waiting().await),
            Err(error) => tracing::debug!(%error, "a client of /sse did not begin"),
        }
        sessions.lock().remove(&id);
    });
    if let Some(Extension(connection)) = connection {
        connection.listens();
    }
    let stream = Sse::new(events(id, answers, calls, leave));
    (Extension(Listening), stream.keep_alive(KeepAlive::new().interval(KEEP_ALIVE))).into_response()
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
    let session = sessions.lock().get_mut(&session_id).map(|session| {
        (session.was_used, session.last) = (true, Instant::now());
        session.clone()
    });
    let Some(mut session) = session else { return gone() };
    let messages = match message::read(&body) {
        Ok(Incoming::One(message)) => vec![Ok(*message)],
        Ok(Incoming::Batch(texts)) => texts.iter().map(|text| message::read_one(text)).collect(),
        Err(fault) if fault.is_about_params() => vec![Err(fault)],
        Err(fault) => return bad_request(fault),
    };
    for message in messages {
        if let Err(refusal) = session.pass(message).await {
            return refusal;
        }
    }
    StatusCode::ACCEPTED.into_response()
}

fn gone() -> Response {
    (StatusCode::NOT_FOUND, "there is no such session; begin one at /sse").into_response()
}

impl Session {
    async fn pass(&mut self, message: Result<ClientJsonRpcMessage, Fault>) -> Result<(), Response> {
        let message = match message {
            Ok(message) => message,
            Err(fault) => return self.answers.send(fault.message()).await.map_err(|_| gone()),
        };
        if !self.opening.lock().unwrap_or_else(PoisonError::into_inner).may_pass(&message) {
            return Ok(());
        }
        if !self.calls.take(&message) {
            return Err(busy(
                "too many calls are under way, or one has this id; try again when one was answered",
                "1",
            ));
        }
        self.posts.send(message).await.map_err(|_| gone())
    }
}
