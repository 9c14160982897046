//! Names in questions: labels of any bytes, as text and as they travel (RFC 1035, section 3.1).

use std::net::IpAddr;

use model::Name;

/// The labels of a name, leftmost first. What is no host's name has a place here too.
pub(crate) type Labels = Vec<Vec<u8>>;

pub(crate) fn of_name(name: &Name) -> Labels {
    of_text(name.as_str())
}

pub(crate) fn of_text(text: &str) -> Labels {
    text.split('.').map(|label| label.as_bytes().to_vec()).collect()
}

/// The name of an address in the reverse tree, as text without the final dot.
pub(crate) fn arpa(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let digits = format!("{:032x}", address.to_bits());
            let nibbles: Vec<String> = digits.chars().rev().map(String::from).collect();
            format!("{}.ip6.arpa", nibbles.join("."))
        }
    }
}

/// Whether a name fits the wire.
pub(crate) fn fits(labels: &Labels) -> bool {
    labels.iter().all(|label| (1..=63).contains(&label.len()))
        && labels.iter().map(|label| label.len() + 1).sum::<usize>() <= 254
}

pub(crate) fn wire(labels: &Labels) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in labels {
        bytes.push(u8::try_from(label.len()).expect("at most 63 bytes"));
        bytes.extend_from_slice(label);
    }
    bytes.push(0);
    bytes
}
