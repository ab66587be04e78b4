//! Group calls: the media port, its threads, and how clients reach it.

use std::net::SocketAddr;

use clap::Args;

use super::cores;
use super::values::{Secret, parse_turn_url};

/// Group calls.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Calls")]
pub struct RtcConfig {
    /// UDP address of all media of calls; port 0 picks a free port, and another for TCP.
    #[arg(long, env = "NOVA_RTC_ADDR", value_name = "ADDR", default_value = "127.0.0.1:8189")]
    pub rtc_addr: SocketAddr,

    /// Whether media may come over TCP, too, at the same address and port: from clients whose network lets no UDP through.
    #[arg(long, env = "NOVA_RTC_TCP", value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub rtc_tcp: bool,

    /// Threads that carry the media of calls, each with rooms of its own, all on the port of `rtc_addr`; default: one per core, at most 8.
    #[arg(long, env = "NOVA_RTC_SHARDS", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub rtc_shards: Option<u8>,

    /// Addresses clients are told to send media to, at the port of `rtc_addr` (comma-separated); default: `rtc_addr`, or for
    /// `0.0.0.0` and `[::]` the address this machine reaches others from.
    #[arg(long, env = "NOVA_RTC_PUBLIC_IP", value_name = "IPS", value_delimiter = ',')]
    pub rtc_public_ip: Vec<std::net::IpAddr>,

    /// TURN servers for clients whose network lets no UDP through (comma-separated, `turn:turn.example:3478?transport=tcp`); they share
    /// `turn_secret` with the engine, as coturn's `use-auth-secret` has it.
    #[arg(long, env = "NOVA_TURN_URLS", value_name = "URLS", value_delimiter = ',', requires = "turn_secret", value_parser = parse_turn_url)]
    pub turn_urls: Vec<String>,

    /// Secret the TURN servers know clients by: their `static-auth-secret`.
    #[arg(long, env = "NOVA_TURN_SECRET", value_name = "SECRET", hide_env_values = true)]
    pub turn_secret: Option<Secret>,

    /// Participants of one room; more are refused.
    #[arg(long, env = "NOVA_RTC_PARTICIPANTS_MAX", value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rtc_participants_max: u32,

    /// Bits a second, in thousands, that one participant of a call or publisher over WHIP may send, with bursts of as much as a second
    /// brings; what is beyond is lost, so that clients send less. A packet counts as at least 500 bytes. Sound may be 1 Mbit/s of it.
    #[arg(long, env = "NOVA_RTC_PUBLISH_KBPS_MAX", value_name = "KBPS", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1_000..=1_000_000))]
    pub rtc_publish_kbps_max: u32,

    /// For measures only: with this the signal SIGUSR2 stops the threads of the media for so many seconds; 0 for no such fault.
    #[arg(long, env = "NOVA_RTC_FAULT_STALL_S", value_name = "SECONDS", hide = true, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=20))]
    pub rtc_fault_stall_s: u32,

    /// For tests only: with this the signal SIGUSR2 makes the threads of the media panic.
    #[arg(long, env = "NOVA_RTC_FAULT_BREAK", hide = true)]
    pub rtc_fault_break: bool,

    /// Viewers of live streams over WebRTC (WHEP) on this node; more are told to watch over HLS.
    #[arg(long, env = "NOVA_WHEP_SESSIONS_MAX", value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub whep_sessions_max: u32,
}

impl RtcConfig {
    /// The number of media shards: as configured, else one per core. Where nobody said so not more than eight: a shard for each of many
    /// cores would carry more than a network card does, and what comes in is handed over the more often the more there are.
    pub fn shard_count(&self) -> usize {
        self.rtc_shards.map_or_else(|| cores().min(8), usize::from)
    }
}
