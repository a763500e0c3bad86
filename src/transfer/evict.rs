//! Evicting a file: the array gets its content back where it does not have it, then the copy goes.
//!
//! What has to be done follows from what stands under the names now, by the table of `decide`; so the
//! same code serves the first attempt and the settling after a crash. The copy is removed last, after
//! the array's file was made durable and both were found by name to be what they should be.

use super::cache::{Place, Source, copy_trouble, is_our_link, not_wanted_by_a_writer, open_to_copy};
use super::decide::{ArrayName, CacheName, KeptName, Way, evict_way};
use super::engine::sys::is_opened_by_others;
use super::engine::{Watch, same_contents};
use super::folders::Workplace;
use super::{Attempt, During, Finished, Job, Transfer, Trouble, ops};
use crate::history::record::Published;
use crate::plan::Why;
use crate::tier::{Fingerprint, Folder, Kind, Stat};

/// What was seen under the names of a file.
struct Seen {
    array: ArrayName,
    kept: KeptName,
    copy: CacheName,
    array_stat: Option<Stat>,
    copy_stat: Option<Stat>,
}

impl Transfer<'_> {
    /// `published`: what an earlier attempt at this very action has put on the array already.
    pub(super) async fn evict(
        &self,
        job: &Job<'_>,
        published: Option<Published>,
        watch: &mut Watch<'_>,
    ) -> Attempt<Finished> {
        let (path, places) = (&job.action.path, job.places);
        let array = Workplace::open_if_there(job.array, path, places).during("opening the folder on the array")?;
        let cache = Workplace::open_if_there(job.cache, path, places).during("opening the folder on the cache")?;
        let (array_folder, cache_folder) = (array.as_deref(), cache.as_deref());
        let seen = look(job, array_folder, cache_folder, published)?;
        self.check_unused(job, cache_folder, &seen)?;
        let mut finished = Finished::default();
        let way = evict_way(job.action.placement, seen.array, seen.kept, seen.copy);
        tracing::debug!(path = %job.action.path, ?way, array = ?seen.array, kept = ?seen.kept, copy = ?seen.copy);
        // The two places are there whenever the table names a way that needs them.
        match (way, array_folder, cache_folder) {
            (Way::Leave(why), ..) => return Err(Trouble::Left(Why::Conflict, why.to_owned())),
            (Way::Vanished, ..) => finished.note = Some("neither tier has it any more".to_owned()),
            (Way::Forget, array, _) => {
                if let Some(array) = array.filter(|_| seen.kept == KeptName::Original) {
                    drop_kept_twin(job, array, watch).await?;
                }
                finished.note = Some("the cached copy was gone already".to_owned());
            }
            (Way::Restore | Way::CopyBack, ..) if self.is_elsewhere(job)? => {
                let detail = "another disk of the array has a file of that name, which this one would hide";
                return Err(Trouble::Left(Why::Conflict, detail.to_owned()));
            }
            (Way::DropCopy, Some(array), Some(cache)) => {
                if (seen.array, seen.kept) == (ArrayName::Replaced, KeptName::Original) {
                    // The same content as the copy that goes next, and as superseded.
                    ops::unlink(array, &job.names.kept).during("removing the older original")?;
                    job.sync(array).await.during("making its removal durable")?;
                }
                drop_copy(job, array, cache, &seen).await?;
            }
            (Way::DropIfEqual, Some(array), Some(cache)) => {
                if !equal(job, array, cache, watch)? {
                    let detail = "the array has another file of that name, and the copy differs from it";
                    return Err(Trouble::Left(Why::Conflict, detail.to_owned()));
                }
                drop_copy(job, array, cache, &seen).await?;
            }
            (Way::Restore, Some(array), cache) => {
                restore(job, array).await?;
                drop_after(job, array, cache).await?;
            }
            (Way::RestoreOverLink, Some(array), cache) => {
                restore_over_link(job, array).await?;
                drop_after(job, array, cache).await?;
            }
            (Way::CopyBack | Way::CopyBackOver, _, Some(cache)) => {
                self.copy_back(job, cache, &seen, way, &mut finished, watch).await?;
            }
            (_, None, _) | (_, _, None) => {
                return Err(Trouble::Failed("its folder went away meanwhile".to_owned()));
            }
        }
        if let Some(published) = published {
            drop_stale_kept(job, array_folder, published).await?;
        }
        finished.array = job.array.folder.stat_below(&job.action.path).ok().flatten().map(|stat| stat.fingerprint());
        finished.unmade = self.remove_empty_folders(job, job.cache).await?;
        Ok(finished)
    }

    /// Whether a disk of the map other than the job's has the file, put there since it was cached.
    pub(super) fn is_elsewhere(&self, job: &Job<'_>) -> Attempt<bool> {
        let Some(map) = self.tiers.map(&job.action.map) else { return Ok(false) };
        let found = map.find(&job.action.path).during("looking for it on the other disks")?;
        Ok(found.iter().any(|(root, _)| root.path != job.array.path))
    }

    /// A copy that somebody reads stays until the next run.
    fn check_unused(&self, job: &Job<'_>, cache: Option<&Folder>, seen: &Seen) -> Attempt<()> {
        if !self.options.skip_open_files || seen.copy == CacheName::Absent {
            return Ok(());
        }
        let Some(cache) = cache else { return Ok(()) };
        let file = match cache.open(&job.names.file) {
            Ok(file) => file,
            // A link; the table says what becomes of it.
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Ok(()),
            Err(error) => return Err(error).during("opening the copy"),
        };
        if is_opened_by_others(&file) == Some(true) {
            return Err(Trouble::Left(Why::Open, "somebody has it open".to_owned()));
        }
        Ok(())
    }

    /// Copies the cached file to the array, and then removes it from the cache.
    async fn copy_back(
        &self,
        job: &Job<'_>,
        cache: &Folder,
        seen: &Seen,
        way: Way,
        finished: &mut Finished,
        watch: &mut Watch<'_>,
    ) -> Attempt<()> {
        let file = &job.names.file;
        let source = open_to_copy(cache, file, seen.copy_stat.as_ref().map(Stat::fingerprint))?;
        let array = &*self.make_folders(job, job.array, job.cache).await?;
        let over = way == Way::CopyBackOver;
        let place = if over { Place::Over(seen.array_stat.as_ref()) } else { Place::Free };
        let published = self.copy_in(job, (array, job.array), &source, finished, watch, place).await?;
        job.publish(published).await;
        finished.bytes = source.stat.size;
        finished.checksum = Some(published.checksum);
        if over {
            // What was exchanged for the new content: the older original, or our link.
            ops::unlink(array, &job.names.old).during("removing what was replaced")?;
            job.sync(array).await.during("making its removal durable")?;
        }
        drop(source);
        let seen = look(job, Some(array), Some(cache), Some(published))?;
        if (seen.array, seen.copy) != (ArrayName::Original, CacheName::Ours) {
            return Err(Trouble::Left(Why::Changed, "it changed meanwhile; both copies stay".to_owned()));
        }
        drop_copy(job, array, cache, &seen).await?;
        drop_stale_kept(job, Some(array), published).await
    }
}

