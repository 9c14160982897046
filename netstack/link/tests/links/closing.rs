//! How links end, and what a peer that does not read can cost.

use std::pin::pin;
use std::time::Instant;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use link::limits::{CLOSE_TIME_MAX, FRAME_WIRE_BYTES_MAX, QUEUE_BYTES_MAX};
use link::quic::{Limits, Listener};
use link::{LinkError, PreferCarrier, Trust, TrySendError};
use model::wire::{Refused, Retry};
use model::{Code, Refusal};

use crate::support::{certificate, every_pair, frame, longest, soon};

#[tokio::test]
async fn the_last_frame_arrives_though_the_server_read_nothing() {
    for (pair, connected) in every_pair().await {
        let (up, mut from_server) = pair.client;
        let (down, from_client) = pair.server;
        // Unread bytes at the server's end are what makes TCP reset a connection at its close.
        for i in 0..20 {
            up.send(&frame(i)).await.unwrap();
        }
        up.drained().await.unwrap();
        let refused = Refused { refusal: Refusal::new(Code::TokenExpired, "x") }.into();
        down.send(&longest(1)).await.unwrap();
        down.send(&longest(2)).await.unwrap();
        let read = async {
            let mut seen = Vec::new();
            let end = loop {
                match from_server.recv().await {
                    Ok(frame) => seen.push(frame),
                    Err(end) => break end,
                }
            };
            drop((up, from_server));
            (seen, end)
        };
        let (closed, (seen, end)) = soon(async { tokio::join!(down.close(Some(&refused)), read) }).await;
        assert_eq!(seen, [longest(1), longest(2), refused], "{connected:?}");
        assert_eq!((closed, end), (Ok(()), LinkError::Closed), "{connected:?}");
        drop(from_client);
        assert_eq!(down.send(&frame(1)).await, Err(LinkError::Closed));
        assert_eq!(down.try_send(&frame(1)), Err(TrySendError::Link(LinkError::Closed)));
        assert!(down.is_closed());
    }
}

#[tokio::test]
async fn a_dropped_sender_still_delivers() {
    for (pair, connected) in every_pair().await {
        let (_up, mut from_server) = pair.client;
        let (down, from_client) = pair.server;
        let retry = Retry { after_millis: 5 }.into();
        down.send(&longest(1)).await.unwrap();
        down.send(&retry).await.unwrap();
        drop((down, from_client));
        assert_eq!(soon(from_server.recv()).await, Ok(longest(1)), "{connected:?}");
        assert_eq!(soon(from_server.recv()).await, Ok(retry), "{connected:?}");
        assert_eq!(soon(from_server.recv()).await, Err(LinkError::Closed), "{connected:?}");
    }
}

