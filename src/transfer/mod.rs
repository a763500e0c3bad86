//! Changing files: the executor of actions, and the settling of those that a crash cut short.
//!
//! Everything that the program does to a user's file happens below this module, in the order that
//! keeps the first promise: intent on disk, second copy complete, durable and verified under its final
//! name, that recorded, and only then the first copy touched; the outcome recorded last. Trouble with a
//! file ends its action and leaves the file as it was; trouble with the history ends the run.
//!
//! Actions may be carried out on several [`Lane`]s at the same time, each on a thread of its caller's. What they
//! share is here: the history, which takes one record after the other, the numbers of the actions, and the
//! folders that are worked in.

mod cache;
mod decide;
mod engine;
mod evict;
mod folders;
mod ops;
pub mod probe;
mod settle;
mod together;

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::checksum::Checksum;
use crate::history::record::{Ended, Event, MadeFolder, Outcome, Published};
use crate::history::{History, HistoryError, OpenAction};
use crate::plan::{Action, Kind, Why};
use crate::select::FileKey;
use crate::tier::{Fingerprint, Folder, KnownRoot, MARKER, Marker, Root, Space, Tier, Tiers};
use engine::{Copied, Written};
pub use engine::{CopyError, CopyOptions, Stop, Verify, Watch};
use folders::Places;
use together::{OPEN_FILES, Together};

/// The ending of the name under which an original is kept beside its replacement, as `PlexCache-D`
/// has it too.
pub const KEPT: &str = ".plexcached";

/// What the marker of a root is called until it is whole.
const NEW_MARKER: &str = ".plexcache-root.new";

/// Whether a disk has room for `size` bytes, and for the file system's own needs beside them.
fn has_room(space: Space, size: u64) -> bool {
    space.free >= size.saturating_add(16 << 20)
}

/// How to move files.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub copy: CopyOptions,
    /// `safety.skip_open_files`.
    pub skip_open_files: bool,
}

/// Carries out actions, on as many [`Lane`]s as it is asked for.
#[derive(Debug)]
pub struct Transfer<'a> {
    tiers: &'a Tiers,
    /// Held for as long as a record takes to reach the disk, never while an action waits for others.
    history: Mutex<&'a mut History>,
    options: Options,
    /// How many actions were begun.
    begun: AtomicU32,
    places: Places,
}

/// Where actions are carried out one after the other, or small ones in batches that share their flushes. On
/// two lanes at once there must not be two actions on one file, nor on the files of one unit.
pub struct Lane<'t, 'a> {
    transfer: &'t Transfer<'a>,
    together: Together,
}

/// What came of an interrupted action.
#[derive(Debug, Clone)]
pub struct Settled {
    pub run: u64,
    pub action: Action,
    /// Or why it is still open; the next run tries again.
    pub ended: Result<Ended, String>,
}

/// Why an action did not come to its end. That the history cannot be written is none of these: no action
/// goes on then.
#[derive(Debug)]
enum Trouble {
    /// Left alone, for a reason that is no fault.
    Left(Why, String),
    Failed(String),
}

type Attempt<T> = Result<T, Trouble>;

/// Turns an I/O error into trouble that says what was being done.
trait During<T> {
    fn during(self, what: &str) -> Attempt<T>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, what: &str) -> Attempt<T> {
        self.map_err(|error| Trouble::Failed(format!("{what}: {error}")))
    }
}

/// What a finished action leaves behind.
#[derive(Debug, Default)]
struct Finished {
    array: Option<Fingerprint>,
    copy: Option<Fingerprint>,
    checksum: Option<Checksum>,
    bytes: u64,
    unmade: Vec<MadeFolder>,
    /// For people: what could not be kept, what was found.
    note: Option<String>,
}

/// An action on its way, with the roots it works in and the names it may use.
struct Job<'a> {
    run: u64,
    seq: u32,
    action: Action,
    array: &'a Root,
    cache: &'a Root,
    names: Names,
    together: &'a Together,
    places: &'a Places,
}

/// Every name an action may touch in a folder: the file's own, and temporary ones of fixed length that
/// never derive from it, so that a name of 255 bytes works too.
struct Names {
    file: String,
    kept: String,
    part: String,
    old: String,
    link: String,
}

impl Names {
    fn new(action: &Action, temp: &str) -> Self {
        let file = action.path.file_name().to_owned();
        Self {
            kept: format!("{file}{KEPT}"),
            part: format!(".plexcache-{temp}.part"),
            old: format!(".plexcache-{temp}.old"),
            link: format!(".plexcache-{temp}.lnk"),
            file,
        }
    }
}

