//! The log of a program, and the spans of its jobs for a collector of OpenTelemetry.
//!
//! The log goes to standard error, through `DGX_PIXELS_LOG` as its filter. Spans are sent only if
//! the environment names a collector: `OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318`, or
//! `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` with the whole URL. They go there as OTLP over HTTP,
//! without TLS. The variables of OpenTelemetry for headers, time limits, sampling and resources
//! apply: `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_TRACES_SAMPLER`, `OTEL_RESOURCE_ATTRIBUTES` and their
//! like.

use std::env;
use std::io;
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracerProvider, Tracer};
use tracing::Level;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

use crate::error::one_line;
use crate::printable::PrintableWriter;

/// The variables that name a collector.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// The time in which the last spans must be sent when a program ends.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// The way in which a program logs.
#[derive(Clone, Copy, Debug)]
pub struct LogStyle {
    /// The filter where `DGX_PIXELS_LOG` is not set, for example `warn,dgx_pixels_core=info`.
    pub filter: &'static str,
    /// `true` to begin each line with the time and the module that speaks.
    pub full: bool,
}

/// The log and the spans of a program. Dropping it sends the last spans.
#[derive(Debug)]
#[must_use = "dropping it ends the sending of spans"]
pub struct Telemetry(Option<SdkTracerProvider>);

impl Telemetry {
    /// Begins the log of this process, and sends spans if a collector is named. `program` is the
    /// `service.name` of the spans, unless `OTEL_SERVICE_NAME` gives another. To be called once in
    /// a process.
    pub fn begin(program: &'static str, style: LogStyle) -> Telemetry {
        let (provider, failed) = match collector_is_named().then(|| provider(program)).transpose() {
            Ok(provider) => (provider, None),
            Err(error) => (None, Some(error)),
        };
        let filter = EnvFilter::try_from_env("DGX_PIXELS_LOG");
        let filter = filter.unwrap_or_else(|_| EnvFilter::new(style.filter));
        // Lines of the log name their job; the spans around them would say it twice.
        let filter = filter.and(filter_fn(|metadata| !metadata.is_span()));
        // Whoever reads standard error may close it; telling of that there would panic.
        let log = fmt::layer().with_writer(|| PrintableWriter(io::stderr())).log_internal_errors(false);
        let log = if style.full {
            log.with_filter(filter).boxed()
        } else {
            log.without_time().with_target(false).with_filter(filter).boxed()
        };
        let spans = provider.as_ref().map(|provider| {
            let ours = filter_fn(|metadata| {
                metadata.is_span()
                    && *metadata.level() <= Level::INFO
                    && metadata.target().starts_with("dgx_pixels")
            });
            let spans = tracing_opentelemetry::layer().with_tracer(tracer(provider));
            // Where a span stands in our source, and on which thread, is no news for who reads
            // traces.
            let spans = spans.with_location(false).with_threads(false).with_target(false);
            spans.with_tracked_inactivity(false).with_level(false).with_filter(ours)
        });
        tracing_subscriber::registry().with(log).with(spans).init();
        if let Some(error) = failed {
            tracing::warn!(error = one_line(&error), "spans are not sent to the collector");
        }
        Telemetry(provider)
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        let ended = self.0.take().map(|provider| provider.shutdown_with_timeout(LAST_SPANS));
        if let Some(Err(error)) = ended {
            tracing::warn!(error = one_line(&error), "the last spans were not sent to the collector");
        }
    }
}

fn collector_is_named() -> bool {
    let is_set = |name: &&str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_off = env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    !is_off && ENDPOINTS.iter().any(is_set)
}

fn provider(program: &'static str) -> Result<SdkTracerProvider, ExporterBuildError> {
    let exporter = SpanExporter::builder().with_http().build()?;
    let resource = Resource::builder();
    let resource = match env::var_os("OTEL_SERVICE_NAME") {
        Some(_) => resource,
        None => resource.with_service_name(program),
    };
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build())
}

fn tracer(provider: &SdkTracerProvider) -> Tracer {
    provider.tracer("dgx-pixels")
}
