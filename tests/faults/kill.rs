//! SIGKILL at every step, and again while the next run repairs.

use crate::stepper::{Call, Fate};
use crate::world::{JOBS, Job, PLACEMENTS, SIDES, World, stride};

/// Kills at every `stride`-th call, each in a world of its own; the other calls have the fate `usual`.
fn kill_everywhere(placement: &'static str, job: Job, usual: fn(&Call) -> Fate) -> usize {
    let stride = stride(29);
    let recording = World::new(placement, job).run(|_, call| usual(call));
    assert_eq!(recording.status, Some(0), "{placement} {job:?}");
    for victim in (0..recording.calls.len()).step_by(stride) {
        let mut world = World::new(placement, job);
        let trace = world.run(|number, call| if number == victim { Fate::Killed } else { usual(call) });
        let names = |calls: &[Call]| calls.iter().map(|call| call.name).collect::<Vec<_>>();
        assert_eq!(names(&trace.calls), names(&recording.calls[..=victim]), "the same run has the same calls");
        world.claim(trace.status.is_none(), "it was not killed");
        world.repairs_itself();
    }
    recording.calls.len()
}

fn happens(_: &Call) -> Fate {
    Fate::Happens
}

/// As NFS and FUSE do it: renaming without replacing is not known there. Exchanging is.
fn without_noreplace(call: &Call) -> Fate {
    let is_refused = call.name == "renameat2" && call.flags & u64::from(libc::RENAME_NOREPLACE) != 0;
    if is_refused { Fate::Fails(libc::EINVAL) } else { Fate::Happens }
}

fn in_every_job(placement: &'static str, usual: fn(&Call) -> Fate) {
    for job in JOBS {
        let calls = kill_everywhere(placement, job, usual);
        println!("{placement} {job:?}: {calls} calls");
    }
}

#[test]
fn a_kill_at_any_step_loses_nothing_in_copy() {
    in_every_job("copy", happens);
}

#[test]
fn a_kill_at_any_step_loses_nothing_in_hide() {
    in_every_job("hide", happens);
}

#[test]
fn a_kill_at_any_step_loses_nothing_in_move() {
    in_every_job("move", happens);
}

#[test]
fn a_kill_at_any_step_loses_nothing_in_symlink() {
    in_every_job("symlink", happens);
}

#[test]
fn a_kill_loses_nothing_where_renaming_takes_a_link_and_an_unlink() {
    for placement in PLACEMENTS {
        in_every_job(placement, without_noreplace);
    }
}

#[test]
fn a_second_kill_during_the_repair_loses_nothing() {
    // Both strides are coprime to the length of a phase, so that all kinds of calls get their turn.
    let stride = if stride(61) == 1 { 5 } else { stride(61) };
    for placement in PLACEMENTS {
        for job in JOBS {
            let calls = World::new(placement, job).run(|_, call| happens(call)).calls.len();
            for victim in (2..calls).step_by(stride) {
                for second in (1..).step_by(stride) {
                    let mut world = World::new(placement, job);
                    world.run(|number, _| if number == victim { Fate::Killed } else { Fate::Happens });
                    let repair =
                        world.run_sync(|number, _| if number == second { Fate::Killed } else { Fate::Happens });
                    let is_beyond_its_end = repair.status.is_some();
                    world.repairs_itself();
                    if is_beyond_its_end {
                        break;
                    }
                }
            }
        }
    }
}

/// Whoever asks the program to stop finds every file as it was or where it was to go, and no action open.
#[test]
fn a_stop_at_any_step_ends_every_action() {
    let stride = stride(17);
    for placement in PLACEMENTS {
        for job in JOBS {
            let calls = World::new(placement, job).run(|_, call| happens(call)).calls.len();
            for victim in (0..calls).step_by(stride) {
                let mut world = World::new(placement, job);
                let trace = world.run(|number, _| if number == victim { Fate::Asked } else { Fate::Happens });
                world.claim(matches!(trace.status, Some(0 | 143)), &format!("it ended with {:?}", trace.status));
                world.claim(trace.status != Some(0) || world.is_done(), "it ended well and did not do it");
                world.claim(world.open_actions().is_empty(), "an action is open");
                world.nothing_is_left_over();
                world.repairs_itself();
            }
        }
    }
}

/// Every `stride`-th call, and each that gives a file another name.
fn moments(calls: &[Call], stride: usize) -> Vec<usize> {
    (0..calls.len()).filter(|at| at % stride == 0 || calls[*at].name == "renameat2").collect()
}

/// Somebody replaces the file between two steps, as Sonarr does; and in some worlds a kill follows soon.
/// Just before a renaming it is tried with no kill and with a kill just after it.
#[test]
fn what_somebody_puts_in_the_place_of_a_file_wins() {
    let stride = stride(29);
    for placement in PLACEMENTS {
        for job in JOBS {
            let calls = World::new(placement, job).run(|_, call| happens(call)).calls;
            for (n, victim) in moments(&calls, stride).into_iter().enumerate() {
                let kills: &[usize] = if calls[victim].name == "renameat2" { &[0, 1] } else { &[n % 4] };
                for &later in kills {
                    let mut world = World::new(placement, job);
                    let replace = world.replacement();
                    world.run(|number, _| {
                        if number == victim {
                            replace();
                        }
                        if later > 0 && number == victim + later { Fate::Killed } else { Fate::Happens }
                    });
                    world.keeps_the_replacement();
                }
            }
        }
    }
}

/// A write that begins before the original is renamed or removed, or the copy dropped, and ends after it;
/// by somebody who was let in, and by somebody whom a lease keeps waiting.
#[test]
fn what_somebody_writes_to_a_file_that_is_moved_is_kept() {
    let stride = stride(29);
    for placement in PLACEMENTS {
        for job in JOBS {
            let calls = World::new(placement, job).run(|_, call| happens(call)).calls;
            for victim in moments(&calls, stride) {
                for side in SIDES {
                    let mut world = World::new(placement, job);
                    let begin = world.writer(side);
                    let mut writer = None;
                    world.run(|number, _| {
                        if number == victim {
                            writer = begin();
                        }
                        Fate::Happens
                    });
                    if let Some(writer) = writer {
                        world.keeps_what_was_written(writer);
                    }
                }
            }
        }
    }
}
