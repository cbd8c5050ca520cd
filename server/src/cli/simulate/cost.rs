//! What the simulation itself takes of the machine that it may share with the server.

use std::fs::read_to_string;

/// Processor time of this process so far, in seconds.
pub fn cpu_seconds() -> f64 {
    let stat = read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in brackets may hold spaces; `utime` and `stime` are the 12th and 13th fields behind it.
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks = rest.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok());
    // USER_HZ is 100 on every Linux that there is.
    ticks.sum::<u64>() as f64 / 100.0
}

/// The most memory that this process has had, in bytes.
pub fn peak_bytes() -> u64 {
    let status = read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or_default() * 1_024
}

/// Ports that one address of this machine has for connections.
pub fn ports() -> Option<u64> {
    let range = read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ends = range.split_whitespace().filter_map(|end| end.parse::<u64>().ok());
    let (first, last) = (ends.next()?, ends.next()?);
    Some(last.checked_sub(first)? + 1)
}
