//! Settling what a crash cut short: looks at every name the action could have used, and finishes the
//! action or takes it back.
//!
//! Past the point where a copy was published an action is rolled forward as long as that copy is what
//! was recorded; before it, or when the copy is not good, everything is put back. Only temporary names
//! of the very action are removed, and only when what stands there is known not to be the last of its
//! kind. Every step looks before it acts, so settling can itself be cut short at any point.

use std::io;

use super::cache::{copy_trouble, is_our_link, open_to_copy, take_copy_back, take_original_away};
use super::engine::{CopyError, Watch, checksum, same_contents};
use super::folders::{Workplace, half_made_in};
use super::{Attempt, During, Finished, Job, Names, Transfer, Trouble, ops};
use crate::config::Placement;
use crate::history::record::Published;
use crate::plan::{self, Why};
use crate::tier::{Fingerprint, Folder, Kind, Root, Stat};

impl Transfer<'_> {
    pub(super) async fn settle_cache(
        &self,
        job: &Job<'_>,
        published: Option<Published>,
        watch: &mut Watch<'_>,
    ) -> Attempt<Finished> {
        let (path, places) = (&job.action.path, job.places);
        let array = Workplace::open_if_there(job.array, path, places).during("opening the folder on the array")?;
        let cache = Workplace::open_if_there(job.cache, path, places).during("opening the folder on the cache")?;
        make_names_durable([&array, &cache])?;
        finish_renames(job, array.as_ref(), cache.as_ref())?;
        remove_half_made(job, job.cache)?;
        if let Some(array) = array.as_ref().filter(|_| may_have_moved(job, published)) {
            give_back_what_stepped_aside(job, array)?;
        }
        match (&array, &cache) {
            (array, Some(cache)) => {
                remove_part(cache, &job.names.part)?;
                finish_caching(job, array.as_deref(), cache, published, watch).await
            }
            (Some(array), None) if may_have_moved(job, published) => {
                put_original_back(job, array).and(Err(taken_back()))
            }
            (_, None) => Err(taken_back()),
        }
    }

    pub(super) async fn settle_evict(
        &self,
        job: &Job<'_>,
        published: Option<Published>,
        watch: &mut Watch<'_>,
    ) -> Attempt<Finished> {
        let Names { file, kept, part, .. } = &job.names;
        let (path, places) = (&job.action.path, job.places);
        let array = Workplace::open_if_there(job.array, path, places).during("opening the folder on the array")?;
        let cache = Workplace::open_if_there(job.cache, path, places).during("opening the folder on the cache")?;
        make_names_durable([&array, &cache])?;
        finish_renames(job, array.as_ref(), cache.as_ref())?;
        remove_half_made(job, job.array)?;
        if let Some(cache) = &cache {
            put_copy_back(job, array.as_deref(), cache, published)?;
        }
        if let Some(array) = &array {
            remove_part(array, part)?;
        }
        // Before what it replaced goes.
        let published = match (&array, &cache, published) {
            (Some(array), Some(cache), None) => publish_copied_back(job, array, cache, watch).await?,
            (.., published) => published,
        };
        if let Some(array) = &array {
            settle_replaced(job, array, cache.as_deref(), published, watch)?;
            give_back_what_was_exchanged(job, array)?;
            let restored = array.stat(file).during("looking at the original")?.is_some_and(|stat| stat.is_file());
            if restored && is_our_link(job, array, kept)? {
                ops::unlink(array, kept).during("removing the link")?;
                ops::sync(array).during("making the removal of the link durable")?;
            }
        }
        drop((array, cache));
        self.evict(job, published, watch).await
    }
}

