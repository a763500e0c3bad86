//! Looking below a root: the only way any part of the program names a file of a tier.
//!
//! Owns [`Folder`], an open directory below a root that was opened once and so stays on the mount it
//! was on. Every look-up goes through `openat2` with `RESOLVE_BENEATH`, without following any symbolic
//! link and without crossing into another mount; kernels and sandboxes without that call get a walk
//! component by component that keeps the same rules. Only reading happens here: what changes a
//! directory is in `transfer/`.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{self, AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::paths::MediaPath;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Folder,
    Link,
    Other,
}

/// What `lstat` says of a name, as far as anything here depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    pub kind: Kind,
    pub dev: u64,
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    pub links: u64,
    /// Nanoseconds since the epoch.
    pub mtime_ns: i64,
    /// Nanoseconds since the epoch.
    pub ctime_ns: i64,
}

impl Stat {
    fn of(stat: &fs::Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Folder,
            FileType::Symlink => Kind::Link,
            _ => Kind::Other,
        };
        Self {
            kind,
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            links: stat.st_nlink,
            mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            ctime_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// What identifies these contents later on. Without `st_dev`, which changes over a reboot, and
    /// without ctime, which our own renames change.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint { ino: self.ino, size: self.size, mtime_ns: self.mtime_ns }
    }

    pub fn is_file(&self) -> bool {
        self.kind == Kind::File
    }
}

/// Nanoseconds since the epoch, at the end of the range where the date is absurd (year 2262).
fn nanoseconds(seconds: i64, nanos: impl TryInto<i64>) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos.try_into().unwrap_or(0))
}

/// What a file was when it was last looked at: enough to tell that nobody has changed it since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since the epoch.
    pub mtime_ns: i64,
}

/// An open directory at or below a root.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
}

/// The longest file name that Linux knows, in bytes (`NAME_MAX`); some file systems know shorter ones only.
pub(crate) const MAX_NAME: usize = 255;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const REGULAR: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

impl Folder {
    /// Opens a root by its absolute path. Links in that path are the administrator's and followed.
    pub fn open_root(path: &Utf8Path) -> io::Result<Self> {
        Ok(Self { fd: fs::openat(CWD, path.as_std_path(), DIRECTORY, Mode::empty())? })
    }

    /// Opens the folder `below` this one.
    ///
    /// # Errors
    /// `ELOOP` or `ENOTDIR` for a symbolic link on the way, `EXDEV` where another mount begins.
    pub fn folder(&self, below: &MediaPath) -> io::Result<Self> {
        self.beneath(below.as_str())
    }

    /// `below` is the text of a media path.
    fn beneath(&self, below: &str) -> io::Result<Self> {
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        match fs::openat2(&self.fd, below, DIRECTORY | OFlags::NOFOLLOW, Mode::empty(), resolve) {
            Ok(fd) => Ok(Self { fd }),
            // Old kernels, and sandboxes (Docker's default filter) that answer EPERM.
            Err(Errno::NOSYS | Errno::PERM) => self.walk(below),
            Err(error) => Err(error.into()),
        }
    }

