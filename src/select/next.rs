//! The next episodes: what somebody will play after the episode that is on deck.
//!
//! Owns the order of episodes. They follow each other by season and number, whatever order the
//! server lists them in; seasons' ends and gaps do not stop them, watched ones and those without a
//! file are passed over, and specials (season 0) never follow. Pure.

use super::Tastes;
use super::units::is_usable;
use crate::plex::{Item, ItemKind, RatingKey};

/// How far to look ahead: so many episodes, and more until so much play time is ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lookahead {
    pub(super) episodes: u32,
    pub(super) minutes: u32,
}

impl Lookahead {
    pub(super) fn of(tastes: &Tastes) -> Self {
        Self { episodes: tastes.next_episodes, minutes: tastes.prefetch_minutes }
    }

    pub(super) fn is_off(self) -> bool {
        self.episodes == 0 && self.minutes == 0
    }
}

/// The show of an episode whose place in it is known; without these nothing can follow it.
pub(super) fn show_of(item: &Item) -> Option<&RatingKey> {
    position(item)?;
    show_key(item)
}

/// The show of any episode.
pub(super) fn show_key(item: &Item) -> Option<&RatingKey> {
    item.show.as_ref()?.rating_key.as_ref()
}

/// The episodes among `episodes` that follow `seed`, each with how many steps it is ahead, from 1.
/// The watch state in `episodes` is that of the user who is asked about.
pub(super) fn next<'i>(seed: &Item, episodes: &'i [Item], ahead: Lookahead) -> Vec<(u32, &'i Item)> {
    let (Some(start), Some(show)) = (position(seed), show_of(seed)) else { return Vec::new() };
    let is_after = |place: (i64, i64), item: &Item| place > start && item.rating_key != seed.rating_key;
    following(show, episodes, ahead, is_after)
}

/// The next episodes of a show that need not be on deck: those after the one that the user saw last, or
/// from that one on when it was not seen to its end; from the first where none was ever seen.
pub(super) fn upcoming<'i>(show: &RatingKey, episodes: &'i [Item], count: u32) -> Vec<(u32, &'i Item)> {
    let is_begun = |item: &&Item| item.watched() || item.view_offset_ms.is_some();
    let seen = episodes.iter().filter(|item| show_key(item) == Some(show)).filter(is_begun);
    let seen = seen.filter_map(|item| Some((position(item).filter(|place| place.0 > 0)?, item)));
    let last = seen.max_by_key(|(place, item)| (item.last_viewed_at, *place));
    let start = last.map(|(place, item)| (place, item.watched()));
    let is_due = |place: (i64, i64), _: &Item| match start {
        None => true,
        Some((start, to_its_end)) => place > start || (place == start && !to_its_end),
    };
    following(show, episodes, Lookahead { episodes: count, minutes: 0 }, is_due)
}

/// The unwatched episodes of a show, in their order, for which `is_due` holds.
fn following<'i>(
    show: &RatingKey,
    episodes: &'i [Item],
    ahead: Lookahead,
    is_due: impl Fn((i64, i64), &Item) -> bool,
) -> Vec<(u32, &'i Item)> {
    let mut following: Vec<((i64, i64), &Item)> = episodes
        .iter()
        .filter(|item| show_key(item) == Some(show) && !item.watched() && is_usable(item))
        .filter_map(|item| Some((position(item)?, item)))
        .filter(|&(place, item)| place.0 > 0 && is_due(place, item))
        .collect();
    following.sort_by_key(|&(place, item)| (place, &item.rating_key));
    following.dedup_by_key(|(_, item)| &item.rating_key);

    let mut chosen = Vec::new();
    let (mut step, mut last, mut ahead_ms) = (0, None, Some(0_i64));
    for (place, item) in following {
        // An episode may be there as two items; they are the same step.
        if last != Some(place) {
            // Where a duration is not known, play time cannot be counted and the number decides alone.
            let enough = ahead_ms.is_none_or(|ms| ms >= i64::from(ahead.minutes) * 60_000);
            if step >= ahead.episodes && enough {
                break;
            }
            let duration = item.duration_ms.filter(|&ms| ms > 0);
            ahead_ms = ahead_ms.zip(duration).map(|(sum, ms)| sum.saturating_add(ms));
            (step, last) = (step + 1, Some(place));
        }
        chosen.push((step, item));
    }
    chosen
}

