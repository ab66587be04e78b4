//! Logs, metrics, traces.

use std::net::SocketAddr;

use clap::Args;

use super::values::{parse_origin_url, parse_ratio};

/// Logs, metrics, traces.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Operations")]
pub struct TelemetryConfig {
    /// Address of the Prometheus endpoint; port 0 picks a free port.
    #[arg(long, env = "NOVA_METRICS_ADDR", value_name = "ADDR", default_value = "127.0.0.1:9100")]
    pub metrics_addr: SocketAddr,

    /// Which log lines are written: a level, or directives such as `info,nova::rest=debug`.
    #[arg(long, env = "NOVA_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,

    /// How log lines are written to standard error.
    #[arg(long, env = "NOVA_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    /// OTLP/HTTP endpoint that receives traces (`http://collector:4318`); without it none are made.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL", value_parser = parse_origin_url)]
    pub otlp_endpoint: Option<String>,

    /// Share of requests that are traced, 0.0 to 1.0.
    #[arg(long, env = "NOVA_TRACE_RATIO", value_name = "RATIO", default_value_t = 0.1, value_parser = parse_ratio)]
    pub trace_ratio: f64,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For a person at a terminal.
    Text,
    /// One JSON object per line.
    Json,
}
