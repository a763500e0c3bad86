//! Folders that an action needs, and their times.
//!
//! A folder that is missing on one tier is made with the owner, mode, ACL and times of its counterpart
//! on the other, after the history has been told; and only folders that the history knows as ours are
//! ever removed, on the cache, when they are empty. The times of every folder that an action works in
//! are put back, because Plex reads from them what to scan again.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use super::engine::metadata::{DirTimes, copy_metadata};
use super::{Attempt, During, Job, Transfer, ops};
use crate::history::record::{Event, MadeFolder};
use crate::paths::MediaPath;
use crate::tier::{Folder, Kind, Root};

/// The folder of a file, and the times to put back when the work in it is done.
pub(super) struct Workplace {
    pub(super) folder: Folder,
    times: Vec<(File, DirTimes)>,
}

impl Workplace {
    /// A folder that is there.
    pub(super) fn open(root: &Root, path: &MediaPath) -> io::Result<Self> {
        let folder = root.folder.parent_of(path)?;
        let file = handle(&folder)?;
        let times = DirTimes::take(&file)?;
        Ok(Self { folder, times: vec![(file, times)] })
    }

    /// The same, or `None` when the folder is not there.
    pub(super) fn open_if_there(root: &Root, path: &MediaPath) -> io::Result<Option<Self>> {
        match Self::open(root, path) {
            Ok(place) => Ok(Some(place)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Workplace {
    /// Takes the folder's times as they are now, before anything was changed in it.
    pub(super) fn take_times_anew(&mut self) -> io::Result<()> {
        for (file, times) in &mut self.times {
            *times = DirTimes::take(file)?;
        }
        Ok(())
    }
}

impl Drop for Workplace {
    /// Best effort, and no more is needed: times are no data.
    fn drop(&mut self) {
        for (file, times) in &self.times {
            if let Err(error) = times.restore(file) {
                tracing::debug!("cannot put back the times of a folder: {error}");
            }
        }
    }
}

fn handle(folder: &Folder) -> io::Result<File> {
    Ok(File::from(folder.as_fd().try_clone_to_owned()?))
}

impl Transfer<'_> {
    /// The folder of the job's file below `at`; what is missing is made like its counterpart below
    /// `like`.
    pub(super) fn make_folders(&mut self, job: &Job, at: &Root, like: &Root) -> Attempt<Workplace> {
        let path = &job.action.path;
        let mut missing = Vec::new();
        let mut parent = path.parent();
        let mut folder = loop {
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
        let file = handle(&folder).during("opening the folder to copy to")?;
        let taken = DirTimes::take(&file).during("reading the times of a folder")?;
        let mut times = vec![(file, taken)];
        if !missing.is_empty() {
            let folders = missing.iter().map(|path| MadeFolder { root: at.path.clone(), path: path.clone() }).collect();
            self.history.record_for(job.run, Event::Made { seq: job.seq, folders })?;
        }
        for path in missing.iter().rev() {
            let what = format!("making the folder {}", at.path.join(path.as_path()));
            let like = match like.folder.folder(path).and_then(|like| handle(&like)) {
                Ok(like) => Some(like),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error).during(&what),
            };
            if let Err(error) = make_like(&folder, &job.names.part, path.file_name(), like.as_ref()) {
                // Should it stay, the action stays open, and settling removes it.
                drop(ops::remove_empty_folder(&folder, &job.names.part));
                return Err(error).during(&what);
            }
            folder = at.folder.folder(path).during(&what)?;
            if let Some(like) = like {
                let file = handle(&folder).during(&what)?;
                times.push((file, DirTimes::take(&like).during(&what)?));
            }
        }
        Ok(Workplace { folder, times })
    }

    /// Removes the folders above the job's file below `at` that we made and that are empty now.
    pub(super) fn remove_empty_folders(&self, job: &Job, at: &Root) -> Attempt<Vec<MadeFolder>> {
        let mut removed = Vec::new();
        let mut next = job.action.path.parent();
        while let Some(path) = next {
            let id = (at.path.clone(), path.clone());
            if !self.history.index().made.contains(&id) {
                break;
            }
            let gone = match Workplace::open_if_there(at, &path) {
                Ok(Some(above)) => ops::remove_empty_folder(&above.folder, path.file_name())
                    .and_then(|gone| ops::sync(&above.folder).map(|()| gone)),
                Ok(None) => Ok(true),
                Err(error) => Err(error),
            };
            if !gone.during(&format!("removing the empty folder {}", at.path.join(path.as_path())))? {
                break;
            }
            next = path.parent();
            removed.push(MadeFolder { root: id.0, path: id.1 });
        }
        Ok(removed)
    }
}

/// Makes the folder `name` like the one behind `like`. Under a temporary name until it is finished: half
/// made, it would show in the merged view as a folder that Plex may not enter.
fn make_like(folder: &Folder, part: &str, name: &str, like: Option<&File>) -> io::Result<()> {
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
        }
        result => result?,
    }
    ops::sync(folder)
}

/// The folders above the job's file below `at` in which one was being made and is not finished.
pub(super) fn half_made_in(job: &Job, at: &Root) -> io::Result<Vec<Workplace>> {
    let mut found = Vec::new();
    let mut next = job.action.path.parent();
    while let Some(path) = next {
        if let Some(above) = Workplace::open_if_there(at, &path)?
            && above.folder.stat(&job.names.part)?.is_some_and(|stat| stat.kind == Kind::Folder)
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
