//! A device that has enrolled with a server, as its relay sees it. Has nothing behind it.

use std::net::SocketAddr;

use link::{PreferCarrier, Trust};
use model::key::Digest;
use model::token::OnboardingToken;
use model::wire::{Enrol, EnrolClaim, Frame, Hello, Remark, Transcript, VERSION};
use model::{Abilities, IdentitySecret, Nonce, PrivateKey};

use super::relay::Device;
use crate::server::ADDRESS;

/// Enrols one by a token, over one carrier.
pub(super) async fn member(token: &OnboardingToken, number: u32, prefer: PreferCarrier) -> Device {
    let secret = |what: &str| *Digest::of(what, &[&number.to_be_bytes()]).as_bytes();
    let identity = IdentitySecret::from_seed(secret("bench identity"));
    let wireguard = PrivateKey::from_bytes(secret("bench wireguard"));
    let connection = link::dial(&SocketAddr::from(ADDRESS).into(), &Trust::Anchor, prefer).await;
    let connection = connection.expect("the server serves");
    let (channel, datagrams) = (connection.channel(), connection.datagrams().expect("it relays"));
    let (sender, mut receiver) = connection.split();
    let hello = Hello {
        version_min: VERSION,
        version_max: VERSION,
        nonce: Nonce::from_bytes(secret("bench nonce")),
        anchor: Some(token.anchor),
        software: Remark::new("bench"),
    };
    sender.send(&hello.clone().into()).await.expect("the link stands");
    let Ok(Frame::Welcome(welcome)) = receiver.recv().await else { panic!("the server does not greet") };
    let transcript = Transcript::new(&hello, &welcome, &channel);
    let claim = EnrolClaim {
        token: token.id,
        identity: identity.public(),
        wireguard: wireguard.public(),
        hostname: Remark::new(&format!("device-{number}")),
        os: Remark::new("linux"),
    };
    let proof = transcript.prove_enrol(&claim, &wireguard, &welcome.ephemeral);
    let enrol = Enrol {
        token_signature: transcript.sign_enrol_token(&claim, &token.secret),
        identity_signature: transcript.sign_enrol_identity(&claim, &identity),
        wireguard_proof: proof.expect("the server's key is good"),
        abilities: Abilities::KNOWN,
        claim,
    };
    sender.send(&enrol.into()).await.expect("the link stands");
    let id = loop {
        match receiver.recv().await.expect("the link stands") {
            Frame::Enrolled(enrolled) => break enrolled.device,
            Frame::Refused(refused) => panic!("{}", refused.refusal),
            _ => {}
        }
    };
    tokio::spawn(async move { while receiver.recv().await.is_ok() {} });
    Device::new(id, datagrams, sender)
}
