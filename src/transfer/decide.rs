//! What an eviction has to do, given what stands under the names of a file. Pure.
//!
//! Owns the rule that no decision ever gives up the only complete copy of the newest content. The
//! same table serves the first attempt and the settling after a crash, so every intermediate shape is
//! a row of it.

use crate::config::Placement;

/// What stands under the array's name of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ArrayName {
    Absent,
    /// The original, as it was when the copy was made.
    Original,
    /// A regular file that is not the original.
    Replaced,
    /// The symbolic link to the cached copy that we made.
    OurLink,
    /// A folder, a device, or somebody else's link.
    Foreign,
}

/// What stands under `NAME.plexcached`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeptName {
    Absent,
    Original,
    /// Our link, on its way out.
    OurLink,
    Foreign,
}

/// What stands under the cache's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CacheName {
    Absent,
    /// The copy as we made it.
    Ours,
    /// A regular file that differs from the copy that we made: somebody changed it in place.
    Changed,
    Foreign,
}

/// How a file leaves the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The array has the content already: remove the copy.
    DropCopy,
    /// The array has a regular file of the same name; remove the copy if the contents are equal, else
    /// leave both.
    DropIfEqual,
    /// Rename the kept original back, then remove the copy if there is one.
    Restore,
    /// Put the kept original in the place of our link in one step, then remove the copy if there is one.
    RestoreOverLink,
    /// Copy the cached file to the array's free name, then remove it from the cache.
    CopyBack,
    /// Copy the cached file over what stands under the array's name (the unchanged original, or our
    /// link), in one step, then remove it from the cache.
    CopyBackOver,
    /// There is no copy any more and the array has the file: nothing to do but to say so.
    Forget,
    /// Neither tier has the file any more: somebody deleted it.
    Vanished,
    /// Leave everything as it is.
    Leave(&'static str),
}

/// Chooses the way for what was seen.
#[expect(clippy::match_same_arms, reason = "every row of the table has a reason of its own")]
pub(super) fn evict_way(placement: Placement, array: ArrayName, kept: KeptName, copy: CacheName) -> Way {
    use ArrayName as A;
    use CacheName as C;
    let retained = matches!(placement, Placement::Hide | Placement::Symlink) && kept == KeptName::Original;
    match (copy, array) {
        (C::Foreign, _) => Way::Leave("what lies on the cache is not a regular file"),
        (_, A::Foreign) => Way::Leave("what lies on the array is not a regular file"),
        (C::Absent, A::Original | A::Replaced) => Way::Forget,
        (C::Absent, A::OurLink) if retained => Way::RestoreOverLink,
        (C::Absent, A::OurLink) => Way::Leave("the cached copy is gone, and so is the original"),
        (C::Absent, A::Absent) if retained => Way::Restore,
        (C::Absent, A::Absent) => Way::Vanished,
        (C::Ours, A::Original) if placement == Placement::Move => Way::DropIfEqual,
        (C::Ours, A::Original) => Way::DropCopy,
        // Somebody (Sonarr, Radarr) put another file there: that one is newer, and the copy is stale.
        // In `move` the array's name was free, so whose file it is cannot be known.
        (C::Ours, A::Replaced) if placement == Placement::Move => Way::DropIfEqual,
        (C::Ours, A::Replaced) => Way::DropCopy,
        (C::Ours, A::Absent) if retained => Way::Restore,
        (C::Ours, A::OurLink) if retained => Way::RestoreOverLink,
        (C::Ours | C::Changed, A::Absent) => Way::CopyBack,
        // Changed in place: the copy is the newer one, and the original is retained by nobody's wish.
        (C::Ours | C::Changed, A::OurLink) | (C::Changed, A::Original) => Way::CopyBackOver,
        (C::Changed, A::Replaced) => Way::DropIfEqual,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACEMENTS: [Placement; 4] = [Placement::Copy, Placement::Hide, Placement::Move, Placement::Symlink];
    const ARRAY: [ArrayName; 5] =
        [ArrayName::Absent, ArrayName::Original, ArrayName::Replaced, ArrayName::OurLink, ArrayName::Foreign];
    const KEPT: [KeptName; 4] = [KeptName::Absent, KeptName::Original, KeptName::OurLink, KeptName::Foreign];
    const COPY: [CacheName; 4] = [CacheName::Absent, CacheName::Ours, CacheName::Changed, CacheName::Foreign];

    fn every_state(mut check: impl FnMut(Placement, ArrayName, KeptName, CacheName, Way)) {
        for placement in PLACEMENTS {
            for array in ARRAY {
                for kept in KEPT {
                    for copy in COPY {
                        check(placement, array, kept, copy, evict_way(placement, array, kept, copy));
                    }
                }
            }
        }
    }

    #[test]
    fn the_copy_is_only_dropped_when_the_array_has_a_regular_file() {
        every_state(|_, array, _, _, way| {
            if matches!(way, Way::DropCopy | Way::DropIfEqual | Way::Forget) {
                assert!(matches!(array, ArrayName::Original | ArrayName::Replaced), "{array:?} {way:?}");
            }
        });
    }

    #[test]
    fn a_changed_copy_is_never_dropped_unseen() {
        every_state(|_, _, _, copy, way| {
            if copy == CacheName::Changed {
                assert!(!matches!(way, Way::DropCopy | Way::Restore | Way::RestoreOverLink), "{way:?}");
            }
        });
    }

    #[test]
    fn only_a_kept_original_is_restored() {
        every_state(|placement, _, kept, _, way| {
            if matches!(way, Way::Restore | Way::RestoreOverLink) {
                assert_eq!(kept, KeptName::Original);
                assert!(matches!(placement, Placement::Hide | Placement::Symlink));
            }
        });
    }

    #[test]
    fn nothing_is_done_to_what_is_not_a_regular_file_or_ours() {
        every_state(|_, array, _, copy, way| {
            if array == ArrayName::Foreign || copy == CacheName::Foreign {
                assert!(matches!(way, Way::Leave(_)), "{way:?}");
            }
        });
    }

    #[test]
    fn a_file_on_the_array_is_only_overwritten_by_its_own_newer_content() {
        every_state(|_, array, _, copy, way| {
            if way == Way::CopyBackOver {
                let newer = (array, copy) == (ArrayName::Original, CacheName::Changed);
                assert!(newer || array == ArrayName::OurLink, "{array:?} {copy:?}");
            }
            if way == Way::CopyBack {
                assert_eq!(array, ArrayName::Absent);
            }
        });
    }
}
