//! What a file is besides its contents: owner, mode, extended attributes, ACLs and times.
//!
//! Owns the order in which they are given to a copy: the owner first, because a change of owner takes
//! set-user-ID and capabilities away; the mode after the ACL, with which it shares its group bits; the
//! times last. A copy never ends up with another owner, another mode or more access than its source
//! without an error; what else a file system cannot keep becomes a warning. Follows no names: all of it
//! works on open files.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

/// The largest list of names and the largest value that Linux hands out (xattr(7)).
const XATTR_MAX: usize = 65536;

/// The access ACL as Linux keeps it (acl(5)).
const ACCESS_ACL: &[u8] = b"system.posix_acl_access";

/// Gives `target` the owner, mode, extended attributes (ACLs among them), and last the times of `source`.
///
/// Returns what the file system of the target could not keep, in words. The new metadata are not yet
/// durable: `fsync` the target afterwards. For a directory the contents must be in place already, or
/// its times change again.
///
/// # Errors
/// When owner or mode cannot be kept, when an access ACL that the source does not have stays on the
/// target, or when the source cannot be read.
pub(crate) fn copy_metadata(source: &File, target: &File) -> io::Result<Vec<String>> {
    let wanted = source.metadata()?;
    let mut warnings = Vec::new();
    copy_owner(&wanted, target)?;
    copy_xattrs(source, target, &mut warnings)?;
    copy_mode(&wanted, target)?;
    set_times(target, accessed(&wanted), modified(&wanted)).map_err(|error| failed("times", &error))?;

    let got = target.metadata()?;
    if (got.uid(), got.gid()) != (wanted.uid(), wanted.gid()) {
        return Err(failed("owner", &io::ErrorKind::Unsupported.into()));
    }
    if permissions(&got) != permissions(&wanted) {
        return Err(failed("mode", &io::ErrorKind::Unsupported.into()));
    }
    if modified(&got) != modified(&wanted) {
        warnings.push("the file system rounds the time of modification".to_owned());
    }
    Ok(warnings)
}

/// Sets the times of last access and last modification, in nanoseconds where the file system has them.
///
/// # Errors
/// When the file is neither ours nor are we root, or the file system is read-only or broken.
pub(crate) fn set_times(file: &File, accessed: Timespec, modified: Timespec) -> io::Result<()> {
    let times = Timestamps { last_access: accessed, last_modification: modified };
    Ok(rustix::fs::futimens(file, &times)?)
}

/// The times of a directory, taken before an operation in it so that they can be put back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DirTimes {
    accessed: Timespec,
    modified: Timespec,
}

impl DirTimes {
    /// # Errors
    /// When the directory cannot be looked at.
    pub(crate) fn take(directory: &File) -> io::Result<Self> {
        let metadata = directory.metadata()?;
        Ok(Self { accessed: accessed(&metadata), modified: modified(&metadata) })
    }

    /// Puts the times back. The directory's time of change (ctime) moves on; nobody can set that.
    ///
    /// # Errors
    /// As [`set_times`].
    pub(crate) fn restore(&self, directory: &File) -> io::Result<()> {
        set_times(directory, self.accessed, self.modified)
    }
}

fn accessed(metadata: &Metadata) -> Timespec {
    Timespec { tv_sec: metadata.atime(), tv_nsec: metadata.atime_nsec() }
}

fn modified(metadata: &Metadata) -> Timespec {
    Timespec { tv_sec: metadata.mtime(), tv_nsec: metadata.mtime_nsec() }
}

/// The twelve bits that chmod(2) can set.
fn permissions(metadata: &Metadata) -> u32 {
    metadata.mode() & 0o7777
}

fn copy_owner(wanted: &Metadata, target: &File) -> io::Result<()> {
    // Compared first: who is not root may not even give a file to the owner it has.
    let got = target.metadata()?;
    let owner = (got.uid() != wanted.uid()).then(|| Uid::from_raw(wanted.uid()));
    let group = (got.gid() != wanted.gid()).then(|| Gid::from_raw(wanted.gid()));
    if owner.is_none() && group.is_none() {
        return Ok(());
    }
    rustix::fs::fchown(target, owner, group).map_err(|error| failed("owner", &error.into()))
}

fn copy_mode(wanted: &Metadata, target: &File) -> io::Result<()> {
    if permissions(&target.metadata()?) == permissions(wanted) {
        return Ok(());
    }
    rustix::fs::fchmod(target, Mode::from_raw_mode(permissions(wanted))).map_err(|error| failed("mode", &error.into()))
}

