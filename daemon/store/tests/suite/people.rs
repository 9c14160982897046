//! Users, sessions, API tokens, setup and settings.

use std::time::Duration;

use model::Digest;
use model::id::{ApiTokenId, UserId};
use store::{ApiToken, PeopleError, Role, Session, Store, User};

use crate::support::{Fresh, at, audit_count, entry, label, make_tenant, on_both_engines, tenant_id};

on_both_engines! {
    users_survive_and_have_one_name_each,
    somebody_always_may_do_everything,
    a_second_factor_is_asked_for_once_it_was_seen,
    older_programs_are_kept_out_of_what_they_would_pass_over,
    sessions_end,
    api_tokens_end,
    the_setup_secret_works_once,
    settings_are_kept,
}

const IDLE_MAX: Duration = Duration::from_secs(1_800);

fn user(n: u8) -> User {
    User {
        id: UserId::from_bytes([n; 16]),
        name: label(&format!("user{n}")),
        role: Role::Operator,
        tenant: None,
        password_hash: Some("$argon2id$v=19$m=65536,t=3,p=1$c2FsdA$aGFzaA".into()),
        created_at: at(0),
        disabled_at: None,
    }
}

fn digest(n: u8) -> Digest {
    Digest::of("test", &[&[n]])
}

fn session(n: u8, of: &User) -> Session {
    Session {
        digest: digest(n),
        user: of.id,
        created_at: at(0),
        used_at: at(0),
        expires_at: at(36_000),
        address: None,
    }
}

async fn users_survive_and_have_one_name_each(fresh: Fresh) {
    let store = fresh.open().await;
    let (mut alice, mut bob) = (user(1), user(2));
    bob.password_hash = None;
    store.create_user(&alice, &entry("user.create", None)).await.expect("a new user");
    store.create_user(&bob, &entry("user.create", None)).await.expect("a new user");
    let namesake = User { name: alice.name.clone(), ..user(3) };
    let taken = store.create_user(&namesake, &entry("user.create", None)).await;
    assert!(matches!(taken, Err(PeopleError::NameTaken)), "{taken:?}");
    assert_eq!(audit_count(&store).await, 2, "what did not happen left no entry");

    alice.role = Role::SuperAdmin;
    bob.disabled_at = Some(at(100));
    store.update_user(&alice, false, &entry("user.change", None)).await.expect("changes");
    store.update_user(&bob, false, &entry("user.change", None)).await.expect("changes");
    store.set_password(bob.id, "$argon2id$2", &entry("user.password", None)).await.expect("changes");
    bob.password_hash = Some("$argon2id$2".into());
    assert_eq!(fresh.open().await.users().await.expect("reads"), vec![alice.clone(), bob.clone()]);
    bob.disabled_at = None;
    store.update_user(&bob, false, &entry("user.change", None)).await.expect("changes");
    assert_eq!(store.user(&bob.name).await.expect("reads"), Some(bob.clone()));
    assert_eq!(store.user(&label("nobody")).await.expect("reads"), None);
    let nobody = store.update_user(&user(7), false, &entry("user.change", None)).await;
    assert!(matches!(nobody, Err(PeopleError::NotFound)), "{nobody:?}");
    assert_eq!(audit_count(&store).await, 6);
    store.delete_user(bob.id, &entry("user.delete", None)).await.expect("goes");
    assert_eq!(store.users().await.expect("reads"), vec![alice]);
}

async fn somebody_always_may_do_everything(fresh: Fresh) {
    let store = fresh.open().await;
    make_tenant(&store, 1).await;
    let [one, two] = [1, 2].map(|n| User { role: Role::SuperAdmin, ..user(n) });
    for of in [&one, &two] {
        store.create_user(of, &entry("user.create", None)).await.expect("a new user");
    }
    // Each leaves the other; together they would leave nobody.
    let demoted = User { role: Role::Viewer, ..one.clone() };
    let wish = entry("user.change", None);
    let (a, b) = tokio::join!(store.update_user(&demoted, false, &wish), store.delete_user(two.id, &wish));
    assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
    let left = store.users().await.expect("reads").into_iter().find(|u| u.role == Role::SuperAdmin);
    let left = left.expect("somebody");
    for less in [
        User { disabled_at: Some(at(5)), ..left.clone() },
        User { role: Role::TenantAdmin, ..left.clone() },
        User { tenant: Some(tenant_id(1)), ..left.clone() },
    ] {
        let refused = store.update_user(&less, false, &wish).await;
        assert!(matches!(refused, Err(PeopleError::LastAdministrator)), "{refused:?}");
    }
    let refused = store.delete_user(left.id, &wish).await;
    assert!(matches!(refused, Err(PeopleError::LastAdministrator)), "{refused:?}");
    assert_eq!(audit_count(&store).await, 4, "what did not happen left no entry");
}

