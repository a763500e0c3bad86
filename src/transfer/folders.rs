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
use crate::tier::{Folder, Root};

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
            match ops::make_folder(&folder, path.file_name()) {
                Ok(()) => {}
                // Somebody was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).during(&what),
            }
            ops::sync(&folder).during(&what)?;
            folder = at.folder.folder(path).during(&what)?;
            let file = handle(&folder).during(&what)?;
            match like.folder.folder(path).and_then(|like| handle(&like)) {
                Ok(like) => {
                    for warning in copy_metadata(&like, &file).during(&what)? {
                        tracing::debug!("{what}: {warning}");
                    }
                    times.push((file, DirTimes::take(&like).during(&what)?));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).during(&what),
            }
            ops::sync(&folder).during(&what)?;
        }
        Ok(Workplace { folder, times })
    }

    /// Removes the folders above the job's file on the cache that we made and that are empty now.
    pub(super) fn remove_empty_folders(&self, job: &Job) -> Vec<MadeFolder> {
        let mut removed = Vec::new();
        let mut next = job.action.path.parent();
        while let Some(path) = next {
            let id = (job.cache.path.clone(), path.clone());
            if !self.history.index().made.contains(&id) {
                break;
            }
            let gone = match Workplace::open_if_there(job.cache, &path) {
                Ok(Some(above)) => ops::remove_empty_folder(&above.folder, path.file_name())
                    .and_then(|gone| ops::sync(&above.folder).map(|()| gone)),
                Ok(None) => Ok(true),
                Err(error) => Err(error),
            };
            match gone {
                Ok(true) => removed.push(MadeFolder { root: id.0, path: id.1 }),
                Ok(false) => break,
                Err(error) => {
                    tracing::debug!("cannot remove the empty folder {path}: {error}");
                    break;
                }
            }
            next = path.parent();
        }
        removed
    }
}

/// A path of one component, whose folder is the root itself.
fn first_component(path: &MediaPath) -> MediaPath {
    let first = path.as_str().split('/').next().expect("a split has a first part");
    MediaPath::parse(first).expect("a component of a media path is a media path")
}
