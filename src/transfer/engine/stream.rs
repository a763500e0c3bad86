//! Copying a large file: one thread reads, one writes, one reads back what is written.
//!
//! Owns the threads and what passes between them: a few blocks that go round, so that memory stays flat and both
//! devices are busy although each thread does one thing at a time. Only the calling thread, which reads, hears
//! `watch`, and tells it how many bytes are written. Whatever ends one thread ends all of them.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use super::device::{BLOCK, Buffer, within_unit};
use super::ends::{Source, Target};
use super::flow::Pace;
use super::outcome::{CopyError, Watch, go_on};
use super::readback::ReadBack;

/// Blocks that go round: one is being read, one is being written, one is ready.
const BLOCKS: usize = 3;

/// A piece of the file on its way.
struct Block {
    offset: u64,
    length: usize,
    buffer: Buffer,
}

/// What reads back behind the writing.
pub(super) struct Follower<'a> {
    pub(super) read_back: &'a mut ReadBack,
    /// How many bytes it stays behind what is on the device.
    pub(super) distance: u64,
}

/// Copies all `size` bytes; what the follower has not read back by then is left to the caller. Where no thread is to be
/// had it answers no, and nothing has happened.
pub(super) fn stream(
    source: &mut Source<'_>,
    target: &mut Target<'_>,
    size: u64,
    pace: &mut Pace,
    follower: Option<Follower<'_>>,
    watch: &mut Watch<'_>,
) -> Result<bool, CopyError> {
    let (filled, to_write) = mpsc::channel::<Block>();
    let (written, emptied) = mpsc::channel();
    let (settled, on_device) = mpsc::channel();
    for _ in 0..BLOCKS {
        let buffer = Buffer::for_file(size).map_err(CopyError::Read)?;
        written.send(Block { offset: 0, length: 0, buffer }).expect("its receiver is at hand");
    }
    let over = &AtomicBool::new(false);
    thread::scope(|scope| {
        let write = move || {
            for mut block in to_write {
                let on_device = target.write(block.offset, &block.buffer.bytes()[..block.length])?;
                // Nobody hears it where nobody follows.
                _ = on_device.map(|end| settled.send(end));
                if over.load(Ordering::Relaxed) || written.send(block).is_err() {
                    break;
                }
            }
            Ok(())
        };
        let Ok(writer) = thread::Builder::new().name("write".into()).spawn_scoped(scope, write) else {
            return Ok(false);
        };
        let follower = follower.and_then(|follower| {
            let follow = move || follow(follower, on_device, over).inspect_err(|_| over.store(true, Ordering::Relaxed));
            // Without this thread all of it is read back at the end.
            thread::Builder::new().name("read-back".into()).spawn_scoped(scope, follow).ok()
        });
        let done = read(source, size, filled, emptied, pace, watch);
        over.store(true, Ordering::Relaxed);
        let ends = [Some(writer), follower].map(|thread| {
            thread.map_or(Ok(()), |thread| thread.join().expect("no thread here has an invariant to break"))
        });
        // Reading that failed tells why; reading that ended for want of blocks leaves that to whoever kept them.
        let done = done?;
        ends.into_iter().collect::<Result<(), _>>()?;
        if done == size { Ok(true) } else { Err(CopyError::Write(io::ErrorKind::WriteZero.into())) }
    })
}

/// Reads blocks as they come back empty, and sends them on. Answers how many bytes were written in the end.
fn read(
    source: &mut Source<'_>,
    size: u64,
    filled: Sender<Block>,
    emptied: Receiver<Block>,
    pace: &mut Pace,
    watch: &mut Watch<'_>,
) -> Result<u64, CopyError> {
    let (mut offset, mut written) = (0, 0);
    while offset < size {
        let Ok(Block { offset: at, length, mut buffer }) = emptied.recv() else { return Ok(written) };
        written = at + length as u64;
        go_on(watch, written)?;
        let length = within_unit(BLOCK, offset, size);
        source.read(offset, &mut buffer, length)?;
        if filled.send(Block { offset, length, buffer }).is_err() {
            return Ok(written);
        }
        offset += length as u64;
        pace.wait(length as u64, written, watch)?;
    }
    drop(filled);
    for Block { offset, length, .. } in emptied {
        written = offset + length as u64;
        go_on(watch, written)?;
    }
    Ok(written)
}

/// Reads back what is on the device, until all is written: from then on the caller reads, which hears `watch`.
fn follow(
    Follower { read_back, distance }: Follower<'_>,
    on_device: Receiver<u64>,
    over: &AtomicBool,
) -> Result<(), CopyError> {
    for end in on_device {
        while !over.load(Ordering::Relaxed) && read_back.next + BLOCK as u64 + distance <= end {
            read_back.step()?;
        }
    }
    Ok(())
}
