//! Finding the machine's PostgreSQL.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::MAJOR_MIN;
use super::error::PostgresError;

/// Where distributions keep the server binaries, which they leave out of PATH. `*` stands for one part of a name.
const USUAL_PLACES: &[(&str, &str, &str)] = &[
    ("/usr/lib/postgresql", "", "bin"),          // Debian, Ubuntu
    ("/usr", "pgsql-", "bin"),                   // the PostgreSQL project's RPMs
    ("/usr/libexec", "postgresql", ""),          // Alpine
    ("/usr/lib", "postgresql", "bin"),           // SUSE
    ("/usr/local", "pgsql", "bin"),              // built from source
    ("/opt/homebrew/opt", "postgresql@", "bin"), // Homebrew
    ("/usr/local/opt", "postgresql@", "bin"),    // Homebrew on Intel
];

/// One installed PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    pub(super) postgres: PathBuf,
    pub(super) initdb: PathBuf,
    /// Major and minor version: (15, 13).
    pub(super) version: (u32, u32),
}

/// Finds the newest PostgreSQL, of the major version `wanted` when a cluster exists already.
///
/// `bin_dir` alone is looked at when it is given; otherwise PATH and the usual places. Runs programs: call it where blocking is
/// allowed. `cluster` is named in the refusal only.
pub(super) fn find(
    bin_dir: Option<&Path>,
    wanted: Option<u32>,
    cluster: &Path,
) -> Result<Binaries, PostgresError> {
    let candidates = match bin_dir {
        Some(dir) => vec![look(dir).map_err(|why| PostgresError::WrongBinDir { dir: dir.to_owned(), why })?],
        None => folders().iter().filter_map(|dir| look(dir).ok()).collect(),
    };
    choose(candidates, wanted, bin_dir, cluster)
}

fn choose(
    candidates: Vec<Binaries>,
    wanted: Option<u32>,
    bin_dir: Option<&Path>,
    cluster: &Path,
) -> Result<Binaries, PostgresError> {
    let mut by_version: BTreeMap<(u32, u32), Binaries> = BTreeMap::new();
    for found in candidates {
        // The first of equals stays: PATH comes before the usual places.
        by_version.entry(found.version).or_insert(found);
    }
    let majors = |versions: &BTreeMap<(u32, u32), Binaries>| {
        let mut names: Vec<String> = versions.keys().map(|(major, _)| major.to_string()).collect();
        names.dedup();
        names.join(", ")
    };
    let found = match by_version.is_empty() {
        true => "there is none".to_owned(),
        false => format!("only version {}", majors(&by_version)),
    };
    by_version.retain(|(major, _), _| *major >= MAJOR_MIN);
    if by_version.is_empty() {
        return Err(match bin_dir {
            Some(dir) => PostgresError::WrongBinDir { dir: dir.to_owned(), why: found },
            None => PostgresError::NoBinaries { found },
        });
    }
    let available = format!("version {}", majors(&by_version));
    let newest = by_version.into_values().rfind(|found| wanted.is_none_or(|major| found.version.0 == major));
    newest.ok_or_else(|| PostgresError::WrongVersion {
        dir: cluster.to_owned(),
        cluster: wanted.unwrap_or_default(),
        available,
    })
}

/// Every folder that may hold the binaries, PATH first.
fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect())
        .unwrap_or_default();
    for (parent, prefix, child) in USUAL_PLACES {
        let Ok(entries) = std::fs::read_dir(parent) else { continue };
        let named = entries.filter_map(Result::ok);
        let named =
            named.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)));
        folders.extend(named.map(|entry| entry.path().join(child)));
    }
    folders
}

/// What one folder holds, or what is wrong with it.
fn look(dir: &Path) -> Result<Binaries, String> {
    // Links from PATH lead to the folder that has all of PostgreSQL's programs, and its libraries beside it.
    let postgres =
        dir.join("postgres").canonicalize().map_err(|_| "there is no `postgres` in it".to_owned())?;
    let initdb = postgres.with_file_name("initdb");
    if !initdb.is_file() {
        return Err("there is no `initdb` in it".to_owned());
    }
    let run = Command::new(&postgres).arg("--version").stdin(Stdio::null()).output();
    let output = run.map_err(|error| format!("its `postgres` cannot be run: {error}"))?;
    let words = String::from_utf8_lossy(&output.stdout);
    let version =
        parse_version(&words).ok_or_else(|| format!("its `postgres --version` says {:?}", words.trim()))?;
    Ok(Binaries { postgres, initdb, version })
}

/// `postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)`, `postgres (PostgreSQL) 19beta1`.
fn parse_version(words: &str) -> Option<(u32, u32)> {
    let word = words.strip_prefix("postgres (PostgreSQL) ")?.split_whitespace().next()?;
    let major: String = word.chars().take_while(char::is_ascii_digit).collect();
    let minor = word.split_once('.').map_or("0", |(_, minor)| minor);
    let minor: String = minor.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed(major: u32, minor: u32) -> Binaries {
        let dir = PathBuf::from(format!("/pg/{major}.{minor}"));
        Binaries { postgres: dir.join("postgres"), initdb: dir.join("initdb"), version: (major, minor) }
    }

    #[test]
    fn versions_are_read_from_what_the_server_says() {
        let debian = "postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)\n";
        assert_eq!(parse_version(debian), Some((15, 13)));
        assert_eq!(parse_version("postgres (PostgreSQL) 19beta1\n"), Some((19, 0)));
        assert_eq!(parse_version("mysqld 8"), None);
        assert_eq!(parse_version("postgres (PostgreSQL) devel"), None);
    }

    #[test]
    fn a_cluster_gets_its_own_major_version_and_a_new_one_the_newest() {
        let all = || vec![installed(14, 2), installed(16, 1), installed(16, 4), installed(13, 9)];
        let find =
            |wanted| choose(all(), wanted, None, Path::new("/data/postgres")).map(|found| found.version);
        assert_eq!(find(None).expect("there is one"), (16, 4));
        assert_eq!(find(Some(14)).expect("there is one"), (14, 2));
        let refused = find(Some(15)).expect_err("nobody reads it").to_string();
        assert!(
            refused.contains("written by PostgreSQL 15 and this machine has version 14, 16"),
            "{refused}"
        );
    }

    #[test]
    fn too_old_or_absent_is_said() {
        let none = choose(Vec::new(), None, None, Path::new("/d")).expect_err("nothing").to_string();
        assert!(none.contains("(there is none)") && none.contains("apt-get install postgresql"), "{none}");
        let old = choose(vec![installed(13, 1)], None, None, Path::new("/d")).expect_err("old").to_string();
        assert!(old.contains("(only version 13)"), "{old}");
        let dir = Path::new("/pg");
        let wrong =
            choose(vec![installed(13, 1)], None, Some(dir), Path::new("/d")).expect_err("old").to_string();
        assert!(wrong.starts_with("/pg does not hold"), "{wrong}");
    }
}
