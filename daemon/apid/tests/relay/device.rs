//! A device as the relay sees it, frame by frame.

use std::time::Duration;

use link::{Datagrams, PreferCarrier, Trust};
use model::relay::datagram::cut;
use model::relay::{Joiner, PieceIds, RelayPass, Relayed};
use model::token::OnboardingToken;
use model::wire::{AttachClaim, AttachRelay, Enrol, EnrolClaim, Frame, Hello, Remark, Transcript, VERSION};
use model::{
    Abilities, AnchorSecret, Code, DeviceId, Fingerprint, IdentitySecret, Mono, Nonce, PrivateKey, PublicKey,
    Signed,
};

use crate::apid::Apid;
use crate::soon;

/// A datagram that has not arrived by then is sent again.
const AGAIN: Duration = Duration::from_secs(2);

/// A link on which both sides have said hello.
struct Greeted {
    sender: link::Sender,
    receiver: link::Receiver,
    datagrams: Datagrams,
    transcript: Transcript,
    ephemeral: PublicKey,
}

async fn greet(apid: &Apid, anchor: Fingerprint, seed: u8, prefer: PreferCarrier) -> Greeted {
    let connection = soon(link::dial(&apid.address, &Trust::Anchor, prefer)).await.expect("a link");
    let (channel, datagrams) = (connection.channel(), connection.datagrams().expect("datagrams"));
    let (sender, mut receiver) = connection.split();
    let hello = Hello {
        version_min: VERSION,
        version_max: VERSION,
        nonce: Nonce::from_bytes([seed; 32]),
        anchor: Some(anchor),
        software: Remark::new("test 1"),
    };
    sender.send(&hello.clone().into()).await.expect("sent");
    let Ok(Frame::Welcome(welcome)) = soon(receiver.recv()).await else { panic!("no welcome") };
    let transcript = Transcript::new(&hello, &welcome, &channel);
    Greeted { sender, receiver, datagrams, transcript, ephemeral: welcome.ephemeral }
}

/// Sends all that an enrolment needs.
async fn claim(apid: &Apid, token: &OnboardingToken, seed: u8, prefer: PreferCarrier) -> Greeted {
    let greeted = greet(apid, token.anchor, seed, prefer).await;
    let Greeted { sender, transcript, ephemeral, .. } = &greeted;
    let identity = IdentitySecret::from_seed([seed; 32]);
    let wireguard = PrivateKey::from_bytes([seed; 32]);
    let claim = EnrolClaim {
        token: token.id,
        identity: identity.public(),
        wireguard: wireguard.public(),
        hostname: Remark::new(&format!("host{seed}")),
        os: Remark::new("linux"),
    };
    let enrol = Enrol {
        token_signature: transcript.sign_enrol_token(&claim, &token.secret),
        identity_signature: transcript.sign_enrol_identity(&claim, &identity),
        wireguard_proof: transcript.prove_enrol(&claim, &wireguard, ephemeral).expect("a good key"),
        abilities: Abilities::KNOWN,
        claim,
    };
    sender.send(&enrol.into()).await.expect("sent");
    greeted
}

/// A device as the relay sees it.
pub struct Device {
    pub id: DeviceId,
    pub datagrams: Datagrams,
    ids: PieceIds,
    joiner: Joiner,
    /// Keeps the link.
    pub sender: link::Sender,
}

impl Device {
    pub async fn enrol(apid: &Apid, token: &OnboardingToken, seed: u8, prefer: PreferCarrier) -> Self {
        let Greeted { sender, mut receiver, datagrams, .. } = claim(apid, token, seed, prefer).await;
        let id = loop {
            match soon(receiver.recv()).await {
                Ok(Frame::Enrolled(enrolled)) => break enrolled.device,
                Ok(Frame::Refused(refused)) => panic!("{:?}", refused.refusal),
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        };
        tokio::spawn(async move { while receiver.recv().await.is_ok() {} });
        Self { id, datagrams, ids: PieceIds::of_sender(), joiner: Joiner::default(), sender }
    }

    /// Wants to enrol, and returns for how long it is asked to stay away.
    pub async fn asked_to_wait(apid: &Apid, token: &OnboardingToken, seed: u8) -> Duration {
        let mut greeted = claim(apid, token, seed, PreferCarrier::OnlyQuic).await;
        match soon(greeted.receiver.recv()).await.expect("an answer") {
            Frame::Retry(retry) => Duration::from_millis(retry.after_millis.into()),
            other => panic!("{other:?}"),
        }
    }

    /// Wants to enrol, and is refused.
    pub async fn refused(apid: &Apid, token: &OnboardingToken, seed: u8) -> Code {
        let mut greeted = claim(apid, token, seed, PreferCarrier::OnlyQuic).await;
        match soon(greeted.receiver.recv()).await.expect("an answer") {
            Frame::Refused(refused) => refused.refusal.code,
            other => panic!("{other:?}"),
        }
    }

    /// Shows a relay alone a pass; the code of its refusal if it refuses.
    pub async fn attach(
        relay: &Apid,
        (identity, pass, anchor): (&IdentitySecret, &RelayPass, &AnchorSecret),
        prefer: PreferCarrier,
    ) -> Result<Self, Code> {
        let seed = pass.device.as_bytes()[0];
        let greeted = greet(relay, anchor.public().fingerprint(), seed, prefer).await;
        let Greeted { sender, mut receiver, datagrams, transcript, .. } = greeted;
        let instance = Nonce::from_bytes([seed; 32]);
        let claim = AttachClaim { identity: identity.public(), held: None, instance };
        let signature = transcript.sign_attach(&claim, identity);
        let pass_bytes = Signed::new(pass, anchor);
        let attach = AttachRelay { claim, signature, pass: pass_bytes, anchor: anchor.public() };
        sender.send(&attach.into()).await.expect("sent");
        match soon(receiver.recv()).await.expect("an answer") {
            Frame::Attached(_) => {}
            Frame::Refused(refused) => return Err(refused.refusal.code),
            other => panic!("{other:?}"),
        }
        tokio::spawn(async move { while receiver.recv().await.is_ok() {} });
        let (ids, joiner) = (PieceIds::of_sender(), Joiner::default());
        Ok(Self { id: pass.device, datagrams, ids, joiner, sender })
    }

    pub fn send(&mut self, to: DeviceId, payload: &[u8]) -> usize {
        let pieces = cut(to, payload, self.datagrams.bytes_max(), &mut self.ids);
        pieces.map(|piece| assert!(self.datagrams.send(piece.write().into()))).count()
    }

    /// Sends a payload until it arrives: datagrams may be lost, on a busy machine even on its loopback.
    pub async fn deliver(&mut self, to: &mut Self, payload: &[u8]) {
        soon(async {
            loop {
                self.send(to.id, payload);
                let received = tokio::time::timeout(AGAIN, to.receive()).await;
                if received.is_ok_and(|(from, bytes)| from == self.id && bytes == payload) {
                    return;
                }
            }
        })
        .await;
    }

    pub async fn receive(&mut self) -> (DeviceId, Vec<u8>) {
        loop {
            let bytes = soon(self.datagrams.recv()).await.expect("the link stands");
            let relayed = Relayed::parse(&bytes).expect("a datagram");
            if let Some(payload) = self.joiner.take(&relayed, Mono::from_micros(0)) {
                return (relayed.device, payload.into_owned());
            }
        }
    }
}
