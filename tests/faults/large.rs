//! A file so large that one thread reads it, one writes it and one reads it back.

use crate::stepper::{Call, Fate};
use crate::world::{Job, World, stride};

/// The calls that write it and make it durable: at the beginning, in the middle, and all from the last whole block on,
/// which is followed by five bytes that go another way.
fn moments(calls: &[Call]) -> Vec<usize> {
    let is_its = |at: &usize| calls[*at].is_on_media() && calls[*at].place.contains("Fargo");
    let of = |name: &str| (0..calls.len()).filter(is_its).filter(|at| calls[*at].name == name).collect::<Vec<_>>();
    let (writes, syncs) = (of("pwrite"), of("fsync"));
    assert!(writes.len() > 30 && !syncs.is_empty(), "{} writes, {} syncs", writes.len(), syncs.len());
    let last = &writes[writes.len() - 2..];
    [writes[0], writes[1], writes[writes.len() / 2]].into_iter().chain(last.iter().copied()).chain([syncs[0]]).collect()
}

#[test]
fn whatever_happens_while_threads_copy_loses_nothing() {
    let calls = World::with_large_file("copy", Job::Sync).run(|_, _| Fate::Happens).calls;
    let errors = [libc::EIO, libc::ENOSPC, libc::EINTR].map(Fate::Fails);
    let fates = [Fate::Killed, Fate::Short, Fate::Asked].into_iter().chain(errors);
    let moments = moments(&calls);
    let faults: Vec<_> = fates.flat_map(|fate| moments.iter().map(move |at| (*at, fate))).collect();
    // Coprime to the number of moments and of fates, so that all kinds get their turn.
    for (victim, fate) in faults.into_iter().step_by(stride(5)) {
        let mut world = World::with_large_file("copy", Job::Sync);
        let trace = world.run(|number, _| if number == victim { fate } else { Fate::Happens });
        let goes_on = matches!(fate, Fate::Short | Fate::Fails(libc::EINTR)) && calls[victim].name == "pwrite";
        world.claim(trace.status.is_none() == (fate == Fate::Killed), "who was killed has no status, and nobody else");
        world.claim(!goes_on || trace.status == Some(0), &format!("it ended with {:?}", trace.status));
        world.claim(
            trace.status != Some(0) || fate == Fate::Asked || world.is_done(),
            "it ended well and did not do it",
        );
        world.repairs_itself();
    }
}
