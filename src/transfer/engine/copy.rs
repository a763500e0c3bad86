//! The copy engine: the contents of one file, written and, once they are durable, read back from the device.
//!
//! Owns the decision how a file is copied, and that a copy is good; knows nothing of names, owners or placements. It
//! refuses to call a copy good when the source did not have the expected size from beginning to end, when any
//! write-back failed once (a second `fsync` may succeed although the kernel dropped the pages), or
//! when the device gives back other bytes. The sync between the two is the caller's, who does several side by
//! side. Memory stays flat whatever the size, and what others had in the page cache stays there.

use std::fs::File;
use std::time::Instant;

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;

use super::device::{BLOCK, Buffer, GRAIN, drop_cached, within_unit};
use super::ends::{Source, Target};
use super::flow::Pace;
use super::outcome::{CopyError, Watch, go_on};
use super::readback::{ReadBack, checksum, expect_size, is_sparse};
use super::stream::{Follower, stream};
use crate::checksum::Checksum;
use crate::tier::Tier;

/// What must hold before a copy is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// What the device gives back has the checksum of what was read from the source.
    Checksum,
    /// The copy has the size of the source.
    Size,
}

/// How to copy.
#[derive(Debug, Clone, Copy)]
pub struct CopyOptions {
    pub verify: Verify,
    /// At most so many bytes of data a second; holes and the reading back do not count.
    pub bytes_per_second: Option<u64>,
}

/// A finished copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Copied {
    /// The size of the file, holes included.
    pub bytes: u64,
    pub checksum: Checksum,
}

/// The distances of the rolling write-back, in bytes.
#[derive(Clone, Copy)]
struct Rhythm {
    /// What is handed to the device at once. While one window is under way the next is filled.
    window: u64,
    /// How far the reading back stays behind what is written out, so that a disk's own cache has moved on. A file
    /// that is no larger is not worth threads.
    distance: u64,
}

const RHYTHM: Rhythm = Rhythm { window: 8 << 20, distance: 64 << 20 };

/// A copy of which every byte is written, and nothing is durable yet.
pub(crate) struct Written {
    size: u64,
    proof: Proof,
}

/// What shows that a copy is good, once it is durable.
enum Proof {
    /// The blocks are the source's own.
    Clone,
    /// The size alone; the checksum is that of what was read.
    Size(Checksum),
    /// The device gives back what has this checksum. The reading may have begun while the file grew.
    ReadBack { written: Checksum, sparse: bool, begun: Option<Box<ReadBack>> },
}

/// Writes all of `source` into `target`, which was just created empty on that tier and is open for reading and writing.
///
/// Sparse files stay sparse. Within one file system that can, the target becomes a clone. Of a file of more than one block
/// the device has been told to begin with all of it on return.
pub(crate) fn write_contents(
    source: &File,
    (target, tier): (&File, Tier),
    expected_size: u64,
    options: &CopyOptions,
    watch: &mut Watch<'_>,
) -> Result<Written, CopyError> {
    write_in_rhythm(source, (target, tier), expected_size, options, RHYTHM, watch)
}

fn write_in_rhythm(
    source: &File,
    (target, tier): (&File, Tier),
    size: u64,
    options: &CopyOptions,
    rhythm: Rhythm,
    watch: &mut Watch<'_>,
) -> Result<Written, CopyError> {
    expect_size(source, size)?;
    go_on(watch, 0)?;
    if clone(source, target)? {
        return Ok(Written { size, proof: Proof::Clone });
    }
    let sparse = is_sparse(&source.metadata().map_err(CopyError::Read)?);
    if sparse {
        settle_holes(source)?;
    } else {
        reserve(target, size)?;
    }
    let mut from = Source::new(source, size, rhythm.window);
    let mut to = Target::new(target, rhythm.window);
    let mut pace = Pace::new(options.bytes_per_second, Instant::now());
    let mut begun = None;
    let is_large = !sparse && size > rhythm.distance;
    if is_large {
        from = from.past_page_cache();
        // To hard disks the page cache writes, which keeps several requests under way where we have one.
        if tier == Tier::Cache {
            to = to.past_page_cache();
        }
        if options.verify == Verify::Checksum {
            // Any other way of reading would find the pages that are being written.
            let read_back = ReadBack::new(target, size, sparse).map_err(CopyError::ReadBack)?;
            begun = read_back.is_direct().then(|| Box::new(read_back));
        }
    }
    let follower = begun.as_deref_mut().map(|read_back| Follower { read_back, distance: rhythm.distance });
    // Without threads one after the other only takes longer.
    if !is_large || !stream(&mut from, &mut to, size, &mut pace, follower, watch)? {
        one_by_one(&mut from, &mut to, size, sparse, &mut pace, watch)?;
    }
    expect_size(source, size)?;
    if sparse {
        // A hole at the end is made by nothing else.
        rustix::fs::ftruncate(target, size).map_err(write_error)?;
    }
    // Of small files all are synced at the same time.
    if size > BLOCK as u64 {
        to.finish(size)?;
    }
    let written = from.checksum();
    let proof = match options.verify {
        Verify::Size => Proof::Size(written),
        Verify::Checksum => Proof::ReadBack { written, sparse, begun },
    };
    Ok(Written { size, proof })
}

