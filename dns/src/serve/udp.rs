//! The UDP sockets of one address, a thread for each: datagrams in and answers out, many with one call, in order. The
//! kernel's receive buffer is the only queue.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use datagrams::{Batch, Datagram, Wait};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::Socket;

use super::answerer::Answerer;
use super::closing::{Ends, Life};
use super::counters::{Code, Path, Tally, Way};
use super::limiter::{Limit, Limiter, Verdict};
use super::limits::{RETRY_DELAY, UDP_AHEAD_MIN, UDP_FULL_BATCHES, UDP_QUERY_BYTES_MAX, UDP_SEND_WAIT_MAX};
use super::querylog;
use super::question::{Brief, write_brief};
use super::slow::Queue;
use crate::answer::Transport;
use crate::hot::Hot;
use crate::limits::HOT_BUFFER_BYTES;
use crate::rcode::Rcode;

const SLOT_BYTES: usize =
    if UDP_QUERY_BYTES_MAX > HOT_BUFFER_BYTES { UDP_QUERY_BYTES_MAX } else { HOT_BUFFER_BYTES };

/// The threads of one address, until dropped.
#[derive(Debug)]
pub(super) struct Threads {
    stopping: Arc<AtomicBool>,
    sockets: Vec<Arc<Socket>>,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts a thread for each socket.
    ///
    /// # Errors
    /// The machine has no more threads.
    pub(super) fn start(
        sockets: Vec<Arc<Socket>>,
        local: SocketAddr,
        limit: Option<Limit>,
        answerer: &Arc<Answerer>,
        queue: &Queue,
        ends: &Arc<Ends>,
    ) -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let mut started = Self { stopping: Arc::clone(&stopping), sockets, threads: Vec::new() };
        for socket in &started.sockets {
            let (stopping, socket) = (Arc::clone(&stopping), Arc::clone(socket));
            let (answerer, queue) = (Arc::clone(answerer), queue.clone());
            let life = Life::of(ends);
            let run = move || {
                let _life = life;
                Worker::new(socket, local, limit, answerer, queue).run(&stopping);
            };
            started.threads.push(thread::Builder::new().name("dns".into()).spawn(run)?);
        }
        Ok(started)
    }

    /// Takes nothing more in. What the sockets have is answered, and then the threads end.
    pub(super) fn stop(&self) {
        for socket in &self.sockets {
            if let Err(error) = datagrams::turn_away(socket) {
                tracing::debug!(%error, "the address is not this machine's");
            }
        }
        // Only now: a thread that is told before its socket takes nothing more would leave what still comes.
        self.stopping.store(true, Ordering::SeqCst);
        self.sockets.iter().for_each(|socket| datagrams::wake(socket));
    }

    /// Stops, and returns when the threads have ended. Blocks for some milliseconds.
    pub(super) fn join(mut self) {
        self.stop();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!(code = "names-panicked", "a thread that answers names has panicked");
            }
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What one thread has.
struct Worker {
    socket: Arc<Socket>,
    local: SocketAddr,
    answerer: Arc<Answerer>,
    queue: Queue,
    limiter: Option<Limiter>,
    began: Instant,
    batch: Batch,
    /// Answers of this batch that are to be logged.
    drawn: Vec<(SocketAddr, usize, Code, Path)>,
    full_batches: u32,
    overflowed: u32,
}

impl Worker {
    fn new(
        socket: Arc<Socket>,
        local: SocketAddr,
        limit: Option<Limit>,
        answerer: Arc<Answerer>,
        queue: Queue,
    ) -> Self {
        let seed = RandomState::new().build_hasher().finish();
        Self {
            socket,
            local,
            answerer,
            queue,
            limiter: limit.map(|limit| Limiter::new(limit, seed)),
            began: Instant::now(),
            batch: Batch::new(SLOT_BYTES),
            drawn: Vec::new(),
            full_batches: 0,
            overflowed: 0,
        }
    }

    /// Answers until it is told to stop and nothing is left.
    fn run(mut self, stopping: &AtomicBool) {
        while !stopping.load(Ordering::SeqCst) {
            self.turn(Wait::ForOne);
        }
        while self.turn(Wait::No) {}
        // A processor may still be delivering what it had begun to.
        datagrams::settle();
        while self.turn(Wait::No) {}
    }

    /// Answers what is there; whether there was something.
    fn turn(&mut self, wait: Wait) -> bool {
        match self.batch.receive(&self.socket, wait) {
            Ok(count) => {
                self.answer(count);
                self.look_for_overflow();
                self.batch.datagram(0).is_some()
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) if is_of_the_past(&error) => true,
            Err(error) => {
                tracing::warn!(%error, "cannot receive questions");
                thread::sleep(RETRY_DELAY);
                false
            }
        }
    }

