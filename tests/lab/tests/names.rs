//! Who is answered by Magic DNS and who is not, and what resolvers of others send, as the wire has it.
//!
//! ```text
//!   alpha ── r-alpha ─┐                    a stranger sits in r-alpha, beside alpha
//!   beta  ── r-beta  ─┴─ inet ── server    and another in inet, beside the server
//! ```

use lab::{Mesh, Node, SOON, TENANT_ZONE, until};

const HUB: &str = "100.64.0.1";

/// Sends datagrams from one socket, at once, and prints as many answers in hexadecimal.
const DATAGRAMS: &str = r#"
exec 3<>"/dev/udp/$1/53" || exit 1
shift
for query; do printf "$query" >&3; done
for query; do dd bs=2048 count=1 status=none <&3 | od -An -v -tx1 | tr -d ' \n'; echo; done
"#;

/// Sends queries over one connection in one write, and prints as many answers in hexadecimal.
const STREAM: &str = r#"
exec 3<>"/dev/tcp/$1/53" || exit 1
printf "$2" >&3
for ((number = 0; number < $3; number++)); do
    length=$(dd bs=2 count=1 iflag=fullblock status=none <&3 | od -An -v -tu1 | awk '{ print $1 * 256 + $2 }')
    dd bs="$length" count=1 iflag=fullblock status=none <&3 | od -An -v -tx1 | tr -d ' \n'
    echo
done
"#;

const A: u8 = 1;
const AAAA: u8 = 28;

/// A query as the C library of Alpine sends it: no EDNS.
fn query(id: u8, name: &str, kind: u8) -> Vec<u8> {
    let mut query = vec![id, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).expect("a short label"));
        query.extend(label.bytes());
    }
    query.extend([0, 0, kind, 0, 1]);
    // Bash would send what is before the end of a line by itself.
    assert!(!query.contains(&b'\n'), "choose another name than {name}");
    query
}

/// As `printf` takes it.
fn escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

/// What the header of an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Said {
    id: u8,
    code: u8,
    answers: u8,
    authorities: u8,
}

fn said(lines: &str) -> Vec<Said> {
    let said = |line: &str| {
        let byte = |at: usize| u8::from_str_radix(&line[2 * at..2 * at + 2], 16).expect("od prints bytes");
        Said { id: byte(0), code: byte(3) & 0xf, answers: byte(7), authorities: byte(9) }
    };
    let mut all: Vec<Said> = lines.lines().map(said).collect();
    all.sort_unstable();
    all
}

/// The addresses of a node that others can reach.
fn addresses(node: &Node) -> Vec<String> {
    let list = node.ok(&["ip", "-o", "address", "show", "scope", "global"]);
    let address = |line: &str| line.split_whitespace().nth(3)?.split('/').next().map(str::to_owned);
    list.lines().filter_map(address).collect()
}

/// Asks from outside, which is refused, or not heard at all.
fn stranger_asks(stranger: &Node, flags: &[&str], address: &str, question: [&str; 2], is_heard: bool) {
    let at = format!("@{address}");
    let tries = if is_heard { "+tries=5" } else { "+tries=1" };
    let dig = ["dig", "+noall", "+comments", "+answer", "+time=1", tries, at.as_str()];
    let done = stranger.run(&[&dig[..], flags, &question].concat());
    let is_refused = done.out.contains("status: REFUSED") && done.out.contains("ANSWER: 0");
    assert!(if is_heard { is_refused } else { done.code == 9 }, "heard: {is_heard}: {}", done.tell());
}

#[test]
fn strangers_are_answered_on_no_address_by_no_transport() {
    let mesh = Mesh::new(&["alpha", "beta"]);
    mesh.enrol(["alpha", "beta"]);
    let (name, member) = (format!("beta.{TENANT_ZONE}"), mesh.device_field("beta", "address_v4"));
    let sides =
        [("server", "wan", "inet", "br0", "203.0.113"), ("alpha", "eth0", "r-alpha", "lan", "192.168.1")];
    for (number, (node, door, beside, bridge, net)) in sides.into_iter().enumerate() {
        let (inside, stranger) = (mesh.on(node), mesh.beside(beside));
        let outside = |address: &String| !address.starts_with(net);
        let both = until(SOON, || {
            let found: Vec<String> = addresses(&inside).into_iter().filter(outside).collect();
            (found.len() == 2).then_some(found)
        });
        let (mesh_addresses, _) = both.unwrap_or_else(|| panic!("both families: {:?}", addresses(&inside)));
        let here = if node == "server" { format!("{net}.1") } else { format!("{net}.2") };
        // Outside there is IPv6 too, and the stranger knows the way to the addresses inside.
        inside.ok(&["ip", "address", "add", &format!("fd53:{number}::1/64"), "dev", door, "nodad"]);
        for address in [format!("{net}.99/24"), format!("fd53:{number}::99/64")] {
            stranger.ok(&["ip", "address", "add", &address, "dev", bridge, "nodad"]);
        }
        for address in &mesh_addresses {
            let via = if address.contains(':') { format!("fd53:{number}::1") } else { here.clone() };
            stranger.ok(&["ip", "route", "replace", address, "via", &via]);
        }

        let all = addresses(&inside);
        assert_eq!(all.len(), 4, "{all:?}");
        for address in &all {
            let is_of_mesh = mesh_addresses.contains(address);
            for flags in [&[][..], &["+tcp"]] {
                for question in [[name.as_str(), "A"], [".", "NS"]] {
                    // The hub's firewall keeps its mesh addresses for the mesh.
                    let is_heard = is_of_mesh && node != "server";
                    stranger_asks(&stranger, flags, address, question, is_heard);
                }
            }
            let beta = mesh.on("beta");
            if is_of_mesh {
                assert_eq!(beta.dig(Some(address), &name, "A"), member, "beta asks {node} at {address}");
            } else {
                let once = ["dig", "+short", "+time=1", "+tries=1", &format!("@{address}"), &name];
                assert_ne!(beta.run(&once).out.trim(), member, "beta asks {node} at {address}");
            }
        }

        // Who takes a member's address without its key hears nothing: the answer goes to the member.
        stranger.ok(&["ip", "address", "add", &format!("{member}/32"), "dev", bridge]);
        let bound = ["-b", member.as_str()];
        stranger_asks(&stranger, &bound, &mesh_addresses[0], [&name, "A"], false);
    }
}

