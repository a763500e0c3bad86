//! Blocks of a file: the memory that they are in, and how they get to a device and from it past the page cache.
//!
//! Owns the second descriptors, with `O_DIRECT`, through which that goes. A copy is read back so, because bytes that
//! come out of the page cache prove only that memory works; where a file system refuses it, clean pages are dropped
//! first and the read goes the usual way. Data that were never written back are the caller's business: `fsync` before
//! reading. The offsets of descriptors are neither relied on nor kept.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use memmap2::{Advice as MemoryAdvice, MmapMut};
use rustix::fs::{Advice, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

/// The unit of copying and of reading back, in bytes, and the alignment of its offsets: one huge page, where ordinary
/// ones have 4 KiB.
///
/// A device is handed memory in pieces that lie together. 2 MiB of ordinary pages are 512 pieces, more than most
/// take in one request; a huge page is one. A virtual disk read four times as fast for it.
pub(super) const BLOCK: usize = 2 << 20;

/// What the length of a direct read is a multiple of: more than any device asks for. Where a file ends before a longer
/// one would, the kernel fills the rest with zeros, which takes longer than reading a small file.
///
/// The pages of a file that is no larger are left to the kernel where no proof needs them gone: to take fresh ones out
/// of the page cache every processor has to put down what it is doing.
pub(super) const GRAIN: usize = 64 << 10;

/// Memory of one grain that waits for the next small file: making and touching it takes longer than reading the file,
/// and threads that do so wait for each other.
static SPARE: Mutex<Vec<MmapMut>> = Mutex::new(Vec::new());

/// So much of it is kept, 2 MiB.
const MOST_SPARE: usize = 32;

/// Memory that is aligned for direct reads and writes, zeros at first: what is read back must not be what was there.
pub(super) struct Buffer {
    /// Gone only when the buffer is.
    memory: Option<MmapMut>,
    start: usize,
    length: usize,
}

impl Buffer {
    /// Large enough for any block of a file of `size` bytes.
    ///
    /// # Errors
    /// When the kernel has no memory to give.
    pub(super) fn for_file(size: u64) -> io::Result<Self> {
        let length = within_unit(BLOCK, 0, size).next_multiple_of(GRAIN);
        let spare = if length == GRAIN { spare().pop() } else { None };
        let is_huge = length == BLOCK;
        // Of the huge one only the aligned part is ever touched, so that no more of it takes memory.
        let memory = spare.map_or_else(|| MmapMut::map_anon(if is_huge { 2 * BLOCK } else { length }), Ok)?;
        let start = if is_huge { memory.as_ptr().align_offset(BLOCK) } else { 0 };
        if is_huge {
            // Where there are no huge pages, ordinary ones only take longer.
            drop(memory.advise_range(MemoryAdvice::HugePage, start, length));
        }
        let mut buffer = Self { memory: Some(memory), start, length };
        // btrfs reads into memory that nobody has touched by way of the page cache, and leaves it there (Linux 6.18).
        buffer.bytes().fill(0);
        Ok(buffer)
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        let memory = self.memory.as_mut().expect("a buffer that is there has its memory");
        &mut memory[self.start..self.start + self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.length == GRAIN {
            let mut spare = spare();
            if spare.len() < MOST_SPARE {
                spare.extend(self.memory.take());
            }
        }
    }
}

fn spare() -> MutexGuard<'static, Vec<MmapMut>> {
    // Nothing that could panic leaves it half done.
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file opened a second time to be read from its device.
pub(super) struct DeviceReader {
    file: File,
    direct: bool,
}

impl DeviceReader {
    /// Opens the file behind `file` again, so that its offset and flags stay its own.
    pub(super) fn open(file: &File) -> io::Result<Self> {
        // Only the owner may leave the access time alone, so that wish is the first to go.
        for flags in [OFlags::NOATIME, OFlags::empty()] {
            if let Ok(file) = open_direct(file, OFlags::RDONLY | flags) {
                return Ok(Self { file, direct: true });
            }
        }
        // The duplicate shares its flags with `file`: they are not touched below.
        Ok(Self { file: file.try_clone()?, direct: false })
    }

    /// Whether reads bypass the page cache.
    pub(super) fn is_direct(&self) -> bool {
        self.direct
    }

    /// Reads `wanted` bytes into `buffer` from `offset`, a multiple of [`BLOCK`], by a way on which they do not come out
    /// of the page cache. Less only where the file ends.
    pub(super) fn read_block(&mut self, offset: u64, buffer: &mut Buffer, wanted: usize) -> io::Result<usize> {
        if let Some(length) = self.read_direct(offset, buffer, wanted)? {
            return Ok(length);
        }
        drop_cached(&self.file, offset, BLOCK as u64);
        let length = read_until(&self.file, offset, &mut buffer.bytes()[..wanted], wanted)?;
        drop_cached(&self.file, offset, BLOCK as u64);
        Ok(length)
    }

    /// The same by direct reads alone; `None` where those are refused, from then on.
    pub(super) fn read_direct(&mut self, offset: u64, buffer: &mut Buffer, wanted: usize) -> io::Result<Option<usize>> {
        if !self.direct {
            return Ok(None);
        }
        match read_until(&self.file, offset, &mut buffer.bytes()[..wanted.next_multiple_of(GRAIN)], wanted) {
            // Some file systems allow the open and refuse the read, or want a coarser alignment.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                let flags = rustix::fs::fcntl_getfl(&self.file)?;
                rustix::fs::fcntl_setfl(&self.file, flags - OFlags::DIRECT)?;
                self.direct = false;
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// Whether the block at `offset` may hold anything but zeros.
    pub(super) fn has_data(&self, offset: u64) -> bool {
        match rustix::fs::seek(&self.file, SeekFrom::Data(offset)) {
            Ok(data) => data < offset + BLOCK as u64,
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

/// Writes all of `bytes` at `offset`.
pub(super) fn write_all(file: &File, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => {
                offset += length as u64;
                bytes = &bytes[length..];
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Opens the file behind `file` once more, for what goes past the page cache.
///
/// # Errors
/// Where the file system cannot, or we may not.
pub(super) fn open_direct(file: &File, flags: OFlags) -> io::Result<File> {
    // Without NONBLOCK the open would wait for whoever holds a lease, Samba for one.
    let flags = flags | OFlags::DIRECT | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Ok(rustix::fs::open(format!("/proc/self/fd/{}", file.as_raw_fd()), flags, Mode::empty())?.into())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_zeros_whoever_had_its_memory_before() {
        for size in [0, 1, GRAIN as u64, GRAIN as u64 + 1, BLOCK as u64, 9 * BLOCK as u64] {
            for _ in 0..3 {
                let mut buffers = [(); MOST_SPARE + 1].map(|()| Buffer::for_file(size).unwrap());
                for buffer in &mut buffers {
                    assert!(buffer.bytes().len() as u64 >= size.min(BLOCK as u64));
                    assert!(buffer.bytes().iter().all(|byte| *byte == 0));
                    buffer.bytes().fill(1);
                }
            }
            assert!(spare().len() <= MOST_SPARE);
        }
    }
}
