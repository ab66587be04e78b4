//! What other servers are told, and what it is signed with.

use clap::Args;

use super::values::{Secret, parse_webhook_url};
use crate::webhooks;

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
