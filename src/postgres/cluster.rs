//! The cluster on disk: where its parts lie, how it is made, what it is told.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, Mode, OFlags};
use sha2::{Digest, Sha256};

use super::account::Account;
use super::binaries::Binaries;
use super::error::{PostgresError, ROOM_NEEDED_MIB, ROOM_TO_START_MIB, files, tells_of_full_disk};
use super::log::last_words;
use super::{EmbeddedConfig, settings};

/// The name PostgreSQL gives its socket; the number stands for the TCP port it would have had.
pub(super) const SOCKET_PORT: u16 = 5432;

/// `sun_path` of unix(7) holds 108 bytes, the last of them zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Where the parts of one data directory lie. All paths are absolute and without links.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) data_dir: PathBuf,
}

impl Layout {
    /// Makes the data directory if it is not there.
    ///
    /// It is ours, so an engine that is root lets others pass through it (not list it): PostgreSQL's account has to.
    pub(super) fn open(data_dir: &Path) -> Result<Layout, PostgresError> {
        let root = rustix::process::geteuid().is_root();
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(if root { 0o711 } else { 0o700 });
        builder.create(data_dir).map_err(files("make the data directory", data_dir))?;
        let data_dir = data_dir.canonicalize().map_err(files("open the data directory", data_dir))?;
        let metadata = data_dir.metadata().map_err(files("look at", &data_dir))?;
        if root && metadata.uid() == 0 && metadata.mode() & 0o001 == 0 {
            let passable = Permissions::from_mode(metadata.mode() & 0o7777 | 0o011);
            fs::set_permissions(&data_dir, passable)
                .map_err(files("let PostgreSQL pass through", &data_dir))?;
        }
        Ok(Layout { data_dir })
    }

    /// PostgreSQL's own folder (PGDATA).
    pub(super) fn cluster(&self) -> PathBuf {
        self.data_dir.join("postgres")
    }

    /// A cluster in the making; it gets its name when it is whole.
    fn unfinished(&self) -> PathBuf {
        self.data_dir.join("postgres.new")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.data_dir.join("postgres.log")
    }

    /// Takes the data directory for this process. The kernel gives it back when the process ends, however it ends.
    pub(super) fn lock(&self) -> Result<File, PostgresError> {
        let path = self.data_dir.join("postgres.lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map(File::from);
        let mut file = open.map_err(|error| files("open", &path)(error.into()))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                let read = file.take(16).read_to_string(&mut pid);
                let pid = read.ok().and_then(|_| pid.trim().parse::<u32>().ok());
                return Err(PostgresError::InUse {
                    dir: self.data_dir.clone(),
                    holder: pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(),
                });
            }
            Err(error) => return Err(files("lock", &path)(error.into())),
        }
        // Only for the sentence above; the lock is what counts.
        let note = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        note.map_err(files("write", &path))?;
        Ok(file)
    }

    /// The major version that wrote the cluster, or nothing when there is none yet.
    pub(super) fn major(&self) -> Result<Option<u32>, PostgresError> {
        let cluster = self.cluster();
        if fs::symlink_metadata(&cluster).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Ok(None);
        }
        let path = cluster.join("PG_VERSION");
        match fs::read_to_string(&path) {
            Ok(text) => match text.trim().parse() {
                Ok(major) => Ok(Some(major)),
                Err(_) => Err(PostgresError::NotACluster { dir: cluster }),
            },
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(files("read", &path)(error)),
            Err(_) => Err(PostgresError::NotACluster { dir: cluster }),
        }
    }

    /// Refuses early, before anything is half written.
    pub(super) fn check_room(&self) -> Result<(), PostgresError> {
        let disk = rustix::fs::statvfs(&self.data_dir);
        let disk = disk.map_err(|error| files("measure the disk of", &self.data_dir)(error.into()))?;
        let needed_mib = if self.cluster().exists() { ROOM_TO_START_MIB } else { ROOM_NEEDED_MIB };
        match disk.f_bavail.saturating_mul(disk.f_frsize) >> 20 < needed_mib {
            true => Err(PostgresError::DiskFull { dir: self.data_dir.clone(), needed_mib }),
            false => Ok(()),
        }
    }

    /// Makes the cluster. An engine that dies meanwhile leaves only what the next start takes away.
    pub(super) fn initialise(&self, binaries: &Binaries, account: &Account) -> Result<(), PostgresError> {
        let unfinished = self.unfinished();
        let make = |locale: &str| {
            match fs::remove_dir_all(&unfinished) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(files("remove", &unfinished)(error));
                }
                _ => {}
            }
            make_private_dir(&unfinished, account)?;
            let mut command = Command::new(&binaries.initdb);
            command.arg("--pgdata").arg(&unfinished);
            command.args([
                "--username",
                super::ADMIN,
                "--auth",
                "peer",
                "--encoding",
                "UTF8",
                "--data-checksums",
            ]);
            command.args(["--locale", locale, "--no-instructions"]);
            clean_environment(&mut command);
            account.run_as(&mut command);
            // Its own group: an impatient Ctrl-C is for the engine.
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
            command.current_dir("/").stdin(Stdio::null()).output().map_err(|source| PostgresError::Spawn {
                program: binaries.initdb.clone(),
                account: account.name.clone(),
                source,
            })
        };
        let mut output = make("C.UTF-8")?;
        // Every glibc since 2.35 and Debian's before have it; elsewhere "C" sorts the same way (by code point) and differs in what
        // it calls a letter beyond ASCII.
        if !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("locale") {
            output = make("C")?;
        }
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            return Err(match tells_of_full_disk(&words) {
                true => PostgresError::DiskFull { dir: self.data_dir.clone(), needed_mib: ROOM_NEEDED_MIB },
                false => PostgresError::Initdb { dir: self.cluster(), words: last_words(&words) },
            });
        }
        let finished = fs::rename(&unfinished, self.cluster());
        finished.and_then(|()| File::open(&self.data_dir)?.sync_all()).map_err(files("make", &self.cluster()))
    }

    /// Writes what the server is told. It is written anew at each start, so a newer engine, another machine and another account
    /// find their own words.
    pub(super) fn configure(&self, config: &EmbeddedConfig, account: &Account) -> Result<(), PostgresError> {
        let write = |name: &str, text: String| {
            let path = self.cluster().join(name);
            // By way of a new file: a disk that is full in the middle leaves the old one.
            let new = path.with_extension("new");
            let _absent = fs::remove_file(&new);
            let open = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new);
            let mut file = open.map_err(files("write", &path))?;
            account.give(&file, &new)?;
            let written = file.write_all(text.as_bytes()).and_then(|()| fs::rename(&new, &path));
            written.map_err(files("write", &path))
        };
        write("postgresql.conf", settings::server(config))?;
        write("pg_hba.conf", settings::access())?;
        write("pg_ident.conf", settings::identities(&account.name))
    }

    /// The folder of the socket, made so that only PostgreSQL's account and root pass.
    pub(super) fn socket_dir(&self, account: &Account) -> Result<PathBuf, PostgresError> {
        let beside = self.data_dir.join("postgres.run");
        if fits(&beside) {
            make_private_dir(&beside, account)?;
            return Ok(beside);
        }
        let digest = Sha256::digest(self.data_dir.as_os_str().as_bytes());
        let tag: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let runtime = std::env::var_os("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            .filter(|dir| !account.other && dir.is_dir());
        let short =
            runtime.unwrap_or_else(|| PathBuf::from("/tmp")).join(format!("nova-{}-{tag}", account.uid));
        make_private_dir(&short, account)?;
        Ok(short)
    }
}

