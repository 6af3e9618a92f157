//! The connections of the HTTP server: how many there may be, and which is closed for a new one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// Connections beyond the limit, on which only `/healthz` is answered.
const RESERVE: usize = 16;
/// Connections whose clients do not take their answers. Each such answer is memory.
const MAX_STALLED: usize = 64;
/// The time to send a request, or to read an answer, after which a client counts as slow.
const SLOW: Duration = Duration::from_secs(1);

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
    /// `true` for a connection beyond the limit.
    pub(super) is_reserve: bool,
    doing: Mutex<Doing>,
    all: Arc<Connections>,
    /// Cancelled when the connection is closed for another.
    pub(super) close: CancellationToken,
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

    /// Says that a request comes.
    pub(super) fn receives(&self) {
        self.set(State::Receives);
    }

    /// Says that an answer was sent.
    pub(super) fn idles(&self) {
        self.set(State::Idle);
    }

    /// Says that the connection has ended.
    pub(super) fn leaves(&self) {
        self.all.lock().1.remove(&self.id);
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
    pub(super) fn new(max: usize) -> Arc<Connections> {
        Arc::new(Connections { max, open: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, (u64, HashMap<u64, Arc<Connection>>)> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a new connection in. Where there are too many, the slowest or idlest is closed; where
    /// all are at work, the new one belongs to the reserve. `None` if that is at work, too.
    pub(super) fn admit(self: &Arc<Self>) -> Option<Arc<Connection>> {
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
