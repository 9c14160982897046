//! `warren tenant`.

use model::api::admin::{NewTenant, Tenant, TenantChange};

use model::Label;

use super::confirm;
use crate::admin::Admin;
use crate::args::Tenant as Command;
use crate::failure::{Exit, Failure};
use crate::output::{Output, Row};

impl Row for Tenant {
    const HEADS: &'static [&'static str] =
        &["NAME", "STATE", "ZONE", "IPV4", "HUB PORT", "DEVICES", "VERSION"];

    fn cells(&self) -> Vec<String> {
        let Self { name, state, zone, block_v4, hub_port, version, .. } = self;
        vec![
            name.to_string(),
            state.clone(),
            zone.to_string(),
            block_v4.to_string(),
            hub_port.map_or_else(|| "shared".into(), |port| port.to_string()),
            used(self),
            version.clone(),
        ]
    }

    fn id(&self) -> String {
        self.name.to_string()
    }
}

pub(super) async fn run(admin: &Admin, command: &Command, output: &Output) -> Result<Exit, Failure> {
    match command {
        Command::Create { name, block, own_interface, hub_port } => {
            let (own_interface, hub_port) = (*own_interface, *hub_port);
            let wish = NewTenant { name: name.clone(), block_v4: *block, own_interface, hub_port };
            let tenant: Tenant = admin.post("/api/v1/tenants", &wish).await?;
            show(&tenant, output);
        }
        Command::List => output.list(
            admin.list::<Tenant>("/api/v1/tenants").await?,
            "no tenant yet: `warren tenant create NAME`",
        ),
        Command::Show { name } => show(&admin.get(&format!("/api/v1/tenants/{name}")).await?, output),
        Command::Set { name, quota, no_quota, own_interface, hub_port, no_own_interface } => {
            let own_interface = (*own_interface || *no_own_interface).then_some(*own_interface);
            let change =
                TenantChange { quota: *quota, no_quota: *no_quota, own_interface, hub_port: *hub_port };
            show(&admin.patch(&format!("/api/v1/tenants/{name}"), &change).await?, output);
        }
        Command::Delete { name, grace, yes } => {
            confirm(&format!("Delete tenant {name}: its devices reach nothing from now on?"), *yes)?;
            let query = grace.map(|grace| format!("?grace_seconds={}", grace.as_secs())).unwrap_or_default();
            admin.delete(&format!("/api/v1/tenants/{name}{query}")).await?;
            let left = admin.list::<Tenant>("/api/v1/tenants").await?;
            told(name, left.iter().find(|tenant| tenant.name == *name), output);
        }
        Command::Restore { name } => {
            let tenant: Tenant = admin.post(&format!("/api/v1/tenants/{name}/restore"), &()).await?;
            if output.json() {
                output.object(&tenant);
            }
            output.say(format!("tenant {name} is as it was"));
        }
    }
    Ok(Exit::Done)
}

/// What became of a tenant that was to go.
fn told(name: &Label, left: Option<&Tenant>, output: &Output) {
    match left.and_then(|tenant| Some((tenant, tenant.erase_at?))) {
        Some((tenant, _)) if output.json() => output.object(tenant),
        Some((_, at)) => output.say(format!(
            "tenant {name} is closed, and erased at {at}; until then `warren tenant restore {name}` brings it back"
        )),
        None => output.say(format!("tenant {name} is deleted")),
    }
}

fn used(tenant: &Tenant) -> String {
    tenant.quota.map_or_else(|| tenant.devices.to_string(), |quota| format!("{} of {quota}", tenant.devices))
}

fn show(tenant: &Tenant, output: &Output) {
    if output.json() {
        return output.object(tenant);
    }
    if output.quiet() {
        return output.line(&tenant.id());
    }
    let mut facts = vec![
        ("tenant", tenant.name.to_string()),
        ("id", tenant.id.to_string()),
        ("zone", tenant.zone.to_string()),
        ("addresses", format!("{} and {}", tenant.block_v4, tenant.block_v6)),
        ("anchor", tenant.anchor.to_string()),
        ("version", tenant.version.clone()),
        ("devices", used(tenant)),
        ("created", tenant.created_at.to_string()),
        ("state", tenant.state.clone()),
    ];
    facts.extend(tenant.hub_port.map(|port| ("hub port", format!("{port}, an interface of its own"))));
    facts.extend(tenant.erase_at.map(|at| ("erased", at.to_string())));
    output.facts(&facts);
}
