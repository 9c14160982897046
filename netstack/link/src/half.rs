//! The two directions of each carrier as bytes. Cuts no frames and bounds no time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use quinn::{ConnectionError, ReadError};
use quinn_proto::StreamId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio_tungstenite::tungstenite::{Error as WebSocketError, Message, error::CapacityError};

use crate::datagrams::{Datagrams, Feed, Queues};
use crate::error::{LinkError, lost};
use crate::limits::READ_BYTES_MAX;
use crate::served::{CLOSE_CODE, Held, Served, ServedError};
use model::relay::KIND;
use model::wire::FrameError;

pub(crate) enum Source {
    /// As a client.
    Quic(quinn::RecvStream),
    /// As a server.
    Served(Arc<Served>, StreamId),
    Unix {
        half: OwnedReadHalf,
        buffer: Box<[u8]>,
    },
    WebSocket {
        messages: Pin<Box<dyn Stream<Item = Result<Message, WebSocketError>> + Send>>,
        datagrams: Option<Feed>,
    },
}

/// Bytes of the peer. After the end or a failure there are none.
pub(crate) struct ReadHalf {
    source: Source,
    ended: bool,
}

impl ReadHalf {
    pub(crate) fn quic(stream: quinn::RecvStream) -> Self {
        Self { source: Source::Quic(stream), ended: false }
    }

    pub(crate) fn served(served: Arc<Served>, stream: StreamId) -> Self {
        Self { source: Source::Served(served, stream), ended: false }
    }

    pub(crate) fn unix(half: OwnedReadHalf) -> Self {
        let buffer = vec![0; READ_BYTES_MAX].into_boxed_slice();
        Self { source: Source::Unix { half, buffer }, ended: false }
    }

    pub(crate) fn websocket(
        stream: impl Stream<Item = Result<Message, WebSocketError>> + Send + 'static,
        datagrams: Option<Feed>,
    ) -> Self {
        Self { source: Source::WebSocket { messages: Box::pin(stream), datagrams }, ended: false }
    }

    /// The next bytes, `None` at the end. Cancel-safe.
    pub(crate) async fn read(&mut self) -> Result<Option<Bytes>, LinkError> {
        if self.ended {
            return Ok(None);
        }
        let bytes = match &mut self.source {
            Source::Quic(stream) => read_quic(stream).await,
            Source::Served(served, stream) => match served.read(*stream, READ_BYTES_MAX).await {
                Err(ServedError::Lost(e)) if is_orderly(&e) => Ok(None),
                read => read.map_err(|e| lost(&e)),
            },
            Source::Unix { half, buffer } => match half.read(buffer).await {
                Ok(0) => Ok(None),
                Ok(length) => Ok(Some(Bytes::copy_from_slice(&buffer[..length]))),
                Err(e) => Err(lost(&e)),
            },
            Source::WebSocket { messages, datagrams } => read_websocket(messages, datagrams.as_ref()).await,
        };
        self.ended = !matches!(bytes, Ok(Some(_)));
        bytes
    }
}

async fn read_quic(stream: &mut quinn::RecvStream) -> Result<Option<Bytes>, LinkError> {
    match stream.read_chunk(READ_BYTES_MAX, true).await {
        Ok(chunk) => Ok(chunk.map(|c| c.bytes)),
        Err(ReadError::ConnectionLost(e)) if is_orderly(&e) => Ok(None),
        Err(e) => Err(lost(&e)),
    }
}

fn is_orderly(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::ApplicationClosed(close) if close.error_code == CLOSE_CODE)
}

async fn read_websocket(
    stream: &mut (impl Stream<Item = Result<Message, WebSocketError>> + Unpin),
    datagrams: Option<&Feed>,
) -> Result<Option<Bytes>, LinkError> {
    loop {
        match stream.next().await {
            Some(Ok(Message::Binary(bytes))) => match datagrams {
                // Lost if nobody takes them.
                Some(feed) if bytes.first() == Some(&KIND) => _ = feed.0.into.push(bytes),
                _ => return Ok(Some(bytes)),
            },
            // tungstenite answers pings by itself.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Close(_))) => return Ok(None),
            Some(Ok(Message::Text(_))) => return Err(LinkError::Lost("a text message on a link".into())),
            Some(Err(WebSocketError::Capacity(CapacityError::MessageTooLong { size, .. }))) => {
                return Err(FrameError::TooLong(size).into());
            }
            Some(Err(e)) => return Err(lost(&e)),
            None => return Err(LinkError::Lost("the peer ended without a close".into())),
        }
    }
}