/// Looks again, after the original is back, and removes the copy if there is one.
async fn drop_after(job: &Job<'_>, array: &Folder, cache: Option<&Folder>) -> Attempt<()> {
    let seen = look(job, Some(array), cache, None)?;
    match (seen.array, seen.copy, cache) {
        (_, CacheName::Absent, _) => Ok(()),
        (ArrayName::Original, CacheName::Ours, Some(cache)) => drop_copy(job, array, cache, &seen).await,
        _ => Err(Trouble::Left(Why::Changed, "it changed meanwhile; both copies stay".to_owned())),
    }
}

/// What stands under the names now. What an earlier attempt has published counts as the original.
fn look(job: &Job<'_>, array: Option<&Folder>, cache: Option<&Folder>, published: Option<Published>) -> Attempt<Seen> {
    let names = &job.names;
    let stat = |folder: Option<&Folder>, name: &str| match folder {
        Some(folder) => folder.stat(name).during("looking at the file"),
        None => Ok(None),
    };
    let (array_stat, kept_stat, copy_stat) =
        (stat(array, &names.file)?, stat(array, &names.kept)?, stat(cache, &names.file)?);
    let is_link = |name: &str| array.map_or(Ok(false), |array| is_our_link(job, array, name));
    let is = |stat: &Stat, fingerprint: Option<Fingerprint>| Some(stat.fingerprint()) == fingerprint;
    let array_name = match &array_stat {
        None => ArrayName::Absent,
        Some(stat) if stat.kind == Kind::Link && is_link(&names.file)? => ArrayName::OurLink,
        Some(stat) if !stat.is_file() => ArrayName::Foreign,
        Some(stat) if is(stat, job.action.array) || is(stat, published.map(|p| p.copy)) => ArrayName::Original,
        Some(_) => ArrayName::Replaced,
    };
    let kept = match &kept_stat {
        None => KeptName::Absent,
        Some(stat) if stat.is_file() && is(stat, job.action.array) => KeptName::Original,
        Some(stat) if stat.kind == Kind::Link && is_link(&names.kept)? => KeptName::OurLink,
        Some(_) => KeptName::Foreign,
    };
    let copy = match &copy_stat {
        None => CacheName::Absent,
        Some(stat) if !stat.is_file() => CacheName::Foreign,
        Some(stat) if is(stat, published.map_or(job.action.copy, |p| Some(p.from))) => CacheName::Ours,
        Some(_) => CacheName::Changed,
    };
    Ok(Seen { array: array_name, kept, copy, array_stat, copy_stat })
}

