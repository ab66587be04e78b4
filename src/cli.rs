//! The command line: what `nova` can be asked to do.

use clap::{Parser, Subcommand};

use crate::admin::AdminCommand;
use crate::bench::BenchCommand;
use crate::config::Config;
use crate::feeds::training::RankTrain;
use crate::torture::TortureCommand;

/// A realtime messaging and streaming engine: chat, live streams, group calls and feeds in one program.
#[derive(Debug, Parser)]
#[command(name = "nova", version, max_term_width = 120)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `nova` can be asked to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the engine.
    Serve(Box<Config>),
    /// Look at the configuration without running anything.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make the first administrator and help people who cannot help themselves; give it the configuration the engine has.
    #[command(subcommand)]
    Admin(AdminCommand),
    /// Learn a model for ranked feeds from what readers did; give it the configuration the engine has.
    RankTrain(Box<RankTrain>),
    /// Measure what the engine promises in numbers.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Put what the engine promises to the test: nodes are killed and cut off, and what people saw is judged.
    #[command(subcommand)]
    Torture(TortureCommand),
    /// Print the OpenAPI 3.1 document of the REST API.
    Openapi,
}

/// What can be done with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say whether flags, environment and file can be used, and print what they come to.
    Check(Box<Config>),
}
