//! What the server is told: `postgresql.conf`, `pg_hba.conf`, `pg_ident.conf`.

use std::fmt::Write as _;

use super::{ADMIN, EmbeddedConfig, OWNER};

/// Connections beyond the engine's pool: its migrations and probes, an operator with psql, pg_basebackup.
const CONNECTIONS_SPARE: u32 = 10;

/// `postgresql.conf`, fitted to the memory of this machine.
pub(super) fn server(config: &EmbeddedConfig) -> String {
    let memory_mib = memory_bytes() >> 20;
    // A quarter of the memory is the manual's advice for a machine that does nothing else; media has first call on this one.
    let shared_mib = (memory_mib / 16).clamp(32, 1024);
    let cache_mib = (memory_mib / 2).max(64);
    let switch = |on: bool| if on { "on" } else { "off" };
    let rows: &[(&str, String, &str)] = &[
        ("listen_addresses", "''".into(), "no network: only the socket, in a folder nobody else may enter"),
        ("unix_socket_permissions", "0700".into(), "and closed to others by itself"),
        (
            "max_connections",
            (u32::from(config.connections_max) + CONNECTIONS_SPARE).to_string(),
            "the pool and a few",
        ),
        ("cluster_name", "'nova'".into(), "how it is called in the list of processes"),
        ("timezone", "'UTC'".into(), ""),
        ("log_timezone", "'UTC'".into(), ""),
        ("lc_messages", "'C'".into(), "words we can recognise"),
        ("shared_buffers", format!("{shared_mib}MB"), "a sixteenth of the memory"),
        (
            "effective_cache_size",
            format!("{cache_mib}MB"),
            "what the system caches for us, a guess for the planner",
        ),
        ("work_mem", "8MB".into(), ""),
        ("maintenance_work_mem", "64MB".into(), ""),
        ("fsync", switch(config.durable).into(), "what is acknowledged is on the disk"),
        ("synchronous_commit", switch(config.durable).into(), ""),
        ("full_page_writes", switch(config.durable).into(), ""),
        ("wal_compression", "on".into(), "less to write for the same safety"),
        ("max_wal_size", "1GB".into(), "fewer checkpoints, bounded recovery"),
        ("checkpoint_timeout", "10min".into(), ""),
        ("checkpoint_completion_target", "0.9".into(), ""),
        ("random_page_cost", "1.1".into(), "solid-state disks"),
        ("jit", "off".into(), "our statements are shorter than compiling them"),
        ("max_parallel_workers_per_gather", "0".into(), "one reader does not take the others' cores"),
        ("logging_collector", "off".into(), "the engine keeps the log"),
        ("log_destination", "'stderr'".into(), ""),
        ("log_line_prefix", "'%m [%p] '".into(), ""),
        ("log_min_messages", "log".into(), "the server's life; errors of statements go to the engine"),
        ("log_min_error_statement", "panic".into(), "statements may hold what people wrote"),
        ("log_checkpoints", "off".into(), ""),
    ];
    let mut text = "# Written by nova at each start. Your own settings go into postgresql.local.conf beside this file.\n".to_owned();
    for (name, value, why) in rows {
        let line = format!("{name} = {value}");
        let written =
            if why.is_empty() { writeln!(text, "{line}") } else { writeln!(text, "{line:<44}# {why}") };
        written.expect("a string takes everything");
    }
    text.push_str("include_if_exists = 'postgresql.local.conf'\n");
    text
}

/// `pg_hba.conf`: whoever reached the socket is asked of the kernel who they are, and only the engine's user, PostgreSQL's own
/// account and root are known. So the folder's mode is the first lock and not the only one.
pub(super) fn access() -> String {
    "# Written by nova at each start.\n\
     local all         all peer map=engine\n\
     local replication all peer map=engine\n"
        .to_owned()
}

/// `pg_ident.conf`: which users of the machine are let in, and as whom.
///
/// `account` is PostgreSQL's; the engine runs as the same or as root.
pub(super) fn identities(account: &str) -> String {
    let mut text = "# Written by nova at each start.\n".to_owned();
    let mut users = vec![account, "root"];
    users.dedup();
    for user in users {
        for role in [OWNER, ADMIN] {
            writeln!(text, "engine \"{}\" {role}", user.replace('"', "\"\""))
                .expect("a string takes everything");
        }
    }
    text
}

/// The memory this process may use: the machine's, or what its control group leaves of it.
fn memory_bytes() -> u64 {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
    });
    // Version 2 says "max" where there is no limit, version 1 a number beyond any memory.
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let group = group.iter().find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    let machine = machine.unwrap_or(1 << 30);
    group.map_or(machine, |group| group.min(machine))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_and_root_are_let_in_and_nobody_else() {
        let text = identities("postgres");
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "engine \"postgres\" nova",
                "engine \"postgres\" postgres",
                "engine \"root\" nova",
                "engine \"root\" postgres"
            ]
        );
    }

    #[test]
    fn nothing_acknowledged_is_lost_by_default() {
        let text = server(&EmbeddedConfig::default());
        for line in
            ["fsync = on", "synchronous_commit = on", "full_page_writes = on", "listen_addresses = ''"]
        {
            assert!(text.lines().any(|found| found.starts_with(line)), "{line} in {text}");
        }
    }
}
