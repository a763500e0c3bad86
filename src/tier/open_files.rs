//! Which files are open on this host, by device and inode over `/proc/*/fd`.
//!
//! Needs root (or `CAP_SYS_PTRACE`) to see other users' processes, and does not see into containers
//! that hide theirs; so it can only ever add a reason to leave a file alone. No file system is asked
//! anything: a dead share or a stuck FUSE server that some other process has a file of open must not
//! stop a run.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, makedev, statx};
use rustix::io::Errno;

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
            if let Some(id) = regular_file(&fd.path()) {
                self.by_id.entry(id).or_insert_with(|| describe(pid));
            }
        }
    }

    /// Who has the file with this device and inode open: `pid 4711 (ffmpeg)`.
    pub fn holder(&self, dev: u64, ino: u64) -> Option<&str> {
        self.by_id.get(&(dev, ino)).map(String::as_str)
    }
}

/// Device and inode of an open regular file. Its file system is not asked for fresh figures: files are
/// open on all sorts of them, and a dead network share that has nothing to do with us would never answer.
fn regular_file(fd: &Path) -> Option<(u64, u64)> {
    let (follow, what) = (AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE | StatxFlags::INO);
    match statx(CWD, fd, follow, what) {
        Ok(stat) => {
            let dev = makedev(stat.stx_dev_major, stat.stx_dev_minor);
            FileType::from_raw_mode(stat.stx_mode.into()).is_file().then_some((dev, stat.stx_ino))
        }
        // Kernels before 4.11, and sandboxes.
        Err(Errno::NOSYS | Errno::PERM) => {
            let stat = fs::metadata(fd).ok().filter(fs::Metadata::is_file)?;
            Some((stat.dev(), stat.ino()))
        }
        Err(_) => None,
    }
}

fn describe(pid: u32) -> String {
    match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("pid {pid} ({})", name.trim()),
        Err(_) => format!("pid {pid}"),
    }
}
