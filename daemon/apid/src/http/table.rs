//! Every route of the API, with what it needs, asks and gives. A row is all that a new route needs beside its handler.

use control::limits::GRACE_MAX;
use model::Role;
use model::api::Page;
use model::api::admin::{
    ChangedDevice, CreatedToken, Device, DeviceChange, Examination, Health, NewPlainPeer, NewTenant,
    NewToken, PlainPeer, Record, ServerStatus, SupportBundle, Tenant, TenantChange, Token, Version,
};
use model::api::audit::{AuditEntry, AuditVerdict};
use model::api::backup::NewBackup;
use model::api::commands::{DeviceCommand, NewCommand};
use model::api::people::{
    ApiToken, CreatedApiToken, FactorCode, LoggedIn, Login, NewApiToken, NewUser, OfferedFactor,
    PasswordChange, RecoveryCodes, Setup, User, UserChange,
};
use model::api::ssh::{
    Advance, Authority, GivenBack, IssuedCertificate, NewCertificate, NewRevocation, Revocation,
    RevocationList, Revocations, Role as SshRole, RoleWish, Rotate, Unrevoke,
};

use super::routes::{Needs, Route, delete, get, patch, post, put};
use super::{
    api_tokens, audit, backup, commands, devices, dns, doctor, health, login, me, observe, plain,
    revocations, roles, server, setup_page, ssh, support, tenants, tokens, users,
};

