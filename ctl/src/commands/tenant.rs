//! `warren tenant`.

use model::api::admin::{NewTenant, Tenant};

use super::confirm;
use crate::admin::Admin;
use crate::args::Tenant as Command;
use crate::failure::{Exit, Failure};
use crate::output::{Output, Row};

impl Row for Tenant {
    const HEADS: &'static [&'static str] = &["NAME", "ZONE", "IPV4", "IPV6", "DEVICES", "VERSION"];

    fn cells(&self) -> Vec<String> {
        let Self { name, zone, block_v4, block_v6, devices, version, .. } = self;
        vec![
            name.to_string(),
            zone.to_string(),
            block_v4.to_string(),
            block_v6.to_string(),
            devices.to_string(),
            version.clone(),
        ]
    }

    fn id(&self) -> String {
        self.name.to_string()
    }
}

pub(super) async fn run(admin: &Admin, command: &Command, output: &Output) -> Result<Exit, Failure> {
    match command {
        Command::Create { name, block } => {
            let wish = NewTenant { name: name.clone(), block_v4: *block };
            let tenant: Tenant = admin.post("/api/v1/tenants", &wish).await?;
            show(&tenant, output);
        }
        Command::List => output.list(
            admin.list::<Tenant>("/api/v1/tenants").await?,
            "no tenant yet: `warren tenant create NAME`",
        ),
        Command::Show { name } => show(&admin.get(&format!("/api/v1/tenants/{name}")).await?, output),
        Command::Delete { name, yes } => {
            confirm(&format!("Delete tenant {name} with its tokens and records?"), *yes)?;
            admin.delete(&format!("/api/v1/tenants/{name}")).await?;
            output.say(format!("tenant {name} is deleted"));
        }
    }
    Ok(Exit::Done)
}

fn show(tenant: &Tenant, output: &Output) {
    if output.json() {
        return output.object(tenant);
    }
    if output.quiet() {
        return output.line(&tenant.id());
    }
    output.facts(&[
        ("tenant", tenant.name.to_string()),
        ("id", tenant.id.to_string()),
        ("zone", tenant.zone.to_string()),
        ("addresses", format!("{} and {}", tenant.block_v4, tenant.block_v6)),
        ("anchor", tenant.anchor.to_string()),
        ("version", tenant.version.clone()),
        ("devices", tenant.devices.to_string()),
        ("created", tenant.created_at.to_string()),
    ]);
}
