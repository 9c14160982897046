//! TLS as Warren uses it: certificates, whom a client trusts, and what ties a link to its connection.
//!
//! TLS 1.3 everywhere, as the exporter is unique to a connection there (RFC 9266); only a client that talks to a proxy
//! or to the HTTP API takes 1.2 too. Decides nothing about anchors: that is the link's handshake.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::Fingerprint;
use model::wire::Channel;
use model::wire::handshake::EXPORTER_LABEL;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

use crate::limits::PEM_BYTES_MAX;

/// Names the link inside QUIC (RFC 7301).
pub const ALPN_LINK: &[u8] = b"warren/1";
/// Names HTTP/1.1, and with it the link over WebSocket (RFC 7301).
pub const ALPN_HTTP: &[u8] = b"http/1.1";

const STRICT: &[&SupportedProtocolVersion] = &[&TLS13];
const LENIENT: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("cannot read {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A text holds no certificate or no key in PEM (RFC 7468).
    #[error("{what} is not in PEM")]
    Pem {
        /// What was looked for, and where.
        what: String,
    },
    /// rustls refuses a certificate, a key, or the two together.
    #[error("the certificate or key cannot be used")]
    Unusable(#[from] rustls::Error),
}

/// The server presented another key than the pinned one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server's key is {found}, not the pinned {expected}")]
pub struct PinMismatch {
    /// What was pinned.
    pub expected: Fingerprint,
    /// What the server presented.
    pub found: Fingerprint,
}

/// Whom the client of a link trusts at the TLS layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Any certificate. The server proves the tenant's anchor inside the link, over the exporter of this very TLS
    /// connection: somebody in the middle holds two connections with two exporters, and cannot make one proof fit the
    /// other. So a server needs no certificate that anybody vouches for, and an authority that errs opens nothing.
    /// What is sent before the proof (a `Hello`) holds no secret.
    Anchor,
    /// The server with this TLS key, see [`Certificate::fingerprint`]: a relay, which the snapshot names by it.
    Pinned(Fingerprint),
    /// A certificate that the public authorities (webpki-roots) or one of the named file vouch for.
    Authorities {
        /// More authorities, in PEM.
        extra_ca_file: Option<PathBuf>,
        /// TLS ends at a proxy, so there is no exporter that both ends share: the link is [`Channel::Proxied`], and it
        /// is WebSocket only, as proxies of HTTP forward no QUIC.
        proxied: bool,
    },
}

impl Trust {
    /// What the link's handshake is bound to under this trust, given the connection's exporter.
    pub(crate) const fn channel(&self, exporter: [u8; 32]) -> Channel {
        match self {
            Self::Authorities { proxied: true, .. } => Channel::Proxied,
            Self::Anchor | Self::Pinned(_) | Self::Authorities { proxied: false, .. } => {
                Channel::Exporter(exporter)
            }
        }
    }

    pub(crate) async fn client_config(&self) -> Result<ClientConfig, TlsError> {
        match self {
            Self::Anchor => client_config(Arc::new(KeyVerifier { expected: None }), STRICT),
            Self::Pinned(key) => client_config(Arc::new(KeyVerifier { expected: Some(*key) }), STRICT),
            Self::Authorities { extra_ca_file, proxied } => {
                let verifier = authorities(extra_ca_file.as_deref()).await?;
                client_config(verifier, if *proxied { LENIENT } else { STRICT })
            }
        }
    }
}

/// Whom a client of the HTTP API trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpsTrust {
    /// The server with this key, see [`Certificate::fingerprint`]. Names and dates do not matter then.
    Pinned(Fingerprint),
    /// A server that the public authorities (webpki-roots) or one of the named file vouch for.
    Authorities {
        /// More authorities, in PEM.
        extra_ca_file: Option<PathBuf>,
    },
}

