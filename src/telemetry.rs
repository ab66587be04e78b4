//! What operators see: logs on standard error, metrics for Prometheus, traces for OpenTelemetry.
//!
//! A log line reads alone and has fields (`user.id`, `duration_ms`); an error is logged once, where it is
//! handled; bodies, tokens and addresses stay out. Metric names are all in [`metrics`].

pub mod metrics;

use std::io::IsTerminal as _;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{Protocol, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

pub use metrics::Metrics;

use crate::config::{LogFormat, TelemetryConfig};

/// Why logs or traces could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The `log` option is not a filter.
    #[error("the option `log` is not a level or a list of directives: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The trace exporter refused its settings.
    #[error("the option `otlp_endpoint` cannot be used: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// Somebody set a subscriber before us.
    #[error("logging was set up twice: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Keeps the exporter alive; [`Telemetry::flush`] sends what is still waiting.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Starts writing logs to standard error and, when an endpoint is configured, sending traces to it.
    ///
    /// To be called once, by the program; tests run without it.
    pub fn start(config: &TelemetryConfig) -> Result<Telemetry, TelemetryError> {
        let filter = filter(&config.log)?;
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let lines = match config.log_format {
            LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
            LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
        };
        let traces = config
            .otlp_endpoint
            .as_deref()
            .map(|endpoint| exporter(endpoint, config.trace_ratio))
            .transpose()?;
        let spans = traces
            .as_ref()
            .map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer("nova")));
        tracing_subscriber::registry().with(filter).with(lines).with(spans).try_init()?;
        Ok(Telemetry { traces })
    }

    /// Sends the spans that wait, for as long as the exporter's own time limit; called when the engine has stopped.
    pub fn flush(self) {
        if let Some(traces) = self.traces
            && let Err(error) = traces.shutdown()
        {
            tracing::warn!(%error, "some traces were not delivered");
        }
    }
}

/// Libraries whose lines are written only when they are asked for by name: the client of Kafka, because the bridge says once and in words what it
/// says of every partition and every try; those of calls, because they warn of every browser that knows more than they do, and strangers could
/// fill a disk with what they say of packets that mean nothing. What went wrong is told by us, and counted.
const QUIET: [&str; 4] = ["rskafka", "rtc_dtls", "rtc_sctp", "rtc_srtp"];

/// Which lines are written.
fn filter(log: &str) -> Result<EnvFilter, TelemetryError> {
    let mut filter = EnvFilter::try_new(log)?;
    for library in QUIET.iter().filter(|library| !log.contains(*library)) {
        filter = filter.add_directive(format!("{library}=off").parse()?);
    }
    Ok(filter)
}

/// Spans go out in batches from a thread of the exporter's own: a slow or dead collector costs the engine
/// nothing but the spans it drops (its queue holds 2,048).
fn exporter(endpoint: &str, ratio: f64) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{endpoint}/v1/traces"))
        .build()?;
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let resource = Resource::builder()
        .with_service_name("nova")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))))
        .with_resource(resource)
        .build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_that_warn_of_everything_are_heard_when_they_are_asked_for() {
        let usual = filter("warn").expect("a level").to_string();
        assert!(QUIET.iter().all(|library| usual.contains(&format!("{library}=off"))), "{usual}");
        let asked = filter("info,rtc_dtls=debug").expect("directives").to_string();
        assert!(asked.contains("rtc_dtls=debug") && !asked.contains("rtc_dtls=off"), "{asked}");
        assert!(asked.contains("rtc_sctp=off"), "{asked}");
    }
}
