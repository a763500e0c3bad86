//! Kills, errors and power cuts while two lanes are at work. Which call of which lane comes when is not the same in
//! every run, so a fault meets other moments each time; what must hold does not depend on that.

use std::collections::BTreeSet;

use crate::durability::Recording;
use crate::stepper::{Call, Fate};
use crate::world::{Job, PLACEMENTS, World, stride};

fn world(placement: &'static str) -> Option<World> {
    World::with_two_lanes(placement, Job::Sync)
}

/// The threads that make a file below the cache.
fn lanes(calls: &[Call]) -> usize {
    let makes = |call: &&Call| call.name == "openat" && call.paths[0].contains(".part");
    calls.iter().filter(makes).map(|call| call.thread).collect::<BTreeSet<_>>().len()
}

#[test]
fn a_kill_at_any_step_of_two_lanes_loses_nothing() {
    for placement in PLACEMENTS {
        let Some(mut whole) = world(placement) else { return };
        let trace = whole.run(|_, _| Fate::Happens);
        assert_eq!((trace.status, lanes(&trace.calls)), (Some(0), 2), "{placement}");
        for victim in (0..trace.calls.len()).step_by(stride(17)) {
            let mut world = world(placement).unwrap();
            world.run(|number, _| if number == victim { Fate::Killed } else { Fate::Happens });
            world.repairs_itself();
        }
    }
}

#[test]
fn an_error_of_one_lane_is_none_of_the_other() {
    for placement in PLACEMENTS {
        let Some(mut whole) = world(placement) else { return };
        let calls = whole.run(|_, _| Fate::Happens).calls.len();
        for (index, errno) in [libc::EIO, libc::ENOSPC, libc::EROFS].into_iter().enumerate() {
            for victim in (index * 7..calls).step_by(stride(31)) {
                let mut world = world(placement).unwrap();
                let trace = world.run(|number, _| if number == victim { Fate::Fails(errno) } else { Fate::Happens });
                world.claim(trace.status != Some(0) || world.is_done(), "it ended well and did not do it");
                world.repairs_itself();
            }
        }
    }
}

#[test]
fn what_two_lanes_rely_on_is_durable_before_and_after_a_kill() {
    for placement in PLACEMENTS {
        let Some(whole) = world(placement) else { return };
        let mut whole = Recording::of(whole);
        let calls = whole.run(false, |_, _| Fate::Happens).calls.len();
        whole.keeps_the_order();
        for victim in (3..calls).step_by(stride(23)) {
            let mut recording = Recording::of(world(placement).unwrap());
            recording.run(false, |number, _| if number == victim { Fate::Killed } else { Fate::Happens });
            recording.run(true, |_, _| Fate::Happens);
            recording.keeps_the_order();
        }
    }
}
