//! What an operator does by hand: `nova admin …`, for the first administrator and for people who cannot help themselves.
//!
//! A command is a node without doors for as long as it takes ([`Errand`]): it makes the calls the REST door makes, so the rules
//! are the same and what it changes reaches running nodes the same way, over the bus or, where there is none, by their look into the
//! store every two seconds. It therefore needs the configuration the engine has, `REDIS_URL` included. It answers with one line for
//! each result; a password it made up stands in a line of its own, and nowhere else.

mod events;
mod feeds;
mod password;

use std::fmt;
use std::sync::Arc;

use clap::{Args, Subcommand};
use nova_actors::id::UserId;
use time::UtcOffset;
use time::macros::format_description;

use crate::app::{Errand, StartError};
use crate::config::Config;
use crate::identity::accounts::Registration;
use crate::identity::{IdentityError, Role, Why, names};
use crate::store::StoreError;
use crate::store::accounts::Account;
use crate::store::sessions::{DEVICES_MAX, Device};

pub use events::EventsCommand;
pub use feeds::{ExperimentsCommand, FeedsCommand};
pub use password::PasswordInput;

/// What an operator can do by hand.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Make an account, also where registration is closed; without --password-stdin its password is made up and shown once.
    CreateUser(CreateUser),
    /// Give somebody a role.
    Grant(RoleOf),
    /// Take a role from somebody.
    Revoke(RoleOf),
    /// Set a new password and end all sessions; without --password-stdin the password is made up and shown once.
    ResetPassword(ResetPassword),
    /// Take away somebody's second factor: they have lost it and their recovery codes.
    DisableTotp(Whom),
    /// Suspend an account: its sessions end and nobody can log in to it.
    Suspend(Whom),
    /// Let a suspended account in again.
    Unsuspend(Whom),
    /// List the devices somebody is logged in on.
    Sessions(Whom),
    /// Log somebody out everywhere.
    EndSessions(Whom),
    /// Begin a new history of all conversations, after the database was restored from a backup: devices know more than it does, and are told to
    /// read everything anew. With all nodes stopped.
    NewEpoch(Everybody),
    /// Look after the event log.
    #[command(subcommand)]
    Events(EventsCommand),
    /// Decide about feeds while the engine runs.
    #[command(subcommand)]
    Feeds(FeedsCommand),
    /// Show some readers another order of their feed, to find out which is better.
    #[command(subcommand)]
    Experiments(ExperimentsCommand),
}

/// `nova admin create-user`.
#[derive(Debug, Args)]
pub struct CreateUser {
    /// The name to have.
    pub username: String,
    /// Their e-mail address.
    pub email: String,
    /// A role to have from the start.
    #[arg(long)]
    pub role: Option<Role>,
    /// The password to have.
    #[command(flatten)]
    pub password: PasswordInput,
    /// The engine's configuration.
    #[command(flatten)]
    pub config: Box<Config>,
}

/// Somebody, for a command that needs no more.
#[derive(Debug, Args)]
pub struct Whom {
    /// A username, an e-mail address or an id (`user_…`).
    pub login: String,
    /// The engine's configuration.
    #[command(flatten)]
    pub config: Box<Config>,
}

/// Nobody in particular, for a command about everybody.
#[derive(Debug, Args)]
pub struct Everybody {
    /// The engine's configuration.
    #[command(flatten)]
    pub config: Box<Config>,
}

/// Somebody and a role.
#[derive(Debug, Args)]
pub struct RoleOf {
    /// Who.
    #[command(flatten)]
    pub whom: Whom,
    /// The role.
    pub role: Role,
}

/// `nova admin reset-password`.
#[derive(Debug, Args)]
pub struct ResetPassword {
    /// Who.
    #[command(flatten)]
    pub whom: Whom,
    /// The password to have.
    #[command(flatten)]
    pub password: PasswordInput,
}

