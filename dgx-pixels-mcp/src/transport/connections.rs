//! The connections of the HTTP server: how many there may be, which is closed for a new one, and
//! how they end.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header;
use axum::response::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::body::Holding;
use super::http::busy;
use super::watched::Watched;

/// The time that running requests have to end when the server stops.
const GRACE: Duration = Duration::from_secs(5);
/// Before the next try when the system has no connection to give, as when too many files are open.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections beyond the limit, on which only `/healthz` is answered.
const RESERVE: usize = 16;
/// The time that a connection of the reserve may take to send a request.
const RESERVE_PATIENCE: Duration = Duration::from_secs(2);
/// Connections whose clients do not take their answers. Each such answer is memory.
const MAX_STALLED: usize = 64;
/// The time to send a request, or to read an answer, after which a client counts as slow.
const SLOW: Duration = Duration::from_secs(1);
/// The most that is buffered of a connection: the head of a request, or an answer in parts.
const BUFFER_BYTES: usize = 64 << 10;

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 32\r\n\r\ntoo many connections; try again\n";

/// The occupation of a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// No request has come yet.
    Fresh,
    /// A request comes.
    Receives,
    /// A request is being answered.
    Works,
    /// An event stream that no call waits for.
    Listens,
    /// The connection is between two requests.
    Idle,
}

/// The kinds of connections that there are too many of: more than a quarter of all are new, or more
/// than half listen.
#[derive(Clone, Copy)]
struct Many {
    fresh: bool,
    listening: bool,
}

/// A connection, as the part that chooses which to close knows it.
pub(super) struct Connection {
    id: u64,
    is_reserve: bool,
    doing: Mutex<Doing>,
    all: Arc<Connections>,
    close: CancellationToken,
}

#[derive(Clone, Copy)]
struct Doing {
    state: State,
    since: Instant,
    stalled: Option<Instant>,
}

impl Connection {
    fn lock(&self) -> MutexGuard<'_, Doing> {
        self.doing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State) {
        let mut doing = self.lock();
        (doing.state, doing.since) = (state, Instant::now());
    }

    /// Says that a whole request has come.
    pub(super) fn works(&self) {
        self.set(State::Works);
    }

    /// Says that the client only listens from now on.
    pub(super) fn listens(&self) {
        self.set(State::Listens);
    }

    /// Says whether the client leaves its answer unread.
    pub(super) fn stalls(&self, stalls: bool) {
        self.lock().stalled = stalls.then(Instant::now);
        if stalls {
            self.all.close_stalled();
        }
    }

    /// A place in the order in which connections are closed for new ones, the first first, or
    /// `None` while a request is being answered. `many` says of which connections there are too
    /// many.
    fn rank(&self, now: Instant, many: Many) -> Option<(u8, Instant)> {
        let Doing { state, since, stalled } = *self.lock();
        let is_slow = |since| now.duration_since(since) >= SLOW;
        let rank = match (state, stalled) {
            (_, Some(stalled)) if is_slow(stalled) => return Some((1, stalled)),
            (State::Fresh, _) if is_slow(since) => 0,
            (State::Receives, _) if is_slow(since) => 1,
            // New ones close each other in a flood of them, and are otherwise given the time to
            // ask.
            (State::Fresh, _) if many.fresh => 2,
            (State::Listens, _) if many.listening => 2,
            (State::Idle, None) => 3,
            (State::Fresh, _) => 4,
            (State::Listens, _) => 5,
            (State::Works | State::Receives | State::Idle, _) => return None,
        };
        Some((rank, since))
    }
}

/// All open connections.
pub(super) struct Connections {
    max: usize,
    open: Mutex<(u64, HashMap<u64, Arc<Connection>>)>,
}

