//! Configuration: one documented struct, one group per part of the engine.
//!
//! Every option is a flag (`--http-addr`), an environment variable (`NOVA_HTTP_ADDR`) and a key of the TOML
//! file named by `--config` (`http_addr`); the flag wins over the environment, the environment over the file,
//! the file over the default. Bounds are checked while parsing, so a value that reaches the engine is usable.
//! A key the engine does not know is refused with the nearest name it does know. Secrets print as `set`.

mod kafka;
mod live;
mod reading;
mod roles;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::bus::redis::RedisConfig;
use crate::feeds::ladder::Budgets;
use crate::objects::Place;
use crate::postgres::EmbeddedConfig;
use crate::store::StoreConfig;
use crate::webhooks;

pub use kafka::KafkaConfig;
pub use live::LiveConfig;
pub use reading::{ConfigError, Setting, Source, option_names, parse};
pub use roles::NodeRole;
pub use values::Secret;
use values::*;

/// Everything an operator can decide.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// TOML file to read options from; its keys are the flags' names with underscores.
    #[arg(long, env = "NOVA_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Where the engine keeps what it owns: the embedded PostgreSQL cluster, objects, keys.
    #[arg(long, env = "NOVA_DATA_DIR", value_name = "DIR", default_value = "data")]
    pub data_dir: PathBuf,

    /// What this node does (comma-separated); the health of every node is at its HTTP address.
    #[arg(
        long,
        env = "NOVA_ROLES",
        value_name = "ROLES",
        value_enum,
        value_delimiter = ',',
        default_value = "api,chat,ingest,rtc,worker"
    )]
    pub roles: Vec<NodeRole>,

    /// The HTTP and WebSocket door.
    #[command(flatten)]
    pub http: HttpConfig,

    /// Who is let in how often.
    #[command(flatten)]
    pub limits: LimitsConfig,

    /// WebSockets.
    #[command(flatten)]
    pub chat: ChatConfig,

    /// Accounts, passwords and tokens.
    #[command(flatten)]
    pub identity: IdentityConfig,

    /// PostgreSQL.
    #[command(flatten)]
    pub database: DatabaseConfig,

    /// Redis, between nodes.
    #[command(flatten)]
    pub bus: BusConfig,

    /// Kafka, which is told what happens.
    #[command(flatten)]
    pub kafka: KafkaConfig,

    /// What is too large for PostgreSQL.
    #[command(flatten)]
    pub objects: ObjectsConfig,

    /// Feeds.
    #[command(flatten)]
    pub feeds: FeedsConfig,

    /// What other servers are told.
    #[command(flatten)]
    pub webhooks: WebhooksConfig,

    /// Live streams.
    #[command(flatten)]
    pub live: LiveConfig,

    /// Group calls.
    #[command(flatten)]
    pub rtc: RtcConfig,

    /// Logs, metrics, traces.
    #[command(flatten)]
    pub telemetry: TelemetryConfig,
}

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

/// Who is let in how often. Each limit is a bucket of its `burst` that refills at its `per_minute`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Rate limits")]
pub struct LimitsConfig {
    /// Requests per minute from one IP address (IPv6: one /64); 0 switches this limit off.
    #[arg(long, env = "NOVA_IP_REQUESTS_PER_MINUTE", value_name = "N", default_value_t = 6_000)]
    pub ip_requests_per_minute: u32,

    /// Requests per minute from one user, over all their devices, on one node; 0 switches this limit off.
    #[arg(long, env = "NOVA_USER_REQUESTS_PER_MINUTE", value_name = "N", default_value_t = 3_000)]
    pub user_requests_per_minute: u32,

    /// Attempts per minute from one IP address to log in, register or refresh; 0 switches this limit off.
    #[arg(long, env = "NOVA_IP_LOGINS_PER_MINUTE", value_name = "N", default_value_t = 60)]
    pub ip_logins_per_minute: u32,

    /// Attempts per minute to log in to one account, from anywhere; 0 switches this limit off.
    #[arg(long, env = "NOVA_ACCOUNT_LOGINS_PER_MINUTE", value_name = "N", default_value_t = 20)]
    pub account_logins_per_minute: u32,
}

/// WebSockets: who may connect and ask how often.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "WebSockets")]
pub struct ChatConfig {
    /// New connections a second on this node, two seconds' worth at once; more are answered 503; 0 switches it off.
    #[arg(long, env = "NOVA_WS_CONNECTS_PER_S", value_name = "N", default_value_t = 2_000)]
    pub ws_connects_per_s: u32,

    /// New connections a second from one IP address (IPv6: one /64); 0 switches it off.
    #[arg(long, env = "NOVA_WS_IP_CONNECTS_PER_S", value_name = "N", default_value_t = 200)]
    pub ws_ip_connects_per_s: u32,

