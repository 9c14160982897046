//! Lines of OpenSSH that come from files and from strangers: keys, certificates of hosts; and what names certificates.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use ca::{HostCertificate, Subject};
use model::vouch::{SignedVouch, key_digest};
use model::{CaKey, CertificateId, HostKey, Login, Revoked, SshIdentity, SshSerial};

/// What is taken is one line and reads back as itself; a certificate that is taken has a good signature and a key of a host.
pub(crate) fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for text in [&*text, text.lines().next().unwrap_or_default()] {
        reads_back::<CaKey>(text);
        reads_back::<HostKey>(text);
        reads_back::<SshSerial>(text);
        reads_back::<Login>(text);
        reads_back::<SshIdentity>(text);
        reads_back::<CertificateId>(text);
        reads_back::<Revoked>(text);
        reads_back::<SignedVouch>(text);
        if let Ok(key) = text.parse::<HostKey>() {
            let (kind, wire) = (key.as_str().split(' ').next().unwrap_or_default(), key.wire());
            assert!(wire[4..].starts_with(kind.as_bytes()), "{kind} says that it is another");
        }
        if let Ok(key) = text.parse::<CaKey>() {
            assert_eq!(CaKey::from_bytes(*key.as_bytes()), key);
            assert!(text.parse::<HostKey>().is_ok_and(|host| host.wire() == key.wire()));
        }
        subject(text);
        certificate(text);
    }
}

fn subject(text: &str) {
    let Ok(subject) = text.parse::<Subject>() else { return };
    let line = subject.to_string();
    assert!(!line.contains(char::is_control), "{line:?}");
    let again: Subject = line.parse().expect("what was taken is taken again");
    assert!(again == subject && again.wire() == subject.wire());
    assert!(line.starts_with(subject.kind().as_str()));
    assert_eq!(again.fingerprint(), subject.fingerprint());
    assert_eq!(key_digest(&line), key_digest(&again.to_string()));
}

fn certificate(text: &str) {
    let Ok(certificate) = HostCertificate::read(text) else { return };
    reads_back::<HostKey>(certificate.key.as_str());
    assert_eq!(HostCertificate::read(&format!(" {}\n", text.trim())), Ok(certificate));
}

fn reads_back<T: FromStr<Err: Debug> + Display + Debug + PartialEq>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        let printed = read.to_string();
        assert!(!printed.contains(char::is_control), "{printed:?}");
        assert_eq!(printed.parse::<T>().expect("what is printed is read"), read);
    }
}
