//! Actions that go through their steps together, and share what makes a step durable.
//!
//! Owns the one mechanism by which anything is waited for: each action is a future, straight-line code that
//! keeps the order of the rules for its file, and every `await` in it is a point at which it waits for the
//! others of its batch. When all of them wait, those at the earliest [`Step`] go on; the records that were asked
//! for by then have reached the disk with one write and one `fdatasync`, and a folder in which several have
//! changed names is synced by the first of them. A large file is a batch of one, and the same code.
//!
//! The actions of a batch are not concurrent: only one of them runs at a time, and none while something is synced;
//! those of another lane are, and share nothing of this. The invariant: nothing that an action waits for is older than
//! its question. When a record cannot be written no action goes on any more: all of them are dropped where they
//! stand, and the next run settles them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;

use camino::Utf8PathBuf;
use rustix::io::Errno;

use super::engine::{Copied, CopyError, Written};
use super::folders::{Missing, Places};
use crate::history::record::Event;
use crate::history::{History, HistoryError};
use crate::plan::Action;
use crate::tier::Folder;

/// The most actions in a batch. Each holds up to three files open, and four folders where it is the first of a show
/// and its season: 700 of the 1024 descriptors that every system allows.
const MOST: usize = 96;

/// How many files a lane may have open at the same time, with what it reads back and what else the program has open.
pub(super) const OPEN_FILES: u64 = 900;

/// The most bytes that one action of a batch may have to copy.
const SMALL: u64 = 1 << 20;

/// The most bytes that a batch may have to copy: whoever wants to write to one of its files waits for all.
const SUM: u64 = 16 << 20;

/// What an action waits for, in the order in which the actions of a batch are served: who is behind catches up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// What it is about to do is on record.
    Announced,
    /// Its file is durable and was read back, and so are those of the others, which are synced at the same time. Each
    /// is synced by itself: syncing the file system instead would be one call, three times as quick on btrfs, and
    /// wait for everybody else's gigabytes, and fail for their errors.
    Written,
    /// The names in a folder are durable.
    Named,
    /// What it has done is on record.
    Recorded,
}

impl Step {
    fn of(event: &Event) -> Self {
        match event {
            Event::Intent { .. } | Event::Made { .. } => Self::Announced,
            _ => Self::Recorded,
        }
    }
}

/// What the actions under way share.
#[derive(Default)]
pub(super) struct Together {
    /// What each of them waits for.
    waits: RefCell<Vec<Option<Step>>>,
    /// Which of them is running.
    running: Cell<usize>,
    /// Asked for, and not yet written.
    records: RefCell<Vec<(u64, Event)>>,
    /// Folders that are about to be made: of which that is to be recorded, and of which it is on disk.
    asked: RefCell<Vec<Missing>>,
    announced: RefCell<Vec<Missing>>,
    /// Why a folder could not be made, by the temporary name of the action that has announced it.
    unmade: RefCell<BTreeMap<String, Unmade>>,
    /// What came of the folders that were synced since the step began, by device and inode.
    synced: RefCell<BTreeMap<(u64, u64), Result<(), Errno>>>,
    /// To be synced, and what came of those that were, by the action that waits for it.
    files: RefCell<Vec<Unsynced>>,
    written: RefCell<BTreeMap<usize, Synced>>,
    pub(super) crew: Crew,
}

/// A folder that could not be made, and why.
pub(super) type Unmade = (Utf8PathBuf, io::Error);

/// A file that an action waits for.
struct Unsynced {
    action: usize,
    file: File,
    /// What is to be proved of it then.
    copy: Option<Written>,
}

type Synced = Result<Option<Copied>, CopyError>;

impl Unsynced {
    fn sync(self) -> Synced {
        let Self { file, copy, .. } = self;
        file.sync_all().map_err(CopyError::Write)?;
        // Nothing to tell anybody, and nothing to be stopped: it is small.
        copy.map(|copy| copy.prove(&file, &mut |_| ControlFlow::Continue(()))).transpose()
    }
}

