//! Packets before the programs whose packets they are: how the threads that carry them are scheduled.

use std::io;

use nix::libc;

/// Nine tenths of a processor that is fought for (sched(7)): a ping beside a transfer waits half as long, and a
/// flood leaves a tenth to whoever wants to end it. The kernel carries its packets before every program, too.
const NICE: libc::c_int = -10;

/// Raises this thread, where that is allowed: by `CAP_SYS_NICE` or `RLIMIT_NICE` (setpriority(2)).
pub(crate) fn raise() -> io::Result<()> {
    // SAFETY: it takes three integers. 0 is the calling thread: on Linux each has a priority of its own.
    #[allow(unsafe_code)]
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nice() -> libc::c_int {
        // SAFETY: it takes two integers.
        #[allow(unsafe_code)]
        unsafe {
            libc::getpriority(libc::PRIO_PROCESS, 0)
        }
    }

    #[test]
    fn only_the_thread_that_asks_is_raised() {
        let before = nice();
        let raised = std::thread::spawn(|| raise().map(|()| nice())).join().expect("no panic");
        match raised {
            Ok(raised) => assert_eq!(raised, NICE),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
        assert_eq!(nice(), before);
    }
}
