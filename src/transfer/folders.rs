//! Folders that an action needs, and their times.
//!
//! A folder that is missing on one tier is made with the owner, mode, ACL and times of its counterpart
//! on the other, after the history has been told; and only folders that the history knows as ours are
//! ever removed, on the cache, when they are empty. The times of every folder that an action works in
//! are put back, because Plex reads from them what to scan again. The invariant that lets several lanes work below
//! one root: who finds a folder that another one made finds one that is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::engine::metadata::{DirTimes, copy_metadata};
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
            job.record(Event::Made { seq: job.seq, folders }).await;
        }
        let mut above = Vec::new();
        let _making = lock(&places.making);
        for path in missing.iter().rev() {
            let what = format!("making the folder {}", at.path.join(path.as_path()));
            let like = match like.folder.folder(path).and_then(|like| handle(&like)) {
                Ok(like) => Some(like),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error).during(&what),
            };
            above.push(Arc::clone(&place));
            // Another one, of the batch or of another lane, may have made it meanwhile.
            place = match at.folder.folder(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if let Err(error) =
                        make_like(places, &place.folder, &job.names.part, path.file_name(), like.as_ref())
                    {
                        // Should it stay, the action stays open, and settling removes it.
                        drop(ops::remove_empty_folder(&place.folder, &job.names.part));
                        return Err(error).during(&what);
                    }
                    let made = at.folder.folder(path).and_then(|made| places.of(made)).during(&what)?;
                    if let Some(like) = like {
                        *lock(&made.times) = DirTimes::take(&like).during(&what)?;
                    }
                    made
                }
                there => there.and_then(|there| places.of(there)).during(&what)?,
            };
        }
        Ok(Workplace { place, _above: above })
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

/// Makes the folder `name` like the one behind `like`. Under a temporary name until it is finished: half
/// made, it would show in the merged view as a folder that Plex may not enter.
fn make_like(places: &Places, folder: &Folder, part: &str, name: &str, like: Option<&File>) -> io::Result<()> {
    ops::make_folder(folder, part)?;
    let made = folder.folder(&MediaPath::parse(part).expect("a temporary name is a media path"))?;
    if let Some(like) = like {
        for warning in copy_metadata(like, &handle(&made)?)? {
            tracing::debug!("making the folder {name}: {warning}");
        }
    }
    ops::sync(&made)?;
    match ops::rename(folder, part, name) {
        // Somebody was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            ops::remove_empty_folder(folder, part)?;
            return places.sync(folder);
        }
        result => result?,
    }
    places.sync(folder).inspect_err(|_| {
        // Others must not rely on it: they make one that is durable, or none.
        drop(ops::remove_empty_folder(folder, name));
    })
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