impl Connections {
    fn new(max: usize) -> Arc<Connections> {
        Arc::new(Connections { max, open: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, (u64, HashMap<u64, Arc<Connection>>)> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a new connection in. Where there are too many, the slowest or idlest is closed; where
    /// all are at work, the new one belongs to the reserve. `None` if that is at work, too.
    fn admit(self: &Arc<Self>) -> Option<Arc<Connection>> {
        let now = Instant::now();
        let mut open = self.lock();
        let (next, open) = &mut *open;
        let count = open.values().filter(|open| !open.is_reserve).count();
        let is_reserve = count >= self.max && !close_first(open, now, false);
        if is_reserve && open.len() >= count + RESERVE && !close_first(open, now, true) {
            return None;
        }
        *next += 1;
        let connection = Arc::new(Connection {
            id: *next,
            is_reserve,
            doing: Mutex::new(Doing { state: State::Fresh, since: now, stalled: None }),
            all: self.clone(),
            close: CancellationToken::new(),
        });
        open.insert(*next, connection.clone());
        Some(connection)
    }

    fn leave(&self, connection: &Connection) {
        self.lock().1.remove(&connection.id);
    }

    /// Closes those that have been stalled longest, beyond as many as may be.
    fn close_stalled(&self) {
        let mut open = self.lock();
        let stalled = |open: &Connection| open.lock().stalled.map(|since| (since, open.id));
        let mut all: Vec<_> = open.1.values().filter_map(|open| stalled(open)).collect();
        let excess = all.len().saturating_sub(MAX_STALLED);
        all.sort_unstable();
        for (_, id) in &all[..excess] {
            if let Some(connection) = open.1.remove(id) {
                connection.close.cancel();
            }
        }
    }
}

/// Closes the first connection in the order, of the reserve or of the others.
fn close_first(open: &mut HashMap<u64, Arc<Connection>>, now: Instant, of_reserve: bool) -> bool {
    let all = || open.values().filter(|open| open.is_reserve == of_reserve);
    let count = |state| all().filter(|open| open.lock().state == state).count();
    let many = Many {
        fresh: 4 * count(State::Fresh) > all().count(),
        listening: 2 * count(State::Listens) > all().count(),
    };
    let first = all().filter_map(|open| Some((open.rank(now, many)?, open.id))).min();
    let Some(connection) = first.and_then(|(_, id)| open.remove(&id)) else { return false };
    connection.close.cancel();
    true
}

/// Back to [`State::Idle`] when the answer was sent.
struct Answering(Arc<Connection>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.set(State::Idle);
    }
}

/// Answers at most `max` connections at once, until `stop` is called and running requests have
/// ended or had their time. A connection is closed when no whole head of a request comes for
/// `patience`, whether the client is idle or slow, and when an answer is not taken for that long.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    max: usize,
    patience: Duration,
    stop: &CancellationToken,
) {
    let connections = Connections::new(max);
    let graceful = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience).max_buf_size(BUFFER_BYTES);
    let mut reserve = http.clone();
    reserve.header_read_timeout(patience.min(RESERVE_PATIENCE));
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            stream = accept(&listener) => stream,
        };
        // Small answers in many writes would each wait 40 ms for the acknowledgement of the last.
        let _ = stream.set_nodelay(true);
        let Some(connection) = connections.admit() else {
            // A new connection takes this much at once.
            let _ = stream.try_write(FULL);
            continue;
        };
        let http = if connection.is_reserve { &reserve } else { &http };
        let stream = Watched::new(stream, connection.clone(), patience);
        let (router, asked) = (router.clone(), connection.clone());
        let service = service_fn(move |request| answer(router.clone(), asked.clone(), request));
        let served = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            tokio::select! {
                served = served => if let Err(error) = served {
                    tracing::debug!(%error, "a connection ended early");
                },
                () = connection.close.cancelled() => tracing::debug!("a connection was closed for another"),
            }
            connection.all.leave(&connection);
        });
    }
    drop(listener);
    let _ = timeout(GRACE, graceful.shutdown()).await;
}

async fn answer(
    router: Router,
    connection: Arc<Connection>,
    request: hyper::Request<hyper::body::Incoming>,
) -> Result<Response, Infallible> {
    connection.set(State::Receives);
    let answering = Answering(connection.clone());
    if connection.is_reserve && request.uri().path() != "/healthz" {
        let mut refusal = busy("too many connections; try again", "1");
        refusal.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        return Ok(refusal);
    }
    let mut request: Request = request.map(Body::new);
    request.extensions_mut().insert(connection);
    let Ok(response) = router.oneshot(request).await;
    Ok(Holding::response(response, answering))
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // The client went before we came to it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                sleep(PAUSE).await;
            }
        }
    }
}
