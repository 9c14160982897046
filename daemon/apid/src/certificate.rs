//! The TLS certificate of the server's own making. Its key is kept in the state directory.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use model::Timestamp;

/// Why there is no certificate to serve.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file.
    #[error("{path} cannot be used")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// One could not be made.
    #[error("a certificate cannot be made")]
    Make(#[from] rcgen::Error),
    /// Not X.509.
    #[error("the certificate cannot be read")]
    Read(#[from] x509_parser::asn1_rs::Err<x509_parser::error::X509Error>),
}

/// A certificate chain and its key, PEM.
pub struct OwnCertificate {
    /// Leaf first.
    pub chain_pem: String,
    /// PKCS #8.
    pub key_pem: zeroize::Zeroizing<String>,
}

/// Takes the certificate of our own making for these names, or makes it. Its key stays when the names change, as
/// API tokens pin it.
pub fn own(state_dir: &Path, host: &str) -> Result<OwnCertificate, CertificateError> {
    let key_path = state_dir.join("tls.key");
    let key_pem = match std::fs::read_to_string(&key_path) {
        Ok(pem) => pem,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let pem = rcgen::KeyPair::generate()?.serialize_pem();
            write_secret(&key_path, &pem)?;
            pem
        }
        Err(source) => return Err(CertificateError::File { path: key_path, source }),
    };
    let mut parameters = rcgen::CertificateParams::new(vec![host.into(), "localhost".into()])?;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "Warren");
    // The pin is the key, not the date: a certificate that outlives the machine never surprises anybody.
    parameters.not_after = rcgen::date_time_ymd(4096, 1, 1);
    let certificate = parameters.self_signed(&rcgen::KeyPair::from_pem(&key_pem)?)?;
    Ok(OwnCertificate { chain_pem: certificate.pem(), key_pem: key_pem.into() })
}

fn write_secret(path: &Path, text: &str) -> Result<(), CertificateError> {
    let open = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    open.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(|source| CertificateError::File { path: path.into(), source })
}

/// When a certificate in DER is no longer valid (RFC 5280, section 4.1.2.5).
pub fn end(der: &[u8]) -> Result<Timestamp, CertificateError> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der)?;
    Ok(Timestamp::from_unix_micros(certificate.validity().not_after.timestamp().saturating_mul(1_000_000)))
}
