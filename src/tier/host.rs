//! What else is at work on this host that moves or reads whole disks: Unraid's mover, a parity check.
//!
//! Read from the files in which Unraid tells (`/var/run/mover.pid`, `/var/local/emhttp/var.ini`); on
//! other hosts they are absent and nothing is at work.

use std::fs;
use std::path::Path;

use crate::config::HostTask;

/// The first of `tasks` that is running now.
pub fn running(tasks: &[HostTask]) -> Option<HostTask> {
    tasks.iter().copied().find(|task| match task {
        HostTask::Mover => fs::read_to_string("/var/run/mover.pid").is_ok_and(|text| is_alive(&text)),
        HostTask::ParityCheck => fs::read_to_string("/var/local/emhttp/var.ini").is_ok_and(|text| is_checking(&text)),
    })
}

/// Whether the process that a pid file names is there; the mover leaves the file behind when killed.
fn is_alive(pid_file: &str) -> bool {
    pid_file.trim().parse::<u32>().is_ok_and(|pid| Path::new(&format!("/proc/{pid}")).exists())
}

/// `mdResyncPos` is the position of a running check, rebuild or clear; 0 when there is none.
fn is_checking(var_ini: &str) -> bool {
    var_ini.lines().filter_map(|line| line.split_once('=')).any(|(key, value)| {
        key.trim() == "mdResyncPos" && value.trim().trim_matches('"').parse().is_ok_and(|n: u64| n > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parity_check_is_seen_by_its_position() {
        assert!(is_checking("mdState=\"STARTED\"\r\nmdResyncPos=\"12345\"\r\n"));
        assert!(!is_checking("mdState=\"STARTED\"\nmdResyncPos=\"0\"\n"));
        assert!(!is_checking(""));
    }

    #[test]
    fn a_pid_file_of_a_dead_process_does_not_count() {
        assert!(is_alive(&format!("{}\n", std::process::id())));
        assert!(!is_alive("4194305"));
        assert!(!is_alive("x"));
    }
}