/// Why a command did nothing; each prints as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The login names nobody.
    #[error("nobody has the username, e-mail address or id `{}`", .0.escape_debug())]
    Nobody(String),
    /// What was asked for would confuse nodes that run.
    #[error(
        "{0} of the nodes of this database ran within the last ten seconds: stop them all, then do this again"
    )]
    NodesRun(i64),
    /// Nobody reads the event log under this name.
    #[error("no group is called `{}`; `nova admin events groups` lists them", .0.escape_debug())]
    NoSuchGroup(String),
    /// What was given cannot be had; the fields and why.
    #[error("{0}")]
    Fields(String),
    /// Standard input holds no password.
    #[error("no password was read from standard input: {0}")]
    Password(&'static str),
    /// The database or the bus cannot be used.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Identity refused.
    #[error(transparent)]
    Identity(IdentityError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<IdentityError> for AdminError {
    fn from(error: IdentityError) -> AdminError {
        match error {
            IdentityError::Fields(fields) => {
                let said = fields.iter().map(|refused| format!("{}: {}", refused.field, refused.message));
                AdminError::Fields(said.collect::<Vec<_>>().join("; "))
            }
            other => AdminError::Identity(other),
        }
    }
}

impl AdminCommand {
    /// The configuration it was given.
    pub fn config(&self) -> &Config {
        match self {
            AdminCommand::CreateUser(new) => &new.config,
            AdminCommand::Grant(of) | AdminCommand::Revoke(of) => &of.whom.config,
            AdminCommand::ResetPassword(reset) => &reset.whom.config,
            AdminCommand::DisableTotp(whom)
            | AdminCommand::Suspend(whom)
            | AdminCommand::Unsuspend(whom)
            | AdminCommand::Sessions(whom)
            | AdminCommand::EndSessions(whom) => &whom.config,
            AdminCommand::NewEpoch(of) => &of.config,
            AdminCommand::Events(command) => command.config(),
            AdminCommand::Feeds(command) => command.config(),
            AdminCommand::Experiments(command) => command.config(),
        }
    }

    /// Does it, and returns the lines to be shown. Must be called inside a tokio runtime. Standard input is read first, before
    /// anything is held that others wait for.
    ///
    /// # Errors
    /// [`AdminError`], as one sentence; nothing was changed then.
    pub async fn run(&self) -> Result<Vec<String>, AdminError> {
        let password = match self {
            AdminCommand::CreateUser(CreateUser { password, .. })
            | AdminCommand::ResetPassword(ResetPassword { password, .. }) => Some(password.take()?),
            _ => None,
        };
        // Whoever mistypes a folder shall not have a new database in it and be told that nobody is there.
        let makes_database = matches!(self, AdminCommand::CreateUser(_));
        let errand = Errand::open(self.config(), makes_database).await?;
        let done = self.carry_out(&errand, password).await;
        errand.close().await;
        done
    }

    async fn carry_out(
        &self,
        errand: &Errand,
        password: Option<password::Chosen>,
    ) -> Result<Vec<String>, AdminError> {
        let password = password.unwrap_or_default();
        let identity = errand.identity();
        let said = match self {
            AdminCommand::CreateUser(CreateUser { username, email, role, .. }) => {
                let registration =
                    Registration { username, email, password: password.text(), display_name: None };
                let user = identity.create_account(&registration, role.as_slice()).await?;
                let roles = role.map(|role| format!(" with the role {}", role.as_str())).unwrap_or_default();
                format!("{username} ({user}) has an account{roles}")
            }
            AdminCommand::Grant(RoleOf { whom, role }) => {
                let found = find(errand, whom).await?;
                identity.set_role(found.0.id, *role, true).await?;
                format!("{found} has the role {}", role.as_str())
            }
            AdminCommand::Revoke(RoleOf { whom, role }) => {
                let found = find(errand, whom).await?;
                identity.set_role(found.0.id, *role, false).await?;
                format!("{found} does not have the role {}", role.as_str())
            }
            AdminCommand::ResetPassword(ResetPassword { whom, .. }) => {
                let found = find(errand, whom).await?;
                let ended = identity.set_password(found.0.id, password.text(), None).await?;
                format!("{found} has a new password; {}", sessions_ended(ended))
            }
            AdminCommand::DisableTotp(whom) => {
                let found = find(errand, whom).await?;
                match identity.disable_totp(found.0.id).await? {
                    true => format!("{found} logs in without a second factor now"),
                    false => format!("{found} had no second factor"),
                }
            }
            AdminCommand::Suspend(whom) => {
                let found = find(errand, whom).await?;
                let ended = identity.suspend(found.0.id, true).await?;
                format!("{found} is suspended; {}", sessions_ended(ended))
            }
            AdminCommand::Unsuspend(whom) => {
                let found = find(errand, whom).await?;
                identity.suspend(found.0.id, false).await?;
                format!("{found} can log in")
            }
            AdminCommand::Sessions(whom) => {
                let found = find(errand, whom).await?;
                let devices = identity.devices(found.0.id, None, DEVICES_MAX).await?;
                if devices.is_empty() {
                    return Ok(vec![format!("{found} is logged in nowhere")]);
                }
                return Ok(devices.iter().map(line_of).collect());
            }
            AdminCommand::NewEpoch(_) => {
                let now = time::OffsetDateTime::now_utc();
                let running = errand.store().nodes_heard_since(now - crate::nodes::SILENCE_MAX).await?;
                if running > 0 {
                    return Err(AdminError::NodesRun(running));
                }
                let (epoch, changed) = errand.store().begin_epoch(now).await?;
                format!(
                    "{changed} conversations have the epoch {epoch} or a later one; devices that knew more read them anew"
                )
            }
            AdminCommand::Events(command) => return command.run(errand.store()).await,
            AdminCommand::Feeds(command) => return command.run(errand.store()).await,
            AdminCommand::Experiments(command) => return command.run(errand.store()).await,
            AdminCommand::EndSessions(whom) => {
                let found = find(errand, whom).await?;
                let ended = identity.end_sessions(found.0.id, Why::Removed).await?;
                format!("{found} is logged out; {}", sessions_ended(ended))
            }
        };
        let made_up = password.made_up().map(|password| format!("password: {password}"));
        Ok(std::iter::once(said).chain(made_up).collect())
    }
}

/// Somebody who was found; prints as name and id.
struct Found(Arc<Account>);

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0.username, self.0.id)
    }
}

