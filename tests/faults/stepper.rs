//! Runs a program step by step, where a step is a system call that could change a file.
//!
//! Owns the choice of these calls and one count of them over all threads of the program, so that the
//! same run has the same numbers again. One call ends before the next of any thread begins: what is
//! recorded before a kill has happened, in that order, and nothing else has. A seccomp filter stops only
//! what is chosen; everything else runs at full speed. Only x86-64, whose registers are read and written
//! here, and Linux 4.8, since when a call that was stopped at next stops when it returns.
#![expect(unsafe_code, reason = "ptrace, seccomp and waitpid have no safe binding")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the words of ptrace and seccomp are wider than what the kernel puts into them"
)]

use std::collections::VecDeque;
use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::raw::{c_int, c_long, c_void};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The calls that are stopped at, with the argument that is a descriptor or -1.
const CALLS: [(c_long, &str, i8); 33] = [
    (libc::SYS_write, "write", 0),
    (libc::SYS_writev, "writev", 0),
    (libc::SYS_pwrite64, "pwrite", 0),
    (libc::SYS_copy_file_range, "copy_file_range", 2),
    (libc::SYS_sendfile, "sendfile", 0),
    (libc::SYS_ftruncate, "ftruncate", 0),
    (libc::SYS_fallocate, "fallocate", 0),
    (libc::SYS_fsync, "fsync", 0),
    (libc::SYS_fdatasync, "fdatasync", 0),
    (libc::SYS_sync_file_range, "sync_file_range", 0),
    (libc::SYS_fchmod, "fchmod", 0),
    (libc::SYS_fchown, "fchown", 0),
    (libc::SYS_fsetxattr, "fsetxattr", 0),
    (libc::SYS_fremovexattr, "fremovexattr", 0),
    (libc::SYS_utimensat, "utimensat", 0),
    (libc::SYS_open, "open", -1),
    (libc::SYS_openat, "openat", -1),
    (libc::SYS_creat, "creat", -1),
    (libc::SYS_truncate, "truncate", -1),
    (libc::SYS_rename, "rename", -1),
    (libc::SYS_renameat, "renameat", -1),
    (libc::SYS_renameat2, "renameat2", -1),
    (libc::SYS_unlink, "unlink", -1),
    (libc::SYS_unlinkat, "unlinkat", -1),
    (libc::SYS_rmdir, "rmdir", -1),
    (libc::SYS_link, "link", -1),
    (libc::SYS_linkat, "linkat", -1),
    (libc::SYS_symlink, "symlink", -1),
    (libc::SYS_symlinkat, "symlinkat", -1),
    (libc::SYS_mkdir, "mkdir", -1),
    (libc::SYS_mkdirat, "mkdirat", -1),
    (libc::SYS_chmod, "chmod", -1),
    (libc::SYS_fchmodat, "fchmodat", -1),
];

/// How a thread stops that comes back from a call.
const CALL_STOP: c_int = libc::SIGTRAP | 0x80;

/// A call at which the program was stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Which one makes it.
    pub thread: c_int,
    pub name: &'static str,
    /// The file, or the folder in which a name is changed; below the world.
    pub place: String,
    /// The names, as far as there are any.
    pub names: String,
    /// Flags of renameat2, openat and open.
    pub flags: u64,
    /// The file, or all that is named; below the world, where it is below it.
    pub paths: Vec<String>,
    /// What is written to a file of the state.
    pub text: String,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Happens,
    /// The process is killed before it.
    Killed,
    /// The process is asked to stop before it, as by `kill`.
    Asked,
    /// It does nothing and answers with this errno.
    Fails(c_int),
    /// It does the first half of what it was asked for, and says so; all of it, if that is indivisible.
    Short,
}

/// What came of a run.
#[derive(Debug)]
pub struct Trace {
    pub calls: Vec<Call>,
    /// `None` when it was killed.
    pub status: Option<i32>,
}

