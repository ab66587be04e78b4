//! Feeds: where heads are, models, and how long each level of a page may take.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::feeds::ladder::Budgets;

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
