//! Sessions of Streamable HTTP before 2026-07-28. Where there are too many, the idlest ends for the
//! next.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderName};
use rmcp::transport::streamable_http_server::session::SessionManager as _;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use tokio::time::timeout;

/// The header that names a session.
pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// Sessions at once.
const MAX: usize = 256;
/// The life of a session without any message. Agents pause for minutes, and few clients begin
/// again when their session has ended.
const LIFE: Duration = Duration::from_secs(60 * 60);
/// The time that a session may take to end before the next one begins without waiting for it.
const TIME_TO_END: Duration = Duration::from_millis(100);

/// The sessions, and when each was used last.
pub(super) struct Sessions {
    pub(super) manager: Arc<LocalSessionManager>,
    uses: Mutex<HashMap<Arc<str>, Use>>,
}

#[derive(Clone, Copy)]
struct Use {
    /// Answers that are not sent yet, and streams.
    open: usize,
    /// `true` if a request followed the one that began the session.
    was_used: bool,
    last: Instant,
}

impl Sessions {
    pub(super) fn new() -> Arc<Sessions> {
        let mut manager = LocalSessionManager::default();
        manager.session_config.keep_alive = Some(LIFE);
        Arc::new(Sessions { manager: Arc::new(manager), uses: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Use>> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id that the headers name, if they name one.
    pub(super) fn id(headers: &HeaderMap) -> Option<Arc<str>> {
        Some(headers.get(SESSION_ID)?.to_str().ok()?.into())
    }

    /// `true` if the session is there.
    pub(super) async fn has(&self, id: &Arc<str>) -> bool {
        self.manager.sessions.read().await.contains_key(id)
    }

    /// Remembers a new session.
    pub(super) fn began(&self, id: Arc<str>) {
        self.lock().insert(id, Use { open: 0, was_used: false, last: Instant::now() });
    }

    /// Notes a request of a session, which counts as open until the returned value is dropped.
    pub(super) fn uses(self: &Arc<Self>, id: Arc<str>) -> Option<Using> {
        let mut uses = self.lock();
        let used = uses.get_mut(&id)?;
        (used.open, used.was_used, used.last) = (used.open + 1, true, Instant::now());
        Some(Using { sessions: self.clone(), id })
    }

    /// Ends the idlest sessions until there is room for one more: first those that never asked
    /// anything, then those without an open answer or stream, then the rest, each by its last
    /// request.
    pub(super) async fn make_room(&self) {
        loop {
            let idlest = {
                let sessions = self.manager.sessions.read().await;
                let mut uses = self.lock();
                uses.retain(|id, _| sessions.contains_key(id));
                if sessions.len() < MAX {
                    return;
                }
                let rank = |used: &Use| (used.was_used, used.open > 0, used.last);
                // A session that is just beginning has no use yet.
                let known = uses.iter().min_by_key(|(_, used)| rank(used)).map(|(id, _)| id.clone());
                known.or_else(|| sessions.keys().next().cloned())
            };
            let Some(id) = idlest else { return };
            tracing::debug!("there are {MAX} sessions; the idlest ends for another");
            let _ = timeout(TIME_TO_END, self.manager.close_session(&id)).await;
            self.lock().remove(&id);
        }
    }
}

/// A request of a session.
pub(super) struct Using {
    sessions: Arc<Sessions>,
    id: Arc<str>,
}

impl Drop for Using {
    fn drop(&mut self) {
        if let Some(used) = self.sessions.lock().get_mut(&self.id) {
            (used.open, used.last) = (used.open.saturating_sub(1), Instant::now());
        }
    }
}