/// Runs `command` to its end; `fate` is asked about each call, by its number from 0.
pub fn run(mut command: Command, world: &Path, mut fate: impl FnMut(usize, &Call) -> Fate) -> Trace {
    let mut program = filter();
    // SAFETY: between fork and exec only the two functions below run; both are plain system calls.
    unsafe {
        command.pre_exec(move || {
            let traced = libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
            let alone = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
            let filtered = libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter, 0, 0);
            if traced == 0 && alone == 0 && filtered == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
        });
    }
    let main = c_int::try_from(command.spawn().unwrap().id()).unwrap();
    let mut trace = Trace { calls: Vec::new(), status: None };
    // The thread whose call is under way, and those that are stopped before theirs.
    let (mut busy, mut waiting) = (None, VecDeque::new());
    let mut is_set_up = false;
    loop {
        let mut status = 0;
        // SAFETY: `status` is ours. Only children of this thread are waited for, so tests can run side by side.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        assert!(pid > 0, "waitpid: {}", io::Error::last_os_error());
        let is_gone = !libc::WIFSTOPPED(status);
        if is_gone && pid == main {
            trace.status = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
            return trace;
        }
        let stop = libc::WSTOPSIG(status);
        let event = status >> 16;
        let has_returned = stop == CALL_STOP;
        if busy == Some(pid) && (is_gone || has_returned) {
            busy = None;
        }
        if is_gone {
            // Somebody else's turn may have come.
        } else if event == libc::PTRACE_EVENT_SECCOMP {
            waiting.push_back(pid);
        } else {
            if !is_set_up {
                is_set_up = true;
                let options = libc::PTRACE_O_TRACESECCOMP | libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_TRACESYSGOOD;
                ptrace(libc::PTRACE_SETOPTIONS, pid, (options | libc::PTRACE_O_EXITKILL) as usize);
            }
            // A stop of ptrace's own, the first of a new thread, and the one of exec are no signals.
            let is_signal = event == 0 && !has_returned && stop != libc::SIGSTOP && stop != libc::SIGTRAP;
            go_on(pid, libc::PTRACE_CONT, if is_signal { stop } else { 0 });
        }
        while busy.is_none()
            && let Some(pid) = waiting.pop_front()
        {
            let Some(call) = Call::at(pid, world) else {
                go_on(pid, libc::PTRACE_CONT, 0);
                continue;
            };
            let fate = fate(trace.calls.len(), &call);
            trace.calls.push(call);
            busy = Some(pid);
            match fate {
                Fate::Happens => {}
                Fate::Killed => {
                    // SAFETY: a signal to a process that this function started and has not reaped.
                    assert_eq!(unsafe { libc::kill(main, libc::SIGKILL) }, 0);
                    // Nobody's turn comes any more.
                    busy = Some(main);
                }
                // SAFETY: as above.
                Fate::Asked => assert_eq!(unsafe { libc::kill(main, libc::SIGTERM) }, 0),
                Fate::Fails(errno) => fail(pid, errno),
                Fate::Short => shorten(pid),
            }
            go_on(pid, libc::PTRACE_SYSCALL, 0);
        }
    }
}

/// Sends a stopped thread on. One that was killed meanwhile cannot be, and need not be.
fn go_on(pid: c_int, request: libc::c_uint, signal: c_int) {
    // SAFETY: the two requests of this use take no pointer.
    unsafe { libc::ptrace(request, pid, 0, signal) };
}