fn equal(job: &Job<'_>, array: &Folder, cache: &Folder, watch: &mut Watch<'_>) -> Attempt<bool> {
    let file = &job.names.file;
    are_equal(&open_to_copy(array, file, None)?, &open_to_copy(cache, file, None)?, watch)
}

fn are_equal(one: &Source<'_>, other: &Source<'_>, watch: &mut Watch<'_>) -> Attempt<bool> {
    Ok(one.stat.size == other.stat.size && same_contents(&one.file, &other.file, watch).map_err(copy_trouble)?)
}

/// The mover has taken the copy to the array, beside the original that was kept: one of them is enough.
/// Where they differ both stay, and so they do when somebody is at work on either of them.
async fn drop_kept_twin(job: &Job<'_>, array: &Folder, watch: &mut Watch<'_>) -> Attempt<()> {
    let (file, kept) = (&job.names.file, &job.names.kept);
    let survivor = open_to_copy(array, file, None)?;
    let twin = open_to_copy(array, kept, job.action.array)?;
    let (survivor_lease, twin_lease) = (survivor.lease()?, twin.lease()?);
    if !are_equal(&survivor, &twin, watch)? {
        return Ok(());
    }
    make_durable(job, &survivor.file).await.during("making the file on the array durable")?;
    job.sync(array).await.during("making its name durable")?;
    for (source, lease) in [(&survivor, &survivor_lease), (&twin, &twin_lease)] {
        source.check_unchanged()?;
        not_wanted_by_a_writer(lease.as_ref())?;
    }
    ops::unlink(array, kept).during("removing the kept original")?;
    job.sync(array).await.during("making its removal durable")
}

/// Gives the kept original its name back.
async fn restore(job: &Job<'_>, array: &Folder) -> Attempt<()> {
    ops::rename(array, &job.names.kept, &job.names.file).during("giving the original its name back")?;
    job.sync(array).await.during("making the name of the original durable")
}

