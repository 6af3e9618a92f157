//! The listener of the HTTP server: it takes connections and serves each, until the server stops.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

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

use super::answer::{Holding, busy};
use super::connections::{Connection, Connections};
use super::watched::Watched;

/// The time that running requests have to end when the server stops.
const GRACE: Duration = Duration::from_secs(5);
/// Before the next try when the system has no connection to give, as when too many files are open.
const PAUSE: Duration = Duration::from_millis(100);
/// The time that a connection of the reserve may take to send a request.
const RESERVE_PATIENCE: Duration = Duration::from_secs(2);
/// The most that is buffered of a connection: the head of a request, or an answer in parts.
const BUFFER_BYTES: usize = 64 << 10;

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 32\r\n\r\ntoo many connections; try again\n";

/// Notes that a connection is idle when the answer was sent.
struct Answering(Arc<Connection>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.idles();
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
            connection.leaves();
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
    connection.receives();
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