impl Together {
    /// Carries out `actions` to the end of each, and gives what came of them in the same order.
    ///
    /// # Errors
    /// A record could not be written: everything stands as it is.
    pub(super) fn carry_out<T>(
        &self,
        history: &Mutex<&mut History>,
        actions: impl IntoIterator<Item = impl Future<Output = T>>,
    ) -> Result<Vec<T>, HistoryError> {
        let mut actions: Vec<_> = actions.into_iter().map(|action| Some(Box::pin(action))).collect();
        let mut ends: Vec<Option<T>> = actions.iter().map(|_| None).collect();
        self.waits.replace(vec![None; actions.len()]);
        let mut step = None;
        loop {
            for (number, (action, end)) in actions.iter_mut().zip(&mut ends).enumerate() {
                if self.waits.borrow()[number] != step {
                    continue;
                }
                self.waits.borrow_mut()[number] = None;
                self.running.set(number);
                let Some(Poll::Ready(ended)) = action.as_mut().map(poll) else { continue };
                *end = Some(ended);
                // And with it all that it had open.
                *action = None;
            }
            step = self.waits.borrow().iter().flatten().min().copied();
            if step.is_none() {
                return Ok(ends.into_iter().map(|end| end.expect("who waits for nothing has ended")).collect());
            }
            self.synced.borrow_mut().clear();
            if step == Some(Step::Written) {
                let synced = self.crew.at_once(self.files.take(), |file| (file.action, file.sync()));
                self.written.replace(synced.into_iter().collect());
            }
            // Not those of a later step: what they tell of may rest on what the others have still to sync.
            let is_due = |(_, event): &(u64, Event)| Some(Step::of(event)) == step;
            let (due, later): (Vec<_>, Vec<_>) = self.records.take().into_iter().partition(is_due);
            self.records.replace(later);
            if !due.is_empty() {
                history.lock().unwrap_or_else(PoisonError::into_inner).record_all(due)?;
            }
            if step == Some(Step::Announced) {
                self.announced.borrow_mut().append(&mut self.asked.borrow_mut());
            }
        }
    }

