//! What flows through a copy, and what it leaves behind: write-back, page cache, pace.
//!
//! Owns the manners of the engine towards everybody else on the machine. The target's device is kept busy by
//! small portions, so that the last `fsync` is short; pages that the copy brought into the page cache are
//! taken out again, but for those of the smallest files, and those that were there before, which somebody
//! plays, stay; the rate is what was asked for. It refuses nothing: only errors of writing are passed on.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::device::{GRAIN, drop_cached};
use super::outcome::{CopyError, Watch, go_on};
use super::sys;

/// How many bytes ahead of the reading the page cache is asked what was in it before. More than the
/// read-ahead of the kernel reaches, or the engine would take its own pages for somebody else's.
pub(super) const LOOK_AHEAD: u64 = 32 << 20;

/// Drops the source's pages behind the reading, but for the smallest files and for windows of which something was cached
/// before: those are likely being played. Told apart by asking (mincore) well ahead of the reading.
pub(super) struct SourcePages {
    window: u64,
    size: u64,
    /// Which window is being read.
    current: u64,
    /// Whether to keep that window and the ones after it, as far as [`LOOK_AHEAD`].
    keep: VecDeque<bool>,
}

impl SourcePages {
    pub(super) fn new(source: &File, size: u64, window: u64) -> Self {
        let mut pages = Self { window, size, current: 0, keep: VecDeque::new() };
        let is_kept = |index| size <= GRAIN as u64 || pages.was_cached(source, index);
        pages.keep = (0..LOOK_AHEAD / window).map(is_kept).collect();
        pages
    }

    /// All up to `offset` was read.
    pub(super) fn passed(&mut self, source: &File, offset: u64) {
        loop {
            let start = self.current * self.window;
            let end = (start + self.window).min(self.size);
            if offset < end || end <= start {
                return;
            }
            let ahead = self.was_cached(source, self.current + LOOK_AHEAD / self.window);
            self.keep.push_back(ahead);
            if self.keep.pop_front() == Some(false) {
                drop_cached(source, start, end - start);
            }
            self.current += 1;
        }
    }

    /// Whether a page of that window is in the page cache. What cannot be asked is dropped, which is harmless.
    fn was_cached(&self, source: &File, index: u64) -> bool {
        let start = index * self.window;
        let length = usize::try_from(self.size.saturating_sub(start).min(self.window)).unwrap_or_default();
        sys::any_page_cached(source, start, length).unwrap_or(false)
    }
}

/// Keeps the target's device busy one window behind the writing, so that the last `fsync` is short.
pub(super) struct WriteBack {
    window: u64,
    /// Where the window that is being filled starts.
    filling: u64,
    /// The window that is under way to the device.
    under_way: Option<(u64, u64)>,
    supported: bool,
}

impl WriteBack {
    pub(super) fn new(window: u64) -> Self {
        Self { window, filling: 0, under_way: None, supported: true }
    }

    /// All up to `offset` was written. Answers up to where it is on the device, when that moved on.
    pub(super) fn written(&mut self, target: &File, offset: u64) -> io::Result<Option<u64>> {
        if !self.supported || offset - self.filling < self.window {
            return Ok(None);
        }
        match self.roll(target, offset) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                self.supported = false;
                Ok(None)
            }
            other => other,
        }
    }

    /// Nothing more will be written: has the device begin with the rest up to `end`.
    pub(super) fn all_is_written(&self, target: &File, end: u64) -> io::Result<()> {
        if !self.supported || end <= self.filling {
            return Ok(());
        }
        match sys::start_writeback(target, self.filling, end - self.filling) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            result => result,
        }
    }

    fn roll(&mut self, target: &File, offset: u64) -> io::Result<Option<u64>> {
        sys::start_writeback(target, self.filling, offset - self.filling)?;
        let before = self.under_way.replace((self.filling, offset));
        self.filling = offset;
        let Some((start, end)) = before else { return Ok(None) };
        sys::finish_writeback(target, start, end - start)?;
        drop_cached(target, start, end - start);
        Ok(Some(end))
    }
}

/// The longest pause between two looks at `watch`.
const SLICE: Duration = Duration::from_millis(100);

/// Spreads the bytes over time.
pub(super) struct Pace {
    per_second: Option<u64>,
    /// When the bytes so far should have been done.
    due: Instant,
}

impl Pace {
    pub(super) fn new(per_second: Option<u64>, now: Instant) -> Self {
        Self { per_second, due: now }
    }

    /// Waits after `bytes` more, while `watch` hears that `done` are.
    pub(super) fn wait(&mut self, bytes: u64, done: u64, watch: &mut Watch<'_>) -> Result<(), CopyError> {
        let mut pause = self.pause(bytes, Instant::now());
        while !pause.is_zero() {
            let slice = pause.min(SLICE);
            thread::sleep(slice);
            pause -= slice;
            go_on(watch, done)?;
        }
        Ok(())
    }

    /// How long to wait after `bytes` more. Time that a slow disk lost is made good for one second at most.
    fn pause(&mut self, bytes: u64, now: Instant) -> Duration {
        let Some(rate) = self.per_second else { return Duration::ZERO };
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
        let start = now.checked_sub(Duration::from_secs(1)).map_or(self.due, |earliest| self.due.max(earliest));
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.due = start.checked_add(cost).unwrap_or(start);
        self.due.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_pace_is_the_rate_and_makes_good_one_second_at_most() {
        let start = Instant::now();
        let seconds = Duration::from_secs;
        let mut pace = Pace::new(Some(MIB), start);
        assert_eq!(pace.pause(MIB, start), seconds(1));
        assert_eq!(pace.pause(MIB, start + seconds(1)), seconds(1));
        // Half of the time went into the disk.
        assert_eq!(pace.pause(MIB, start + Duration::from_millis(2500)), Duration::from_millis(500));
        // The disk slept a minute: one second of it may be caught up.
        assert_eq!(pace.pause(MIB, start + seconds(63)), Duration::ZERO);
        assert_eq!(pace.pause(MIB, start + seconds(63)), seconds(1));
        assert_eq!(Pace::new(None, start).pause(u64::MAX, start), Duration::ZERO);
        assert!(Pace::new(Some(0), start).pause(1, start) >= seconds(1));
    }
}
