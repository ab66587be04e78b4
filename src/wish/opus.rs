//! AAC to Opus: one child process for each stream somebody hears over WebRTC, as browsers take no AAC there.
//!
//! ADTS goes in, Ogg comes out, one packet of 20 ms on a page ([`crate::ffmpeg`]). When the child ends, whoever started it decides whether
//! there is another.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use bytes::Bytes;
use nova_media::codec::{ogg, opus};
use prometheus::IntGauge;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::ffmpeg::{Bounds, Pipes, Running, StartError};
use crate::telemetry::Metrics;

/// Frames that wait for the child: some seconds. When full, what comes is a hole in the sound.
const INPUT_MAX: usize = 256;
/// Packets that wait to be sent. When full the child waits.
const OUTPUT_MAX: usize = 64;
/// It lives as long as somebody listens, and sound is heard before pictures of it are made.
const BOUNDS: Bounds = Bounds { cpu_s: None, memory_bytes: 2 << 30, niceness: 2 };
/// Bytes read at a time.
const READ_BYTES: usize = 4 << 10;

/// A child that runs; it ends when this is dropped.
pub(super) struct Child {
    input: mpsc::Sender<Bytes>,
    output: mpsc::Receiver<Bytes>,
    pre_skip: Arc<AtomicU16>,
    task: JoinHandle<()>,
    running: IntGauge,
}

impl Child {
    /// Starts one. Inside a runtime.
    pub(super) fn start(program: &Path, metrics: &Metrics) -> Result<Child, StartError> {
        let arguments = [
            // The first frame says all there is to know.
            &["-fflags", "+nobuffer", "-probesize", "32", "-analyzeduration", "0", "-threads", "1"][..],
            &["-f", "aac", "-i", "pipe:0", "-map", "0:a:0", "-ac", "2", "-ar", "48000", "-threads", "1"],
            &["-c:a", "libopus", "-b:a", "96k", "-frame_duration", "20", "-application", "audio"],
            &["-f", "ogg", "-page_duration", "20000", "-flush_packets", "1", "pipe:1"],
        ];
        let (child, Pipes { input: stdin, output: stdout }) =
            Running::start(program, arguments.concat(), &BOUNDS)?;
        let (input, frames) = mpsc::channel(INPUT_MAX);
        let (packets, output) = mpsc::channel(OUTPUT_MAX);
        let pre_skip = Arc::new(AtomicU16::new(0));
        let skip = Arc::clone(&pre_skip);
        let task = tokio::spawn(async move {
            tokio::select! {
                () = feed(stdin, frames) => {}
                () = read(stdout, packets, &skip) => {}
            }
            let ended = child.kill().await;
            tracing::debug!(words = ended.words, "a child that makes Opus has ended");
        });
        let running = metrics.opus_children.clone();
        running.inc();
        Ok(Child { input, output, pre_skip, task, running })
    }

    /// Hands it a frame in ADTS; whether it could be taken.
    pub(super) fn push(&self, frame: Bytes) -> bool {
        self.input.try_send(frame).is_ok()
    }

    /// The next packet of Opus; `None` when the child has ended.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        self.output.recv().await
    }

    /// Samples at 48 kHz that come out before the first that went in.
    pub(super) fn pre_skip(&self) -> u16 {
        self.pre_skip.load(Ordering::Relaxed)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.task.abort();
        self.running.dec();
    }
}

async fn feed(mut stdin: ChildStdin, mut frames: mpsc::Receiver<Bytes>) {
    while let Some(frame) = frames.recv().await {
        if stdin.write_all(&frame).await.is_err() {
            return;
        }
    }
}

async fn read(mut stdout: ChildStdout, packets: mpsc::Sender<Bytes>, pre_skip: &AtomicU16) {
    let mut buffer = vec![0; READ_BYTES];
    let mut stream = ogg::Packets::default();
    loop {
        match stdout.read(&mut buffer).await {
            Ok(count @ 1..) => stream.push(buffer.get(..count).unwrap_or_default()),
            Ok(0) | Err(_) => return,
        }
        loop {
            match stream.take() {
                Ok(None) => break,
                Err(_) => return,
                Ok(Some(packet)) if packet.starts_with(b"OpusTags") => {}
                Ok(Some(packet)) if packet.starts_with(b"OpusHead") => {
                    if let Ok(head) = opus::Configuration::parse(&packet) {
                        pre_skip.store(head.pre_skip, Ordering::Relaxed);
                    }
                }
                Ok(Some(packet)) => {
                    if packets.send(packet).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}
