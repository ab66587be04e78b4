//! `nova admin feeds …` and `nova admin experiments …`: what is decided about feeds while the engine runs.

use clap::{Args, Subcommand, ValueEnum};
use time::OffsetDateTime;
use uuid::Uuid;

use super::AdminError;
use crate::config::Config;
use crate::feeds::experiments::{Arm, BUCKETS, Experiment};
use crate::store::Store;

/// What an operator can decide about feeds.
#[derive(Debug, Subcommand)]
pub enum FeedsCommand {
    /// Read feeds straight from PostgreSQL, past everything that is kept; every node follows within a second.
    Direct(Direct),
}

/// `nova admin feeds direct`.
#[derive(Debug, Args)]
pub struct Direct {
    /// Whether.
    pub to: Switch,
    /// The engine's configuration.
    #[command(flatten)]
    pub config: Box<Config>,
}

/// A switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It is thrown.
    On,
    /// It is not.
    Off,
}

/// What an operator can do with experiments.
#[derive(Debug, Subcommand)]
pub enum ExperimentsCommand {
    /// List what runs.
    List(All),
    /// Begin an experiment, or change the ramp and the arms of one that runs.
    Set(Set),
    /// End an experiment: everybody's feed is ordered as for those who were in none.
    End(End),
}

/// `nova admin experiments list`.
#[derive(Debug, Args)]
pub struct All {
    /// The engine's configuration.
    #[command(flatten)]
    pub config: Box<Config>,
}

/// `nova admin experiments set`.
#[derive(Debug, Args)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// The share of users who are in it, in per cent (steps of 0.01).
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub ramp: u32,
    /// An arm, NAME:WEIGHT:RANKING; the ranking is `control`, `engagement`, `newest` or `model:FILE` without `.json`. At least two, one
    /// of them `control`.
    #[arg(long = "arm", value_name = "ARM", required = true)]
    pub arms: Vec<Arm>,
    /// The engine's configuration.
    #[command(flatten)]
    pub config: Box<Config>,
}

/// `nova admin experiments end`.
#[derive(Debug, Args)]
pub struct End {
    /// Its name.
    pub name: String,
    /// The engine's configuration.
    #[command(flatten)]
    pub config: Box<Config>,
}

fn percent(text: &str) -> Result<u32, String> {
    let percent: f64 = text.parse().map_err(|_| "it must be a number from 0 to 100".to_owned())?;
    match (0.0..=100.0).contains(&percent) {
        // At most 10,000.
        true => Ok((percent * f64::from(BUCKETS) / 100.0).round() as u32),
        false => Err("it must be a number from 0 to 100".to_owned()),
    }
}

impl FeedsCommand {
    /// The configuration it was given.
    pub fn config(&self) -> &Config {
        let FeedsCommand::Direct(direct) = self;
        &direct.config
    }

    /// Does it, and returns the lines to be shown.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn run(&self, store: &Store) -> Result<Vec<String>, AdminError> {
        let FeedsCommand::Direct(direct) = self;
        store.set_feeds_direct(direct.to == Switch::On, OffsetDateTime::now_utc()).await?;
        Ok(vec![match direct.to {
            Switch::On => "feeds are read straight from PostgreSQL within a second".to_owned(),
            Switch::Off => "feeds are read as usual within a second".to_owned(),
        }])
    }
}

impl ExperimentsCommand {
    /// The configuration it was given.
    pub fn config(&self) -> &Config {
        match self {
            ExperimentsCommand::List(All { config })
            | ExperimentsCommand::Set(Set { config, .. })
            | ExperimentsCommand::End(End { config, .. }) => config,
        }
    }

    /// Does it, and returns the lines to be shown.
    ///
    /// # Errors
    /// When what is asked for is no experiment, when there is none of this name, or the database is away.
    pub async fn run(&self, store: &Store) -> Result<Vec<String>, AdminError> {
        match self {
            ExperimentsCommand::List(_) => {
                let all = store.experiments().await?;
                Ok(match all.is_empty() {
                    true => vec!["no experiment runs".to_owned()],
                    false => all.iter().map(line).collect(),
                })
            }
            ExperimentsCommand::Set(Set { name, ramp, arms, .. }) => {
                let salt = Uuid::now_v7().simple().to_string();
                let new = Experiment { name: name.clone(), salt, ramp: *ramp, arms: arms.clone() };
                new.check().map_err(AdminError::Fields)?;
                store.put_experiment(&new, OffsetDateTime::now_utc()).await?;
                Ok(vec![line(&new)])
            }
            ExperimentsCommand::End(End { name, .. }) => match store.end_experiment(name).await? {
                true => Ok(vec![format!("{name} has ended")]),
                false => Err(AdminError::Fields(format!(
                    "no experiment is called `{}`; `nova admin experiments list` lists them",
                    name.escape_debug()
                ))),
            },
        }
    }
}

fn line(experiment: &Experiment) -> String {
    let arms = experiment.arms.iter().map(|arm| format!("{}:{}:{}", arm.name, arm.weight, arm.ranking));
    format!(
        "{} for {:.2} % of users: {}",
        experiment.name,
        f64::from(experiment.ramp) * 100.0 / f64::from(BUCKETS),
        arms.collect::<Vec<_>>().join(", ")
    )
}
