//! A picture of media, made by a child process: no decoder ever runs in the engine. Why the child is a program and not a library
//! is told where children are started ([`ffmpeg`](crate::ffmpeg)).

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::ffmpeg::{Bounds, Pipes, Running, StartError};

/// One at a time for the whole process, whoever asks: that is what pictures may cost.
static AT_ONCE: Semaphore = Semaphore::const_new(1);
/// Pictures are made no wider.
const WIDTH_MAX: u32 = 640;
/// Larger answers are no pictures of this width.
const JPEG_BYTES_MAX: u64 = 1 << 20;
/// From start to picture. One keyframe takes a tenth of a second on a slow machine.
const LIMIT: Duration = Duration::from_secs(10);
/// Some CPU time, the address space of several 8K pictures, and media goes before pictures of it.
const BOUNDS: Bounds = Bounds { cpu_s: Some(5), memory_bytes: 2 << 30, niceness: 10 };

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
    let read =
        ["-threads", "1", "-f", "mp4", "-i", "pipe:0", "-map", "0:v:0", "-frames:v", "1", "-vf", &scale];
    let write = ["-c:v", "mjpeg", "-q:v", "5", "-threads", "1", "-f", "image2pipe", "pipe:1"];
    let (running, pipes) = Running::start(program, [&read[..], &write[..]].concat(), &BOUNDS)?;
    // Dropped when the time has passed, the child is killed.
    timeout(LIMIT, converse(running, pipes, pieces)).await.map_err(|_| StillError::TooSlow)?
}

impl From<StartError> for StillError {
    fn from(error: StartError) -> StillError {
        match error {
            StartError::NoProgram(program) => StillError::NoProgram(program),
            StartError::Child(error) => StillError::Child(error),
        }
    }
}

async fn converse(running: Running, pipes: Pipes, pieces: &[Bytes]) -> Result<Bytes, StillError> {
    let Pipes { mut input, output } = pipes;
    let feed = async move {
        for piece in pieces {
            // It stops reading when it has its picture.
            if input.write_all(piece).await.is_err() {
                break;
            }
        }
    };
    let mut jpeg = Vec::new();
    let read = async {
        let mut output = output.take(JPEG_BYTES_MAX + 1);
        // Closed as soon as it is enough: a child that writes on ends, and one that is heard to its end has ended.
        output.read_to_end(&mut jpeg).await
    };
    let ((), read) = tokio::join!(feed, read);
    read?;
    let ended = running.ended(LIMIT).await;
    let is_jpeg = jpeg.starts_with(&[0xFF, 0xD8]) && jpeg.len() as u64 <= JPEG_BYTES_MAX;
    if !ended.well || !is_jpeg {
        return Err(StillError::NoPicture(format!("{} ({} bytes)", ended.words, jpeg.len())));
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
