//! Accounts, passwords and tokens, and the secret that seals their keys.

use clap::Args;

use super::cores;
use super::values::{Secret, parse_any_secret, parse_secret};

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

impl IdentityConfig {
    /// The number of hashing threads: as configured, else half the cores.
    pub fn password_thread_count(&self) -> usize {
        self.password_threads.map_or_else(|| (cores() / 2).max(1), usize::from)
    }
}
