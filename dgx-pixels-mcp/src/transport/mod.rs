//! The ways to a server: standard streams, and HTTP with its guards.

mod answer;
mod body;
mod connections;
mod cors;
mod guard;
mod http;
mod listener;
mod message;
mod post;
mod sessions;
mod slots;
mod sse;
mod stdio;
mod token;
mod watched;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

pub use self::http::{HttpConfig, HttpServer, Ops, bind};
pub use self::stdio::serve_stdio;
pub use self::token::Token;

/// The reason why a transport cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The address is another program's, or not this machine's.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// The system's words.
        source: std::io::Error,
    },
    /// Everybody on the network could draw and read.
    #[error(
        "`bind` is {address}, which other machines can reach; expected a token too: put one into a file (`openssl rand -hex 32 > token`) and give `--token-file token`, or set DGX_PIXELS_MCP_TOKEN"
    )]
    NeedsToken {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// The token's file cannot be read.
    #[error("cannot read the token in `{}`", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// Too short to keep anybody out, or no header can hold it.
    #[error(
        "the token has {chars} characters; expected 16 or more, without spaces, as of `openssl rand -hex 32`"
    )]
    WeakToken {
        /// The number of characters of the token; never the token itself.
        chars: usize,
    },
    /// The client does not speak MCP, or has gone.
    #[error("the connection failed: {0}")]
    Failed(String),
}

/// For calls that know by themselves that the server stops.
const TIME_TO_ANSWER: Duration = Duration::from_millis(200);

/// Set a moment after `stop`.
fn soon_after(stop: &CancellationToken) -> CancellationToken {
    let (stop, later) = (stop.clone(), CancellationToken::new());
    let set = later.clone();
    tokio::spawn(async move {
        stop.cancelled().await;
        sleep(TIME_TO_ANSWER).await;
        set.cancel();
    });
    later
}
