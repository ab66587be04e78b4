//! `nova admin events …`: how far groups of consumers are, stopping them, letting them read again, what they could not take.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::AdminError;
use crate::config::Config;
use crate::events::Topic;
use crate::store::Store;
use crate::store::events::{Lag, ReplayFrom};

/// Dead letters shown at most.
const LETTERS_MAX: i64 = 100;

/// What an operator can do with the event log.
#[derive(Debug, Subcommand)]
pub enum EventsCommand {
    /// How far every group is behind, part by part: the last place it has taken, events it has not, how long the next has waited.
    Lag(Everything),
    /// Every group in one line: what it reads, how far it is behind, whether it is paused, failing or has dead letters.
    Groups(Everything),
    /// Stop a group from reading; what happens meanwhile waits for it.
    Pause(OfGroup),
    /// Let a group go on where it was.
    Resume(OfGroup),
    /// Let a group read again from a place or a time that is still kept.
    Replay(Replay),
    /// What groups could not take, the newest first; with --drop, take it away.
    DeadLetters(DeadLetters),
    /// Give a group its dead letters once more: those it takes are gone, the others stay with the new reason.
    Retry(Retry),
    /// Take away the cursors and the dead letters of a group that reads no more. One that runs begins anew, with all that is still kept.
    Forget(Forget),
}

/// A command about all groups.
#[derive(Debug, Args)]
pub struct Everything {
    /// The engine's configuration.
    #[command(flatten)]
    pub config: Box<Config>,
}

/// A group, or one topic of it.
#[derive(Debug, Args)]
pub struct OfGroup {
    /// The group, as `lag` names it.
    pub group: String,
    /// Only this topic.
    #[arg(long, value_parser = topic)]
    pub topic: Option<Topic>,
    /// The engine's configuration.
    #[command(flatten)]
    pub config: Box<Config>,
}

/// `nova admin events replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// Which.
    #[command(flatten)]
    pub of: OfGroup,
    /// From this place of each part on; 1 is the first.
    #[arg(long, required_unless_present = "since", conflicts_with = "since", value_parser = clap::value_parser!(i64).range(1..))]
    pub from_place: Option<i64>,
    /// From what was logged then on (RFC 3339).
    #[arg(long, value_parser = moment)]
    pub since: Option<OffsetDateTime>,
}

/// `nova admin events dead-letters`.
#[derive(Debug, Args)]
pub struct DeadLetters {
    /// Only this group's.
    pub group: Option<String>,
    /// Take them away.
    #[arg(long, requires = "group")]
    pub drop: bool,
    /// Only this one, by the number that stands first in its line.
    #[arg(long, requires = "drop")]
    pub id: Option<i64>,
    /// The engine's configuration.
    #[command(flatten)]
    pub config: Box<Config>,
}

/// `nova admin events retry`.
#[derive(Debug, Args)]
pub struct Retry {
    /// The group, as `groups` names it.
    pub group: String,
    /// Only this one, by the number that stands first in its line.
    #[arg(long)]
    pub id: Option<i64>,
    /// The engine's configuration.
    #[command(flatten)]
    pub config: Box<Config>,
}

/// `nova admin events forget`.
#[derive(Debug, Args)]
pub struct Forget {
    /// The group, as `groups` names it.
    pub group: String,
    /// The engine's configuration.
    #[command(flatten)]
    pub config: Box<Config>,
}

fn topic(name: &str) -> Result<Topic, String> {
    Topic::named(name).ok_or_else(|| {
        let known: Vec<_> = Topic::ALL.iter().map(|topic| topic.name()).collect();
        format!("it must be one of {}", known.join(", "))
    })
}

fn moment(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339).map_err(|_| "it must be a time as in RFC 3339".to_owned())
}

/// A line for each group.
fn groups(lags: &[Lag], letters: &[(String, i64)]) -> Vec<String> {
    let mut all: BTreeMap<&str, Vec<&Lag>> = BTreeMap::new();
    for lag in lags {
        all.entry(&lag.group).or_default().push(lag);
    }
    let line = |(group, parts): (&str, Vec<&Lag>)| {
        let mut topics: Vec<_> = parts.iter().map(|lag| lag.topic.name()).collect();
        topics.dedup();
        let count = |of: &dyn Fn(&Lag) -> bool| parts.iter().filter(|lag| of(lag)).count();
        let letters = letters.iter().find(|(of, _)| of == group).map_or(0, |(_, count)| *count);
        format!(
            "{} reads {}: {} parts, {} behind, {} s, {} paused, {} failing, {letters} dead letters",
            group.escape_debug(),
            topics.join(" "),
            parts.len(),
            parts.iter().map(|lag| lag.behind).sum::<i64>(),
            parts.iter().map(|lag| lag.age_s).max().unwrap_or(0),
            count(&|lag| lag.is_paused),
            count(&|lag| lag.failures > 0),
        )
    };
    all.into_iter().map(line).collect()
}

