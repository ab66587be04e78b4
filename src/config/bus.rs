//! Redis, between nodes.

use clap::Args;

use super::values::{Secret, parse_namespace, parse_redis_url};
use crate::bus::redis::RedisConfig;

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

impl BusConfig {
    /// How Redis is to be used, when it is.
    pub fn redis(&self) -> Option<RedisConfig> {
        let url = self.redis_url.as_ref()?.expose();
        Some(RedisConfig { namespace: self.redis_namespace.clone(), ..RedisConfig::new(url) })
    }
}