async fn a_second_factor_is_asked_for_once_it_was_seen(fresh: Fresh) {
    let store = fresh.open().await;
    let alice = user(1);
    store.create_user(&alice, &entry("user.create", None)).await.expect("a new user");
    assert!(store.second_factor(alice.id).await.expect("reads").is_none());
    let wish = entry("second-factor", None);
    for sealed in [b"first", b"other"] {
        store.offer_second_factor(alice.id, sealed, &wish).await.expect("offered");
    }
    let offered = store.second_factor(alice.id).await.expect("reads").expect("there");
    assert_eq!((offered.sealed.as_slice(), offered.confirmed), (&b"other"[..], false));
    assert!(!store.take_step(alice.id, 7).await.expect("writes"), "it is not in force");
    assert!(store.second_factors().await.expect("reads").is_empty());

    store.confirm_second_factor(alice.id, 7, &[digest(1), digest(2)], &wish).await.expect("in force");
    let again = store.confirm_second_factor(alice.id, 8, &[], &wish).await;
    assert!(matches!(again, Err(PeopleError::NotFound)), "{again:?}");
    let over = store.offer_second_factor(alice.id, b"mine", &wish).await;
    assert!(matches!(over, Err(PeopleError::NotFound)), "nobody replaces it without taking it away");
    assert_eq!(store.second_factors().await.expect("reads"), [alice.id].into());

    assert!(!store.take_step(alice.id, 7).await.expect("writes"), "the code that confirmed it");
    let (a, b) = tokio::join!(store.take_step(alice.id, 8), store.take_step(alice.id, 8));
    assert!(a.expect("writes") != b.expect("writes"), "one code, one login");
    assert!(!store.take_step(alice.id, 6).await.expect("writes"), "nor an older one");

    let take = async |n| store.take_recovery_code(alice.id, &digest(n), &wish).await.expect("writes");
    assert_eq!([take(1).await, take(1).await, take(9).await], [true, false, false]);
    store.replace_recovery_codes(alice.id, &[digest(3)], &wish).await.expect("replaced");
    assert_eq!([take(2).await, take(3).await], [false, true]);
    store.remove_second_factor(alice.id, &wish).await.expect("removed");
    assert!(store.second_factor(alice.id).await.expect("reads").is_none());
}

async fn older_programs_are_kept_out_of_what_they_would_pass_over(fresh: Fresh) {
    let store = fresh.open().await;
    make_tenant(&store, 1).await;
    let needs = async || fresh.raw().await.count("SELECT needs FROM migrations WHERE version = 6").await;
    let before = needs().await;
    store.create_user(&user(1), &entry("user.create", None)).await.expect("a new user");
    assert_eq!(needs().await, before, "who sees everything is nothing new");
    let bound = User { tenant: Some(tenant_id(1)), ..user(2) };
    store.create_user(&bound, &entry("user.create", None)).await.expect("a new user");
    assert_eq!((before, needs().await), (4, 6));
}

async fn alive(store: &Store, n: u8, seconds: i64) -> Option<Session> {
    let found = store.session(&digest(n), at(seconds), IDLE_MAX).await.expect("reads");
    found.map(|(session, _)| session)
}

pub(crate) async fn sessions_end(fresh: Fresh) {
    let store = fresh.open().await;
    let alice = user(1);
    store.create_user(&alice, &entry("user.create", None)).await.expect("a new user");
    for n in 1..=4 {
        store.create_session(&session(n, &alice), &entry("session.create", None)).await.expect("begins");
    }
    let (found, whose) = store.session(&digest(1), at(30), IDLE_MAX).await.expect("reads").expect("alive");
    assert_eq!((found, whose), (session(1, &alice), alice.clone()));
    assert_eq!(alive(&store, 9, 30).await, None);
    assert_eq!(
        alive(&store, 1, 1_700).await.map(|s| s.used_at),
        Some(at(0)),
        "the use is noted after it is read"
    );
    assert_eq!(
        alive(&store, 1, 3_400).await.map(|s| s.used_at),
        Some(at(1_700)),
        "being used keeps it alive"
    );
    assert_eq!(alive(&store, 2, 1_801).await, None, "idle for too long");
    assert_eq!(alive(&store, 1, 36_000).await, None, "nothing lives for ever");

    store.end_session(&digest(3), &entry("session.end", None)).await.expect("ends");
    assert_eq!(alive(&store, 3, 30).await, None);
    let disabled = User { disabled_at: Some(at(100)), ..alice.clone() };
    store.update_user(&disabled, false, &entry("user.change", None)).await.expect("changes");
    store.update_user(&alice, false, &entry("user.change", None)).await.expect("changes");
    assert_eq!(alive(&store, 4, 30).await, None, "a disabled user's sessions do not come back");

    store.create_session(&session(5, &alice), &entry("session.create", None)).await.expect("begins");
    store.set_password(alice.id, "$new", &entry("user.password", None)).await.expect("changes");
    assert_eq!(alive(&store, 5, 30).await, None, "another password ends all sessions");
    store.create_session(&session(6, &alice), &entry("session.create", None)).await.expect("begins");
    store.update_user(&alice, true, &entry("user.change", None)).await.expect("ends");
    store.create_session(&session(7, &alice), &entry("session.create", None)).await.expect("begins");
    store.prune_sessions(at(36_000)).await.expect("prunes");
    assert_eq!(fresh.raw().await.count("SELECT COUNT(*) FROM sessions").await, 0);
}