impl Job<'_> {
    /// Records what belongs to it; on disk when it returns.
    async fn record(&self, event: Event) {
        self.together.record(self.run, event).await;
    }

    async fn publish(&self, published: Published) {
        self.record(Event::Published { seq: self.seq, published }).await;
    }

    /// Makes a file durable. Not to be tried again when it fails.
    async fn sync_file(&self, file: &File) -> io::Result<()> {
        self.together.sync_file(file).await
    }

    /// Makes a copy durable, and proves it then.
    async fn sync_copy(&self, target: &File, copy: Written, watch: &mut Watch<'_>) -> Result<Copied, CopyError> {
        if copy.is_small() {
            return self.together.sync_copy(target, copy).await;
        }
        self.sync_file(target).await.map_err(CopyError::Write)?;
        copy.prove(target, watch)
    }

    /// Makes the names of a folder durable.
    async fn sync(&self, folder: &Folder) -> io::Result<()> {
        self.together.sync(folder, self.places).await
    }

    /// What our link on the array says: where the cached copy is.
    fn link_target(&self) -> String {
        self.action.cache_path().into_string()
    }
}

impl<'a> Transfer<'a> {
    pub fn new(tiers: &'a Tiers, history: &'a mut History, options: Options) -> Self {
        let (begun, places) = (AtomicU32::new(0), Places::default());
        Self { tiers, history: Mutex::new(history), options, begun, places }
    }