/// Names what was not kept, and keeps the kind of `error`.
fn failed(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("the {what} cannot be kept: {error}"))
}

fn copy_xattrs(source: &File, target: &File, warnings: &mut Vec<String>) -> io::Result<()> {
    let wanted = xattr_names(source)?;
    // Most files have none, and small ones come by the thousand.
    let mut value = vec![0; if wanted.is_empty() { 0 } else { XATTR_MAX }];
    for name in &wanted {
        let length = match rustix::fs::fgetxattr(source, name, &mut value[..]) {
            Ok(length) => length,
            // Taken away since it was listed.
            Err(Errno::NODATA) => continue,
            Err(error) => return Err(io::Error::new(error.kind(), format!("cannot read {}: {error}", show(name)))),
        };
        if let Err(error) = rustix::fs::fsetxattr(target, name, &value[..length], XattrFlags::empty()) {
            warnings.push(format!("{} could not be kept: {error}", show(name)));
        }
    }
    // A default ACL of the directory has given the new file an ACL of its own.
    for name in xattr_names(target)?.difference(&wanted).filter(|name| name.to_bytes() == ACCESS_ACL) {
        rustix::fs::fremovexattr(target, name).map_err(|error| failed("absence of an ACL", &error.into()))?;
    }
    Ok(())
}

/// The attributes that belong to the file, not to the way in which its file system stores it.
fn xattr_names(file: &File) -> io::Result<BTreeSet<CString>> {
    let mut list = vec![0_u8; 1024];
    let mut answer = rustix::fs::flistxattr(file, &mut list[..]);
    if answer == Err(Errno::RANGE) {
        list.resize(XATTR_MAX, 0);
        answer = rustix::fs::flistxattr(file, &mut list[..]);
    }
    let length = match answer {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => 0,
        Err(error) => return Err(error.into()),
    };
    let names =
        list[..length].split_inclusive(|byte| *byte == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok());
    Ok(names.filter(|name| !is_storage(name.to_bytes())).map(CStr::to_owned).collect())
}