impl HttpsTrust {
    pub(crate) async fn client_config(&self) -> Result<ClientConfig, TlsError> {
        let verifier: Arc<dyn ServerCertVerifier> = match self {
            Self::Pinned(expected) => Arc::new(KeyVerifier { expected: Some(*expected) }),
            Self::Authorities { extra_ca_file } => authorities(extra_ca_file.as_deref()).await?,
        };
        client_config(verifier, LENIENT)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn client_config(
    verifier: Arc<dyn ServerCertVerifier>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ClientConfig, TlsError> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

async fn authorities(extra: Option<&Path>) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = extra {
        let pem = read_pem(path).await?;
        for certificate in certificates(&pem, &path.display().to_string())? {
            roots.add(certificate)?;
        }
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .expect("the public authorities are not empty");
    Ok(verifier)
}

/// Reads a file of certificates or a key, at most [`PEM_BYTES_MAX`].
async fn read_pem(path: &Path) -> Result<Vec<u8>, TlsError> {
    let file = |source| TlsError::File { path: path.into(), source };
    let mut pem = Vec::new();
    let opened = tokio::fs::File::open(path).await.map_err(file)?;
    opened.take(PEM_BYTES_MAX).read_to_end(&mut pem).await.map_err(file)?;
    Ok(pem)
}

fn certificates(pem: &[u8], name: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(TlsError::Pem { what: format!("a certificate in {name}") }),
    }
}

/// A server's certificate chain and key.
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    fingerprint: Fingerprint,
}

impl Certificate {
    /// Takes a chain, the server's own certificate first, and its key (PKCS#8, SEC1 or PKCS#1).
    ///
    /// # Errors
    /// They do not fit each other, or are of no kind that TLS uses.
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        let own = chain.first().ok_or(rustls::Error::NoCertificatesPresented)?;
        let certificate = Self { fingerprint: spki_fingerprint(own)?, chain, key };
        certificate.server_config(ALPN_HTTP)?;
        Ok(certificate)
    }

    /// As [`Self::from_der`], from two texts in PEM (RFC 7468).
    ///
    /// # Errors
    /// As [`Self::from_der`], or one is not in PEM.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| TlsError::Pem { what: "the private key".into() })?;
        Self::from_der(certificates(chain, "the certificate chain")?, key)
    }

    /// As [`Self::from_pem`], from two files of [`PEM_BYTES_MAX`] at most.
    ///
    /// # Errors
    /// As [`Self::from_pem`], or one cannot be read.
    pub async fn from_files(chain: &Path, key: &Path) -> Result<Self, TlsError> {
        Self::from_pem(&read_pem(chain).await?, &read_pem(key).await?)
    }

    /// The server's own certificate in DER.
    pub fn own(&self) -> &[u8] {
        self.chain.first().map_or(&[], |own| own)
    }

    /// SHA-256 of the SubjectPublicKeyInfo (RFC 7469, section 2.4): what clients of the API pin. A renewed certificate
    /// of the same key has the same.
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The configuration of a server that speaks this protocol, such as [`ALPN_HTTP`], over TLS 1.3.
    ///
    /// # Errors
    /// Key and certificate do not fit each other.
    pub fn server_config(&self, alpn: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(STRICT)?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![alpn.to_vec()];
        // Nobody comes back to a session: agents and the command line begin a new one each time.
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// A secret that the same key always yields, so that a server that restarted still knows its own tokens.
    pub(crate) fn derive(&self, purpose: &[u8]) -> [u8; 32] {
        Sha256::new()
            .chain_update(purpose)
            .chain_update([0])
            .chain_update(self.key.secret_der())
            .finalize()
            .into()
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.fingerprint)
    }
}

/// SHA-256 of a certificate's SubjectPublicKeyInfo (RFC 7469, section 2.4).
///
/// # Errors
/// It is no X.509 certificate.
pub fn spki_fingerprint(certificate: &CertificateDer<'_>) -> Result<Fingerprint, rustls::Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    Ok(Fingerprint::from_bytes(Sha256::digest(parsed.subject_public_key_info()).into()))
}

/// What the handshake of a link over this TLS connection is bound to: a server calls it for each connection that may
/// become a WebSocket. The exporter of RFC 8446, section 7.5, with an empty context.
///
/// # Errors
/// The TLS handshake is not complete.
pub fn channel<D>(connection: &rustls::ConnectionCommon<D>) -> Result<Channel, rustls::Error> {
    exporter(connection).map(Channel::Exporter)
}

pub(crate) fn exporter<D>(connection: &rustls::ConnectionCommon<D>) -> Result<[u8; 32], rustls::Error> {
    connection.export_keying_material([0; 32], EXPORTER_LABEL, Some(&[]))
}

/// The pin that failed, if that is why a TLS connection could not be made.
pub(crate) fn pin_mismatch(error: &io::Error) -> Option<PinMismatch> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) => {
            cause.downcast_ref().copied()
        }
        _ => None,
    }
}

/// Accepts any certificate, or any of one key. That the server holds the key is checked always.
#[derive(Debug)]
struct KeyVerifier {
    expected: Option<Fingerprint>,
}

impl ServerCertVerifier for KeyVerifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(expected) = self.expected {
            let found = spki_fingerprint(own)?;
            if found != expected {
                let mismatch = OtherError(Arc::new(PinMismatch { expected, found }));
                return Err(CertificateError::Other(mismatch).into());
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
