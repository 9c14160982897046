//! The relay of a server: what reaches whom, over both carriers, and what is counted.
//!
//! ```text
//! device 1 ──QUIC──▶ apid ◀──WebSocket── device 2      tenant home
//! device 3 ──QUIC──▶      ◀──QUIC─────── device 4      tenant lab; pending, tenant home
//! ```

use link::PreferCarrier;
use model::relay::PAYLOAD_BYTES_MAX;
use model::wire::Heartbeat;
use model::{Code, Timestamp};
use serde_json::json;

use crate::apid::Apid;
use crate::device::Device;
use crate::soon;

#[tokio::test]
async fn packets_of_any_length_pass_inside_a_tenant_over_both_carriers() {
    let apid = Apid::start();
    let token = apid.token("home", false).await;
    let mut a = Device::enrol(&apid, &token, 1, PreferCarrier::OnlyQuic).await;
    let mut b = Device::enrol(&apid, &token, 2, PreferCarrier::OnlyWebSocket).await;
    apid.wait_for("warren_relay_sessions", 2).await;
    let (mut datagrams, mut bytes) = (0, 0);
    for length in [1, 148, 1452, PAYLOAD_BYTES_MAX] {
        let payload: Vec<u8> = (0..length).map(|n| n as u8).collect();
        a.deliver(&mut b, &payload).await;
        b.deliver(&mut a, &payload).await;
        datagrams += 2;
        bytes += 2 * length as u64;
    }
    assert!(apid.metric("warren_relay_datagrams_total").await >= datagrams);
    assert!(apid.metric("warren_relay_bytes_total").await >= bytes);
    drop(b.sender);
    apid.wait_for("warren_relay_sessions", 1).await;
    a.send(b.id, b"is anybody there?");
    apid.wait_for("warren_relay_dropped_datagrams_total{reason=\"absent\"}", 1).await;
}

#[tokio::test]
async fn nothing_passes_between_tenants_nor_from_or_to_who_is_not_admitted() {
    let apid = Apid::start();
    apid.post("/api/v1/tenants", json!({"name": "lab"})).await;
    let home = apid.token("home", false).await;
    let mut a = Device::enrol(&apid, &home, 1, PreferCarrier::OnlyQuic).await;
    let mut b = Device::enrol(&apid, &home, 2, PreferCarrier::OnlyQuic).await;
    let mut foreign = Device::enrol(&apid, &apid.token("lab", false).await, 3, PreferCarrier::OnlyQuic).await;
    let mut pending = Device::enrol(&apid, &apid.token("home", true).await, 4, PreferCarrier::OnlyQuic).await;
    apid.wait_for("warren_relay_sessions", 3).await;
    foreign.send(b.id, b"from another tenant");
    a.send(foreign.id, b"to another tenant");
    a.send(pending.id, b"to one that waits");
    apid.wait_for("warren_relay_dropped_datagrams_total{reason=\"absent\"}", 3).await;
    pending.send(b.id, b"from one that waits");
    apid.wait_for("warren_relay_dropped_datagrams_total{reason=\"not-admitted\"}", 1).await;
    assert!(a.datagrams.send(vec![1; 18].into()), "half a head");
    apid.wait_for("warren_relay_dropped_datagrams_total{reason=\"malformed\"}", 1).await;
    a.send(b.id, b"to a neighbour");
    assert_eq!(b.receive().await, (a.id, b"to a neighbour".to_vec()), "and nothing came before it");
    apid.post(&format!("/api/v1/devices/{}/revoke?tenant=home", a.id), json!({})).await;
    apid.wait_for("warren_relay_sessions", 2).await;
    a.send(b.id, b"after the end");
    apid.wait_for("warren_relay_dropped_datagrams_total{reason=\"not-admitted\"}", 2).await;
}

#[tokio::test]
async fn heartbeats_that_come_too_often_are_passed_over() {
    let apid = Apid::with(&["--ratelimit-heartbeat-capacity", "3"]);
    let token = apid.token("home", false).await;
    let device = Device::enrol(&apid, &token, 1, PreferCarrier::OnlyQuic).await;
    for sequence in 1..=10 {
        let heartbeat = Heartbeat {
            sequence,
            holding: Vec::new(),
            drift_total: 0,
            problems: Vec::new(),
            wall: Timestamp::from_unix_micros(0),
            engine: None,
            facts: None,
        };
        device.sender.send(&heartbeat.into()).await.expect("the link stands");
    }
    apid.wait_for("warren_rate_limit_rejections_total{limiter=\"heartbeat\"}", 7).await;
    assert_eq!(apid.metric("warren_agent_heartbeats_total").await, 3);
    assert_eq!(apid.metric("warren_links").await, 1, "it is not sent away");
}

#[tokio::test]
async fn who_enrols_too_often_from_one_address_is_asked_to_come_back() {
    let apid = Apid::with(&["--ratelimit-registration-capacity", "2"]);
    let token = apid.token("home", false).await;
    for seed in [1, 2] {
        Device::enrol(&apid, &token, seed, PreferCarrier::OnlyQuic).await;
    }
    let wait = Device::asked_to_wait(&apid, &token, 3).await;
    assert!((1..=30).contains(&wait.as_secs()), "{wait:?}");
    assert_eq!(apid.metric("warren_rate_limit_rejections_total{limiter=\"registration\"}").await, 1);
}

#[tokio::test]
async fn a_flood_of_refused_enrolments_fills_no_audit_log() {
    let apid = Apid::with(&["--ratelimit-audit-capacity", "3"]);
    let mut token = apid.token("home", false).await;
    apid.post(&format!("/api/v1/tokens/{}/revoke?tenant=home", token.id), json!({})).await;
    for seed in 1..=8 {
        assert_eq!(Device::refused(&apid, &token, seed).await, Code::TokenRevoked);
    }
    // Anybody may know the anchor.
    token.secret = apid.token("home", false).await.secret;
    for seed in 1..=8 {
        Device::refused(&apid, &token, seed).await;
    }
    let written = async || {
        let page = apid.get("/api/v1/audit?limit=1000").await;
        let entries = page["items"].as_array().expect("a list").clone();
        entries.iter().filter(|entry| entry["action"] == "device.enrol").count() as u64
    };
    // What is written is on its way when the device hears of it.
    let left_out = async || apid.metric("warren_rate_limit_rejections_total{limiter=\"audit\"}").await;
    soon(async { while written().await + left_out().await < 16 {} }).await;
    // A busy machine may need so long that one more is in time.
    assert!((3..=5).contains(&written().await), "{}", written().await);
}
