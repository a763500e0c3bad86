//! Kills, errors and power cuts while the files of several units go together, with the folders that are made for them.

use crate::durability::Recording;
use crate::order::Event;
use crate::stepper::{Call, Fate};
use crate::world::{Job, PLACEMENTS, World, stride};

fn world(placement: &'static str) -> World {
    World::with_several_units(placement, Job::Sync)
}

#[test]
fn folders_of_several_units_are_made_together() {
    let mut recording = Recording::of(world("copy"));
    recording.run(false, |_, _| Fate::Happens);
    recording.keeps_the_order();
    let events = &recording.events;
    // The shows, and then the seasons, each in one go; and their names are durable with one sync of where they are.
    let is_made = |event: &Event| matches!(event, Event::Folder(_));
    let steps: Vec<bool> =
        events.iter().filter(|event| is_made(event) || matches!(event, Event::Sync(_))).map(is_made).collect();
    let runs: Vec<usize> = steps.chunk_by(|a, b| *a && *b).map(<[bool]>::len).filter(|run| *run > 1).collect();
    assert_eq!(runs, [3, 3]);
    let syncs = events.iter().filter(|event| matches!(event, Event::Sync(path) if path.ends_with("cache/media/TV")));
    assert_eq!(syncs.count(), 1, "one for the names of all shows");
}

#[test]
fn a_kill_at_any_step_of_several_units_loses_nothing() {
    for placement in PLACEMENTS {
        let calls = world(placement).run(|_, _| Fate::Happens).calls.len();
        for victim in (0..calls).step_by(stride(17)) {
            let mut world = world(placement);
            world.run(|number, _| if number == victim { Fate::Killed } else { Fate::Happens });
            world.repairs_itself();
        }
    }
}

#[test]
fn an_error_of_one_unit_is_none_of_the_others() {
    for placement in PLACEMENTS {
        let calls = world(placement).run(|_, _| Fate::Happens).calls.len();
        for (index, errno) in [libc::EIO, libc::ENOSPC, libc::EROFS].into_iter().enumerate() {
            for victim in (index * 7..calls).step_by(stride(29)) {
                let mut world = world(placement);
                let trace = world.run(|number, _| if number == victim { Fate::Fails(errno) } else { Fate::Happens });
                world.claim(trace.status != Some(0) || world.is_done(), "it ended well and did not do it");
                world.repairs_itself();
            }
        }
    }
}

#[test]
fn what_several_units_rely_on_is_durable_before_and_after_a_kill_or_an_error() {
    for placement in PLACEMENTS {
        let calls = world(placement).run(|_, _| Fate::Happens).calls.len();
        for (fate, first) in [(Fate::Killed, 3), (Fate::Fails(libc::EIO), 11)] {
            for victim in (first..calls).step_by(stride(31)) {
                let mut recording = Recording::of(world(placement));
                recording.run(false, |number, _| if number == victim { fate } else { Fate::Happens });
                recording.keeps_the_order();
                recording.run(true, |_, _| Fate::Happens);
                recording.keeps_the_order();
            }
        }
    }
}

/// A folder whose name cannot be made durable is taken away again. Where that fails too, it is there, and of no use.
#[test]
fn nothing_relies_on_a_folder_that_could_neither_be_made_durable_nor_taken_away() {
    for placement in PLACEMENTS {
        let calls = world(placement).run(|_, _| Fate::Happens).calls;
        // Where a folder has got its name the next sync is that of the folder above.
        let is_named = |call: &Call| {
            call.name == "renameat2" && call.place.starts_with("cache") && call.names.contains("Season 01")
        };
        let first = calls.iter().position(is_named).unwrap();
        let syncs =
            (0..calls.len()).filter(|at| calls[*at].name == "fsync" && calls[*at].place.starts_with("cache/media"));
        let syncs: Vec<usize> = syncs.filter(|at| *at < first + 6).collect();
        assert!(syncs.len() > 8, "those of seven folders and of those above them: {syncs:?}");
        for victim in syncs {
            let mut recording = Recording::of(world(placement));
            recording.run(false, |number, call| {
                let is_taken_away = number > victim && call.name == "unlinkat";
                if number == victim || is_taken_away { Fate::Fails(libc::EIO) } else { Fate::Happens }
            });
            recording.keeps_the_order();
            recording.run(true, |_, _| Fate::Happens);
            recording.keeps_the_order();
        }
    }
}
