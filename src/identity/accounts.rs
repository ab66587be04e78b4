//! Making, changing and deleting accounts.

use std::sync::Arc;

use nova_actors::id::UserId;

use super::caller::Role;
use super::names::{self, EmailAddress, NameError, Username};
use super::passwords::{Password, PasswordRefused};
use super::refresh::RefreshToken;
use super::sessions::{From, LoggedIn};
use super::{Caller, Identity, IdentityError, Parts, Why};
use crate::error::FieldError;
use crate::store::accounts::{Account, NewAccount, ProfileChange};

/// What somebody who registers gives.
#[derive(Clone)]
pub struct Registration<'a> {
    /// The name to have.
    pub username: &'a str,
    /// Their address.
    pub email: &'a str,
    /// The password to have.
    pub password: &'a str,
    /// What others are to read; the name when left out.
    pub display_name: Option<&'a str>,
}

/// A profile edit as sent; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct ProfileEdit<'a> {
    /// Another name.
    pub username: Option<&'a str>,
    /// What others are to read.
    pub display_name: Option<&'a str>,
    /// What the user tells about themself.
    pub bio: Option<&'a str>,
}

impl Identity {
    /// Registers and logs in.
    pub async fn register(
        &self,
        registration: &Registration<'_>,
        from: From,
    ) -> Result<LoggedIn, IdentityError> {
        if !self.parts.config.open_registration {
            return Err(IdentityError::RegistrationClosed);
        }
        let new = self.parts.new_account(registration, &[]).await?;
        let token = RefreshToken::generate();
        let device = self.parts.new_device(new.id, &token, from);
        self.parts.store.create_account(&new, Some(&device)).await?;
        self.parts.logged_in(new.id, device.id, &token).await
    }

    /// Makes an account without logging in to it; for operators, also where registration is closed.
    pub async fn create_account(
        &self,
        registration: &Registration<'_>,
        roles: &[Role],
    ) -> Result<UserId, IdentityError> {
        let new = self.parts.new_account(registration, roles).await?;
        self.parts.store.create_account(&new, None).await?;
        Ok(new.id)
    }

    /// The account with this id, from memory or from the store.
    pub async fn account(&self, user: UserId) -> Result<Option<Arc<Account>>, IdentityError> {
        Ok(self.parts.accounts.get(user, &self.parts.store).await?)
    }

    /// The account of a caller.
    pub async fn me(&self, caller: &Caller) -> Result<Arc<Account>, IdentityError> {
        self.account(caller.user).await?.ok_or(IdentityError::Revoked(Why::Deleted))
    }

    /// The account with this name, however it is spelt.
    pub async fn account_named(&self, name: &str) -> Result<Option<Arc<Account>>, IdentityError> {
        match self.parts.store.user_by_name(&names::login_key(name)).await? {
            Some(user) => self.account(user).await,
            None => Ok(None),
        }
    }

    /// Changes a profile, if it is still at `version` where one is given.
    pub async fn edit_profile(
        &self,
        user: UserId,
        version: Option<i64>,
        change: &ProfileChange,
    ) -> Result<Arc<Account>, IdentityError> {
        self.parts.store.change_profile(user, version, change, self.parts.now()).await?;
        self.parts.changed(user).await;
        self.account(user).await?.ok_or(IdentityError::Revoked(Why::Deleted))
    }

    /// What an edit comes to, or every field of it that is not as it must be.
    pub fn judge_profile(edit: &ProfileEdit<'_>) -> Result<ProfileChange, IdentityError> {
        let mut refused = Vec::new();
        let change = ProfileChange {
            username: read(&mut refused, "username", edit.username.map(Username::parse)),
            display_name: read(&mut refused, "display_name", edit.display_name.map(names::display_name)),
            bio: read(&mut refused, "bio", edit.bio.map(names::bio)),
        };
        if refused.is_empty() { Ok(change) } else { Err(IdentityError::Fields(refused)) }
    }

