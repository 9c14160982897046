//! `warren device`.

use model::api::admin::{ChangedDevice, Device, DeviceChange, Record};
use model::api::commands::{DeviceCommand, NewCommand};
use model::limits::NAME_TTL_SECONDS;
use model::{Name, Standing};

use super::{confirm, plain};
use crate::admin::Admin;
use crate::args::{Device as Command, Expiry};
use crate::failure::{Exit, Failure};
use crate::output::{Output, Row};

impl Row for Device {
    const HEADS: &'static [&'static str] =
        &["NAME", "KIND", "ADDRESS", "STANDING", "ONLINE", "SETTLED", "LAST SEEN", "OS"];

    fn cells(&self) -> Vec<String> {
        // Whether a plain peer is there, nobody can say.
        let yes_no = |b: bool| match self.kind.as_str() {
            "plain" => "-".to_owned(),
            _ => if b { "yes" } else { "no" }.to_owned(),
        };
        vec![
            self.name.to_string(),
            self.kind.clone(),
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

impl Row for DeviceCommand {
    const HEADS: &'static [&'static str] = &["ID", "COMMAND", "STATE", "WANTED", "BY", "DETAIL"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.kind.to_string(),
            self.state.clone(),
            self.created_at.to_string(),
            self.created_by.clone(),
            self.detail.clone(),
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
        Command::AddPlain { name, qr, out, tags } => {
            let asked = plain::Asked { name, qr: *qr, out: out.as_deref(), tags };
            plain::add(admin, &asked, output).await?;
        }
        Command::Approve { device } => {
            let approved: ChangedDevice = admin.post(&path(device, "/approve"), &()).await?;
            done(admin, &approved, &format!("{} is approved", approved.device.name), output);
        }
        Command::Rename { device, name } => {
            let change = DeviceChange { name: Some(name.clone()), ..DeviceChange::default() };
            let changed: ChangedDevice = admin.patch(&path(device, ""), &change).await?;
            done(admin, &changed, &format!("{device} is now {}", changed.device.name), output);
        }
        Command::Tag { device, tags } => {
            let change = DeviceChange { tags: Some(tags.clone()), ..DeviceChange::default() };
            let changed: ChangedDevice = admin.patch(&path(device, ""), &change).await?;
            let line = format!("{} has {}", changed.device.name, counted(changed.device.tags.len(), "tag"));
            done(admin, &changed, &line, output);
        }
        Command::Label { device, labels } => {
            let labels = Some(labels.iter().cloned().collect());
            let change = DeviceChange { labels, ..DeviceChange::default() };
            let changed: ChangedDevice = admin.patch(&path(device, ""), &change).await?;
            let line =
                format!("{} has {}", changed.device.name, counted(changed.device.labels.len(), "label"));
            done(admin, &changed, &line, output);
        }
        Command::Set { device, expires } => {
            let (after, never) = match expires {
                Expiry::After(after) => (Some(after.as_secs()), false),
                Expiry::Never => (None, true),
            };
            let change = DeviceChange {
                expires_after_seconds: after,
                never_expires: never,
                ..DeviceChange::default()
            };
            let changed: ChangedDevice = admin.patch(&path(device, ""), &change).await?;
            let end = changed.device.expires_at;
            let end = end.map_or_else(|| "never expires".into(), |at| format!("expires at {at}"));
            done(admin, &changed, &format!("{} {end}", changed.device.name), output);
        }
        Command::Command { device, kind: Some(kind), ttl, .. } => {
            let wish = NewCommand { kind: *kind, ttl_seconds: Some(ttl.as_secs()) };
            told(admin, &admin.post(&path(device, "/commands"), &wish).await?, output);
        }
        Command::Command { device, kind: None, .. } => {
            let commands = admin.list::<DeviceCommand>(&path(device, "/commands")).await?;
            output.list(commands, "it was told nothing");
        }
        Command::Revoke { device, yes } => {
            confirm(&format!("Revoke {device} for good?"), *yes)?;
            let revoked: ChangedDevice = admin.post(&path(device, "/revoke"), &()).await?;
            done(admin, &revoked, &format!("{} is revoked", revoked.device.name), output);
        }
    }
    Ok(Exit::Done)
}

fn told(admin: &Admin, queued: &DeviceCommand, output: &Output) {
    if output.json() {
        output.object(queued);
    } else if output.quiet() {
        output.line(&queued.id());
    }
    let list = admin.command(&format!("device command {} --list", queued.device));
    output.say(format!("{} is queued for {}; what comes of it: `{list}`", queued.kind, queued.device));
}

fn done(admin: &Admin, changed: &ChangedDevice, line: &str, output: &Output) {
    let device = &changed.device;
    if output.json() {
        output.object(changed);
    } else if output.quiet() {
        output.line(&device.id());
    } else {
        output.say(line);
    }
    let leads_to = (device.standing != Standing::Revoked.as_str()).then_some(&device.fqdn);
    for record in &changed.dangling {
        let mends: Vec<String> = mends(record, leads_to).iter().map(|words| admin.command(words)).collect();
        let (name, kind, value) = (&record.name, &record.kind, &record.value);
        output.warning(&format!(
            "{name} {kind} {value} leads to a name that no device has now: {}",
            mends.join(" && ")
        ));
    }
}

/// What takes a record away that leads to a name of old, and puts it back with the name of now, where there is one.
fn mends(record: &Record, leads_to: Option<&Name>) -> Vec<String> {
    let (name, kind) = (quoted(&record.name), &record.kind);
    let mut commands = vec![format!("dns remove {name} {kind} {}", quoted(&record.value))];
    if let Some(target) = leads_to {
        // The target is the last word of a value, or all of it.
        let before =
            record.value.rsplit_once(' ').map(|(before, _)| format!("{before} ")).unwrap_or_default();
        let ttl = record.ttl.filter(|ttl| *ttl != NAME_TTL_SECONDS);
        let ttl = ttl.map(|ttl| format!(" --ttl {ttl}")).unwrap_or_default();
        commands.push(format!("dns add {name} {kind} {}{ttl}", quoted(&format!("{before}{target}"))));
    }
    commands
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if word.chars().all(is_plain) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

fn show(device: &Device, output: &Output) {
    if output.json() {
        return output.object(device);
    }
    if output.quiet() {
        return output.line(&device.id());
    }
    let tags: Vec<&str> = device.tags.iter().map(model::Label::as_str).collect();
    let labels: Vec<String> = device.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut facts = vec![
        ("device", device.name.to_string()),
        ("id", device.id.to_string()),
        ("kind", device.kind.clone()),
        ("name", device.fqdn.to_string()),
        ("standing", device.standing.clone()),
        ("addresses", format!("{} and {}", device.address_v4, device.address_v6)),
        ("WireGuard key", device.wireguard_key.to_string()),
        ("os", device.os.clone()),
        ("tags", tags.join(", ")),
        ("labels", labels.join(", ")),
        ("enrolled", device.enrolled_at.to_string()),
        ("expires", device.expires_at.map_or_else(|| "never".into(), |at| at.to_string())),
        ("online", if device.online { "yes" } else { "no" }.into()),
        ("last seen", device.last_seen_at.map_or_else(|| "never".into(), |at| at.to_string())),
        ("holds", device.holds.clone().unwrap_or_else(|| "nothing yet".into())),
        ("settled", if device.settled { "yes" } else { "no" }.into()),
    ];
    let silent = |idle| humantime::format_duration(std::time::Duration::from_secs(idle)).to_string();
    facts.extend(
        device.idle_seconds.map(|idle| ("ephemeral", format!("gone when silent for {}", silent(idle)))),
    );
    facts.extend(machine(device));
    facts.extend(device.problems.iter().map(|problem| ("problem", problem.clone())));
    output.facts(&facts);
}

/// What the device says of itself and its machine.
fn machine(device: &Device) -> Vec<(&'static str, String)> {
    let mut said = Vec::new();
    said.extend(device.agent.clone().map(|agent| ("agent", agent)));
    said.extend(device.calls_from.map(|address| ("calls from", address.to_string())));
    let Some(facts) = &device.facts else { return said };
    // Days and hours, for people.
    let hours = std::time::Duration::from_secs(facts.uptime_seconds / 60 * 60);
    let load = (facts.load_hundredths / 100, facts.load_hundredths % 100);
    said.extend([
        ("runs", facts.os.to_string()),
        ("kernel", facts.kernel.to_string()),
        ("up for", humantime::format_duration(hours).to_string()),
        ("load", format!("{}.{:02}", load.0, load.1)),
        (
            "memory",
            format!("{} free of {}", mebibytes(facts.memory_available_bytes), mebibytes(facts.memory_bytes)),
        ),
    ]);
    said
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// A path segment of what a person typed (RFC 3986, section 2.1).
fn escaped(segment: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    segment.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// So many of something.
fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!([0, 1, 2].map(|count| counted(count, "tag")), ["0 tags", "1 tag", "2 tags"]);
    }

    #[test]
    fn a_record_that_leads_to_a_name_of_old_comes_with_what_mends_it() {
        let check =
            |name: &str, kind: &str, value: &str, ttl: u32, leads_to: Option<&str>, expect: &[&str]| {
                let record =
                    Record { name: name.into(), kind: kind.into(), value: value.into(), ttl: Some(ttl) };
                let leads_to = leads_to.map(|name| name.parse().expect("a name"));
                assert_eq!(mends(&record, leads_to.as_ref()), expect);
            };
        let desk = Some("desk.home.internal");
        check(
            "www.home.internal",
            "CNAME",
            "laptop.home.internal",
            30,
            desk,
            &[
                "dns remove www.home.internal CNAME laptop.home.internal",
                "dns add www.home.internal CNAME desk.home.internal",
            ],
        );
        check(
            "*.laptop.home.internal",
            "SRV",
            "10 5 8080 laptop.home.internal",
            60,
            desk,
            &[
                "dns remove '*.laptop.home.internal' SRV '10 5 8080 laptop.home.internal'",
                "dns add '*.laptop.home.internal' SRV '10 5 8080 desk.home.internal' --ttl 60",
            ],
        );
        assert_eq!(quoted("a'; reboot"), r"'a'\''; reboot'");
        let gone = ["dns remove www.home.internal CNAME laptop.home.internal"];
        check("www.home.internal", "CNAME", "laptop.home.internal", 60, None, &gone);
    }

    #[test]
    fn what_a_machine_says_of_itself_is_for_people() {
        let text = format!(
            r#"{{"id": "{id}", "name": "desk", "tenant": "home", "fqdn": "desk.home.internal",
                "standing": "active", "address_v4": "100.64.0.2", "address_v6": "fd00::2",
                "wireguard_key": "{key}", "os": "linux", "tags": [], "enrolled_at": "2026-11-22T10:00:00Z",
                "online": true, "settled": true, "agent": "warren-agent 0.1.0", "facts": {{"os": "Debian",
                "kernel": "6.1.0", "uptime_seconds": 93784, "load_hundredths": 105, "memory_bytes": 8589934592,
                "memory_available_bytes": 1048576}}}}"#,
            id = model::DeviceId::from_bytes([7; 16]),
            key = model::PublicKey::from_bytes([9; 32]),
        );
        let device = serde_json::from_str(&text).expect("a device");
        let lines: Vec<String> =
            machine(&device).iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let expect = [
            "agent: warren-agent 0.1.0",
            "runs: Debian",
            "kernel: 6.1.0",
            "up for: 1day 2h 3m",
            "load: 1.05",
            "memory: 1 MiB free of 8192 MiB",
        ];
        assert_eq!(lines, expect);
    }

    #[test]
    fn scripts_find_the_records_beside_the_device() {
        let read = |dangling: &str| {
            let text = format!(
                r#"{{"id": "{id}", "name": "desk", "tenant": "home", "fqdn": "desk.home.internal",
                    "standing": "active", "address_v4": "100.64.0.2", "address_v6": "fd00::2",
                    "wireguard_key": "{key}", "os": "linux", "tags": [], "enrolled_at": "2026-11-22T10:00:00Z",
                    "online": true, "settled": true{dangling}}}"#,
                id = model::DeviceId::from_bytes([7; 16]),
                key = model::PublicKey::from_bytes([9; 32]),
            );
            serde_json::from_str::<ChangedDevice>(&text).expect("a device")
        };
        assert_eq!(read("").dangling, []);
        let record =
            r#"{"name": "www.home.internal", "type": "CNAME", "value": "laptop.home.internal", "ttl": 30}"#;
        let changed = read(&format!(r#", "dangling": [{record}]"#));
        assert_eq!(changed.dangling[0].value, "laptop.home.internal");
        let value = serde_json::to_value(&changed).expect("JSON");
        assert_eq!((&value["name"], &value["dangling"][0]["ttl"]), (&"desk".into(), &30.into()));
    }
}