async fn api_tokens_end(fresh: Fresh) {
    let store = fresh.open().await;
    make_tenant(&store, 1).await;
    let alice = user(1);
    store.create_user(&alice, &entry("user.create", None)).await.expect("a new user");
    let token = |n: u8| ApiToken {
        id: ApiTokenId::from_bytes([n; 16]),
        user: alice.id,
        label: "nightly \u{2713}".into(),
        digest: digest(n),
        role: Role::Viewer,
        tenant: (n == 1).then(|| tenant_id(1)),
        created_at: at(0),
        expires_at: at(500),
        used_at: None,
        revoked_at: None,
    };
    for n in 1..=3 {
        store.create_api_token(&token(n), &entry("api-token.create", None)).await.expect("a new token");
    }
    let find = async |n: u8, seconds: i64| {
        let fits = |stored: &Digest| *stored == digest(n);
        store
            .api_token(ApiTokenId::from_bytes([n; 16]), at(seconds), fits)
            .await
            .expect("reads")
            .map(|(t, _)| t)
    };
    assert_eq!(find(1, 10).await, Some(token(1)));
    assert_eq!(find(1, 10).await, Some(ApiToken { used_at: Some(at(10)), ..token(1) }));
    assert_eq!(find(1, 500).await, None, "expired");
    assert_eq!(find(9, 10).await, None, "unknown");
    let wrong = store.api_token(token(3).id, at(10), |_| false).await.expect("reads");
    assert_eq!(wrong, None, "the secret is another");

    store.revoke_api_token(token(2).id, &entry("api-token.revoke", None)).await.expect("revokes");
    assert_eq!(find(2, 10).await, None, "revoked");
    let all = store.api_tokens(Some(alice.id)).await.expect("reads");
    let revoked: Vec<_> = all.iter().map(|t| (t.used_at, t.revoked_at)).collect();
    assert_eq!(revoked, [(Some(at(10)), None), (None, Some(at(100))), (None, None)]);
    assert_eq!(store.api_tokens(Some(UserId::from_bytes([8; 16]))).await.expect("reads"), vec![]);
    let disabled = User { disabled_at: Some(at(100)), ..alice };
    store.update_user(&disabled, false, &entry("user.change", None)).await.expect("changes");
    assert_eq!(find(3, 10).await, None, "its user is disabled");
}

async fn the_setup_secret_works_once(fresh: Fresh) {
    let (a, b) = (fresh.open().await, fresh.open().await);
    assert!(a.offer_setup(&digest(1), at(0)).await.expect("writes"));
    assert!(b.offer_setup(&digest(2), at(1)).await.expect("writes"), "a later start prints another");
    let set_up = |store: &Store, n: u8, of: u8| {
        let store = store.clone();
        async move { store.set_up(&digest(n), &user(of), &entry("setup", None)).await }
    };
    assert!(matches!(set_up(&a, 1, 1).await, Err(PeopleError::SetupDone)), "the older secret is void");
    let (first, second) = tokio::join!(set_up(&a, 2, 1), set_up(&b, 2, 2));
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
    assert_eq!(a.users().await.expect("reads").len(), 1);
    assert!(matches!(set_up(&a, 2, 3).await, Err(PeopleError::SetupDone)));
    assert!(!a.offer_setup(&digest(3), at(2)).await.expect("reads"), "there is an administrator");
    assert_eq!(audit_count(&a).await, 1);
}

async fn settings_are_kept(fresh: Fresh) {
    let store = fresh.open().await;
    assert_eq!(store.setting("motd").await.expect("reads"), None);
    for value in ["a", "b"] {
        store.set_setting("motd", value, &entry("setting.set", None)).await.expect("writes");
    }
    assert_eq!(store.setting("motd").await.expect("reads").as_deref(), Some("b"));
    assert_eq!(audit_count(&store).await, 2);
}
