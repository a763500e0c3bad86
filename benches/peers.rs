//! The programs that plexcache is measured beside, each as a line of shell: `$1` is the source, a file or a folder,
//! `$2` the folder that it goes to. Whatever they leave to luck, `sync -f` does, within their time.

use std::path::Path;
use std::process::{Command, Stdio};

use super::table::Table;

/// A way to copy.
#[derive(Clone, Copy)]
pub struct Peer {
    pub name: &'static str,
    needs: &'static str,
    script: &'static str,
}

const fn peer(name: &'static str, needs: &'static str, script: &'static str) -> Peer {
    Peer { name, needs, script }
}

pub const CP: Peer = peer("cp; sync", "cp", r#"cp -a "$1" "$2/"; sync -f "$2""#);
pub const CP_CMP: Peer = peer("cp; sync; cmp", "cp", r#"cp -a "$1" "$2/"; sync -f "$2"; cmp "$1" "$2/${1##*/}""#);
pub const RSYNC: Peer = peer("rsync -a --fsync", "rsync", r#"rsync -a --fsync "$1" "$2/""#);
pub const RSYNC_CHECK: Peer =
    peer("rsync -a --fsync; rsync -ac", "rsync", r#"rsync -a --fsync "$1" "$2/"; rsync -ac "$1" "$2/""#);
/// Moves another name of the source, so that the source is there for the next one.
pub const RCLONE_MOVE: Peer = peer(
    "rclone moveto",
    "rclone",
    r#"ln "$1" "$1.name"; rclone --config "" -q moveto "$1.name" "$2/${1##*/}"; sync -f "$2""#,
);
pub const RCLONE: Peer = peer(
    "rclone copy",
    "rclone",
    r#"t=$2; [ -f "$1" ] || t=$2/${1##*/}; rclone --config "" -q copy "$1" "$t"; sync -f "$2""#,
);
pub const XCP: Peer = peer("xcp --fsync", "xcp", r#"xcp --no-progress -r --fsync "$1" "$2/"; sync -f "$2""#);
pub const SHUTIL: Peer = peer(
    "Python shutil",
    "python3",
    r#"python3 -c 'import os, shutil, sys
a, b = sys.argv[1], os.path.join(sys.argv[2], os.path.basename(sys.argv[1]))
shutil.copytree(a, b) if os.path.isdir(a) else shutil.copy2(a, b)' "$1" "$2"; sync -f "$2""#,
);
pub const PLEXCACHE_D: Peer = peer(
    "PlexCache-D's 10 MiB loop",
    "python3",
    r#"python3 -c 'import os, shutil, sys
a, b = sys.argv[1], os.path.join(sys.argv[2], os.path.basename(sys.argv[1]))
with open(a, "rb") as source, open(b, "wb") as target:
    while block := source.read(10 << 20): target.write(block)
shutil.copystat(a, b)' "$1" "$2"; sync -f "$2""#,
);

const ALL: [Peer; 9] = [CP, CP_CMP, RSYNC, RSYNC_CHECK, RCLONE_MOVE, RCLONE, XCP, SHUTIL, PLEXCACHE_D];

impl Peer {
    pub fn is_there(&self) -> bool {
        is_there(self.needs)
    }

    /// Its way from `source` into `folder`.
    pub fn command(&self, source: &Path, folder: &Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-euc", self.script, "sh"]).arg(source).arg(folder);
        command
    }
}

pub fn is_there(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", "command -v \"$1\"", "sh", program]).stdout(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

pub fn say_what_is_missing(table: &mut Table) {
    let mut missing: Vec<&str> = ALL.iter().filter(|peer| !peer.is_there()).map(|peer| peer.needs).collect();
    missing.extend(["find", "fincore", "strace", "valgrind"].into_iter().filter(|tool| !is_there(tool)));
    missing.dedup();
    if !missing.is_empty() {
        table.note(format!("Missing here, and so not in the table: {}.", missing.join(", ")));
    }
}
