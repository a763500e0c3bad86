//! plexcache itself (state directory, clock, rights) and what else on this host moves files.
//!
//! Reads small files of the system only. On a host without them there is nothing to warn of.

use std::path::Path;

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::{ANSWER_WITHIN, fail, pass, warn};
use crate::commands::{Session, history_trouble};
use crate::config::{Config, HostTask, Placement};
use crate::history::{HistoryError, Index};
use crate::report::Finding;
use crate::tier::{Folder, Mounts, OpenFiles, Space, ask_all, host};

/// File systems that are gone after a reboot.
const RAM: [&str; 3] = ["tmpfs", "ramfs", "rootfs"];

/// Bytes that the state should find free: the history grows by some hundred bytes an action.
const STATE_ROOM: u64 = 16 << 20;

/// When this was written: a clock that is earlier is wrong. Seconds since 1970.
const EARLIEST: i64 = 1_767_225_600;

/// What plexcache needs for itself.
pub(super) fn own(session: &Session<'_>, index: &Result<Index, HistoryError>) -> Vec<Finding> {
    let config = session.config;
    let maps = config.maps.len();
    let plural = if maps == 1 { "" } else { "s" };
    let mut findings = vec![pass("configuration", format!("is sound; {maps} map{plural}"))];
    findings.extend(state(session.state.path()));
    match index {
        Ok(index) => {
            findings.push(history(index, session.state.is_locked()));
            let last = index.last_run.as_ref();
            let last = last.map(|last| last.finished.as_ref().map_or(last.started, |(at, _)| *at));
            findings.push(clock(Timestamp::now(), last));
        }
        Err(error) => {
            let failure = history_trouble(error);
            findings.push(fail("history", failure.message, failure.hint.unwrap_or_default()));
        }
    }
    findings.push(rights(config));
    findings
}

/// What is known of the file system that a folder is, or will be, on.
struct Home {
    at: Utf8PathBuf,
    fs_type: Option<String>,
    writable: bool,
    space: Space,
}

fn home(mut path: Utf8PathBuf) -> std::io::Result<Home> {
    let folder = loop {
        match Folder::open_root(&path) {
            Ok(folder) => break folder,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && path.pop() => {}
            Err(error) => return Err(error),
        }
    };
    let real = path.canonicalize_utf8()?;
    let writable = accessat(CWD, real.as_std_path(), Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).is_ok();
    let fs_type = Mounts::read()?.of(&real).map(|mount| mount.fs_type.clone());
    Ok(Home { at: path, fs_type, writable, space: folder.space()? })
}

fn state(path: &Utf8Path) -> Vec<Finding> {
    let name = "state directory";
    let keep = "set state.dir to a directory on a disk: on Unraid one on a pool, such as /mnt/cache/appdata/plexcache";
    let home = match ask_all([path.to_owned()], ANSWER_WITHIN, home).pop() {
        Some(Ok(home)) => home,
        Some(Err(error)) => return vec![fail(name, format!("{path} cannot be looked at: {error}"), keep)],
        None => return Vec::new(),
    };
    let fs_type = home.fs_type.unwrap_or_else(|| "an unknown file system".to_owned());
    if RAM.contains(&fs_type.as_str()) {
        let detail = format!("{path} is in memory ({fs_type}): history and undo are lost at every reboot");
        return vec![fail(name, detail, keep)];
    }
    if !home.writable {
        let detail = format!("{} cannot be written by this user", home.at);
        return vec![fail(name, detail, "run plexcache as root, or name another --state-dir")];
    }
    if home.space.free < STATE_ROOM || home.space.free_inodes == Some(0) {
        return vec![fail(name, format!("{path} is on a full disk"), "make room there: without it no run begins")];
    }
    let there = if home.at == path { "" } else { "; the first run makes it" };
    let layer = if fs_type == "overlay" { "; in a container it has to be a volume" } else { "" };
    vec![pass(name, format!("{path} ({fs_type}){there}{layer}"))]
}

fn history(index: &Index, is_running: bool) -> Finding {
    let runs = index.next_run.saturating_sub(1);
    match index.open.len() {
        0 => pass("history", if runs == 0 { "no run yet".to_owned() } else { format!("{runs} runs, can be read") }),
        _ if is_running => pass("history", format!("{runs} runs, one is under way")),
        open => warn("history", format!("interrupted actions: {open}"), "the next sync settles them; run it"),
    }
}

fn clock(now: Timestamp, last_run: Option<Timestamp>) -> Finding {
    let mend = "set the clock, and let NTP keep it: grace times and ages are counted by it";
    match last_run.filter(|last| *last > now) {
        Some(last) => fail("clock", format!("it is {now}, and the last run was at {last}"), mend),
        None if now.as_second() < EARLIEST => fail("clock", format!("it says {now}"), mend),
        None => pass("clock", "is plausible"),
    }
}

fn rights(config: &Config) -> Finding {
    if !rustix::process::geteuid().is_root() {
        let detail = "not run by root: files keep neither owner nor, where that needs it, mode; files that other \
                      users have open are not seen";
        return warn("rights", detail, "run it as root, as a run will be");
    }
    let scan = || ask_all([()], ANSWER_WITHIN, |()| Ok(OpenFiles::scan().incomplete)).pop();
    if config.safety.skip_open_files && !matches!(scan(), Some(Ok(false))) {
        let detail = "some processes cannot be looked into: what they have open is not seen";
        return warn("rights", detail, "outside of a container, or with its host's process ids, they can be seen");
    }
    pass("rights", "root, and open files can be seen")
}