fn fits(dir: &Path) -> bool {
    socket_path(dir).as_os_str().len() <= SOCKET_PATH_BYTES_MAX
}

fn socket_path(dir: &Path) -> PathBuf {
    dir.join(format!(".s.PGSQL.{SOCKET_PORT}"))
}

/// Makes a folder for the account alone, or makes sure that it is one. Somebody else's folder or link of that name is refused:
/// in `/tmp` anybody can make one.
fn make_private_dir(dir: &Path, account: &Account) -> Result<(), PostgresError> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(files("make", dir)(error)),
        _ => {}
    }
    // Everything from here on is about this very folder, whatever the name may point to in a moment.
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = rustix::fs::open(dir, flags, Mode::empty()).map(File::from);
    let open = open.map_err(|error| files("use", dir)(error.into()))?;
    let metadata = open.metadata().map_err(files("look at", dir))?;
    if metadata.uid() != account.uid && metadata.uid() != rustix::process::geteuid().as_raw() {
        let refused = io::Error::other("it exists and belongs to somebody else");
        return Err(files("use", dir)(refused));
    }
    account.give(&open, dir)?;
    open.set_permissions(Permissions::from_mode(0o700)).map_err(files("close to others", dir))
}

/// What the surroundings say about PostgreSQL (PGDATA, PGOPTIONS, LC_ALL…) is meant for another one.
pub(super) fn clean_environment(command: &mut Command) {
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LC_ALL", "C");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_is_taken_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let layout = Layout::open(dir.path()).expect("opened");
        let held = layout.lock().expect("free");
        let refused = layout.lock().expect_err("taken").to_string();
        assert!(
            refused.starts_with(&format!("another engine (process {})", std::process::id())),
            "{refused}"
        );
        drop(held);
        layout.lock().expect("free again");
    }

    #[test]
    fn a_deep_data_directory_gets_its_socket_elsewhere() {
        let dir = tempfile::tempdir().expect("a folder");
        let deep = dir.path().join("d".repeat(100));
        let layout = Layout::open(&deep).expect("opened");
        let account = Account::ourselves();
        let socket_dir = layout.socket_dir(&account).expect("made");
        assert!(fits(&socket_dir), "{}", socket_dir.display());
        assert!(!socket_dir.starts_with(dir.path()));
        assert_eq!(socket_dir.metadata().expect("there").mode() & 0o777, 0o700);
        fs::remove_dir(&socket_dir).expect("removed");
        let near = Layout::open(dir.path()).expect("opened").socket_dir(&account).expect("made");
        assert!(near.starts_with(dir.path().canonicalize().expect("there")));
    }

    #[test]
    fn somebody_elses_folder_or_link_is_not_used() {
        let dir = tempfile::tempdir().expect("a folder");
        let account = Account::ourselves();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).expect("linked");
        let refused = make_private_dir(&link, &account).expect_err("a link").to_string();
        assert!(refused.starts_with("cannot use"), "{refused}");
    }

    #[test]
    fn what_is_not_a_cluster_is_left_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let layout = Layout::open(dir.path()).expect("opened");
        assert_eq!(layout.major().expect("nothing there"), None);
        fs::create_dir(layout.cluster()).expect("made");
        fs::write(layout.cluster().join("photo.jpg"), "x").expect("written");
        let refused = layout.major().expect_err("not ours").to_string();
        assert!(refused.contains("is not a PostgreSQL cluster"), "{refused}");
        fs::write(layout.cluster().join("PG_VERSION"), "15\n").expect("written");
        assert_eq!(layout.major().expect("readable"), Some(15));
    }
}
