//! HTTP: Streamable HTTP at `/mcp`, the pair `/sse` and `/messages` of older clients, and what
//! operators ask.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, header};
use axum::routing::get;
use axum::{Router, middleware};
use rmcp::ServerHandler;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::body::{Bodies, receive};
use super::guard::{Guard, check};
use super::post::{self, Entry};
use super::sessions::Sessions;
use super::slots::{Slots, admit};
use super::sse;
use super::token::Token;
use super::{TransportError, listener, soon_after};

/// The settings of the HTTP server.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// The address to listen on. Default: `127.0.0.1:8077`.
    pub bind: SocketAddr,
    /// The token that clients show; required where other machines can reach `bind`.
    pub token: Option<Token>,
    /// Names of this machine in `Host`, beside the loopback's.
    pub allowed_hosts: Vec<String>,
    /// Web pages that may ask, as `https://example.org`, beside those of the loopback.
    pub allowed_origins: Vec<String>,
    /// The most bytes that the body of a request may have. Default 1 MiB.
    pub max_body_bytes: usize,
    /// Calls at once that take longer than a moment; more are answered with 503. Quick ones have
    /// places besides. Default 256.
    pub max_requests: usize,
    /// Connections at once. For a new one beyond them the slowest or idlest is closed; where all
    /// wait for an answer, the new one is answered with 503 unless it asks for `/healthz`. Default
    /// 512.
    pub max_connections: usize,
    /// The time that a client may take to send the head of its next request, to send its body, and
    /// to read an answer, before its connection is closed. Default 30 s.
    pub patience: Duration,
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig {
            bind: ([127, 0, 0, 1], 8077).into(),
            token: None,
            allowed_hosts: vec![],
            allowed_origins: vec![],
            max_body_bytes: 1 << 20,
            max_requests: 256,
            max_connections: 512,
            patience: Duration::from_secs(30),
        }
    }
}

/// The questions that operators ask of the server.
#[derive(Clone)]
pub struct Ops {
    /// `/readyz`: whether it can draw, or why not.
    pub ready: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// `/metrics`: as Prometheus reads them.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

/// A server that listens and does not answer yet.
pub struct HttpServer {
    listener: TcpListener,
    config: HttpConfig,
}

/// Listens.
///
/// # Errors
/// [`TransportError::NeedsToken`]; [`TransportError::Bind`].
pub async fn bind(config: HttpConfig) -> Result<HttpServer, TransportError> {
    let address = config.bind;
    if !address.ip().is_loopback() && config.token.is_none() {
        return Err(TransportError::NeedsToken { address });
    }
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|source| TransportError::Bind { address, source })?;
    Ok(HttpServer { listener, config })
}

impl HttpServer {
    /// Returns the address it listens on, with the port that was free for port 0.
    ///
    /// # Errors
    /// [`TransportError::Bind`] if the system does not say.
    pub fn local_addr(&self) -> Result<SocketAddr, TransportError> {
        let address = self.config.bind;
        self.listener.local_addr().map_err(|source| TransportError::Bind { address, source })
    }

    /// Answers until `stop` is called. Calls that are running then have a moment to answer before
    /// they are cancelled, and what does not end by that is cut off after a few seconds.
    pub async fn serve<H: ServerHandler + Clone>(self, handler: H, ops: Ops, stop: CancellationToken) {
        let HttpServer { listener, config } = self;
        let router = router(handler, ops, &config, soon_after(&stop));
        listener::serve(listener, router, config.max_connections, config.patience, &stop).await;
    }
}

fn router<H: ServerHandler + Clone>(
    handler: H,
    ops: Ops,
    config: &HttpConfig,
    cancel: CancellationToken,
) -> Router {
    let sessions = Sessions::new();
    let mcp = {
        let handler = handler.clone();
        // Host and Origin are checked before, on every path.
        let streamable = StreamableHttpServerConfig::default()
            .with_legacy_session_mode(true)
            .with_json_response(true)
            .with_max_request_body_bytes(config.max_body_bytes)
            .with_cancellation_token(cancel.clone())
            .disable_allowed_hosts();
        StreamableHttpService::new(move || Ok(handler.clone()), sessions.manager.clone(), streamable)
    };
    let guard = Guard {
        token: config.token.clone(),
        hosts: config.allowed_hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
        origins: config.allowed_origins.clone(),
    };
    let Ops { ready, metrics } = ops;
    let ready = move || async move {
        match ready() {
            Ok(()) => (StatusCode::OK, "ready".into()),
            Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
        }
    };
    let text = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    let bodies = Bodies::new(config.max_body_bytes, config.patience);
    let slots = Slots::new(config.max_requests);
    // The layer that was added last comes first.
    Router::new()
        .nest_service("/mcp", mcp)
        .layer(middleware::from_fn_with_state(Entry::new(sessions), post::take))
        .merge(sse::router(handler, cancel))
        .layer(middleware::from_fn_with_state(slots, admit))
        .layer(middleware::from_fn_with_state(bodies, receive))
        .route("/healthz", get(|| async { "alive" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(move || async move { (text, off_the_loop(metrics).await) }))
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(Arc::new(guard), check))
}

/// Asks for the metrics where the drivers of GPUs, which are asked too, hold up no other request.
async fn off_the_loop(metrics: Arc<dyn Fn() -> String + Send + Sync>) -> String {
    tokio::task::spawn_blocking(move || metrics()).await.unwrap_or_default()
}