/// What else moves or reads whole disks.
pub(super) fn others(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (task, name, what) in
        [(HostTask::Mover, "mover", "Unraid's mover"), (HostTask::ParityCheck, "parity check", "a parity check")]
    {
        let refuses = config.safety.refuse_while.contains(&task);
        findings.push(match (host::running(&[task]), refuses) {
            (None, _) => pass(name, "is not running"),
            (Some(_), true) => {
                warn(name, format!("{what} is running: until it ends every run is refused"), "wait for it")
            }
            (Some(_), false) => {
                warn(name, format!("{what} is running"), format!("add \"{task}\" to safety.refuse_while"))
            }
        });
    }
    findings.extend(mover_tuning(config));
    for file in ["/etc/snapraid.conf", "/usr/local/etc/snapraid.conf"] {
        if let Ok(text) = std::fs::read_to_string(file) {
            findings.push(snapraid(file, &text, config));
        }
    }
    findings
}

/// Whether the mover's plugin undoes what a map does.
fn mover_tuning(config: &Config) -> Option<Finding> {
    if !Path::new("/boot/config/plugins/ca.mover.tuning").exists() {
        return None;
    }
    Some(match config.maps.iter().find(|map| matches!(map.placement, Placement::Hide | Placement::Move)) {
        Some(map) => warn(
            "mover tuning",
            format!("the plugin moves cached files of {} back ({})", map.plex, map.placement),
            "use placement = \"copy\", or add the cache folder to the plugin's list of ignored files",
        ),
        None => pass("mover tuning", "may drop cached copies early, which costs nothing but the copy"),
    })
}

/// `data NAME DIR` (`disk` in old files) are the folders that parity covers (snapraid(1)).
fn snapraid(file: &str, text: &str, config: &Config) -> Finding {
    let data: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter_map(|line| line.strip_prefix("data ").or_else(|| line.strip_prefix("disk ")))
        .filter_map(|line| line.trim_start().split_once(' '))
        .map(|(_, folder)| folder.trim())
        .collect();
    let covered = |path: &Utf8Path| data.iter().any(|folder| path.starts_with(folder));
    if let Some(map) = config.maps.iter().find(|map| covered(&map.cache)) {
        let detail = format!("{file} covers the cache root {} by parity, where files come and go", map.cache);
        return warn("snapraid", detail, "take the cache's `data` line out, or exclude the folder there");
    }
    let is_touched = |map: &&crate::config::Map| {
        map.cacheable && map.placement != Placement::Copy && map.array.iter().any(|root| covered(root))
    };
    match config.maps.iter().find(is_touched) {
        Some(map) if map.placement == Placement::Move => warn(
            "snapraid",
            format!(
                "{file}: files of {} leave the array; a disk that dies before the next sync may not be rebuilt",
                map.plex
            ),
            "use placement = \"copy\" or \"symlink\", under which originals stay",
        ),
        Some(map) => warn(
            "snapraid",
            format!("{file}: every cached file of {} is a rename in `snapraid diff`", map.plex),
            "use placement = \"copy\", or allow for it in the deletion threshold of your script",
        ),
        None => pass("snapraid", format!("{file}: originals stay as they are")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;
    use crate::report::Verdict;

    fn config(placement: &str) -> Config {
        let text = format!(
            "[plex]\nurl = \"http://a\"\n[[map]]\nplex = \"/d\"\narray = [\"/mnt/d1/m\"]\ncache = \"/mnt/ssd/m\"\n\
             placement = \"{placement}\"\n"
        );
        crate::config::parse(Utf8Path::new("c"), &text, &Environment::new([], false, true)).unwrap()
    }

    #[test]
    fn snapraid_minds_files_that_move_and_not_files_that_stay() {
        let conf = "# data x /mnt/ssd\nparity /p\ndata d1 /mnt/d1/\ndisk d2 /mnt/d2\n";
        for (placement, verdict) in
            [("copy", Verdict::Pass), ("hide", Verdict::Warn), ("move", Verdict::Warn), ("symlink", Verdict::Warn)]
        {
            assert_eq!(snapraid("f", conf, &config(placement)).verdict, verdict, "{placement}");
        }
        assert_eq!(snapraid("f", "data d9 /mnt/d9", &config("move")).verdict, Verdict::Pass);
        let covered = snapraid("f", "data c /mnt/ssd\n", &config("copy"));
        assert!(covered.detail.contains("/mnt/ssd/m") && covered.verdict == Verdict::Warn, "{covered:?}");
    }

    #[test]
    fn a_clock_before_the_last_run_or_before_this_program_is_wrong() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let last = |at: &str| Some(at.parse().unwrap());
        assert_eq!(clock(now, last("2026-11-23T11:00:00Z")).verdict, Verdict::Pass);
        assert_eq!(clock(now, last("2026-11-24T11:00:00Z")).verdict, Verdict::Fail);
        assert_eq!(clock("1970-01-01T00:10:00Z".parse().unwrap(), None).verdict, Verdict::Fail);
    }
}