/// Puts the kept original in the place of our link, in one step.
async fn restore_over_link(job: &Job<'_>, array: &Folder) -> Attempt<()> {
    let (file, kept) = (&job.names.file, &job.names.kept);
    ops::exchange(array, kept, file).during("exchanging the link for the original")?;
    if !is_our_link(job, array, kept)? {
        ops::exchange(array, kept, file).during("exchanging them back")?;
        return Err(Trouble::Left(Why::Changed, "the link was replaced meanwhile".to_owned()));
    }
    job.sync(array).await.during("making the name of the original durable")?;
    if !is_our_link(job, array, kept)? {
        return Err(Trouble::Left(Why::Changed, "something has appeared under the kept name".to_owned()));
    }
    ops::unlink(array, kept).during("removing the link")?;
    job.sync(array).await.during("making the removal of the link durable")
}

/// Removes the cached copy, after what stays was made durable. It steps aside first, so that what is
/// removed is what was looked at. Nobody may be writing to either of them.
async fn drop_copy(job: &Job<'_>, array: &Folder, cache: &Folder, seen: &Seen) -> Attempt<()> {
    let (file, old) = (&job.names.file, &job.names.old);
    let changed = || Trouble::Left(Why::Changed, "it changed meanwhile; both copies stay".to_owned());
    let (Some(stays), Some(goes)) = (&seen.array_stat, &seen.copy_stat) else { return Err(changed()) };
    let survivor = open_to_copy(array, file, Some(stays.fingerprint()))?;
    let copy = open_to_copy(cache, file, Some(goes.fingerprint()))?;
    let (survivor_lease, copy_lease) = (survivor.lease()?, copy.lease()?);
    make_durable(job, &survivor.file).await.during("making the file on the array durable")?;
    job.sync(array).await.during("making its name durable")?;
    ops::rename(cache, file, old).during("setting the copy aside")?;
    let moved = cache.stat(old).during("looking at the copy")?;
    // Where everybody else finds it: its folder may have been renamed meanwhile.
    let named = job.array.folder.stat_below(&job.action.path);
    let is_good = moved.is_some_and(|moved| moved.is_file() && moved.fingerprint() == goes.fingerprint())
        && matches!(named, Ok(Some(named)) if named.is_file() && named.fingerprint() == stays.fingerprint())
        && not_wanted_by_a_writer(survivor_lease.as_ref()).is_ok()
        && not_wanted_by_a_writer(copy_lease.as_ref()).is_ok();
    if !is_good {
        ops::rename(cache, old, file).during("putting the copy back")?;
        job.sync(cache).await.during("making the copy's name durable")?;
        return Err(changed());
    }
    ops::unlink(cache, old).during("removing the copy")?;
    job.sync(cache).await.during("making the removal of the copy durable")
}

/// `fsync`, except where the array is shared read-only and nothing can be waiting to be written.
async fn make_durable(job: &Job<'_>, file: &std::fs::File) -> std::io::Result<()> {
    match job.sync_file(file).await {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EROFS | libc::EINVAL)) => Ok(()),
        result => result,
    }
}

/// Removes the kept original that is older than what was copied back over it.
async fn drop_stale_kept(job: &Job<'_>, array: Option<&Folder>, published: Published) -> Attempt<()> {
    let Some(array) = array else { return Ok(()) };
    let (file, kept) = (&job.names.file, &job.names.kept);
    let newer = array.stat(file).during("looking at the file on the array")?;
    let older = array.stat(kept).during("looking at the kept original")?;
    let is_stale = newer.is_some_and(|newer| newer.is_file() && newer.fingerprint() == published.copy)
        && older.is_some_and(|older| older.is_file() && Some(older.fingerprint()) == job.action.array);
    if is_stale {
        ops::unlink(array, kept).during("removing the older original")?;
        job.sync(array).await.during("making its removal durable")?;
    }
    Ok(())
}
