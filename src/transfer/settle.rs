//! Settling what a crash cut short: looks at every name the action could have used, and finishes the
//! action or takes it back.
//!
//! Past the point where a copy was published an action is rolled forward as long as that copy is what
//! was recorded; before it, or when the copy is not good, everything is put back. Only temporary names
//! of the very action are removed, and only when what stands there is known not to be the last of its
//! kind. Every step looks before it acts, so settling can itself be cut short at any point.

use super::cache::{copy_trouble, is_our_link, open_to_copy, take_copy_back};
use super::engine::{Watch, checksum, same_contents};
use super::folders::Workplace;
use super::{Attempt, During, Finished, Job, Names, Transfer, Trouble, ops};
use crate::config::Placement;
use crate::history::record::Published;
use crate::plan::Why;
use crate::tier::{Fingerprint, Folder, Kind, Stat};

impl Transfer<'_> {
    pub(super) fn settle_cache(
        &mut self,
        job: &Job,
        published: Option<Published>,
        watch: &mut Watch<'_>,
    ) -> Attempt<Finished> {
        let array = Workplace::open_if_there(job.array, &job.action.path).during("opening the folder on the array")?;
        let cache = Workplace::open_if_there(job.cache, &job.action.path).during("opening the folder on the cache")?;
        let result = match (&array, &cache) {
            (array, Some(cache)) => {
                remove_part(&cache.folder, &job.names.part, None)?;
                self.finish_caching(job, array.as_ref().map(|a| &a.folder), &cache.folder, published, watch)
            }
            (Some(array), None) => put_original_back(job, &array.folder).and(Err(taken_back())),
            (None, None) => Err(taken_back()),
        };
        drop(cache);
        if let Err(Trouble::Left(..) | Trouble::Failed(_)) = result {
            self.remove_empty_folders(job);
        }
        result
    }

    fn finish_caching(
        &mut self,
        job: &Job,
        array: Option<&Folder>,
        cache: &Folder,
        published: Option<Published>,
        watch: &mut Watch<'_>,
    ) -> Attempt<Finished> {
        let recorded = match published {
            Some(published) => is_good(job, cache, published, watch)?.then_some(published),
            None => self.publish_unrecorded(job, array, cache, watch)?,
        };
        let Some(published) = recorded else {
            if let Some(array) = array {
                put_original_back(job, array)?;
            }
            return Err(taken_back());
        };
        if let Some(array) = array {
            roll_forward(job, array, cache, published)?;
        }
        Ok(Finished {
            array: job.action.array,
            copy: Some(published.copy),
            checksum: Some(published.checksum),
            bytes: job.action.size,
            ..Finished::default()
        })
    }

    /// The copy got its name and the crash came before that was recorded. It counts when the original
    /// is still what it was and both are equal. A whole copy of an original that is another one by now
    /// is taken back.
    fn publish_unrecorded(
        &mut self,
        job: &Job,
        array: Option<&Folder>,
        cache: &Folder,
        watch: &mut Watch<'_>,
    ) -> Attempt<Option<Published>> {
        let (name, Some(expected)) = (&job.names.file, job.action.array) else { return Ok(None) };
        let (Some(array), Some(there)) = (array, cache.stat(name).during("looking at the copy")?) else {
            return Ok(None);
        };
        let looks_ours = there.is_file() && (there.size, there.mtime_ns) == (expected.size, expected.mtime_ns);
        if job.action.copy.is_some() || !looks_ours {
            return Ok(None);
        }
        let Ok(source) = open_to_copy(array, name, Some(expected)) else {
            take_copy_back(array, cache, name, there.fingerprint())?;
            return Ok(None);
        };
        let copy = cache.open(name).during("opening the copy")?;
        if !same_contents(&source.file, &copy, watch).map_err(copy_trouble)? {
            return Ok(None);
        }
        copy.sync_all().during("making the copy durable")?;
        ops::sync(cache).during("making the copy's name durable")?;
        let checksum = checksum(&copy, watch).map_err(copy_trouble)?;
        let published = Published { from: expected, copy: there.fingerprint(), checksum };
        self.publish(job, published)?;
        Ok(Some(published))
    }

    pub(super) fn settle_evict(
        &mut self,
        job: &Job,
        published: Option<Published>,
        watch: &mut Watch<'_>,
    ) -> Attempt<Finished> {
        let Names { file, kept, part, old, .. } = &job.names;
        let array = Workplace::open_if_there(job.array, &job.action.path).during("opening the folder on the array")?;
        let cache = Workplace::open_if_there(job.cache, &job.action.path).during("opening the folder on the cache")?;
        if let Some(Workplace { folder: cache, .. }) = &cache {
            put_copy_back(job, array.as_ref().map(|array| &array.folder), cache, published)?;
            tracing::debug!("{old} is settled");
        }
        if let Some(Workplace { folder: array, .. }) = &array {
            if is_our_link(job, array, part)? {
                // The link was exchanged for the content that was copied back.
                ops::unlink(array, part).during("removing the link")?;
            }
            settle_replaced(job, array, cache.as_ref().map(|cache| &cache.folder), published, watch)?;
            let restored = array.stat(file).during("looking at the original")?.is_some_and(|stat| stat.is_file());
            if restored && is_our_link(job, array, kept)? {
                ops::unlink(array, kept).during("removing the link")?;
                ops::sync(array).during("making the removal of the link durable")?;
            }
        }
        drop((array, cache));
        self.evict(job, published, watch)
    }
}

