//! `nova torture`: what the engine promises of losing nothing, put to the test by everything that can happen.
//!
//! | file | what it settles |
//! |---|---|
//! | [`chat`] | `nova torture chat`: nodes, what happens to them, and in which order |
//! | [`device`] | who talks meanwhile, and writes down what it sees |
//! | [`proxy`] | a way to Redis that can be cut |
//! | [`history`], [`check`], [`fault`] | what was seen, the judge of it, and what must not be |

pub mod chat;
pub mod check;
pub mod device;
pub mod fault;
pub mod history;
pub mod proxy;

use clap::Subcommand;

use crate::bench::BenchError;
use crate::bench::installation::InstallError;

/// What can be tortured.
#[derive(Debug, Subcommand)]
pub enum TortureCommand {
    /// Chat: two nodes that are killed, paused and cut off, while people talk; afterwards every device's view is judged.
    Chat(chat::ChatTorture),
}

/// Why nothing was judged; prints as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum TortureError {
    /// The installation.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// Something broke that was not to be tortured, or did not recover.
    #[error("{0}")]
    Because(String),
}

impl TortureError {
    /// For this reason.
    pub fn because(reason: impl std::fmt::Display) -> TortureError {
        TortureError::Because(reason.to_string())
    }
}

impl From<BenchError> for TortureError {
    fn from(error: BenchError) -> TortureError {
        TortureError::because(error)
    }
}

impl TortureCommand {
    /// Tortures and judges; what is wrong is printed on standard output. Whether nothing was.
    pub fn run(&self) -> Result<bool, TortureError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(TortureError::because)?;
        let TortureCommand::Chat(chat) = self;
        tokio::task::LocalSet::new().block_on(&runtime, chat.run())
    }
}
