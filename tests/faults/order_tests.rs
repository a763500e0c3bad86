//! The rules of [`super`], each by a trace that keeps it and the same trace with one thing wrong.

use super::{Action, Event, What, check};

/// Caching with the placement `move`, a line an event. `array` and `cache` are the two files, `ofolder` and
/// `cfolder` the folders they are in, `part` and `old` the temporary names on the cache and the array.
const CACHES: &str = "had array\nhistory intent\nsync history\nhistory folders\nsync history\n\
    folder half\ndescribe half\nsync half\nrename half cfolder\nsync croot\n\
    create part\nwrite part\nsync part\ndescribe part\ntimes part\nsync part\nrename part cache\nsync cfolder\n\
    history published\nsync history\nrename array old\nsync ofolder\nremove old\nsync ofolder\n\
    history ended\nsync history\nend";

/// Evicting an edited copy over the older original.
const EVICTS: &str = "had array\nhad cache\nhistory evict\nsync history\n\
    create apart\nwrite apart\ndescribe apart\nsync apart\nrename apart old\nexchange old array\nsync ofolder\n\
    history published\nsync history\nremove old\nsync ofolder\nrename cache cold\nremove cold\nsync cfolder\n\
    history ended\nsync history\nend";

fn path(word: &str) -> String {
    let path = match word {
        "array" => "disk/TV/a.mkv",
        "cache" => "ssd/TV/a.mkv",
        "ofolder" => "disk/TV",
        "cfolder" => "ssd/TV",
        "croot" => "ssd",
        "half" => "ssd/.plexcache-77.part",
        "part" => "ssd/TV/.plexcache-77.part",
        "cold" => "ssd/TV/.plexcache-77.old",
        "apart" => "disk/TV/.plexcache-77.part",
        "old" => "disk/TV/.plexcache-77.old",
        other => panic!("{other}"),
    };
    path.to_owned()
}

fn event(line: &str) -> Event {
    let id = (1, 1);
    let intent = |caches| {
        Event::Intent(id, Action { caches, array: path("array"), cache: path("cache"), temp: "77".to_owned() })
    };
    match line.split(' ').collect::<Vec<_>>()[..] {
        ["had", of] => Event::Had(What::File, path(of)),
        ["history", "intent"] => intent(true),
        ["history", "evict"] => intent(false),
        ["history", "folders"] => Event::MakesFolders(id),
        ["history", "published"] => Event::Published(id),
        ["history", "ended"] => Event::Ended { id, is_done: true },
        ["history", "failed"] => Event::Ended { id, is_done: false },
        ["sync", "history"] => Event::HistorySync,
        ["create", of] => Event::Create { path: path(of), is_careful: true },
        ["open", of] => Event::Create { path: path(of), is_careful: false },
        ["folder", of] => Event::Folder(path(of)),
        ["write", of] => Event::Write(path(of)),
        ["describe", of] => Event::Describe(path(of)),
        ["fail", of] => Event::SyncFails(path(of)),
        ["times", of] => Event::Times(path(of)),
        ["sync", of] => Event::Sync(path(of)),
        ["datasync", of] => Event::DataSync(path(of)),
        ["rename", from, to] => Event::Rename { from: path(from), to: path(to), is_careful: true },
        ["replace", from, to] => Event::Rename { from: path(from), to: path(to), is_careful: false },
        ["exchange", one, other] => Event::Exchange(path(one), path(other)),
        ["remove", of] => Event::Remove(path(of)),
        ["end"] => Event::GoodEnd,
        _ => panic!("{line}"),
    }
}

fn verdict(text: &str) -> Result<(), String> {
    check(&text.lines().map(|line| event(line.trim())).collect::<Vec<_>>())
}

/// The trace with one passage put differently.
#[track_caller]
fn refused(trace: &str, passage: &str, instead: &str, why: &str) {
    assert_eq!(trace.matches(passage).count(), 1, "{passage:?} has to stand there once");
    let error = verdict(&trace.replace(passage, instead)).expect_err(&format!("{passage:?} -> {instead:?}"));
    assert!(error.contains(why), "{passage:?} -> {instead:?}: {error}");
}

#[test]
fn traces_that_keep_the_rules_are_accepted() {
    verdict(CACHES).unwrap();
    verdict(EVICTS).unwrap();
}

