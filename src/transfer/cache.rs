//! Caching a file: a second copy on the cache, and then what the placement does with the original.
//!
//! The original is not touched before the copy is complete, durable, verified, under its final name and
//! recorded as published; and then only if it is still exactly what was copied. A copy that turns out
//! to be of something older is taken back, unless it has become the only one.

use std::cell::Cell;
use std::fs::File;
use std::ops::ControlFlow;

use super::engine::metadata::copy_metadata;
use super::engine::sys::{Lease, LeaseState, is_opened_by_others, read_lease};
use super::engine::{CopyError, Stop, Watch, checksum, same_contents, write_contents};
use super::folders::Workplace;
use super::{Attempt, During, Finished, Job, Names, Transfer, Trouble, has_room, ops};
use crate::checksum::Checksum;
use crate::config::Placement;
use crate::history::record::Published;
use crate::plan::Why;
use crate::tier::{Fingerprint, Folder, Kind, MAX_NAME, Root, Stat, Tier};

impl Transfer<'_> {
    pub(super) async fn cache(&self, job: &Job<'_>, watch: &mut Watch<'_>) -> Attempt<Finished> {
        if let Some(finished) = self.take_over_lone(job, watch)? {
            return Ok(finished);
        }
        let array = Workplace::open(job.array, &job.action.path, job.places)
            .map_err(|error| Trouble::Left(Why::Unavailable, format!("its folder on the array: {error}")))?;
        if let Some(finished) = take_over(job, &array, watch).await? {
            return Ok(finished);
        }
        let source = open_to_copy(&array, &job.names.file, job.action.array)?;
        self.check_placement(job, &array, &source)?;
        self.cache_from(job, &array, &source, watch).await
    }

    /// A file that is on the cache alone, as `PlexCache-D` leaves it that keeps no backups: it is read once, to
    /// be known from now on, and recorded as moved. Nothing is touched and nothing is published, so that a
    /// crash leaves nothing to settle. `None` for all others.
    fn take_over_lone(&self, job: &Job<'_>, watch: &mut Watch<'_>) -> Attempt<Option<Finished>> {
        let Some(copy) = job.action.copy.filter(|_| job.action.array.is_none()) else { return Ok(None) };
        if job.action.placement != Placement::Move {
            return Ok(None);
        }
        let Names { file, kept, .. } = &job.names;
        let is_on = |name: &str| -> Attempt<bool> {
            let array = Workplace::open_if_there(job.array, &job.action.path, job.places)
                .during("opening the folder on the array")?;
            let stat = array.map(|array| array.stat(name)).transpose();
            Ok(stat.during("looking at the array")?.flatten().is_some())
        };
        if is_on(file)? || is_on(kept)? || self.is_elsewhere(job)? {
            return Err(Trouble::Left(Why::Changed, "the array has a file of that name by now".to_owned()));
        }
        let cache =
            Workplace::open(job.cache, &job.action.path, job.places).during("opening the folder on the cache")?;
        let source = open_to_copy(&cache, file, Some(copy))?;
        let _lease = source.lease()?;
        let checksum = checksum(&source.file, watch).map_err(copy_trouble)?;
        source.check_unchanged()?;
        Ok(Some(Finished { copy: Some(copy), checksum: Some(checksum), ..Finished::default() }))
    }

    /// What the placement needs of the original beyond its contents.
    fn check_placement(&self, job: &Job<'_>, array: &Folder, source: &Source) -> Attempt<()> {
        let placement = job.action.placement;
        if placement == Placement::Copy {
            return Ok(());
        }
        if placement == Placement::Move && source.stat.links > 1 {
            let detail = format!("{} names on the array", source.stat.links);
            return Err(Trouble::Left(Why::HardLinked, detail));
        }
        if matches!(placement, Placement::Hide | Placement::Symlink) {
            if job.names.kept.len() > MAX_NAME {
                return Err(Trouble::Failed(format!("{} would be too long a name", job.names.kept)));
            }
            if array.stat(&job.names.kept).during("looking for a kept original")?.is_some() {
                return Err(Trouble::Left(Why::Conflict, format!("there is a {} already", job.names.kept)));
            }
        }
        if self.options.skip_open_files && is_opened_by_others(&source.file) == Some(true) {
            return Err(Trouble::Left(Why::Open, "somebody has it open".to_owned()));
        }
        Ok(())
    }

    async fn cache_from(
        &self,
        job: &Job<'_>,
        array: &Workplace,
        source: &Source<'_>,
        watch: &mut Watch<'_>,
    ) -> Attempt<Finished> {
        let there = job.cache.folder.stat_below(&job.action.path).during("looking at the cache")?;
        let mut finished = Finished { array: Some(source.stat.fingerprint()), ..Finished::default() };
        let (cache, published) = match there {
            None => {
                let cache = self.make_folders(job, job.cache, job.array).await?;
                let to = (&*cache, job.cache);
                let published = self.copy_in(job, to, source, &mut finished, watch, Place::Free).await?;
                finished.bytes = source.stat.size;
                (cache, published)
            }
            Some(stat) if stat.is_file() && job.action.copy == Some(stat.fingerprint()) => {
                let cache = Workplace::open(job.cache, &job.action.path, job.places)
                    .during("opening the folder on the cache")?;
                let published = adopt(job, &cache, source, &stat, watch).await?;
                (cache, published)
            }
            Some(_) => return Err(Trouble::Left(Why::Conflict, "there is another file on the cache".to_owned())),
        };
        job.publish(published).await;
        finished.copy = Some(published.copy);
        finished.checksum = Some(published.checksum);
        // A copy takes long enough for others to work in the folder; that they did must stay visible.
        array.take_times_anew().during("reading the times of a folder")?;
        take_original_away(job, array, &cache, source, published.copy).await?;
        Ok(finished)
    }

    /// Copies `source` to a temporary file in `to`, with all that belongs to it, and has it put under its
    /// final name as `place` says. Whatever goes wrong, the temporary file is gone and nothing else
    /// happened.
    pub(super) async fn copy_in(
        &self,
        job: &Job<'_>,
        (to, root): (&Folder, &Root),
        source: &Source<'_>,
        finished: &mut Finished,
        watch: &mut Watch<'_>,
        place: Place<'_>,
    ) -> Attempt<Published> {
        let space = root.folder.space().during("asking for free space")?;
        if !has_room(space, source.stat.size) {
            return Err(Trouble::Left(Why::NoRoom, format!("{} bytes are free on {}", space.free, root.path)));
        }
        let Names { part, old, .. } = &job.names;
        let target = ops::create(to, part).during("making a temporary file")?;
        let copied = self.fill(job, source, (&target, root.tier), finished, watch).await;
        let placed = copied.and_then(|checksum| {
            // As it was proved: under its final name others may change it.
            let copy = Stat::of_file(&target).during("looking at the copy")?.fingerprint();
            place.put(to, &job.names).map(|()| (checksum, copy))
        });
        let (checksum, copy) = match placed {
            Ok(placed) => placed,
            Err(trouble) => {
                for name in [part, old] {
                    remove_own(to, name, &target).during("removing the temporary file")?;
                }
                // Once the outcome is on record nobody would look for it again.
                job.sync(to).await.during("making its removal durable")?;
                return Err(trouble);
            }
        };
        if let Err(error) = job.sync(to).await {
            // A sync that failed is final: should a second one succeed, the name may be lost all the same.
            place.take_back(to, &job.names, &target).during("taking the copy back")?;
            return Err(Trouble::Failed(format!("making the copy's name durable: {error}")));
        }
        Ok(Published { from: source.stat.fingerprint(), copy, checksum })
    }

    /// Contents, metadata, durability, and the source asked once more whether it is what it was.
    async fn fill(
        &self,
        job: &Job<'_>,
        source: &Source<'_>,
        (target, tier): (&File, Tier),
        finished: &mut Finished,
        watch: &mut Watch<'_>,
    ) -> Attempt<Checksum> {
        let lease = source.lease()?;
        let wanted_by_a_writer = Cell::new(false);
        let mut watch = |done| {
            let is_wanted = wanted_by_a_writer.get() || lease.as_ref().is_some_and(Lease::broken);
            wanted_by_a_writer.set(is_wanted);
            if is_wanted { ControlFlow::Break(Stop) } else { watch(done) }
        };
        let trouble = |error| match error {
            CopyError::Cancelled if wanted_by_a_writer.get() => a_writer_came(),
            error => copy_trouble(error),
        };
        let written = write_contents(&source.file, (target, tier), source.stat.size, &self.options.copy, &mut watch);
        let written = written.map_err(trouble)?;
        // Before the one sync, which is for both.
        let warnings = copy_metadata(&source.file, target).during("keeping owner, mode and times")?;
        if !warnings.is_empty() {
            finished.note = Some(warnings.join("; "));
        }
        let copied = job.sync_copy(target, written, &mut watch).await.map_err(trouble)?;
        source.check_unchanged()?;
        not_wanted_by_a_writer(lease.as_ref())?;
        Ok(copied.checksum)
    }
}