#[test]
fn both_families_asked_for_at_once_get_both_answers() {
    let mesh = Mesh::new(&["alpha"]);
    mesh.enrol(["alpha"]);
    mesh.on("server").ok(&["warren", "dns", "add", "printer", "A", "192.0.2.7"]);
    let name = format!("printer.{TENANT_ZONE}");
    let missing = format!("nobody.{TENANT_ZONE}");
    let own = mesh.device_field("alpha", "address_v4");
    let alpha = mesh.on("alpha");
    for server in [HUB, own.as_str()] {
        alpha.wait("the printer is known", SOON, &["dig", "+short", &format!("@{server}"), &name], |done| {
            done.out.trim() == "192.0.2.7"
        });
        let queries =
            [query(1, &name, A), query(2, &name, AAAA), query(3, &missing, A), query(4, &missing, AAAA)];
        let queries = queries.map(|query| escaped(&query));
        let both = |first: usize| {
            let ask = [
                "timeout",
                "5",
                "bash",
                "-c",
                DATAGRAMS,
                "ask",
                server,
                &queries[first],
                &queries[first + 1],
            ];
            said(&alpha.ok(&ask))
        };
        // No data is not the same as no name: whoever hears the one believes the other family's answer.
        let there = [
            Said { id: 1, code: 0, answers: 1, authorities: 0 },
            Said { id: 2, code: 0, answers: 0, authorities: 1 },
        ];
        assert_eq!(both(0), there, "at {server}");
        let not = |id| Said { id, code: 3, answers: 0, authorities: 1 };
        assert_eq!(both(2), [not(3), not(4)], "at {server}");
    }
}

#[test]
fn the_letters_of_a_question_come_back_as_they_went() {
    let mesh = Mesh::new(&["alpha"]);
    mesh.enrol(["alpha"]);
    mesh.on("alpha").reaches(HUB, SOON);
    let own = mesh.device_field("alpha", "address_v4");
    let own_v6 = mesh.device_field("alpha", "address_v6");
    for server in [HUB, own.as_str(), own_v6.as_str()] {
        for flags in ["+notcp", "+tcp"] {
            let at = format!("@{server}");
            let ask = ["dig", &at, flags, "+noall", "+question", "+answer", "aLPhA.hOMe.InTernAL", "A"];
            let told = mesh.on("alpha").ok(&ask);
            assert_eq!(told.matches("aLPhA.hOMe.InTernAL.").count(), 2, "{told}");
            assert!(told.contains(&own), "{told}");
        }
    }
}

#[test]
fn queries_in_one_piece_over_one_connection_are_all_answered() {
    let mesh = Mesh::new(&["alpha"]);
    mesh.enrol(["alpha"]);
    let own = mesh.device_field("alpha", "address_v4");
    let names = [format!("alpha.{TENANT_ZONE}"), format!("nobody.{TENANT_ZONE}"), TENANT_ZONE.into()];
    let expect = [(0, 1, 0), (3, 0, 1), (0, 0, 1)];
    let ids = (0x20..0x50).collect::<Vec<u8>>();
    let queries = ids.iter().map(|id| query(*id, &names[usize::from(*id) % 3], A));
    let framed = queries.map(|query| {
        let length = u8::try_from(query.len()).expect("a short query");
        escaped(&[&[0, length], &query[..]].concat())
    });
    let framed: String = framed.collect();
    let count = ids.len().to_string();
    for server in [HUB, own.as_str()] {
        let ask = ["timeout", "10", "bash", "-c", STREAM, "ask", server, &framed, &count];
        let answers = said(&mesh.on("alpha").ok(&ask));
        let right = ids.iter().map(|&id| {
            let (code, answers, authorities) = expect[usize::from(id) % 3];
            Said { id, code, answers, authorities }
        });
        assert_eq!(answers, right.collect::<Vec<_>>(), "at {server}");
    }
}
