//! Which files beside a video go with it, when they come, and when they leave.

use std::fs;

use crate::util::env::{TestEnv, file_at, movie_path, set_mtime};
use crate::util::fake_plex::{Media, RatingKey};

const PLACEMENTS: [&str; 4] = ["copy", "hide", "move", "symlink"];
const FOLDER: &str = "Movies/Dune (2021)";

/// A film on deck with these files beside it.
fn film_with(placement: &str, beside: &[&str]) -> TestEnv {
    film_and_key(placement, beside).0
}

fn film_and_key(placement: &str, beside: &[&str]) -> (TestEnv, RatingKey) {
    let env = TestEnv::with_placement(placement);
    let film = env.movie("Dune", 2021, 5000);
    env.on_deck("owner", &film);
    for name in beside {
        env.file(&format!("{FOLDER}/{name}"), 300);
    }
    (env, film)
}

/// A second film of the same folder that nobody wants.
fn unwanted_film(env: &TestEnv, name: &str) {
    let path = format!("{FOLDER}/{name}");
    env.file(&path, 5000);
    let media = [Media::file(&format!("/data/media/{path}"), 5000)];
    env.plex.edit(|library| library.add_movie(env.movies, "Other", 2022, &media));
}

/// What is on the cache of the film's folder, the film itself left out.
fn beside(env: &TestEnv) -> Vec<String> {
    let film = movie_path("Dune", 2021);
    let name = |path: String| path.strip_prefix(&format!("{FOLDER}/")).unwrap().to_owned();
    let cached = env.cached();
    assert!(cached.contains(&film), "{cached:?}");
    cached.into_iter().filter(|path| *path != film).map(name).collect()
}

#[test]
fn none_or_subtitles_or_all_go_with_a_video() {
    let names = [
        "Dune (2021).en.forced.SRT",
        "Dune (2021).nfo",
        "Dune (2021).pt-BR.sdh.ass",
        "Dune (2021).srt",
        "Dune (2021)-trailer.srt",
        "Dune (2021) extra.srt",
        "Dune.srt",
        ".Dune (2021).srt",
        "Dune (2021).srt.part",
        "Dune (2021).srt.plexcached",
        "poster.jpg",
    ];
    let subtitles = ["Dune (2021).en.forced.SRT", "Dune (2021).pt-BR.sdh.ass", "Dune (2021).srt"];
    let all = [subtitles[0], "Dune (2021).nfo", subtitles[1], subtitles[2]];
    for (sidecars, expected) in [("none", &[][..]), ("subtitles", &subtitles), ("all", &all)] {
        let mut env = film_with("copy", &names);
        env.configure(&format!("[select]\nsidecars = \"{sidecars}\"\n"));
        env.sync();
        assert_eq!(beside(&env), expected, "{sidecars}");
    }
    let env = film_with("copy", &names);
    env.sync();
    assert_eq!(beside(&env), subtitles, "subtitles are the default");
}

#[test]
fn a_sidecar_belongs_to_the_video_with_the_longest_stem() {
    let env = film_with("copy", &["Dune (2021).srt", "Dune (2021).Extended.srt", "Dune (2021).Extended.en.srt"]);
    unwanted_film(&env, "Dune (2021).Extended.mkv");
    env.sync();
    assert_eq!(beside(&env), ["Dune (2021).srt"]);
}

#[test]
fn all_of_the_folder_subs_belongs_to_an_only_video() {
    let names = ["Subs/2_English.srt", "subs/3_German.idx", "Subs/readme.txt", "Subs/Dune (2021)/4_French.srt"];
    let env = film_with("copy", &names);
    env.sync();
    assert_eq!(beside(&env), ["Subs/2_English.srt", "Subs/Dune (2021)/4_French.srt", "subs/3_German.idx"]);
}

#[test]
fn of_the_folder_subs_of_several_videos_each_has_what_bears_its_name() {
    let names = ["Subs/2_English.srt", "Subs/Dune (2021).en.srt", "Subs/Dune (2021)/4.srt", "Subs/Other/4.srt"];
    let env = film_with("copy", &names);
    unwanted_film(&env, "Other.mkv");
    env.sync();
    assert_eq!(beside(&env), ["Subs/Dune (2021).en.srt", "Subs/Dune (2021)/4.srt"]);
}