/// Does with the original, which is open as `source`, what the placement says. On trouble the copy
/// is taken back.
pub(super) async fn take_original_away(
    job: &Job<'_>,
    array: &Folder,
    cache: &Folder,
    source: &Source<'_>,
    copy: Fingerprint,
) -> Attempt<()> {
    let result = place_original(job, array, source, copy).await;
    if result.is_err() {
        take_copy_back(job, array, cache, copy).await?;
    }
    result
}

async fn place_original(job: &Job<'_>, array: &Folder, source: &Source<'_>, copy: Fingerprint) -> Attempt<()> {
    let Names { file, kept, old, link, .. } = &job.names;
    let original = &source.stat;
    // Held to the end: what somebody writes to a file that loses its name would be lost with it.
    let lease = source.lease()?;
    let still_good = || {
        not_wanted_by_a_writer(lease.as_ref())?;
        check_copy(job, copy)
    };
    match job.action.placement {
        Placement::Copy => check_original(array, file, original).and_then(|()| still_good()),
        Placement::Hide => step_aside(job, array, kept, original, still_good).await,
        Placement::Move => {
            step_aside(job, array, old, original, &still_good).await?;
            // Others of the batch have had their turn meanwhile, and it is about to be the only copy.
            if let Err(trouble) = still_good() {
                ops::rename(array, old, file).during("renaming the original back")?;
                job.sync(array).await.during("making the name of the original durable")?;
                return Err(trouble);
            }
            ops::unlink(array, old).during("removing the original")?;
            job.sync(array).await.during("making the removal of the original durable")
        }
        Placement::Symlink => {
            put_link(job, array, original, still_good).await?;
            ops::rename(array, link, kept).during("keeping the original beside its link")?;
            job.sync(array).await.during("making the names durable")
        }
    }
}

