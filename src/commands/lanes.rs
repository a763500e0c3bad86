//! A plan on its way to the disks: what is done next, on which lane, and what is told of it.
//!
//! Owns the order in which actions are begun. Of consecutive actions of one kind the next kind waits for the end.
//! Evictions go one after the other: they may have to write whole files to the array, and where a parity disk stands
//! behind several disks, writing to two of them at once has its heads run between two places. Cachings read there and
//! change names, so every disk of the array has a lane of its own, or two. What lanes have in common is on the
//! [`Desk`], which a lane comes to between two batches, and in [`Transfer`]. The invariants: no two lanes work on one
//! unit, on one file or in one folder of the array; a video is begun when it is known what became of its sidecars, with
//! which those of the next units may go; and while it is not known whether Plex can read what is cached on a map, only
//! one lane works on that map.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use camino::Utf8PathBuf;

use super::verify::{Proof, Proved, Refuted};
use super::{RunOptions, Tally};
use crate::history::HistoryError;
use crate::history::record::{Ended, Outcome};
use crate::household::Trouble;
use crate::plan::{Action, EvictWhy, Kind};
use crate::report::{Message, Reporter};
use crate::select::FileKey;
use crate::shared::{SharedPath, Text};
use crate::signal::StopFlag;
use crate::tier::{Tier, Tiers};
use crate::transfer::{Lane, Stop, Transfer};

/// The most lanes: as many hard disks as one SSD takes in at its pace, and what their buffers cost of memory.
const MOST: usize = 4;

/// What carrying out a plan needs besides the plan.
pub(super) struct Work<'w, 'h> {
    pub(super) tiers: &'w Tiers,
    pub(super) transfer: &'w Transfer<'h>,
    pub(super) stop: &'w StopFlag,
    /// `None` where Plex is not to be asked whether it can read what is cached.
    pub(super) proof: Option<&'w Proof>,
    /// How many lanes a disk may have; all disks together have one when it is `None`.
    pub(super) jobs: Option<usize>,
}

/// What came of a plan.
pub(super) struct Done {
    /// Actions that were never begun.
    pub(super) not_started: usize,
    pub(super) problems: Vec<Trouble>,
}

/// Carries out `actions`, tells `reporter` and counts in `tally`.
///
/// # Errors
/// The history cannot be written: the run has to stop.
pub(super) fn carry_out(
    work: &Work<'_, '_>,
    actions: Vec<Action>,
    limit: Limit,
    reporter: &mut dyn Reporter,
    tally: &mut Tally,
) -> Result<Done, HistoryError> {
    let total = actions.len();
    let maps = actions.iter().filter(|action| action.kind == Kind::Cache).map(|action| action.map.clone());
    let maps: BTreeSet<Text> = maps.collect();
    let mut desk = Desk {
        reporter,
        tally,
        limit,
        proved: Proved::default(),
        queues: Vec::new(),
        at_work: Vec::new(),
        incomplete: BTreeSet::new(),
        problems: Vec::new(),
        begun: 0,
        total,
        is_closed: false,
        failure: None,
    };
    for phase in phases(actions) {
        desk.queues = queues(phase, work);
        desk =
            Floor { work, desk: Mutex::new(desk), changed: Condvar::new(), is_broken: AtomicBool::new(false) }.run()?;
        if desk.is_closed {
            break;
        }
    }
    desk.tally.refused = desk.proved.is_nothing_left_of(&maps);
    Ok(Done { not_started: total - desk.begun, problems: desk.problems })
}

/// Consecutive actions of one kind.
fn phases(actions: Vec<Action>) -> Vec<Vec<Action>> {
    let mut phases: Vec<Vec<Action>> = Vec::new();
    for action in actions {
        match phases.last_mut().filter(|phase| phase[0].kind == action.kind) {
            Some(phase) => phase.push(action),
            None => phases.push(vec![action]),
        }
    }
    phases
}