    /// How many lanes there can be of `wanted`: each needs its share of open files, of which a process may have more
    /// when it asks for them.
    pub fn lanes(wanted: usize) -> usize {
        let limit = getrlimit(Resource::Nofile);
        let needed = OPEN_FILES.saturating_mul(wanted as u64);
        if wanted < 2 || limit.current.is_none_or(|current| current >= needed) {
            return wanted;
        }
        let current = limit.maximum.map_or(needed, |most| most.min(needed));
        match setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..limit }) {
            Ok(()) => usize::try_from(current / OPEN_FILES).unwrap_or(1).clamp(1, wanted),
            Err(_) => 1,
        }
    }

    /// One more place to carry out actions at.
    pub fn lane(&self) -> Lane<'_, 'a> {
        Lane { transfer: self, together: Together::default() }
    }

    /// What is cached under `key`, as the history tells by now.
    pub fn cached(&self, key: &FileKey) -> Option<Action> {
        self.history().index().cached.get(key).map(|cached| cached.action.clone())
    }

    fn history(&self) -> MutexGuard<'_, &'a mut History> {
        // Whoever panicked while he held it has left it as its file is, or broken, which it knows itself.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the roots that are used for the first time, and puts a marker on those that can be
    /// written.
    ///
    /// # Errors
    /// The history cannot be written, or a root that has to be written cannot be.
    pub fn mark_new_roots(&mut self) -> Result<(), MarkError> {
        let (tiers, history) = (self.tiers, self.history.get_mut().unwrap_or_else(PoisonError::into_inner));
        for map in &tiers.maps {
            for root in map.array.iter().chain([&map.cache]).filter(|root| root.is_new) {
                let known = history.index().roots.get(&root.path).filter(|known| !known.marked);
                let was_cut_short = known.is_some();
                let id = root.id.clone().or_else(|| known.and_then(|known| known.id.clone()));
                let id = match id {
                    Some(id) => id,
                    None => random_hex().map_err(|source| MarkError::mark(root, source))?,
                };
                let mut known = KnownRoot {
                    tier: root.tier,
                    path: root.path.clone(),
                    id: Some(id.clone()),
                    mount: root.mount.identity(),
                    marked: false,
                };
                if root.id.is_none() {
                    // Recorded before it is written: a marker that the history does not know would
                    // look like another state directory's.
                    history.record(Event::Root(known.clone()))?;
                    match write_marker(root, &Marker { id }) {
                        Ok(true) => {}
                        Ok(false) => known.id = None,
                        Err(source) => return Err(MarkError::mark(root, source)),
                    }
                } else if was_cut_short {
                    // The marker is there, but perhaps not on disk yet.
                    ops::unlink(&root.folder, NEW_MARKER)
                        .and_then(|()| ops::sync(&root.folder))
                        .map_err(|source| MarkError::mark(root, source))?;
                }
                known.marked = true;
                history.record(Event::Root(known))?;
            }
        }
        Ok(())
    }

    /// Whether `next` can go together with `chosen`, so that [`Lane::perform`] shares their flushes.
    pub fn goes_too(&self, chosen: &[&Action], next: &Action) -> bool {
        together::goes_too(chosen, next, self.options.copy.bytes_per_second)
    }

    /// `time` tells its share of the time so far.
    async fn perform_one(
        &self,
        action: &Action,
        together: &Together,
        time: impl Fn() -> Duration,
        watch: &mut Watch<'_>,
    ) -> Ended {
        let seq = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        let (run, is_open) = {
            let history = self.history();
            (history.run(), history.index().open.values().any(|open| open.action.key() == action.key()))
        };
        if is_open {
            let detail = "an earlier action on it is not settled yet".to_owned();
            return ended(seq, Err(Trouble::Left(Why::Unavailable, detail)));
        }
        let mut action = action.clone();
        if action.kind == Kind::Evict {
            self.choose_array_root(&mut action);
        }
        let temp = temp_id(run, seq);
        together.record(run, Event::Intent { seq, temp: temp.clone(), action: action.clone() }).await;
        let job = self.job(run, seq, action, &temp, together);
        let attempt = match &job {
            Some(job) => match job.action.kind {
                Kind::Cache => self.cache(job, watch).await,
                Kind::Evict => self.evict(job, None, watch).await,
            },
            None => Err(Trouble::Left(Why::Unavailable, "its disk is not among the configured ones".to_owned())),
        };
        let mut ended = ended(seq, attempt);
        ended.duration_ms = u64::try_from(time().as_millis()).unwrap_or(u64::MAX);
        // Without an outcome on record the next run settles what is left of it.
        let is_over = match &job {
            Some(job) if ended.result != Outcome::Done => self.leaves_nothing(job).await,
            _ => true,
        };
        if is_over {
            together.record(run, Event::Ended(ended.clone())).await;
        }
        ended
    }

    /// Removes the empty folders that an action made and that was not done, and says whether nothing else
    /// is left of it: no temporary name, nothing half moved, no copy that only this action knows. What
    /// cannot be looked at is left.
    async fn leaves_nothing(&self, job: &Job<'_>) -> bool {
        let published = self.history().index().open.get(&(job.run, job.seq)).and_then(|open| open.published);
        for root in [job.cache, job.array] {
            if self.remove_empty_folders(job, root).await.is_err() {
                return false;
            }
        }
        settle::leaves_nothing(job, published).unwrap_or(false)
    }

    /// Settles every action that has an intent and no outcome: looks at the disk, finishes it or takes
    /// it back, and records which.
    ///
    /// # Errors
    /// Only when the history cannot be written: the run has to stop.
    pub fn settle(&self, watch: &mut Watch<'_>) -> Result<Vec<Settled>, HistoryError> {
        let open = self.history().index().open.clone();
        let together = Together::default();
        let mut settled = Vec::with_capacity(open.len());
        for ((run, seq), open) in open {
            // Each by itself: of one that crashed the next may not be what it was.
            let settling = self.settle_one(run, seq, open, &together, watch);
            settled.extend(together.carry_out(&self.history, [settling])?);
        }
        Ok(settled)
    }

    async fn settle_one(
        &self,
        run: u64,
        seq: u32,
        open: OpenAction,
        together: &Together,
        watch: &mut Watch<'_>,
    ) -> Settled {
        let OpenAction { temp, action, published, .. } = open;
        let Some(job) = self.job(run, seq, action.clone(), &temp, together) else {
            return Settled { run, action, ended: Err("its disk is not among the configured ones".to_owned()) };
        };
        let attempt = match action.kind {
            Kind::Cache => self.settle_cache(&job, published, watch).await,
            Kind::Evict => self.settle_evict(&job, published, watch).await,
        };
        let mut ended = ended(seq, attempt);
        // What could not be found out or put right now may be another time.
        let is_undecided = ended.result == Outcome::Failed;
        if is_undecided || (ended.result == Outcome::Skipped && !self.leaves_nothing(&job).await) {
            return Settled { run, action, ended: Err(ended.error.unwrap_or_default()) };
        }
        ended.settled_by = Some(self.history().run());
        job.record(Event::Ended(ended.clone())).await;
        Settled { run, action, ended: Ok(ended) }
    }

    fn job<'j>(&'j self, run: u64, seq: u32, action: Action, temp: &str, together: &'j Together) -> Option<Job<'j>> {
        let array = self.tiers.root(&action.array_root).filter(|root| root.tier == Tier::Array)?;
        let cache = self.tiers.root(&action.cache_root).filter(|root| root.tier == Tier::Cache)?;
        // A name that comes from the history must not lead out of its folder.
        let names = (!temp.contains('/')).then(|| Names::new(&action, temp))?;
        Some(Job { run, seq, action, array, cache, names, together, places: &self.places })
    }

    /// A file that has to be copied back goes to the disk it came from, or, when that one is gone or
    /// full, to the emptiest of its map. Where its disk has nothing of it any more and another one has a
    /// file of its name, that one is what became of the original.
    fn choose_array_root(&self, action: &mut Action) {
        let Some(map) = self.tiers.map(&action.map) else { return };
        let free = |root: &Root| root.folder.space().map_or(0, |space| space.free);
        let fits = |root: &Root| root.folder.space().is_ok_and(|space| has_room(space, action.size));
        let home = map.array.iter().find(|root| root.path == action.array_root);
        let has_it = home.is_some_and(|root| {
            // What cannot be looked at may be there.
            let is_there = |name| !matches!(root.folder.stat_below(&name), Ok(None));
            // What has its original or its link on that disk is not copied to another.
            is_there(action.path.clone())
                || action.path.sibling(&format!("{}{KEPT}", action.path.file_name())).is_ok_and(is_there)
        });
        if has_it {
            return;
        }
        if let Ok(found) = map.find(&action.path)
            && let Some((root, _)) = found.iter().find(|(_, stat)| stat.is_file())
        {
            action.array_root = root.path.as_path().into();
            return;
        }
        if home.is_some_and(fits) {
            return;
        }
        if let Some(root) = map.array.iter().filter(|root| fits(root)).max_by_key(|root| free(root)) {
            action.array_root = root.path.as_path().into();
        }
    }
}