impl Call {
    /// The call at which a thread is stopped; `None` when it changes nothing of the world.
    fn at(pid: c_int, world: &Path) -> Option<Self> {
        let registers = registers(pid)?;
        let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8];
        let number = registers.orig_rax.cast_signed();
        let (_, name, descriptor) = CALLS.iter().find(|(call, ..)| *call == number)?;
        let opened = match *name {
            "open" => arguments[1],
            "openat" => arguments[2],
            _ => libc::O_CREAT as u64,
        };
        if opened & (libc::O_CREAT | libc::O_TRUNC) as u64 == 0 {
            return None;
        }
        let of_fd = |fd: u64| fs::read_link(format!("/proc/{pid}/fd/{}", fd as u32)).unwrap_or_default();
        let text = |at: usize| text(pid, arguments[at]);
        // Joining keeps an absolute name as it is.
        let below = |fd: usize, name: usize| of_fd(arguments[fd]).join(text(name));
        let (paths, names) = match *name {
            _ if *descriptor >= 0 => (vec![of_fd(arguments[usize::try_from(*descriptor).unwrap()])], String::new()),
            "openat" | "unlinkat" | "mkdirat" | "fchmodat" => (vec![below(0, 1)], text(1)),
            "renameat" | "renameat2" | "linkat" => {
                (vec![below(0, 1), below(2, 3)], format!("{} -> {}", text(1), text(3)))
            }
            "symlinkat" => (vec![below(1, 2)], format!("{} -> {}", text(2), text(0))),
            "rename" | "link" => (vec![text(0).into(), text(1).into()], text(0)),
            "symlink" => (vec![text(1).into()], text(1)),
            _ => (vec![text(0).into()], text(0)),
        };
        let is_relative = !names.is_empty() && !names.starts_with('/');
        let place = if is_relative { paths[0].parent()? } else { &paths[0] };
        let place = place.strip_prefix(world).ok()?.to_str()?.to_owned();
        let is_ours = ["disk1", "disk2", "cache", "state"].iter().any(|root| place.starts_with(root));
        let flags = match *name {
            "renameat2" => arguments[4],
            "open" | "openat" => opened,
            _ => 0,
        };
        let is_told = *name == "write" && place.starts_with("state");
        let text = if is_told { bytes(pid, arguments[1], arguments[2]) } else { Vec::new() };
        let below = |path: &PathBuf| path.strip_prefix(world).unwrap_or(path).to_string_lossy().into_owned();
        is_ours.then(|| Self {
            thread: pid,
            name,
            place,
            names,
            flags,
            paths: paths.iter().map(below).collect(),
            text: String::from_utf8_lossy(&text).into_owned(),
        })
    }

    /// Whether it can do a part of what it is asked for.
    pub fn can_be_short(&self) -> bool {
        matches!(self.name, "write" | "writev" | "pwrite" | "copy_file_range" | "sendfile")
    }

    pub fn is_on_media(&self) -> bool {
        !self.place.starts_with("state")
    }
}

/// Has the call at which a thread is stopped do nothing and answer with `errno`.
fn fail(pid: c_int, errno: c_int) {
    let mut registers = registers(pid).expect("it is stopped");
    registers.orig_rax = u64::MAX;
    registers.rax = i64::from(-errno).cast_unsigned();
    // SAFETY: the structure is what the kernel expects, and it is only read.
    let set = unsafe { libc::ptrace(libc::PTRACE_SETREGS, pid, 0, &raw mut registers) };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

/// Has the call at which a thread is stopped write half as much.
fn shorten(pid: c_int) {
    let mut registers = registers(pid).expect("it is stopped");
    let length = match registers.orig_rax.cast_signed() {
        libc::SYS_write | libc::SYS_pwrite64 | libc::SYS_writev => &mut registers.rdx,
        libc::SYS_sendfile => &mut registers.r10,
        libc::SYS_copy_file_range => &mut registers.r8,
        _ => return,
    };
    *length = length.div_ceil(2);
    // SAFETY: the structure is what the kernel expects, and it is only read.
    let set = unsafe { libc::ptrace(libc::PTRACE_SETREGS, pid, 0, &raw mut registers) };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

fn registers(pid: c_int) -> Option<libc::user_regs_struct> {
    // SAFETY: all zeros are a value of this structure of numbers, and the kernel fills it.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    // SAFETY: as above; a thread that is gone is an error and no more.
    let got = unsafe { libc::ptrace(libc::PTRACE_GETREGS, pid, 0, &raw mut registers) };
    (got == 0).then_some(registers)
}

fn ptrace(request: libc::c_uint, pid: c_int, data: usize) {
    // SAFETY: for the requests of this file `data` is a number.
    let done = unsafe { libc::ptrace(request, pid, 0, data as *mut c_void) };
    assert_eq!(done, 0, "ptrace: {}", io::Error::last_os_error());
}

/// The text at an address of a stopped process.
fn text(pid: c_int, address: u64) -> String {
    let bytes = bytes(pid, address, 4096);
    CStr::from_bytes_until_nul(&bytes).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}

/// At most so many bytes at an address of a stopped process.
fn bytes(pid: c_int, address: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    let length = fs::File::open(format!("/proc/{pid}/mem")).and_then(|memory| memory.read_at(&mut bytes, address));
    bytes.truncate(length.unwrap_or(0));
    bytes
}

/// Stops at the chosen calls and lets all others through.
fn filter() -> Vec<libc::sock_filter> {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    // The number of the call is the first word that the filter sees.
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    for (index, (call, ..)) in CALLS.iter().enumerate() {
        let code = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        // To the last statement, which stops.
        let jt = u8::try_from(CALLS.len() - index).unwrap();
        program.push(libc::sock_filter { code, jt, jf: 0, k: u32::try_from(*call).unwrap() });
    }
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_TRACE));
    program
}
