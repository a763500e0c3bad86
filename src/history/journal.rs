//! The file `history.jsonl`: appended to, never rewritten.
//!
//! Owns the promise that a record is on disk when [`Journal::append`] returns: one `write(2)` for all
//! the lines of a call, then `fdatasync`. A write or sync that fails ends the journal for this
//! process; whoever wants to change a file has to stop. A last line that a crash tore was never
//! promised to anybody: it is put aside in `history.torn`. Damage anywhere else refuses every change.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;

use camino::Utf8PathBuf;
use rustix::fs::{self, CWD, FallocateFlags, OFlags};
use xxhash_rust::xxh3::xxh3_64;

use super::record::Record;
use crate::state::{PRIVATE, StateDir, open_file, sync_dir};

/// A line longer than this was not written by us. Bytes.
const MAX_LINE: u64 = 1 << 20;

/// Room kept for the outcomes of what was begun, so that a disk that fills up can still be told. Bytes.
const SLACK: u64 = 1 << 20;

/// Why the history cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("{path}: the record at byte {offset} is damaged: {why}")]
    Damaged { path: Utf8PathBuf, offset: u64, why: String },
    #[error("cannot {op} {path}: {source}")]
    Io { op: &'static str, path: Utf8PathBuf, source: io::Error },
    #[error("{0} could not be written earlier in this run")]
    Closed(Utf8PathBuf),
    #[error("{0} has a run of the highest number there is; no run can follow it")]
    NoNumber(Utf8PathBuf),
}

/// A place in the file up to which it has been read: the offset after a line, and the hash of that
/// line, by which a file that was exchanged is found out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mark {
    pub offset: u64,
    pub line_start: u64,
    pub hash: u64,
}

/// The history, open for appending. Only the holder of the state's lock has one.
#[derive(Debug)]
pub(super) struct Journal {
    path: Utf8PathBuf,
    file: File,
    end: u64,
    broken: bool,
}

impl Journal {
    /// Opens the history for appending; makes it where there is none. Puts a torn last line aside and
    /// returns how many bytes that were.
    pub(super) fn open(state: &StateDir) -> Result<(Self, u64), HistoryError> {
        let path = state.file("history.jsonl");
        let io = |op| move |source: io::Error, path: &Utf8PathBuf| HistoryError::Io { op, path: path.clone(), source };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = fs::openat(CWD, path.as_std_path(), flags, PRIVATE).map_err(|e| io("open")(e.into(), &path))?;
        let mut file = File::from(file);
        if !file.metadata().map_err(|e| io("look at")(e, &path))?.is_file() {
            return Err(io("open")(io::Error::other("it is not a regular file"), &path));
        }
        sync_dir(state.path()).map_err(|e| io("sync the folder of")(e, &path))?;
        let torn = set_torn_tail_aside(state, &mut file).map_err(|e| io("mend the end of")(e, &path))?;
        // A killed run may have written its last records and not synced them. Whoever reads them acts on them.
        file.sync_data().map_err(|e| io("sync")(e, &path))?;
        let end = file.metadata().map_err(|e| io("look at")(e, &path))?.len();
        let mut journal = Self { path, file, end, broken: false };
        journal.keep_slack().map_err(|source| HistoryError::Io {
            op: "reserve room for",
            path: journal.path.clone(),
            source,
        })?;
        Ok((journal, torn))
    }

    /// Writes the records and returns when they are on disk.
    ///
    /// # Errors
    /// Nothing may be changed any more in this run: not one of the records is promised.
    pub(super) fn append(&mut self, records: &[Record]) -> Result<Mark, HistoryError> {
        if self.broken {
            return Err(HistoryError::Closed(self.path.clone()));
        }
        let mut text = Vec::new();
        let mut last = 0;
        for record in records {
            last = text.len();
            serde_json::to_writer(&mut text, record).expect("a record is made of texts and numbers only");
            text.push(b'\n');
            if (text.len() - last) as u64 > MAX_LINE {
                // Nobody could read it again.
                let source = io::Error::other(format!("a record of more than {MAX_LINE} bytes"));
                return Err(HistoryError::Io { op: "write", path: self.path.clone(), source });
            }
        }
        let mark = Mark {
            offset: self.end + text.len() as u64,
            line_start: self.end + last as u64,
            hash: xxh3_64(&text[last..]),
        };
        let written = self.file.write_all(&text).and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            self.broken = true;
            // Half a record must not stand before the next run's. Should this fail too, the tail is
            // torn and the next run puts it aside.
            if let Err(error) = self.file.set_len(self.end).and_then(|()| self.file.sync_data()) {
                tracing::warn!("cannot take back half a record in {}: {error}", self.path);
            }
            return Err(HistoryError::Io { op: "write", path: self.path.clone(), source });
        }
        self.end = mark.offset;
        Ok(mark)
    }

    /// Reserves blocks behind the end, so that outcomes can be written when the disk is full.
    fn keep_slack(&mut self) -> io::Result<()> {
        match fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, self.end, SLACK) {
            // Not every file system can; then a full disk stops the run before the next intent.
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Moves what follows the last newline to `history.torn`. Returns how many bytes that were.
fn set_torn_tail_aside(state: &StateDir, file: &mut File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut start = length;
    let mut block = [0; 4096];
    'search: while start > 0 {
        let from = start.saturating_sub(block.len() as u64);
        let part = &mut block[..usize::try_from(start - from).expect("at most a block")];
        file.read_exact_at(part, from)?;
        for (index, byte) in part.iter().enumerate().rev() {
            if *byte == b'\n' {
                start = from + index as u64 + 1;
                break 'search;
            }
        }
        start = from;
    }
    let torn = length - start;
    if torn > 0 {
        let mut tail = vec![0; usize::try_from(torn.min(MAX_LINE)).expect("a line fits into memory")];
        file.read_exact_at(&mut tail, start)?;
        tail.push(b'\n');
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut aside = File::from(fs::openat(CWD, state.file("history.torn").as_std_path(), flags, PRIVATE)?);
        aside.write_all(&tail)?;
        aside.sync_all()?;
        file.set_len(start)?;
        file.sync_data()?;
    }
    Ok(torn)
}