/// Two files that stand already as the placement would leave them, as `PlexCache-D` has left them: they
/// are compared like any file that is adopted, and recorded. Nothing is touched. `None` for all others.
async fn take_over(job: &Job<'_>, array: &Folder, watch: &mut Watch<'_>) -> Attempt<Option<Finished>> {
    let Names { file, kept, .. } = &job.names;
    let Some(copy) = job.action.copy else { return Ok(None) };
    let stands = match job.action.placement {
        Placement::Hide => array.stat(file).during("looking at the original")?.is_none(),
        Placement::Symlink => is_our_link(job, array, file)?,
        Placement::Copy | Placement::Move => false,
    };
    if !stands || array.stat(kept).during("looking for a kept original")?.is_none() {
        return Ok(None);
    }
    let original = open_to_copy(array, kept, job.action.array)?;
    let cache = Workplace::open(job.cache, &job.action.path, job.places).during("opening the folder on the cache")?;
    let there = cache.stat(file).during("looking at the cache")?;
    let Some(there) = there.filter(|there| there.is_file() && there.fingerprint() == copy) else {
        return Err(Trouble::Left(Why::Changed, "the file on the cache changed".to_owned()));
    };
    let published = adopt(job, &cache, &original, &there, watch).await?;
    job.publish(published).await;
    Ok(Some(Finished {
        array: Some(published.from),
        copy: Some(published.copy),
        checksum: Some(published.checksum),
        ..Finished::default()
    }))
}

