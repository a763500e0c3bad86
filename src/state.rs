//! The state directory: where it is, who may write it, and how its files are replaced.
//!
//! Owns the lock that keeps two changing runs apart and the atomic replacement of the small derived
//! files (`index.json`, `wants.json`). A derived file that cannot be read counts as absent, with a
//! warning: it can always be made again. `history.jsonl` is not handled here but in `history/`.
//! Everything is made for the owner alone (0700, 0600): it tells who watches what.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::thread::sleep;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{self, AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest derived file that is read, in bytes: a bound against a damaged or planted file.
const MAX_FILE: u64 = 1 << 30;

/// Up to so many bytes a derived file is read whole, which is twice as quick. The text of a larger one would take
/// more room than what it says.
const WHOLE: u64 = 1 << 24;

/// So much of a derived file is read or written at once, in bytes.
const BLOCK: usize = 1 << 16;

/// The directory of `state.dir`.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: Utf8PathBuf,
}

/// Held as long as this value lives; the kernel lets go of it even after a SIGKILL.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("another run of plexcache holds {0}")]
    Held(Utf8PathBuf),
    #[error("cannot lock {path}: {source}")]
    Io { path: Utf8PathBuf, source: io::Error },
}

impl Lock {
    /// Locks an open file; waits for it as long as `waits` says so, which is asked ten times a second.
    ///
    /// # Errors
    /// [`LockError::Held`] when somebody else has it; `path` is for the message.
    pub fn take(file: File, path: Utf8PathBuf, waits: impl Fn() -> bool) -> Result<Self, LockError> {
        loop {
            match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(Errno::WOULDBLOCK) if waits() => sleep(Duration::from_millis(100)),
                Err(Errno::WOULDBLOCK) => return Err(LockError::Held(path)),
                Err(error) => return Err(LockError::Io { path, source: error.into() }),
            }
        }
    }
}

impl StateDir {
    pub fn new(path: Utf8PathBuf) -> Self {
        Self { path }
    }

    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    pub fn file(&self, name: &str) -> Utf8PathBuf {
        self.path.join(name)
    }

    /// Makes the directory where it is missing, and takes the lock as [`Lock::take`] does.
    ///
    /// # Errors
    /// [`LockError::Held`] when somebody else has it.
    pub fn lock(&self, waits: impl Fn() -> bool) -> Result<Lock, LockError> {
        let io = |source: io::Error| LockError::Io { path: self.path.clone(), source };
        make_folders(&self.path).map_err(io)?;
        let path = self.file("lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = File::from(fs::openat(CWD, path.as_std_path(), flags, PRIVATE).map_err(|e| io(e.into()))?);
        Lock::take(file, path, waits)
    }

    /// Whether a run holds the lock now. Read from `/proc/locks`, because trying the lock would keep a
    /// run out that begins at this moment.
    pub fn is_locked(&self) -> bool {
        let Ok(stat) = fs::stat(self.file("lock").as_std_path()) else { return false };
        let id = format!("{:02x}:{:02x}:{}", fs::major(stat.st_dev), fs::minor(stat.st_dev), stat.st_ino);
        let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
        locks.lines().any(|line| line.split_whitespace().any(|field| field == id))
    }

    /// Reads a derived file. `None` when it is absent or of no use; the reason goes to the log.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let path = self.file(name);
        let cannot = |error: &io::Error| tracing::warn!("cannot read {path}: {error}; it will be made again");
        let file = match open_file(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                cannot(&error);
                return None;
            }
        };
        match parsed(file) {
            Ok(value) => Some(value),
            Err(error) if error.is_io() => {
                cannot(&error.into());
                None
            }
            Err(error) => {
                tracing::warn!("{path} is damaged ({error}); it will be made again");
                None
            }
        }
    }

    /// Replaces a derived file in one step that survives a power cut: whole old or whole new. One that says the
    /// same already is left alone, so that a run with nothing to do writes nothing.
    pub fn write<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        let path = self.file(name);
        if says(&path, value) {
            return Ok(());
        }
        replace(&path, PRIVATE, |file| {
            let mut out = BufWriter::with_capacity(BLOCK, file);
            serde_json::to_writer(&mut out, value)?;
            out.flush()
        })
    }
}

/// Makes a folder and those above it where they are missing, for the owner alone, and makes them durable.
pub(crate) fn make_folders(path: &Utf8Path) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut at = path;
    while matches!(fs::statat(CWD, at.as_std_path(), AtFlags::empty()), Err(Errno::NOENT)) {
        missing.push(at);
        match at.parent() {
            Some(parent) if !parent.as_str().is_empty() => at = parent,
            _ => break,
        }
    }
    for path in missing.into_iter().rev() {
        match fs::mkdirat(CWD, path.as_std_path(), Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(parent) = path.parent() {
            sync_dir(parent)?;
        }
    }
    Ok(())
}

/// Replaces the file at `path` in one step: whoever reads it sees the whole old or the whole new one.
pub fn replace_file(path: &Utf8Path, mode: Mode, contents: &[u8]) -> io::Result<()> {
    replace(path, mode, |mut file| file.write_all(contents))
}