impl Written {
    /// Whether proving it takes no longer than one look at `watch`.
    pub(crate) fn is_small(&self) -> bool {
        self.size <= BLOCK as u64
    }

    /// Whether the copy is good, once `target` was synced, without an error at the first attempt: with
    /// [`Verify::Checksum`] what the device gives back is compared with what was read.
    pub(crate) fn prove(self, target: &File, watch: &mut Watch<'_>) -> Result<Copied, CopyError> {
        let Self { size, proof } = self;
        let mut watch = |_| watch(size);
        let checksum = match proof {
            Proof::Clone => {
                expect_size(target, size)?;
                checksum(target, &mut watch)?
            }
            Proof::Size(checksum) => {
                if size > GRAIN as u64 {
                    drop_cached(target, 0, size);
                }
                checksum
            }
            Proof::ReadBack { written, sparse, begun } => {
                // Some file systems take a direct read and make an ordinary one of it.
                drop_cached(target, 0, size);
                let mut read_back = match begun {
                    Some(read_back) => read_back,
                    None => Box::new(ReadBack::new(target, size, sparse).map_err(CopyError::ReadBack)?),
                };
                if read_back.finish(&mut watch)? != written {
                    return Err(CopyError::Mismatch);
                }
                written
            }
        };
        if target.metadata().map_err(CopyError::Write)?.len() != size {
            return Err(CopyError::Mismatch);
        }
        Ok(Copied { bytes: size, checksum })
    }
}

/// Copies block by block, each read and then written, and of a sparse file only what is no hole.
fn one_by_one(
    source: &mut Source<'_>,
    target: &mut Target<'_>,
    size: u64,
    sparse: bool,
    pace: &mut Pace,
    watch: &mut Watch<'_>,
) -> Result<(), CopyError> {
    let mut buffer = Buffer::for_file(size).map_err(CopyError::Read)?;
    let mut offset = 0;
    while offset < size {
        let (start, end) = if sparse { next_data(source.file, offset, size)? } else { (offset, size) };
        if offset < start {
            buffer.bytes().fill(0);
        }
        while offset < start {
            let length = within_unit(BLOCK, offset, start);
            source.count(&buffer.bytes()[..length]);
            offset += length as u64;
            go_on(watch, offset)?;
        }
        while offset < end {
            let length = within_unit(BLOCK, offset, end);
            source.read(offset, &mut buffer, length)?;
            target.write(offset, &buffer.bytes()[..length])?;
            offset += length as u64;
            go_on(watch, offset)?;
            pace.wait(length as u64, offset, watch)?;
        }
    }
    Ok(())
}

/// Where the next data from `offset` on begin and end. Asked only of files with fewer blocks than their size takes.
fn next_data(source: &File, offset: u64, size: u64) -> Result<(u64, u64), CopyError> {
    let start = match rustix::fs::seek(source, SeekFrom::Data(offset)) {
        Ok(start) => start.max(offset),
        Err(Errno::NXIO) => return Ok((size, size)),
        // No such question on this file system: all of it counts as data.
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => offset,
        Err(error) => return Err(CopyError::Read(error.into())),
    };
    let end = match rustix::fs::seek(source, SeekFrom::Hole(start)) {
        Ok(end) if end > start => end,
        Err(error) if !matches!(error, Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::NXIO) => {
            return Err(CopyError::Read(error.into()));
        }
        _ => size,
    };
    Ok((start.min(size), end.min(size)))
}

/// Makes the target share the blocks of the source, where both are on one file system that can.
fn clone(source: &File, target: &File) -> Result<bool, CopyError> {
    // The kernel knows better than `st_dev`, which differs between the subvolumes of one btrfs.
    if rustix::fs::ioctl_ficlone(target, source).is_ok() {
        return Ok(true);
    }
    // A disk error met here is met again by the copying.
    rustix::fs::ftruncate(target, 0).map_err(write_error)?;
    Ok(false)
}

