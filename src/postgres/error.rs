//! Why the embedded PostgreSQL cannot serve; each prints as one sentence that says what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why the embedded PostgreSQL could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// No usable server binaries anywhere.
    #[error(
        "no PostgreSQL {min} or newer was found on this machine ({found}): install it (Debian and Ubuntu: `apt-get install \
         postgresql`), name the folder of its `postgres` and `initdb` with --postgres-bin-dir, or set DATABASE_URL to use a \
         server that runs elsewhere", min = super::MAJOR_MIN
    )]
    NoBinaries {
        /// What was found instead: nothing, or versions that are too old.
        found: String,
    },
    /// The configured folder does not hold them.
    #[error(
        "{dir} does not hold a usable PostgreSQL {min} or newer ({why}): correct --postgres-bin-dir",
        dir = dir.display(), min = super::MAJOR_MIN
    )]
    WrongBinDir {
        /// The configured folder.
        dir: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The cluster was made by a major version this machine does not have.
    #[error(
        "the data in {dir} was written by PostgreSQL {cluster} and this machine has {available}: install PostgreSQL {cluster} \
         beside it, or carry the data over with pg_upgrade, or choose another --data-dir", dir = dir.display()
    )]
    WrongVersion {
        /// The cluster.
        dir: PathBuf,
        /// The major version that wrote it.
        cluster: u32,
        /// The versions that were found.
        available: String,
    },
    /// The cluster belongs to an account that PostgreSQL would not run as.
    #[error(
        "{dir} belongs to {owner}, and PostgreSQL would run as {account}: give it back with `chown -R {account} {dir}`, \
         start the engine as the owner, or choose another --data-dir", dir = dir.display()
    )]
    WrongOwner {
        /// The cluster.
        dir: PathBuf,
        /// Whose it is.
        owner: String,
        /// Whose it would have to be.
        account: String,
    },
    /// Where the cluster belongs there is something else.
    #[error(
        "{dir} is not a PostgreSQL cluster (it has no readable PG_VERSION): move it away or choose another --data-dir",
        dir = dir.display()
    )]
    NotACluster {
        /// What stands there.
        dir: PathBuf,
    },
    /// The engine is root, and there is nobody else it could let PostgreSQL run as.
    #[error(
        "PostgreSQL refuses to run as root and no other account can run it ({why}): install the PostgreSQL package, which \
         makes the account `postgres`, or start the engine as an ordinary user"
    )]
    NoAccount {
        /// What was tried.
        why: String,
    },
    /// The account that runs PostgreSQL may not pass through a folder above the cluster.
    #[error(
        "the account {account}, which runs the embedded PostgreSQL because the engine is root, may not enter {blocked}: \
         choose a --data-dir it can reach, such as /var/lib/nova, or allow it with `chmod o+x {blocked}`", blocked = blocked.display()
    )]
    Unreachable {
        /// The account.
        account: String,
        /// The first folder on the way that it may not enter.
        blocked: PathBuf,
    },
    /// Another engine has this data directory.
    #[error(
        "another engine{holder} is using {dir}: stop it first, or give this one another --data-dir", dir = dir.display()
    )]
    InUse {
        /// The data directory.
        dir: PathBuf,
        /// ` (process 123)`, or nothing when it is not known.
        holder: String,
    },
    /// A command that makes no cluster found none.
    #[error(
        "there is no database in {dir}: name the engine's data directory with --data-dir, or its database with DATABASE_URL",
        dir = dir.display()
    )]
    NoCluster {
        /// The data directory.
        dir: PathBuf,
    },
    /// No room is left.
    #[error(
        "the disk that holds {dir} is full: PostgreSQL needs at least {needed_mib} MiB free there; make room or choose \
         another --data-dir", dir = dir.display()
    )]
    DiskFull {
        /// What was being written to.
        dir: PathBuf,
        /// What must be free, in MiB.
        needed_mib: u64,
    },
    /// A file or a folder of ours cannot be made, read or changed.
    #[error("cannot {action} {path} ({source}): check that the engine may write there", path = path.display())]
    Files {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A program could not be run at all.
    #[error("cannot run {program} as {account} ({source}): check that it is executable for that account", program = program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// As whom.
        account: String,
        /// Why.
        source: io::Error,
    },
    /// `initdb` gave up.
    #[error("initdb could not make a cluster in {dir}; its last words: {words}", dir = dir.display())]
    Initdb {
        /// Where.
        dir: PathBuf,
        /// What it said.
        words: String,
    },
    /// The server ended before it was ready.
    #[error("PostgreSQL did not start; its last words in {log}: {words}", log = log.display())]
    Start {
        /// The whole log.
        log: PathBuf,
        /// Its end.
        words: String,
    },
    /// The server runs but does not become ready.
    #[error("PostgreSQL was not ready after {} s; its last words in {log}: {words}", waited.as_secs(), log = log.display())]
    StartTimeout {
        /// How long we waited.
        waited: Duration,
        /// The whole log.
        log: PathBuf,
        /// Its end.
        words: String,
    },
    /// A server left behind by an engine that died does not go.
    #[error(
        "a PostgreSQL left behind by an engine that died (process {pid}) still uses {dir} and does not stop: end it with \
         `kill -QUIT {pid}` and start again", dir = dir.display()
    )]
    Orphan {
        /// The cluster.
        dir: PathBuf,
        /// One of its processes.
        pid: i32,
    },
    /// The server is ready but its first database cannot be made or reached.
    #[error("PostgreSQL runs but its database cannot be prepared: {0}")]
    Prepare(#[from] sqlx::Error),
    /// The engine is stopping.
    #[error("the engine is stopping")]
    Stopping,
}

/// What must be free for a new cluster: initdb writes about 40 MiB and PostgreSQL keeps at least 80 MiB of WAL.
pub(super) const ROOM_NEEDED_MIB: u64 = 160;

/// What must be free for PostgreSQL to start on a cluster that exists: one WAL segment and its small files.
pub(super) const ROOM_TO_START_MIB: u64 = 32;

/// Gives a file error its sentence.
pub(super) fn files(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PostgresError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            PostgresError::DiskFull { dir: path, needed_mib: ROOM_TO_START_MIB }
        }
        _ => PostgresError::Files { action, path, source },
    }
}

/// Whether PostgreSQL's words are about a full disk (`strerror` of ENOSPC and EDQUOT; its messages are untranslated because we
/// start it so).
pub(super) fn tells_of_full_disk(words: &str) -> bool {
    words.contains("No space left on device") || words.contains("Disk quota exceeded")
}
