//! Every point at which a run can be cut short, laid out by hand: the history ends there, and the names
//! are as that step leaves them. Plex reads a complete file already before the next run, which then
//! finishes the action or takes it back.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::util::env::{TestEnv, Tree, movie_path};

const PLACEMENTS: [&str; 4] = ["copy", "hide", "move", "symlink"];

/// A film on deck that a first `sync` has cached.
struct Film {
    env: TestEnv,
    media: String,
    bytes: Vec<u8>,
    before: Tree,
}

impl Film {
    fn cached(placement: &str) -> Self {
        let env = TestEnv::with_placement(placement);
        env.on_deck("owner", &env.movie("Dune", 2021, 300_000));
        let media = movie_path("Dune", 2021);
        let (bytes, before) = (fs::read(env.array(&media)).unwrap(), env.snapshot("disk1/media"));
        env.sync();
        assert_eq!(env.cached(), [media.as_str()], "{placement}");
        Self { env, media, bytes, before }
    }

    /// Makes the last record of that event the last one of the history, in which `from` becomes `to`.
    /// Returns how the temporary files of the last action are called.
    fn cut_history_after(&self, event: &str, from: &str, to: &str) -> String {
        let records = self.env.history();
        let last = records.iter().rposition(|record| record["event"] == event).unwrap();
        let lines: Vec<String> = records[..=last].iter().map(|record| record.to_string().replace(from, to)).collect();
        fs::write(self.env.path("state/history.jsonl"), lines.join("\n") + "\n").unwrap();
        fs::remove_file(self.env.path("state/index.json")).unwrap();
        let temp = records[..=last].iter().rfind(|record| record["event"] == "intent").unwrap()["temp"].clone();
        format!(".plexcache-{}", temp.as_str().unwrap())
    }

    fn original(&self) -> PathBuf {
        self.env.array(&self.media)
    }

    fn kept(&self) -> PathBuf {
        self.env.array(&format!("{}.plexcached", self.media))
    }

    fn copy(&self) -> PathBuf {
        self.env.cache(&self.media)
    }

    /// Renames the original and puts the link to the copy into its place.
    fn put_link(&self, original: PathBuf) {
        fs::rename(self.original(), original).unwrap();
        symlink(self.copy(), self.original()).unwrap();
    }

    #[track_caller]
    fn assert_complete(&self, stage: &str) {
        assert!(self.env.shown(&self.media).as_ref() == Some(&self.bytes), "{stage}: {:?}", self.env.snapshot(""));
    }

    #[track_caller]
    fn assert_evicted(&self, stage: &str) {
        let now = self.env.snapshot("disk1/media").without_markers().without_folder_times();
        assert_eq!(now, self.before.clone().without_folder_times(), "{stage}");
        assert_eq!(self.env.snapshot("cache/media").without_markers().entries.len(), 0, "{stage}");
    }
}

#[test]
fn caching_that_was_cut_short_at_any_step_is_settled() {
    for placement in PLACEMENTS {
        for stage in ["begun", "named", "published", "aside", "done"] {
            if placement == "copy" && stage == "aside" {
                continue;
            }
            let at = format!("{placement}, {stage}");
            // In `copy` the original is untouched, so every other placement can go on from there.
            let mut film = Film::cached("copy");
            film.env.map = film.env.map.replace("copy", placement);
            let event = if stage == "begun" || stage == "named" { "made" } else { "published" };
            let (from, to) = ("\"placement\":\"copy\"", format!("\"placement\":\"{placement}\""));
            let temp = film.cut_history_after(event, from, &to);
            match (stage, placement) {
                ("begun", _) => fs::rename(film.copy(), film.copy().with_file_name(format!("{temp}.part"))).unwrap(),
                ("aside" | "done", "hide") => fs::rename(film.original(), film.kept()).unwrap(),
                ("aside", "symlink") => film.put_link(film.original().with_file_name(format!("{temp}.lnk"))),
                ("done", "symlink") => film.put_link(film.kept()),
                ("aside", "move") => {
                    fs::rename(film.original(), film.original().with_file_name(format!("{temp}.old"))).unwrap();
                }
                ("done", "move") => fs::remove_file(film.original()).unwrap(),
                _ => {}
            }
            film.assert_complete(&at);
            film.env.run(&["evict", "no/such/file"]).expect(0);
            film.assert_complete(&at);
            assert_eq!(film.env.leftovers(), Vec::<String>::new(), "{at}");
            assert_eq!(film.env.cached().len(), usize::from(stage != "begun"), "{at}: finished or taken back");
            let shape = [film.original().is_symlink(), film.original().is_file(), film.kept().is_file()];
            let expected = match placement {
                _ if stage == "begun" => [false, true, false],
                "copy" => [false, true, false],
                "hide" => [false, false, true],
                "move" => [false, false, false],
                _ => [true, true, true],
            };
            assert_eq!(shape, expected, "{at}: the array is as the placement has it");
            film.env.sync();
            film.assert_complete(&at);
            assert_eq!(film.env.cached(), [film.media.as_str()], "{at}");
            film.env.run(&["evict", "--all"]).expect(0);
            film.assert_evicted(&at);
        }
    }
}

#[test]
fn an_eviction_that_was_cut_short_at_any_step_is_settled() {
    for placement in PLACEMENTS {
        for stage in ["begun", "exchanged", "restored", "aside", "done"] {
            if stage == "exchanged" && placement != "symlink" {
                continue;
            }
            let at = format!("{placement}, {stage}");
            let film = Film::cached(placement);
            // The same file comes back below, as if it had never been removed.
            let saved = film.env.path("saved");
            fs::hard_link(film.copy(), &saved).unwrap();
            film.env.run(&["evict", "--all"]).expect(0);
            let copied_back = placement == "move" && stage != "begun";
            let temp = film.cut_history_after(if copied_back { "published" } else { "intent" }, "", "");
            fs::create_dir_all(film.copy().parent().unwrap()).unwrap();
            match stage {
                "aside" => fs::rename(&saved, film.copy().with_file_name(format!("{temp}.old"))).unwrap(),
                "done" => fs::remove_file(&saved).unwrap(),
                _ => fs::rename(&saved, film.copy()).unwrap(),
            }
            match (stage, placement) {
                ("begun", "hide") => fs::rename(film.original(), film.kept()).unwrap(),
                ("begun", "symlink") => film.put_link(film.kept()),
                ("begun", "move") => fs::remove_file(film.original()).unwrap(),
                ("exchanged", _) => symlink(film.copy(), film.kept()).unwrap(),
                _ => {}
            }
            film.assert_complete(&at);
            film.env.run(&["evict", "no/such/file"]).expect(0);
            film.assert_complete(&at);
            film.assert_evicted(&at);
        }
    }
}
