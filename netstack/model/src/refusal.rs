//! Why something was refused: a stable code, what happened, and what to do next.

use std::fmt;

use minicbor::{Decode, Encode};

macro_rules! codes {
    ($($number:literal $variant:ident $text:literal $hint:literal;)*) => {
        /// A stable code that the API, the CLI, the audit log, the metric and the wire all show.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $hint] $variant = $number,)*
        }

        impl Code {
            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The code as it is shown, such as `token-expired`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            const fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }

            /// What to do next.
            pub const fn hint(self) -> &'static str {
                match self { $(Self::$variant => $hint,)* }
            }
        }
    };
}

// Numbers travel on the wire and are never used again.
codes! {
    0 Internal "internal" "this is a bug: report it with the request id and the server's log";
    1 BadRequest "bad-request" "correct the named field and try again";
    2 TokenUnknown "token-unknown" "create a token with `warren token create` and copy it whole";
    3 TokenExpired "token-expired" "create a new token with `warren token create`";
    4 TokenUsed "token-used" "create a new token with `warren token create`, with --uses for several devices";
    5 TokenRevoked "token-revoked" "ask an administrator for a new token: `warren token create`";
    6 ProofInvalid "proof-invalid" "the device could not prove a key that it presented: remove its state directory's half-written keys and enrol again";
    7 AnchorUnknown "anchor-unknown" "this server does not know the tenant: check --server, or enrol with a token of this server";
    8 DeviceUnknown "device-unknown" "the server does not know this device: `warren logout`, then enrol with a new token";
    9 DeviceRevoked "device-revoked" "an administrator revoked this device: `warren logout`, then enrol with a new token";
    10 DevicePending "device-pending" "an administrator must approve it: `warren device approve NAME`";
    11 DeviceNotFound "device-not-found" "see `warren device list`";
    12 TenantNotFound "tenant-not-found" "see `warren tenant list`";
    13 TokenNotFound "token-not-found" "see `warren token list`";
    14 RecordNotFound "record-not-found" "see `warren dns list`";
    15 NameTaken "name-taken" "choose another name: see `warren device list` and `warren dns list`";
    16 NameReserved "name-reserved" "choose another name";
    17 NameInvalid "name-invalid" "use letters, digits and inner hyphens, at most 63 bytes between dots; owners of records may have `_` and begin with `*.`, too";
    18 BlockExhausted "block-exhausted" "every address of the tenant is in use or rests for a day: revoke devices, or make a tenant with a larger block";
    19 BlockOverlap "block-overlap" "choose a block that no other tenant uses: see `warren tenant list`";
    20 BlockInvalid "block-invalid" "use a network between /8 and /29, such as 100.64.0.0/16";
    21 TenantNotEmpty "tenant-not-empty" "revoke its devices first: `warren device list --tenant NAME`";
    22 RecordInvalid "record-invalid" "see `warren dns add --help`";
    23 QuotaReached "quota-reached" "remove what is not needed, or raise the limit";
    24 RateLimited "rate-limited" "wait for as long as the answer says, then try again";
    25 Unauthenticated "unauthenticated" "log in with `warren login`, set WARREN_API_TOKEN, or run on the server as root";
    26 Forbidden "forbidden" "ask an administrator of the tenant";
    27 VersionUnsupported "version-unsupported" "update the older of server and agent";
    28 FrameInvalid "frame-invalid" "something between server and agent changes the bytes, or one of them is no Warren";
    29 StoreUnavailable "store-unavailable" "the server's database does not do its part: `warren server doctor` there says what it lacks; try again afterwards";
    30 Conflict "conflict" "somebody else changed it at the same time: look at it and try again";
    31 KeyTaken "key-taken" "another device has this WireGuard key: remove the state directory on the copy and enrol it again";
    32 IdentityCloned "identity-cloned" "two machines present one identity: remove the state directory on the copy and enrol it again";
    33 HubUnknown "hub-unknown" "start warren-netd on the server";
    34 AlreadyEnrolled "already-enrolled" "this device is enrolled: `warren up` without --token, or `warren logout` first";
    35 NotFound "not-found" "check the path and the server's version";
    36 Draining "draining" "the server restarts: it is tried again";
    37 PasswordInvalid "password-invalid" "use at least twelve characters that are not a known password";
    38 SetupDone "setup-done" "an administrator exists already: log in with `warren login`, or administer on the server as root";
    39 NotEnrolled "not-enrolled" "join first: `warren up --server URL --token TOKEN`";
    40 NameUnknown "name-unknown" "see `warren status` for the names that this device reaches";
    41 StateDamaged "state-damaged" "mend the named file, or begin anew: `warren logout`, then enrol with a new token";
    42 HostFailed "host-failed" "see `warren status` and the agent's log: journalctl -u warren-agent";
    43 DeviceDown "device-down" "`warren up` brings it back";
    44 ConnectionRefused "connection-refused" "start the service on that device, and let it listen on the mesh address or on all of them";
    45 ConnectionTimedOut "connection-timed-out" "see `warren ping NAME` for whether the device answers, and its firewall for the port";
    46 OutsideMesh "outside-mesh" "name a device of the mesh: see `warren status`; a proxy reaches others with --proxy-outside";
    47 TypeUnknown "type-unknown" "name a type such as A, AAAA, TXT, SRV or PTR, or its number as in TYPE65";
    48 PassInvalid "pass-invalid" "the device gets a new pass from its server when it is attached: see `warren status`";
    60 KeyTypeRefused "key-type-refused" "make a key with `ssh-keygen -t ed25519`";
    61 PrincipalInvalid "principal-invalid" "the server asked for a certificate that its signer refuses: report it with the server's log";
    62 LifeInvalid "life-invalid" "ask for another: `warren ssh login --help`, or for a role `warren role set --help`, says what may be";
    63 SignerSealed "signer-sealed" "start warren-apid with the passphrase or the seal.key that sealed its keys";
    64 RotationUnderWay "rotation-under-way" "see `warren ca status`, then `warren ca advance` or `warren ca rollback`";
    65 RotationIdle "rotation-idle" "begin one with `warren ca rotate --type user` or `--type host`";
    66 RotationBlocked "rotation-blocked" "see `warren ca status` for what is missing: `--except DEVICE` leaves a device out, `warren ca revoke` ends certificates before their time";
    67 DeviceUnproven "device-unproven" "ask on a device of the mesh: `warren ssh login` there";
    68 PersonUnknown "person-unknown" "log in as a user of the server: `warren login URL`";
    69 RoleNotFound "role-not-found" "see `warren role list`";
    71 CertificateUnknown "certificate-unknown" "somebody may have the authority's key: `warren ca rotate --type user --emergency`, and look at the host";
    72 RevocationUnknown "revocation-unknown" "check number, name, tenant and --type in `warren audit list`; `--unknown` revokes it all the same, as after a restore";
    73 HolderRevoked "holder-revoked" "wait until then, or ask an administrator: `warren ca revoked`, `warren ca unrevoke`";
    74 RevocationNotFound "revocation-not-found" "see `warren ca revoked`";
    75 RevocationKept "revocation-kept" "it ends by itself: see `warren ca revoked`";
    70 RoleKept "role-kept" "change what it allows: see `warren role set --help`";
    80 SecondFactorNeeded "second-factor-needed" "give the six digits of your authenticator, or a recovery code";
    81 SecondFactorWrong "second-factor-wrong" "wait for the next code and check the clock, or use a recovery code";
    82 SecondFactorOn "second-factor-on" "`warren user mfa off` first";
    83 SecondFactorOff "second-factor-off" "`warren user mfa on`";
    84 UserNotFound "user-not-found" "see `warren user list`";
    85 ApiTokenNotFound "api-token-not-found" "see `warren api-token list`";
    86 LastAdministrator "last-administrator" "make another super-admin first: `warren user create NAME --role super-admin`";
    87 SessionNeeded "session-needed" "log in as yourself: `warren login URL`";
    100 DeviceExpired "device-expired" "an administrator gives it more time: `warren device set NAME --expires 30d`";
    101 TenantClosed "tenant-closed" "until its grace ends, `warren tenant restore NAME` brings it back";
    102 DeviceQuotaReached "device-quota-reached" "revoke devices that are not needed, or raise it: `warren tenant set NAME --quota N`";
    103 CommandUnsupported "command-unsupported" "upgrade the agent on it: see `warren device show NAME`; a plain peer has none";
    104 HubPortTaken "hub-port-taken" "choose another with --hub-port, or leave it out for the next free one: see `warren tenant list`";
    105 HubPortInvalid "hub-port-invalid" "choose a port between 1024 and 65535, or leave --hub-port out for the next free one";
    106 HubTooOld "hub-too-old" "upgrade warren-netd to the server's version: see Upgrade in RUNBOOK.md";
    110 IdempotencyKeyReused "idempotency-key-reused" "use a new key for another request: a key stands for one request, for a day";
    111 IdempotencyKeyInUse "idempotency-key-in-use" "ask again in a moment with the same key, and the answer is the first one's";
    112 IdempotencyOutcomeUnknown "idempotency-outcome-unknown" "the server ended while it was done: look whether it was; to do it anew, take another key";
    113 MethodNotAllowed "method-not-allowed" "see the answer's Allow, and /api/v1/openapi.json for what each path has";
    120 BackupUnreadable "backup-unreadable" "check the path, its permissions and the disk";
    121 BackupNotOne "backup-not-one" "name a file that `warren backup create` made";
    122 BackupKeyWrong "backup-key-wrong" "open it with what it was made for: --key FILE, or --passphrase-file FILE";
    123 BackupDamaged "backup-damaged" "take another copy of the file, or the backup before it";
    124 BackupNewer "backup-newer" "install the Warren that made it, or a newer one";
    125 BackupUnderWay "backup-under-way" "wait until the other backup is made";
    126 BackupPartial "backup-partial" "there is no server to put its keys into: restore a backup of everything first";
    127 ServerRunning "server-running" "stop it, on every replica: systemctl stop warren-apid warren-netd";
    128 TargetNotEmpty "target-not-empty" "add --force: what is there is moved aside, not removed";
    129 BackupNotUsable "backup-not-usable" "nothing was changed: take the backup before it, or see `warren backup verify FILE`";
}

impl<C> Encode<C> for Code {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.u16(*self as u16)?.ok()
    }
}

/// A code that only a newer program knows reads as `internal`; the detail still says what happened.
impl<'b, C> Decode<'b, C> for Code {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Ok(Self::from_number(d.u16()?).unwrap_or(Self::Internal))
    }
}

impl std::str::FromStr for Code {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.iter().find(|code| code.as_str() == text).copied().ok_or(())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A wish that was not granted.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, thiserror::Error)]
#[error("{code}: {detail}")]
#[cbor(map)]
pub struct Refusal {
    /// What kind.
    #[n(0)]
    pub code: Code,
    /// What happened, naming the thing. Lower case, no final dot.
    #[n(1)]
    pub detail: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// What to do next.
    pub const fn hint(&self) -> &'static str {
        self.code.hint()
    }
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Self::new(code, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_kebab_case_and_say_what_to_do() {
        for code in Code::ALL {
            assert!(code.as_str().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{code}");
            assert!(!code.hint().is_empty() && !code.hint().ends_with('.'), "{code}");
        }
    }
}
