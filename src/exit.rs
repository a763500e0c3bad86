//! Every exit status of the program, once. The manual quotes this table.

use std::process::{ExitCode, Termination};

/// How the program ended, for cron, systemd and scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or nothing to do.
    Ok = 0,
    /// Stopped by an error before or during the run.
    Error = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Finished, but something failed or could not be read.
    Partial = 3,
    /// Refused for safety: not mounted, too much vanished, mover or parity check running.
    Refused = 4,
    /// Only with `--exit-code`: the dry run found something to do.
    Changes = 10,
    /// Plex cannot be reached or is busy.
    Unreachable = 69,
    /// Another run holds the lock.
    Locked = 75,
    /// No permission: the owner's token was rejected, or a file may not be read or written.
    Permission = 77,
    /// The configuration is wrong.
    Config = 78,
    /// Stopped by SIGINT.
    Interrupted = 130,
    /// Stopped by SIGTERM.
    Terminated = 143,
}

impl Exit {
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self.code())
    }
}

/// The table of the manual: status and meaning.
pub const TABLE: &[(Exit, &str)] = &[
    (Exit::Ok, "done, or nothing to do"),
    (Exit::Error, "stopped by an error before or during the run"),
    (Exit::Usage, "the command line is wrong"),
    (Exit::Partial, "finished, but something failed or could not be read"),
    (Exit::Refused, "refused for safety: a disk is not mounted, too many files vanished, the mover is running"),
    (Exit::Changes, "only with --exit-code: the dry run found something to do"),
    (Exit::Unreachable, "Plex cannot be reached, or is in maintenance"),
    (Exit::Locked, "another run holds the lock"),
    (Exit::Permission, "no permission: the owner's token was rejected, or a file may not be read or written"),
    (Exit::Config, "the configuration is wrong"),
    (Exit::Interrupted, "stopped by SIGINT"),
    (Exit::Terminated, "stopped by SIGTERM"),
];