/// How a finished copy gets its name.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// Nothing stands there yet.
    Free,
    /// In one step in the place of what was seen there, which is then under the temporary name `.old`.
    Over(Option<&'a Stat>),
}

impl Place<'_> {
    /// Only a whole copy is ever called `.old`: so what stands under `.part` is always an unfinished one,
    /// and never somebody's file that was exchanged for it.
    fn put(self, to: &Folder, names: &Names) -> Attempt<()> {
        const NAMING: &str = "giving the copy its name";
        let Names { file, part, old, .. } = names;
        let Self::Over(expected) = self else {
            return match ops::rename(to, part, file) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    Err(Trouble::Left(Why::Conflict, "a file of that name has appeared".to_owned()))
                }
                result => result.during(NAMING),
            };
        };
        // What somebody is writing to the file that is replaced would be lost with it.
        let replaced = expected.filter(|expected| expected.is_file());
        let replaced = replaced.map(|expected| open_to_copy(to, file, Some(expected.fingerprint()))).transpose()?;
        let lease = replaced.as_ref().map(Source::lease).transpose()?.flatten();
        ops::rename(to, part, old).during(NAMING)?;
        ops::exchange(to, old, file).during(NAMING)?;
        let verdict = to.stat(old).during("looking at what was replaced").and_then(|out| match (out, expected) {
            (Some(out), Some(expected)) if (out.kind, out.fingerprint()) == (expected.kind, expected.fingerprint()) => {
                not_wanted_by_a_writer(lease.as_ref())
            }
            _ => Err(Trouble::Left(Why::Changed, "something else has appeared under its name".to_owned())),
        });
        if verdict.is_err() {
            ops::exchange(to, old, file).during("taking the copy's name back")?;
        }
        verdict
    }

    /// Undoes [`Place::put`] and removes `own`, the copy.
    fn take_back(self, to: &Folder, names: &Names, own: &File) -> std::io::Result<()> {
        let Names { file, old, .. } = names;
        match self {
            Self::Free => remove_own(to, file, own)?,
            Self::Over(_) => {
                let replaced = || std::io::Error::other("something else has appeared under the name");
                if !is_own(to, file, own)? {
                    return Err(replaced());
                }
                ops::exchange(to, old, file)?;
                if !is_own(to, old, own)? {
                    // What somebody put there just now keeps its name.
                    ops::exchange(to, old, file)?;
                    return Err(replaced());
                }
                remove_own(to, old, own)?;
            }
        }
        ops::sync(to)
    }
}

/// Removes the temporary file, and only that: should an exchange have gone wrong half-way, somebody
/// else's file could stand under its name.
fn remove_own(folder: &Folder, name: &str, own: &File) -> std::io::Result<()> {
    if is_own(folder, name, own)? {
        ops::unlink(folder, name)?;
    }
    Ok(())
}

fn is_own(folder: &Folder, name: &str, own: &File) -> std::io::Result<bool> {
    let (own, named) = (Stat::of_file(own)?, folder.stat(name)?);
    Ok(named.is_some_and(|named| (named.dev, named.ino) == (own.dev, own.ino)))
}

/// An open file that is being copied, with what it was when it was opened.
pub(super) struct Source<'a> {
    pub(super) file: File,
    pub(super) stat: Stat,
    name: String,
    folder: &'a Folder,
}

