//! `warren device`.

use model::api::admin::{Device, DeviceChange};

use super::confirm;
use crate::admin::Admin;
use crate::args::Device as Command;
use crate::failure::{Exit, Failure};
use crate::output::{Output, Row};

impl Row for Device {
    const HEADS: &'static [&'static str] =
        &["NAME", "ADDRESS", "STANDING", "ONLINE", "SETTLED", "LAST SEEN", "OS"];

    fn cells(&self) -> Vec<String> {
        let yes_no = |b: bool| if b { "yes" } else { "no" }.to_owned();
        vec![
            self.name.to_string(),
            self.address_v4.to_string(),
            self.standing.clone(),
            yes_no(self.online),
            yes_no(self.settled),
            self.last_seen_at.map_or_else(|| "never".into(), |at| at.to_string()),
            self.os.chars().take(20).collect(),
        ]
    }

    fn id(&self) -> String {
        self.id.to_string()
    }
}

pub(super) async fn run(admin: &Admin, command: &Command, output: &Output) -> Result<Exit, Failure> {
    let path =
        |device: &str, verb: &str| admin.of_tenant(&format!("/api/v1/devices/{}{verb}", escaped(device)));
    match command {
        Command::List => {
            let devices = admin.list::<Device>(&admin.of_tenant("/api/v1/devices")).await?;
            output.list(devices, "no device yet: `warren token create`, then `warren up` on the device");
        }
        Command::Show { device } => show(&admin.get(&path(device, "")).await?, output),
        Command::Approve { device } => {
            let device: Device = admin.post(&path(device, "/approve"), &()).await?;
            done(&device, &format!("{} is approved", device.name), output);
        }
        Command::Rename { device, name } => {
            let change = DeviceChange { name: Some(name.clone()), tags: None };
            let changed: Device = admin.patch(&path(device, ""), &change).await?;
            done(&changed, &format!("{device} is now {}", changed.name), output);
        }
        Command::Tag { device, tags } => {
            let change = DeviceChange { name: None, tags: Some(tags.clone()) };
            let changed: Device = admin.patch(&path(device, ""), &change).await?;
            done(&changed, &format!("{} has {} tags", changed.name, changed.tags.len()), output);
        }
        Command::Revoke { device, yes } => {
            confirm(&format!("Revoke {device} for good?"), *yes)?;
            let revoked: Device = admin.post(&path(device, "/revoke"), &()).await?;
            done(&revoked, &format!("{} is revoked", revoked.name), output);
        }
    }
    Ok(Exit::Done)
}

fn done(device: &Device, line: &str, output: &Output) {
    if output.json() {
        output.object(device);
    } else if output.quiet() {
        output.line(&device.id());
    } else {
        output.say(line);
    }
}

fn show(device: &Device, output: &Output) {
    if output.json() || output.quiet() {
        return done(device, "", output);
    }
    let tags: Vec<&str> = device.tags.iter().map(model::Label::as_str).collect();
    let mut facts = vec![
        ("device", device.name.to_string()),
        ("id", device.id.to_string()),
        ("name", device.fqdn.to_string()),
        ("standing", device.standing.clone()),
        ("addresses", format!("{} and {}", device.address_v4, device.address_v6)),
        ("WireGuard key", device.wireguard_key.to_string()),
        ("os", device.os.clone()),
        ("tags", tags.join(", ")),
        ("enrolled", device.enrolled_at.to_string()),
        ("online", if device.online { "yes" } else { "no" }.into()),
        ("last seen", device.last_seen_at.map_or_else(|| "never".into(), |at| at.to_string())),
        ("holds", device.holds.clone().unwrap_or_else(|| "nothing yet".into())),
        ("settled", if device.settled { "yes" } else { "no" }.into()),
    ];
    facts.extend(device.problems.iter().map(|problem| ("problem", problem.clone())));
    output.facts(&facts);
}

/// A path segment of what a person typed (RFC 3986, section 2.1).
fn escaped(segment: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    segment.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
