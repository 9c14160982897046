//! What a person and a script hear of a server that is not there.

use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

#[test]
fn a_person_hears_what_is_waited_for_and_a_script_does_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("apid.sock");
    // Its name stays where a server has ended.
    drop(UnixListener::bind(&socket).expect("a socket"));
    let asked = ["--tenant=home", "--json", "--quiet"].map(|flag| {
        let mut warren = Command::new(env!("CARGO_BIN_EXE_warren"));
        warren.arg(flag).arg("--apid-socket").arg(&socket).args(["server", "version"]);
        warren.env_remove("WARREN_SERVER").env_remove("WARREN_API_TOKEN");
        warren.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it runs")
    });
    let heard = asked.map(|warren| {
        let ended = warren.wait_with_output().expect("it ends");
        let said = String::from_utf8(ended.stderr).expect("text");
        assert_eq!(ended.status.code(), Some(4), "unreachable: {said}");
        assert!(said.contains("server-unreachable"), "{said}");
        said
    });
    let waiting = format!("warren: waiting for the server at {}\n", socket.display());
    assert!(heard[0].starts_with(&waiting), "{}", heard[0]);
    assert_eq!(heard.map(|said| said.matches("waiting for").count()), [1, 0, 0]);
}
