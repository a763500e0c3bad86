//! Reading contents back from the device: checksums and comparisons.
//!
//! Owns the reading that decides whether a copy is good, and whether two files are the same. Never
//! believes the page cache where the file system lets it be passed by. A file that does not have the same size
//! from beginning to end is an error, never a checksum.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;

use super::device::{BLOCK, Buffer, DeviceReader, within_unit};
use super::outcome::{CopyError, Watch, go_on};
use crate::checksum::{Checksum, Hasher};

/// The checksum of what the file holds on its device, past the page cache where that is possible.
pub(crate) fn checksum(file: &File, watch: &mut Watch<'_>) -> Result<Checksum, CopyError> {
    let metadata = file.metadata().map_err(CopyError::Read)?;
    let mut reader = ReadBack::new(file, metadata.len(), is_sparse(&metadata)).map_err(CopyError::Read)?;
    let sum = reader.finish(watch).map_err(|stopped| match stopped {
        CopyError::ReadBack(error) => CopyError::Read(error),
        CopyError::Mismatch => CopyError::SourceChanged,
        other => other,
    })?;
    expect_size(file, metadata.len())?;
    Ok(sum)
}

/// Whether two files hold the same bytes; stops at the first difference, looks at the ends first.
///
/// Two names of one file are the same, too: whoever means to delete one of them compares the inodes before.
pub(crate) fn same_contents(a: &File, b: &File, watch: &mut Watch<'_>) -> Result<bool, CopyError> {
    let size = a.metadata().map_err(CopyError::Read)?.len();
    if size != b.metadata().map_err(CopyError::Read)?.len() {
        return Ok(false);
    }
    let open = |file| Ok((DeviceReader::open(file)?, Buffer::for_file(size)?));
    let mut sides = [open(a).map_err(CopyError::Read)?, open(b).map_err(CopyError::Read)?];
    let blocks = size.div_ceil(BLOCK as u64);
    // The last block first: downloads and edits of tags differ there more often than in the middle.
    for block in blocks.checked_sub(1).into_iter().chain(0..blocks.saturating_sub(1)) {
        let offset = block * BLOCK as u64;
        go_on(watch, offset)?;
        let wanted = within_unit(BLOCK, offset, size);
        for (reader, buffer) in &mut sides {
            if reader.read_block(offset, buffer, wanted).map_err(CopyError::Read)? < wanted {
                return Err(CopyError::SourceChanged);
            }
        }
        let [(_, a), (_, b)] = &mut sides;
        if a.bytes()[..wanted] != b.bytes()[..wanted] {
            return Ok(false);
        }
    }
    expect_size(a, size)?;
    expect_size(b, size)?;
    Ok(true)
}

/// Reads a file from its device, block by block, and makes its checksum.
pub(super) struct ReadBack {
    device: DeviceReader,
    size: u64,
    sparse: bool,
    /// Where the next block starts: all before it is in the hash.
    pub(super) next: u64,
    hasher: Hasher,
    buffer: Buffer,
}

impl ReadBack {
    pub(super) fn new(file: &File, size: u64, sparse: bool) -> io::Result<Self> {
        let device = DeviceReader::open(file)?;
        let buffer = Buffer::for_file(size)?;
        Ok(Self { device, size, sparse, next: 0, hasher: Hasher::default(), buffer })
    }

    /// Whether reads bypass the page cache.
    pub(super) fn is_direct(&self) -> bool {
        self.device.is_direct()
    }

    /// Takes in one block. A file that ends too early is a [`CopyError::Mismatch`].
    pub(super) fn step(&mut self) -> Result<(), CopyError> {
        let wanted = within_unit(BLOCK, self.next, self.size);
        if self.sparse && !self.device.has_data(self.next) {
            self.buffer.bytes()[..wanted].fill(0);
        } else if self.device.read_block(self.next, &mut self.buffer, wanted).map_err(CopyError::ReadBack)? < wanted {
            return Err(CopyError::Mismatch);
        }
        self.hasher.update(&self.buffer.bytes()[..wanted]);
        self.next += wanted as u64;
        Ok(())
    }