    /// Devices of one user that may be connected to this node at once.
    #[arg(long, env = "NOVA_WS_SOCKETS_PER_USER", value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub ws_sockets_per_user: u32,

    /// Requests a second of one connection, announced to clients; 0 switches it off.
    #[arg(long, env = "NOVA_WS_REQUESTS_PER_S", value_name = "N", default_value_t = 50)]
    pub ws_requests_per_s: u32,

    /// Requests a second of one user, over all their connections to this node; 0 switches it off.
    #[arg(long, env = "NOVA_WS_USER_REQUESTS_PER_S", value_name = "N", default_value_t = 100)]
    pub ws_user_requests_per_s: u32,

    /// Seconds between two pings; a connection that says nothing for that long after one is closed.
    #[arg(long, env = "NOVA_WS_PING_S", value_name = "SECONDS", default_value_t = 25, value_parser = clap::value_parser!(u16).range(1..=600))]
    pub ws_ping_s: u16,

    /// Whether messages may be compressed (permessage-deflate) for clients that offer it: less traffic for more CPU.
    #[arg(long, env = "NOVA_WS_DEFLATE", value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set)]
    pub ws_deflate: bool,

    /// Seconds somebody is still shown as online after their last connection closed: who changes networks was not away.
    #[arg(long, env = "NOVA_PRESENCE_LINGER_S", value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=300))]
    pub presence_linger_s: u16,

    /// Seconds after which a node that says nothing is taken for dead, and its users for offline; the same on all nodes.
    #[arg(long, env = "NOVA_PRESENCE_LEASE_S", value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u16).range(3..=300))]
    pub presence_lease_s: u16,
}

/// Accounts, passwords and tokens.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Identity")]
pub struct IdentityConfig {
    /// Seconds an access token is valid.
    #[arg(long, env = "NOVA_ACCESS_TOKEN_S", value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u32).range(5..=86_400))]
    pub access_token_s: u32,

    /// Days a session lives without being refreshed.
    #[arg(long, env = "NOVA_SESSION_DAYS", value_name = "DAYS", default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..=365))]
    pub session_days: u16,

    /// Days after which the key that signs access tokens is replaced.
    #[arg(long, env = "NOVA_SIGNING_KEY_DAYS", value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=365))]
    pub signing_key_days: u16,

    /// Threads that hash passwords; default: half the cores, at least one.
    #[arg(long, env = "NOVA_PASSWORD_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub password_threads: Option<u16>,

    /// Log-ins that may wait for a hashing thread; more are answered 503 with `Retry-After`.
    #[arg(long, env = "NOVA_PASSWORD_QUEUE_MAX", value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub password_queue_max: u16,

    /// The issuer written into access tokens and authenticator entries.
    #[arg(long, env = "NOVA_ISSUER", value_name = "NAME", default_value = "nova")]
    pub issuer: String,

    /// Secret that seals the keys in the database, the same on all nodes; default: a file in the data directory with the embedded
    /// PostgreSQL, the password in `database_url` with an external one.
    #[arg(long, env = "NOVA_SECRET", value_name = "TEXT", hide_env_values = true, value_parser = parse_secret)]
    pub secret: Option<Secret>,

    /// What `secret`, or the password in `database_url`, was before it was changed: for one start, which seals the keys anew.
    #[arg(long, env = "NOVA_SECRET_WAS", value_name = "TEXT", hide_env_values = true, value_parser = parse_any_secret)]
    pub secret_was: Option<Secret>,

    /// Whether strangers may register; when off, accounts are made with `nova admin create-user`.
    #[arg(long, env = "NOVA_OPEN_REGISTRATION", value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub open_registration: bool,
}

/// PostgreSQL.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "PostgreSQL")]
pub struct DatabaseConfig {
    /// URL of an external PostgreSQL 14 or newer; without it the engine runs a private one under the data directory.
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true, value_parser = parse_database_url)]
    pub database_url: Option<Secret>,

    /// Connections to PostgreSQL held by this node.
    #[arg(long, env = "NOVA_DATABASE_CONNECTIONS_MAX", value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(2..=500))]
    pub database_connections_max: u16,

    /// Milliseconds a request waits for a free connection before it is answered 503.
    #[arg(long, env = "NOVA_DATABASE_ACQUIRE_MS", value_name = "MS", default_value_t = 3_000, value_parser = clap::value_parser!(u32).range(10..=60_000))]
    pub database_acquire_ms: u32,

    /// Milliseconds one statement may run before PostgreSQL ends it.
    #[arg(long, env = "NOVA_DATABASE_STATEMENT_MS", value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=600_000))]
    pub database_statement_ms: u32,

    /// Folder with the `initdb` and `postgres` to run; default: searched for in PATH and the usual places.
    #[arg(long, env = "NOVA_POSTGRES_BIN_DIR", value_name = "DIR")]
    pub postgres_bin_dir: Option<PathBuf>,
}