impl Source<'_> {
    /// A lease that tells of writers; `None` where the file system has none.
    pub(super) fn lease(&self) -> Attempt<Option<Lease<'_>>> {
        match read_lease(&self.file).during("asking who writes to it")? {
            LeaseState::Held(lease) => Ok(Some(lease)),
            LeaseState::BusyWriter => Err(Trouble::Left(Why::Open, "somebody has it open for writing".to_owned())),
            LeaseState::Unsupported => Ok(None),
        }
    }

    /// Whether nobody has touched it since it was opened, and the name still stands for it.
    pub(super) fn check_unchanged(&self) -> Attempt<()> {
        let now = Stat::of_file(&self.file).during("looking at the source again")?;
        let named = self.folder.stat(&self.name).during("looking at the source again")?;
        let same_name = named.as_ref().is_some_and(|named| (named.dev, named.ino) == (self.stat.dev, self.stat.ino));
        if now == self.stat && same_name {
            return Ok(());
        }
        Err(Trouble::Left(Why::Changed, "it changed while it was copied".to_owned()))
    }
}

/// Opens a file whose copy will be made. It must be what was expected.
pub(super) fn open_to_copy<'a>(folder: &'a Folder, name: &str, expected: Option<Fingerprint>) -> Attempt<Source<'a>> {
    let file = match folder.open(name) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Trouble::Left(Why::Unavailable, "it is gone".to_owned()));
        }
        Err(error) => return Err(Trouble::Failed(format!("opening it: {error}"))),
    };
    let stat = Stat::of_file(&file).during("looking at it")?;
    if !stat.is_file() {
        return Err(Trouble::Left(Why::Conflict, "it is not a regular file".to_owned()));
    }
    if expected.is_some_and(|expected| expected != stat.fingerprint()) {
        return Err(Trouble::Left(Why::Changed, "it is not what it was when the plan was made".to_owned()));
    }
    Ok(Source { file, stat, name: name.to_owned(), folder })
}

/// Takes a file that is on the cache already as our copy, when it has the same contents.
async fn adopt(
    job: &Job<'_>,
    cache: &Folder,
    source: &Source<'_>,
    there: &Stat,
    watch: &mut Watch<'_>,
) -> Attempt<Published> {
    let _lease = source.lease()?;
    let copy = cache.open(&job.names.file).during("opening the file on the cache")?;
    if Stat::of_file(&copy).during("looking at the file on the cache")? != *there {
        return Err(Trouble::Left(Why::Changed, "the file on the cache changed".to_owned()));
    }
    if !same_contents(&source.file, &copy, watch).map_err(copy_trouble)? {
        return Err(Trouble::Left(Why::Conflict, "the file on the cache has other contents".to_owned()));
    }
    job.sync_file(&copy).await.during("making the copy durable")?;
    job.sync(cache).await.during("making the copy's name durable")?;
    let checksum = checksum(&copy, watch).map_err(copy_trouble)?;
    source.check_unchanged()?;
    Ok(Published { from: source.stat.fingerprint(), copy: there.fingerprint(), checksum })
}

/// In words, and sorted by whose fault it is.
pub(super) fn copy_trouble(error: CopyError) -> Trouble {
    match error {
        CopyError::Cancelled => Trouble::Left(Why::NotReached, "stopped".to_owned()),
        CopyError::SourceChanged => Trouble::Left(Why::Changed, "it changed while it was copied".to_owned()),
        error => Trouble::Failed(match error.hint() {
            Some(hint) => format!("{error} ({hint})"),
            None => error.to_string(),
        }),
    }
}

/// Whether nobody has opened a file for writing since the lease on it was taken.
pub(super) fn not_wanted_by_a_writer(lease: Option<&Lease<'_>>) -> Attempt<()> {
    match lease {
        Some(lease) if lease.broken() => Err(a_writer_came()),
        _ => Ok(()),
    }
}

fn a_writer_came() -> Trouble {
    Trouble::Left(Why::Changed, "somebody opened it for writing meanwhile".to_owned())
}

fn changed() -> Trouble {
    Trouble::Left(Why::Changed, "the original changed after it was copied".to_owned())
}

