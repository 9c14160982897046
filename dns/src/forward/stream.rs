//! An encrypted connection to a server, made when it is needed and used by all who ask at the same time. hickory frames,
//! matches and speaks HTTP/2; certificates and names are checked by rustls.

use std::sync::Arc;
use std::time::Instant;

use hickory_net::h2::HttpsClientStream;
use hickory_net::proto::ProtoError;
use hickory_net::proto::op::{DnsRequest, DnsRequestOptions, Message};
use hickory_net::runtime::{RuntimeProvider as _, Spawn as _, TokioRuntimeProvider};
use hickory_net::tls::tls_client_connect;
use hickory_net::xfer::{DnsExchange, FirstAnswer as _};
use hickory_net::{DnsHandle as _, DnsMultiplexer, NetError};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, pem};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Mutex;

use super::config::Target;
use super::limits::{PROBE_DELAY_MIN, STREAM_QUESTIONS_MAX, STREAM_TIME_MAX};

/// A way to a server.
pub(super) struct Stream {
    target: Target,
    tls: Arc<ClientConfig>,
    runtime: TokioRuntimeProvider,
    connection: Mutex<Option<Connection>>,
}

#[derive(Clone)]
struct Connection {
    exchange: DnsExchange<TokioRuntimeProvider>,
    made_at: Instant,
}

/// Why there is no answer on a connection.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct StreamError(#[from] NetError);

/// The authorities are none.
#[derive(Debug, thiserror::Error)]
pub enum BadAuthorities {
    /// Not PEM.
    #[error("the file of authorities is not PEM")]
    Pem(#[source] pem::Error),
    /// Not a certificate, though PEM.
    #[error("the file of authorities holds what is no authority")]
    Certificate(#[source] rustls::Error),
    /// Nothing in it.
    #[error("the file of authorities holds no certificate")]
    Empty,
}

/// Trusts the public authorities and those of `more` [PEM].
pub(super) fn client_config(more: Option<&[u8]>) -> Result<Arc<ClientConfig>, BadAuthorities> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(more) = more {
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(more) {
            let certificate = certificate.map_err(BadAuthorities::Pem)?;
            roots.add(certificate).map_err(BadAuthorities::Certificate)?;
        }
        if roots.len() == before {
            return Err(BadAuthorities::Empty);
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring speaks the versions of TLS that rustls does")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

impl Stream {
    /// `None` for a plain server.
    pub(super) fn new(target: &Target, tls: &Arc<ClientConfig>) -> Option<Self> {
        (!matches!(target, Target::Plain(_))).then(|| Self {
            target: target.clone(),
            tls: Arc::clone(tls),
            runtime: TokioRuntimeProvider::new(),
            connection: Mutex::default(),
        })
    }

    /// Asks on the connection that there is, and on a new one if it has ended meanwhile or `anew` is wished.
    pub(super) async fn ask(&self, query: &[u8], anew: bool) -> Result<Vec<u8>, StreamError> {
        let (connection, is_used) = self.connection(anew).await?;
        match send(&connection, query).await {
            Err(NetError::Timeout) => Err(NetError::Timeout.into()),
            Err(_) if is_used => {
                self.forget(&connection).await;
                let (connection, _) = self.connection(false).await?;
                Ok(send(&connection, query).await?)
            }
            other => Ok(other?),
        }
    }

    /// The connection, and whether it was there before. Who comes while it is made waits for it.
    async fn connection(&self, anew: bool) -> Result<(Connection, bool), NetError> {
        let mut held = self.connection.lock().await;
        let old = held.take_if(|held| anew && held.made_at.elapsed() > PROBE_DELAY_MIN);
        drop(old);
        if let Some(connection) = &*held {
            return Ok((connection.clone(), true));
        }
        let exchange = self.connect().await?;
        let connection = Connection { exchange, made_at: Instant::now() };
        *held = Some(connection.clone());
        Ok((connection, false))
    }

    /// It has ended. Somebody else may have made another already.
    async fn forget(&self, ended: &Connection) {
        self.connection.lock().await.take_if(|held| held.made_at == ended.made_at);
    }

    async fn connect(&self) -> Result<DnsExchange<TokioRuntimeProvider>, NetError> {
        let (tls, runtime) = (Arc::clone(&self.tls), self.runtime.clone());
        match &self.target {
            // hickory's own way to make an exchange leaves out the server's name, by which some tell customers apart.
            Target::Tls(address, name) => {
                let (connected, sender) = tls_client_connect(*address, name.clone(), tls, runtime.clone());
                let multiplexer = DnsMultiplexer::new(connected.await?, sender)
                    .with_timeout(STREAM_TIME_MAX)
                    .with_max_active_requests(STREAM_QUESTIONS_MAX);
                let (exchange, background) = DnsExchange::from_stream(multiplexer);
                runtime.create_handle().spawn_bg(background);
                Ok(exchange)
            }
            Target::Https { address, name, path } => {
                let mut builder = HttpsClientStream::builder(tls, runtime);
                builder.request_timeout(STREAM_TIME_MAX);
                builder.exchange(*address, name.to_str().into(), path.as_str().into()).await
            }
            Target::Plain(_) => Err(NetError::NoConnections),
        }
    }
}

async fn send(connection: &Connection, query: &[u8]) -> Result<Vec<u8>, NetError> {
    let message = Message::from_vec(query).map_err(ProtoError::from)?;
    let request = DnsRequest::new(message, DnsRequestOptions::default());
    Ok(connection.exchange.send(request).first_answer().await?.into_buffer())
}
