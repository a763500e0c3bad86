//! The calls that change a directory. Nothing else in the program makes, renames or removes a name.
//!
//! Every one works on an open [`Folder`] below a root and on a single name in it, so no path is
//! walked again between a check and its effect. No call here replaces a name that is taken: renames
//! are `RENAME_NOREPLACE` or `RENAME_EXCHANGE`, files are made with `O_EXCL`. None of them is durable
//! until [`sync`] has returned.

use std::fs::File;
use std::io;

use rustix::fs::{self, AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::tier::{Folder, Kind};

/// Makes the file `name`, for this user alone, open for reading and writing.
///
/// # Errors
/// `AlreadyExists` when there is anything of that name.
pub(super) fn create(folder: &Folder, name: &str) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?))
}

/// Renames within a folder when `to` is free.
///
/// # Errors
/// `AlreadyExists` when it is not.
pub(super) fn rename(folder: &Folder, from: &str, to: &str) -> io::Result<()> {
    match fs::renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
        // File systems without the flag (NFS, FUSE): a hard link does not replace either. A crash
        // between the two leaves both names, which settling knows.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
            if folder.stat(from)?.is_some_and(|stat| stat.kind == Kind::File) =>
        {
            fs::linkat(folder, from, folder, to, AtFlags::empty())?;
            Ok(fs::unlinkat(folder, from, AtFlags::empty())?)
        }
        // A folder has no hard links; and a plain rename replaces nothing but an empty folder.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
            if folder.stat(from)?.is_some_and(|stat| stat.kind == Kind::Folder) =>
        {
            Ok(fs::renameat(folder, from, folder, to)?)
        }
        result => Ok(result?),
    }
}

/// Swaps two names of a folder in one step: neither is ever absent.
///
/// # Errors
/// `InvalidInput` where the file system cannot do that.
pub(super) fn exchange(folder: &Folder, one: &str, other: &str) -> io::Result<()> {
    Ok(fs::renameat_with(folder, one, folder, other, RenameFlags::EXCHANGE)?)
}

/// Removes the file or link `name`; its absence is fine.
pub(super) fn unlink(folder: &Folder, name: &str) -> io::Result<()> {
    match fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Makes the symbolic link `name`.
pub(super) fn symlink(folder: &Folder, target: &str, name: &str) -> io::Result<()> {
    Ok(fs::symlinkat(target, folder, name)?)
}

/// Makes the folder `name`, for this user alone until it gets its owner and mode.
pub(super) fn make_folder(folder: &Folder, name: &str) -> io::Result<()> {
    Ok(fs::mkdirat(folder, name, Mode::RWXU)?)
}

/// Removes the folder `name` if it is empty. Says whether it is gone.
pub(super) fn remove_empty_folder(folder: &Folder, name: &str) -> io::Result<bool> {
    match fs::unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Makes the names of a folder durable.
pub(super) fn sync(folder: &Folder) -> io::Result<()> {
    Ok(fs::fsync(folder)?)
}
