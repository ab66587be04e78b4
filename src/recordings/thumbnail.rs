//! A picture of a segment, made by a child process, so that no decoder ever runs in the engine.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Larger segments are not looked at.
pub(super) const SOURCE_BYTES_MAX: u64 = 64 << 20;
/// Larger pictures are not kept.
const PICTURE_BYTES_MAX: u64 = 2 << 20;
/// How long it may take.
const LIMIT: Duration = Duration::from_secs(15);
/// How many are made at a time: each decodes a picture or two.
static AT_ONCE: Semaphore = Semaphore::const_new(1);

/// The first picture of an init segment and a segment, as a JPEG of at most 640 pixels' width. Without `ffmpeg` on this machine there is
/// none.
pub(super) async fn of(pieces: &[Bytes]) -> io::Result<Bytes> {
    let _turn = AT_ONCE.acquire().await.map_err(io::Error::other)?;
    timeout(LIMIT, make(pieces)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn make(pieces: &[Bytes]) -> io::Result<Bytes> {
    let mut child = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-threads", "1", "-f", "mp4", "-i", "pipe:0", "-an"])
        .args(["-frames:v", "1", "-vf", r"scale=w=min(640\,iw):h=-2", "-c:v", "mjpeg", "-q:v", "4"])
        .args(["-f", "image2pipe", "pipe:1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::Error::other("the child has no pipes"));
    };
    let feed = async move {
        for piece in pieces {
            // It stops reading when it has its picture.
            if stdin.write_all(piece).await.is_err() {
                break;
            }
        }
    };
    let mut picture = Vec::new();
    let mut stdout = stdout.take(PICTURE_BYTES_MAX + 1);
    let ((), read) = tokio::join!(feed, stdout.read_to_end(&mut picture));
    read?;
    // It may still be writing, when the picture is too large.
    drop(stdout);
    let ended = child.wait().await?;
    let fits = (1..=PICTURE_BYTES_MAX).contains(&(picture.len() as u64));
    if !ended.success() || !fits {
        return Err(io::Error::other(format!("ffmpeg made {} bytes and ended with {ended}", picture.len())));
    }
    Ok(picture.into())
}