    /// Sets another password and ends the other sessions. The old password is to be [confirmed](Identity::confirm) before.
    pub async fn change_password(&self, caller: &Caller, password: &str) -> Result<(), IdentityError> {
        self.set_password(caller.user, password, Some(caller)).await.map(drop)
    }

    /// Sets a password and ends every session but the caller's; returns how many.
    pub async fn set_password(
        &self,
        user: UserId,
        password: &str,
        except: Option<&Caller>,
    ) -> Result<usize, IdentityError> {
        let account = self.account(user).await?.ok_or(IdentityError::Revoked(Why::Deleted))?;
        let password = choose("password", password, &[&account.username, &account.email])?;
        let hash = self.parts.passwords.hash(password).await?;
        let now = self.parts.now();
        let revoked =
            self.parts.store.change_password(user, &hash, except.map(|caller| caller.device), now).await?;
        let count = revoked.len();
        self.parts.revoked(revoked).await;
        Ok(count)
    }

    /// Deletes an account. At once: nobody finds it, its sessions end, its e-mail address is free. Its name is held for
    /// [90 days](crate::store::accounts::NAME_HELD), the rest purged after [7](crate::store::accounts::PURGED_AFTER).
    pub async fn delete_account(&self, user: UserId) -> Result<(), IdentityError> {
        let revoked = self.parts.store.delete_account(user, self.parts.now()).await?;
        self.parts.revoked(revoked).await;
        self.parts.changed(user).await;
        Ok(())
    }

    /// Suspends an account and ends its sessions, or lets it in again; returns how many sessions ended.
    pub async fn suspend(&self, user: UserId, suspended: bool) -> Result<usize, IdentityError> {
        let revoked = self.parts.store.suspend(user, suspended, self.parts.now()).await?;
        let count = revoked.len();
        self.parts.revoked(revoked).await;
        self.parts.changed(user).await;
        Ok(count)
    }

    /// Gives a role or takes it; takes effect at once.
    pub async fn set_role(&self, user: UserId, role: Role, has: bool) -> Result<(), IdentityError> {
        self.parts.store.set_role(user, role.as_str(), has, self.parts.now()).await?;
        self.parts.changed(user).await;
        Ok(())
    }
}

impl Parts {
    /// Every field is read before any is refused; the hash is made last, because it is dear.
    async fn new_account(
        &self,
        given: &Registration<'_>,
        roles: &[Role],
    ) -> Result<NewAccount, IdentityError> {
        let mut refused = Vec::new();
        let username = read(&mut refused, "username", Some(Username::parse(given.username)));
        let email = read(&mut refused, "email", Some(EmailAddress::parse(given.email)));
        let shown = given.display_name.map(names::display_name);
        let display_name = read(&mut refused, "display_name", shown);
        let password = choose("password", given.password, &[given.username, given.email]);
        let password = match password {
            Ok(password) => Some(password),
            Err(IdentityError::Fields(fields)) => {
                refused.extend(fields);
                None
            }
            Err(error) => return Err(error),
        };
        let (Some(username), Some(email), Some(password), true) =
            (username, email, password, refused.is_empty())
        else {
            return Err(IdentityError::Fields(refused));
        };
        let now = self.now();
        Ok(NewAccount {
            id: UserId::new(now),
            display_name: display_name.unwrap_or_else(|| username.as_str().to_owned()),
            username,
            email,
            password_hash: self.passwords.hash(password).await?,
            roles: roles.iter().map(|role| role.as_str().to_owned()).collect(),
            now,
        })
    }
}

fn read<T>(refused: &mut Vec<FieldError>, field: &str, read: Option<Result<T, NameError>>) -> Option<T> {
    match read? {
        Ok(value) => Some(value),
        Err(error) => {
            refused.push(FieldError { field: field.to_owned(), message: error.to_string() });
            None
        }
    }
}

fn choose(field: &str, typed: &str, known: &[&str]) -> Result<Password, IdentityError> {
    Password::choose(typed, known).map_err(|error: PasswordRefused| {
        IdentityError::Fields(vec![FieldError { field: field.to_owned(), message: error.to_string() }])
    })
}
