//! Configuration: one documented struct, one group per part of the engine, each in the file of its part.
//!
//! Every option is a flag (`--http-addr`), an environment variable (`NOVA_HTTP_ADDR`) and a key of the TOML
//! file named by `--config` (`http_addr`); the flag wins over the environment, the environment over the file,
//! the file over the default. Bounds are checked while parsing, so a value that reaches the engine is usable.
//! A key the engine does not know is refused with the nearest name it does know. Secrets print as `set`.

mod bus;
mod chat;
mod database;
mod feeds;
mod http;
mod identity;
mod kafka;
mod limits;
mod live;
mod objects;
mod reading;
mod roles;
mod rtc;
mod telemetry;
mod values;
mod webhooks;

use std::path::PathBuf;

use clap::Args;

use crate::objects::Place;

pub use bus::BusConfig;
pub use chat::ChatConfig;
pub use database::DatabaseConfig;
pub use feeds::{FeedHeads, FeedsConfig};
pub use http::HttpConfig;
pub use identity::IdentityConfig;
pub use kafka::KafkaConfig;
pub use limits::LimitsConfig;
pub use live::LiveConfig;
pub use objects::ObjectsConfig;
pub use reading::{ConfigError, Setting, Source, option_names, parse};
pub use roles::NodeRole;
pub use rtc::RtcConfig;
pub use telemetry::{LogFormat, TelemetryConfig};
pub use values::Secret;
pub use webhooks::WebhooksConfig;

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

/// Those this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[cfg(test)]
mod tests;
