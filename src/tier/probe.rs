//! Asking file systems that may never answer: a dead network share, a stopped FUSE daemon.
//!
//! Owns the deadline. Every question is put on a thread of its own and all of them at once, so that many
//! disks that have to spin up take as long as one, and many dead ones do not add up. A thread that is
//! stuck is left behind: the process ends without it.
//!
//! With one exception. A FUSE daemon that has taken a call and hangs, in the network for example, keeps
//! the caller beyond any signal, and a process with such a thread neither ends nor lets go of its locks.
//! So another process, which has nothing to lose, looks first.

use std::ffi::OsString;
use std::io;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use camino::Utf8Path;

use super::{Folder, Mount, Mounts};

/// Puts all the questions and waits up to `within` for the answers, which are in the order of the
/// questions. What is not answered by then has failed with [`io::ErrorKind::TimedOut`].
pub(crate) fn ask_all<Q, T>(
    questions: impl IntoIterator<Item = Q>,
    within: Duration,
    ask: fn(Q) -> io::Result<T>,
) -> Vec<io::Result<T>>
where
    Q: Send + 'static,
    T: Send + 'static,
{
    let (answer, answered) = mpsc::channel();
    let mut answers = Vec::new();
    for (index, question) in questions.into_iter().enumerate() {
        let answer = answer.clone();
        // After the deadline nobody listens any more.
        let started = thread::Builder::new().spawn(move || drop(answer.send((index, ask(question)))));
        answers.push(Err(match started {
            Ok(_) => io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", within.as_secs())),
            Err(error) => error,
        }));
    }
    // The channel closes with the last thread that can still answer.
    drop(answer);
    let deadline = Instant::now() + within;
    while let Ok((index, said)) = answered.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        answers[index] = said;
    }
    answers
}

/// What this program is called with to be that other process; no word of its command line.
const SCOUT: &str = "--answers?";

/// Waits for as long as it takes until `path` answers, if it is on FUSE by its name.
///
/// # Errors
/// Only when the mount table cannot be read or no process be started.
pub(crate) fn wait_for(path: &Utf8Path) -> io::Result<()> {
    if !Mounts::read()?.of(path).is_some_and(Mount::is_fuse) {
        return Ok(());
    }
    let mut scout = Command::new("/proc/self/exe");
    scout.arg(SCOUT).arg(path).env_clear().current_dir("/");
    // Whoever reads what this process says must not wait for the other one.
    scout.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    scout.status().map(drop)
}

/// Waits until the file system of `path` answers, for as long as it takes.
///
/// # Errors
/// What it says when it does not let the folder be looked at.
pub(crate) fn answers(path: &Utf8Path) -> io::Result<()> {
    wait_for(path)?;
    let folder = Folder::open_root(path)?;
    folder.space()?;
    folder.names().map(drop)
}

/// Whether this process was started to look whether a folder answers, and no more; it has done that then.
/// What the answer was is asked again by who wants to know.
pub fn has_scouted(mut arguments: impl Iterator<Item = OsString>) -> bool {
    if arguments.nth(1).is_none_or(|word| word != SCOUT) {
        return false;
    }
    if let Some(path) = arguments.next().as_deref().and_then(|path| Utf8Path::from_path(path.as_ref())) {
        let _answer = Folder::open_root(path).and_then(|folder| Ok((folder.space()?, folder.names()?)));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_never_answers_has_failed_and_keeps_nobody_else_waiting() {
        let ask = |who: u32| match who {
            0 | 1 => loop {
                thread::park();
            },
            2 => Err(io::Error::other("no")),
            who => Ok(who * 2),
        };
        let answers = ask_all([3, 0, 2, 1, 4], Duration::from_millis(300), ask);
        let kinds: Vec<_> = answers.into_iter().map(|said| said.map_err(|error| error.kind())).collect();
        let silent = Err(io::ErrorKind::TimedOut);
        assert_eq!(kinds, [Ok(6), silent, Err(io::ErrorKind::Other), silent, Ok(8)]);
    }
}
