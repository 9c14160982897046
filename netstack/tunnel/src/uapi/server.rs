//! The unix socket at which `wg` finds the device: clients bounded in number, in size and in time.
//!
//! Who may write to the socket is root: it and its directory are made for the owner alone.

use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fmt, str};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use zeroize::Zeroizing;

use super::socket::SocketFile;
use super::{LINE_BYTES_MAX, Parser, Refused, Request, print_state};
use crate::shared::Shared;

/// Clients at a time; the next waits in the listener's queue.
const CLIENTS_MAX: usize = 4;
/// One request, from its first byte to the last byte of its answer, and the pause before it.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// How long to wait when no client can be taken, because descriptors are used up.
const ACCEPT_PAUSE_MS: u16 = 200;
/// A socket that could not be made again is tried again after so long.
const LOST_PAUSE_MS: u16 = 10_000;
/// How much of an answer is made before it is sent.
const CHUNK_BYTES: usize = 16 * 1024;
/// Stack of a client's thread: a line, and what serves it.
const STACK_BYTES: usize = 128 * 1024;

/// The running server. Dropping it removes the socket and waits for its clients.
pub(crate) struct Server {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on the path; what a dead process left there is replaced. Whether it `returns` when somebody removed it, is
    /// the device's wish.
    ///
    /// # Errors
    /// `AddrInUse` if a living process listens there.
    pub(crate) fn start(path: &Path, returns: bool, shared: Arc<Shared>) -> io::Result<Self> {
        let socket = SocketFile::listen(path, returns)?;
        let of_thread = Arc::clone(&shared);
        let builder = thread::Builder::new().name("wg-uapi".to_owned()).stack_size(STACK_BYTES);
        let thread = builder.spawn(move || accept(socket, &of_thread))?;
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.halt();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(interface = self.shared.name, "the thread of wg's socket panicked");
        }
    }
}

/// How many more clients may come.
struct Seats {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Seats {
    fn take(&self) {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.freed.wait_while(free, |free| *free == 0);
        *waited.unwrap_or_else(PoisonError::into_inner) -= 1;
    }

    fn give(&self) {
        *self.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.freed.notify_one();
    }
}

/// Until the device is halted. Every client is served by a thread that ends in bounded time.
fn accept(mut socket: SocketFile, shared: &Shared) {
    let seats = Seats { free: Mutex::new(CLIENTS_MAX), freed: Condvar::new() };
    thread::scope(|scope| {
        while !shared.is_halted() {
            await_client(shared, &socket);
            socket.look();
            let stream = match socket.listener().accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => {
                    tracing::warn!(%error, "no client of wg's socket can be taken");
                    rest(shared);
                    continue;
                }
            };
            seats.take();
            let client = || {
                if let Err(error) = serve(stream, shared) {
                    tracing::debug!(%error, "client of wg's socket cut");
                }
                seats.give();
            };
            let builder = thread::Builder::new().name("wg-client".to_owned()).stack_size(STACK_BYTES);
            if let Err(error) = builder.spawn_scoped(scope, client) {
                tracing::warn!(%error, "no thread for a client of wg's socket");
                seats.give();
            }
        }
    });
}

/// Until there is a client, the file is gone or the device is halted.
fn await_client(shared: &Shared, socket: &SocketFile) {
    let listener = socket.listener().as_fd();
    let fds = [Some(listener), Some(shared.halted.as_fd()), socket.gone()];
    let mut fds: Vec<PollFd<'_>> =
        fds.into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    let patience = if socket.is_lost() { PollTimeout::from(LOST_PAUSE_MS) } else { PollTimeout::NONE };
    if let Err(error) = poll(&mut fds, patience) {
        tracing::debug!(%error, "the wait for a client was cut short");
    }
}

/// Gives descriptors time to come back, unless the device is halted.
fn rest(shared: &Shared) {
    let mut fds = [PollFd::new(shared.halted.as_fd(), PollFlags::POLLIN)];
    if let Err(error) = poll(&mut fds, ACCEPT_PAUSE_MS) {
        tracing::debug!(%error, "the pause was cut short");
    }
}