/// One for each disk of the array, in the order of the plan. A unit is where the first of its files is.
fn queues(phase: Vec<Action>, work: &Work<'_, '_>) -> Vec<Queue> {
    let mut queues: Vec<Queue> = Vec::new();
    let has_lanes = work.has_lanes(&phase);
    let mut units: BTreeMap<FileKey, usize> = BTreeMap::new();
    for action in phase {
        let mut on = |disk| {
            queues.iter().position(|queue| queue.disk == disk).unwrap_or_else(|| {
                queues.push(Queue { disk, actions: VecDeque::new(), lanes: 0 });
                queues.len() - 1
            })
        };
        let place = if has_lanes {
            // An undo does not have the files of a unit one after the other.
            *units.entry(action.unit_key()).or_insert_with(|| on(Some(work.device(&action))))
        } else {
            on(None)
        };
        queues[place].actions.push_back(action);
    }
    queues
}

/// What is left to do on one disk.
struct Queue {
    /// `None` for all of them.
    disk: Option<u64>,
    actions: VecDeque<Action>,
    /// How many lanes work on it now.
    lanes: usize,
}

impl Work<'_, '_> {
    /// Whether the actions of a phase may go on several lanes.
    fn has_lanes(&self, phase: &[Action]) -> bool {
        let devices = |tier| self.tiers.roots().filter(move |root| root.tier == tier).map(|root| root.dev);
        let caches: BTreeSet<u64> = devices(Tier::Cache).collect();
        self.jobs.is_some()
            && phase.iter().all(|action| action.kind == Kind::Cache)
            && !devices(Tier::Array).any(|dev| caches.contains(&dev))
    }

    /// Where on the array the file is.
    fn device(&self, action: &Action) -> u64 {
        self.tiers.root(&action.array_root).map_or(u64::MAX, |root| root.dev)
    }

    fn hold(&self, action: &Action) -> Hold {
        let parent = action.path.as_path().parent().map(ToOwned::to_owned).unwrap_or_default();
        Hold {
            unit: action.unit_key(),
            folder: (action.array_root.clone(), parent),
            file: action.array.map(|array| (self.device(action), array.ino)),
        }
    }

    fn jobs_on(&self, queue: &Queue) -> usize {
        self.jobs.filter(|_| queue.disk.is_some()).unwrap_or(1)
    }
}

/// What goes to a lane at once.
struct Batch {
    actions: Vec<Action>,
    queue: usize,
    /// Of the first of them, as people count.
    number: usize,
}

/// What a lane has to itself while it carries out an action.
#[derive(PartialEq, Eq)]
struct Hold {
    unit: FileKey,
    folder: (SharedPath, Utf8PathBuf),
    /// Device and inode: it may have several names.
    file: Option<(u64, u64)>,
}

impl Hold {
    fn is_in_the_way_of(&self, other: &Self) -> bool {
        self.unit == other.unit || self.folder == other.folder || (self.file.is_some() && self.file == other.file)
    }
}

/// What a lane is told to do.
enum Next {
    Perform(Batch),
    /// Something may come up when another lane has ended what it is doing.
    Wait,
    /// Nothing is left for it.
    Leave,
}

/// What the lanes share. Never held for longer than it takes to tell somebody something.
struct Desk<'d> {
    reporter: &'d mut dyn Reporter,
    tally: &'d mut Tally,
    limit: Limit,
    proved: Proved,
    queues: Vec<Queue>,
    at_work: Vec<Hold>,
    /// Units of which a file was not cached. The video comes last, and says that there is something to look for.
    incomplete: BTreeSet<FileKey>,
    problems: Vec<Trouble>,
    begun: usize,
    total: usize,
    /// Nothing more is begun.
    is_closed: bool,
    /// The first that went wrong with the history.
    failure: Option<HistoryError>,
}

/// Where the lanes work.
struct Floor<'w, 'h, 'd> {
    work: &'w Work<'w, 'h>,
    desk: Mutex<Desk<'d>>,
    changed: Condvar,
    /// The history cannot be written any more: whatever is under way ends as on a signal.
    is_broken: AtomicBool,
}