    /// What `openat2` would do, a component at a time.
    fn walk(&self, below: &str) -> io::Result<Self> {
        let dev = self.stat_self()?.dev;
        let mut fd = self.fd.try_clone()?;
        for component in below.split('/') {
            fd = fs::openat(&fd, component, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
            if fs::fstat(&fd)?.st_dev != dev {
                return Err(Errno::XDEV.into());
            }
        }
        Ok(Self { fd })
    }

    /// The folder that holds `path`, which is below this one.
    pub fn parent_of(&self, path: &MediaPath) -> io::Result<Self> {
        match path.as_path().parent() {
            Some(parent) if !parent.as_str().is_empty() => self.beneath(parent.as_str()),
            _ => self.again(),
        }
    }

    /// Another handle on the same directory.
    pub fn again(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()? })
    }

    /// Looks at the directory itself.
    pub fn stat_self(&self) -> io::Result<Stat> {
        Ok(Stat::of(&fs::fstat(&self.fd)?))
    }

    /// Looks at `name` in this folder, not following it. `None` only when there is no such name:
    /// any other trouble is an error, never an absence.
    pub fn stat(&self, name: &str) -> io::Result<Option<Stat>> {
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Stat::of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            // Nothing can have such a name, `NAME.plexcached` of a very long one neither.
            Err(Errno::NAMETOOLONG) if name.len() > MAX_NAME => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Looks at the file `path` below this folder. `None` when it, or a folder on the way, is absent.
    pub fn stat_below(&self, path: &MediaPath) -> io::Result<Option<Stat>> {
        match self.parent_of(path) {
            Ok(folder) => folder.stat(path.file_name()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the file `name` for reading, not following a link and not waiting on a pipe.
    pub fn open(&self, name: &str) -> io::Result<File> {
        Ok(File::from(fs::openat(&self.fd, name, REGULAR, Mode::empty())?))
    }

    /// Opens the file `path` below this folder for reading.
    pub fn open_below(&self, path: &MediaPath) -> io::Result<File> {
        self.parent_of(path)?.open(path.file_name())
    }

    /// Where the symbolic link `name` points, as bytes.
    pub fn read_link(&self, name: &str) -> io::Result<Vec<u8>> {
        Ok(fs::readlinkat(&self.fd, name, Vec::new())?.into_bytes())
    }

    /// The names in this folder, in no order, without `.` and `..`.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        Ok(names)
    }

    /// Size, free bytes and identity of the file system it is on.
    pub fn space(&self) -> io::Result<Space> {
        let stat = fs::fstatvfs(&self.fd)?;
        Ok(Space {
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            free_inodes: (stat.f_files > 0).then_some(stat.f_favail),
            fs_id: stat.f_fsid,
        })
    }
}

/// Looks at many files one after the other: those of one folder that follow each other cost one opening of it.
#[derive(Debug, Default)]
pub(crate) struct InTurn<'f> {
    /// The folder of the last file, the one below which it was asked for, and its path there.
    last: Option<(Folder, &'f Folder, Utf8PathBuf)>,
}

impl<'f> InTurn<'f> {
    /// What [`Folder::stat_below`] says of `path` below `root`.
    pub(crate) fn stat_below(&mut self, root: &'f Folder, path: &MediaPath) -> io::Result<Option<Stat>> {
        let Some(parent) = path.as_path().parent() else { return root.stat_below(path) };
        let folder = match self.last.take().filter(|(_, of, at)| std::ptr::eq(*of, root) && at == parent) {
            Some((folder, ..)) => folder,
            None => match root.parent_of(path) {
                Ok(folder) => folder,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        let stat = folder.stat(path.file_name());
        self.last = Some((folder, root, parent.to_owned()));
        stat
    }
}

impl Stat {
    /// Looks at an open file.
    pub fn of_file(file: &File) -> io::Result<Self> {
        Ok(Self::of(&fs::fstat(file)?))
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What `statvfs` says of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes.
    pub total: u64,
    /// Bytes that an ordinary user could still write.
    pub free: u64,
    /// `None` where the file system makes inodes as needed (btrfs).
    pub free_inodes: Option<u64>,
    pub fs_id: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media(path: &str) -> MediaPath {
        MediaPath::parse(path).unwrap()
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test lays out its own tree")]
    fn links_in_any_component_are_not_followed() {
        let tree = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(tree.path()).unwrap();
        std::fs::create_dir_all(root.join("in/deep")).unwrap();
        std::fs::create_dir_all(root.join("out")).unwrap();
        std::fs::write(root.join("out/secret"), "s").unwrap();
        std::os::unix::fs::symlink("../out", root.join("in/link")).unwrap();
        std::os::unix::fs::symlink("../../out/secret", root.join("in/deep/leaf")).unwrap();
        let folder = Folder::open_root(&root.join("in")).unwrap();
        assert!(folder.folder(&media("deep")).is_ok());
        assert!(folder.folder(&media("link")).is_err());
        assert!(folder.walk("link").is_err());
        assert!(folder.open_below(&media("link/secret")).is_err());
        assert!(folder.open_below(&media("deep/leaf")).is_err());
        assert_eq!(folder.stat_below(&media("deep/leaf")).unwrap().unwrap().kind, Kind::Link);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test lays out its own tree")]
    fn whoever_looks_in_turn_sees_the_same() {
        let tree = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(tree.path()).unwrap();
        for file in ["one/a/1", "one/a/2", "one/3", "two/a/1"] {
            std::fs::create_dir_all(path.join(file).parent().unwrap()).unwrap();
            std::fs::write(path.join(file), file).unwrap();
        }
        let roots = ["one", "two"].map(|root| Folder::open_root(&path.join(root)).unwrap());
        let mut in_turn = InTurn::default();
        for file in ["a/1", "a/2", "a/0", "3", "3/4", "0", "b/1", "a/1", "a"].map(media) {
            for root in [&roots[0], &roots[0], &roots[1]] {
                let (seen, alone) = (in_turn.stat_below(root, &file), root.stat_below(&file));
                assert_eq!(seen.map_err(|error| error.kind()), alone.map_err(|error| error.kind()), "{file:?}");
            }
        }
    }

    #[test]
    fn what_is_not_there_is_none_and_trouble_is_an_error() {
        let tree = tempfile::tempdir().unwrap();
        let folder = Folder::open_root(Utf8Path::from_path(tree.path()).unwrap()).unwrap();
        assert_eq!(folder.stat_below(&media("a/b/c")).unwrap(), None);
        assert_eq!(folder.stat(&"x".repeat(256)).unwrap(), None);
        assert!(folder.stat("nul\0").is_err());
    }
}
