//! Folders that an action needs, and their times.
//!
//! A folder that is missing on one tier is made with the owner, mode, ACL and times of its counterpart
//! on the other, after the history has been told; and only folders that the history knows as ours are
//! ever removed, on the cache, when they are empty. The times of every folder that an action works in
//! are put back, because Plex reads from them what to scan again. The invariant that lets several lanes work below
//! one root: who finds a folder that another one made finds one that is durable, or is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use camino::Utf8PathBuf;
use rustix::io::Errno;

use super::engine::metadata::{DirTimes, copy_metadata};
use super::together::Crew;
use super::{Attempt, During, Job, Transfer, ops};
use crate::history::record::{Event, MadeFolder};
use crate::paths::MediaPath;
use crate::tier::{Folder, Kind, Root};

/// The folders that are worked in now, by device and inode. What several actions work in is open once and has
/// one set of times: those from before the first of them came.
#[derive(Debug, Default)]
pub(super) struct Places {
    open: Mutex<BTreeMap<(u64, u64), Weak<Place>>>,
    /// Held while somebody looks which folders there are, and by whoever makes one until it is durable: another
    /// lane must not put its file into one whose name a power cut could still take away. Never held while an
    /// action waits for the others of its batch.
    making: Mutex<()>,
    /// The folders that a sync has failed for.
    failed: Mutex<BTreeSet<(u64, u64)>>,
    /// Those that were made where a sync has failed, and that could not be taken away again.
    doubtful: Mutex<BTreeSet<(u64, u64)>>,
}

impl Places {
    /// Makes the names of a folder durable.
    ///
    /// # Errors
    /// For good: the kernel tells of names that it could not write once, and only the first who asks. Nobody is told
    /// that all is well after that.
    pub(super) fn sync(&self, folder: &Folder) -> io::Result<()> {
        let stat = folder.stat_self()?;
        // Held meanwhile, so that no lane asks between another one's failure and its being known.
        let mut failed = lock(&self.failed);
        if failed.contains(&(stat.dev, stat.ino)) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        ops::sync(folder).inspect_err(|_| {
            failed.insert((stat.dev, stat.ino));
        })
    }

    /// Refuses to rely on folders above `path` of which one may be gone after a power cut, whatever is synced.
    fn rely_on(&self, root: &Root, path: &MediaPath) -> io::Result<()> {
        let doubtful = lock(&self.doubtful);
        let mut next = path.parent().filter(|_| !doubtful.is_empty());
        while let Some(above) = next {
            let stat = root.folder.folder(&above)?.stat_self()?;
            if doubtful.contains(&(stat.dev, stat.ino)) {
                return Err(Errno::IO.into());
            }
            next = above.parent();
        }
        Ok(())
    }

    /// The folder `name` is not durable and never will be. It is taken away when it `is_ours`, and others make one that is,
    /// or none; one that stays is not relied on.
    fn give_up(&self, above: &Place, name: &str, is_ours: bool) {
        if is_ours && ops::remove_empty_folder(&above.folder, name).is_ok_and(|is_gone| is_gone) {
            return;
        }
        let left = MediaPath::parse(name).map_err(io::Error::other);
        match left.and_then(|left| above.folder.folder(&left)?.stat_self()) {
            Ok(stat) => drop(lock(&self.doubtful).insert((stat.dev, stat.ino))),
            Err(error) => tracing::debug!("cannot look at the folder {name}: {error}"),
        }
    }

    /// The place that `folder` is; with the times that it has now where nobody works in it yet.
    fn of(&self, folder: Folder) -> io::Result<Arc<Place>> {
        let stat = folder.stat_self()?;
        let mut open = lock(&self.open);
        if let Some(place) = open.get(&(stat.dev, stat.ino)).and_then(Weak::upgrade) {
            return Ok(place);
        }
        // Else the list would grow with the run.
        open.retain(|_, place| place.strong_count() > 0);
        let times = DirTimes::take(&handle(&folder)?)?;
        let place = Arc::new(Place { folder, times: Mutex::new(times), has_new_times: AtomicBool::new(false) });
        open.insert((stat.dev, stat.ino), Arc::downgrade(&place));
        Ok(place)
    }
}

