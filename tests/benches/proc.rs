//! What a program costs, read from /proc: processor time and resident memory of a process and of all
//! that it started.

use std::fs;
use std::time::Duration;

use postern_tests::process::{self, children, raise_descriptor_limit};

/// Processor time of the process tree so far.
pub fn cpu(root: u32) -> Duration {
    tree(root).into_iter().map(|pid| running(pid) + reaped(pid)).sum()
}

/// Resident bytes of the process tree.
pub fn resident(root: u32) -> u64 {
    tree(root).into_iter().filter_map(process::resident).sum()
}

/// The process and all below it.
pub fn tree(root: u32) -> Vec<u32> {
    let mut all = vec![root];
    let mut at = 0;
    while let Some(pid) = all.get(at) {
        all.extend(children(*pid));
        at += 1;
    }
    all
}

/// Of the threads there are, in nanoseconds (the first number of `schedstat`): `stat` counts in ticks
/// of 10 ms, which is too coarse for short loads.
fn running(pid: u32) -> Duration {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Duration::ZERO };
    let of = |thread: fs::DirEntry| -> Option<u64> {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok()
    };
    Duration::from_nanos(threads.flatten().filter_map(of).sum())
}

/// Of the children that have ended: relays that fork for each connection.
fn reaped(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name, in which anything may stand: proc_pid_stat(5), fields 16 and 17.
    let Some((_, fields)) = stat.rsplit_once(") ") else { return Duration::ZERO };
    let ticks = fields.split(' ').skip(13).take(2).filter_map(|field| field.parse::<u64>().ok());
    Duration::from_millis(1000 * ticks.sum::<u64>() / rustix::param::clock_ticks_per_second())
}

pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// How many connections fit with both ends in one process, out of `wanted`; a quarter of the
/// descriptors is for what relays keep in reserve.
pub fn connections_within_limit(wanted: usize) -> usize {
    wanted.min(raise_descriptor_limit() / 4 * 3 / 2)
}