    /// Takes in what is left.
    pub(super) fn finish(&mut self, watch: &mut Watch<'_>) -> Result<Checksum, CopyError> {
        while self.next < self.size {
            go_on(watch, self.next)?;
            self.step()?;
        }
        Ok(self.hasher.finish())
    }
}

/// Whether the file has fewer blocks than its size takes: it has holes, or is compressed.
pub(super) fn is_sparse(metadata: &Metadata) -> bool {
    metadata.blocks().saturating_mul(512) < metadata.len()
}

pub(super) fn expect_size(file: &File, size: u64) -> Result<(), CopyError> {
    let now = file.metadata().map_err(CopyError::Read)?.len();
    if now == size { Ok(()) } else { Err(CopyError::SourceChanged) }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::transfer::engine::outcome::Stop;
    use crate::transfer::engine::samples::{file_of, never_stop, new_file, noise, sum_of};

    #[test]
    fn a_checksum_is_that_of_the_bytes() {
        for bytes in [vec![], vec![0; 4096], vec![0; 2 * BLOCK + 1], noise(BLOCK + 1, 3)] {
            assert_eq!(checksum(&file_of(&bytes), &mut never_stop).unwrap(), sum_of(&bytes));
        }
    }

    #[test]
    fn holes_count_as_zeros() {
        let file = new_file();
        file.set_len(3 * BLOCK as u64 + 5).unwrap();
        assert_eq!(checksum(&file, &mut never_stop).unwrap(), sum_of(&vec![0; 3 * BLOCK + 5]));
    }

    #[test]
    fn a_file_that_changes_its_size_has_no_checksum() {
        for size in [0, 5 * BLOCK as u64] {
            let file = file_of(&noise(3 * BLOCK, 1));
            let mut change = |_| {
                file.set_len(size).unwrap();
                ControlFlow::Continue(())
            };
            let error = checksum(&file, &mut change).unwrap_err();
            assert!(matches!(error, CopyError::SourceChanged), "{error}");
        }
    }

    #[test]
    fn a_stop_is_heard() {
        let (a, b) = (file_of(&noise(BLOCK, 1)), file_of(&noise(BLOCK, 1)));
        let mut stop = |_| ControlFlow::Break(Stop);
        assert!(matches!(checksum(&a, &mut stop), Err(CopyError::Cancelled)));
        assert!(matches!(same_contents(&a, &b, &mut stop), Err(CopyError::Cancelled)));
    }

    #[test]
    fn contents_are_the_same_only_when_every_byte_is() {
        let bytes = noise(3 * BLOCK + 7, 1);
        let file = file_of(&bytes);
        assert!(same_contents(&file, &file, &mut never_stop).unwrap());
        assert!(!same_contents(&file, &file_of(&bytes[1..]), &mut never_stop).unwrap());
        for at in [0, BLOCK - 1, BLOCK, 2 * BLOCK, 3 * BLOCK + 6] {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(!same_contents(&file, &file_of(&other), &mut never_stop).unwrap(), "{at}");
        }
        assert!(same_contents(&new_file(), &new_file(), &mut never_stop).unwrap());
    }

    #[test]
    fn the_ends_are_compared_before_the_middle() {
        let bytes = noise(3 * BLOCK, 1);
        for (at, looks) in [(3 * BLOCK - 1, 1), (0, 2), (BLOCK, 3)] {
            let mut other = bytes.clone();
            other[at] ^= 1;
            let mut seen = 0;
            let mut watch = |_| {
                seen += 1;
                ControlFlow::Continue(())
            };
            same_contents(&file_of(&bytes), &file_of(&other), &mut watch).unwrap();
            assert_eq!(seen, looks, "{at}");
        }
    }
}
