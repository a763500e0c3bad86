//! The system calls that rustix does not have: leases, rolling write-back, page cache residency.
//!
//! Owns all `unsafe` code of the crate; every other file sees safe functions with `io::Result`. Leases
//! are told apart by asking the kernel about each one, because the signal that announces a broken
//! lease says nothing about which it was. The invariant: no lease is ever taken before a handler for
//! `SIGIO` stands, since that signal's default action ends the process (fcntl(2), "Leases").
#![expect(unsafe_code, reason = "system calls for which no safe binding exists; nothing else is in this file")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

/// What came of asking for a read lease.
#[derive(Debug)]
pub(crate) enum LeaseState<'a> {
    /// Nobody has the file open for writing, and whoever tries to from now on waits for us.
    Held(Lease<'a>),
    /// Somebody, perhaps this process, has the file open for writing.
    BusyWriter,
    /// The file system has no leases (FUSE, network shares), or the file is not ours to lease.
    Unsupported,
}

/// A read lease on an open file; dropping it gives the lease back.
///
/// A process that opens the file for writing while this is held is stopped by the kernel until the
/// lease is dropped, at most `/proc/sys/fs/lease-break-time` seconds. So look at [`Lease::broken`] often.
#[derive(Debug)]
pub(crate) struct Lease<'a> {
    file: &'a File,
}

impl Lease<'_> {
    /// Whether somebody wants to write to the file, or already may. Once true it stays true.
    pub(crate) fn broken(&self) -> bool {
        // During a break the kernel answers with the kind that the holder is asked to go down to, and
        // after it with none. A failure to answer is no proof that the lease stands.
        !matches!(get_lease(self.file), Ok(libc::F_RDLCK))
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // A lease that is gone already is as good as one given back.
        drop(set_lease(self.file, libc::F_UNLCK));
    }
}

/// Asks for a read lease on `file`, which must be open for reading only.
///
/// # Errors
/// When the handler for `SIGIO` cannot be installed, or the kernel fails in an unexpected way.
pub(crate) fn read_lease(file: &File) -> io::Result<LeaseState<'_>> {
    handle_sigio()?;
    match set_lease(file, libc::F_RDLCK) {
        Ok(()) => Ok(LeaseState::Held(Lease { file })),
        Err(error) => match error.raw_os_error() {
            Some(libc::EAGAIN) => Ok(LeaseState::BusyWriter),
            Some(libc::EINVAL | libc::EACCES | libc::EPERM | libc::EOPNOTSUPP | libc::ENOSYS | libc::ENOLCK) => {
                Ok(LeaseState::Unsupported)
            }
            _ => Err(error),
        },
    }
}

/// Whether anybody else has the file behind `file` open, for reading or writing; `None` where the kernel cannot tell.
///
/// Other descriptors of this process count as others, unless they are duplicates of this one. A read
/// lease that is held through `file` survives the question.
pub(crate) fn is_opened_by_others(file: &File) -> Option<bool> {
    handle_sigio().ok()?;
    let before = get_lease(file).ok()?;
    match set_lease(file, libc::F_WRLCK) {
        Ok(()) => {
            // Whoever opens the file just now waits until here. Should the old lease be refused, the
            // write lease must go all the same; the holder then sees its lease as broken.
            if set_lease(file, before).is_err() {
                drop(set_lease(file, libc::F_UNLCK));
            }
            Some(false)
        }
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Some(true),
        Err(_) => None,
    }
}

/// Has `SIGIO` set a flag instead of ending the process. The flag itself is never read: leases are asked one by one.
fn handle_sigio() -> io::Result<()> {
    static HANDLED: OnceLock<()> = OnceLock::new();
    if HANDLED.get().is_none() {
        // Two threads that come here together install two handlers, which does no harm.
        signal_hook::flag::register(libc::SIGIO, Arc::new(AtomicBool::new(false)))?;
        _ = HANDLED.set(());
    }
    Ok(())
}

fn set_lease(file: &File, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as `file` lives, and F_SETLEASE takes an int and no pointer.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) }).map(drop)
}

fn get_lease(file: &File) -> io::Result<libc::c_int> {
    // SAFETY: the descriptor is open as long as `file` lives, and F_GETLEASE takes no argument.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLEASE) })
}

/// Has the kernel start to write out the dirty pages of a range, without waiting for the device.
///
/// # Errors
/// `Unsupported` where rolling write-back is not to be had. Any other error is the device's, and final:
/// the kernel reports a failed write-back only once, so a later `fsync` may well succeed.
pub(crate) fn start_writeback(file: &File, offset: u64, length: u64) -> io::Result<()> {
    sync_file_range(file, offset, length, libc::SYNC_FILE_RANGE_WRITE)
}

/// Writes out the dirty pages of a range and waits until the device has them. Neither the file's
/// metadata nor the device's own cache are flushed: only `fsync` makes data durable.
///
/// # Errors
/// As [`start_writeback`].
pub(crate) fn finish_writeback(file: &File, offset: u64, length: u64) -> io::Result<()> {
    let all = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    sync_file_range(file, offset, length, all)
}

