//! `nova bench`: what the engine promises in numbers, measured from outside.
//!
//! The load is this process; what is measured are others: nodes of this program in an [installation] of their own, a node
//! somebody else runs, or another server that speaks WebSocket. Everything ends by itself and leaves nothing behind.
//!
//! | file | what it settles |
//! |---|---|
//! | [`chat`] | `nova bench chat`: the figures of chat, one scenario each |
//! | [`events`] | `nova bench events`: the event log, written, read again, and its sequencer killed |
//! | [`feeds`] | `nova bench feeds`: the figures of posts and feeds; `nova bench seed`: a town to measure them in |
//! | [`calls`] | `nova bench calls`: the figures of calls, with participants without a browser |
//! | [`swarm`], [`client`] | many sockets that cost little, and what they count |
//! | [`people`] | who they are |
//! | [`installation`] | PostgreSQL, Redis and nodes that are gone afterwards |
//! | [`measure`] | times, CPU, memory |

pub mod calls;
pub mod chat;
pub mod client;
pub mod events;
pub mod feeds;
pub mod installation;
pub mod measure;
pub mod people;
pub mod swarm;

use clap::Subcommand;

use installation::InstallError;

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Chat: fan-out, idle sockets, durable sends, resuming. Without --addr it measures nodes of its own.
    Chat(chat::ChatBench),
    /// The event log: how fast events get their places and are read again, and how soon another node goes on.
    Events(events::EventsBench),
    /// Posts and feeds, in a town of 25,000 people on nodes of its own.
    Feeds(feeds::FeedsBench),
    /// Put that town into the database of a configured engine.
    Seed(feeds::seed::SeedBench),
    /// Calls: one voice or camera to many, a room of fifty. Measures a node of its own.
    Calls(calls::CallsBench),
}

/// Why nothing was measured; prints as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The installation.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// What was asked cannot be measured, or broke while it was.
    #[error("{0}")]
    Because(String),
}

impl BenchError {
    /// For this reason.
    pub fn because(reason: impl std::fmt::Display) -> BenchError {
        BenchError::Because(reason.to_string())
    }
}

impl BenchCommand {
    /// Measures, and prints what is seen on standard output. Says whether every promise was kept.
    pub fn run(&self) -> Result<bool, BenchError> {
        crate::chat::limits::raise_open_files();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(BenchError::because)?;
        let here = tokio::task::LocalSet::new();
        match self {
            BenchCommand::Chat(chat) => here.block_on(&runtime, chat.run()),
            BenchCommand::Events(events) => here.block_on(&runtime, events.run()),
            BenchCommand::Feeds(feeds) => here.block_on(&runtime, feeds.run()),
            BenchCommand::Seed(seed) => here.block_on(&runtime, seed.run()),
            BenchCommand::Calls(calls) => here.block_on(&runtime, calls.run()),
        }
    }
}
