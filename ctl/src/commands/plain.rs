//! `warren device add-plain`: a key pair made here, and a configuration for a WireGuard client that has no agent.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use data_encoding::BASE64;
use model::api::admin::{NewPlainPeer, PlainPeer};
use model::{Label, PrivateKey};
use qrcode::QrCode;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::admin::Admin;
use crate::failure::Failure;
use crate::output::Output;

/// Whoever holds the file is the device.
const FILE_MODE: u32 = 0o600;

/// What was asked for.
pub(super) struct Asked<'a> {
    pub(super) name: &'a Label,
    pub(super) qr: bool,
    pub(super) out: Option<&'a Path>,
    pub(super) tags: &'a [Label],
}

/// For scripts.
#[derive(Serialize)]
struct Added<'a> {
    #[serde(flatten)]
    peer: &'a PlainPeer,
    /// For `wg-quick`, with the private key; absent where it is in a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<&'a str>,
}

pub(super) async fn add(admin: &Admin, asked: &Asked<'_>, output: &Output) -> Result<(), Failure> {
    if output.quiet() && asked.out.is_none() {
        return Err(Failure::usage("the private key would be lost", "add --out FILE, or leave -q out"));
    }
    // Before the server knows the peer: a file that cannot be written costs nothing then.
    let file = asked.out.map(|path| create(path).map_err(|error| unwritten(path, &error))).transpose()?;
    let key = new_key()?;
    let (name, tags) = (asked.name.clone(), asked.tags.to_vec());
    let wish = NewPlainPeer { name, wireguard_key: key.public(), tags };
    let added: Result<PlainPeer, Failure> = admin.post(&admin.of_tenant("/api/v1/devices"), &wish).await;
    let peer = match (added, asked.out) {
        (Ok(peer), _) => peer,
        (Err(failure), out) => {
            // Made above and empty. What stays is empty, and the failure is what matters.
            let _ = out.map(std::fs::remove_file);
            return Err(failure);
        }
    };
    let config = config(&peer, &key);
    if let (Some(mut file), Some(path)) = (file, asked.out) {
        let written = file.write_all(config.as_bytes()).and_then(|()| file.sync_all());
        written.map_err(|error| lost(path, &error, &peer))?;
    }
    show(&peer, &config, asked, output)
}

fn show(peer: &PlainPeer, config: &str, asked: &Asked<'_>, output: &Output) -> Result<(), Failure> {
    if output.json() {
        output.object(&Added { peer, config: asked.out.is_none().then_some(config) });
        return Ok(());
    }
    if output.quiet() {
        output.line(&peer.device.id.to_string());
        return Ok(());
    }
    if asked.qr {
        let code = QrCode::new(config).map_err(|e| Failure::bug(format!("no QR code: {e}")))?;
        super::draw(&code, output);
    }
    match asked.out {
        Some(path) => {
            output.say(format!("the configuration of {} is in {}", peer.device.name, path.display()));
        }
        None if asked.qr => output.say("scan it now: it is shown this once"),
        None => config.lines().for_each(|line| output.line(line)),
    }
    Ok(())
}

fn new_key() -> Result<PrivateKey, Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| Failure::bug(format!("the kernel has no random bytes: {e}")))?;
    // As `wg genkey` does it (RFC 7748, section 5): some programs look.
    bytes[0] &= 248;
    bytes[31] = bytes[31] & 127 | 64;
    Ok(PrivateKey::from_bytes(bytes))
}

/// As wg-quick(8) and WireGuard's apps read it.
fn config(peer: &PlainPeer, key: &PrivateKey) -> Zeroizing<String> {
    fn list<T: ToString>(items: &[T]) -> String {
        items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
    let key = Zeroizing::new(BASE64.encode(key.expose().as_slice()));
    let PlainPeer { device, hub_key, endpoint, allowed, dns, zone, mtu, keepalive_seconds } = peer;
    let (v4, v6, dns, allowed) = (device.address_v4, device.address_v6, list(dns), list(allowed));
    Zeroizing::new(format!(
        "# {fqdn}\n\
         [Interface]\n\
         PrivateKey = {key}\n\
         Address = {v4}/32, {v6}/128\n\
         DNS = {dns}, {zone}\n\
         MTU = {mtu}\n\
         \n\
         [Peer]\n\
         PublicKey = {hub_key}\n\
         AllowedIPs = {allowed}\n\
         Endpoint = {endpoint}\n\
         PersistentKeepalive = {keepalive_seconds}\n",
        key = *key,
        fqdn = device.fqdn,
    ))
}

fn create(path: &Path) -> std::io::Result<File> {
    File::options().write(true).create_new(true).mode(FILE_MODE).open(path)
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("{} cannot be made: {error}", path.display()), "name a file that is not there yet")
}

fn lost(path: &Path, error: &std::io::Error, peer: &PlainPeer) -> Failure {
    let detail = format!("{} cannot be written, and the key is lost: {error}", path.display());
    Failure::usage(detail, format!("`warren device revoke {}`, then add it again", peer.device.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_what_wg_quick_reads() {
        let key = PrivateKey::from_bytes([7; 32]);
        let json = serde_json::json!({
            "id": model::DeviceId::from_bytes([7; 16]), "name": "phone", "tenant": "home", "kind": "plain",
            "fqdn": "phone.home.internal", "standing": "active", "address_v4": "100.64.0.9",
            "address_v6": "fd00::9", "wireguard_key": key.public(), "os": "", "tags": [],
            "enrolled_at": "2026-11-22T10:00:00Z", "online": false, "settled": false,
            "hub_key": model::PublicKey::from_bytes([9; 32]), "endpoint": "[2001:db8::1]:51820",
            "allowed": ["100.64.0.0/16", "fd00::/64"], "dns": ["100.64.0.1", "fd00::1"],
            "zone": "home.internal", "mtu": 1420, "keepalive_seconds": 25,
        });
        let peer: PlainPeer = serde_json::from_value(json).expect("a peer");
        let text = config(&peer, &key);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "# phone.home.internal",
                "[Interface]",
                "PrivateKey = BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=",
                "Address = 100.64.0.9/32, fd00::9/128",
                "DNS = 100.64.0.1, fd00::1, home.internal",
                "MTU = 1420",
                "",
                "[Peer]",
                "PublicKey = CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=",
                "AllowedIPs = 100.64.0.0/16, fd00::/64",
                "Endpoint = [2001:db8::1]:51820",
                "PersistentKeepalive = 25",
            ]
        );
        let scripts = serde_json::to_value(Added { peer: &peer, config: None }).expect("JSON");
        assert_eq!((&scripts["name"], scripts.get("config")), (&"phone".into(), None));
    }

    #[test]
    fn the_file_is_its_owners_and_new() {
        use std::os::unix::fs::PermissionsExt as _;
        let path = std::env::temp_dir().join(format!("warren-plain-{}", std::process::id()));
        drop(create(&path).expect("made"));
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        let again = create(&path);
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(mode & 0o777, FILE_MODE);
        assert!(again.is_err(), "what is there is not written over");
    }
}