/// Redis, between nodes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Redis")]
pub struct BusConfig {
    /// URL of a Redis 6.2 or newer that connects several nodes; without it the node is alone.
    #[arg(long, env = "REDIS_URL", value_name = "URL", hide_env_values = true, value_parser = parse_redis_url)]
    pub redis_url: Option<Secret>,

    /// What the names of channels and keys in Redis begin with; nodes with the same one belong together.
    #[arg(long, env = "NOVA_REDIS_NAMESPACE", value_name = "NAME", default_value = "nova", value_parser = parse_namespace)]
    pub redis_namespace: String,
}

/// What is too large for PostgreSQL.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Object storage")]
pub struct ObjectsConfig {
    /// Where recordings are kept: `file:///path`, or `s3://bucket/prefix` with the usual AWS variables; default: below the data
    /// directory. Several nodes need the same place.
    #[arg(long, env = "NOVA_OBJECTS", value_name = "URL", value_parser = Place::parse)]
    pub objects: Option<Place>,

    /// Address of the S3-compatible service, when it is not Amazon's.
    #[arg(long, env = "NOVA_OBJECTS_ENDPOINT", value_name = "URL", value_parser = parse_origin_url)]
    pub objects_endpoint: Option<String>,
}

/// Where the newest posts of readers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FeedHeads {
    /// In this process.
    Memory,
    /// In Redis.
    Redis,
}

/// Feeds: where heads are, models, and how long each level of a page may take.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Feeds")]
pub struct FeedsConfig {
    /// Where the newest posts of readers are kept: in this process, or in Redis (needs `redis_url`), where nodes that start find them.
    #[arg(long, env = "NOVA_FEED_HEADS", value_name = "WHERE", value_enum, default_value_t = FeedHeads::Memory)]
    pub feed_heads: FeedHeads,

    /// Folder with models for ranked feeds, read while the engine runs: `home.json` orders, others wait for experiments; default:
    /// `models` in the data directory.
    #[arg(long, env = "NOVA_FEED_MODELS", value_name = "DIR")]
    pub feed_models: Option<PathBuf>,

    /// Milliseconds a page ranked by a model may take before it is ranked by age and engagement.
    #[arg(long, env = "NOVA_FEED_MODEL_MS", value_name = "MS", default_value_t = 150, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub feed_model_ms: u32,

    /// Milliseconds a page ranked by age and engagement may take before it is the newest.
    #[arg(long, env = "NOVA_FEED_ENGAGEMENT_MS", value_name = "MS", default_value_t = 150, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub feed_engagement_ms: u32,

    /// Milliseconds a page of the newest may take before it is read straight from PostgreSQL.
    #[arg(long, env = "NOVA_FEED_NEWEST_MS", value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub feed_newest_ms: u32,

    /// Milliseconds a page straight from PostgreSQL may take before the reader is shown what they were shown before.
    #[arg(long, env = "NOVA_FEED_DATABASE_MS", value_name = "MS", default_value_t = 1_500, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub feed_database_ms: u32,
}

/// What other servers are told.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Webhooks")]
pub struct WebhooksConfig {
    /// Addresses that are told when a stream goes live, ends, or its recording is ready (comma-separated; Standard Webhooks).
    #[arg(long, env = "NOVA_WEBHOOK_URLS", value_name = "URLS", value_delimiter = ',', hide_env_values = true, requires = "webhook_secret", value_parser = parse_webhook_url)]
    pub webhook_urls: Vec<String>,

    /// What they are signed with: `whsec_` and 24 to 64 bytes in base64.
    #[arg(long, env = "NOVA_WEBHOOK_SECRET", value_name = "SECRET", hide_env_values = true, value_parser = webhooks::parse_secret)]
    pub webhook_secret: Option<Secret>,
}

/// Group calls.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Calls")]
pub struct RtcConfig {
    /// UDP address of all media of calls; port 0 picks a free port.
    #[arg(long, env = "NOVA_RTC_ADDR", value_name = "ADDR", default_value = "127.0.0.1:8189")]
    pub rtc_addr: SocketAddr,

    /// Threads that carry the media of calls, each with rooms of its own, all on the port of `rtc_addr`; default: one per core, at most 8.
    #[arg(long, env = "NOVA_RTC_SHARDS", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub rtc_shards: Option<u8>,