fn sync_file_range(file: &File, offset: u64, length: u64, flags: libc::c_uint) -> io::Result<()> {
    let (offset, length) = (signed(offset)?, signed(length)?);
    loop {
        // SAFETY: the descriptor is open as long as `file` lives; all other arguments are plain numbers.
        match check(unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, flags) }) {
            Ok(_) => return Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR) => {}
                // ENOSYS and EPERM are what system call filters answer, ESPIPE and EINVAL odd file systems.
                Some(libc::ENOSYS | libc::EPERM | libc::EINVAL | libc::ESPIPE | libc::EOPNOTSUPP) => {
                    return Err(io::ErrorKind::Unsupported.into());
                }
                _ => return Err(error),
            },
        }
    }
}

/// Whether any page of a range of the file, of which `offset` is a multiple of the page size, is in the page cache.
///
/// The kernel answers a process that neither owns nor may write the file always with yes (mincore(2)).
///
/// # Errors
/// Where the file cannot be mapped, as on some FUSE file systems.
pub(crate) fn any_page_cached(file: &File, offset: u64, length: usize) -> io::Result<bool> {
    if length == 0 {
        return Ok(false);
    }
    // One byte a page; where pages are larger than the smallest there are, the rest stays zero.
    let mut resident = vec![0_u8; length.div_ceil(4096)];
    let (protection, offset) = (libc::PROT_READ, signed(offset)?);
    // SAFETY: the kernel chooses the address, so no mapping of ours is replaced; the pages are never touched, so a
    // file that is cut short in the meantime raises no SIGBUS.
    let start = unsafe { libc::mmap(ptr::null_mut(), length, protection, libc::MAP_SHARED, file.as_raw_fd(), offset) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `start` and `length` are those of the mapping above, and `resident` has at least one byte for each of its pages.
    let answer = check(unsafe { libc::mincore(start, length, resident.as_mut_ptr()) });
    // SAFETY: the mapping was made above, is unmapped once, and nothing refers to it.
    check(unsafe { libc::munmap(start, length) })?;
    answer?;
    Ok(resident.iter().any(|page| page & 1 == 1))
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn signed(number: u64) -> io::Result<libc::off_t> {
    number.try_into().map_err(|_| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::{Read, Write};
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::Path;

    use super::*;

    fn file_with(content: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        file
    }

    /// A path with the given content that this process has not open.
    fn closed_file(content: &[u8]) -> tempfile::TempPath {
        file_with(content).into_temp_path()
    }

    fn open_to_write(path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path)
    }

    fn held(file: &File) -> Option<Lease<'_>> {
        match read_lease(file).unwrap() {
            LeaseState::Held(lease) => Some(lease),
            LeaseState::Unsupported => {
                println!("skipped: no leases on the file system of the temporary directory");
                None
            }
            LeaseState::BusyWriter => panic!("nobody writes"),
        }
    }

    #[test]
    fn a_file_that_is_open_for_writing_gets_no_lease() {
        let path = closed_file(b"x");
        let file = File::open(&path).unwrap();
        let Some(lease) = held(&file) else { return };
        drop(lease);
        let _writer = open_to_write(&path).unwrap();
        assert!(matches!(read_lease(&file).unwrap(), LeaseState::BusyWriter));
    }

    #[test]
    fn a_writer_breaks_only_the_lease_of_its_file_and_the_process_lives_on() {
        let (path, other_path) = (closed_file(b"x"), closed_file(b"y"));
        let (file, other) = (File::open(&path).unwrap(), File::open(&other_path).unwrap());
        let (Some(lease), Some(other_lease)) = (held(&file), held(&other)) else { return };
        assert!(!lease.broken());
        // Without blocking, so that this one thread can be both the holder and the writer.
        let refused = open_to_write(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert!(lease.broken());
        assert!(!other_lease.broken());
        drop(lease);
        open_to_write(&path).unwrap();
    }

    #[test]
    fn readers_are_seen_and_a_held_lease_survives_the_question() {
        let path = closed_file(b"x");
        let file = File::open(&path).unwrap();
        let Some(lease) = held(&file) else { return };
        assert_eq!(is_opened_by_others(&file), Some(false));
        assert!(!lease.broken());
        let reader = File::open(&path).unwrap();
        assert_eq!(is_opened_by_others(&file), Some(true));
        assert!(!lease.broken());
        drop((lease, reader));
        assert_eq!(is_opened_by_others(&file), Some(false));
        open_to_write(&path).expect("no lease is left behind");
    }

    #[test]
    fn pages_that_were_read_are_seen_in_the_cache() {
        let path = closed_file(&vec![7; 20_000]);
        let mut file = File::open(&path).unwrap();
        file.read_to_end(&mut Vec::new()).unwrap();
        assert!(any_page_cached(&file, 0, 20_000).unwrap());
        assert!(any_page_cached(&file, 4096 * 4, 20_000 - 4096 * 4).unwrap());
        assert!(!any_page_cached(&file, 0, 0).unwrap());
    }

    #[test]
    fn writing_back_a_range_of_a_read_only_descriptor_or_beyond_the_end_is_harmless() {
        let file = file_with(&[1; 5000]);
        start_writeback(file.as_file(), 0, 4096).unwrap();
        finish_writeback(file.as_file(), 4096, 1 << 20).unwrap();
        assert_eq!(start_writeback(file.as_file(), u64::MAX, 1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
