//! How the work on a file's contents goes on, and how it ends.
//!
//! Owns the words that all parts of the copy engine share: what a watcher is told and answers, and every
//! reason why there is no copy. Which file it was is for the caller to say; nothing here knows names.

use std::io;
use std::ops::ControlFlow;

/// What a `watch` answers to end the work; why is known to whoever answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop;

/// Told the bytes that are done so far: at least once in 2 MiB that are copied or read back, and every 100 ms of a
/// pause.
pub type Watch<'a> = dyn FnMut(u64) -> ControlFlow<Stop> + 'a;

/// Why there is no copy. Whatever the target holds by then is worth nothing.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("stopped")]
    Cancelled,
    #[error("the file changed while it was read")]
    SourceChanged,
    #[error("what was read back differs from what was written")]
    Mismatch,
    #[error("cannot read: {0}")]
    Read(#[source] io::Error),
    #[error("cannot write: {0}")]
    Write(#[source] io::Error),
    #[error("cannot read back what was written: {0}")]
    ReadBack(#[source] io::Error),
}

impl CopyError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Cancelled => None,
            Self::SourceChanged => Some("something still writes to it; the next run looks again"),
            Self::Mismatch | Self::ReadBack(_) => {
                Some("suspect the disk, its cable or the memory: look at the kernel log and the disk's SMART values")
            }
            Self::Read(error) | Self::Write(error) => match error.kind() {
                io::ErrorKind::StorageFull => Some("make room on that disk, or raise limits.min_free"),
                io::ErrorKind::OutOfMemory => Some("the machine, or the limit on this service, is out of memory"),
                io::ErrorKind::QuotaExceeded => Some("raise the quota of the user that runs this"),
                io::ErrorKind::ReadOnlyFilesystem => {
                    Some("a disk that turned read-only has often had errors: see dmesg")
                }
                _ => Some("look at the kernel log (dmesg) for errors of that disk"),
            },
        }
    }
}

/// Tells `watch` and hears it.
pub(super) fn go_on(watch: &mut Watch<'_>, bytes: u64) -> Result<(), CopyError> {
    match watch(bytes) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(Stop) => Err(CopyError::Cancelled),
    }
}
