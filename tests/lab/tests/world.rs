//! The lab itself: its internet behaves as one, and it leaves nothing behind.
//!
//! ```text
//!   alpha ── r-alpha ─┐
//!   b, c  ── r-x     ─┴─ inet ── server (nothing runs there)
//! ```

use lab::World;

#[test]
fn routers_let_out_and_do_not_let_in() {
    let world = World::new(&["alpha", "b@x", "c@x"]);
    let ping = |from: &str, to: &str| world.on(from).succeeds(&["ping", "-q", "-c1", "-W1", to]);
    assert!(ping("alpha", "203.0.113.1") && ping("c", "203.0.113.1"), "devices reach the server");
    assert!(ping("b", "192.168.1.3"), "neighbours reach each other");
    assert!(!ping("server", "192.168.1.2"), "nobody reaches a device from outside");
    assert!(!ping("alpha", "203.0.113.20"), "nor another router");
}

#[test]
fn nodes_have_places_of_their_own() {
    let world = World::new(&["alpha"]);
    world.on("alpha").ok(&[
        "sh",
        "-c",
        "echo mine >/run/mark; echo 'nameserver 192.0.2.1' >/etc/resolv.conf",
    ]);
    assert_eq!(world.on("alpha").ok(&["cat", "/run/mark"]), "mine\n");
    assert!(!world.on("server").succeeds(&["cat", "/run/mark"]));
    assert_eq!(world.on("alpha").ok(&["hostname"]), "alpha\n");
    assert!(!world.on("alpha").succeeds(&["touch", "/etc/mark"]), "this machine's /etc is out of reach");
    let outside = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert!(!outside.contains("192.0.2.1\n"), "and so is its resolver");
}

#[test]
fn a_story_that_fails_leaves_nothing_behind() {
    let (mut folder, mut prefix) = (std::path::PathBuf::new(), String::new());
    let mark = format!("/dev/shm/warren-mark-{}", std::process::id());
    let story = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let world = World::new(&["alpha"]);
        folder = world.file("alpha", "run");
        prefix = format!("{}-", world.prefix());
        assert!(namespaces(&prefix) > 0);
        world.plain("forever", "alpha", &["sleep", "1000"]);
        world.on("alpha").ok(&["touch", &mark]);
        panic!("this story fails on purpose");
    }));
    assert!(story.is_err());
    assert!(!folder.exists());
    assert!(!std::path::Path::new(&mark).exists(), "shared memory is left");
    assert_eq!(namespaces(&prefix), 0, "namespaces are left");
}

fn namespaces(prefix: &str) -> usize {
    let list =
        std::process::Command::new("ip").args(["netns", "list"]).output().expect("ip is installed").stdout;
    String::from_utf8_lossy(&list).lines().filter(|line| line.starts_with(prefix)).count()
}

#[test]
fn a_worry_that_was_not_announced_fails_the_story() {
    let worried = |announced: &str| {
        std::panic::catch_unwind(|| {
            let world = World::new(&["alpha"]);
            world.announce("agent", announced);
            let line = r#"echo '{"level":"WARN","message":"disk on fire"}'"#;
            let process = world.plain("agent-alpha", "alpha", &["sh", "-c", line]);
            lab::wait_for("the line", lab::SOON, || process.ended().is_some());
        })
    };
    assert!(worried("disk on fire").is_ok());
    assert!(worried("something else").is_err());
}
