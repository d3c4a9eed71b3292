//! A note that survives the process. LMDB reads its file through a memory map and trusts its pages: a block that the disk no
//! longer gives is a SIGBUS, a rotten page may be a SIGSEGV or an assertion's SIGABRT. Each kills the process, and would again at
//! each start, for all replicas of the node. So a thread says which replica's B-tree it is in, and a handler for these signals
//! notes it in that replica's folder before the process dies as it would have: the next start fences that replica alone.
//! Owns the handlers and the note; never keeps a process alive.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::marker::PhantomData;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;

/// File in a replica's folder: the process died in its B-tree.
pub const CRASHED_MARK: &str = "crashed";

const SIGNALS: [libc::c_int; 3] = [libc::SIGBUS, libc::SIGSEGV, libc::SIGABRT];

thread_local! {
    /// Path of the note, while this thread is in a B-tree.
    static WORKING_ON: Cell<*const libc::c_char> = const { Cell::new(ptr::null()) };
}

/// What was installed before our handlers.
static BEFORE: OnceLock<[libc::sigaction; 3]> = OnceLock::new();

/// Where a B-tree's note goes.
pub(super) struct CrashNote(CString);

/// This thread is in a B-tree as long as this lives.
pub(super) struct Working<'a> {
    before: *const libc::c_char,
    /// The path must live as long, and the guard stays on its thread.
    _note: PhantomData<(&'a CrashNote, *const ())>,
}

impl CrashNote {
    /// The note of the B-tree in `folder`; installs the handlers on first use.
    pub(super) fn new(folder: &Path) -> Self {
        install();
        let path = folder.join(CRASHED_MARK);
        // A path with a zero byte cannot be opened by anybody.
        Self(CString::new(path.as_os_str().as_bytes()).unwrap_or_default())
    }

    /// Says that this thread is in the B-tree now.
    pub(super) fn working(&self) -> Working<'_> {
        Working {
            before: WORKING_ON.replace(self.0.as_ptr()),
            _note: PhantomData,
        }
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        WORKING_ON.set(self.before);
    }
}

fn install() {
    BEFORE.get_or_init(|| {
        let before = SIGNALS.map(|signal| {
            // SAFETY: a zeroed sigaction is a valid one (default action, no flags); the call only fills it in.
            unsafe {
                let mut before: libc::sigaction = std::mem::zeroed();
                libc::sigaction(signal, ptr::null(), &raw mut before);
                before
            }
        });
        for signal in SIGNALS {
            // SAFETY: the handler has the signature that SA_SIGINFO asks for and does only what is allowed in a handler.
            // SA_ONSTACK: Rust gives each thread a stack for handlers.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = handler as *const () as libc::sighandler_t;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                libc::sigemptyset(&raw mut action.sa_mask);
                libc::sigaction(signal, &raw const action, ptr::null_mut());
            }
        }
        before
    });
}

extern "C" fn handler(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let path = WORKING_ON.get();
    if !path.is_null() {
        // SAFETY: the path belongs to a `CrashNote` that a `Working` of this very thread borrows.
        note(unsafe { CStr::from_ptr(path) }, signal);
    }
    let at = SIGNALS.iter().position(|known| *known == signal);
    // SAFETY: puts back what was installed before; `sigaction` and `raise` are allowed in handlers. A fault comes again when this
    // returns and then does what it would have done without us; what was sent by somebody must be sent again.
    unsafe {
        match (BEFORE.get(), at) {
            (Some(before), Some(at)) => {
                libc::sigaction(signal, &raw const before[at], ptr::null_mut());
            }
            _ => {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
        if signal == libc::SIGABRT || (*info).si_code <= 0 {
            libc::raise(signal);
        }
    }
}

/// Only system calls that POSIX allows in handlers.
fn note(path: &CStr, signal: libc::c_int) {
    let text: &[u8] = match signal {
        libc::SIGBUS => {
            b"SIGBUS: the disk did not give a block of the B-tree's file, or the file was cut\n"
        }
        libc::SIGSEGV => b"SIGSEGV: a page of the B-tree is damaged\n",
        _ => b"SIGABRT: LMDB found a page of the B-tree that cannot be\n",
    };
    // SAFETY: the path ends with a zero byte, the text is as long as is said. An error leaves no note, and nobody to tell.
    unsafe {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_CLOEXEC;
        let file = libc::open(path.as_ptr(), flags, 0o600);
        if file >= 0 {
            libc::write(file, text.as_ptr().cast(), text.len());
            libc::fsync(file);
            libc::close(file);
        }
    }
}
