//! Servers that send our questions back to us.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use dns::Transport;
use dns::forward::{Condition, Forwarder};
use dns::serve::Forward as _;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use crate::ask::{ask, forwarder, said};
use crate::fake::Fake;
use crate::wait;

/// A resolver that forwards to the forwarder that forwards to it, under ids of its own or as they came.
struct Circle {
    address: SocketAddr,
    forwarder: Arc<OnceLock<Arc<Forwarder>>>,
    passed: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

impl Circle {
    async fn start(own_ids: bool) -> Self {
        let socket =
            Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has free ports"));
        let address = socket.local_addr().expect("it is bound");
        let forwarder = Arc::<OnceLock<Arc<Forwarder>>>::default();
        let passed = Arc::<AtomicUsize>::default();
        let mut task = JoinSet::new();
        let (ours, counted) = (Arc::clone(&forwarder), Arc::clone(&passed));
        task.spawn(async move {
            let mut open = JoinSet::new();
            let mut buffer = [0; 2048];
            loop {
                let Ok((length, asker)) = socket.recv_from(&mut buffer).await else { continue };
                let (mut query, socket) = (buffer[..length].to_vec(), Arc::clone(&socket));
                let forwarder = Arc::clone(ours.wait());
                counted.fetch_add(1, Ordering::Relaxed);
                open.spawn(async move {
                    let id = [query[0], query[1]];
                    if own_ids {
                        query[0] ^= 0x55;
                    }
                    if let Some(mut answer) = forwarder.forward(query, Transport::Udp).await {
                        answer[..2].copy_from_slice(&id);
                        let _ = socket.send_to(&answer, asker).await;
                    }
                });
            }
        });
        Self { address, forwarder, passed, _task: task }
    }

    fn close(&self, forwarder: Forwarder) -> Arc<Forwarder> {
        let forwarder = Arc::new(forwarder);
        assert!(self.forwarder.set(Arc::clone(&forwarder)).is_ok(), "it is closed once");
        forwarder
    }

    fn condition(&self, forwarder: &Forwarder) -> Condition {
        let upstreams = forwarder.upstreams();
        let own = upstreams.iter().find(|upstream| upstream.target.address() == self.address);
        own.expect("it is one of them").condition
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_is_found_before_anybody_asks() {
    let circle = Circle::start(true).await;
    let good = Fake::with_address(60, [192, 0, 2, 1]).await;
    let forwarder = circle.close(forwarder(&[circle.address.to_string(), good.rule()]));
    wait::until("the probe is back", || circle.condition(&forwarder) == Condition::Looping).await;
    let passed = circle.passed.load(Ordering::Relaxed);
    for number in 0..50 {
        assert_eq!(said(&ask(&forwarder, &format!("n{number}.example.")).await), "192.0.2.1");
    }
    assert_eq!(circle.passed.load(Ordering::Relaxed), passed, "nothing goes there any more");
    assert!(forwarder.counters().looped.total() >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_in_a_circle_ends_in_failure_and_few_datagrams() {
    for own_ids in [true, false] {
        let circle = Circle::start(own_ids).await;
        let forwarder = circle.close(forwarder(&[circle.address.to_string()]));
        assert_eq!(said(&ask(&forwarder, "www.example.").await), "ServFail");
        wait::until("the loop is known", || circle.condition(&forwarder) == Condition::Looping).await;
        let passed = circle.passed.load(Ordering::Relaxed);
        assert!(passed < 10, "{passed} datagrams went round");
        for number in 0..50 {
            assert_eq!(said(&ask(&forwarder, &format!("n{number}.example.")).await), "ServFail");
        }
        assert_eq!(circle.passed.load(Ordering::Relaxed), passed);
    }
}