/// Reads the records behind `from` and hands each to `each`. Returns where it ended; a torn last line
/// is passed over. `None` when the file is not the one that `from` was taken of.
pub(super) fn read(state: &StateDir, from: Mark, mut each: impl FnMut(Record)) -> Result<Option<Mark>, HistoryError> {
    let path = state.file("history.jsonl");
    let io = |source| HistoryError::Io { op: "read", path: path.clone(), source };
    let mut file = match open_file(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok((from == Mark::default()).then_some(from));
        }
        Err(error) => return Err(io(error)),
    };
    if from.offset > 0 && !stands_at(&file, from).map_err(io)? {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(from.offset)).map_err(io)?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut mark = from;
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = io::Read::take(&mut reader, MAX_LINE).read_until(b'\n', &mut line).map_err(io)? as u64;
        if length == 0 || (line.last() != Some(&b'\n') && length < MAX_LINE) {
            return Ok(Some(mark));
        }
        let damaged = |why: String| HistoryError::Damaged { path: path.clone(), offset: mark.offset, why };
        let record = serde_json::from_slice(&line).map_err(|error| damaged(error.to_string()))?;
        each(record);
        mark = Mark { offset: mark.offset + length, line_start: mark.offset, hash: xxh3_64(&line) };
    }
}

/// Reads the records from the newest to the oldest and hands each to `each`, until that has enough. A torn
/// last line is passed over.
pub(super) fn read_back(state: &StateDir, mut each: impl FnMut(Record) -> ControlFlow<()>) -> Result<(), HistoryError> {
    const BLOCK: u64 = 1 << 16;
    let path = state.file("history.jsonl");
    let io = |source| HistoryError::Io { op: "read", path: path.clone(), source };
    let file = match open_file(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
    };
    let damaged = |offset, why: String| HistoryError::Damaged { path: path.clone(), offset, why };
    // What stands from `start` on and was not handed out yet.
    let mut start = file.metadata().map_err(io)?.len();
    let mut held: Vec<u8> = Vec::new();
    loop {
        let before_last = held.len().saturating_sub(1);
        let newline = held[..before_last].iter().rposition(|byte| *byte == b'\n');
        if newline.is_none() && start > 0 {
            if held.len() as u64 > MAX_LINE {
                return Err(damaged(start, format!("a line of more than {MAX_LINE} bytes")));
            }
            let from = start.saturating_sub(BLOCK);
            let mut block = vec![0; usize::try_from(start - from).expect("at most a block")];
            file.read_exact_at(&mut block, from).map_err(io)?;
            block.append(&mut held);
            (held, start) = (block, from);
            continue;
        }
        let line_start = newline.map_or(0, |newline| newline + 1);
        let line = &held[line_start..];
        if line.is_empty() {
            return Ok(());
        }
        if line.last() == Some(&b'\n') {
            let offset = start + line_start as u64;
            let record = serde_json::from_slice(line).map_err(|error| damaged(offset, error.to_string()))?;
            if each(record).is_break() {
                return Ok(());
            }
        }
        held.truncate(line_start);
    }
}

/// Whether the line that ends at `mark` is the one that it was taken of.
fn stands_at(file: &File, mark: Mark) -> io::Result<bool> {
    let Some(length) = mark.offset.checked_sub(mark.line_start).filter(|length| *length <= MAX_LINE) else {
        return Ok(false);
    };
    if file.metadata()?.len() < mark.offset {
        return Ok(false);
    }
    let mut line = vec![0; usize::try_from(length).expect("at most a line")];
    file.read_exact_at(&mut line, mark.line_start)?;
    Ok(line.ends_with(b"\n") && xxh3_64(&line) == mark.hash)
}