    /// Waits until the others have come as far.
    async fn reach(&self, step: Step) {
        self.waits.borrow_mut()[self.running.get()] = Some(step);
        let mut has_waited = false;
        poll_fn(|_| if std::mem::replace(&mut has_waited, true) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Records `event` for `run`; on disk when it returns.
    pub(super) async fn record(&self, run: u64, event: Event) {
        let step = Step::of(&event);
        self.records.borrow_mut().push((run, event));
        self.reach(step).await;
    }

    /// Records for `run`, by `event`, that these folders are about to be made.
    pub(super) async fn announce(&self, run: u64, event: Event, missing: Vec<Missing>) {
        self.asked.borrow_mut().extend(missing);
        self.record(run, event).await;
    }

    /// The folders that the actions have announced, on disk, and that nobody has taken yet.
    pub(super) fn announced(&self) -> Vec<Missing> {
        self.announced.take()
    }

    /// Keeps why a folder could not be made that an action has announced as `part`.
    pub(super) fn could_not_make(&self, part: String, unmade: Unmade) {
        self.unmade.borrow_mut().entry(part).or_insert(unmade);
    }

    /// What was kept for the action that uses `part`.
    pub(super) fn why_not_made(&self, part: &str) -> Option<Unmade> {
        self.unmade.borrow_mut().remove(part)
    }

    /// Makes a file durable, contents and description.
    ///
    /// # Errors
    /// Final: a second sync may succeed although the kernel dropped the pages.
    pub(super) async fn sync_file(&self, file: &File) -> io::Result<()> {
        match self.synced(file, None).await {
            Ok(_) => Ok(()),
            Err(CopyError::Write(error)) => Err(error),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Makes a small copy durable and proves it, several at the same time: a device answers all who ask it in hardly
    /// more time than one.
    ///
    /// # Errors
    /// It is not durable, which is final, or it is not what was written.
    pub(super) async fn sync_copy(&self, file: &File, copy: Written) -> Result<Copied, CopyError> {
        let copied = self.synced(file, Some(copy)).await?;
        Ok(copied.expect("a copy that is to be proved is proved, or an error"))
    }

    async fn synced(&self, file: &File, copy: Option<Written>) -> Synced {
        let (action, file) = (self.running.get(), file.try_clone().map_err(CopyError::Write)?);
        self.files.borrow_mut().push(Unsynced { action, file, copy });
        self.reach(Step::Written).await;
        self.written.borrow_mut().remove(&action).expect("all that are asked for are synced")
    }

    /// Makes the names of a folder durable, as they were when this was called.
    ///
    /// # Errors
    /// The same for all who share it: a sync that failed is never tried again into a success.
    pub(super) async fn sync(&self, folder: &Folder, places: &Places) -> io::Result<()> {
        self.reach(Step::Named).await;
        let stat = folder.stat_self()?;
        let mut synced = self.synced.borrow_mut();
        let result = synced
            .entry((stat.dev, stat.ino))
            .or_insert_with(|| places.sync(folder).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO)));
        Ok((*result)?)
    }
}

/// Threads that wait for devices: with the lane itself as many as the largest batch so far had files. A device that
/// several ask to flush it does it once for all of them: 96 at a time take a third of what 16 take on btrfs, and four
/// fifths of it on ext4.
#[derive(Default)]
pub(super) struct Crew {
    desk: Arc<Desk>,
    size: Cell<usize>,
}

#[derive(Default)]
struct Desk {
    /// What is to be done; `None` when nothing will be any more.
    tasks: Mutex<VecDeque<Option<Task>>>,
    changed: Condvar,
}

type Task = Box<dyn FnOnce() + Send>;

impl Crew {
    /// Does `work` with all of `items` at the same time, and says in any order what came of each.
    pub(super) fn at_once<T: Send + 'static, R: Send + 'static>(&self, items: Vec<T>, work: fn(T) -> R) -> Vec<R> {
        let (done, results) = mpsc::channel();
        let count = items.len();
        for item in items {
            let done = done.clone();
            self.desk.add(Some(Box::new(move || drop(done.send(work(item))))));
        }
        drop(done);
        for _ in self.size.get() + 1..count {
            let desk = Arc::clone(&self.desk);
            // Without a thread, the others do its share.
            if thread::Builder::new().name("sync".into()).spawn(move || desk.serve()).is_ok() {
                self.size.set(self.size.get() + 1);
            }
        }
        loop {
            let task = self.desk.tasks().pop_front();
            let Some(Some(task)) = task else { break };
            task();
        }
        results.into_iter().collect()
    }
}

impl Desk {
    fn tasks(&self) -> MutexGuard<'_, VecDeque<Option<Task>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, task: Option<Task>) {
        self.tasks().push_back(task);
        self.changed.notify_one();
    }

    fn serve(&self) {
        loop {
            let waiting = self.changed.wait_while(self.tasks(), |tasks| tasks.is_empty());
            let task = waiting.unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(Some(task)) = task else { return };
            task();
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for _ in 0..self.size.get() {
            self.desk.add(None);
        }
    }
}

fn poll<F: Future>(action: &mut Pin<Box<F>>) -> Poll<F::Output> {
    action.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Whether `next` can go together with `chosen`, when so many bytes may be copied in a second: those of one kind that are
/// small and have nothing in common but folders. Evictions too: one that finds no original copies all of it back.
pub(super) fn goes_too(chosen: &[&Action], next: &Action, bytes_per_second: Option<u64>) -> bool {
    let Some(first) = chosen.first() else { return true };
    // A pace must not hold up for minutes whoever wants to write to one of the files.
    let most_bytes = bytes_per_second.map_or(SUM, |rate| rate.min(SUM));
    let bytes = chosen.iter().fold(next.size, |sum, action| sum.saturating_add(action.size));
    chosen.len() < MOST
        && first.size.max(next.size) <= SMALL
        && bytes <= most_bytes
        && next.kind == first.kind
        && !chosen.iter().any(|other| is_same_file(other, next))
}

/// Two names of one file would take each other for somebody who has it open.
fn is_same_file(one: &Action, other: &Action) -> bool {
    let is_linked = one.array_root == other.array_root
        && one.array.zip(other.array).is_some_and(|(one, other)| one.ino == other.ino);
    is_linked || (&one.map, &one.path) == (&other.map, &other.path)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::history::record::{RunFinished, RunStarted};
    use crate::state::StateDir;

    fn action(kind: &str, path: &str, size: u64, ino: u64) -> Action {
        let array = json!({"ino": ino, "size": size, "mtime_ns": 1});
        let action = json!({"kind": kind, "map": "/data", "path": path, "unit": "a.mkv", "title": "A", "size": size,
            "placement": "copy", "array_root": "/mnt/disk1", "cache_root": "/mnt/cache", "array": array});
        serde_json::from_value(action).unwrap()
    }

    /// How many of the first of `actions` go together.
    fn batch(actions: &[Action], bytes_per_second: Option<u64>) -> usize {
        let all: Vec<&Action> = actions.iter().collect();
        (0..all.len()).take_while(|&count| goes_too(&all[..count], all[count], bytes_per_second)).count()
    }

    #[test]
    fn what_goes_together_is_of_one_kind_small_and_not_the_same_file() {
        let caching = |path, size, ino| action("cache", path, size, ino);
        let (a, b) = (caching("a", 1, 1), caching("b", SMALL, 2));
        let second = action("evict", "c", SMALL + 1, 3);
        for (actions, expected, what) in [
            (vec![], 0, "nothing"),
            (vec![caching("a", u64::MAX, 1)], 1, "one of any size"),
            (vec![a.clone(), b.clone()], 2, "two that are small"),
            (vec![caching("a", SMALL + 1, 1), b.clone()], 1, "nothing goes with a large one"),
            (vec![a.clone(), caching("b", SMALL + 1, 2), b.clone()], 1, "a large one goes with nothing"),
            (vec![a.clone(), action("evict", "b", 1, 2)], 1, "an eviction waits for the caching"),
            (vec![a.clone(), caching("b", 1, 1)], 1, "two names of one file"),
            (vec![a.clone(), a.clone()], 1, "twice the same"),
            (vec![action("evict", "a", 1, 1), action("evict", "b", 1, 2)], 2, "evictions"),
            (
                vec![action("evict", "a", SUM, 1), action("evict", "b", SUM, 2)],
                1,
                "a large eviction may copy it all back",
            ),
            (vec![action("evict", "a", 1, 1), second], 1, "an eviction that copies a large file back"),
        ] {
            assert_eq!(batch(&actions, None), expected, "{what}");
        }
        let many: Vec<_> = (0..).map(|n| action("cache", &n.to_string(), 1, n)).take(MOST + 1).collect();
        assert_eq!(batch(&many, None), MOST);
        let many: Vec<_> = (0..).map(|n| action("cache", &n.to_string(), SMALL, n)).take(MOST).collect();
        assert_eq!(batch(&many, None), 16, "the bytes of a batch are bounded");
        assert_eq!(batch(&many, Some(3 * SMALL)), 3, "and are those of a second");
        assert_eq!(batch(&many, Some(1)), 1);
    }

    fn in_a_history(test: impl FnOnce(&Mutex<&mut History>, &StateDir)) {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap());
        let start: RunStarted = serde_json::from_value(json!({"command": "sync"})).unwrap();
        // Taking the lock makes the folder what it has to be.
        let _lock = state.lock(|| false).unwrap();
        test(&Mutex::new(&mut History::open(&state, start).unwrap()), &state);
    }

    #[test]
    fn who_is_behind_catches_up_and_records_wait_for_all() {
        in_a_history(|history, state| {
            let (together, seen) = (Together::default(), RefCell::new(Vec::new()));
            let see = |what: String| seen.borrow_mut().push(what);
            let act = async |number: u32| {
                see(format!("{number} begins"));
                if number != 2 {
                    together.reach(Step::Written).await;
                    see(format!("{number} is written"));
                }
                together.record(1, Event::RunFinished(RunFinished::default())).await;
                see(format!("{number} ends, {} recorded", lines(state)));
                number
            };
            let ends = together.carry_out(history, (1..=3).map(act)).unwrap();
            assert_eq!(ends, [1, 2, 3]);
            let expected = ["1 begins", "2 begins", "3 begins", "1 is written", "3 is written"];
            assert_eq!(seen.borrow()[..5], expected);
            // The start of the run is the first line.
            let expected = ["1 ends, 4 recorded", "2 ends, 4 recorded", "3 ends, 4 recorded"];
            assert_eq!(seen.borrow()[5..], expected);
        });
    }

    fn lines(state: &StateDir) -> usize {
        std::fs::read_to_string(state.file("history.jsonl")).unwrap().lines().count()
    }

    #[test]
    fn those_at_one_step_share_what_came_of_a_sync_and_the_next_step_has_its_own() {
        in_a_history(|history, _| {
            let folder = tempfile::tempdir().unwrap();
            let folder = Folder::open_root(folder.path().to_str().unwrap().into()).unwrap();
            let stat = folder.stat_self().unwrap();
            let (together, places) = (Together::default(), Places::default());
            let act = async |number: u32| {
                if number == 0 {
                    together.reach(Step::Named).await;
                    // As if it had been the first to sync, and the disk had failed.
                    together.synced.borrow_mut().insert((stat.dev, stat.ino), Err(Errno::IO));
                } else {
                    let error = together.sync(&folder, &places).await.unwrap_err();
                    assert_eq!(error.raw_os_error(), Some(libc::EIO));
                    together.sync(&folder, &places).await.unwrap();
                }
            };
            together.carry_out(history, [act(0), act(1), act(2)]).unwrap();
        });
    }
}