/// Nothing that these locks guard is ever half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder, and the times to put back when the work in it is done.
#[derive(Debug)]
struct Place {
    folder: Folder,
    times: Mutex<DirTimes>,
    has_new_times: AtomicBool,
}

impl Drop for Place {
    /// Best effort, and no more is needed: times are no data.
    fn drop(&mut self) {
        let times = *lock(&self.times);
        if let Err(error) = handle(&self.folder).and_then(|file| times.restore(&file)) {
            tracing::debug!("cannot put back the times of a folder: {error}");
        }
    }
}

/// The folder of a file, and those above it that had to be made. Their times are put back when it is dropped,
/// unless others still work there.
#[derive(Debug)]
pub(super) struct Workplace {
    place: Arc<Place>,
    /// Those in which it, or one on the way to it, was made.
    _above: Vec<Arc<Place>>,
}

impl Deref for Workplace {
    type Target = Folder;

    fn deref(&self) -> &Folder {
        &self.place.folder
    }
}

impl Workplace {
    /// A folder that is there.
    pub(super) fn open(root: &Root, path: &MediaPath, places: &Places) -> io::Result<Self> {
        Ok(Self { place: places.of(root.folder.parent_of(path)?)?, _above: Vec::new() })
    }

    /// The same, or `None` when the folder is not there.
    pub(super) fn open_if_there(root: &Root, path: &MediaPath, places: &Places) -> io::Result<Option<Self>> {
        match Self::open(root, path, places) {
            Ok(place) => Ok(Some(place)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes the folder's times as they are now, before anything was changed in it. Those who come to it while
    /// the first who did so is still there find its changes in them, and leave them.
    pub(super) fn take_times_anew(&self) -> io::Result<()> {
        if !self.place.has_new_times.swap(true, Ordering::Relaxed) {
            *lock(&self.place.times) = DirTimes::take(&handle(&self.place.folder)?)?;
        }
        Ok(())
    }
}

fn handle(folder: &Folder) -> io::Result<File> {
    Ok(File::from(folder.as_fd().try_clone_to_owned()?))
}

impl Transfer<'_> {
    /// The folder of the job's file below `at`; what is missing is made like its counterpart below
    /// `like`.
    pub(super) async fn make_folders(&self, job: &Job<'_>, at: &Root, like: &Root) -> Attempt<Workplace> {
        let path = &job.action.path;
        let places = job.places;
        let mut missing = Vec::new();
        let mut parent = path.parent();
        let making = lock(&places.making);
        let folder = loop {
            let Some(there) = parent else { break at.folder.parent_of(&first_component(path)) };
            match at.folder.folder(&there) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    parent = there.parent();
                    missing.push(there);
                }
                result => break result,
            }
        }
        .during("opening the folder to copy to")?;
        drop(making);
        let mut place = places.of(folder).during("reading the times of a folder")?;
        if !missing.is_empty() {
            let folders = missing.iter().map(|path| MadeFolder { root: at.path.clone(), path: path.clone() }).collect();
            let announced = missing.iter().map(|path| Missing::new(at, like, path, &job.names.part)).collect();
            job.together.announce(job.run, Event::Made { seq: job.seq, folders }, announced).await;
        }
        let _making = lock(&places.making);
        let mut above = self.make_announced(job);
        if let Some((path, error)) = job.together.why_not_made(&job.names.part) {
            return Err(error).during(&format!("making the folder {path}"));
        }
        for path in missing.iter().rev() {
            let what = format!("making the folder {}", at.path.join(path.as_path()));
            let like = like_of(like, path).during(&what)?;
            above.push(Arc::clone(&place));
            // Another one, of the batch or of another lane, may have made it meanwhile.
            let there = at.folder.folder(path);
            let is_missing = matches!(&there, Err(error) if error.kind() == io::ErrorKind::NotFound);
            let found = match there {
                Err(_) if is_missing => HalfMade::begin(&place, &job.names.part, path.file_name(), like.as_ref())
                    .and_then(|half_made| {
                        finish(places, &job.together.crew, vec![half_made]).pop().expect("of one comes one").1
                    }),
                there => there.and_then(|there| places.of(there)),
            };
            place = found.during(&what)?;
        }
        places.rely_on(at, path).during("making its folders durable")?;
        Ok(Workplace { place, _above: above })
    }