    fn answer(&mut self, count: usize) {
        let came = Instant::now();
        let mut tally = Tally::default();
        if count >= UDP_AHEAD_MIN {
            self.answerer.names.bring_near(self.batch.came().map(|(asker, query)| (query, asker.ip())));
        }
        for slot in 0..count {
            if let Some(length) = self.answer_one(slot, came, &mut tally) {
                self.batch.reply(slot, length);
            }
        }
        self.answerer.counters.count_batch(&tally);
        if self.batch.unsent() == 0 {
            return;
        }
        self.send();
        let took = came.elapsed();
        self.answerer.counters.batch_took(&tally, took);
        for (asker, slot, code, path) in self.drawn.drain(..) {
            if let Some(answer) = self.batch.datagram(slot) {
                let way = Way { transport: Transport::Udp, path };
                querylog::write(asker, answer.slot, code, way, took);
            }
        }
    }

    /// Writes the answer over the question in the slot. `None` if none goes, or not from here.
    fn answer_one(&mut self, slot: usize, came: Instant, tally: &mut Tally) -> Option<usize> {
        let Datagram { source: asker, length, whole, slot: buffer } = self.batch.datagram(slot)?;
        if !whole || length == 0 || asker.port() == 0 {
            tally.malformed += 1;
            return None;
        }
        // This machine's own programs are not limited: whom would it protect?
        if let Some(limiter) = self.limiter.as_mut().filter(|_| asker.ip() != self.local.ip()) {
            match limiter.judge(asker.ip(), came - self.began) {
                Verdict::Answer => {}
                Verdict::Slip => {
                    let written = write_brief(buffer, length, Brief::ByTcp);
                    match written {
                        Some(_) => tally.slipped += 1,
                        None => tally.dropped += 1,
                    }
                    return written;
                }
                Verdict::Silence => {
                    tally.limited += 1;
                    return None;
                }
            }
        }
        match self.answerer.names.answer_in_place(buffer, length, asker.ip()) {
            Hot::Reply { length, code } => {
                let code = Code::from(code);
                tally.hot[code.index()] += 1;
                if self.answerer.log.draws() {
                    self.drawn.push((asker, slot, code, Path::Hot));
                }
                return Some(length);
            }
            Hot::Drop => {
                tally.dropped += 1;
                return None;
            }
            Hot::Foreign => {
                if let Some(length) = self.answerer.cached(buffer, length, asker.ip()) {
                    let code = Code::of_message(buffer);
                    tally.cached[code.index()] += 1;
                    if self.answerer.log.draws() {
                        self.drawn.push((asker, slot, code, Path::Forwarded));
                    }
                    return Some(length);
                }
            }
            Hot::Slow => {}
        }
        if self.queue.put(&buffer[..length], asker, came) {
            return None;
        }
        let written = write_brief(buffer, length, Brief::Failed);
        match written {
            Some(_) => tally.crowded[Code::from(Rcode::ServFail).index()] += 1,
            None => tally.dropped += 1,
        }
        written
    }

    /// An answer that cannot be sent is lost, as a datagram may be; the asker asks again.
    fn send(&mut self) {
        let mut deadline = None;
        while self.batch.unsent() > 0 {
            let Err(error) = self.batch.send(&self.socket) else { continue };
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => {
                    let deadline = *deadline.get_or_insert_with(|| Instant::now() + UDP_SEND_WAIT_MAX);
                    if !self.wait_for_room(deadline) {
                        self.answerer.counters.count_unsent(self.batch.unsent());
                        self.batch.give_up_all();
                    }
                }
                _ => {
                    tracing::debug!(%error, "cannot send an answer");
                    self.answerer.counters.count_unsent(1);
                    self.batch.give_up_first();
                }
            }
        }
    }

    /// Whether there is room in the send buffer before the deadline.
    fn wait_for_room(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut sockets = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
        left > Duration::ZERO && poll(&mut sockets, timeout).is_ok_and(|ready| ready > 0)
    }

    /// The kernel drops only what it has no room for, and then the batches are full.
    fn look_for_overflow(&mut self) {
        let was_full = self.full_batches > 0;
        self.full_batches = if self.batch.is_full() { self.full_batches + 1 } else { 0 };
        if self.full_batches == UDP_FULL_BATCHES || (was_full && self.full_batches == 0) {
            self.full_batches = 0;
            if let Ok(now) = datagrams::overflowed(&self.socket) {
                self.answerer.counters.count_overflowed(now.wrapping_sub(self.overflowed));
                self.overflowed = now;
            }
        }
    }
}

/// Whether an error is what a datagram sent earlier met, or a signal.
fn is_of_the_past(error: &io::Error) -> bool {
    const PAST: [i32; 6] = [
        libc::EINTR,
        libc::ECONNREFUSED,
        libc::EHOSTUNREACH,
        libc::ENETUNREACH,
        libc::EACCES,
        libc::EMSGSIZE,
    ];
    error.raw_os_error().is_some_and(|number| PAST.contains(&number))
}
