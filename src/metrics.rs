//! `dgx-pixels metrics`: what the GPUs do, for Prometheus.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::routing::get;
use dgx_pixels_core::monitor::{Monitor, SourceName};
use dgx_pixels_core::{Cause, Error};

use crate::failure::Failure;
use crate::output;

/// The text that `--help` prints after the flags.
pub(crate) const NOTES: &str = "\
`/metrics` is for Prometheus, and `/healthz` for health checks. What a GPU does not report is
absent, never zero. A machine without a GPU has the metrics of this process alone. The MCP server
has the same metrics at its own `/metrics`.";

/// Serve metrics of the GPUs for Prometheus.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The address to listen on. Anything but the loopback shows the metrics to other machines.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9495")]
    bind: SocketAddr,

    /// `nvml`; `nvidia-smi`; `dcgm` or `dcgm=http://HOST:PORT/metrics`, NVIDIA's dcgm-exporter;
    /// `demo`, which makes two GPUs up; or `auto`: the first of `nvml` and `nvidia-smi` that works.
    #[arg(long, value_name = "SOURCE", default_value_t = SourceName::Auto)]
    source: SourceName,

    /// Print the metrics once, and end.
    #[arg(long, conflicts_with = "bind")]
    once: bool,
}

/// Serves until the program is ended.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let monitor = Monitor::open(args.source.clone())?;
    if args.once {
        return output::say_bytes(monitor.text().as_bytes());
    }
    let source = monitor.source().unwrap_or("no GPU");
    let failed = |error: std::io::Error| Error::internal("serving metrics", Cause::from(error));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let listening = tokio::net::TcpListener::bind(args.bind).await.map_err(|error| {
            let bind = args.bind;
            Failure::Flags(format!(
                "`--bind` is {bind}, which cannot be listened on: {error}; expected a free port"
            ))
        })?;
        let address = listening.local_addr().map_err(failed)?;
        output::note(format_args!("listening on http://{address}/metrics ({source})"));
        axum::serve(listening, router(Arc::new(monitor))).await.map_err(failed)?;
        Ok(())
    })
}

fn router(monitor: Arc<Monitor>) -> Router {
    let text = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    let metrics = move || async move {
        // A driver may take its time.
        (text, tokio::task::spawn_blocking(move || monitor.text()).await.unwrap_or_default())
    };
    Router::new().route("/metrics", get(metrics)).route("/healthz", get(|| async { "alive" }))
}
