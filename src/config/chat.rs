//! WebSockets: how many, how often they ask, and when somebody is taken for gone.

use clap::Args;

/// WebSockets: who may connect and ask how often.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "WebSockets")]
pub struct ChatConfig {
    /// New connections a second on this node, two seconds' worth at once; more are answered 503; 0 switches it off.
    #[arg(long, env = "NOVA_WS_CONNECTS_PER_S", value_name = "N", default_value_t = 2_000)]
    pub ws_connects_per_s: u32,

    /// New connections a second from one IP address (IPv6: one /64); 0 switches it off.
    #[arg(long, env = "NOVA_WS_IP_CONNECTS_PER_S", value_name = "N", default_value_t = 200)]
    pub ws_ip_connects_per_s: u32,

    /// Devices of one user that may be connected to this node at once.
    #[arg(long, env = "NOVA_WS_SOCKETS_PER_USER", value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub ws_sockets_per_user: u32,

    /// Requests a second of one connection, announced to clients; 0 switches it off.
    #[arg(long, env = "NOVA_WS_REQUESTS_PER_S", value_name = "N", default_value_t = 50)]
    pub ws_requests_per_s: u32,

    /// Requests a second of one user, over all their connections to this node; 0 switches it off.
    #[arg(long, env = "NOVA_WS_USER_REQUESTS_PER_S", value_name = "N", default_value_t = 100)]
    pub ws_user_requests_per_s: u32,

    /// Seconds between two pings; a connection that says nothing for that long after one is closed.
    #[arg(long, env = "NOVA_WS_PING_S", value_name = "SECONDS", default_value_t = 25, value_parser = clap::value_parser!(u16).range(1..=600))]
    pub ws_ping_s: u16,

    /// Whether messages may be compressed (permessage-deflate) for clients that offer it: less traffic for more CPU.
    #[arg(long, env = "NOVA_WS_DEFLATE", value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set)]
    pub ws_deflate: bool,

    /// Seconds somebody is still shown as online after their last connection closed: who changes networks was not away.
    #[arg(long, env = "NOVA_PRESENCE_LINGER_S", value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=300))]
    pub presence_linger_s: u16,

    /// Seconds after which a node that says nothing is taken for dead, and its users for offline; the same on all nodes.
    #[arg(long, env = "NOVA_PRESENCE_LEASE_S", value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u16).range(3..=300))]
    pub presence_lease_s: u16,
}