/// Before anything is renamed even ctime must be what it was: an edit that puts its times back is found.
fn check_original(array: &Folder, name: &str, original: &Stat) -> Attempt<()> {
    let now = array.stat(name).during("looking at the original again")?;
    if now.as_ref() == Some(original) { Ok(()) } else { Err(changed()) }
}

/// Whether the copy is what was published, and where everybody else finds it: its folder may have been
/// renamed meanwhile.
fn check_copy(job: &Job<'_>, copy: Fingerprint) -> Attempt<()> {
    match job.cache.folder.stat_below(&job.action.path).during("looking at the copy again")? {
        Some(stat) if stat.is_file() && stat.fingerprint() == copy => Ok(()),
        _ => Err(Trouble::Left(Why::Conflict, "somebody changed or removed the cached copy".to_owned())),
    }
}

/// Renames the original to `to`, and back again if that was not the original, or if `still_good` says no.
async fn step_aside(
    job: &Job<'_>,
    array: &Folder,
    to: &str,
    original: &Stat,
    still_good: impl Fn() -> Attempt<()>,
) -> Attempt<()> {
    let name = &job.names.file;
    check_original(array, name, original)?;
    still_good()?;
    ops::rename(array, name, to).during("renaming the original")?;
    let moved = array.stat(to).during("looking at the renamed original")?;
    let verdict = if moved.is_some_and(|moved| moved.is_file() && moved.fingerprint() == original.fingerprint()) {
        still_good()
    } else {
        Err(changed())
    };
    if verdict.is_err() {
        ops::rename(array, to, name).during("renaming the original back")?;
    }
    job.sync(array).await.during("making the new name of the original durable")?;
    verdict
}

/// Puts a link in the place of the original in one step; the original is then under the link's
/// temporary name. Everything is put back if what came out was not the original.
async fn put_link(job: &Job<'_>, array: &Folder, original: &Stat, still_good: impl Fn() -> Attempt<()>) -> Attempt<()> {
    let Names { file, link, .. } = &job.names;
    check_original(array, file, original)?;
    still_good()?;
    ops::symlink(array, &job.link_target(), link).during("making the link")?;
    job.sync(array).await.during("making the link durable")?;
    if let Err(error) = ops::exchange(array, link, file) {
        ops::unlink(array, link).during("removing the link")?;
        job.sync(array).await.during("making the removal of the link durable")?;
        return Err(Trouble::Failed(format!("exchanging the original for its link: {error}")));
    }
    let out = array.stat(link).during("looking at the original")?;
    let verdict = if out.is_some_and(|out| out.is_file() && out.fingerprint() == original.fingerprint()) {
        still_good()
    } else {
        Err(changed())
    };
    if verdict.is_err() {
        ops::exchange(array, link, file).during("exchanging the link for the original")?;
        if is_our_link(job, array, link)? {
            ops::unlink(array, link).during("removing the link")?;
        }
    }
    job.sync(array).await.during("making the link durable")?;
    verdict
}

/// Whether `name` is the link to the cached copy that this action makes, or made.
pub(super) fn is_our_link(job: &Job<'_>, array: &Folder, name: &str) -> Attempt<bool> {
    let is_link = array.stat(name).during("looking at a link")?.is_some_and(|stat| stat.kind == Kind::Link);
    Ok(is_link && array.read_link(name).during("reading a link")? == job.link_target().as_bytes())
}

/// Removes a copy that was published a moment ago and turned out to be of something older. It stays when
/// the array has no regular file under the name: then it is the only one.
pub(super) async fn take_copy_back(job: &Job<'_>, array: &Folder, cache: &Folder, copy: Fingerprint) -> Attempt<()> {
    let name = &job.names.file;
    let original = array.stat(name).during("looking at the original")?;
    let ours = cache.stat(name).during("looking at the copy")?;
    if original.is_some_and(|original| original.is_file())
        && ours.is_some_and(|ours| ours.is_file() && ours.fingerprint() == copy)
    {
        ops::unlink(cache, name).during("taking the copy back")?;
        job.sync(cache).await.during("making its removal durable")?;
    }
    Ok(())
}
