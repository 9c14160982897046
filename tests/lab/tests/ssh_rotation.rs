//! Rotations of the authorities: nobody is shut out whatever host is away, and a stolen key opens nothing more.
//!
//! ```text
//!   alpha (ssh)  ── r-alpha ─┐
//!   beta  (sshd) ── r-beta  ─┼─ inet ── server (apid, netd)
//!   gamma (…)    ── r-gamma ─┘
//! ```

use std::time::Duration;

use lab::sshd::{self, ANY_HOST, CERTIFIED_WITHIN, KnownBy, Sshd};
use lab::{SOON, wait_for};

/// What is revoked is refused on connected hosts within this time.
const REVOKED_WITHIN: Duration = Duration::from_secs(5);

#[test]
fn a_rotation_waits_for_hosts_that_are_away_and_shuts_nobody_out() {
    let sshd = Sshd::start(["beta", "gamma"]);
    sshd.log_in("alpha");
    let both = || ["root@beta", "root@gamma"].iter().all(|target| sshd.enters("alpha", target));
    assert!(both(), "{}", sshd.said());
    let gamma = sshd.mesh.on("gamma");
    gamma.ok(&["warren", "down"]);
    sshd.step("rotate", "user").ok();
    let blocked = sshd.step("advance", "user");
    assert!(blocked.code == 3 && blocked.err.contains("does not trust the next key"), "{}", blocked.tell());
    gamma.ok(&["warren", "up"]);
    wait_for("both let her in", SOON, both);
    sshd.advance("user");
    assert!(both(), "by the certificate of the former key");
    let former = sshd.warren("alpha", &["ssh", "login", "--json"]).ok_json();
    assert!(both(), "by one of the next key: {}", sshd.said());
    assert!(former["serial"].is_string());
    let blocked = sshd.step("advance", "user");
    assert!(blocked.code == 3 && blocked.err.contains("live until"), "{}", blocked.tell());
    sshd.step("rollback", "user").ok();
    sshd.warren("alpha", &["ssh", "login"]).ok();
    assert!(both(), "by the former key again");
}

#[test]
fn a_rotation_of_the_authority_for_people_ends_and_is_undone_at_every_phase() {
    let sshd = Sshd::start(["beta"]);
    sshd.log_in("alpha");
    let enters = |why: &str| assert!(sshd.enters("alpha", "root@beta"), "{why}: {}", sshd.said());
    let phase = || sshd.authority("user")["phase"].clone();
    let mut living = vec![sshd.renew("alpha")];
    enters("at first");
    for advances in 0..3 {
        living.push(sshd.renew("alpha"));
        sshd.step("rotate", "user").ok();
        let mut of_next = Vec::new();
        for step in 0..advances {
            sshd.advance("user");
            enters("by a certificate of the former key, or of the next");
            if step == 0 {
                of_next.push(sshd.renew("alpha"));
                // Whoever has one of the former key goes on until it ends, or is taken back.
                living.drain(..).for_each(|serial| sshd.revoke(&serial));
            }
            enters("by the next key");
        }
        sshd.step("rollback", "user").ok();
        enters("by what there is");
        living.push(sshd.renew("alpha"));
        of_next.iter().for_each(|serial| sshd.revoke(serial));
        enters("by the former key");
        sshd.advance("user");
        assert_eq!(phase(), "standby", "undone after {advances} steps");
        enters("by the former key, alone");
    }
    living.push(sshd.renew("alpha"));
    sshd.step("rotate", "user").ok();
    sshd.advance("user");
    sshd.renew("alpha");
    enters("by the next key");
    let blocked = sshd.step("advance", "user");
    assert!(blocked.code == 3 && blocked.err.contains("live until"), "{}", blocked.tell());
    living.iter().for_each(|serial| sshd.revoke(serial));
    sshd.advance("user");
    enters("hosts are as people");
    sshd.advance("user");
    assert_eq!(phase(), "standby");
    assert_eq!(sshd.authority("user")["keys"].as_array().map(Vec::len), Some(1));
    enters("by the next key, alone");
}

