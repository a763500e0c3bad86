//! Calls that fail: once, or from one of them on.

use crate::stepper::Fate;
use crate::world::{JOBS, Job, PLACEMENTS, World, stride};

const ERRORS: [i32; 4] = [libc::EIO, libc::ENOSPC, libc::EACCES, libc::EROFS];

/// What a run that met an error may end with.
const STATUSES: [i32; 5] = [0, 1, 3, 4, 77];

fn fail_everywhere(placement: &'static str, is_lasting: bool) {
    let stride = stride(61);
    for job in JOBS {
        let calls = World::new(placement, job).run(|_, _| Fate::Happens).calls.len();
        for (index, errno) in ERRORS.into_iter().enumerate() {
            for victim in (index..calls).step_by(stride) {
                fail(placement, job, victim, errno, is_lasting);
            }
        }
    }
}

fn fail(placement: &'static str, job: Job, victim: usize, errno: i32, is_lasting: bool) {
    let mut world = World::new(placement, job);
    let trace = world.run(|number, _| {
        let fails = number == victim || (is_lasting && number > victim);
        if fails { Fate::Fails(errno) } else { Fate::Happens }
    });
    let status = trace.status.expect("nobody killed it");
    world.claim(STATUSES.contains(&status), "an odd status");
    world.claim(status != 0 || world.is_done(), "it ended well and did not do it");
    world.repairs_itself();
}

#[test]
fn an_error_at_any_step_loses_nothing_in_copy() {
    fail_everywhere("copy", false);
}

#[test]
fn an_error_at_any_step_loses_nothing_in_hide() {
    fail_everywhere("hide", false);
}

#[test]
fn an_error_at_any_step_loses_nothing_in_move() {
    fail_everywhere("move", false);
}

#[test]
fn an_error_at_any_step_loses_nothing_in_symlink() {
    fail_everywhere("symlink", false);
}

#[test]
fn errors_from_any_step_on_lose_nothing() {
    for placement in PLACEMENTS {
        fail_everywhere(placement, true);
    }
}

#[test]
fn nothing_is_touched_after_the_history_could_not_be_written() {
    for placement in PLACEMENTS {
        for job in JOBS {
            let calls = World::new(placement, job).run(|_, _| Fate::Happens).calls;
            let writes = |(_, call): &(usize, &crate::stepper::Call)| {
                call.place == "state/history.jsonl" && matches!(call.name, "write" | "fdatasync")
            };
            let writes: Vec<usize> = calls.iter().enumerate().filter(writes).map(|(number, _)| number).collect();
            assert!(writes.len() > 4, "{calls:?}");
            for victim in writes.into_iter().step_by(stride(7)) {
                let mut world = World::new(placement, job);
                let trace =
                    world.run(|number, _| if number == victim { Fate::Fails(libc::ENOSPC) } else { Fate::Happens });
                world.claim(trace.status == Some(1), "it went on");
                // Times of folders are put back all the same: they are no data.
                let touched =
                    trace.calls[victim + 1..].iter().find(|call| call.is_on_media() && call.name != "utimensat");
                world.claim(touched.is_none(), &format!("{touched:?} after the history failed"));
                world.repairs_itself();
            }
        }
    }
}
