//! Errors as RFC 9457 problem details.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::refusal::{Code, Refusal};

/// The body of every answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Stable, such as `token-expired`.
    pub code: String,
    /// HTTP status.
    pub status: u16,
    /// What happened.
    pub detail: String,
    /// What to do next.
    pub hint: String,
    /// Stands in the server's log too.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
}

impl Problem {
    /// The problem of a refusal.
    pub fn new(refusal: &Refusal, request_id: impl Into<String>) -> Self {
        Self {
            code: refusal.code.to_string(),
            status: status_of(refusal.code),
            detail: refusal.detail.clone(),
            hint: refusal.hint().into(),
            request_id: request_id.into(),
        }
    }
}

/// The HTTP status of a code (RFC 9110, section 15).
pub const fn status_of(code: Code) -> u16 {
    match code {
        Code::Internal => 500,
        Code::Unauthenticated | Code::SecondFactorNeeded | Code::SecondFactorWrong => 401,
        Code::Forbidden
        | Code::OutsideMesh
        | Code::DeviceUnproven
        | Code::PersonUnknown
        | Code::TenantClosed
        | Code::HolderRevoked
        | Code::SessionNeeded => 403,
        Code::DeviceNotFound
        | Code::TenantNotFound
        | Code::TokenNotFound
        | Code::RecordNotFound
        | Code::NameUnknown
        | Code::UserNotFound
        | Code::ApiTokenNotFound
        | Code::RoleNotFound
        | Code::RevocationUnknown
        | Code::RevocationNotFound
        | Code::NotFound => 404,
        Code::NameTaken
        | Code::BlockOverlap
        | Code::BlockExhausted
        | Code::TenantNotEmpty
        | Code::Conflict
        | Code::KeyTaken
        | Code::IdentityCloned
        | Code::AlreadyEnrolled
        | Code::HubUnknown
        | Code::SetupDone
        | Code::NotEnrolled
        | Code::DeviceDown
        | Code::RotationUnderWay
        | Code::RotationIdle
        | Code::RotationBlocked
        | Code::RevocationKept
        | Code::SecondFactorOn
        | Code::SecondFactorOff
        | Code::LastAdministrator
        | Code::DeviceExpired
        | Code::DeviceQuotaReached
        | Code::CommandUnsupported
        | Code::IdempotencyKeyInUse
        | Code::IdempotencyOutcomeUnknown
        | Code::QuotaReached => 409,
        Code::MethodNotAllowed => 405,
        Code::IdempotencyKeyReused => 422,
        Code::RateLimited => 429,
        Code::ConnectionRefused => 502,
        Code::StoreUnavailable | Code::SignerSealed | Code::Draining => 503,
        Code::ConnectionTimedOut => 504,
        _ => 400,
    }
}
