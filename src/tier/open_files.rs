//! Which files are open on this host, by device and inode over `/proc/*/fd`.
//!
//! Needs root (or `CAP_SYS_PTRACE`) to see other users' processes, and does not see into containers
//! that hide theirs; so it can only ever add a reason to leave a file alone. No file system is asked
//! anything: a dead share or a stuck FUSE server that some other process has a file of open must not
//! stop a run. Nor must a process that hangs in the middle of its `execve`, closing a file of such a
//! share: the kernel keeps everybody waiting then who looks at what it has open.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, makedev, statx};
use rustix::io::Errno;

/// The open regular files, and who has them open.
#[derive(Debug, Clone, Default)]
pub struct OpenFiles {
    by_id: HashMap<(u64, u64), String>,
    /// Whether some process could not be looked into.
    pub incomplete: bool,
}

/// How long a process is waited for; looking at one takes microseconds.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long all of them are.
const SCAN_WITHIN: Duration = Duration::from_secs(5);

/// The regular files that one process has open, by device and inode.
type Files = io::Result<Vec<(u64, u64)>>;

impl OpenFiles {
    /// Looks at every process but this one, and at those that keep it waiting for as long as
    /// `PATIENCE` has it.
    pub fn scan() -> Self {
        let Ok(processes) = fs::read_dir("/proc") else {
            return Self { incomplete: true, ..Self::default() };
        };
        let pid = |process: fs::DirEntry| process.file_name().to_str()?.parse::<u32>().ok();
        let pids = processes.flatten().filter_map(pid).filter(|pid| *pid != std::process::id());
        Self::of(pids.collect(), files_of)
    }

    fn of(mut pids: VecDeque<u32>, look: fn(u32) -> Files) -> Self {
        let mut found = Self::default();
        let deadline = Instant::now() + SCAN_WITHIN;
        while !pids.is_empty() && Instant::now() < deadline {
            let (answer, answers) = mpsc::channel();
            let asked = pids.clone();
            let looks = move || asked.into_iter().map(look).try_for_each(|files| answer.send(files));
            if thread::Builder::new().spawn(looks).is_err() {
                break;
            }
            let silent = loop {
                match answers.recv_timeout(PATIENCE) {
                    Ok(files) => found.add(pids.pop_front(), files),
                    Err(error) => break error == RecvTimeoutError::Timeout,
                }
            };
            // The one that keeps the thread is left out, and with it the thread.
            if silent {
                pids.pop_front();
                found.incomplete = true;
            }
        }
        found.incomplete |= !pids.is_empty();
        found
    }

    fn add(&mut self, pid: Option<u32>, files: Files) {
        match (pid, files) {
            (Some(pid), Ok(files)) => {
                for id in files {
                    self.by_id.entry(id).or_insert_with(|| describe(pid));
                }
            }
            // A process that has just ended is no gap.
            (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
            _ => self.incomplete = true,
        }
    }

    /// Who has the file with this device and inode open: `pid 4711 (ffmpeg)`.
    pub fn holder(&self, dev: u64, ino: u64) -> Option<&str> {
        self.by_id.get(&(dev, ino)).map(String::as_str)
    }
}

fn files_of(pid: u32) -> Files {
    let fds = fs::read_dir(format!("/proc/{pid}/fd"))?;
    // The link is read first: asking a pipe or socket for its state says nothing, and there are many
    // of them.
    let is_path = |fd: &PathBuf| fs::read_link(fd).is_ok_and(|target| target.is_absolute());
    Ok(fds.flatten().map(|fd| fd.path()).filter(is_path).filter_map(|fd| regular_file(&fd)).collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_everybody_waiting_is_left_out_and_the_others_are_not() {
        let look = |pid| match pid {
            2 | 4 => loop {
                thread::park();
            },
            3 => Err(io::ErrorKind::NotFound.into()),
            pid => Ok(vec![(1, u64::from(pid)), (1, 100)]),
        };
        let found = OpenFiles::of([1, 2, 3, 4, 5].into(), look);
        let seen = [1, 2, 3, 4, 5, 100].map(|ino| found.holder(1, ino).is_some());
        assert_eq!((seen, found.incomplete), ([true, false, false, false, true, true], true));
    }

    #[test]
    fn only_what_could_not_be_seen_is_a_gap() {
        let scan = |look| OpenFiles::of([1, 2].into(), look).incomplete;
        assert!(!scan(|_| Ok(Vec::new())));
        assert!(!scan(|_| Err(io::ErrorKind::NotFound.into())));
        assert!(scan(|_| Err(io::ErrorKind::PermissionDenied.into())));
    }
}