impl EventsCommand {
    /// The configuration it was given.
    pub fn config(&self) -> &Config {
        match self {
            EventsCommand::Lag(Everything { config })
            | EventsCommand::Groups(Everything { config })
            | EventsCommand::Retry(Retry { config, .. })
            | EventsCommand::Forget(Forget { config, .. })
            | EventsCommand::Pause(OfGroup { config, .. })
            | EventsCommand::Resume(OfGroup { config, .. })
            | EventsCommand::Replay(Replay { of: OfGroup { config, .. }, .. })
            | EventsCommand::DeadLetters(DeadLetters { config, .. }) => config,
        }
    }

    /// Does it, and returns the lines to be shown.
    ///
    /// # Errors
    /// When there is no such group, or the database is away.
    pub async fn run(&self, store: &Store) -> Result<Vec<String>, AdminError> {
        let lags = store.event_lag().await?;
        let known = |group: &str| match lags.iter().any(|lag| lag.group == group) {
            true => Ok(()),
            false => Err(AdminError::NoSuchGroup(group.to_owned())),
        };
        Ok(match self {
            EventsCommand::Lag(_) | EventsCommand::Groups(_) if lags.is_empty() => {
                vec!["no group reads the event log".to_owned()]
            }
            EventsCommand::Groups(_) => groups(&lags, &store.dead_letter_counts().await?),
            EventsCommand::Retry(Retry { group, id, .. }) => {
                known(group)?;
                let due = store.retry_dead_letters(group, *id).await?;
                vec![format!("{due} dead letters of {group} are given to it again")]
            }
            EventsCommand::Forget(Forget { group, .. }) => {
                known(group)?;
                let parts = store.forget_group(group).await?;
                vec![format!("{group} is forgotten; it read {parts} parts")]
            }
            EventsCommand::Lag(_) => {
                let line = |lag: &Lag| {
                    let paused = if lag.is_paused { ", paused" } else { "" };
                    let failing = match &lag.error {
                        Some(error) => format!(", failed {} times: {}", lag.failures, error.escape_debug()),
                        None => String::new(),
                    };
                    format!(
                        "{} {}/{}: at {}, {} behind, {} s{paused}{failing}",
                        lag.group.escape_debug(),
                        lag.topic.name(),
                        lag.part,
                        lag.place,
                        lag.behind,
                        lag.age_s
                    )
                };
                lags.iter().map(line).collect()
            }
            EventsCommand::Pause(OfGroup { group, topic, .. }) => {
                known(group)?;
                let parts = store.pause_group(group, *topic, true).await?;
                vec![format!("{group} is paused; that changed {parts} parts")]
            }
            EventsCommand::Resume(OfGroup { group, topic, .. }) => {
                known(group)?;
                let parts = store.pause_group(group, *topic, false).await?;
                vec![format!("{group} goes on; that changed {parts} parts")]
            }
            EventsCommand::Replay(Replay { of: OfGroup { group, topic, .. }, from_place, since }) => {
                known(group)?;
                let from = match (from_place, since) {
                    (Some(place), _) => ReplayFrom::Place(*place),
                    (None, Some(since)) => ReplayFrom::Since(*since),
                    // The command line asks for one of them.
                    (None, None) => ReplayFrom::Place(1),
                };
                let parts = store.replay_group(group, *topic, from).await?;
                vec![format!("{group} reads {parts} parts again")]
            }
            EventsCommand::DeadLetters(DeadLetters { group: Some(group), drop: true, id, .. }) => {
                let dropped = store.drop_dead_letters(group, *id).await?;
                vec![format!("{dropped} dead letters of {group} are gone")]
            }
            EventsCommand::DeadLetters(DeadLetters { group, .. }) => {
                let letters = store.dead_letters(group.as_deref(), LETTERS_MAX).await?;
                if letters.is_empty() {
                    return Ok(vec!["there are no dead letters".to_owned()]);
                }
                let line = |letter: &crate::store::dead_letters::DeadLetter| {
                    let event = &letter.event;
                    format!(
                        "{} {} {}/{} at {}: {} {}: {}",
                        letter.id,
                        letter.group.escape_debug(),
                        event.topic.name(),
                        event.part,
                        event.place,
                        event.kind.escape_debug(),
                        event.id,
                        letter.error.escape_debug()
                    )
                };
                letters.iter().map(line).collect()
            }
        })
    }
}
