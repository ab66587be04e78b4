//! Who is let in how often, by address, user and account.

use clap::Args;

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