/// Waits until the descriptor is ready. `TimedOut` or, when the device is halted, `Interrupted`.
fn wait(shared: &Shared, fd: BorrowedFd<'_>, flags: PollFlags, timeout: PollTimeout) -> io::Result<()> {
    let mut fds = [PollFd::new(fd, flags), PollFd::new(shared.halted.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, timeout) {
        Ok(0) => Err(io::ErrorKind::TimedOut.into()),
        Ok(_) | Err(Errno::EINTR) if shared.is_halted() => Err(io::ErrorKind::Interrupted.into()),
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// One request after the other, until the client goes, is too slow or asks for too much.
fn serve(stream: UnixStream, shared: &Shared) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let mut client = BufReader::new(Timed { stream, shared, deadline: Instant::now() });
    loop {
        client.get_mut().deadline = Instant::now() + REQUEST_TIME_MAX;
        let Some(request) = read(&mut client)? else { return Ok(()) };
        let to = client.get_mut();
        let answered = match request {
            Ok(Request::Get) => {
                let mut answer = Answer { text: Zeroizing::default(), to, failed: None };
                if print_state(&shared.snapshot(), &mut answer).is_err() {
                    return Err(answer.failed.unwrap_or_else(|| io::ErrorKind::Other.into()));
                }
                answer.flush()?;
                Ok(())
            }
            Ok(Request::Set(update)) => shared.apply(update).map_err(|error| {
                tracing::info!(%error, "a change by wg was refused");
                Refused(error.errno())
            }),
            Err(refused) => Err(refused),
        };
        match answered {
            Ok(()) => to.write_all(b"errno=0\n\n")?,
            Err(Refused(errno)) => to.write_all(format!("errno=-{errno}\n\n").as_bytes())?,
        }
        if answered == Err(TOO_LONG) {
            return Ok(());
        }
    }
}

const TOO_LONG: Refused = Refused(nix::libc::E2BIG);

/// Reads one request; `None` if there is no more.
fn read(client: &mut impl BufRead) -> io::Result<Option<Result<Request, Refused>>> {
    let mut parser = Parser::new(|name| nix::net::if_::if_nametoindex(name).ok());
    let mut line = Zeroizing::new(Vec::with_capacity(LINE_BYTES_MAX));
    let mut is_rest = false;
    loop {
        line.clear();
        let length = client.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
        if length == 0 {
            return Ok(None);
        }
        let whole = line.strip_suffix(b"\n").filter(|_| !is_rest);
        is_rest = !line.ends_with(b"\n");
        match whole.map(str::from_utf8) {
            Some(Ok(text)) => {
                if let Some(request) = parser.line(text) {
                    return Ok(Some(request));
                }
            }
            Some(Err(_)) | None => parser.unreadable(length),
        }
        if parser.is_too_long() {
            return Ok(Some(Err(TOO_LONG)));
        }
    }
}

/// A client that must be done by a deadline.
struct Timed<'a> {
    stream: UnixStream,
    shared: &'a Shared,
    deadline: Instant,
}

impl Timed<'_> {
    fn wait(&self, flags: PollFlags) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        wait(self.shared, self.stream.as_fd(), flags, timeout)
    }
}

impl io::Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(PollFlags::POLLIN)?,
                done => return done,
            }
        }
    }
}

impl io::Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.stream.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(PollFlags::POLLOUT)?,
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An answer, sent in pieces as it is made.
struct Answer<'a, W> {
    text: Zeroizing<String>,
    to: &'a mut W,
    failed: Option<io::Error>,
}

impl<W: io::Write> Answer<'_, W> {
    fn flush(&mut self) -> io::Result<()> {
        self.to.write_all(self.text.as_bytes())?;
        self.text.clear();
        Ok(())
    }
}

impl<W: io::Write> fmt::Write for Answer<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text.push_str(text);
        if self.text.len() < CHUNK_BYTES {
            return Ok(());
        }
        self.flush().map_err(|error| {
            self.failed = Some(error);
            fmt::Error
        })
    }
}
