//! The HTTP and WebSocket door: where it is, whom it believes, and how much it takes.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::cores;
use super::values::{parse_network, parse_origin_url};

/// The HTTP and WebSocket door.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "HTTP")]
pub struct HttpConfig {
    /// Address of the HTTP and WebSocket door; port 0 picks a free port.
    #[arg(long, env = "NOVA_HTTP_ADDR", value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub http_addr: SocketAddr,

    /// The address users reach the engine under, without a trailing slash; default: derived from the HTTP address.
    #[arg(long, env = "NOVA_PUBLIC_URL", value_name = "URL", value_parser = parse_origin_url)]
    pub public_url: Option<String>,

    /// The address the other nodes reach this one under; default: the HTTP address, on this machine's own address when that is on all.
    #[arg(long, env = "NOVA_NODE_URL", value_name = "URL", value_parser = parse_origin_url)]
    pub node_url: Option<String>,

    /// The address clients reach this very node under, not one that leads to any of them: who joins a call on another node is sent
    /// there; default: `node_url`.
    #[arg(long, env = "NOVA_NODE_PUBLIC_URL", value_name = "URL", value_parser = parse_origin_url)]
    pub node_public_url: Option<String>,

    /// Origins whose pages may call the API from a browser (comma-separated, exact: `https://app.example`).
    #[arg(long, env = "NOVA_CORS_ORIGINS", value_name = "ORIGINS", value_delimiter = ',', value_parser = parse_origin_url)]
    pub cors_origins: Vec<String>,

    /// Networks of reverse proxies whose `X-Forwarded-For` is believed (comma-separated, CIDR).
    #[arg(long, env = "NOVA_TRUSTED_PROXIES", value_name = "NETWORKS", value_delimiter = ',', value_parser = parse_network)]
    pub trusted_proxies: Vec<ipnet::IpNet>,

    /// PEM file with the certificate chain; with `tls_key` the HTTP door speaks TLS (HTTP/1.1 and HTTP/2).
    #[arg(long, env = "NOVA_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// PEM file with the private key of `tls_cert`.
    #[arg(long, env = "NOVA_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Worker threads that serve HTTP and sockets; default: one per core.
    #[arg(long, env = "NOVA_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,

    /// Connections held open at once by one worker; more wait in the listen queue.
    #[arg(long, env = "NOVA_CONNECTIONS_MAX", value_name = "N", default_value_t = 25_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections_max: u32,

    /// Largest request body in bytes.
    #[arg(long, env = "NOVA_BODY_BYTES_MAX", value_name = "BYTES", default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(1024..=64 << 20))]
    pub body_bytes_max: u32,

    /// Seconds the body of a request may take to arrive.
    #[arg(long, env = "NOVA_BODY_S", value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=600))]
    pub body_s: u16,

    /// Seconds a node may take to leave politely after SIGTERM.
    #[arg(long, env = "NOVA_DRAIN_S", value_name = "SECONDS", default_value_t = 25, value_parser = clap::value_parser!(u16).range(1..=30))]
    pub drain_s: u16,
}

impl HttpConfig {
    /// The number of worker threads: as configured, else one per core.
    pub fn worker_count(&self) -> usize {
        self.workers.map_or_else(cores, usize::from)
    }
}
