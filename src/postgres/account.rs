//! Who PostgreSQL runs as. It refuses to run as root, so an engine that is root lets it run as somebody else.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, fchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::{PostgresError, files};

/// Whom an engine that is root asks, in this order: the account PostgreSQL's packages make, then the one everybody has.
const ACCOUNTS: &[&str] = &["postgres", "nobody"];

/// The account that PostgreSQL runs as and that owns its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Whether the engine is somebody else (root) and has to become it.
    pub(super) other: bool,
}

impl Account {
    /// Whoever may own `cluster`: ourselves, or for root the first of its accounts that can reach `data_dir`, which exists.
    pub(super) fn choose(data_dir: &Path, cluster: &Path) -> Result<Account, PostgresError> {
        let owner = match cluster.metadata() {
            Ok(metadata) => Some(metadata.uid()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(files("look at", cluster)(error)),
        };
        let account = match rustix::process::geteuid().is_root() {
            false => Account::ourselves(),
            true => Account::for_root(data_dir, owner)?,
        };
        match owner {
            Some(uid) if uid != account.uid => Err(PostgresError::WrongOwner {
                dir: cluster.to_owned(),
                owner: user_with(uid).map_or_else(|| format!("the user id {uid}"), |user| user.name),
                account: account.name,
            }),
            _ => Ok(account),
        }
    }

    /// The user the engine runs as.
    pub(super) fn ourselves() -> Account {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        // Accounts of a directory service are not in the file; `id` asks where they are.
        let name = user_with(uid).map(|user| user.name).or_else(name_by_id);
        Account { name: name.unwrap_or_else(|| uid.to_string()), uid, gid, other: false }
    }

    fn for_root(data_dir: &Path, owner: Option<u32>) -> Result<Account, PostgresError> {
        let mut candidates: Vec<Account> = Vec::new();
        // In somebody's home (`sudo make run`) only that somebody may pass.
        let above = data_dir.ancestors().find_map(|dir| match dir.metadata() {
            Ok(metadata) if metadata.uid() != 0 => Some(metadata.uid()),
            _ => None,
        });
        candidates.extend(above.and_then(user_with));
        for name in ACCOUNTS {
            candidates.extend(user_named(name).filter(|user| user.uid != 0));
        }
        // A cluster that exists chose once; an account that came later does not take it away.
        if let Some(theirs) = candidates.iter().position(|user| Some(user.uid) == owner) {
            candidates = vec![candidates.swap_remove(theirs)];
        }
        let Some(first) = candidates.first().cloned() else {
            return Err(PostgresError::NoAccount {
                why: format!("there is no account {}", ACCOUNTS.join(" or ")),
            });
        };
        for account in candidates {
            if account.can_enter(data_dir)? {
                return Ok(account);
            }
        }
        let mut way: Vec<&Path> = data_dir.ancestors().collect();
        way.reverse();
        for dir in way {
            if !first.can_enter(dir)? {
                return Err(PostgresError::Unreachable { account: first.name, blocked: dir.to_owned() });
            }
        }
        Err(PostgresError::Unreachable { account: first.name, blocked: data_dir.to_owned() })
    }

    /// Asks the kernel, by going there: modes, access lists and mount options all have a say.
    fn can_enter(&self, dir: &Path) -> Result<bool, PostgresError> {
        let shell = PathBuf::from("/bin/sh");
        let mut command = Command::new(&shell);
        command.args(["-c", "cd -- \"$1\"", "sh"]).arg(dir).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.run_as(&mut command);
        match command.status() {
            Ok(status) => Ok(status.success()),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                Err(PostgresError::NoAccount {
                    why: format!("the engine may not become {}: {error}", self.name),
                })
            }
            Err(source) => Err(PostgresError::Spawn { program: shell, account: self.name.clone(), source }),
        }
    }

    /// Makes a command run as this account; supplementary groups are dropped with the rest of root.
    pub(super) fn run_as(&self, command: &mut Command) {
        if self.other {
            command.uid(self.uid).gid(self.gid);
        }
    }

    /// Gives an open file or folder to this account; `path` is for the refusal only.
    pub(super) fn give(&self, file: &File, path: &Path) -> Result<(), PostgresError> {
        match self.other {
            false => Ok(()),
            true => fchown(file, Some(self.uid), Some(self.gid)).map_err(files("give away", path)),
        }
    }
}

fn name_by_id() -> Option<String> {
    let output = Command::new("id").arg("-un").stdin(Stdio::null()).output().ok()?;
    let name = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !name.is_empty()).then_some(name)
}

fn user_with(uid: u32) -> Option<Account> {
    users().into_iter().find(|user| user.uid == uid)
}

fn user_named(name: &str) -> Option<Account> {
    users().into_iter().find(|user| user.name == name)
}

fn users() -> Vec<Account> {
    let text = std::fs::read("/etc/passwd").unwrap_or_default();
    String::from_utf8_lossy(&text).lines().filter_map(parse_user).collect()
}

/// `name:x:uid:gid:…` of passwd(5).
fn parse_user(line: &str) -> Option<Account> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
    let (_password, uid, gid) = (fields.next()?, fields.next()?, fields.next()?);
    Some(Account { name: name.to_owned(), uid: uid.parse().ok()?, gid: gid.parse().ok()?, other: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read_from_passwd_lines() {
        let user = parse_user("postgres:x:101:104:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash");
        let user = user.expect("a whole line");
        assert_eq!((user.name.as_str(), user.uid, user.gid), ("postgres", 101, 104));
        for broken in ["", "# comment", "name:x", "name:x:abc:1:", ":x:1:1:"] {
            assert_eq!(parse_user(broken), None, "{broken}");
        }
    }
}