/// The same with what `write` writes.
fn replace(path: &Utf8Path, mode: Mode, write: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    let new = Utf8PathBuf::from(format!("{path}.new"));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let create = || fs::openat(CWD, new.as_std_path(), flags, mode);
    let file = create().or_else(|error| match error {
        // What a crash left. It may be a link by now: it is taken away, never written to.
        Errno::EXIST => fs::unlinkat(CWD, new.as_std_path(), AtFlags::empty()).and_then(|()| create()),
        error => Err(error),
    });
    let file = File::from(file?);
    write(&file)?;
    file.sync_all()?;
    fs::renameat(CWD, new.as_std_path(), CWD, path.as_std_path())?;
    sync_dir(path.parent().filter(|parent| !parent.as_str().is_empty()).unwrap_or(Utf8Path::new(".")))
}

/// Read and write for the owner alone.
pub(crate) const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Makes the entries of a directory durable.
pub(crate) fn sync_dir(path: &Utf8Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(fs::fsync(fs::openat(CWD, path.as_std_path(), flags, Mode::empty())?)?)
}

/// Opens a file of the state for reading. What is no file is refused: a pipe would never answer.
pub(crate) fn open_file(path: &Utf8Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(fs::openat(CWD, path.as_std_path(), flags, Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

/// Reads a small text that somebody was told to put there, such as a PIN.
///
/// # Errors
/// It cannot be read, is no file, or has more than `longest` bytes.
pub(crate) fn read_small(path: &Utf8Path, longest: u64) -> io::Result<String> {
    let mut text = Vec::new();
    open_file(path)?.take(longest + 1).read_to_end(&mut text)?;
    if text.len() as u64 > longest {
        return Err(io::Error::other(format!("it has more than {longest} bytes")));
    }
    String::from_utf8(text).map_err(|_| io::Error::other("it is no text"))
}

/// What a derived file says.
fn parsed<T: DeserializeOwned>(file: File) -> serde_json::Result<T> {
    let length = file.metadata().map_err(serde_json::Error::io)?.len();
    let mut file = file.take(MAX_FILE);
    if length > WHOLE {
        return serde_json::from_reader(BufReader::with_capacity(BLOCK, file));
    }
    let mut text = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.read_to_end(&mut text).map_err(serde_json::Error::io)?;
    // All at once, which is quicker than text by text.
    serde_json::from_str(std::str::from_utf8(&text).map_err(serde::de::Error::custom)?)
}

/// Whether the file at `path` is what [`StateDir::write`] would make of `value`.
fn says<T: Serialize>(path: &Utf8Path, value: &T) -> bool {
    /// Takes what the file holds, and nothing else.
    struct Same(BufReader<File>);

    impl Write for Same {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            let there = self.0.fill_buf()?;
            let length = text.len().min(there.len());
            if length == 0 || text[..length] != there[..length] {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.0.consume(length);
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    // Another mode, or a link in its place, is mended by writing it anew.
    let is_ours = |meta: std::fs::Metadata| meta.is_file() && meta.mode() & 0o7777 == PRIVATE.bits();
    if !std::fs::symlink_metadata(path).is_ok_and(is_ours) {
        return false;
    }
    let Ok(file) = open_file(path) else { return false };
    let mut same = BufWriter::with_capacity(BLOCK, Same(BufReader::with_capacity(BLOCK, file)));
    serde_json::to_writer(&mut same, value).is_ok()
        && same.into_inner().is_ok_and(|mut same| same.0.fill_buf().is_ok_and(<[u8]>::is_empty))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn state() -> (tempfile::TempDir, StateDir) {
        let tree = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(tree.path().join("a/state")).unwrap();
        (tree, StateDir::new(path))
    }

    #[test]
    fn the_lock_keeps_a_second_one_out_until_it_is_dropped() {
        let (_tree, state) = state();
        let lock = state.lock(|| false).unwrap();
        assert!(matches!(state.lock(|| false), Err(LockError::Held(_))));
        assert!(state.is_locked());
        drop(lock);
        assert!(!state.is_locked());
        assert!(state.lock(|| false).is_ok());
    }

    #[test]
    fn a_derived_file_that_is_absent_or_damaged_is_none() {
        let (_tree, state) = state();
        let _lock = state.lock(|| false).unwrap();
        assert_eq!(state.read::<Vec<u32>>("x.json"), None);
        state.write("x.json", &[1, 2]).unwrap();
        assert_eq!(state.read::<Vec<u32>>("x.json"), Some(vec![1, 2]));
        state.write("x.json", &"other").unwrap();
        assert_eq!(state.read::<Vec<u32>>("x.json"), None);
    }

    #[test]
    fn a_derived_file_that_says_the_same_already_is_left_alone() {
        let (_tree, state) = state();
        let _lock = state.lock(|| false).unwrap();
        let ino = || fs::stat(state.file("x.json").as_std_path()).unwrap().st_ino;
        let long: Vec<u32> = (0..100_000).collect();
        state.write("x.json", &long).unwrap();
        let before = ino();
        state.write("x.json", &long).unwrap();
        assert_eq!(ino(), before);
        std::fs::File::open(state.file("x.json")).unwrap().set_permissions(PermissionsExt::from_mode(0o644)).unwrap();
        state.write("x.json", &long).unwrap();
        assert_ne!(ino(), before, "and what others may read is not");
        for other in [&long[..99_999], &[long.as_slice(), &[1]].concat(), &long[1..], &[]] {
            state.write("x.json", &other).unwrap();
            assert_eq!(state.read::<Vec<u32>>("x.json").as_deref(), Some(other));
        }
    }
}
