//! Who is let in nowhere, because its tenant is closed.

use model::{Code, Refusal, TenantId};

use super::App;

/// Refuses whoever is of a tenant alone that is closed or deleted.
pub async fn check_open(app: &App, tenant: Option<TenantId>) -> Result<(), Refusal> {
    let Some(tenant) = tenant else { return Ok(()) };
    let closed = app.desk.read(move |control| {
        let closed = control.directory(tenant).filter(|directory| directory.is_closed())?;
        Some(format!("tenant {} is closed", closed.tenant().name))
    });
    match closed.await? {
        Some(detail) => Err(Refusal::new(Code::TenantClosed, detail)),
        None => Ok(()),
    }
}
