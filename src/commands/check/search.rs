//! Where else on this host a file of Plex's could be, when no configured root has it.
//!
//! Looks around the roots (the folders above them, beside them and in them) and on every disk that is
//! mounted. Each place is asked by itself, so that a dead one keeps no other from answering.

use std::collections::BTreeSet;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use super::ANSWER_WITHIN;
use crate::config::Config;
use crate::setup::proof::{self, PlexFile, Search};
use crate::tier::{Mounts, ask_all};

/// So many folders above a root are looked into.
const ABOVE: usize = 3;

/// So many folders in a place are looked into.
const IN_ONE_PLACE: usize = 200;

/// File systems on which media are: disks and network shares, no unions, because a file there is on one
/// of the disks under another name.
const DISKS: [&str; 17] = [
    "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "reiserfs", "bcachefs", "ntfs", "ntfs3", "fuseblk",
    "exfat", "nfs", "nfs4", "cifs",
];

/// Looks for a file around `roots`, and only when it is not there on all disks. Not in `silent` places,
/// which have not answered before.
pub(super) fn everywhere(
    file: &PlexFile,
    config: &Config,
    roots: &[Utf8PathBuf],
    silent: &BTreeSet<Utf8PathBuf>,
) -> Search {
    let is_view = |place: &Utf8PathBuf| config.maps.iter().any(|map| map.merged.as_ref() == Some(place));
    let mut seen = silent.clone();
    let mut new = |place: &Utf8PathBuf| place.parent().is_some() && !is_view(place) && seen.insert(place.clone());
    let caches = config.maps.iter().map(|map| &map.cache);
    let around = roots.iter().chain(caches).flat_map(|root| root.ancestors().take(ABOVE).map(Utf8Path::to_owned));
    let around: Vec<Utf8PathBuf> = around.filter(&mut new).collect();
    let mut search = of_places(file, &around);
    if search.best().is_none()
        && let Ok(mounts) = Mounts::read()
    {
        let disks: Vec<Utf8PathBuf> = mounts.points_of(&DISKS).map(Utf8Path::to_owned).filter(&mut new).collect();
        search.join(of_places(file, &disks));
    }
    search
}

/// Looks for a file in these places and the folders right in them.
pub(super) fn of_places(file: &PlexFile, places: &[Utf8PathBuf]) -> Search {
    let questions = places.iter().cloned().map(|place| (place, file.clone()));
    let ask = |(place, file): (Utf8PathBuf, PlexFile)| {
        let mut roots = vec![place.clone()];
        roots.extend(folders_in(&place)?);
        proof::find(&file, &roots, proof::size_at).map_err(io::Error::other)
    };
    let mut all = Search::default();
    for (place, answer) in places.iter().zip(ask_all(questions, ANSWER_WITHIN, ask)) {
        match answer {
            Ok(search) => all.join(search),
            Err(error) => all.trouble.push((place.clone(), error)),
        }
    }
    all
}

fn folders_in(place: &Utf8Path) -> io::Result<Vec<Utf8PathBuf>> {
    let mut folders = Vec::new();
    for entry in place.read_dir_utf8()?.flatten() {
        if folders.len() == IN_ONE_PLACE {
            break;
        }
        if !entry.file_name().starts_with('.') && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            folders.push(entry.path().to_owned());
        }
    }
    folders.sort();
    Ok(folders)
}
