//! Calls that fail: once, or from one of them on.

use std::collections::BTreeMap;

use crate::stepper::{Call, Fate};
use crate::world::{JOBS, Job, PLACEMENTS, World, stride};

/// What a disk, its room, the rights to it and a signal can say.
const ERRORS: [i32; 6] = [libc::EIO, libc::ENOSPC, libc::EDQUOT, libc::EACCES, libc::EROFS, libc::EINTR];

/// What a run that met an error may end with.
const STATUSES: [i32; 5] = [0, 1, 3, 4, 77];

fn fail_everywhere(placement: &'static str, is_lasting: bool) {
    let stride = stride(89);
    // A signal at every call from one on is none that anybody sends: who tries again would never end.
    let errors = if is_lasting { &ERRORS[..5] } else { &ERRORS[..] };
    let mut injected = BTreeMap::new();
    for job in JOBS {
        let calls = World::new(placement, job).run(|_, _| Fate::Happens).calls.len();
        for (index, errno) in errors.iter().enumerate() {
            // Each at other calls than the rest.
            for victim in (index * 13 % stride..calls).step_by(stride) {
                let status = fail(placement, job, victim, *errno, is_lasting);
                let how = format!("{}, exit status {status}", std::io::Error::from_raw_os_error(*errno));
                *injected.entry(how).or_insert(0) += 1;
            }
        }
    }
    println!("{placement}, {}: {injected:?}", if is_lasting { "lasting" } else { "once" });
}

fn fail(placement: &'static str, job: Job, victim: usize, errno: i32, is_lasting: bool) -> i32 {
    let mut world = World::new(placement, job);
    let trace = world.run(|number, _| {
        let fails = number == victim || (is_lasting && number > victim);
        if fails { Fate::Fails(errno) } else { Fate::Happens }
    });
    let status = trace.status.expect("nobody killed it");
    world.claim(STATUSES.contains(&status), "an odd status");
    world.claim(status != 0 || world.is_done(), "it ended well and did not do it");
    world.claim(status == 0 || !world.output().is_empty(), "it does not say why");
    world.repairs_itself();
    status
}

/// Writes that do a part of what they are asked for, as they may: at one call, or from there on.
#[test]
fn writes_that_are_cut_short_are_gone_on_with() {
    let mut cut = BTreeMap::new();
    for placement in PLACEMENTS {
        for job in JOBS {
            let calls = &World::new(placement, job).run(|_, _| Fate::Happens).calls;
            let writes = |on_media: bool| {
                let is_meant = move |call: &&Call| call.can_be_short() && call.is_on_media() == on_media;
                (0..calls.len()).filter(move |number| is_meant(&&calls[*number]))
            };
            let victims = writes(true).step_by(stride(2)).chain(writes(false).step_by(stride(11)));
            for victim in victims {
                for is_lasting in [false, true] {
                    let mut world = World::new(placement, job);
                    let trace = world.run(|number, call| {
                        let is_met = number == victim || (is_lasting && number > victim);
                        if is_met && call.can_be_short() { Fate::Short } else { Fate::Happens }
                    });
                    // What was not written has to be written by another call.
                    let more = trace.calls.len().cmp(&calls.len());
                    let told = format!("{:?} {:?}", calls[victim].name, calls[victim].place);
                    world.claim(trace.status == Some(0), &format!("it ended with {:?} after {told}", trace.status));
                    world.claim(more.is_gt(), &format!("nothing was written again after {told}"));
                    world.claim(world.is_done(), "it ended well and did not do it");
                    world.repairs_itself();
                    *cut.entry((calls[victim].name, calls[victim].is_on_media())).or_insert(0) += 1;
                }
            }
        }
    }
    println!("cut short, by call and whether on media: {cut:?}");
    assert!(cut.keys().any(|(_, on_media)| *on_media) && cut.keys().any(|(_, on_media)| !*on_media), "{cut:?}");
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
            let writes = |(_, call): &(usize, &Call)| {
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