    /// Addresses clients are told to send media to, at the port of `rtc_addr` (comma-separated); default: `rtc_addr`, or for
    /// `0.0.0.0` and `[::]` the address this machine reaches others from.
    #[arg(long, env = "NOVA_RTC_PUBLIC_IP", value_name = "IPS", value_delimiter = ',')]
    pub rtc_public_ip: Vec<std::net::IpAddr>,

    /// TURN servers for clients whose network lets no UDP through (comma-separated, `turn:turn.example:3478?transport=tcp`); they share
    /// `turn_secret` with the engine, as coturn's `use-auth-secret` has it.
    #[arg(long, env = "NOVA_TURN_URLS", value_name = "URLS", value_delimiter = ',', requires = "turn_secret", value_parser = parse_turn_url)]
    pub turn_urls: Vec<String>,

    /// Secret the TURN servers know clients by: their `static-auth-secret`.
    #[arg(long, env = "NOVA_TURN_SECRET", value_name = "SECRET", hide_env_values = true)]
    pub turn_secret: Option<Secret>,

    /// Participants of one room; more are refused.
    #[arg(long, env = "NOVA_RTC_PARTICIPANTS_MAX", value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rtc_participants_max: u32,

    /// For measures only: with this the signal SIGUSR2 stops the threads of the media for so many seconds; 0 for no such fault.
    #[arg(long, env = "NOVA_RTC_FAULT_STALL_S", value_name = "SECONDS", hide = true, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=20))]
    pub rtc_fault_stall_s: u32,

    /// Viewers of live streams over WebRTC (WHEP) on this node; more are told to watch over HLS.
    #[arg(long, env = "NOVA_WHEP_SESSIONS_MAX", value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub whep_sessions_max: u32,
}

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

impl HttpConfig {
    /// The number of worker threads: as configured, else one per core.
    pub fn worker_count(&self) -> usize {
        self.workers.map_or_else(cores, usize::from)
    }
}

impl RtcConfig {
    /// The number of media shards: as configured, else one per core. Where nobody said so not more than eight: a shard for each of many
    /// cores would carry more than a network card does, and what comes in is handed over the more often the more there are.
    pub fn shard_count(&self) -> usize {
        self.rtc_shards.map_or_else(|| cores().min(8), usize::from)
    }
}

impl FeedsConfig {
    /// How long each level may take.
    pub fn budgets(&self) -> Budgets {
        let ms = |ms: u32| Duration::from_millis(ms.into());
        Budgets {
            model: ms(self.feed_model_ms),
            engagement: ms(self.feed_engagement_ms),
            newest: ms(self.feed_newest_ms),
            database: ms(self.feed_database_ms),
        }
    }
}

impl Config {
    /// Whether this node has a role.
    pub fn has_role(&self, role: NodeRole) -> bool {
        self.roles.contains(&role)
    }

    /// Whether this node serves a path of the HTTP door.
    pub fn serves(&self, path: &str) -> bool {
        let serving = NodeRole::serving(path);
        serving.is_empty() || serving.iter().any(|role| self.has_role(*role))
    }

    /// Where models for feeds are: as configured, else below the data directory.
    pub fn feed_models(&self) -> PathBuf {
        self.feeds.feed_models.clone().unwrap_or_else(|| self.data_dir.join("models"))
    }

    /// Where objects are kept: as configured, else below the data directory.
    pub fn objects_place(&self) -> Place {
        self.objects.objects.clone().unwrap_or_else(|| Place::Disk(self.data_dir.join("objects")))
    }
}

impl IdentityConfig {
    /// The number of hashing threads: as configured, else half the cores.
    pub fn password_thread_count(&self) -> usize {
        self.password_threads.map_or_else(|| (cores() / 2).max(1), usize::from)
    }
}

impl DatabaseConfig {
    /// How the embedded PostgreSQL is to be run.
    pub fn embedded(&self) -> EmbeddedConfig {
        EmbeddedConfig {
            bin_dir: self.postgres_bin_dir.clone(),
            connections_max: self.database_connections_max,
            ..EmbeddedConfig::default()
        }
    }

    /// How the pool is to be used.
    pub fn store(&self) -> StoreConfig {
        StoreConfig {
            connections_max: self.database_connections_max.into(),
            acquire_max: Duration::from_millis(self.database_acquire_ms.into()),
            statement_max: Duration::from_millis(self.database_statement_ms.into()),
            ..StoreConfig::default()
        }
    }
}

impl BusConfig {
    /// How Redis is to be used, when it is.
    pub fn redis(&self) -> Option<RedisConfig> {
        let url = self.redis_url.as_ref()?.expose();
        Some(RedisConfig { namespace: self.redis_namespace.clone(), ..RedisConfig::new(url) })
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[cfg(test)]
mod tests;