#[tokio::test]
async fn both_may_close_at_once() {
    for (pair, connected) in every_pair().await {
        let (up, down) = (pair.client.0, pair.server.0);
        let closed = soon(async { tokio::join!(up.close(None), down.close(None)) }).await;
        assert_eq!(closed, (Ok(()), Ok(())), "{connected:?}");
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_cannot_hold_up_a_close() {
    join_all(every_pair().await.into_iter().map(|(pair, connected)| async move {
        let ((_up, mut from_server), (down, mut from_client)) = (pair.client, pair.server);
        while down.try_send(&longest(1)).is_ok() {}
        let began = Instant::now();
        assert_eq!(soon(down.close(None)).await, Err(LinkError::Unread), "{connected:?}");
        assert!(began.elapsed() < 2 * CLOSE_TIME_MAX, "{connected:?}");
        assert_eq!(soon(from_client.recv()).await, Err(LinkError::Unread), "{connected:?}");
        let end = soon(async {
            loop {
                if let Err(end) = from_server.recv().await {
                    break end;
                }
            }
        })
        .await;
        assert!(matches!(end, LinkError::Lost(_) | LinkError::Closed), "{connected:?}: {end}");
    }))
    .await;
}

#[tokio::test]
async fn a_slow_peer_holds_up_its_own_sender_only_and_within_bounds() {
    for (pair, connected) in every_pair().await {
        let ((_up, mut from_server), (down, _from_client)) = (pair.client, pair.server);
        // The writer moves frames from the queue to the carrier until that is full too.
        let mut sent = 0u64;
        let mut refused = 0;
        while refused < 100 {
            match down.try_send(&longest(1)) {
                Ok(()) => (sent, refused) = (sent + 1, 0),
                Err(TrySendError::Full) => refused += 1,
                Err(TrySendError::Link(e)) => panic!("{connected:?}: {e}"),
            }
            tokio::task::yield_now().await;
        }
        // Queue, the frame being written, and the buffers of the carrier and the kernel.
        let bytes = sent * FRAME_WIRE_BYTES_MAX as u64;
        assert!(bytes >= QUEUE_BYTES_MAX as u64 && bytes <= 64 * 1024 * 1024, "{connected:?}: {bytes}");
        let blocked = tokio::spawn({
            let down = down.clone();
            async move { down.send(&frame(9)).await }
        });
        for _ in 0..sent {
            assert_eq!(soon(from_server.recv()).await, Ok(longest(1)), "{connected:?}");
        }
        assert_eq!(soon(from_server.recv()).await, Ok(frame(9)), "{connected:?}");
        assert_eq!(soon(blocked).await.unwrap(), Ok(()));
        assert_eq!(soon(down.drained()).await, Ok(()));
    }
}

#[tokio::test]
async fn who_waits_until_all_is_written_takes_nobodys_room() {
    for (pair, connected) in every_pair().await {
        let ((_up, mut from_server), (down, _from_client)) = (pair.client, pair.server);
        down.try_send(&frame(1)).unwrap();
        let mut drained = pin!(down.drained());
        // The task that writes has not run since.
        assert!(drained.as_mut().now_or_never().is_none(), "{connected:?}");
        assert_eq!(down.try_send(&longest(2)), Ok(()), "{connected:?}");
        assert_eq!(soon(from_server.recv()).await, Ok(frame(1)), "{connected:?}");
        assert_eq!(soon(from_server.recv()).await, Ok(longest(2)), "{connected:?}");
        assert_eq!(soon(drained).await, Ok(()), "{connected:?}");
    }
}

#[tokio::test]
async fn a_server_that_was_killed_and_came_back_resets_its_former_links() {
    let certificate = std::sync::Arc::new(certificate());
    let (bound, at) = std::sync::mpsc::channel();
    let (kill, killed) = std::sync::mpsc::channel::<()>();
    // A runtime that ends without a word is what a killed process leaves.
    let first_life = std::thread::spawn({
        let certificate = certificate.clone();
        move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            runtime.spawn(async move {
                let mut listener =
                    Listener::bind("127.0.0.1:0".parse().unwrap(), &certificate, Limits::default()).unwrap();
                bound.send(listener.local_address().unwrap()).unwrap();
                let (_sender, mut receiver) = listener.accept().await.unwrap().split();
                receiver.recv().await.unwrap();
                _sender.send(&frame(2)).await.unwrap();
                std::future::pending::<()>().await;
            });
            killed.recv().unwrap();
            runtime.shutdown_timeout(std::time::Duration::from_secs(5));
        }
    });
    let at = at.recv().unwrap();
    let client = soon(link::dial(&at.into(), &Trust::Anchor, PreferCarrier::OnlyQuic)).await.unwrap();
    let (up, mut from_server) = client.split();
    up.send(&frame(1)).await.unwrap();
    assert_eq!(soon(from_server.recv()).await, Ok(frame(2)));
    kill.send(()).unwrap();
    tokio::task::spawn_blocking(|| first_life.join().unwrap()).await.unwrap();
    let mut listener = Listener::bind(at, &certificate, Limits::default()).unwrap();
    let second_life = tokio::spawn(async move { listener.accept().await.is_some() });
    up.send(&frame(3)).await.unwrap();
    let end = soon(from_server.recv()).await;
    assert!(matches!(&end, Err(LinkError::Lost(why)) if why.contains("reset")), "{end:?}");
    second_life.abort();
}

#[tokio::test]
async fn a_listener_drains() {
    let certificate = certificate();
    let mut listener =
        Listener::bind("127.0.0.1:0".parse().unwrap(), &certificate, Limits::default()).unwrap();
    let address = listener.local_address().unwrap().into();
    let dial = || link::dial(&address, &Trust::Anchor, PreferCarrier::OnlyQuic);
    let (dialed, accepted) = soon(async {
        tokio::join!(
            async {
                let (up, from_server) = dial().await.unwrap().split();
                up.send(&frame(1)).await.unwrap();
                (up, from_server)
            },
            listener.accept()
        )
    })
    .await;
    let (down, from_client) = accepted.unwrap().split();
    let draining = tokio::spawn(listener.drain(crate::support::SOON));
    let retry = Retry { after_millis: 1 }.into();
    let ends = async {
        let (up, mut from_server) = dialed;
        assert_eq!(from_server.recv().await, Ok(Retry { after_millis: 1 }.into()));
        assert_eq!(from_server.recv().await, Err(LinkError::Closed));
        drop((up, from_server));
    };
    let (closed, ()) = soon(async { tokio::join!(down.close(Some(&retry)), ends) }).await;
    assert_eq!(closed, Ok(()));
    drop(from_client);
    assert_eq!(soon(draining).await.unwrap(), 0, "nothing had to be cut");
    assert!(soon(dial()).await.is_err());
}
