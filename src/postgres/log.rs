//! PostgreSQL's own log: one file that does not grow without end.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::error::{PostgresError, files};

/// When the log is this long it becomes `postgres.log.1`, whose predecessor goes; so both together stay below twice this, plus what
/// is written between two looks.
const LOG_BYTES_MAX: u64 = 8 << 20;

/// How much of the log's end is shown when PostgreSQL does not start.
const TAIL_BYTES_MAX: u64 = 4 << 10;

/// And how many of its lines.
const TAIL_LINES_MAX: usize = 8;

/// The log and where in it the present server began.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    began: u64,
}

impl Log {
    pub(super) fn at(path: PathBuf) -> Log {
        Log { path, began: 0 }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A handle for the next server to write its standard error to; each write goes to the end, wherever that is by then.
    pub(super) fn open(&mut self) -> Result<File, PostgresError> {
        let open = || {
            self.rotate()?;
            let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::open(&self.path, flags, Mode::RUSR | Mode::WUSR)?);
            let began = file.metadata()?.len();
            io::Result::Ok((file, began))
        };
        let (file, began) = open().map_err(files("write", &self.path))?;
        self.began = began;
        Ok(file)
    }

    /// Keeps the log below its bound. The server keeps its handle, so the text is copied and the file cut; what is written between
    /// the two is lost, a line or two every eight megabytes.
    pub(super) fn rotate(&self) -> io::Result<()> {
        match std::fs::metadata(&self.path) {
            Ok(metadata) if metadata.len() > LOG_BYTES_MAX => {
                std::fs::copy(&self.path, self.path.with_extension("log.1"))?;
                OpenOptions::new().write(true).open(&self.path)?.set_len(0)
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The last lines the present server wrote, on one line.
    pub(super) fn tail(&self) -> String {
        let read = || {
            let mut file = File::open(&self.path)?;
            let len = file.metadata()?.len();
            file.seek(SeekFrom::Start(self.began.max(len.saturating_sub(TAIL_BYTES_MAX)).min(len)))?;
            let mut text = Vec::new();
            file.take(TAIL_BYTES_MAX).read_to_end(&mut text)?;
            io::Result::Ok(text)
        };
        match read() {
            Ok(text) => last_words(&String::from_utf8_lossy(&text)),
            Err(error) => format!("(the log cannot be read: {error})"),
        }
    }
}

/// The last lines of what a program said, on one line.
pub(super) fn last_words(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.len() {
        0 => "(it said nothing)".to_owned(),
        len => lines.get(len.saturating_sub(TAIL_LINES_MAX)..).unwrap_or_default().join(" | "),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_tail_is_what_the_present_server_said() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut log = Log::at(dir.path().join("postgres.log"));
        writeln!(log.open().expect("opens"), "yesterday").expect("written");
        let mut file = log.open().expect("opens");
        assert_eq!(log.tail(), "(it said nothing)");
        for line in 0..20 {
            writeln!(file, "line {line}").expect("written");
        }
        assert_eq!(log.tail(), (12..20).map(|line| format!("line {line}")).collect::<Vec<_>>().join(" | "));
    }

    #[test]
    fn the_log_is_cut_while_the_server_keeps_writing() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut log = Log::at(dir.path().join("postgres.log"));
        let mut file = log.open().expect("opens");
        let megabyte = vec![b'x'; 1 << 20];
        for _ in 0..8 {
            file.write_all(&megabyte).expect("written");
        }
        log.rotate().expect("looked at");
        assert_eq!(
            std::fs::metadata(log.path()).expect("there").len(),
            LOG_BYTES_MAX,
            "at the bound nothing happens"
        );
        writeln!(file, "one more").expect("written");
        log.rotate().expect("rotated");
        writeln!(file, "after").expect("the handle still serves");
        assert_eq!(std::fs::read_to_string(log.path()).expect("there"), "after\n");
        let old = std::fs::metadata(dir.path().join("postgres.log.1")).expect("kept");
        assert_eq!(old.len(), LOG_BYTES_MAX + "one more\n".len() as u64);
    }
}