#[test]
fn a_stolen_key_opens_nothing_more_and_people_get_a_new_certificate_unasked() {
    let sshd = Sshd::start(["beta", "gamma"]);
    sshd.log_in("alpha");
    assert!(sshd.enters("alpha", "root@beta"), "{}", sshd.said());
    let (home, stolen) = (sshd.home("alpha"), sshd.mesh.file("alpha", "lib").join("stolen"));
    sshd.mesh.on("alpha").ok(&["cp", "-a", &home.display().to_string(), &stolen.display().to_string()]);
    let key = sshd::identity(&stolen);
    let ssh = [&["ssh"], &ANY_HOST[..], &key.each_ref().map(String::as_str)].concat();
    let thief = |at: &str| {
        let done = sshd.mesh.on("alpha").run(&[&ssh[..], &[at, "echo", "hello"]].concat());
        assert!(done.code == 0 || done.err.contains("Permission denied"), "{}\n{}", done.tell(), sshd.said());
        done.out == "hello\n"
    };
    assert!(thief("root@beta") && thief("root@gamma"), "{}", sshd.said());
    sshd.agents[2].kill();
    let replace = ["warren", "ca", "rotate", "--type", "user", "--emergency", "--yes"];
    sshd.mesh.on("server").ok(&replace);
    wait_for("what the former key signed opens nothing", REVOKED_WITHIN, || !thief("root@beta"));
    // `warren ssh` gets another, as soon as her own device hears of it.
    sshd.enters_soon("alpha", "root@beta");
    sshd.comes_back("gamma", "alpha");
    wait_for("a host that was away hears of it", REVOKED_WITHIN, || !thief("root@gamma"));
    assert!(sshd.enters("alpha", "root@gamma"), "by the new key: {}", sshd.said());
}

#[test]
fn a_rotation_for_hosts_with_one_of_three_away_goes_through_all_phases_without_a_question() {
    let sshd = Sshd::start_among(
        ["alpha", "beta", "gamma", "delta"],
        ["beta", "gamma", "delta"].map(|host| (host, "+0m")),
    );
    sshd.log_in("alpha");
    sshd.warren("alpha", &["ssh", "login", "--include"]).ok();
    let people = KnownBy::new(&sshd);
    let enters = |why: &str| people.enter_all(&sshd, why);
    let phase = || sshd.authority("host")["phase"].clone();
    let first = sshd.authority("host")["keys"][0]["public_key"].clone();
    people.learn(&sshd);
    enters("at first");
    let is_blocked = |why: &str| {
        let blocked = sshd.step("advance", "host");
        assert!(blocked.code == 3 && blocked.err.contains(why), "{}", blocked.tell());
    };
    // Takes the step once nobody is missing; everybody gets in meanwhile.
    let settles = |why: &str| {
        wait_for(why, CERTIFIED_WITHIN, || {
            enters(why);
            sshd.authority("host")["missing"] == serde_json::json!([])
        });
        sshd.step("advance", "host").ok();
    };

    sshd.cut_off("delta");
    sshd.step("rotate", "host").ok();
    people.learn(&sshd);
    is_blocked("delta does not trust the next key");
    enters("both are trusted, and delta has heard of one");
    sshd.step("rollback", "host").ok();
    settles("undone before the first step");
    assert_eq!(phase(), "standby");

    sshd.mend("delta");
    sshd.step("rotate", "host").ok();
    people.learn(&sshd);
    sshd.advance("host");
    enters("people first");
    sshd.step("rollback", "host").ok();
    settles("undone after the first step");

    sshd.step("rotate", "host").ok();
    people.learn(&sshd);
    sshd.advance("host");
    sshd.cut_off("delta");
    sshd.step("advance", "host").ok();
    wait_for("delta alone is waited for", CERTIFIED_WITHIN, || {
        enters("by certificates of either key");
        let missing = sshd.authority("host")["missing"].to_string();
        missing.contains("delta still shows") && !missing.contains("gamma") && !missing.contains("beta")
    });
    is_blocked("delta still shows a certificate of the other key");
    sshd.step("rollback", "host").ok();
    settles("undone before the last step, without delta");
    assert_eq!(sshd.authority("host")["keys"][0]["public_key"], first, "the first key signs on");

    sshd.step("rotate", "host").ok();
    people.learn(&sshd);
    is_blocked("delta does not trust the next key");
    sshd.mend("delta");
    sshd.advance("host");
    sshd.advance("host");
    settles("to the end");
    let keys = sshd.authority("host")["keys"].as_array().expect("keys").clone();
    assert!(keys.len() == 1 && keys[0]["public_key"] != first, "{keys:?}");
    enters("by the next key alone");
}
