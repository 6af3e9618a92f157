//! The connections of the HTTP server: how many there may be, how long each may keep us waiting, and how they end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How long running requests may take to end when the server stops.
const GRACE: Duration = Duration::from_secs(5);
/// Before the next try when the system has no connection to give, as when too many files are open.
const PAUSE: Duration = Duration::from_millis(100);

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 32\r\n\r\ntoo many connections; try again\n";

/// Answers at most `max` connections at once, until `stop` is called and running requests have ended or had their time. A connection on which no
/// whole head comes for `patience` is closed, whether it is idle or slow.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    max: usize,
    patience: Duration,
    stop: &CancellationToken,
) {
    let room = Arc::new(Semaphore::new(max));
    let graceful = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience);
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            stream = accept(&listener) => stream,
        };
        // Small answers in many writes would each wait 40 ms for the acknowledgement of the last.
        let _ = stream.set_nodelay(true);
        let Ok(place) = room.clone().try_acquire_owned() else {
            // A new connection takes this much at once.
            let _ = stream.try_write(FULL);
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(place);
        });
    }
    drop(listener);
    let _ = timeout(GRACE, graceful.shutdown()).await;
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