/// All routes of the public listener, with what each needs; the description of them all comes beside. There is no other way to add one: a
/// test looks.
pub fn routes() -> Vec<Route> {
    [
        of_server(),
        of_logins(),
        of_users(),
        of_api_tokens(),
        of_audit(),
        of_tokens(),
        of_devices(),
        of_names(),
        of_ssh(),
        of_revocations(),
        of_no_form(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

const VIEWER: Needs = Needs::Role(Role::Viewer);
const OPERATOR: Needs = Needs::Role(Role::Operator);
const TENANT_ADMIN: Needs = Needs::Role(Role::TenantAdmin);
const EVERYWHERE: Needs = Needs::Everywhere(Role::Viewer);
const SUPER_ADMIN: Needs = Needs::Everywhere(Role::SuperAdmin);

/// The one route that may take long.
pub const BACKUP: &str = "/api/v1/backup";

fn of_server() -> Vec<Route> {
    vec![
        get("/healthz", Needs::Nothing, "healthz", "Each check by name", health::healthz)
            .gives::<Health>(200)
            .also(503),
        get("/readyz", Needs::Nothing, "readyz", "Whether requests are served", health::readyz)
            .gives::<Health>(200)
            .also(503),
        get(
            "/api/version",
            Needs::Nothing,
            "version",
            "Versions of the server and of its links",
            server::version,
        )
        .gives::<Version>(200),
        get("/api/v1/status", VIEWER, "status", "The server as a whole", server::status)
            .gives::<ServerStatus>(200),
        get("/api/v1/doctor", EVERYWHERE, "doctor", "What may be wrong with the server", doctor::show)
            .gives::<Examination>(200),
        get(
            "/api/v1/support-bundle",
            SUPER_ADMIN,
            "support-bundle",
            "What somebody who helps needs to see, without secrets",
            support::bundle,
        )
        .gives::<SupportBundle>(200),
        post(
            BACKUP,
            SUPER_ADMIN,
            "backup.create",
            "All that the server is, sealed for a recipient",
            backup::create,
        )
        .asks::<NewBackup>()
        .gives_bytes(200),
        get("/api/v1/tenants", VIEWER, "tenant.list", "All tenants", tenants::list)
            .paged()
            .gives::<Page<Tenant>>(200),
        post("/api/v1/tenants", SUPER_ADMIN, "tenant.create", "A new tenant", tenants::create)
            .asks::<NewTenant>()
            .gives::<Tenant>(201),
        get("/api/v1/tenants/{name}", VIEWER, "tenant.show", "One tenant", tenants::show)
            .gives::<Tenant>(200),
        patch("/api/v1/tenants/{name}", SUPER_ADMIN, "tenant.change", "Other settings", tenants::change)
            .asks::<TenantChange>()
            .gives::<Tenant>(200),
        delete(
            "/api/v1/tenants/{name}",
            SUPER_ADMIN,
            "tenant.delete",
            "A tenant is closed, and erased after its grace; an empty one at once",
            tenants::delete,
        )
        .query_number(
            "grace_seconds",
            "How long it can be restored; a week if it has devices",
            0..=GRACE_MAX.as_secs(),
        ),
        post(
            "/api/v1/tenants/{name}/restore",
            SUPER_ADMIN,
            "tenant.restore",
            "A closed tenant is as it was",
            tenants::restore,
        )
        .gives::<Tenant>(200),
    ]
}

fn of_no_form() -> Vec<Route> {
    let nothing = Needs::Nothing;
    let routes = [
        get("/setup", nothing, "setup.page", "The page for the first administrator", setup_page::page),
        post("/setup", nothing, "setup.submit", "What was filled in there", setup_page::submit),
        get(link::websocket::PATH, nothing, "link", "A link over WebSocket begins", observe::link),
    ];
    routes.into_iter().map(Route::undescribed).collect()
}

fn of_logins() -> Vec<Route> {
    let person = Needs::Person;
    vec![
        post("/api/v1/login", Needs::Nothing, "login", "A session of a person", login::login)
            .asks::<Login>()
            .gives::<LoggedIn>(200),
        post("/api/v1/setup", Needs::Nothing, "setup", "The first administrator", login::set_up)
            .asks::<Setup>()
            .gives::<LoggedIn>(201),
        delete("/api/v1/session", person, "logout", "The session that asks ends", login::log_out),
        get("/api/v1/me", VIEWER, "me", "Who asks", me::show).gives::<User>(200),
        post("/api/v1/me/password", person, "me.password", "Another password", me::password)
            .asks::<PasswordChange>(),
        post(
            "/api/v1/me/second-factor",
            person,
            "me.mfa.offer",
            "A second factor, to be confirmed",
            me::offer_factor,
        )
        .gives::<OfferedFactor>(201),
        post(
            "/api/v1/me/second-factor/confirm",
            person,
            "me.mfa.confirm",
            "It is in force",
            me::confirm_factor,
        )
        .asks::<FactorCode>()
        .gives::<RecoveryCodes>(200),
        post(
            "/api/v1/me/second-factor/remove",
            person,
            "me.mfa.remove",
            "It is not any more",
            me::remove_factor,
        )
        .asks::<FactorCode>(),
        post(
            "/api/v1/me/recovery-codes",
            person,
            "me.recovery-codes",
            "Other recovery codes",
            me::recovery_codes,
        )
        .asks::<FactorCode>()
        .gives::<RecoveryCodes>(200),
    ]
}

fn of_users() -> Vec<Route> {
    vec![
        get("/api/v1/users", TENANT_ADMIN, "user.list", "All users", users::list)
            .paged()
            .gives::<Page<User>>(200),
        post("/api/v1/users", TENANT_ADMIN, "user.create", "A new user", users::create)
            .asks::<NewUser>()
            .gives::<User>(201),
        get("/api/v1/users/{name}", TENANT_ADMIN, "user.show", "One user", users::show).gives::<User>(200),
        patch("/api/v1/users/{name}", TENANT_ADMIN, "user.change", "A user changes", users::change)
            .asks::<UserChange>()
            .gives::<User>(200),
        delete("/api/v1/users/{name}", TENANT_ADMIN, "user.delete", "A user goes", users::delete),
        delete(
            "/api/v1/users/{name}/second-factor",
            TENANT_ADMIN,
            "user.mfa.remove",
            "For who lost it",
            users::remove_factor,
        ),
    ]
}

fn of_api_tokens() -> Vec<Route> {
    let person = Needs::Person;
    vec![
        get(
            "/api/v1/api-tokens",
            VIEWER,
            "api-token.list",
            "One's own, and those one administers",
            api_tokens::list,
        )
        .paged()
        .gives::<Page<ApiToken>>(200),
        post("/api/v1/api-tokens", person, "api-token.create", "An API token of oneself", api_tokens::create)
            .asks::<NewApiToken>()
            .gives::<CreatedApiToken>(201),
        post(
            "/api/v1/api-tokens/{id}/revoke",
            VIEWER,
            "api-token.revoke",
            "An API token ends",
            api_tokens::revoke,
        )
        .gives::<ApiToken>(200),
    ]
}

fn of_audit() -> Vec<Route> {
    vec![
        get(
            "/api/v1/audit",
            TENANT_ADMIN,
            "audit.list",
            "What was done and refused, newest first",
            audit::list,
        )
        .of_tenant()
        .paged()
        .query_number("after", "Entries after this number instead, oldest first", 0..=u64::MAX / 2)
        .gives::<Page<AuditEntry>>(200),
        get(
            "/api/v1/audit/verification",
            Needs::Everywhere(Role::TenantAdmin),
            "audit.verify",
            "Whether the log is as it was written",
            audit::verify,
        )
        .query_number("sequence", "A number whose digest is to be compared", 1..=u64::MAX / 2)
        .gives::<AuditVerdict>(200),
    ]
}

fn of_tokens() -> Vec<Route> {
    let routes = [
        get("/api/v1/tokens", VIEWER, "token.list", "All onboarding tokens", tokens::list)
            .paged()
            .gives::<Page<Token>>(200),
        post("/api/v1/tokens", OPERATOR, "token.create", "A new onboarding token", tokens::create)
            .asks::<NewToken>()
            .gives::<CreatedToken>(201),
        get("/api/v1/tokens/{id}", VIEWER, "token.show", "One onboarding token", tokens::show)
            .gives::<Token>(200),
        post(
            "/api/v1/tokens/{id}/revoke",
            OPERATOR,
            "token.revoke",
            "An onboarding token ends",
            tokens::revoke,
        )
        .gives::<Token>(200),
    ];
    routes.into_iter().map(Route::of_tenant).collect()
}

fn of_devices() -> Vec<Route> {
    let routes = [
        get("/api/v1/devices", VIEWER, "device.list", "All devices", devices::list)
            .paged()
            .gives::<Page<Device>>(200),
        post("/api/v1/devices", OPERATOR, "device.add-plain", "A client without an agent", plain::add)
            .asks::<NewPlainPeer>()
            .gives::<PlainPeer>(201),
        get("/api/v1/devices/{device}", VIEWER, "device.show", "One device", devices::show)
            .gives::<Device>(200),
        patch(
            "/api/v1/devices/{device}",
            OPERATOR,
            "device.change",
            "Another name, other tags or labels, another end",
            devices::change,
        )
        .asks::<DeviceChange>()
        .gives::<ChangedDevice>(200),
        post(
            "/api/v1/devices/{device}/approve",
            OPERATOR,
            "device.approve",
            "A device may take part",
            devices::approve,
        )
        .gives::<ChangedDevice>(200),
        post(
            "/api/v1/devices/{device}/revoke",
            OPERATOR,
            "device.revoke",
            "A device goes for good",
            devices::revoke,
        )
        .gives::<ChangedDevice>(200),
        get(
            "/api/v1/devices/{device}/commands",
            VIEWER,
            "device.commands",
            "What a device was told to do once",
            commands::list,
        )
        .paged()
        .gives::<Page<DeviceCommand>>(200),
        post(
            "/api/v1/devices/{device}/commands",
            OPERATOR,
            "device.command",
            "A device is to do something once",
            commands::queue,
        )
        .asks::<NewCommand>()
        .gives::<DeviceCommand>(201),
    ];
    routes.into_iter().map(Route::of_tenant).collect()
}

fn of_names() -> Vec<Route> {
    let routes = [
        get("/api/v1/dns", VIEWER, "dns.list", "All custom records", dns::list)
            .paged()
            .gives::<Page<Record>>(200),
        post("/api/v1/dns", OPERATOR, "dns.add", "A new record", dns::add)
            .asks::<Record>()
            .gives::<Record>(201),
        post("/api/v1/dns/remove", OPERATOR, "dns.remove", "A record goes", dns::remove)
            .asks::<Record>()
            .gives::<Record>(200),
    ];
    routes.into_iter().map(Route::of_tenant).collect()
}

fn of_ssh() -> Vec<Route> {
    let routes = [
        get("/api/v1/ssh/authorities", VIEWER, "ca.list", "Both authorities", ssh::list)
            .gives::<Page<Authority>>(200),
        post("/api/v1/ssh/certificates", VIEWER, "ca.issue", "A certificate of a person", ssh::issue)
            .asks::<NewCertificate>()
            .gives::<IssuedCertificate>(201),
        post(
            "/api/v1/ssh/authorities/{kind}/rotate",
            TENANT_ADMIN,
            "ca.rotate",
            "A rotation begins",
            ssh::rotate,
        )
        .asks::<Rotate>()
        .gives::<Authority>(200),
        post(
            "/api/v1/ssh/authorities/{kind}/advance",
            TENANT_ADMIN,
            "ca.advance",
            "Its next step",
            ssh::advance,
        )
        .asks::<Advance>()
        .gives::<Authority>(200),
        post(
            "/api/v1/ssh/authorities/{kind}/rollback",
            TENANT_ADMIN,
            "ca.rollback",
            "It is undone",
            ssh::roll_back,
        )
        .gives::<Authority>(200),
        get("/api/v1/roles", VIEWER, "role.list", "Who may be whom on which hosts", roles::list)
            .paged()
            .gives::<Page<SshRole>>(200),
        put("/api/v1/roles/{name}", TENANT_ADMIN, "role.set", "A role says this from now on", roles::set)
            .asks::<RoleWish>()
            .gives::<SshRole>(200),
        delete("/api/v1/roles/{name}", TENANT_ADMIN, "role.delete", "A role goes", roles::delete),
    ];
    routes.into_iter().map(Route::of_tenant).collect()
}

fn of_revocations() -> Vec<Route> {
    let routes = [
        get(
            "/api/v1/ssh/authorities/{kind}/revoked",
            VIEWER,
            "ca.revoked",
            "What is revoked, as sshd reads it",
            revocations::as_sshd_reads_it,
        )
        .gives::<RevocationList>(200),
        post(
            "/api/v1/ssh/revocations",
            TENANT_ADMIN,
            "ca.revoke",
            "Certificates are taken back",
            revocations::revoke,
        )
        .asks::<NewRevocation>()
        .gives::<Revocations>(200),
        get(
            "/api/v1/ssh/revocations",
            VIEWER,
            "ca.revocations",
            "What is revoked, and by whom",
            revocations::list,
        )
        .paged()
        .gives::<Page<Revocation>>(200),
        post(
            "/api/v1/ssh/revocations/give-back",
            TENANT_ADMIN,
            "ca.give-back",
            "What an administrator took back is good again",
            revocations::give_back,
        )
        .asks::<Unrevoke>()
        .gives::<GivenBack>(200),
    ];
    routes.into_iter().map(Route::of_tenant).collect()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    fn sources(under: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(under).expect("sources").map(|entry| entry.expect("one").path());
        let nested = entries.map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
        nested.flatten().collect()
    }

    /// Calls that give a router a route or a service.
    fn adds(text: &str) -> usize {
        let ways = [".route(", ".route_service(", ".nest(", ".nest_service(", ".fallback_service("];
        ways.iter().map(|way| text.matches(way).count()).sum()
    }

    #[test]
    fn no_route_is_beside_the_table() {
        let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let of_http = sources(&all.join("http")).into_iter().chain([all.join("http.rs")]);
        for path in of_http.filter(|path| !path.ends_with("table.rs")) {
            let text = std::fs::read_to_string(&path).expect("a source");
            // Those of the second listener are for probes.
            let text = text.split("pub fn probes(").next().unwrap_or_default();
            let may = usize::from(path.ends_with("http/routes.rs"));
            assert_eq!(adds(text), may, "{} adds routes that the table does not have", path.display());
        }
    }

    /// The walk over who may call what, in tests/api, sees what is described, and these by name.
    #[test]
    fn what_the_description_does_not_show_is_anybodys() {
        let hidden = super::routes().into_iter().filter(|route| !route.described);
        let hidden: Vec<_> = hidden.map(|route| (route.method, route.path, route.needs)).collect();
        let anybodys = [("get", "/setup"), ("post", "/setup"), ("get", link::websocket::PATH)];
        assert_eq!(hidden, anybodys.map(|(method, path)| (method, path, super::Needs::Nothing)));
    }

    #[test]
    fn the_table_has_no_route_twice() {
        let mut all: Vec<_> = super::routes().iter().map(|route| (route.path, route.method)).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
