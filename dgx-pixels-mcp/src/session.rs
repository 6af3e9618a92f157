//! Clients told apart, so that each gets a fair share of what is drawn.

use std::sync::OnceLock;

use axum::http::request::Parts;
use rmcp::RoleServer;
use rmcp::service::RequestContext;
use uuid::Uuid;

/// The most characters of what a client says of itself.
const MAX_CHARS: usize = 80;

/// The name of one connection over standard streams or `/sse`, each of which has a server of its
/// own. A copy is for another connection, and has another name.
#[derive(Debug, Default)]
pub(crate) struct Connection(OnceLock<String>);

impl Clone for Connection {
    fn clone(&self) -> Self {
        Connection::default()
    }
}

impl Connection {
    /// The client that sent a request: the session over HTTP, or the connection. From revision
    /// 2026-07-28 on HTTP has no sessions, and a client is what it says that it is.
    pub(crate) fn client(&self, context: &RequestContext<RoleServer>) -> String {
        let Some(parts) = context.extensions.get::<Parts>() else {
            return self.0.get_or_init(|| format!("connection {}", Uuid::new_v4())).clone();
        };
        match parts.headers.get("mcp-session-id").and_then(|id| id.to_str().ok()) {
            Some(session) => short(format!("session {session}")),
            None => match context.client_info() {
                Some(client) => short(format!("client {} {}", client.name, client.version)),
                None => "client".into(),
            },
        }
    }
}

fn short(name: String) -> String {
    name.chars().take(MAX_CHARS).collect()
}
