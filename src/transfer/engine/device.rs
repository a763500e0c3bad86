//! Reading what a file holds on its device, past the page cache.
//!
//! Owns the second descriptor, with `O_DIRECT`, through which a copy is read back: bytes that come out of
//! the page cache prove only that memory works. Where a file system refuses direct reads, clean pages
//! are dropped first and the read goes the usual way. Data that were never written back are the
//! caller's business: `fsync` before reading. Nothing is ever written here.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::AsRawFd;

use rustix::fs::{Advice, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

/// The unit of copying, in bytes.
pub(super) const BLOCK: usize = 1 << 20;

/// The unit of direct reading, in bytes, and the alignment of its offsets. Nothing reads ahead there, so
/// that larger requests are what keeps a device busy; up to twice as fast as one [`BLOCK`] each on an SSD.
pub(super) const CHUNK: usize = 4 << 20;

/// The largest alignment of memory that a block device asks of direct reads in practice.
const ALIGNMENT: usize = 4096;

/// What the length of a direct read is a multiple of: more than any device asks for. Where a file ends before a longer
/// one would, the kernel fills the rest with zeros, which takes longer than reading a small file.
const GRAIN: usize = 64 << 10;

/// Memory that is aligned for direct reads.
pub(super) struct Buffer {
    memory: Box<[u8]>,
    start: usize,
    length: usize,
}

impl Buffer {
    pub(super) fn new(length: usize) -> Self {
        let memory = vec![0; length + ALIGNMENT].into_boxed_slice();
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        Self { memory, start, length }
    }

    /// As large as the chunks of a file of so many bytes need it for [`DeviceReader::read_chunk`].
    pub(super) fn for_reading(size: u64) -> Self {
        Self::new(within_unit(CHUNK, 0, size).next_multiple_of(GRAIN))
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}

/// A file opened a second time to be read from its device.
pub(super) struct DeviceReader {
    file: File,
    direct: bool,
}

impl DeviceReader {
    /// Opens the file behind `file` again, so that its offset and flags stay its own.
    pub(super) fn open(file: &File) -> io::Result<Self> {
        let reopen = |flags: OFlags| {
            // Without NONBLOCK the open would wait for whoever holds a lease, Samba for one.
            let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
            rustix::fs::open(format!("/proc/self/fd/{}", file.as_raw_fd()), flags, Mode::empty()).map(File::from)
        };
        // Only the owner may leave the access time alone, so that wish is the first to go.
        for flags in [OFlags::DIRECT | OFlags::NOATIME, OFlags::DIRECT] {
            if let Ok(file) = reopen(flags) {
                return Ok(Self { file, direct: true });
            }
        }
        // The duplicate shares offset and flags with `file`: neither is touched below.
        Ok(Self { file: file.try_clone()?, direct: false })
    }

    /// Whether reads bypass the page cache.
    pub(super) fn is_direct(&self) -> bool {
        self.direct
    }

    /// Reads at least `wanted` bytes into `buffer`, a [`Buffer::for_reading`], from `offset`, a multiple of [`CHUNK`].
    /// Less only where the file ends.
    pub(super) fn read_chunk(&mut self, offset: u64, buffer: &mut [u8], wanted: usize) -> io::Result<usize> {
        let buffer = &mut buffer[..wanted.next_multiple_of(GRAIN)];
        if self.direct {
            match read_until(&self.file, offset, buffer, wanted) {
                // Some file systems allow the open and refuse the read, or want a coarser alignment.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                    let flags = rustix::fs::fcntl_getfl(&self.file)?;
                    rustix::fs::fcntl_setfl(&self.file, flags - OFlags::DIRECT)?;
                    self.direct = false;
                }
                other => return other,
            }
        }
        drop_cached(&self.file, offset, CHUNK as u64);
        let length = read_until(&self.file, offset, buffer, wanted)?;
        drop_cached(&self.file, offset, CHUNK as u64);
        Ok(length)
    }

    /// Whether the chunk at `offset` may hold anything but zeros.
    pub(super) fn has_data(&self, offset: u64) -> bool {
        match rustix::fs::seek(&self.file, SeekFrom::Data(offset)) {
            Ok(data) => data < offset + CHUNK as u64,
            // Nothing but a hole up to the end. Whatever else goes wrong, reading will tell.
            Err(error) => error != Errno::NXIO,
        }
    }
}

/// Reads into `buffer` until at least `wanted` bytes are there or the file ends.
///
/// A direct read must ask for whole blocks, also at the end of the file, and must not be resumed at an
/// odd offset behind it: therefore the room and what is wanted are two things.
pub(super) fn read_until(file: &File, offset: u64, buffer: &mut [u8], wanted: usize) -> io::Result<usize> {
    let mut filled = 0;
    while filled < wanted {
        match rustix::io::pread(file, &mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(filled.min(wanted))
}

/// Takes the clean pages of a range out of the page cache. Only advice: a refusal costs memory and nothing else.
pub(super) fn drop_cached(file: &File, offset: u64, length: u64) {
    if let Some(length) = NonZeroU64::new(length) {
        _ = rustix::fs::fadvise(file, offset, Some(length), Advice::DontNeed);
    }
}

/// How many bytes there are from `offset` to the next multiple of `unit`, or to `end` where that is nearer.
pub(super) fn within_unit(unit: usize, offset: u64, end: u64) -> usize {
    let unit = unit as u64;
    let length = (unit - offset % unit).min(end.saturating_sub(offset));
    usize::try_from(length).expect("a unit fits into memory")
}
