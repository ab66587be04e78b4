//! A picture of media, made by a child process: no decoder ever runs in the engine.
//!
//! The child is the `ffmpeg` program, fed over a pipe and read from another, and not this binary with FFmpeg linked in. Linking
//! would ask every machine that builds the engine for FFmpeg's headers and libclang, put a minute on each build, tie the binary to
//! one version of the libraries, and end in the same place: a child process that reads a pipe. The program costs a start of some
//! tens of milliseconds for each picture, is what distributions keep patched, and may be absent: then there are no pictures.
//!
//! What the child gets of the machine is bounded: CPU time, memory, wall time, the bytes of its answer, no network, no environment,
//! a lower priority than the engine's. What it reads came from a stranger's encoder.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Pid, Resource, Rlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// One at a time for the whole process, whoever asks: that is what pictures may cost.
static AT_ONCE: Semaphore = Semaphore::const_new(1);
/// Pictures are made no wider.
const WIDTH_MAX: u32 = 640;
/// Larger answers are no pictures of this width.
const JPEG_BYTES_MAX: u64 = 1 << 20;
/// What the child says when it fails; the first words are the reason.
const WORDS_BYTES_MAX: u64 = 2 << 10;
/// From start to picture. One keyframe takes a tenth of a second on a slow machine.
const LIMIT: Duration = Duration::from_secs(10);
/// CPU time of one child.
const CPU_S_MAX: u64 = 5;
/// Address space of one child: several 8K pictures.
const MEMORY_BYTES_MAX: u64 = 2 << 30;
/// Media goes before pictures of it.
const NICENESS: i32 = 10;

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum StillError {
    /// There is no such program on this machine.
    #[error("the program {0} is not on this machine")]
    NoProgram(String),
    /// It could not be started or spoken to.
    #[error("the child cannot be used: {0}")]
    Child(#[from] io::Error),
    /// It took too long and was killed.
    #[error("the child took more than {} s", LIMIT.as_secs())]
    TooSlow,
    /// It could make nothing of the media, in its own words.
    #[error("no picture could be made: {0}")]
    NoPicture(String),
}

impl StillError {
    /// What metrics call it.
    pub fn as_str(&self) -> &'static str {
        match self {
            StillError::NoProgram(_) => "no_program",
            StillError::Child(_) => "child",
            StillError::TooSlow => "too_slow",
            StillError::NoPicture(_) => "no_picture",
        }
    }
}

/// The first picture of fMP4 media as a JPEG of at most 640 pixels' width: `pieces` are an init segment and what follows it.
pub async fn of(program: &Path, pieces: &[Bytes]) -> Result<Bytes, StillError> {
    let _turn = AT_ONCE.acquire().await.map_err(|_| StillError::TooSlow)?;
    let scale = format!(r"scale=w=min({WIDTH_MAX}\,iw):h=-2");
    let mut child = Command::new(program)
        .env_clear()
        .args([
            "-hide_banner",
            "-loglevel",
            "error",
            "-nostdin",
            "-threads",
            "1",
            "-protocol_whitelist",
            "pipe",
        ])
        .args(["-f", "mp4", "-i", "pipe:0", "-map", "0:v:0", "-frames:v", "1", "-vf", &scale])
        .args(["-c:v", "mjpeg", "-q:v", "5", "-threads", "1", "-f", "image2pipe", "pipe:1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StillError::NoProgram(program.display().to_string()),
            _ => StillError::Child(error),
        })?;
    restrain(&child);
    // Dropped when the time has passed, the child is killed.
    timeout(LIMIT, converse(&mut child, pieces)).await.map_err(|_| StillError::TooSlow)?
}

/// Bounds what the child may use. It was started a moment ago and has read nothing yet: it waits for its input.
fn restrain(child: &Child) {
    let Some(pid) = child.id().and_then(|id| Pid::from_raw(id as i32)) else { return };
    let most = |bound: u64| Rlimit { current: Some(bound), maximum: Some(bound) };
    let bounds = [
        (Resource::Cpu, CPU_S_MAX),
        (Resource::As, MEMORY_BYTES_MAX),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
    ];
    for (resource, bound) in bounds {
        if let Err(error) = rustix::process::prlimit(Some(pid), resource, most(bound)) {
            tracing::debug!(%error, "a bound of a child could not be set");
        }
    }
    if let Err(error) = rustix::process::setpriority_process(Some(pid), NICENESS) {
        tracing::debug!(%error, "the priority of a child could not be lowered");
    }
}

async fn converse(child: &mut Child, pieces: &[Bytes]) -> Result<Bytes, StillError> {
    let (Some(mut input), Some(output), Some(words)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(StillError::Child(io::Error::other("it has no pipes")));
    };
    let feed = async move {
        for piece in pieces {
            // It stops reading when it has its picture.
            if input.write_all(piece).await.is_err() {
                break;
            }
        }
    };
    let (mut jpeg, mut said) = (Vec::new(), Vec::new());
    let read = async {
        let mut output = output.take(JPEG_BYTES_MAX + 1);
        // Closed as soon as it is enough: a child that writes on ends, and one that is heard to its end has ended.
        output.read_to_end(&mut jpeg).await
    };
    let heard = async { words.take(WORDS_BYTES_MAX).read_to_end(&mut said).await };
    let ((), read, heard) = tokio::join!(feed, read, heard);
    read?;
    heard?;
    let ended = child.wait().await?;
    let is_jpeg = jpeg.starts_with(&[0xFF, 0xD8]) && jpeg.len() as u64 <= JPEG_BYTES_MAX;
    if !ended.success() || !is_jpeg {
        let said = String::from_utf8_lossy(&said);
        let first = said.lines().next().unwrap_or("it said nothing");
        return Err(StillError::NoPicture(format!("{first} ({ended}, {} bytes)", jpeg.len())));
    }
    Ok(jpeg.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_rt::test]
    async fn what_is_no_media_gives_no_picture_and_its_reason() {
        let noise = [Bytes::from(vec![7; 100_000])];
        let refused = of(Path::new("ffmpeg"), &noise).await.expect_err("that is noise");
        assert!(
            matches!(&refused, StillError::NoPicture(words) if !words.contains("it said nothing")),
            "{refused}"
        );
        let absent = of(Path::new("/nowhere/ffmpeg"), &noise).await.expect_err("there is none");
        assert_eq!(absent.as_str(), "no_program");
    }

    #[actix_rt::test]
    async fn a_child_that_answers_with_too_much_or_fails_is_no_harm() {
        let talker = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(talker.path(), "#!/bin/sh\nprintf '\\377\\330'\nexec head -c 5000000 /dev/zero\n")
            .expect("written");
        let path = talker.into_temp_path();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("made a program");
        let refused = of(&path, &[Bytes::from_static(b"x")]).await.expect_err("five megabytes");
        assert!(matches!(refused, StillError::NoPicture(_)), "{refused}");
    }
}
