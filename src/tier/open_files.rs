//! Which files are open on this host, by device and inode over `/proc/*/fd`.
//!
//! Needs root (or `CAP_SYS_PTRACE`) to see other users' processes, and does not see into containers
//! that hide theirs; so it can only ever add a reason to leave a file alone.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// The open regular files, and who has them open.
#[derive(Debug, Clone, Default)]
pub struct OpenFiles {
    by_id: HashMap<(u64, u64), String>,
    /// Whether some process could not be looked into.
    pub incomplete: bool,
}

impl OpenFiles {
    /// Looks at every process but this one.
    pub fn scan() -> Self {
        let mut found = Self::default();
        let Ok(processes) = fs::read_dir("/proc") else {
            return Self { incomplete: true, ..found };
        };
        for process in processes.flatten() {
            let name = process.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            if pid == std::process::id() {
                continue;
            }
            match fs::read_dir(process.path().join("fd")) {
                Ok(fds) => found.add(pid, fds),
                // A process that has just ended is no gap.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(_) => found.incomplete = true,
            }
        }
        found
    }

    fn add(&mut self, pid: u32, fds: fs::ReadDir) {
        for fd in fds.flatten() {
            // The link is read first: asking a pipe or socket for its state says nothing, and there
            // are many of them.
            let is_path = fs::read_link(fd.path()).is_ok_and(|target| target.is_absolute());
            if !is_path {
                continue;
            }
            if let Ok(stat) = fs::metadata(fd.path())
                && stat.is_file()
            {
                self.by_id.entry((stat.dev(), stat.ino())).or_insert_with(|| describe(pid));
            }
        }
    }

    /// Who has the file with this device and inode open: `pid 4711 (ffmpeg)`.
    pub fn holder(&self, dev: u64, ino: u64) -> Option<&str> {
        self.by_id.get(&(dev, ino)).map(String::as_str)
    }
}

fn describe(pid: u32) -> String {
    match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("pid {pid} ({})", name.trim()),
        Err(_) => format!("pid {pid}"),
    }
}