/// Season and number.
fn position(item: &Item) -> Option<(i64, i64)> {
    (item.kind == ItemKind::Episode).then_some(())?;
    item.season.zip(item.episode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::double::{episode, watched};
    use proptest::prelude::*;

    #[test]
    fn a_show_goes_on_after_what_was_seen_last_and_in_the_middle_of_it() {
        let show = RatingKey::new("Lost");
        let plain = || [(0, 1), (1, 1), (1, 2), (1, 3), (2, 1), (2, 2)].map(|(season, at)| episode("Lost", season, at));
        let with = |changes: &[(usize, Item)]| {
            let mut episodes = plain();
            for (at, item) in changes {
                episodes[*at] = item.clone();
            }
            upcoming(&show, &episodes, 2)
                .iter()
                .map(|(step, item)| format!("+{step} {}", item.label()))
                .collect::<Vec<_>>()
        };
        let begun = |season, at, when| Item {
            view_offset_ms: Some(60_000),
            last_viewed_at: Some(when),
            ..episode("Lost", season, at)
        };
        let seen = |season, at, when| watched(episode("Lost", season, at), Some(when));
        for (changes, expected) in [
            (vec![], &["+1 Lost S01E01", "+2 Lost S01E02"][..]),
            (vec![(0, seen(0, 1, 9))], &["+1 Lost S01E01", "+2 Lost S01E02"]),
            (vec![(2, seen(1, 2, 9))], &["+1 Lost S01E03", "+2 Lost S02E01"]),
            (vec![(2, seen(1, 2, 9)), (4, seen(2, 1, 5))], &["+1 Lost S01E03", "+2 Lost S02E02"]),
            (vec![(1, seen(1, 1, 5)), (3, begun(1, 3, 9))], &["+1 Lost S01E03", "+2 Lost S02E01"]),
            (vec![(5, seen(2, 2, 9))], &[]),
        ] {
            assert_eq!(with(&changes), expected, "{changes:?}");
        }
        assert!(upcoming(&RatingKey::new("Found"), &plain(), 2).is_empty());
    }

    fn labels(seed: &Item, episodes: &[Item], ahead: Lookahead) -> Vec<String> {
        next(seed, episodes, ahead).iter().map(|(step, item)| format!("+{step} {}", item.label())).collect()
    }

    const FIVE: Lookahead = Lookahead { episodes: 5, minutes: 0 };

    #[test]
    fn they_go_on_over_the_end_of_a_season_past_watched_ones_specials_and_gaps() {
        let mut episodes: Vec<Item> = [(0, 1), (1, 8), (1, 9), (2, 1), (2, 2), (2, 5), (2, 6), (4, 1), (4, 2)]
            .map(|(season, number)| episode("Lost", season, number))
            .to_vec();
        episodes[3] = watched(episodes[3].clone(), Some(1));
        let seed = episode("Lost", 1, 8);
        let expected = ["+1 Lost S01E09", "+2 Lost S02E02", "+3 Lost S02E05", "+4 Lost S02E06", "+5 Lost S04E01"];
        assert_eq!(labels(&seed, &episodes, FIVE), expected);
        episodes.reverse();
        assert_eq!(labels(&seed, &episodes, FIVE), expected);
    }

    #[test]
    fn nothing_follows_where_nothing_is_left_or_the_place_is_not_known() {
        let seed = episode("Lost", 1, 1);
        let later = episode("Lost", 1, 2);
        let one = Lookahead { episodes: 1, minutes: 0 };
        for (name, seed, candidate) in [
            ("all watched", seed.clone(), watched(later.clone(), None)),
            ("the last one", episode("Lost", 1, 3), later.clone()),
            ("no number on deck", Item { episode: None, ..seed.clone() }, later.clone()),
            ("no season on deck", Item { season: None, ..seed.clone() }, later.clone()),
            ("no number", seed.clone(), Item { episode: None, ..later.clone() }),
            ("a special", seed.clone(), episode("Lost", 0, 2)),
            ("in the trash", seed.clone(), Item { deleted: true, ..later.clone() }),
            ("no file", seed.clone(), Item { versions: Vec::new(), ..later.clone() }),
            ("another show", seed.clone(), episode("Found", 1, 2)),
            ("an unknown show", seed.clone(), Item { show: None, ..later.clone() }),
            ("no show on deck", Item { show: None, ..seed.clone() }, later.clone()),
        ] {
            assert!(next(&seed, &[candidate], one).is_empty(), "{name}");
        }
        assert_eq!(labels(&seed, &[later], one), ["+1 Lost S01E02"]);
    }

    #[test]
    fn after_a_special_come_the_regular_ones() {
        let episodes = [episode("Lost", 0, 7), watched(episode("Lost", 1, 1), None), episode("Lost", 1, 2)];
        assert_eq!(labels(&episode("Lost", 0, 3), &episodes, FIVE), ["+1 Lost S01E02"]);
    }

    #[test]
    fn two_items_of_one_episode_are_one_step() {
        let twin = Item { rating_key: RatingKey::new("twin"), ..episode("Lost", 1, 2) };
        let episodes = [episode("Lost", 1, 3), twin, episode("Lost", 1, 2), episode("Lost", 1, 2)];
        let ahead = Lookahead { episodes: 1, minutes: 0 };
        assert_eq!(labels(&episode("Lost", 1, 1), &episodes, ahead), ["+1 Lost S01E02", "+1 Lost S01E02"]);
    }

    #[test]
    fn minutes_add_episodes_until_that_much_is_ahead() {
        let long = |number| Item { duration_ms: Some(25 * 60_000), ..episode("Lost", 1, number) };
        let mut episodes: Vec<Item> = (1..=9).map(long).collect();
        let count = |episodes: &[Item], ahead| next(&episodes[0], episodes, ahead).len();
        for (wanted, minutes, expected) in [(1, 0, 1), (1, 25, 1), (1, 26, 2), (4, 26, 4), (0, 60, 3), (0, 0, 0)] {
            assert_eq!(count(&episodes, Lookahead { episodes: wanted, minutes }), expected, "{wanted} {minutes}");
        }
        episodes[2].duration_ms = None;
        assert_eq!(count(&episodes, Lookahead { episodes: 1, minutes: 600 }), 2);
    }

    proptest! {
        #[test]
        fn they_are_unwatched_later_in_order_and_never_too_many(
            rows in proptest::collection::vec((0_i64..4, 0_i64..6, any::<bool>()), 0..30),
            start in (0_i64..4, 0_i64..6),
            count in 0_u32..8,
        ) {
            let episodes: Vec<Item> = rows
                .iter()
                .map(|&(season, number, seen)| {
                    let item = episode("Lost", season, number);
                    if seen { watched(item, None) } else { item }
                })
                .collect();
            let seed = episode("Lost", start.0, start.1);
            let chosen = next(&seed, &episodes, Lookahead { episodes: count, minutes: 0 });
            prop_assert!(chosen.len() <= count as usize);
            let mut last = position(&seed).unwrap();
            for (step, (number, item)) in (1..).zip(&chosen) {
                let place = position(item).unwrap();
                prop_assert!(place > last && place.0 > 0 && !item.watched() && *number == step);
                last = place;
            }
            let left = episodes.iter().filter(|item| !item.watched() && item.season > Some(0));
            let left: std::collections::BTreeSet<_> =
                left.filter_map(position).filter(|place| *place > position(&seed).unwrap()).collect();
            prop_assert!(chosen.len() == left.len().min(count as usize));
        }
    }
}