impl Lane<'_, '_> {
    /// Carries out actions together, each from its intent to its outcome, and says what came of each. Their
    /// order among themselves is not kept: each must be one that [`Transfer::goes_too`] with those before it.
    ///
    /// # Errors
    /// Only when the history cannot be written: the run has to stop.
    pub fn perform(&mut self, actions: &[Action], watch: &mut Watch<'_>) -> Result<Vec<Ended>, HistoryError> {
        let (start, shares) = (Instant::now(), u32::try_from(actions.len()).unwrap_or(u32::MAX).max(1));
        let (time, watch) = (&|| start.elapsed() / shares, &RefCell::new(watch));
        let Self { transfer, together } = &*self;
        let performed = actions.iter().map(|action| async move {
            let mut watch = |done| (watch.borrow_mut())(done);
            transfer.perform_one(action, together, time, &mut watch).await
        });
        together.carry_out(&transfer.history, performed)
    }
}

/// Why a root could not be made known.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error("cannot write {path}/{MARKER}: {source}")]
    Mark { path: camino::Utf8PathBuf, source: io::Error },
}

impl MarkError {
    fn mark(root: &Root, source: io::Error) -> Self {
        Self::Mark { path: root.path.clone(), source }
    }
}

fn read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}

/// A marker is there whole or not at all: half of one would look like somebody else's. `false` when the
/// root is one of the array and cannot be written, before anything was.
fn write_marker(root: &Root, marker: &Marker) -> io::Result<bool> {
    // What is there was left by a crash; the history knows that the root was being marked.
    let created = ops::unlink(&root.folder, NEW_MARKER).and_then(|()| ops::create(&root.folder, NEW_MARKER));
    let mut file = match created {
        Err(error) if read_only(&error) && root.tier == Tier::Array => return Ok(false),
        created => created?,
    };
    let written = file
        .write_all(&serde_json::to_vec(marker)?)
        .and_then(|()| file.sync_all())
        .and_then(|()| ops::rename(&root.folder, NEW_MARKER, MARKER))
        .and_then(|()| ops::sync(&root.folder));
    if written.is_err() {
        // A root that is refused for good, such as one without hard links, would keep it.
        let _as_found = ops::unlink(&root.folder, NEW_MARKER);
    }
    written.map(|()| true)
}

fn ended(seq: u32, attempt: Attempt<Finished>) -> Ended {
    let (result, why, error, finished) = match attempt {
        Ok(finished) => (Outcome::Done, None, finished.note.clone(), finished),
        Err(Trouble::Left(why, text)) => (Outcome::Skipped, Some(why), Some(text), Finished::default()),
        Err(Trouble::Failed(text)) => (Outcome::Failed, None, Some(text), Finished::default()),
    };
    let Finished { array, copy, checksum, bytes, unmade, note: _ } = finished;
    Ended { seq, result, error, why, bytes, duration_ms: 0, array, copy, checksum, unmade, settled_by: None }
}

/// Names the temporary files of an action: 16 hexadecimal digits, of which the random half keeps apart
/// what two states with the same run numbers would call the same.
fn temp_id(run: u64, seq: u32) -> String {
    let random = random_hex().unwrap_or_default();
    let random = random.get(..8).unwrap_or("00000000");
    let run = run & 0xffff;
    format!("{random}{run:04x}{:04x}", seq & 0xffff)
}

fn random_hex() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
