//! Which mount a path is on, from `/proc/self/mountinfo` (proc(5)), and whether `/etc/fstab` promises
//! one that is not there. Reading only; the file systems themselves are not asked, so a dead network
//! share cannot make this hang.

use std::fs;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};

/// One line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub point: Utf8PathBuf,
    /// `xfs`, `fuse.mergerfs`, …
    pub fs_type: String,
    pub source: String,
    /// The part of the file system that is shown, as with bind mounts.
    pub root: String,
}

impl Mount {
    /// A union of branches: never written to, because a file there is the branch's under another name.
    pub fn is_union(&self) -> bool {
        matches!(self.fs_type.as_str(), "fuse.shfs" | "fuse.mergerfs" | "fuse.unionfs" | "aufs")
    }

    /// Whether a process of this host answers for it.
    pub fn is_fuse(&self) -> bool {
        self.fs_type.split('.').next().is_some_and(|kind| matches!(kind, "fuse" | "fuseblk"))
    }

    /// The longest text of a symbolic link, in bytes: a path without its end, but a KiB on xfs
    /// (`XFS_SYMLINK_MAXLEN` of Linux).
    pub fn max_link(&self) -> usize {
        if self.fs_type == "xfs" { 1023 } else { 4095 }
    }

    /// What knows the mount again; the source of a network share or pool, the type and the root.
    pub fn identity(&self) -> String {
        format!("{} {} {}", self.fs_type, self.source, self.root)
    }
}

/// All mounts that this process sees, in the order in which they were made.
#[derive(Debug, Clone, Default)]
pub struct Mounts {
    mounts: Vec<Mount>,
}

impl Mounts {
    pub fn read() -> io::Result<Self> {
        Self::read_from(Utf8Path::new("/proc/self/mountinfo"))
    }

    /// Reads a table of that form from another file.
    pub fn read_from(file: &Utf8Path) -> io::Result<Self> {
        Ok(Self::parse(&String::from_utf8_lossy(&fs::read(file)?)))
    }

    /// All of them.
    pub fn all(&self) -> &[Mount] {
        &self.mounts
    }

    fn parse(text: &str) -> Self {
        Self { mounts: text.lines().filter_map(parse_line).collect() }
    }

    /// The mount that `path` is on: the longest point above it, the latest where several are stacked.
    pub fn of(&self, path: &Utf8Path) -> Option<&Mount> {
        self.mounts.iter().filter(|mount| path.starts_with(&mount.point)).max_by_key(|mount| mount.point.as_str().len())
    }

    /// Where file systems of these types are mounted.
    pub fn points_of(&self, types: &[&str]) -> impl Iterator<Item = &Utf8Path> {
        self.mounts.iter().filter(|mount| types.contains(&mount.fs_type.as_str())).map(|mount| mount.point.as_path())
    }

    /// A mount point at or above `path` that `fstab` lists and that is not mounted.
    pub fn promised(&self, path: &Utf8Path, fstab: &str) -> Option<Utf8PathBuf> {
        let points = fstab.lines().filter(|line| !line.trim_start().starts_with('#'));
        points
            .filter_map(|line| line.split_whitespace().nth(1))
            .map(|point| Utf8PathBuf::from(unescape(point)))
            .filter(|point| point.is_absolute() && point != "/" && path.starts_with(point))
            .find(|point| !self.mounts.iter().any(|mount| mount.point == *point))
    }
}

fn parse_line(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, point) = (left.next()?, left.next()?);
    let mut right = right.split(' ');
    let (fs_type, source) = (right.next()?, right.next()?);
    Some(Mount {
        point: unescape(point).into(),
        fs_type: fs_type.to_owned(),
        source: unescape(source),
        root: unescape(root),
    })
}

/// Undoes the kernel's `\040` for a space, and its kin.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = (first == b'\\').then(|| after.get(..3)).flatten().and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        if let Some(code) = code {
            bytes.push(code);
            rest = &after[3..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:35 / /mnt/user rw - fuse.shfs shfs rw
41 22 8:1 / /mnt/my\\040disk rw shared:5 master:1 - xfs /dev/sdb1 rw
42 22 0:40 / /mnt/pool rw - fuse.mergerfs a:b rw
43 42 8:3 /media /mnt/pool/x rw - xfs /dev/sdc1 rw
";

    #[test]
    fn the_mount_of_a_path_is_the_longest_point_above_it() {
        let mounts = Mounts::parse(TABLE);
        for (path, fs_type) in [
            ("/mnt/cache/media", "ext4"),
            ("/mnt/user/media", "fuse.shfs"),
            ("/mnt/users", "ext4"),
            ("/mnt/my disk/a", "xfs"),
            ("/mnt/pool/x/y", "xfs"),
        ] {
            assert_eq!(mounts.of(Utf8Path::new(path)).unwrap().fs_type, fs_type, "{path}");
        }
        assert!(mounts.of(Utf8Path::new("/mnt/pool")).unwrap().is_union());
        assert_eq!(mounts.of(Utf8Path::new("/mnt/pool/x")).unwrap().identity(), "xfs /dev/sdc1 /media");
    }

    #[test]
    fn a_mount_that_fstab_promises_and_that_is_missing_is_found() {
        let mounts = Mounts::parse(TABLE);
        let fstab = "# /dev/x /mnt/old xfs\nUUID=1 /mnt/cache btrfs defaults 0 0\n/dev/sdb1 /mnt/my\\040disk xfs\n";
        assert_eq!(mounts.promised(Utf8Path::new("/mnt/cache/media"), fstab), Some("/mnt/cache".into()));
        assert_eq!(mounts.promised(Utf8Path::new("/mnt/my disk/a"), fstab), None);
        assert_eq!(mounts.promised(Utf8Path::new("/mnt/old/a"), fstab), None);
    }
}
