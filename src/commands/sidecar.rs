//! Which files belong to a video. Pure.
//!
//! By exact stem and a dot, case-insensitively only in the extension; a file belongs to the video with
//! the longest stem that fits, so `Film.Part2.srt` is not a sidecar of `Film.mkv` where there is a
//! `Film.Part2.mkv`. Names that programs use while they work, and our own, are never sidecars.

use crate::config::Sidecars;

/// Files that are subtitles, or belong to one.
const SUBTITLES: &[&str] = &["srt", "ass", "ssa", "sub", "idx", "sup", "vtt", "smi", "sbv", "mks", "ttml"];

/// Files that are videos in their own right.
const VIDEOS: &[&str] = &[
    "mkv", "mp4", "m4v", "avi", "mov", "wmv", "ts", "m2ts", "mts", "mpg", "mpeg", "webm", "flv", "vob", "iso", "ogm",
    "divx", "3gp", "asf", "rmvb", "strm",
];

/// Files that somebody is still working on, or that another tool has put aside.
const UNFINISHED: &[&str] = &["part", "partial", "tmp", "!qb", "crdownload", "plexcached", "aria2", "!ut"];

/// The folder for subtitles beside a video, whatever its case.
pub(super) const SUBS: &str = "subs";

/// Says which names of a folder belong to the video `stem`.
pub(super) struct Rule<'a> {
    pub(super) mode: Sidecars,
    /// The video's name without its extension.
    pub(super) stem: &'a str,
    /// The names in the video's folder.
    pub(super) names: &'a [String],
}

impl Rule<'_> {
    /// Whether `name`, in the video's own folder, is a sidecar of it.
    pub(super) fn takes(&self, name: &str) -> bool {
        let Some(rest) = strip_stem(name, self.stem) else { return false };
        let Some(extension) = extension(rest) else { return false };
        self.wants(&extension) && !self.names.iter().any(|other| self.is_closer_video(other, name))
    }

    /// Whether `name`, in the folder `Subs`, is a sidecar: by stem, or because the video is alone.
    pub(super) fn takes_in_subs(&self, name: &str) -> bool {
        let Some(extension) = extension(name) else { return false };
        let is_subtitle = self.wants(&extension) && SUBTITLES.contains(&extension.as_str());
        is_subtitle && (strip_stem(name, self.stem).is_some() || self.is_alone())
    }

    /// Whether anything in `Subs/FOLDER` belongs to the video.
    pub(super) fn takes_subs_folder(&self, folder: &str) -> bool {
        self.mode != Sidecars::None && folder == self.stem
    }

    /// Whether there is no other video in the folder.
    fn is_alone(&self) -> bool {
        self.names.iter().filter(|name| extension(name).is_some_and(|e| VIDEOS.contains(&e.as_str()))).count() <= 1
    }

    fn wants(&self, extension: &str) -> bool {
        match self.mode {
            Sidecars::None => false,
            Sidecars::Subtitles => SUBTITLES.contains(&extension),
            Sidecars::All => !VIDEOS.contains(&extension) && !UNFINISHED.contains(&extension),
        }
    }

    /// Whether `video` is another video whose longer stem fits `name` too.
    fn is_closer_video(&self, video: &str, name: &str) -> bool {
        let Some((stem, end)) = video.rsplit_once('.') else { return false };
        VIDEOS.contains(&end.to_lowercase().as_str())
            && stem.len() > self.stem.len()
            && strip_stem(name, stem).is_some()
    }
}

/// What follows the stem and a dot.
fn strip_stem<'a>(name: &'a str, stem: &str) -> Option<&'a str> {
    if name.starts_with('.') {
        return None;
    }
    name.strip_prefix(stem)?.strip_prefix('.')
}

fn extension(name: &str) -> Option<String> {
    let last = name.rsplit('.').next().filter(|last| !last.is_empty())?;
    Some(last.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(mode: Sidecars, stem: &str, names: &[&str]) -> Vec<String> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let rule = Rule { mode, stem, names: &names };
        names.iter().filter(|name| rule.takes(name)).cloned().collect()
    }

    #[test]
    fn subtitles_belong_to_a_video_by_exact_stem() {
        let names =
            ["A.mkv", "A.srt", "A.en.forced.SRT", "A.nfo", "AB.srt", "A-trailer.srt", ".A.srt", "A.srt.plexcached"];
        assert_eq!(taken(Sidecars::Subtitles, "A", &names), ["A.srt", "A.en.forced.SRT"]);
        assert_eq!(taken(Sidecars::All, "A", &names), ["A.srt", "A.en.forced.SRT", "A.nfo"]);
        assert!(taken(Sidecars::None, "A", &names).is_empty());
    }

    #[test]
    fn the_longest_stem_has_the_file() {
        let names = ["Film.mkv", "Film.Part2.mkv", "Film.Part2.srt", "Film.srt"];
        assert_eq!(taken(Sidecars::All, "Film", &names), ["Film.srt"]);
        assert_eq!(taken(Sidecars::All, "Film.Part2", &names), ["Film.Part2.srt"]);
    }

    #[test]
    fn the_subs_folder_belongs_to_the_only_video_or_by_stem() {
        let one = ["A.mkv".to_owned(), "Subs".to_owned()];
        let two = ["A.mkv".to_owned(), "B.mkv".to_owned()];
        let rule = |names| Rule { mode: Sidecars::Subtitles, stem: "A", names };
        assert!(rule(&one[..]).takes_in_subs("2_English.srt"));
        assert!(!rule(&two[..]).takes_in_subs("2_English.srt"));
        assert!(rule(&two[..]).takes_in_subs("A.en.srt"));
        assert!(!rule(&one[..]).takes_in_subs("readme.txt"));
        assert!(rule(&two[..]).takes_subs_folder("A") && !rule(&two[..]).takes_subs_folder("B"));
    }
}