pub(crate) struct QuicWriteHalf {
    stream: quinn::SendStream,
    connection: quinn::Connection,
}

impl Drop for QuicWriteHalf {
    fn drop(&mut self) {
        self.connection.close(CLOSE_CODE, b"");
    }
}

/// Bytes to the peer. Dropped, the carrier is cut in this direction; QUIC in both.
pub(crate) enum WriteHalf {
    Quic(QuicWriteHalf),
    Served(Held, StreamId),
    Unix(OwnedWriteHalf),
    WebSocket { sink: Pin<Box<dyn Sink<Message, Error = WebSocketError> + Send>>, datagrams: Option<Feed> },
}

impl WriteHalf {
    pub(crate) fn quic(stream: quinn::SendStream, connection: quinn::Connection) -> Self {
        Self::Quic(QuicWriteHalf { stream, connection })
    }

    pub(crate) fn websocket(
        sink: impl Sink<Message, Error = WebSocketError> + Send + 'static,
        datagrams: Option<Feed>,
    ) -> Self {
        Self::WebSocket { sink: Box::pin(sink), datagrams }
    }

    /// The datagrams of the carrier, if both ends know them.
    pub(crate) fn datagrams(&self) -> Option<Datagrams> {
        match self {
            Self::Quic(half) => Datagrams::quic(&half.connection),
            Self::Served(served, _) => Datagrams::served(served),
            Self::Unix(_) => None,
            Self::WebSocket { .. } => self.queues().map(Datagrams::queued),
        }
    }

    /// Where datagrams wait for [`Self::write_datagrams`]; QUIC needs none of it.
    pub(crate) fn queues(&self) -> Option<Arc<Queues>> {
        match self {
            Self::WebSocket { datagrams: Some(feed), .. } => Some(feed.0.clone()),
            Self::Quic(_) | Self::Served(..) | Self::Unix(_) | Self::WebSocket { datagrams: None, .. } => {
                None
            }
        }
    }

    /// Gives datagrams to the carrier, all at once. Not cancel-safe.
    pub(crate) async fn write_datagrams(&mut self, datagrams: Vec<Bytes>) -> Result<(), LinkError> {
        let Self::WebSocket { sink, .. } = self else { return Ok(()) };
        for datagram in datagrams {
            sink.feed(Message::Binary(datagram)).await.map_err(|e| lost(&e))?;
        }
        sink.flush().await.map_err(|e| lost(&e))
    }

    /// Gives all bytes to the carrier. Not cancel-safe.
    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), LinkError> {
        match self {
            Self::Quic(half) => half.stream.write_chunk(bytes).await.map_err(|e| lost(&e)),
            Self::Served(served, stream) => served.write(*stream, bytes).await.map_err(|e| lost(&e)),
            Self::Unix(half) => half.write_all(&bytes).await.map_err(|e| lost(&e)),
            Self::WebSocket { sink, .. } => sink.send(Message::Binary(bytes)).await.map_err(|e| lost(&e)),
        }
    }

    /// Ends our direction, after everything written.
    pub(crate) async fn finish(&mut self) -> Result<(), LinkError> {
        match self {
            Self::Quic(half) => half.stream.finish().map_err(|e| lost(&e)),
            Self::Served(served, stream) => served.finish(*stream).map_err(|e| lost(&e)),
            Self::Unix(half) => match half.shutdown().await {
                Err(e) if e.kind() != io::ErrorKind::NotConnected => Err(lost(&e)),
                _ => Ok(()),
            },
            Self::WebSocket { sink, .. } => sink.close().await.map_err(|e| lost(&e)),
        }
    }

    /// Waits until the peer has what was written, where that is not known by the end of its direction.
    pub(crate) async fn confirmed(&mut self) -> Result<(), LinkError> {
        let confirmed = match self {
            Self::Quic(half) => match half.stream.stopped().await {
                Err(quinn::StoppedError::ConnectionLost(e)) => Err(e),
                Ok(_) | Err(quinn::StoppedError::ZeroRttRejected) => Ok(()),
            },
            Self::Served(served, stream) => served.confirmed(*stream).await,
            Self::Unix(_) | Self::WebSocket { .. } => Ok(()),
        };
        match confirmed {
            Err(e) if !is_orderly(&e) => Err(lost(&e)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