async fn find(errand: &Errand, whom: &Whom) -> Result<Found, AdminError> {
    // An id is longer than any name, so no name is taken for one.
    let user = match whom.login.parse::<UserId>() {
        Ok(user) => Some(user),
        Err(_) => {
            let found = errand.store().credentials(&names::login_key(&whom.login)).await?;
            found.map(|credentials| credentials.user)
        }
    };
    let account = match user {
        Some(user) => errand.identity().account(user).await?,
        None => None,
    };
    account.map(Found).ok_or_else(|| AdminError::Nobody(whom.login.clone()))
}

fn sessions_ended(count: usize) -> String {
    match count {
        0 => "there was no session to end".to_owned(),
        1 => "1 session ended".to_owned(),
        _ => format!("{count} sessions ended"),
    }
}

/// Names come from clients and go to a terminal: nothing in them may be obeyed.
fn line_of(device: &Device) -> String {
    const FORMAT: &[time::format_description::BorrowedFormatItem<'static>] =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    let at = |at: time::OffsetDateTime| {
        at.to_offset(UtcOffset::UTC).format(FORMAT).unwrap_or_else(|_| at.unix_timestamp().to_string())
    };
    format!(
        "{} \"{}\" on {}, from {}, since {}, last seen {}",
        device.id,
        device.name.escape_debug(),
        device.platform.escape_debug(),
        device.network.as_deref().unwrap_or("an unknown network"),
        at(device.created_at),
        at(device.last_seen_at),
    )
}