impl<'d> Floor<'_, '_, 'd> {
    /// Works until nothing is left to do. This thread is the first lane, and the only one where no other can be
    /// started.
    fn run(self) -> Result<Desk<'d>, HistoryError> {
        let lanes: usize = self.desk().queues.iter().map(|queue| self.work.jobs_on(queue)).sum();
        thread::scope(|scope| {
            for _ in 1..Transfer::lanes(lanes.min(MOST)) {
                // Without a thread, the others do its share.
                drop(thread::Builder::new().name("lane".into()).spawn_scoped(scope, || self.lane()));
            }
            self.lane();
        });
        let mut desk = self.desk.into_inner().unwrap_or_else(PoisonError::into_inner);
        match desk.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(desk),
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk<'d>> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One lane, from its first batch to its last.
    fn lane(&self) {
        let mut lane = self.work.transfer.lane();
        let mut queue = None;
        while let Some(batch) = self.next(queue) {
            queue = Some(batch.queue);
            if let Err(error) = self.perform(&mut lane, &batch) {
                self.is_broken.store(true, Ordering::Relaxed);
                let mut desk = self.desk();
                desk.is_closed = true;
                desk.failure.get_or_insert(error);
            }
            self.changed.notify_all();
        }
    }

    /// Waits for something to do. A lane stays with its disk as long as there is something.
    fn next(&self, queue: Option<usize>) -> Option<Batch> {
        let mut desk = self.desk();
        loop {
            match desk.next(self.work, queue) {
                Next::Perform(batch) => return Some(batch),
                Next::Wait => desk = self.changed.wait(desk).unwrap_or_else(PoisonError::into_inner),
                Next::Leave => return None,
            }
        }
    }

    fn perform(&self, lane: &mut Lane<'_, '_>, batch: &Batch) -> Result<(), HistoryError> {
        let actions = &batch.actions;
        let all_ended = lane.perform(actions, &mut |done| {
            // Many are done in a moment.
            if let [action] = actions.as_slice() {
                self.desk().reporter.message(&Message::Progress { action, done });
            }
            self.go_on()
        })?;
        let mut desk = self.desk();
        desk.ended(batch, &all_ended);
        let question = self.work.proof.zip(desk.proved.question(actions, &all_ended));
        drop(desk);
        if let Some((proof, action)) = question {
            let unreadable = proof.unreadable(action);
            let refuted = self.desk().proved.answered(action, unreadable);
            if let Some(refuted) = refuted {
                self.take_back(lane, &refuted)?;
            }
        }
        self.desk().leave(self.work, batch);
        Ok(())
    }

    fn go_on(&self) -> ControlFlow<Stop> {
        let ends = self.work.stop.is_raised() || self.is_broken.load(Ordering::Relaxed);
        if ends { ControlFlow::Break(Stop) } else { ControlFlow::Continue(()) }
    }

    /// Evicts what was cached on a map on which Plex cannot read it, and says what came of that.
    fn take_back(&self, lane: &mut Lane<'_, '_>, refuted: &Refuted) -> Result<(), HistoryError> {
        let mut left = Vec::new();
        for key in &refuted.cached {
            let Some(known) = self.work.transfer.cached(key) else { continue };
            let eviction = Action { kind: Kind::Evict, evict_why: Some(EvictWhy::Unreadable), ..known };
            let all_ended = lane.perform(std::slice::from_ref(&eviction), &mut |_| self.go_on())?;
            let mut desk = self.desk();
            for ended in all_ended {
                desk.tell(&eviction, &ended);
                if ended.result != Outcome::Done {
                    left.push(format!("{} stays: {}", eviction.path, ended.error.unwrap_or_default()));
                }
            }
        }
        let trouble = refuted.verdict(&left);
        let mut desk = self.desk();
        desk.reporter.message(&Message::Warning { text: &trouble.text, hint: trouble.hint.as_deref() });
        desk.tally.partial = true;
        desk.problems.push(trouble);
        Ok(())
    }
}

