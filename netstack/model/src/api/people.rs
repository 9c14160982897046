//! Forms about people: logins, users, second factors, API tokens.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{ApiTokenId, UserId};
use crate::name::Label;
use crate::role::Role;
use crate::time::Timestamp;

/// The first administrator, by the one-time secret that the server printed.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// From the setup URL.
    pub secret: String,
    /// The administrator's name.
    pub user: Label,
    /// At least twelve characters, and not easily guessed.
    pub password: String,
}

/// A login with name and password.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PersonLogin)]
pub struct Login {
    /// The user's name.
    pub user: Label,
    /// The password.
    pub password: String,
    /// Of the second factor, where the user has one: six digits, or a recovery code. Without it the answer is
    /// `second-factor-needed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// A session just begun: the only answer that holds its secret.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct LoggedIn {
    /// Who logged in.
    pub user: Label,
    /// To be sent as the bearer, shown this once.
    pub secret: String,
    /// When it ends; earlier if it is not used.
    pub expires_at: Timestamp,
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Its name.
    pub name: Label,
    /// What it may do.
    pub role: Role,
    /// The one tenant that it sees; absent if it sees all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Label>,
    /// Whether a login needs a code, too.
    pub second_factor: bool,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was disabled, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_at: Option<Timestamp>,
}

/// The wish for a person.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// Its name.
    pub name: Label,
    /// What it may do: no more than who creates it.
    pub role: Role,
    /// The one tenant that it sees; all that its creator sees if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Label>,
    /// Its first password.
    pub password: String,
}

/// A change of a person; what is absent stays.
#[derive(Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserChange {
    /// What it may do from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The one tenant that it sees from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Label>,
    /// It sees all tenants from now on.
    #[serde(default)]
    pub all_tenants: bool,
    /// Its new password; ends its sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Whether it is disabled; ends its sessions, and its API tokens sleep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Ends its sessions.
    #[serde(default)]
    pub end_sessions: bool,
}

/// Another password of oneself; ends one's sessions.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// The one in force.
    pub current: String,
    /// The next one.
    pub new: String,
}

/// A second factor that is not in force yet: the only answer that holds its secret.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct OfferedFactor {
    /// In base32, to be typed in.
    pub secret: String,
    /// `otpauth://…`, to be shown as a QR code.
    pub url: String,
}

/// A code of one's second factor.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FactorCode {
    /// Six digits, or a recovery code where one may stand in.
    pub code: String,
}

/// Codes that each stand in once for the second factor: the only answer that holds them.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct RecoveryCodes {
    /// To be kept on paper.
    pub codes: Vec<String>,
}

/// An API token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiToken {
    /// Its id.
    pub id: ApiTokenId,
    /// On whose behalf.
    pub user: Label,
    /// What it is for.
    pub label: String,
    /// `live`, `expired` or `revoked`.
    pub state: String,
    /// What it may do, if its user may.
    pub role: Role,
    /// The one tenant that it is for; absent if it is for all that its user sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Label>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When it was used last, to about a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_at: Option<Timestamp>,
}

/// The wish for an API token of oneself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewApiToken {
    /// What it is for.
    pub label: String,
    /// Life in seconds, a year at most.
    pub ttl_seconds: u64,
    /// What it may do: as much as oneself if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The one tenant that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Label>,
}

/// An API token just made: the only answer that holds the secret.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct CreatedApiToken {
    /// Without the secret.
    #[serde(flatten)]
    pub token: ApiToken,
    /// The whole text for `WARREN_API_TOKEN`, shown this once.
    pub secret: String,
}
