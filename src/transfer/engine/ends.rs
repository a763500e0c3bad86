//! The two ends of a copy: the file that is read and the file that is written, block by block.
//!
//! Owns by which way the bytes come and go: through the page cache, whose manners are in `flow`, or past it, straight
//! between a device and the engine's own memory, which takes a quarter of the CPU and leaves everybody's pages where
//! they are. Past it goes a large file where that was measured to be no slower; once a file system refuses, all that
//! is left goes the usual way. Every byte that is read is in the checksum, in order.

use std::fs::File;
use std::io;

use rustix::fs::{Advice, OFlags};

use super::device::{Buffer, DeviceReader, open_direct, read_until, write_all};
use super::flow::{SourcePages, WriteBack};
use super::outcome::CopyError;
use crate::checksum::{Checksum, Hasher};

/// What the length of a direct write is a multiple of. The rest of a file goes through the page cache.
const ALIGNED: usize = 4096;

// How statfs(2) calls them.
const BTRFS: u64 = 0x9123_683e;
const EXT4: u64 = 0xef53;
const XFS: u64 = 0x5846_5342;

/// Local file systems, on whose devices it is enough to read one block after the other. Over a network the page
/// cache, which reads ahead, does better.
const READ_DIRECTLY: &[u64] = &[BTRFS, EXT4, XFS];

/// Not btrfs, which makes an ordinary write of a direct one for the sake of its checksums, and waits for its end
/// (Linux 6.18, by measurement).
const WRITTEN_DIRECTLY: &[u64] = &[EXT4, XFS];

fn is_on_one_of(file: &File, kinds: &[u64]) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|stat| u64::try_from(stat.f_type).is_ok_and(|kind| kinds.contains(&kind)))
}

/// What is read.
pub(super) struct Source<'a> {
    pub(super) file: &'a File,
    /// The same file, for reading past the page cache.
    device: Option<DeviceReader>,
    /// Also then: some file systems take a direct read and make an ordinary one of it.
    pages: SourcePages,
    hasher: Hasher,
}

impl<'a> Source<'a> {
    /// `window` is what is dropped from the page cache at once.
    pub(super) fn new(file: &'a File, size: u64, window: u64) -> Self {
        _ = rustix::fs::fadvise(file, 0, None, Advice::Sequential);
        // Keeps the access time, and the disk from writing it. Refused unless the file is ours.
        if let Ok(flags) = rustix::fs::fcntl_getfl(file) {
            _ = rustix::fs::fcntl_setfl(file, flags | OFlags::NOATIME);
        }
        Self { file, device: None, pages: SourcePages::new(file, size, window), hasher: Hasher::default() }
    }

    /// Reads past the page cache from now on, where that is good.
    pub(super) fn past_page_cache(mut self) -> Self {
        if is_on_one_of(self.file, READ_DIRECTLY) {
            self.device = DeviceReader::open(self.file).ok();
        }
        self
    }

    /// Reads `length` bytes at `offset`, which follow on those that were read or counted before.
    pub(super) fn read(&mut self, offset: u64, buffer: &mut Buffer, length: usize) -> Result<(), CopyError> {
        if self.read_block(offset, buffer, length).map_err(CopyError::Read)? < length {
            return Err(CopyError::SourceChanged);
        }
        self.hasher.update(&buffer.bytes()[..length]);
        self.pages.passed(self.file, offset + length as u64);
        Ok(())
    }

    fn read_block(&mut self, offset: u64, buffer: &mut Buffer, length: usize) -> io::Result<usize> {
        if let Some(device) = &mut self.device
            && let Some(read) = device.read_direct(offset, buffer, length)?
        {
            return Ok(read);
        }
        read_until(self.file, offset, &mut buffer.bytes()[..length], length)
    }

    /// Takes in bytes that need not be read: those of a hole.
    pub(super) fn count(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    pub(super) fn checksum(&self) -> Checksum {
        self.hasher.finish()
    }
}

/// What is written.
pub(super) struct Target<'a> {
    file: &'a File,
    /// The same file, for writing past the page cache.
    direct: Option<File>,
    write_back: WriteBack,
}

impl<'a> Target<'a> {
    /// `window` is what the device is told to write out at once.
    pub(super) fn new(file: &'a File, window: u64) -> Self {
        Self { file, direct: None, write_back: WriteBack::new(window) }
    }

    /// Writes past the page cache from now on, where that is good.
    pub(super) fn past_page_cache(mut self) -> Self {
        if is_on_one_of(self.file, WRITTEN_DIRECTLY) {
            self.direct = open_direct(self.file, OFlags::WRONLY).ok();
        }
        self
    }

    /// Writes all of `bytes` at `offset`, a multiple of the block. Answers up to where the file is on its device, when
    /// that moved on.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<Option<u64>, CopyError> {
        self.write_block(offset, bytes).map_err(CopyError::Write)?;
        self.write_back.written(self.file, offset + bytes.len() as u64).map_err(CopyError::Write)
    }

    fn write_block(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let Some(direct) = &self.direct else { return write_all(self.file, offset, bytes) };
        let (aligned, rest) = bytes.split_at(bytes.len() - bytes.len() % ALIGNED);
        match write_all(direct, offset, aligned) {
            // It wants a coarser alignment than any that is known. What it took of the block is written once more.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                self.direct = None;
                write_all(self.file, offset, bytes)
            }
            Ok(()) => write_all(self.file, offset + aligned.len() as u64, rest),
            error => error,
        }
    }

    /// All up to `end` is written: has the device begin with what it does not have yet.
    pub(super) fn finish(&self, end: u64) -> Result<(), CopyError> {
        self.write_back.all_is_written(self.file, end).map_err(CopyError::Write)
    }
}
