//! One UDP socket: a datagram in, a datagram out, in order. The kernel's receive buffer is the only queue.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

use super::counters::Counters;
use super::limits::{RETRY_DELAY, UDP_QUERY_BYTES_MAX, UDP_SEND_WAIT_MAX};
use crate::answer::Transport;
use crate::names::Names;

/// Answers until dropped.
pub(super) async fn serve(socket: UdpSocket, names: Arc<Names>, counters: Arc<Counters>) {
    let mut query = vec![0; UDP_QUERY_BYTES_MAX];
    loop {
        match socket.recv_from(&mut query).await {
            Ok((length, source)) => {
                let answer = names.answer(&query[..length], source.ip(), Transport::Udp);
                let Some((bytes, code)) = answer.into_reply() else {
                    counters.count_dropped();
                    continue;
                };
                counters.count_answer(code);
                send(&socket, &bytes, source, &counters).await;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot receive questions");
                sleep(RETRY_DELAY).await;
            }
        }
    }
}

/// An answer that cannot be sent is lost, as a datagram may be; the asker asks again.
async fn send(socket: &UdpSocket, answer: &[u8], asker: SocketAddr, counters: &Counters) {
    let sent = match socket.try_send_to(answer, asker) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            timeout(UDP_SEND_WAIT_MAX, socket.send_to(answer, asker)).await.unwrap_or(Err(error))
        }
        sent => sent,
    };
    if let Err(error) = sent {
        tracing::debug!(%asker, %error, "cannot send an answer");
        counters.count_unsent();
    }
}
