//! What a device's sshd is told of a snapshot, and what the server is told of sshd.

use engine::{Input, SshInput, SshOutput, SshState};
use model::wire::{Frame, HostCertified, Remark, SshInstalled, SshLoginsNoted};
use model::{CaKey, CaKind, HostKey, SshSerial, SshTrust, TrustedKey};

use crate::session;
use crate::world::World;

fn ca(n: u8) -> CaKey {
    CaKey::from_bytes([n; 32])
}

fn host_key() -> HostKey {
    ca(9).to_string().parse().expect("a key")
}

/// The server begins to speak of SSH: this key of each authority.
fn trust(world: &mut World, n: u8) {
    let key = |kind, n| TrustedKey { kind, key: ca(n), signs: true };
    let keys = vec![key(CaKind::User, n), key(CaKind::Host, n + 1)];
    let tenant = world.server.tenant();
    tenant.version.generation = tenant.version.generation.next();
    tenant.snapshot.ssh = Some(SshTrust { keys, ..SshTrust::default() });
    let frames = tenant.whole();
    world.push(frames);
}

fn states(world: &World) -> Vec<Option<&SshState>> {
    fn state(output: &SshOutput) -> Option<Option<&SshState>> {
        match output {
            SshOutput::State(state) => Some(state.as_deref()),
            SshOutput::Certified(_) => None,
        }
    }
    world.ssh.iter().filter_map(state).collect()
}

fn installed(world: &World) -> Vec<&SshInstalled> {
    fn said(frame: &Frame) -> Option<&SshInstalled> {
        match frame {
            Frame::SshInstalled(said) => Some(said),
            _ => None,
        }
    }
    world.server.received.iter().filter_map(said).collect()
}

#[test]
fn a_server_that_says_nothing_of_it_hears_nothing() {
    let mut world = session::device();
    assert_eq!(states(&world).last(), Some(&None));
    world.handle(Input::Ssh(SshInput::Certify(host_key())));
    world.seconds(60);
    assert!(installed(&world).is_empty() && world.server.count("CertifyHost") == 0);
}

#[test]
fn sshd_is_told_and_the_server_hears_what_was_read_back_on_each_link_once() {
    let mut world = session::device();
    trust(&mut world, 1);
    let state = states(&world).pop().flatten().expect("told");
    assert_eq!((state.name.as_str(), state.trust.keys.len()), ("laptop", 2));
    assert_eq!(installed(&world), [&SshInstalled { hosts: vec![ca(2)], ..SshInstalled::default() }]);

    let word = |n| SshInput::Installed { people: Some(vec![ca(n)]), presents: None, problem: None };
    world.handle(Input::Ssh(word(1)));
    world.handle(Input::Ssh(word(1)));
    world.seconds(60);
    let said = SshInstalled { people: Some(vec![ca(1)]), hosts: vec![ca(2)], presents: None };
    assert_eq!(installed(&world).len(), 2, "what is no news is not said");
    assert_eq!(installed(&world).pop(), Some(&said));

    world.server.received.clear();
    world.cut();
    world.seconds(60);
    assert_eq!(installed(&world), [&said], "the next link hears it, too");
    trust(&mut world, 3);
    assert_eq!(
        installed(&world).pop().map(|said| said.hosts.clone()),
        Some(vec![ca(4)]),
        "its own people first"
    );
}

#[test]
fn a_certificate_is_asked_for_until_there_is_an_answer() {
    let mut world = session::device();
    trust(&mut world, 1);
    world.handle(Input::Ssh(SshInput::Certify(host_key())));
    assert_eq!(world.server.count("CertifyHost"), 1);
    world.cut();
    world.seconds(60);
    assert_eq!(world.server.count("CertifyHost"), 2, "the answer may have been lost with the link");
    let answer = HostCertified { certificate: Some("a certificate".into()), refusal: None };
    world.push([answer.clone().into()]);
    assert_eq!(world.ssh.last(), Some(&SshOutput::Certified(answer)));
    world.cut();
    world.seconds(60);
    assert_eq!(world.server.count("CertifyHost"), 2);
}

#[test]
fn logins_are_said_until_they_are_noted_a_few_at_a_time() {
    let mut world = session::device();
    let login = |n: u64| SshInput::Login {
        serial: SshSerial::from_number(n).expect("a serial"),
        id: Remark::new("u:ada@home"),
        login: Remark::new("root"),
        from: Remark::new("100.64.0.3"),
    };
    fn said(world: &World) -> Vec<Vec<u64>> {
        let logins = world.server.received.iter().filter_map(|frame| match frame {
            Frame::SshLogins(said) => Some(said.logins.iter().map(|login| login.number).collect()),
            _ => None,
        });
        logins.collect()
    }
    world.handle(Input::Ssh(login(1)));
    assert!(said(&world).is_empty(), "a server that says nothing of SSH hears nothing");
    trust(&mut world, 1);
    assert_eq!(said(&world), [vec![1]]);
    (2..=300).for_each(|n| world.handle(Input::Ssh(login(n))));
    assert_eq!(said(&world).len(), 1, "one after the other");
    world.cut();
    world.seconds(60);
    // The oldest are dropped where too many wait.
    assert_eq!(said(&world).last(), Some(&(45..=60).collect()), "again, as nobody noted them");
    world.push([SshLoginsNoted { through: 0 }.into()]);
    assert_eq!(said(&world).last(), Some(&(45..=60).collect()), "the server could not note them");
    world.push([SshLoginsNoted { through: 60 }.into()]);
    assert_eq!(said(&world).last(), Some(&(61..=76).collect()));
    world.push([SshLoginsNoted { through: 300 }.into()]);
    let frames = said(&world).len();
    world.cut();
    world.seconds(60);
    assert_eq!(said(&world).len(), frames, "all are noted");
}

#[test]
fn what_is_wrong_with_sshd_is_told_as_any_problem() {
    let mut world = session::device();
    trust(&mut world, 1);
    let problem = Some("sshd has another CA".to_owned());
    world.handle(Input::Ssh(SshInput::Installed { people: None, presents: None, problem }));
    let problems = world.node.status().problems;
    assert!(problems.contains(&"ssh: sshd has another CA".to_owned()), "{problems:?}");
}