    /// Makes what the actions of a batch have announced, with a few flushes for all of it. Why one could not be made is kept
    /// for the action that has announced it first; others of the batch try by themselves. Answers where it worked, for as
    /// long as the times there have to be put back by somebody.
    fn make_announced(&self, job: &Job<'_>) -> Vec<Arc<Place>> {
        let mut announced = job.together.announced();
        // What is in another one comes after it.
        announced.sort_by(|a, b| (a.depth(), &a.at, &a.path).cmp(&(b.depth(), &b.at, &b.path)));
        announced.dedup_by(|a, b| (&a.at, &a.path) == (&b.at, &b.path));
        let mut worked_in = Vec::new();
        for level in announced.chunk_by(|a, b| a.depth() == b.depth()) {
            let mut half_made = Vec::new();
            for missing in level {
                match self.begin(missing, job.places).transpose() {
                    Some(Ok(begun)) => half_made.push(begun),
                    Some(Err(why)) => job.together.could_not_make(missing.part.clone(), (missing.whole(), why)),
                    None => {}
                }
            }
            worked_in.extend(half_made.iter().map(|half_made| Arc::clone(&half_made.above)));
            for (part, made) in finish(job.places, &job.together.crew, half_made) {
                let missing = level.iter().find(|missing| missing.part == part);
                match made {
                    Ok(made) => worked_in.push(made),
                    Err(why) => {
                        let path = missing.expect("what is finished was begun").whole();
                        job.together.could_not_make(part, (path, why));
                    }
                }
            }
        }
        worked_in
    }