/// Writes out what is still to be written of a sparse source, because file systems have been known to report data
/// as a hole until then (issue 15526 of `OpenZFS`), and a checksum over a wrong hole would be right.
fn settle_holes(source: &File) -> Result<(), CopyError> {
    match rustix::fs::fsync(source) {
        // A source that cannot be written has nothing to write out.
        Ok(()) | Err(Errno::ROFS | Errno::INVAL) => Ok(()),
        Err(error) => Err(CopyError::Read(error.into())),
    }
}

/// Claims the room for the whole file, so that a full disk shows now and not after an hour.
///
/// And so that the smallest files have blocks of their own: what a file system keeps among the names and descriptions (btrfs
/// up to 2 KiB, ext4 with `inline_data`; Linux 6.18) is not read back from the device but from memory.
fn reserve(target: &File, size: u64) -> Result<(), CopyError> {
    if size == 0 {
        return Ok(());
    }
    loop {
        match rustix::fs::fallocate(target, FallocateFlags::KEEP_SIZE, 0, size) {
            Err(Errno::INTR) => {}
            Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::IO | Errno::ROFS)) => {
                return Err(write_error(error));
            }
            // Not all file systems can; those find out as they go.
            _ => return Ok(()),
        }
    }
}

fn write_error(error: Errno) -> CopyError {
    CopyError::Write(error.into())
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::ops::ControlFlow;
    use std::os::unix::fs::{FileExt, MetadataExt};

    use proptest::prelude::*;
    use rustix::fs::Advice;

    use super::*;
    use crate::transfer::engine::flow::LOOK_AHEAD;
    use crate::transfer::engine::outcome::Stop;
    use crate::transfer::engine::readback::same_contents;
    use crate::transfer::engine::samples::{content, file_of, never_stop, new_file, noise, on_mount, sum_of};
    use crate::transfer::engine::sys;

    /// Small enough for the follower to have work in a test.
    const QUICK: Rhythm = Rhythm { window: UNIT, distance: 2 * UNIT };
    const UNIT: u64 = BLOCK as u64;
    const CHECKED: CopyOptions = CopyOptions { verify: Verify::Checksum, bytes_per_second: None };
    const SIZED: CopyOptions = CopyOptions { verify: Verify::Size, bytes_per_second: None };

    fn copy_contents(
        source: &File,
        target: &File,
        size: u64,
        options: &CopyOptions,
        watch: &mut Watch<'_>,
    ) -> Result<Copied, CopyError> {
        copy_in_rhythm(source, target, size, options, RHYTHM, watch)
    }

    fn copy_in_rhythm(
        source: &File,
        target: &File,
        size: u64,
        options: &CopyOptions,
        rhythm: Rhythm,
        watch: &mut Watch<'_>,
    ) -> Result<Copied, CopyError> {
        copy_to_tier(source, (target, Tier::Cache), size, options, rhythm, watch)
    }

    fn copy_to_tier(
        source: &File,
        (target, tier): (&File, Tier),
        size: u64,
        options: &CopyOptions,
        rhythm: Rhythm,
        watch: &mut Watch<'_>,
    ) -> Result<Copied, CopyError> {
        let written = write_in_rhythm(source, (target, tier), size, options, rhythm, watch)?;
        target.sync_all().map_err(CopyError::Write)?;
        written.prove(target, watch)
    }

    /// Runs `act` once when that many bytes are done, and never stops.
    fn once_at(bytes: u64, mut act: impl FnMut()) -> impl FnMut(u64) -> ControlFlow<Stop> {
        let mut acted = false;
        move |done| {
            if done >= bytes && !acted {
                acted = true;
                act();
            }
            ControlFlow::Continue(())
        }
    }

    fn assert_copies(bytes: &[u8], options: &CopyOptions) {
        let (source, size) = (file_of(bytes), bytes.len() as u64);
        for (tier, rhythm) in [(Tier::Cache, QUICK), (Tier::Array, QUICK), (Tier::Cache, RHYTHM)] {
            let target = new_file();
            let copied = copy_to_tier(&source, (&target, tier), size, options, rhythm, &mut never_stop).unwrap();
            assert_eq!(copied, Copied { bytes: size, checksum: sum_of(bytes) });
            assert!(content(&target) == bytes, "the copy of {size} bytes differs");
            assert_eq!(checksum(&target, &mut never_stop).unwrap(), copied.checksum);
            assert!(same_contents(&source, &target, &mut never_stop).unwrap());
        }
    }

    #[test]
    fn every_size_around_a_boundary_is_copied_whole() {
        for base in [0, 512, 4096, BLOCK, 2 * BLOCK, 5 * BLOCK] {
            for size in [base.saturating_sub(1), base, base + 1] {
                assert_copies(&noise(size, 7), &CHECKED);
            }
        }
        assert_copies(&noise(3 * BLOCK + 5, 7), &SIZED);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6))]
        #[test]
        fn any_size_is_copied_whole(size in 0_usize..4 * BLOCK, seed: u64) {
            assert_copies(&noise(size, seed), &CHECKED);
        }

        #[test]
        fn any_pattern_of_holes_is_copied_whole_and_stays_sparse(
            pieces in prop::collection::vec((any::<bool>(), 1_u64..300), 1..8),
        ) {
            let source = new_file();
            let mut size = 0;
            for (data, pages) in pieces {
                let length = pages * 4096 + u64::from(!data) * 17;
                if data {
                    source.write_all_at(&noise(usize::try_from(length).unwrap(), size), size).unwrap();
                }
                size += length;
            }
            source.set_len(size).unwrap();
            source.sync_all().unwrap();
            let target = new_file();
            let copied = copy_in_rhythm(&source, &target, size, &CHECKED, QUICK, &mut never_stop).unwrap();
            let bytes = content(&source);
            prop_assert!(content(&target) == bytes);
            prop_assert_eq!(copied.checksum, sum_of(&bytes));
            prop_assert_eq!(checksum(&source, &mut never_stop).unwrap(), copied.checksum);
            prop_assert!(target.metadata().unwrap().blocks() <= source.metadata().unwrap().blocks() + 16);
        }
    }

    #[test]
    fn a_long_hole_takes_no_room_and_counts_as_zeros() {
        let (source, target) = (new_file(), new_file());
        source.write_all_at(b"head", 0).unwrap();
        source.set_len(40 * UNIT).unwrap();
        source.write_all_at(b"tail", 48 * UNIT - 4).unwrap();
        let copied = copy_contents(&source, &target, 48 * UNIT, &CHECKED, &mut never_stop).unwrap();
        assert!(target.metadata().unwrap().blocks() < 64, "{}", target.metadata().unwrap().blocks());
        assert_eq!(copied.checksum, sum_of(&content(&source)));
        assert!(same_contents(&source, &target, &mut never_stop).unwrap());
    }

    #[test]
    fn a_stop_is_heard_at_once_and_at_every_block() {
        let source = file_of(&noise(4 * BLOCK, 1));
        for options in [CHECKED, SIZED, CopyOptions { bytes_per_second: Some(1), ..CHECKED }] {
            for calls in 1..4 {
                let mut heard = 0;
                let mut stop = |_| {
                    heard += 1;
                    if heard == calls { ControlFlow::Break(Stop) } else { ControlFlow::Continue(()) }
                };
                let error = copy_in_rhythm(&source, &new_file(), 4 * UNIT, &options, QUICK, &mut stop).unwrap_err();
                assert!(matches!(error, CopyError::Cancelled), "{error}");
                assert_eq!(heard, calls);
            }
        }
    }

    #[test]
    fn a_stop_while_reading_back_is_heard() {
        let source = file_of(&noise(2 * BLOCK, 1));
        // All is written when the second block is reported, and what follows is the reading back.
        let mut stop = |done| if done < 2 * UNIT { ControlFlow::Continue(()) } else { ControlFlow::Break(Stop) };
        let mut reports = 0;
        let mut late_stop = |done| {
            reports += u32::from(done == 2 * UNIT);
            if reports < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(Stop) }
        };
        for watch in [&mut stop as &mut Watch<'_>, &mut late_stop] {
            let error = copy_contents(&source, &new_file(), 2 * UNIT, &CHECKED, watch).unwrap_err();
            assert!(matches!(error, CopyError::Cancelled), "{error}");
        }
    }

    #[test]
    fn progress_never_goes_back_and_ends_at_the_size() {
        let (mut last, size) = (0, 3 * UNIT + 9);
        let source = file_of(&noise(3 * BLOCK + 9, 1));
        let mut watch = |done| {
            assert!(done >= last && done <= last + UNIT, "from {last} to {done}");
            last = done;
            ControlFlow::Continue(())
        };
        copy_in_rhythm(&source, &new_file(), size, &CHECKED, QUICK, &mut watch).unwrap();
        assert_eq!(last, size);
    }

    #[test]
    fn a_source_of_another_size_than_expected_is_a_changed_source() {
        let source = file_of(&noise(BLOCK, 1));
        for expected in [0, UNIT - 1, UNIT + 1] {
            let error = copy_contents(&source, &new_file(), expected, &CHECKED, &mut never_stop).unwrap_err();
            assert!(matches!(error, CopyError::SourceChanged), "{error}");
        }
    }

    #[test]
    fn a_source_that_grows_or_shrinks_in_between_is_a_changed_source() {
        for (at, new_size) in [(0, 4 * UNIT), (0, UNIT), (UNIT, 2 * UNIT + 1), (3 * UNIT, 3 * UNIT + 1), (3 * UNIT, 0)]
        {
            let source = file_of(&noise(3 * BLOCK, 1));
            let mut watch = once_at(at, || source.set_len(new_size).unwrap());
            let error = copy_in_rhythm(&source, &new_file(), 3 * UNIT, &CHECKED, QUICK, &mut watch).unwrap_err();
            assert!(matches!(error, CopyError::SourceChanged), "{at} {new_size}: {error}");
        }
    }

    #[test]
    fn a_sparse_source_that_shrinks_is_a_changed_source() {
        let source = file_of(&noise(BLOCK, 1));
        source.set_len(8 * UNIT).unwrap();
        let mut watch = once_at(UNIT, || source.set_len(2 * UNIT).unwrap());
        let error = copy_contents(&source, &new_file(), 8 * UNIT, &CHECKED, &mut watch).unwrap_err();
        assert!(matches!(error, CopyError::SourceChanged), "{error}");
    }

    #[test]
    fn other_bytes_on_the_device_are_a_mismatch() {
        let bytes = noise(7 * BLOCK + 3, 1);
        // The first and the last byte, in what the follower reads and in what is left for the end.
        for (rhythm, at) in [(QUICK, 0), (RHYTHM, 0), (QUICK, 7 * UNIT + 2), (RHYTHM, 3 * UNIT)] {
            let (source, target) = (file_of(&bytes), new_file());
            let size = bytes.len() as u64;
            let other = [!bytes[usize::try_from(at).unwrap()]];
            let after = if at == 0 { UNIT } else { size };
            let mut watch = once_at(after, || target.write_all_at(&other, at).unwrap());
            let error = copy_in_rhythm(&source, &target, size, &CHECKED, rhythm, &mut watch).unwrap_err();
            assert!(matches!(error, CopyError::Mismatch), "{at}: {error}");
            // That the size alone does not notice shows that the reading back did.
            let mut watch = once_at(after, || target.write_all_at(&other, at).unwrap());
            copy_in_rhythm(&source, &target, size, &SIZED, rhythm, &mut watch).unwrap();
        }
    }

    #[test]
    fn a_target_that_lost_its_end_is_a_mismatch() {
        for (rhythm, options) in [(QUICK, CHECKED), (RHYTHM, CHECKED), (RHYTHM, SIZED)] {
            let (source, target) = (file_of(&noise(6 * BLOCK, 1)), new_file());
            let mut watch = once_at(6 * UNIT, || target.set_len(UNIT).unwrap());
            let error = copy_in_rhythm(&source, &target, 6 * UNIT, &options, rhythm, &mut watch).unwrap_err();
            assert!(matches!(error, CopyError::Mismatch), "{error}");
        }
    }

    #[test]
    fn a_target_that_cannot_be_written_is_a_write_error() {
        let source = file_of(&noise(BLOCK, 1));
        let full = std::fs::OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
        let error = copy_contents(&source, &full, UNIT, &SIZED, &mut never_stop).unwrap_err();
        assert!(matches!(&error, CopyError::Write(_)), "{error}");
        assert!(error.hint().is_some());
        // From the thread that writes, while blocks are still to be read.
        let source = file_of(&noise(9 * BLOCK, 1));
        for options in [SIZED, CHECKED] {
            let error = copy_in_rhythm(&source, &full, 9 * UNIT, &options, QUICK, &mut never_stop).unwrap_err();
            assert!(matches!(&error, CopyError::Write(_)), "{error}");
        }
    }

    #[test]
    fn a_target_that_is_lost_while_it_is_read_back_is_a_mismatch() {
        let (source, target) = (file_of(&noise(12 * BLOCK, 1)), new_file());
        let mut watch = |done| {
            if done > 0 {
                target.set_len(0).unwrap();
            }
            ControlFlow::Continue(())
        };
        let error = copy_in_rhythm(&source, &target, 12 * UNIT, &CHECKED, QUICK, &mut watch).unwrap_err();
        assert!(matches!(error, CopyError::Mismatch), "{error}");
    }

    #[test]
    #[ignore = "needs root and loop devices"]
    fn a_full_disk_is_noticed_before_the_first_byte() {
        on_mount("tmpfs", "size=2m", |path| {
            let source = file_of(&noise(3 * BLOCK, 1));
            let mut progress = 0;
            let mut watch = |done| {
                progress = done;
                ControlFlow::Continue(())
            };
            let target = tempfile::tempfile_in(path).unwrap();
            let error = copy_contents(&source, &target, 3 * UNIT, &CHECKED, &mut watch).unwrap_err();
            assert!(matches!(&error, CopyError::Write(error) if error.kind() == io::ErrorKind::StorageFull), "{error}");
            assert_eq!(progress, 0);
        });
    }

    #[test]
    #[ignore = "needs root and loop devices"]
    fn every_file_system_takes_a_copy_and_some_a_clone() {
        let bytes = noise(9 * BLOCK + 1, 5);
        for (kind, options, clones) in
            [("tmpfs", "size=100m", false), ("ext4", "loop", false), ("xfs", "loop", true), ("btrfs", "loop", true)]
        {
            on_mount(kind, options, |path| {
                let (size, source) = (bytes.len() as u64, file_of(&bytes));
                let there = tempfile::tempfile_in(path).unwrap();
                let copied = copy_in_rhythm(&source, &there, size, &CHECKED, QUICK, &mut never_stop).unwrap();
                assert_eq!(copied.checksum, sum_of(&bytes), "{kind}");
                assert!(content(&there) == bytes, "{kind}");

                // Within it: how much was reported tells whether blocks were shared or copied.
                let twin = tempfile::tempfile_in(path).unwrap();
                let mut first_report = None;
                let mut watch = |done| {
                    if done > 0 {
                        first_report.get_or_insert(done);
                    }
                    ControlFlow::Continue(())
                };
                let cloned = copy_in_rhythm(&there, &twin, size, &CHECKED, QUICK, &mut watch).unwrap();
                assert_eq!(first_report == Some(size), clones, "{kind}");
                assert_eq!(cloned, copied, "{kind}");
                assert!(content(&twin) == bytes, "{kind}");

                // From it, however large: nothing of it was in memory, and nothing is afterwards.
                for size in [size, UNIT / 2] {
                    twin.set_len(size).unwrap();
                    twin.sync_all().unwrap();
                    drop_cached(&twin, 0, size);
                    let is_cached = || sys::any_page_cached(&twin, 0, usize::try_from(size).unwrap()).unwrap();
                    let was_cached = is_cached();
                    copy_in_rhythm(&twin, &new_file(), size, &CHECKED, QUICK, &mut never_stop).unwrap();
                    checksum(&twin, &mut never_stop).unwrap();
                    assert_eq!((was_cached, is_cached()), (kind == "tmpfs", kind == "tmpfs"), "{kind}, {size} bytes");
                }
            });
        }
    }

    #[test]
    fn the_page_cache_of_the_source_is_left_as_it_was() {
        // Long enough for the looking ahead to move on.
        let blocks = LOOK_AHEAD / UNIT + 8;
        let source = file_of(&noise(BLOCK, 1).repeat(usize::try_from(blocks).unwrap()));
        let cached = || -> Vec<bool> {
            (0..blocks).map(|block| sys::any_page_cached(&source, block * UNIT, BLOCK).unwrap()).collect()
        };
        drop_cached(&source, 0, blocks * UNIT);
        if cached().contains(&true) {
            println!("skipped: the file system of the temporary directory is its page cache");
            return;
        }
        rustix::fs::fadvise(&source, 0, None, Advice::Random).unwrap();
        // A machine short of memory drops pages by itself, but hardly each time.
        let is_left_alone = || {
            drop_cached(&source, 0, blocks * UNIT);
            for block in [2, 7, blocks - 2] {
                source.read_exact_at(&mut [0; 1], block * UNIT + 100).unwrap();
            }
            let before = cached();
            copy_in_rhythm(&source, &new_file(), blocks * UNIT, &CHECKED, QUICK, &mut never_stop).unwrap();
            cached() == before && before.iter().filter(|cached| **cached).count() == 3
        };
        assert!((0..10).any(|_| is_left_alone()));
    }
}