/// Compression and the like on btrfs; labels and signatures that the kernel's security modules give to each
/// file by themselves, and that are bound to the inode or to the place.
fn is_storage(name: &[u8]) -> bool {
    let prefixes: [&[u8]; 5] = [b"btrfs.", b"security.selinux", b"security.SMACK64", b"security.ima", b"security.evm"];
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// A name from the disk is any bytes.
fn show(name: &CStr) -> String {
    name.to_bytes().escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, fchown};
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;

    use super::*;

    fn is_root() -> bool {
        rustix::process::geteuid().is_root()
    }

    fn xattr(file: &File, name: &str) -> Option<Vec<u8>> {
        let mut value = vec![0; 1024];
        let length = rustix::fs::fgetxattr(file, name, &mut value[..]).ok()?;
        value.truncate(length);
        Some(value)
    }

    /// An ACL that gives user 4711 read access beside owner, group and others, as `linux/posix_acl_xattr.h` has it.
    fn acl() -> Vec<u8> {
        let nobody = u32::MAX;
        let entries = [(1, 6, nobody), (2, 4, 4711), (4, 4, nobody), (0x10, 4, nobody), (0x20, 0, nobody)];
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        for (tag, permission, id) in entries {
            bytes.extend(u16::to_le_bytes(tag));
            bytes.extend(u16::to_le_bytes(permission));
            bytes.extend(u32::to_le_bytes(id));
        }
        bytes
    }

    #[test]
    fn owner_mode_times_attributes_and_acl_are_kept() {
        let (source, target) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let (accessed, modified) = (
            Timespec { tv_sec: 1_500_000_000, tv_nsec: 123_456_789 },
            Timespec { tv_sec: 1_600_000_000, tv_nsec: 987_654_321 },
        );
        if is_root() {
            fchown(&source, Some(99), Some(100)).unwrap();
        }
        let has_xattrs = rustix::fs::fsetxattr(&source, "user.origin", b"tape \xff", XattrFlags::empty()).is_ok();
        let has_acls = rustix::fs::fsetxattr(&source, "system.posix_acl_access", &acl(), XattrFlags::empty()).is_ok();
        source.set_permissions(PermissionsExt::from_mode(0o4640)).unwrap();
        set_times(&source, accessed, modified).unwrap();

        assert_eq!(copy_metadata(&source, &target).unwrap(), Vec::<String>::new());

        let (want, got) = (source.metadata().unwrap(), target.metadata().unwrap());
        assert_eq!((got.uid(), got.gid(), got.mode()), (want.uid(), want.gid(), want.mode()));
        assert_eq!((got.atime(), got.atime_nsec()), (1_500_000_000, 123_456_789));
        assert_eq!((got.mtime(), got.mtime_nsec()), (1_600_000_000, 987_654_321));
        assert_eq!(xattr(&target, "user.origin").is_some(), has_xattrs);
        assert_eq!(xattr(&target, "user.origin"), xattr(&source, "user.origin"));
        assert_eq!(xattr(&target, "system.posix_acl_access").is_some(), has_acls);
        assert_eq!(xattr(&target, "system.posix_acl_access"), xattr(&source, "system.posix_acl_access"));
    }

    #[test]
    fn an_acl_that_the_directory_gave_to_the_copy_is_taken_away() {
        let (source, target) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        if rustix::fs::fsetxattr(&target, "system.posix_acl_access", &acl(), XattrFlags::empty()).is_err() {
            println!("skipped: no ACLs on the file system of the temporary directory");
            return;
        }
        source.set_permissions(PermissionsExt::from_mode(0o644)).unwrap();
        copy_metadata(&source, &target).unwrap();
        assert_eq!(xattr(&target, "system.posix_acl_access"), None);
        assert_eq!(target.metadata().unwrap().mode() & 0o7777, 0o644);
    }

    #[test]
    fn an_owner_or_mode_that_cannot_be_kept_is_an_error_and_the_same_owner_is_none() {
        let (source, target) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        copy_metadata(&source, &target).unwrap();
        // Files of the kernel take no mode, not even from root.
        let fixed = File::open("/proc/self/mounts").unwrap();
        let error = copy_metadata(&source, &fixed).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().starts_with("the mode cannot be kept"), "{error}");
        if !is_root() {
            let error = copy_metadata(&File::open("/proc/version").unwrap(), &target).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            assert!(error.to_string().starts_with("the owner cannot be kept"), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_kept_is_a_warning_that_names_it() {
        let target = tempfile::tempfile().unwrap();
        let source = tempfile::tempfile().unwrap();
        if rustix::fs::fsetxattr(&source, "user.a\nb", b"1", XattrFlags::empty()).is_err() {
            println!("skipped: no extended attributes on the file system of the temporary directory");
            return;
        }
        // A descriptor for a pipe has no user attributes but owner, mode and times.
        let (reader, _writer) = io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(reader));
        let mut warnings = Vec::new();
        copy_xattrs(&source, &pipe, &mut warnings).unwrap();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with(r"user.a\nb could not be kept: "), "{warnings:?}");
        warnings.clear();
        copy_xattrs(&source, &target, &mut warnings).unwrap();
        assert!(warnings.is_empty());
    }

    #[test]
    fn attributes_of_the_storage_are_left_alone() {
        for (name, storage) in [
            ("btrfs.compression", true),
            ("security.selinux", true),
            ("security.capability", false),
            ("system.posix_acl_access", false),
            ("user.btrfs.x", false),
        ] {
            assert_eq!(is_storage(name.as_bytes()), storage, "{name}");
        }
    }

    #[test]
    fn a_directory_gets_its_times_back_to_the_nanosecond() {
        let folder = tempfile::tempdir().unwrap();
        let directory = File::open(folder.path()).unwrap();
        let past = Timespec { tv_sec: 1_234_567_890, tv_nsec: 1 };
        set_times(&directory, past, past).unwrap();
        let times = DirTimes::take(&directory).unwrap();
        File::create_new(folder.path().join("film.mkv")).unwrap();
        assert_ne!(modified(&directory.metadata().unwrap()), past);
        times.restore(&directory).unwrap();
        let metadata = directory.metadata().unwrap();
        assert_eq!((accessed(&metadata), modified(&metadata)), (past, past));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_mode_and_time_is_kept(mode in 0_u32..0o10000, seconds in 0_u64..4_000_000_000, nanos in 0_u32..1_000_000_000) {
            let (source, target) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
            source.set_permissions(PermissionsExt::from_mode(mode)).unwrap();
            source.set_modified(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos)).unwrap();
            prop_assert_eq!(copy_metadata(&source, &target).unwrap(), Vec::<String>::new());
            let (want, got) = (source.metadata().unwrap(), target.metadata().unwrap());
            prop_assert_eq!(got.mode(), want.mode());
            prop_assert_eq!(got.modified().unwrap(), want.modified().unwrap());
        }
    }
}