impl Desk<'_> {
    fn next(&mut self, work: &Work<'_, '_>, own: Option<usize>) -> Next {
        let mut is_waited_for = false;
        let mut order: Vec<usize> = (0..self.queues.len()).collect();
        order.sort_by_key(|index| (Some(*index) != own, self.queues[*index].lanes));
        for index in order {
            self.drop_forbidden(work, index);
            let queue = &self.queues[index];
            let Some(first) = queue.actions.front() else { continue };
            let (next, is_full) = (std::slice::from_ref(first), queue.lanes >= work.jobs_on(queue));
            // What is under way may copy less than it could.
            let may_fit_later = !self.at_work.is_empty() && self.limit.allows_without_others(next);
            let is_over = !self.limit.allows(next) && !may_fit_later;
            self.is_closed |= work.stop.is_raised() || is_over;
            if self.is_closed {
                return Next::Leave;
            }
            if is_full {
                continue;
            }
            if !self.limit.allows(next) || self.is_busy_with(work, first) {
                is_waited_for = true;
                continue;
            }
            return Next::Perform(self.take(work, index));
        }
        if is_waited_for { Next::Wait } else { Next::Leave }
    }

    /// Passes over what Plex could not read.
    fn drop_forbidden(&mut self, work: &Work<'_, '_>, index: usize) {
        let Self { queues, proved, .. } = self;
        let is_forbidden = |action: &Action| work.proof.is_some() && proved.forbids(action);
        let actions = &mut queues[index].actions;
        while actions.front().is_some_and(is_forbidden) {
            actions.pop_front();
        }
    }

    /// Whether another lane has to be waited for before the action can be begun.
    fn is_busy_with(&self, work: &Work<'_, '_>, action: &Action) -> bool {
        let hold = work.hold(action);
        let is_unproved = work.proof.is_some() && self.proved.is_unproved(action);
        let is_same_map = |other: &Hold| is_unproved && other.unit.map == hold.unit.map;
        self.at_work.iter().any(|other| other.is_in_the_way_of(&hold) || is_same_map(other))
    }

    /// The first action of a queue, and what goes with it.
    fn take(&mut self, work: &Work<'_, '_>, index: usize) -> Batch {
        self.queues[index].actions.make_contiguous();
        let places = self.choose(work, self.queues[index].actions.as_slices().0);
        let last = *places.last().expect("the first of a queue that has one always goes");
        let queue = &mut self.queues[index];
        queue.lanes += 1;
        let (mut actions, mut passed_over) = (Vec::new(), Vec::new());
        for (place, action) in queue.actions.drain(..=last).enumerate() {
            if places.contains(&place) { actions.push(action) } else { passed_over.push(action) }
        }
        for action in passed_over.into_iter().rev() {
            queue.actions.push_front(action);
        }
        for action in actions.iter_mut().filter(|action| self.incomplete.contains(&action.unit_key())) {
            action.left_out = true;
        }
        self.at_work.extend(actions.iter().map(|action| work.hold(action)));
        self.limit.begin(&actions);
        let batch = Batch { number: self.begun + 1, actions, queue: index };
        self.begun += batch.actions.len();
        self.start(&batch, 0);
        batch
    }

    /// The places of the actions that go together, the first one and others. What Plex will be asked about goes alone,
    /// because its answer may forbid what follows. Of the sidecars it is to be known what became of them before their
    /// video is begun: it is passed over, as long as it would fit too, and sidecars of the next units go with them.
    fn choose(&self, work: &Work<'_, '_>, actions: &[Action]) -> Vec<usize> {
        let is_unproved = |action: &Action| work.proof.is_some() && self.proved.is_unproved(action);
        let is_alone =
            |action: &Action| work.proof.is_some() && (self.proved.asks_about(action) || self.proved.forbids(action));
        let (mut places, mut chosen): (Vec<usize>, Vec<&Action>) = (Vec::new(), Vec::new());
        for (place, next) in actions.iter().enumerate() {
            if let Some(first) = chosen.first() {
                let has_one_proof = first.map == next.map || !(is_unproved(first) || is_unproved(next));
                if is_alone(first) || is_alone(next) || !has_one_proof || !self.limit.allows(&actions[..=place]) {
                    break;
                }
                if is_video_of(next, &chosen) {
                    continue;
                }
                if !work.transfer.goes_too(&chosen, next) || self.is_busy_with(work, next) {
                    break;
                }
            }
            places.push(place);
            chosen.push(next);
        }
        places
    }

    fn start(&mut self, batch: &Batch, index: usize) {
        let (action, number) = (&batch.actions[index], batch.number + index);
        self.reporter.message(&Message::Started { action, number, total: self.total });
    }

    fn ended(&mut self, batch: &Batch, all_ended: &[Ended]) {
        for (index, (action, ended)) in batch.actions.iter().zip(all_ended).enumerate() {
            // One after the other, as in a run without batches.
            if index > 0 {
                self.start(batch, index);
            }
            self.tell(action, ended);
            self.limit.copied(ended.bytes);
            if action.kind == Kind::Cache && ended.result != Outcome::Done {
                self.incomplete.insert(action.unit_key());
            }
        }
        self.limit.end(&batch.actions);
    }

    fn tell(&mut self, action: &Action, ended: &Ended) {
        self.reporter.message(&Message::Ended { action, ended });
        self.tally.ended(action, ended);
    }

    /// A lane is done with the batch, and others may come to what it held.
    fn leave(&mut self, work: &Work<'_, '_>, batch: &Batch) {
        self.queues[batch.queue].lanes -= 1;
        for action in &batch.actions {
            let hold = work.hold(action);
            if let Some(place) = self.at_work.iter().position(|other| *other == hold) {
                self.at_work.swap_remove(place);
            }
        }
    }
}