    /// `None` when it is there by now, and when what it would be in is not: why that is, somebody else has to say.
    fn begin(&self, missing: &Missing, places: &Places) -> io::Result<Option<HalfMade>> {
        let Missing { at, like, path, part } = missing;
        let (Some(at), Some(like)) = (self.tiers.root(at), self.tiers.root(like)) else { return Ok(None) };
        let is_missing = at.folder.folder(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        let above = match at.folder.parent_of(path) {
            Ok(above) if is_missing => places.of(above)?,
            _ => return Ok(None),
        };
        HalfMade::begin(&above, part, path.file_name(), like_of(like, path)?.as_ref()).map(Some)
    }

    /// Removes the folders above the job's file below `at` that we made and that are empty now.
    pub(super) async fn remove_empty_folders(&self, job: &Job<'_>, at: &Root) -> Attempt<Vec<MadeFolder>> {
        let mut removed = Vec::new();
        let mut next = job.action.path.parent();
        while let Some(path) = next {
            let id = (at.path.clone(), path.clone());
            if !self.history().index().made.contains(&id) {
                break;
            }
            let what = format!("removing the empty folder {}", at.path.join(path.as_path()));
            let above = Workplace::open_if_there(at, &path, job.places).during(&what)?;
            if let Some(above) = above {
                if !ops::remove_empty_folder(&above, path.file_name()).during(&what)? {
                    break;
                }
                // Also when it was gone already: whoever removed it may have been killed before its sync.
                job.sync(&above).await.during(&what)?;
            }
            next = path.parent();
            removed.push(MadeFolder { root: id.0, path: id.1 });
        }
        Ok(removed)
    }
}

/// The counterpart of a folder, if it has one.
fn like_of(root: &Root, path: &MediaPath) -> io::Result<Option<File>> {
    match root.folder.folder(path).and_then(|like| handle(&like)) {
        Ok(like) => Ok(Some(like)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A folder that an action is about to make.
pub(super) struct Missing {
    /// The root below which it is missing, and the one that has its counterpart.
    at: Utf8PathBuf,
    like: Utf8PathBuf,
    path: MediaPath,
    /// The temporary name that the action uses.
    part: String,
}

impl Missing {
    fn new(at: &Root, like: &Root, path: &MediaPath, part: &str) -> Self {
        Self { at: at.path.clone(), like: like.path.clone(), path: path.clone(), part: part.to_owned() }
    }

    fn whole(&self) -> Utf8PathBuf {
        self.at.join(self.path.as_path())
    }

    fn depth(&self) -> usize {
        self.path.as_str().split('/').count()
    }
}

/// A folder under a temporary name: half made, it would show in the merged view as one that Plex may not enter.
struct HalfMade {
    above: Arc<Place>,
    folder: Folder,
    part: String,
    name: String,
    /// Those of its counterpart.
    times: Option<DirTimes>,
}

impl HalfMade {
    /// Begins to make the folder `name` like the one behind `like`.
    fn begin(above: &Arc<Place>, part: &str, name: &str, like: Option<&File>) -> io::Result<Self> {
        ops::make_folder(&above.folder, part)?;
        let begun = || {
            let path = MediaPath::parse(part).expect("a temporary name is a media path");
            let folder = above.folder.folder(&path)?;
            if let Some(like) = like {
                for warning in copy_metadata(like, &handle(&folder)?)? {
                    tracing::debug!("making the folder {name}: {warning}");
                }
            }
            let times = like.map(DirTimes::take).transpose()?;
            Ok(Self { above: Arc::clone(above), folder, part: part.to_owned(), name: name.to_owned(), times })
        };
        begun().inspect_err(|_| forget(above, part))
    }
}

/// Removes an empty folder. Should it stay, the action stays open, and settling removes it.
fn forget(above: &Place, name: &str) {
    drop(ops::remove_empty_folder(&above.folder, name));
}

/// Gives them their names, and what came of each, by its temporary name and in any order: the folder, which is durable.
fn finish(places: &Places, crew: &Crew, half_made: Vec<HalfMade>) -> Vec<(String, io::Result<Arc<Place>>)> {
    let (mut named, mut results) = (Vec::new(), Vec::new());
    for (synced, half_made) in crew.at_once(half_made, |half_made| (ops::sync(&half_made.folder), half_made)) {
        let HalfMade { above, part, name, .. } = &half_made;
        let renamed = match synced.and_then(|()| ops::rename(&above.folder, part, name)) {
            // Somebody was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => ops::remove_empty_folder(&above.folder, part)
                .and_then(|is_gone| if is_gone { Ok(false) } else { Err(error) }),
            renamed => renamed.map(|()| true).inspect_err(|_| forget(above, part)),
        };
        match renamed {
            Ok(is_ours) => named.push((half_made, is_ours)),
            Err(error) => results.push((half_made.part, Err(error))),
        }
    }
    named.sort_by_key(|(half_made, _)| Arc::as_ptr(&half_made.above));
    for siblings in named.chunk_by(|(a, _), (b, _)| Arc::ptr_eq(&a.above, &b.above)) {
        let synced = places.sync(&siblings[0].0.above.folder);
        let synced = synced.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
        for (HalfMade { above, part, name, times, .. }, is_ours) in siblings {
            if synced.is_err() {
                places.give_up(above, name, *is_ours);
            }
            let made = synced.map_err(Into::into).and_then(|()| made(places, above, name, *times));
            results.push((part.clone(), made));
        }
    }
    results
}

/// A folder that was made, to get the times of its counterpart when the work in it is done.
fn made(places: &Places, above: &Place, name: &str, times: Option<DirTimes>) -> io::Result<Arc<Place>> {
    let path = MediaPath::parse(name).map_err(io::Error::other)?;
    let made = places.of(above.folder.folder(&path)?)?;
    if let Some(times) = times {
        *lock(&made.times) = times;
    }
    Ok(made)
}

/// The folders above the job's file below `at` in which one was being made and is not finished.
pub(super) fn half_made_in(job: &Job<'_>, at: &Root) -> io::Result<Vec<Workplace>> {
    let mut found = Vec::new();
    let mut next = job.action.path.parent();
    while let Some(path) = next {
        if let Some(above) = Workplace::open_if_there(at, &path, job.places)?
            && above.stat(&job.names.part)?.is_some_and(|stat| stat.kind == Kind::Folder)
        {
            found.push(above);
        }
        next = path.parent();
    }
    Ok(found)
}

/// A path of one component, whose folder is the root itself.
fn first_component(path: &MediaPath) -> MediaPath {
    let first = path.as_str().split('/').next().expect("a split has a first part");
    MediaPath::parse(first).expect("a component of a media path is a media path")
}