#[test]
fn an_intent_that_is_absent_late_or_unsynced_is_refused() {
    let why = "no intent on disk";
    refused(CACHES, "intent\nsync history\nhistory folders\nsync history\n", "intent\nhistory folders\n", why);
    refused(EVICTS, "evict\nsync history\n", "evict\n", why);
    refused(EVICTS, "sync history\ncreate apart\n", "create apart\nsync history\n", why);
    refused(EVICTS, "history ended\nsync history\n", "history ended\nsync history\nremove array\n", why);
}

#[test]
fn a_folder_that_the_history_was_not_told_of_is_refused() {
    let why = "no record on disk that it makes folders";
    refused(CACHES, "history folders\nsync history\n", "", why);
    refused(CACHES, "history folders\nsync history\n", "history folders\n", why);
}

#[test]
fn an_original_that_goes_before_its_copy_is_durable_is_refused() {
    let why = "no other durable copy";
    // The copy has contents, and a name, that could be forgotten.
    refused(CACHES, "sync history\nrename array old", "sync history\nwrite cache\nrename array old", why);
    refused(CACHES, "rename array old\nsync ofolder\nremove old", "write cache\nremove array", why);
    refused(CACHES, "rename half cfolder\nsync croot\n", "rename half cfolder\n", "is recorded before the folder of");
    refused(CACHES, "part cache\n", "part cache\nremove array\n", why);
    refused(CACHES, "half cfolder\nsync croot\n", "half cfolder\nremove array\nsync croot\n", why);
    refused(EVICTS, "sync history\nremove old\nsync ofolder\nrename", "sync history\nremove array\nrename", why);
}

#[test]
fn an_original_that_goes_before_the_copy_is_published_is_refused() {
    let why = "not published on disk";
    refused(CACHES, "history published\nsync history\nrename array", "history published\nrename array", why);
    refused(CACHES, "history published\nsync history\nrename array", "rename array", why);
    refused(EVICTS, "history published\nsync history\nremove old", "history published\nremove old", why);
}

#[test]
fn an_outcome_before_its_effects_are_durable_is_refused() {
    let why = "is recorded before";
    refused(CACHES, "part cache\nsync cfolder\n", "part cache\n", why);
    refused(CACHES, "part cache\nsync cfolder\n", "part cache\nsync croot\n", why);
    refused(CACHES, "part cache\nsync cfolder\n", "part cache\nsync cfolder\ndescribe cache\n", why);
    refused(CACHES, "remove old\nsync ofolder\nhistory ended", "remove old\nhistory ended", why);
    refused(CACHES, "remove old\nsync ofolder\nhistory ended\n", "remove old\nhistory ended\nsync ofolder\n", why);
    refused(EVICTS, "exchange old array\nsync ofolder\n", "exchange old array\n", why);
    refused(EVICTS, "remove cold\nsync cfolder\n", "remove cold\n", why);
}

#[test]
fn after_a_sync_that_failed_a_good_outcome_is_refused() {
    let passage = "remove old\nsync ofolder\nhistory ended\nsync history\nend";
    verdict(&CACHES.replace(passage, "remove old\nfail ofolder\nhistory failed")).unwrap();
    refused(CACHES, passage, "remove old\nfail ofolder\nhistory ended", "is recorded before");
    refused(CACHES, passage, "remove old\nhistory failed", "is recorded before");
}

#[test]
fn a_copy_that_gets_its_name_before_its_last_sync_is_refused() {
    let why = "gets its name unsynced";
    refused(CACHES, "times part\nsync part\n", "times part\n", why);
    refused(CACHES, "times part\nsync part\n", "times part\ndatasync part\n", why);
    refused(
        CACHES,
        "sync part\nrename part cache\n",
        "sync part\nrename part cache\ntimes cache\n",
        "is recorded before",
    );
    refused(CACHES, "sync part\nrename part cache\n", "rename part cache\nsync cache\n", why);
    refused(EVICTS, "describe apart\nsync apart\n", "sync apart\ndescribe apart\n", why);
    refused(CACHES, "describe half\nsync half\n", "describe half\n", why);
}

#[test]
fn what_could_replace_a_file_is_refused() {
    refused(CACHES, "rename part cache", "replace part cache", "could replace");
    refused(CACHES, "rename part cache", "replace part array", "could replace");
    refused(CACHES, "rename part cache", "rename part array", "would replace");
    refused(CACHES, "create part", "open part", "could open what is there");
    refused(CACHES, "create part", "write array\ncreate part", "did not make");
}

#[test]
fn a_good_end_with_something_to_forget_is_refused() {
    refused(CACHES, "history ended\nsync history\n", "history ended\n", "at the end");
    refused(EVICTS, "history ended\nsync history\n", "create apart\n", "names are not synced at the end");
}
