//! A relay without a server: whom it admits, and what passes.

use link::PreferCarrier;
use model::relay::RelayPass;
use model::{AnchorSecret, Code, DeviceId, IdentitySecret, TenantId, Timestamp};

use crate::apid::Apid;
use crate::device::Device;

#[tokio::test]
async fn a_relay_alone_serves_whom_its_anchors_let_and_nobody_else() {
    let anchor = AnchorSecret::from_seed([1; 32]);
    let stranger = AnchorSecret::from_seed([2; 32]);
    let other = AnchorSecret::from_seed([3; 32]);
    let fingerprint = |anchor: &AnchorSecret| anchor.public().fingerprint().to_string();
    let anchors = [fingerprint(&anchor), fingerprint(&other)];
    let relay =
        Apid::with(&["--role", "relay", "--serve-anchor", &anchors[0], "--serve-anchor", &anchors[1]]);
    let identity = |n: u8| IdentitySecret::from_seed([n; 32]);
    let pass = |n: u8| RelayPass {
        tenant: TenantId::from_bytes([9; 16]),
        device: DeviceId::from_bytes([n; 16]),
        identity: identity(n).public(),
        expires_at: Timestamp::from_unix_micros(i64::MAX),
    };
    let (quic, websocket) = (PreferCarrier::OnlyQuic, PreferCarrier::OnlyWebSocket);
    let a = Device::attach(&relay, (&identity(1), &pass(1), &anchor), quic).await;
    let b = Device::attach(&relay, (&identity(2), &pass(2), &anchor), websocket).await;
    let (mut a, mut b) = (a.expect("admitted"), b.expect("admitted"));
    relay.wait_for("warren_relay_sessions", 2).await;
    let long = vec![5; 1452];
    a.deliver(&mut b, &long).await;
    b.deliver(&mut a, &long).await;

    // Another anchor's device of the same number is another device.
    let double = Device::attach(&relay, (&identity(2), &pass(2), &other), quic).await;
    let mut double = double.expect("admitted");
    relay.wait_for("warren_relay_sessions", 3).await;
    a.deliver(&mut b, b"for my tenant").await;
    double.send(a.id, b"for another tenant");
    relay.wait_for("warren_relay_dropped_datagrams_total{reason=\"absent\"}", 1).await;

    let refused = async |identity: &IdentitySecret, pass: &RelayPass, anchor: &AnchorSecret| {
        Device::attach(&relay, (identity, pass, anchor), quic).await.map(|device| device.id).err()
    };
    assert_eq!(refused(&identity(4), &pass(4), &stranger).await, Some(Code::AnchorUnknown));
    assert_eq!(refused(&identity(5), &pass(4), &anchor).await, Some(Code::PassInvalid), "another's pass");
    let expired = RelayPass { expires_at: Timestamp::from_unix_micros(1), ..pass(4) };
    assert_eq!(refused(&identity(4), &expired, &anchor).await, Some(Code::PassInvalid));
}