fn taken_back() -> Trouble {
    Trouble::Left(Why::NotReached, "it was interrupted and has been taken back".to_owned())
}

fn is_file_like(stat: Option<&Stat>, fingerprint: Option<Fingerprint>) -> bool {
    stat.is_some_and(|stat| stat.is_file() && Some(stat.fingerprint()) == fingerprint)
}

/// Removes the temporary file of the action, unless it is what `but_not` says.
fn remove_part(folder: &Folder, part: &str, but_not: Option<Fingerprint>) -> Attempt<()> {
    match folder.stat(part).during("looking for a temporary file")? {
        Some(stat) if stat.is_file() && Some(stat.fingerprint()) != but_not => {
            ops::unlink(folder, part).during("removing the temporary file")?;
            ops::sync(folder).during("making its removal durable")
        }
        _ => Ok(()),
    }
}

/// Whether the published copy is still what was recorded, bytes included: a crash is when disks lie.
fn is_good(job: &Job, cache: &Folder, published: Published, watch: &mut Watch<'_>) -> Attempt<bool> {
    let there = cache.stat(&job.names.file).during("looking at the copy")?;
    if !is_file_like(there.as_ref(), Some(published.copy)) {
        return Ok(false);
    }
    let file = cache.open(&job.names.file).during("opening the copy")?;
    Ok(checksum(&file, watch).map_err(copy_trouble)? == published.checksum)
}

/// From a good published copy to the end of the action, wherever it was cut short.
fn roll_forward(job: &Job, array: &Folder, cache: &Folder, published: Published) -> Attempt<()> {
    let Names { file, kept, old, link, .. } = &job.names;
    let original = job.action.array;
    let stat = |name: &str| array.stat(name).during("looking at the original");
    let aside = match job.action.placement {
        // Should the original be another one by now, the eviction will find out.
        Placement::Copy => return Ok(()),
        Placement::Hide => kept,
        Placement::Move => old,
        Placement::Symlink => link,
    };
    if is_our_link(job, array, link)? {
        // Not exchanged yet: the link is still beside the original.
        ops::unlink(array, link).during("removing the link")?;
    }
    let named = stat(file)?;
    if is_file_like(named.as_ref(), original) {
        let named = named.expect("it was just found to be a file");
        return Transfer::take_original_away(job, array, cache, &named, published.copy);
    }
    if is_file_like(stat(aside)?.as_ref(), original) {
        match job.action.placement {
            Placement::Move => ops::unlink(array, old).during("removing the original")?,
            Placement::Symlink if stat(kept)?.is_none() => {
                ops::rename(array, link, kept).during("keeping the original beside its link")?;
            }
            Placement::Copy | Placement::Hide | Placement::Symlink => {}
        }
        return ops::sync(array).during("making the names durable");
    }
    let is_done = match job.action.placement {
        Placement::Move | Placement::Copy => named.is_none(),
        Placement::Hide => false,
        Placement::Symlink => is_our_link(job, array, file)? && is_file_like(stat(kept)?.as_ref(), original),
    };
    if is_done || named.is_none() {
        // Without a file on the array the copy is the only one, and ours to look after.
        return ops::sync(array).during("making the names durable");
    }
    take_copy_back(array, cache, file, published.copy)?;
    Err(Trouble::Left(Why::Changed, "the original was replaced while the action was interrupted".to_owned()))
}

