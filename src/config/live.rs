//! Live streams: their doors, how they are cut, and what is made of them.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::cores;
use super::values::{parse_cores, parse_rtmp_url};
use crate::live::transcoder::rung::Rung;

/// Live streams.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Live streams")]
pub struct LiveConfig {
    /// Address publishers connect to by RTMP; port 0 picks a free port.
    #[arg(long, env = "NOVA_RTMP_ADDR", value_name = "ADDR", default_value = "127.0.0.1:1935")]
    pub rtmp_addr: SocketAddr,

    /// Address publishers connect to by RTMPS, with the certificate of `tls_cert`; without it there is none.
    #[arg(long, env = "NOVA_RTMPS_ADDR", value_name = "ADDR", requires = "tls_cert")]
    pub rtmps_addr: Option<SocketAddr>,

    /// The address publishers are told to use (`rtmp://nova.example/live`); default: derived from the RTMP address.
    #[arg(long, env = "NOVA_RTMP_PUBLIC_URL", value_name = "URL", value_parser = parse_rtmp_url)]
    pub rtmp_public_url: Option<String>,

    /// Connections to the RTMP door at once; more are refused.
    #[arg(long, env = "NOVA_RTMP_CONNECTIONS_MAX", value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rtmp_connections_max: u32,

    /// Connections to the RTMP door at once from one IP address (IPv6: one /64); more are refused.
    #[arg(long, env = "NOVA_RTMP_CONNECTIONS_PER_IP_MAX", value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rtmp_connections_per_ip_max: u32,

    /// Threads that serve publishers; default: one per core.
    #[arg(long, env = "NOVA_INGEST_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub ingest_threads: Option<u16>,

    /// Seconds a publisher that dropped has to come back before its broadcast ends.
    #[arg(long, env = "NOVA_STREAM_RESUME_S", value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=600))]
    pub stream_resume_s: u16,

    /// The longest part of a segment, in milliseconds: less is lower latency and more requests.
    #[arg(long, env = "NOVA_HLS_PART_MS", value_name = "MS", default_value_t = 333, value_parser = clap::value_parser!(u32).range(100..=2_000))]
    pub hls_part_ms: u32,

    /// Segments end at the first keyframe after so many milliseconds, and after twice as many without one.
    #[arg(long, env = "NOVA_HLS_SEGMENT_MS", value_name = "MS", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1_000..=10_000))]
    pub hls_segment_ms: u32,

    /// Whole segments a live playlist lists.
    #[arg(long, env = "NOVA_HLS_SEGMENTS", value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u16).range(6..=600))]
    pub hls_segments: u16,

    /// Requests of viewers that may wait for a part at once; more are answered 503 with `Retry-After`.
    #[arg(long, env = "NOVA_PLAYBACK_WAITS_MAX", value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub playback_waits_max: u32,

    /// Seconds between two thumbnails of a broadcast; 0 makes none.
    #[arg(long, env = "NOVA_THUMBNAIL_S", value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u16).range(0..=3_600))]
    pub thumbnail_s: u16,

    /// Renditions that are made of every broadcast beside its source (comma-separated: `720p,480p:900,360p`, the number behind the colon
    /// being kbit/s), where they are smaller than it; none by default. They cost most of a core for 1080p.
    #[arg(long, env = "NOVA_LADDER", value_name = "RUNGS", value_delimiter = ',')]
    pub ladder: Vec<Rung>,

    /// Cores that may be spent on ladders and on rooms that are live streams; what does not fit is refused. Default: half of them.
    #[arg(long, env = "NOVA_LADDER_CORES", value_name = "CORES", value_parser = parse_cores)]
    pub ladder_cores: Option<f64>,

    /// The FFmpeg program, which makes pictures, ladders and streams of rooms in processes of its own; without it there are none.
    #[arg(long, env = "NOVA_FFMPEG", value_name = "PROGRAM", default_value = "ffmpeg")]
    pub ffmpeg: PathBuf,

    /// Days recordings are kept after their broadcast; 0 keeps them until they are deleted.
    #[arg(long, env = "NOVA_RECORDING_DAYS", value_name = "DAYS", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=36_500))]
    pub recording_days: u16,
}

impl LiveConfig {
    /// The number of threads for publishers: as configured, else one per core.
    pub fn ingest_thread_count(&self) -> usize {
        self.ingest_threads.map_or_else(cores, usize::from)
    }

    /// The cores for ladders: as configured, else half of them.
    pub fn ladder_cores(&self) -> f64 {
        self.ladder_cores.unwrap_or_else(|| cores() as f64 / 2.0)
    }
}
