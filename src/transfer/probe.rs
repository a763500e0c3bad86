//! Asking a union which of two copies it serves, by two tiny files that differ.
//!
//! The one thing that `check --probe` changes: a file of one name is made in the root of each tier, read
//! through the merged view, and both are removed before this returns. The roots get their times back. The
//! name is hidden and its own, so neither Plex nor a run takes it for anything.

use std::io::{self, Read, Write};

use camino::Utf8Path;

use super::folders::{Places, Workplace};
use super::ops;
use crate::tier::{Folder, Root, Tier};

/// The name of both files.
pub const PROBE: &str = ".plexcache-probe";

/// What a probe came to.
#[derive(Debug)]
pub struct Probed {
    /// Which copy is served, where there is a merged view to ask.
    pub served: Option<io::Result<Served>>,
    /// Roots in which no file could be made or removed.
    pub refused: Vec<(Tier, io::Error)>,
}

/// What the merged view showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    Tier(Tier),
    /// Neither file: it is no view of these roots.
    Neither,
}

/// Makes the files, looks, and removes them.
pub fn probe(array: &Root, cache: &Root, merged: Option<&Utf8Path>) -> Probed {
    let (mut laid, mut refused) = (Vec::new(), Vec::new());
    for root in [cache, array] {
        match Laid::new(root) {
            Ok(file) => laid.push(file),
            Err(error) => refused.push((root.tier, error)),
        }
    }
    let served = merged.filter(|_| laid.len() == 2).map(|merged| served(&merged.join(PROBE)));
    for file in laid {
        let tier = file.tier;
        if let Err(error) = file.remove() {
            refused.push((tier, error));
        }
    }
    Probed { served, refused }
}

fn served(shown: &Utf8Path) -> io::Result<Served> {
    let mut text = String::new();
    match std::fs::File::open(shown) {
        Ok(file) => file.take(64).read_to_string(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Served::Neither),
        Err(error) => return Err(error),
    };
    let tier = [Tier::Array, Tier::Cache].into_iter().find(|tier| contents(*tier) == text);
    Ok(tier.map_or(Served::Neither, Served::Tier))
}

fn contents(tier: Tier) -> String {
    format!("plexcache asks whether this is the {}\n", tier.word())
}

/// A probe file, removed when dropped.
struct Laid {
    folder: Folder,
    tier: Tier,
    /// Puts back the root's times, last of all.
    _place: Workplace,
}

impl Laid {
    fn new(root: &Root) -> io::Result<Self> {
        let name = crate::paths::MediaPath::parse(PROBE).expect("the name is a media path");
        let place = Workplace::open(root, &name, &Places::default())?;
        let folder = root.folder.again()?;
        remove_old(&folder)?;
        let mut file = ops::create(&folder, PROBE)?;
        let laid = Self { folder, tier: root.tier, _place: place };
        file.write_all(contents(root.tier).as_bytes())?;
        Ok(laid)
    }

    fn remove(self) -> io::Result<()> {
        ops::unlink(&self.folder, PROBE)
    }
}

impl Drop for Laid {
    fn drop(&mut self) {
        if let Err(error) = ops::unlink(&self.folder, PROBE) {
            tracing::debug!("cannot remove {PROBE}: {error}");
        }
    }
}

/// Removes what a probe that was killed has left; anything else of the name stays and is in the way.
fn remove_old(folder: &Folder) -> io::Result<()> {
    let is_ours = match folder.stat(PROBE)? {
        Some(stat) if stat.is_file() && stat.size < 64 => {
            let mut text = String::new();
            folder.open(PROBE)?.take(64).read_to_string(&mut text)?;
            text.is_empty() || [Tier::Array, Tier::Cache].into_iter().any(|tier| contents(tier) == text)
        }
        _ => false,
    };
    if is_ours { ops::unlink(folder, PROBE) } else { Ok(()) }
}