/// Whether `action` caches the video of one of `sidecars`.
fn is_video_of(action: &Action, sidecars: &[&Action]) -> bool {
    action.kind == Kind::Cache
        && action.path == action.unit
        && sidecars.iter().any(|other| (&other.map, &other.unit) == (&action.map, &action.unit))
}

/// `--max-transfer` and `--max-duration`: no further copy is begun once one of them is used up.
pub(super) struct Limit {
    bytes: Option<u64>,
    until: Option<Instant>,
    copied: u64,
    /// What those that were begun and have not ended may copy.
    under_way: u64,
}

impl Limit {
    pub(super) fn new(options: &RunOptions, started: Instant) -> Self {
        let until = options.max_duration.and_then(|duration| started.checked_add(duration));
        Self { bytes: options.max_transfer, until, copied: 0, under_way: 0 }
    }

    /// Whether the next one may be begun, and the others with it.
    fn allows(&self, next: &[Action]) -> bool {
        self.allows_beside(self.under_way, next)
    }

    /// Whether it might be when nothing else is under way any more.
    fn allows_without_others(&self, next: &[Action]) -> bool {
        self.allows_beside(0, next)
    }

    fn allows_beside(&self, under_way: u64, next: &[Action]) -> bool {
        let bytes = to_copy(next);
        let sum = self.copied.saturating_add(under_way).saturating_add(bytes);
        self.until.is_none_or(|until| Instant::now() < until)
            && (bytes == 0 || self.bytes.is_none_or(|most| sum <= most))
    }

    fn begin(&mut self, actions: &[Action]) {
        self.under_way = self.under_way.saturating_add(to_copy(actions));
    }

    fn end(&mut self, actions: &[Action]) {
        self.under_way = self.under_way.saturating_sub(to_copy(actions));
    }

    fn copied(&mut self, bytes: u64) {
        self.copied = self.copied.saturating_add(bytes);
    }
}

/// Bytes that caching takes. What evictions take back is not limited.
fn to_copy(actions: &[Action]) -> u64 {
    let cachings = actions.iter().filter(|action| action.kind == Kind::Cache);
    cachings.fold(0, |sum, action| sum.saturating_add(action.size))
}