/// Gives the original its name back when the copy is of no use.
fn put_original_back(job: &Job, array: &Folder) -> Attempt<()> {
    let Names { file, kept, old, link, .. } = &job.names;
    let original = job.action.array;
    if is_our_link(job, array, link)? {
        ops::unlink(array, link).during("removing the link")?;
    }
    let aside: &[&String] = match job.action.placement {
        Placement::Copy => &[],
        Placement::Hide => &[kept],
        Placement::Move => &[old],
        Placement::Symlink => &[link, kept],
    };
    for name in aside {
        let there = array.stat(name).during("looking at the original")?;
        if !is_file_like(there.as_ref(), original) {
            continue;
        }
        if array.stat(file).during("looking at the original")?.is_none() {
            ops::rename(array, name, file).during("giving the original its name back")?;
        } else if is_our_link(job, array, file)? {
            ops::exchange(array, name, file).during("exchanging the link for the original")?;
            if is_our_link(job, array, name)? {
                ops::unlink(array, name).during("removing the link")?;
            }
        }
        ops::sync(array).during("making the name of the original durable")?;
    }
    Ok(())
}

/// A copy that had stepped aside to be removed gets its name back, and the eviction decides anew; it is
/// removed only when its name is taken again and the array has what it should have.
fn put_copy_back(job: &Job, array: Option<&Folder>, cache: &Folder, published: Option<Published>) -> Attempt<()> {
    let Names { file, old, .. } = &job.names;
    match cache.stat(old).during("looking for a copy set aside")? {
        Some(stat) if stat.kind == Kind::File => {}
        _ => return Ok(()),
    }
    if cache.stat(file).during("looking at the copy")?.is_none() {
        ops::rename(cache, old, file).during("putting the copy back")?;
        return ops::sync(cache).during("making the copy's name durable");
    }
    let named = match array {
        Some(array) => array.stat(file).during("looking at the file on the array")?,
        None => None,
    };
    let array_is_good = is_file_like(named.as_ref(), job.action.array)
        || is_file_like(named.as_ref(), published.map(|published| published.copy));
    if array_is_good {
        ops::unlink(cache, old).during("removing the copy")?;
        return ops::sync(cache).during("making the removal of the copy durable");
    }
    Err(Trouble::Left(Why::Conflict, format!("{old} and {file} are both on the cache; both stay")))
}

/// The temporary file beside the array's name: what was being copied back, which goes; or the older
/// original that the content was exchanged for, which goes only when the newer one is there whole.
fn settle_replaced(
    job: &Job,
    array: &Folder,
    cache: Option<&Folder>,
    published: Option<Published>,
    watch: &mut Watch<'_>,
) -> Attempt<()> {
    let Names { file, part, .. } = &job.names;
    remove_part(array, part, job.action.array)?;
    if !is_file_like(array.stat(part).during("looking at the older original")?.as_ref(), job.action.array) {
        return Ok(());
    }
    let Some(named) = array.stat(file).during("looking at the file on the array")? else {
        ops::rename(array, part, file).during("giving the original its name back")?;
        return ops::sync(array).during("making the name of the original durable");
    };
    let is_newer = is_file_like(Some(&named), published.map(|published| published.copy)) || {
        let one = open_to_copy(array, file, None)?;
        let other = cache.map(|cache| open_to_copy(cache, file, None)).transpose()?;
        match other {
            Some(other) if one.stat.size == other.stat.size => {
                same_contents(&one.file, &other.file, watch).map_err(copy_trouble)?
            }
            _ => false,
        }
    };
    if !is_newer {
        return Err(Trouble::Left(Why::Conflict, format!("{part} is the original, and {file} is another file")));
    }
    ops::unlink(array, part).during("removing the older original")?;
    ops::sync(array).during("making its removal durable")
}
