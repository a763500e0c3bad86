//! What a process costs, by the kernel's own account of it, and what comes of running several in turn.

use std::ffi::OsStr;
use std::fs;
use std::mem::MaybeUninit;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use memmap2::{Advice, MmapMut};
use rustix::fs::{Mode, OFlags};

/// What one run cost, its children included.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Seconds.
    pub wall: f64,
    /// Seconds, of the user and the system.
    pub cpu: f64,
    /// Mebibytes, of the largest process.
    pub peak: f64,
}

/// Runs a command to its end, its output thrown away.
///
/// By way of a fresh small process: a child's peak memory begins with that of the process which started it, and the
/// bench itself holds whole libraries in its stand-in.
pub fn run(command: &Command) -> Cost {
    let mut inner = Command::new(std::env::current_exe().unwrap());
    inner.arg("account").arg(command.get_program()).args(command.get_args());
    if command.get_envs().len() > 0 {
        inner.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    }
    let output = inner.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let figures: Vec<f64> = text.split_whitespace().map(|figure| figure.parse().unwrap()).collect();
    let [wall, cpu, peak] = figures[..] else {
        panic!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    Cost { wall, cpu, peak }
}

/// The inner side of [`run`]: prints seconds, seconds of CPU and mebibytes of a program that ended well.
#[expect(unsafe_code, reason = "std has no call that reaps a child with its account")]
pub fn account<S: AsRef<OsStr>>(command: &[S]) -> ExitCode {
    let started = Instant::now();
    #[expect(clippy::zombie_processes, reason = "wait4 reaps it")]
    let child = Command::new(&command[0]).args(&command[1..]).stdout(Stdio::null()).spawn().unwrap();
    let (mut status, mut usage) = (0, MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: both pointers are valid for the call, and the child is waited for only here.
    let reaped = unsafe { libc::wait4(child.id().try_into().unwrap(), &raw mut status, 0, usage.as_mut_ptr()) };
    let wall = started.elapsed().as_secs_f64();
    if reaped <= 0 || status != 0 {
        eprintln!("ended with wait status {status}");
        return ExitCode::FAILURE;
    }
    // SAFETY: wait4 has filled it, and zeros are valid too.
    let usage = unsafe { usage.assume_init() };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    println!("{wall} {} {}", seconds(usage.ru_utime) + seconds(usage.ru_stime), usage.ru_maxrss as f64 / 1024.0);
    ExitCode::SUCCESS
}

/// What nobody can beat who reads, writes and, to verify, reads again, one after the other: the devices themselves,
/// past the page cache, a huge page at a time, because ordinary pages make small requests of it. Durable at the end;
/// for files of whole huge pages.
pub fn devices(source: &Path, folder: &Path, reads_again: bool) {
    const STEP: usize = 2 << 20;
    let target = folder.join("devices");
    let mut memory = MmapMut::map_anon(2 * STEP).unwrap();
    let start = memory.as_ptr().align_offset(STEP);
    memory.advise_range(Advice::HugePage, start, STEP).unwrap();
    let buffer = &mut memory[start..start + STEP];
    let open = |path: &Path, flags| {
        let flags = flags | OFlags::DIRECT | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).unwrap()
    };
    let read = |path: &Path, buffer: &mut [u8]| {
        let file = open(path, OFlags::RDONLY);
        while rustix::io::read(&file, &mut *buffer).unwrap() > 0 {}
    };
    read(source, buffer);
    let file = open(&target, OFlags::WRONLY | OFlags::CREATE);
    for _ in 0..fs::metadata(source).unwrap().len() / STEP as u64 {
        assert_eq!(rustix::io::write(&file, buffer).unwrap(), STEP);
    }
    rustix::fs::fsync(&file).unwrap();
    if reads_again {
        read(&target, buffer);
    }
}

pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One figure of a cost.
pub type Pick = fn(&Cost) -> f64;

/// What several contestants cost in rounds that they ran in turn.
pub struct Race {
    names: Vec<String>,
    /// By round, then by contestant.
    rounds: Vec<Vec<Cost>>,
}

impl Race {
    /// Runs every contestant once a round. Each round begins with another one.
    pub fn run(names: &[&str], rounds: usize, mut run: impl FnMut(usize) -> Cost) -> Self {
        let round = |round: usize| {
            let mut costs = vec![None; names.len()];
            for turn in 0..names.len() {
                let contestant = (round + turn) % names.len();
                costs[contestant] = Some(run(contestant));
            }
            let costs: Vec<Cost> = costs.into_iter().flatten().collect();
            for (name, cost) in names.iter().zip(&costs) {
                eprintln!("  {name:<34} {:8.3} s {:8.3} s CPU {:7.1} MiB", cost.wall, cost.cpu, cost.peak);
            }
            costs
        };
        Self { rounds: (0..rounds).map(round).collect(), names: names.iter().map(ToString::to_string).collect() }
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|other| other == name)
    }

    pub fn median(&self, name: &str, pick: Pick) -> Option<f64> {
        let index = self.index(name)?;
        Some(median(self.rounds.iter().map(|round| pick(&round[index]))))
    }

    /// The median over the rounds of `ours` : `theirs`.
    pub fn ratio(&self, ours: &str, theirs: &str, pick: Pick) -> Option<f64> {
        let (ours, theirs) = (self.index(ours)?, self.index(theirs)?);
        Some(median(self.rounds.iter().map(|round| pick(&round[ours]) / pick(&round[theirs]))))
    }
}
