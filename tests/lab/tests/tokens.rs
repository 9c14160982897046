//! Onboarding tokens: who gets in, and who is told why not.
//!
//! ```text
//!   d01 … d20 ── r-x ── inet ── server (apid on SQLite or PostgreSQL, netd)
//! ```

use std::process::Stdio;

use lab::{Mesh, SERVER_URL, World};

const DEVICES: usize = 20;

/// Of many devices that present one single-use token at the same moment, one gets in.
fn race(database: impl FnOnce(&World) -> Option<String>) {
    let names: Vec<String> = (1..=DEVICES).map(|number| format!("d{number:02}")).collect();
    let behind_one_router: Vec<String> = names.iter().map(|name| format!("{name}@x")).collect();
    let world = World::new(&behind_one_router.iter().map(String::as_str).collect::<Vec<_>>());
    let flags: Vec<String> =
        database(&world).into_iter().flat_map(|url| ["--database".into(), url]).collect();
    let mesh = Mesh::in_world(world, &flags.iter().map(String::as_str).collect::<Vec<_>>());
    let agents: Vec<_> = names.iter().map(|name| mesh.agent(name)).collect();
    let token = mesh.token(&["--uses", "1"]);
    mesh.announce("agent", "token-used");

    let up = ["warren", "up", "--server", SERVER_URL, "--token", &token, "--json"];
    let racers: Vec<_> = names
        .iter()
        .map(|name| {
            let mut command = mesh.on(name).command(&up);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("launchers can be started")
        })
        .collect();
    let mut winners = 0;
    for racer in racers {
        let output = racer.wait_with_output().expect("a child of ours can be waited for");
        match output.status.code() {
            Some(0) => winners += 1,
            code => {
                let said = String::from_utf8_lossy(&output.stderr);
                assert_eq!(code, Some(3), "refused is 3: {said}");
                assert!(said.contains("\"token-used\""), "{said}");
            }
        }
    }
    assert_eq!(winners, 1);
    let devices = mesh.on("server").json(&["warren", "device", "list"]);
    assert_eq!(devices["items"].as_array().map(Vec::len), Some(1));
    let tokens = mesh.on("server").json(&["warren", "token", "list"]);
    assert_eq!(tokens["items"][0]["uses"], 1);
    assert_eq!(tokens["items"][0]["state"], "used");
    assert!(agents.iter().all(|agent| agent.ended().is_none()), "losers stay and can try another token");
}

#[test]
fn of_twenty_devices_with_a_single_use_token_one_gets_in_on_sqlite() {
    race(|_| None);
}

#[test]
fn of_twenty_devices_with_a_single_use_token_one_gets_in_on_postgresql() {
    race(|world| Some(world.postgres()));
}

#[test]
fn every_other_token_is_refused_with_its_reason() {
    let mesh = Mesh::new(&["alpha"]);
    mesh.agent("alpha");
    mesh.announce("agent", "token-");
    let check = |token: &str, code: &str| {
        let up = ["warren", "up", "--server", SERVER_URL, "--token", token, "--json"];
        let done = mesh.on("alpha").run(&up);
        assert_ne!(done.code, 0, "{}", done.tell());
        let said: serde_json::Value =
            serde_json::from_str(&done.err).unwrap_or_else(|e| panic!("no JSON: {e}\n{}", done.tell()));
        assert_eq!(said["error"]["code"], code, "{}", done.tell());
        assert!(said["error"]["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{}", done.tell());
    };

    let revoked = mesh.on("server").json(&["warren", "token", "create"]);
    let id = revoked["id"].as_str().expect("a token has an id");
    mesh.on("server").ok(&["warren", "token", "revoke", id]);
    check(revoked["secret"].as_str().expect("a token has a secret"), "token-revoked");

    let expired = mesh.token(&["--ttl", "1s"]);
    lab::wait_for("the token has expired", lab::SOON, || {
        let list = mesh.on("server").json(&["warren", "token", "list"]);
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items.iter().any(|token| token["state"] == "expired")
    });
    check(&expired, "token-expired");
    check("wt1_garbage", "bad-request");
    assert!(mesh.device("alpha").is_none());

    mesh.join("alpha", &mesh.token(&[]));
    let address = mesh.device_field("alpha", "address_v4");
    mesh.on("alpha").ok(&["warren", "down"]);
    mesh.on("alpha").ok(&["warren", "up"]);
    mesh.ready("alpha", lab::SOON);
    assert_eq!(mesh.device_field("alpha", "address_v4"), address, "a device keeps its address");

    mesh.on("server").ok(&["warren", "tenant", "create", "two"]);
    let other = mesh.token(&["--tenant", "two"]);
    let elsewhere = ["warren", "up", "--server", "https://203.0.113.9:8443", "--token", &other, "--json"];
    let done = mesh.on("alpha").run(&elsewhere);
    assert!(done.code == 3 && done.err.contains("already-enrolled"), "{}", done.tell());
    let status = mesh.status("alpha");
    assert_eq!(status["server"].as_str(), Some(SERVER_URL), "whoever is refused moves nothing");
    assert_eq!(status["connected"], true, "and the link stays");
}
