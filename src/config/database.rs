//! PostgreSQL: whose it is, and how patient the engine is with it.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::values::{Secret, parse_database_url};
use crate::postgres::EmbeddedConfig;
use crate::store::StoreConfig;

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
