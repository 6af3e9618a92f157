//! `dgx-pixels-mcp health`: one question to a running server, for the health checks of containers
//! and services.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use dgx_pixels_mcp::transport::{Token, TransportError};

/// Bytes of an answer that are read: its status, and why the server is not ready.
const MOST_BYTES: u64 = 8192;

/// The question, and the server that is asked.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The address at which the server listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8077")]
    address: SocketAddr,

    /// Ask whether it can draw, and not only whether it answers. A server with a token wants it.
    #[arg(long)]
    ready: bool,

    /// The file with the server's token. The environment's DGX_PIXELS_MCP_TOKEN does as well.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Seconds to wait for the answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=600))]
    timeout: u16,
}

/// The reason why a server is not well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HealthError {
    /// Nobody answers.
    #[error("no server answers at {address}")]
    Silent {
        /// The address that was asked.
        address: SocketAddr,
        /// The system's words.
        source: io::Error,
    },
    /// It answers, and says that it is not well, or that the token is not its own.
    #[error("the server at {address} answers `{answer}`")]
    Unwell {
        /// The address that was asked.
        address: SocketAddr,
        /// The status, and the text behind it.
        answer: String,
    },
    /// The token cannot be used.
    #[error(transparent)]
    Token(#[from] TransportError),
}

/// Asks.
///
/// # Errors
/// [`HealthError`] unless the server says that it is well.
pub(crate) fn run(args: &Args) -> Result<(), HealthError> {
    let address = args.address;
    let token = if args.ready { crate::token(args.token_file.clone())? } else { None };
    let answer = ask(args, token.as_ref()).map_err(|source| HealthError::Silent { address, source })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    let answer = [status, body].map(str::trim).join(" ");
    Err(HealthError::Unwell { address, answer: answer.trim().to_owned() })
}

fn ask(args: &Args, token: Option<&Token>) -> io::Result<String> {
    let timeout = Duration::from_secs(args.timeout.into());
    let mut stream = TcpStream::connect_timeout(&args.address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let path = if args.ready { "/readyz" } else { "/healthz" };
    let authorization =
        token.map(|token| format!("Authorization: {}\r\n", token.header())).unwrap_or_default();
    // With 1.0 the server closes the connection behind its answer, and sends no chunks.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n{authorization}\r\n")?;
    let mut answer = vec![];
    stream.take(MOST_BYTES).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