async fn finish_caching(
    job: &Job<'_>,
    array: Option<&Folder>,
    cache: &Folder,
    published: Option<Published>,
    watch: &mut Watch<'_>,
) -> Attempt<Finished> {
    let recorded = match published {
        Some(published) => is_good(job, cache, published, watch)?.then_some(published),
        None => publish_unrecorded(job, array, cache, watch).await?,
    };
    let Some(published) = recorded else {
        if let Some(array) = array.filter(|_| may_have_moved(job, published)) {
            put_original_back(job, array)?;
            if let Some(published) = published {
                // What is there has the name and the times of the copy, and other contents.
                take_copy_back(job, array, cache, published.copy).await?;
            }
        }
        return Err(taken_back());
    };
    if let Some(array) = array {
        roll_forward(job, array, cache, published).await?;
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
async fn publish_unrecorded(
    job: &Job<'_>,
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
    let source = match open_to_copy(array, name, Some(expected)) {
        Ok(source) => source,
        // Gone, or another one by now.
        Err(Trouble::Left(..)) => {
            take_copy_back(job, array, cache, there.fingerprint()).await?;
            return Ok(None);
        }
        // An original that cannot be read is no reason to give up its copy.
        Err(trouble) => return Err(trouble),
    };
    let copy = cache.open(name).during("opening the copy")?;
    if !same_contents(&source.file, &copy, watch).map_err(undecided)? {
        return Ok(None);
    }
    copy.sync_all().during("making the copy durable")?;
    ops::sync(cache).during("making the copy's name durable")?;
    let checksum = checksum(&copy, watch).map_err(undecided)?;
    let published = Published { from: expected, copy: there.fingerprint(), checksum };
    job.publish(published).await;
    Ok(Some(published))
}

/// What was copied back got its name and the crash came before that was recorded. It counts when it
/// is equal to the cached file, unless it was exchanged for something that somebody has just put there.
async fn publish_copied_back(
    job: &Job<'_>,
    array: &Folder,
    cache: &Folder,
    watch: &mut Watch<'_>,
) -> Attempt<Option<Published>> {
    let name = &job.names.file;
    let named = array.stat(name).during("looking at the file on the array")?;
    let copy = cache.stat(name).during("looking at the copy")?;
    let (Some(named), Some(copy)) = (named, copy) else { return Ok(None) };
    let looks_ours = named.is_file() && copy.is_file() && named.size == copy.size;
    if !looks_ours || Some(named.fingerprint()) == job.action.array {
        return Ok(None);
    }
    let replaced = array.stat(&job.names.old).during("looking at what it replaced")?;
    if replaced.is_some() && !was_there_before(job, array, &job.names.old)? {
        return Ok(None);
    }
    let named = open_to_copy(array, name, Some(named.fingerprint()))?;
    let copy = open_to_copy(cache, name, Some(copy.fingerprint()))?;
    if !same_contents(&named.file, &copy.file, watch).map_err(undecided)? {
        return Ok(None);
    }
    named.file.sync_all().during("making the file on the array durable")?;
    ops::sync(array).during("making its name durable")?;
    let checksum = checksum(&named.file, watch).map_err(undecided)?;
    let published = Published { from: copy.stat.fingerprint(), copy: named.stat.fingerprint(), checksum };
    job.publish(published).await;
    Ok(Some(published))
}

/// Whether nothing is left of an action that was not done, besides folders.
pub(super) fn leaves_nothing(job: &Job<'_>, published: Option<Published>) -> Attempt<bool> {
    let Names { file, kept, part, old, link } = &job.names;
    let there = |root: &Root| match root.folder.parent_of(&job.action.path) {
        Ok(folder) => Ok(Some(folder)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).during("opening a folder"),
    };
    let (array, cache) = (there(job.array)?, there(job.cache)?);
    let stat = |folder: &Option<Folder>, name: &str| -> Attempt<Option<Stat>> {
        let stat = folder.as_ref().map(|folder| folder.stat(name)).transpose();
        Ok(stat.during("looking at the file")?.flatten())
    };
    for (folder, root) in [(&array, job.array), (&cache, job.cache)] {
        for name in [part, old, link] {
            if stat(folder, name)?.is_some() {
                return Ok(false);
            }
        }
        if !half_made_in(job, root).during("looking for an unfinished folder")?.is_empty() {
            return Ok(false);
        }
    }
    let is_original =
        |name: &str| -> Attempt<bool> { Ok(is_file_like(stat(&array, name)?.as_ref(), job.action.array)) };
    let is_link = |name: &str| array.as_ref().map_or(Ok(false), |array| is_our_link(job, array, name));
    match job.action.kind {
        // What was published is finished by settling, which alone knows of it, unless somebody has changed it
        // since: then the record tells nothing more. What lacks nothing but the record, or an empty folder's
        // removal, is finished too.
        plan::Kind::Evict => {
            let copied_back = published.map(|published| published.copy);
            let is_published = copied_back.is_some() && is_file_like(stat(&array, file)?.as_ref(), copied_back);
            let is_gone = stat(&cache, file)?.is_none() && stat(&array, file)?.is_some_and(|stat| stat.is_file());
            Ok(!is_published && !is_gone && !is_link(kept)?)
        }
        plan::Kind::Cache => {
            let is_aside = stat(&array, kept)?.is_some_and(|stat| stat.is_file()) && stat(&array, file)?.is_none();
            let is_half_moved =
                may_have_moved(job, published) && (is_aside || (is_original(kept)? && !is_original(file)?));
            let copy = published.map(|published| published.copy);
            let is_published = copy.is_some() && is_file_like(stat(&cache, file)?.as_ref(), copy);
            let is_linked = may_have_moved(job, published) && is_link(file)?;
            Ok(!is_half_moved && !is_published && !is_linked)
        }
    }
}

/// A comparison that did not come to its end decides nothing: the action stays open.
fn undecided(error: CopyError) -> Trouble {
    match copy_trouble(error) {
        Trouble::Left(_, text) | Trouble::Failed(text) => Trouble::Failed(text),
    }
}

/// What the interrupted run did last may not be on disk yet, and what is found done is not done again.
fn make_names_durable(places: [&Option<Workplace>; 2]) -> Attempt<()> {
    for folder in places.into_iter().flatten() {
        match ops::sync(folder) {
            // On an array that is shared read-only nothing can be waiting to be written.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EROFS | libc::EINVAL)) => {}
            result => result.during("making the names durable")?,
        }
    }
    Ok(())
}

/// Where renaming took a link and an unlink (see [`ops::rename`]), a crash between them leaves both
/// names; the second one goes.
fn finish_renames(job: &Job<'_>, array: Option<&Workplace>, cache: Option<&Workplace>) -> Attempt<()> {
    let Names { file, kept, part, old, link } = &job.names;
    let keeps = matches!(job.action.placement, Placement::Hide | Placement::Symlink);
    for (place, name, second) in [
        (cache, file, part),
        (cache, file, old),
        (array, file, part),
        (array, file, old),
        (array, kept, link),
        (array.filter(|_| keeps), file, kept),
    ] {
        let Some(folder) = place else { continue };
        let (one, other) = (folder.stat(name), folder.stat(second));
        let (one, other) = (one.during("looking at the file")?, other.during("looking at the file")?);
        let is_one_file = one.zip(other).is_some_and(|(one, other)| {
            one.is_file() && other.is_file() && (one.dev, one.ino) == (other.dev, other.ino)
        });
        if is_one_file {
            ops::unlink(folder, second).during("removing a second name")?;
            ops::sync(folder).during("making its removal durable")?;
        }
    }
    Ok(())
}

/// Removes a folder that was being made.
fn remove_half_made(job: &Job<'_>, at: &Root) -> Attempt<()> {
    for above in half_made_in(job, at).during("looking for an unfinished folder")? {
        let removed = ops::remove_empty_folder(&above, &job.names.part);
        removed.and_then(|_| ops::sync(&above)).during("removing an unfinished folder")?;
    }
    Ok(())
}

/// Somebody replaced the link just before the original was exchanged for it, and the crash came before
/// they were exchanged back: what is newer belongs under the name.
fn give_back_what_was_exchanged(job: &Job<'_>, array: &Folder) -> Attempt<()> {
    let Names { file, kept, .. } = &job.names;
    if job.action.placement != Placement::Symlink {
        return Ok(());
    }
    let named = array.stat(file).during("looking at the original")?;
    let newer = array.stat(kept).during("looking at the kept original")?;
    let is_newer = newer.is_some_and(|newer| newer.is_file() && Some(newer.fingerprint()) != job.action.array);
    if is_newer && is_file_like(named.as_ref(), job.action.array) {
        ops::exchange(array, kept, file).during("exchanging them back")?;
        ops::sync(array).during("making the names durable")?;
    }
    Ok(())
}

/// Somebody replaced the original just before it was to step aside, and the crash came before what had
/// stepped aside in its stead got its name back. The temporary names are ours alone, and a kept original
/// was looked for before the action began.
fn give_back_what_stepped_aside(job: &Job<'_>, array: &Folder) -> Attempt<()> {
    let Names { file, kept, old, link, .. } = &job.names;
    let aside = match job.action.placement {
        Placement::Copy => return Ok(()),
        Placement::Hide => kept,
        Placement::Move => old,
        Placement::Symlink => link,
    };
    let stepped_aside = array.stat(aside).during("looking at what stepped aside")?;
    let is_newer = stepped_aside.is_some_and(|stat| stat.is_file() && Some(stat.fingerprint()) != job.action.array);
    if !is_newer {
        return Ok(());
    }
    if array.stat(file).during("looking at the original")?.is_none() {
        ops::rename(array, aside, file).during("giving somebody's file its name back")?;
    } else if is_our_link(job, array, file)? {
        ops::exchange(array, aside, file).during("exchanging the link for somebody's file")?;
    } else {
        return Ok(());
    }
    ops::sync(array).during("making the name of somebody's file durable")
}

fn taken_back() -> Trouble {
    Trouble::Left(Why::NotReached, "it was interrupted and has been taken back".to_owned())
}

fn is_file_like(stat: Option<&Stat>, fingerprint: Option<Fingerprint>) -> bool {
    stat.is_some_and(|stat| stat.is_file() && Some(stat.fingerprint()) == fingerprint)
}

/// Whether `name` stands for what the array had when the action began: the original, or our link.
fn was_there_before(job: &Job<'_>, array: &Folder, name: &str) -> Attempt<bool> {
    let stat = array.stat(name).during("looking at the file on the array")?;
    Ok(is_file_like(stat.as_ref(), job.action.array) || is_our_link(job, array, name)?)
}

/// Removes the unfinished copy of the action.
fn remove_part(folder: &Folder, part: &str) -> Attempt<()> {
    match folder.stat(part).during("looking for a temporary file")? {
        Some(stat) if stat.is_file() => {
            ops::unlink(folder, part).during("removing the temporary file")?;
            ops::sync(folder).during("making its removal durable")
        }
        _ => Ok(()),
    }
}

/// Whether the published copy is still what was recorded, bytes included: a crash is when disks lie.
fn is_good(job: &Job<'_>, cache: &Folder, published: Published, watch: &mut Watch<'_>) -> Attempt<bool> {
    let there = cache.stat(&job.names.file).during("looking at the copy")?;
    if !is_file_like(there.as_ref(), Some(published.copy)) {
        return Ok(false);
    }
    let file = cache.open(&job.names.file).during("opening the copy")?;
    Ok(checksum(&file, watch).map_err(undecided)? == published.checksum)
}

/// From a good published copy to the end of the action, wherever it was cut short.
async fn roll_forward(job: &Job<'_>, array: &Folder, cache: &Folder, published: Published) -> Attempt<()> {
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
        let source = open_to_copy(array, file, original)?;
        return take_original_away(job, array, cache, &source, published.copy).await;
    }
    if is_file_like(stat(aside)?.as_ref(), original) {
        match job.action.placement {
            Placement::Move => ops::unlink(array, old).during("removing the original")?,
            Placement::Symlink if stat(kept)?.is_some() => {
                put_original_back(job, array)?;
                take_copy_back(job, array, cache, published.copy).await?;
                return Err(Trouble::Left(Why::Conflict, format!("somebody has made a {kept}")));
            }
            Placement::Symlink => {
                ops::rename(array, link, kept).during("keeping the original beside its link")?;
            }
            Placement::Copy | Placement::Hide => {}
        }
        return ops::sync(array).during("making the names durable");
    }
    // Whatever stands under the name by now, the original is kept; the eviction will find out.
    let is_kept = job.action.placement == Placement::Symlink && is_file_like(stat(kept)?.as_ref(), original);
    if is_kept || named.is_none() {
        // Without a file on the array the copy is the only one, and ours to look after.
        return ops::sync(array).during("making the names durable");
    }
    take_copy_back(job, array, cache, published.copy).await?;
    Err(Trouble::Left(Why::Changed, "the original was replaced while the action was interrupted".to_owned()))
}

/// Whether the action can have moved the original. Not one that adopts what lies on the cache, before it
/// has published that: an original that is under its kept name then was put there by somebody else.
fn may_have_moved(job: &Job<'_>, published: Option<Published>) -> bool {
    published.is_some() || job.action.copy.is_none()
}

/// Gives the original its name back when the copy is of no use.
fn put_original_back(job: &Job<'_>, array: &Folder) -> Attempt<()> {
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
fn put_copy_back(job: &Job<'_>, array: Option<&Folder>, cache: &Folder, published: Option<Published>) -> Attempt<()> {
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

/// What stands beside the array's name for the exchange: the whole copy that was to be put there, or what
/// it was exchanged for. The latter goes only when it was ours or the older original, and the newer
/// content is there whole; what somebody else has put there meanwhile gets its name back.
fn settle_replaced(
    job: &Job<'_>,
    array: &Folder,
    cache: Option<&Folder>,
    published: Option<Published>,
    watch: &mut Watch<'_>,
) -> Attempt<()> {
    let Names { file, old, .. } = &job.names;
    let stat = |name: &str| array.stat(name).during("looking at the file on the array");
    let mut is_newest = |name: &str| -> Attempt<bool> {
        if !stat(name)?.is_some_and(|stat| stat.is_file()) {
            return Ok(false);
        }
        let Some(cache) = cache.filter(|cache| matches!(cache.stat(file), Ok(Some(stat)) if stat.is_file())) else {
            return Ok(false);
        };
        let (one, other) = (open_to_copy(array, name, None)?, open_to_copy(cache, file, None)?);
        same_contents(&one.file, &other.file, watch).map_err(undecided)
    };
    let Some(aside) = stat(old)? else { return Ok(()) };
    let published = published.map(|published| published.copy);
    let named = stat(file)?;
    let goes = if was_there_before(job, array, old)? || is_file_like(Some(&aside), published) {
        if named.is_none() {
            ops::rename(array, old, file).during("giving the original its name back")?;
            return ops::sync(array).during("making the name of the original durable");
        }
        is_file_like(named.as_ref(), published) || is_newest(file)?
    } else if was_there_before(job, array, file)? || is_newest(old)? {
        // Not exchanged yet.
        true
    } else if is_newest(file)? {
        ops::exchange(array, old, file).during("giving somebody's file its name back")?;
        ops::sync(array).during("making its name durable")?;
        true
    } else {
        false
    };
    if !goes {
        return Err(Trouble::Left(Why::Conflict, format!("{old} is not what {file} was exchanged for; both stay")));
    }
    ops::unlink(array, old).during("removing what is superseded")?;
    ops::sync(array).during("making its removal durable")
}