#[test]
fn sidecars_come_and_leave_with_their_video_in_every_placement() {
    let names = ["Dune (2021).en.srt", "Dune (2021).nfo", "Subs/2_English.srt"];
    for placement in PLACEMENTS {
        let mut env = film_with(placement, &names);
        env.configure("[select]\nsidecars = \"all\"\n[evict]\nunwanted_after = \"0\"\n");
        let before = env.snapshot("disk1/media");
        env.sync();
        assert_eq!(beside(&env), names, "{placement}");
        for name in names {
            let path = format!("{FOLDER}/{name}");
            let cached = &env.snapshot("cache/media").entries[&path];
            let original = &before.entries[&path];
            assert_eq!((&cached.contents, cached.mtime), (&original.contents, original.mtime), "{placement} {name}");
        }
        env.plex.edit(|library| library.clear_on_deck("owner"));
        env.sync();
        assert_eq!(env.snapshot("cache/media").without_markers().entries.len(), 0, "{placement}");
        assert_eq!(env.snapshot("disk1/media").without_markers(), before, "{placement}");
    }
}

#[test]
fn a_subtitle_that_appears_later_is_cached_once_plex_has_news_of_the_item() {
    for placement in PLACEMENTS {
        let (env, film) = film_and_key(placement, &[]);
        env.sync();
        env.file(&format!("{FOLDER}/Dune (2021).en.srt"), 300);
        env.sync();
        assert_eq!(beside(&env), Vec::<String>::new(), "{placement}: the array is not looked at without need");
        env.plex.edit(|library| library.item_mut(&film).updated_at = library.now + 3600);
        env.sync();
        assert_eq!(beside(&env), ["Dune (2021).en.srt"], "{placement}");
        let again = env.sync();
        assert!(again.stdout.contains("Nothing to do"), "{placement}: {}", again.stdout);
    }
}

#[test]
fn a_sidecar_that_somebody_was_writing_to_follows_its_video_in_the_next_run() {
    for placement in PLACEMENTS {
        let names = ["Dune (2021).de.srt", "Dune (2021).en.srt"];
        let env = film_with(placement, &names);
        let path = env.array(&format!("{FOLDER}/{}", names[1]));
        let writer = fs::File::options().append(true).open(path).unwrap();
        env.run(&["sync"]).expect(0);
        assert_eq!(beside(&env), names[..1], "{placement}");
        drop(writer);
        env.sync();
        assert_eq!(beside(&env), names, "{placement}");
    }
}

#[test]
fn a_sidecar_in_conflict_is_reported_and_does_not_block_its_video() {
    for placement in PLACEMENTS {
        let env = film_with(placement, &["Dune (2021).de.srt", "Dune (2021).en.srt"]);
        let mine = file_at(env.cache(&format!("{FOLDER}/Dune (2021).en.srt")), 700);
        set_mtime(&mine, 1_500_000_000, 0);
        let contents = fs::read(&mine).unwrap();
        let run = env.run(&["sync", "--json"]).expect(3);
        assert_eq!(run.left(), [format!("conflict {FOLDER}/Dune (2021).en.srt")], "{placement}");
        assert_eq!(beside(&env), ["Dune (2021).de.srt", "Dune (2021).en.srt"], "{placement}");
        assert_eq!(fs::read(&mine).unwrap(), contents, "{placement}");
        env.run(&["evict", "--all"]).expect(0);
        assert_eq!(env.cached(), [format!("{FOLDER}/Dune (2021).en.srt")], "{placement}: it is still the user's");
        assert!(env.array(&format!("{FOLDER}/Dune (2021).en.srt")).exists(), "{placement}");
    }
}

#[test]
fn a_sidecar_that_was_left_out_is_cached_once_nothing_is_in_its_way() {
    for placement in PLACEMENTS {
        let env = film_with(placement, &["Dune (2021).en.srt"]);
        let mine = file_at(env.cache(&format!("{FOLDER}/Dune (2021).en.srt")), 700);
        env.run(&["sync"]).expect(3);
        fs::remove_file(mine).unwrap();
        env.sync();
        assert_eq!(beside(&env), ["Dune (2021).en.srt"], "{placement}");
        let again = env.sync();
        assert!(again.stdout.contains("Nothing to do"), "{placement}: {}", again.stdout);
    }
}

#[test]
fn a_run_that_was_cut_short_within_a_unit_is_completed_by_the_next_one() {
    for limit in ["300", "5KB", "5.2KB"] {
        let env = film_with("copy", &["Dune (2021).en.srt"]);
        env.run(&["sync", "--max-transfer", limit]).expect(0);
        assert!(env.cached().len() < 2, "{limit}");
        env.sync();
        assert_eq!(beside(&env), ["Dune (2021).en.srt"], "{limit}");
    }
}
