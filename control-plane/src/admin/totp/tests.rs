//! The life of a second factor, as an administrator meets it.

use axum::{body::Body, http::Request};
use edge_protocol::Deployment;

use crate::{
    admin::tests::call,
    clock::Clock,
    config::{Config, SecretKey, TestKeys},
    testing::{Answer, Database, TestService, config, send},
    totp::code_at,
};

const PATH: &str = "/api/v1/admin/totp";
const KEYS: &str = "/api/v1/admin/api-keys/";

fn with_code(mut request: Request<Body>, code: &str) -> Request<Body> {
    request.headers_mut().append("x-keygate-totp", code.parse().expect("a value"));
    request
}

async fn create(it: &TestService, key: &str, code: Option<&str>) -> Answer {
    let request = call("POST", KEYS, key, Some(r#"{"name":"a"}"#));
    let request = match code {
        Some(code) => with_code(request, code),
        None => request,
    };
    send(&it.admin, request).await
}

async fn enrol(it: &TestService, key: &str) -> Answer {
    send(&it.admin, call("POST", &format!("{PATH}/enrol"), key, None)).await
}

async fn verify(it: &TestService, key: &str, code: &str) -> Answer {
    let body = serde_json::json!({ "code": code }).to_string();
    send(&it.admin, call("POST", &format!("{PATH}/verify"), key, Some(&body))).await
}

async fn state(it: &TestService, key: &str) -> String {
    let answer = send(&it.admin, call("GET", PATH, key, None)).await;
    answer.json()["state"].as_str().expect("a state").to_owned()
}

/// What was shown to someone who enrolled, and confirmed it.
struct Enrolled {
    secret: String,
    recovery: Vec<String>,
}

impl Enrolled {
    async fn new(it: &TestService, key: &str) -> Self {
        let shown = enrol(it, key).await;
        assert_eq!(shown.status, 200);
        assert_eq!(shown.header("cache-control"), Some("no-store"));
        let shown = shown.json();
        let secret = shown["secret"].as_str().expect("a secret").to_owned();
        let uri = shown["otpauth_uri"].as_str().expect("a URI");
        assert!(uri.starts_with("otpauth://totp/Keygate:") && uri.contains(&secret), "{uri}");
        let recovery = shown["recovery_codes"].as_array().expect("codes");
        let text = |code: &serde_json::Value| code.as_str().expect("text").to_owned();
        let enrolled = Self { secret, recovery: recovery.iter().map(text).collect() };
        assert_eq!(state(it, key).await, "pending");
        let confirmed = verify(it, key, &enrolled.code(it)).await;
        assert_eq!(confirmed.json()["state"], "active", "{confirmed:?}");
        enrolled
    }

    fn code(&self, it: &TestService) -> String {
        code_at(&self.secret, it.clock.now())
    }

    /// The code of the next step.
    fn next_code(&self, it: &TestService) -> String {
        it.clock.advance_ms(30_000);
        self.code(it)
    }

    /// Six digits that are right at no time near.
    fn wrong_code(&self, it: &TestService) -> String {
        let near: Vec<_> = (-3..=3)
            .map(|step| it.clock.now() + jiff::SignedDuration::from_secs(30 * step))
            .map(|at| code_at(&self.secret, at))
            .collect();
        let wrong = (0..100).map(|number| format!("{number:06}")).find(|code| !near.contains(code));
        wrong.expect("one of a hundred")
    }
}

async fn reasons(it: &TestService) -> Vec<String> {
    let audit = it.audit().await;
    let denied = audit.into_iter().filter(|(event, _)| event == "TOTP_DENIED");
    denied
        .map(|(_, details)| {
            let reason = details.split(' ').find(|word| word.starts_with("reason="));
            reason.expect("a reason").to_owned()
        })
        .collect()
}

#[tokio::test]
async fn a_key_with_a_second_factor_needs_it_for_every_change_and_for_nothing_else() {
    let it = TestService::start().await;
    let (admin, key) = it.issue_admin().await;
    assert_eq!(create(&it, &key, None).await.status, 201);
    assert_eq!(state(&it, &key).await, "none");
    let factor = Enrolled::new(&it, &key).await;

    let refused = create(&it, &key, None).await;
    assert_eq!(refused.problem(), (403, "totp_required".to_owned()));
    let revoke = call("DELETE", &format!("{KEYS}{}", admin.key_id), &key, None);
    assert_eq!(send(&it.admin, revoke).await.problem(), (403, "totp_required".to_owned()));
    assert_eq!(send(&it.admin, call("GET", KEYS, &key, None)).await.status, 200);
    let dry_run = call("POST", &format!("{KEYS}check-policy"), &key, Some(r#"{"api_key":"a"}"#));
    assert_eq!(send(&it.admin, dry_run).await.status, 200);
    let code = factor.next_code(&it);
    assert_eq!(create(&it, &key, Some(&code)).await.status, 201);
    // Another admin key has a factor of its own, or none.
    let (_, other) = it.issue_admin().await;
    assert_eq!(create(&it, &other, None).await.status, 201);

    // The first of a minute is an entry, the other one is counted.
    assert_eq!(reasons(&it).await, ["reason=missing_code"]);
    let rest = it.service.admin_denials.rest(it.clock.now());
    assert!(rest[0].event.details.ends_with("reason=missing_code more_in_that_minute=1"));
    let audit = it.audit().await;
    let denied = audit.iter().find(|(event, _)| event == "TOTP_DENIED").expect("an entry");
    let expected = format!(
        "actor={} client_ip=192.0.2.7 reason=missing_code method=POST route={KEYS}",
        admin.key_id
    );
    assert_eq!(denied.1, expected);
    let enrolled = audit.iter().find(|(event, _)| event == "TOTP_ENROLLED").expect("an entry");
    assert!(enrolled.1.ends_with("recovery_codes=10"), "{}", enrolled.1);
}

#[tokio::test]
async fn a_code_is_good_once_and_only_near_its_time() {
    let it = TestService::start().await;
    let (_, key) = it.issue_admin().await;
    let factor = Enrolled::new(&it, &key).await;
    let invalid = (403, "totp_invalid".to_owned());
    // The code that confirmed the factor is used up, too.
    let first = factor.code(&it);
    assert_eq!(create(&it, &key, Some(&first)).await.problem(), invalid);
    let next = factor.next_code(&it);
    assert_eq!(create(&it, &key, Some(&next)).await.status, 201);
    assert_eq!(create(&it, &key, Some(&next)).await.problem(), invalid);
    // An earlier step is no better after a later one, though its time has not quite passed.
    assert_eq!(create(&it, &key, Some(&first)).await.problem(), invalid);
    it.clock.advance_ms(10 * 60_000);
    assert_eq!(create(&it, &key, Some(&next)).await.problem(), invalid);
    let twice = with_code(call("DELETE", PATH, &key, None), &factor.code(&it));
    let twice = with_code(twice, &factor.code(&it));
    assert_eq!(send(&it.admin, twice).await.problem(), invalid);
    for malformed in ["", "12345", "what", &"1".repeat(500)] {
        assert_eq!(create(&it, &key, Some(malformed)).await.problem(), invalid);
    }
    assert_eq!(create(&it, &key, Some(&factor.code(&it))).await.status, 201);
    let expected = ["used_code", "used_code", "used_code", "wrong_code"].into_iter();
    // Those without a look are counted after the first.
    let expected = expected.chain(["malformed_code"]).map(|it| format!("reason={it}"));
    assert_eq!(reasons(&it).await, expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_recovery_code_stands_in_once() {
    let it = TestService::start().await;
    let (_, key) = it.issue_admin().await;
    let factor = Enrolled::new(&it, &key).await;
    let code = factor.recovery[3].to_uppercase();
    assert_eq!(create(&it, &key, Some(&code)).await.status, 201);
    assert_eq!(create(&it, &key, Some(&code)).await.problem(), (403, "totp_invalid".to_owned()));
    let shown = send(&it.admin, call("GET", PATH, &key, None)).await.json();
    assert_eq!(shown["recovery_codes_left"], 9);
    let audit = it.audit().await;
    let used: Vec<_> = audit.iter().filter(|(event, _)| event == "TOTP_RECOVERY_USED").collect();
    assert_eq!(used.len(), 1);
    assert!(used[0].1.ends_with("recovery_codes=9"), "{}", used[0].1);
    // It also takes away a factor whose authenticator is lost.
    let disable = with_code(call("DELETE", PATH, &key, None), &factor.recovery[0]);
    assert_eq!(send(&it.admin, disable).await.json()["state"], "none");
    assert_eq!(create(&it, &key, None).await.status, 201);
    assert_eq!(it.audit().await.iter().filter(|(event, _)| event == "TOTP_DISABLED").count(), 1);
}

#[tokio::test]
async fn guesses_are_slowed_down_and_then_stopped() {
    let it = TestService::start().await;
    let (_, key) = it.issue_admin().await;
    let factor = Enrolled::new(&it, &key).await;
    for guess in 0..100 {
        if guess > 0 && guess % 5 == 0 {
            let slowed = create(&it, &key, Some(&factor.code(&it))).await;
            assert_eq!(slowed.problem(), (429, "totp_too_many_attempts".to_owned()));
            assert_eq!(slowed.header("retry-after"), Some("61"));
            it.clock.advance_ms(61_000);
        }
        let wrong = factor.wrong_code(&it);
        let answer = create(&it, &key, Some(&wrong)).await;
        assert_eq!(answer.problem(), (403, "totp_invalid".to_owned()), "{guess}");
    }
    it.clock.advance_ms(61_000);
    let right = create(&it, &key, Some(&factor.code(&it))).await;
    assert_eq!(right.problem(), (403, "totp_locked".to_owned()));
    assert_eq!(create(&it, &key, Some(&factor.recovery[0])).await.status, 201);
    assert_eq!(create(&it, &key, Some(&factor.next_code(&it))).await.status, 201);
}

#[tokio::test]
async fn a_factor_in_force_is_neither_replaced_nor_taken_away_without_a_code() {
    let it = TestService::start().await;
    let (_, key) = it.issue_admin().await;
    let conflict = (409, "totp_conflict".to_owned());
    assert_eq!(verify(&it, &key, "123456").await.problem(), conflict);
    // One that waits is replaced, and goes without a code.
    let first = enrol(&it, &key).await.json();
    assert_ne!(enrol(&it, &key).await.json()["secret"], first["secret"]);
    let disable = || call("DELETE", PATH, &key, None);
    assert_eq!(send(&it.admin, disable()).await.json()["state"], "none");

    let factor = Enrolled::new(&it, &key).await;
    assert_eq!(enrol(&it, &key).await.problem(), conflict);
    assert_eq!(verify(&it, &key, &factor.next_code(&it)).await.problem(), conflict);
    assert_eq!(send(&it.admin, disable()).await.problem(), (403, "totp_required".to_owned()));
    assert_eq!(state(&it, &key).await, "active");
    let with = with_code(disable(), &factor.code(&it));
    assert_eq!(send(&it.admin, with).await.json()["state"], "none");
    for body in
        [r#"{"code":"12345"}"#, r#"{"code":"abcd-efgh-jkmn-pqrs"}"#, r#"{"code":"123 456"}"#]
    {
        let answer =
            send(&it.admin, call("POST", &format!("{PATH}/verify"), &key, Some(body))).await;
        assert_eq!(answer.problem(), (422, "invalid_fields".to_owned()));
    }
}

#[tokio::test]
async fn a_wrong_first_code_puts_nothing_in_force_and_is_counted() {
    let it = TestService::start().await;
    let (_, key) = it.issue_admin().await;
    let shown = enrol(&it, &key).await.json();
    let secret = shown["secret"].as_str().expect("a secret").to_owned();
    let factor = Enrolled { secret, recovery: Vec::new() };
    for _ in 0..5 {
        let answer = verify(&it, &key, &factor.wrong_code(&it)).await;
        assert_eq!(answer.problem(), (403, "totp_invalid".to_owned()));
    }
    let slowed = verify(&it, &key, &factor.code(&it)).await;
    assert_eq!(slowed.problem(), (429, "totp_too_many_attempts".to_owned()));
    assert_eq!(create(&it, &key, None).await.status, 201);
    it.clock.advance_ms(60_000);
    assert_eq!(verify(&it, &key, &factor.code(&it)).await.status, 200);
    assert_eq!(reasons(&it).await, ["reason=wrong_code", "reason=too_many_attempts"]);
    let due = it.service.admin_denials.due(it.clock.now());
    assert!(due[0].event.details.ends_with("reason=wrong_code more_in_that_minute=4"));
}

#[tokio::test]
async fn where_it_is_required_a_key_without_one_can_read_and_enrol_only() {
    let database = Database::new().await;
    let strict = Config { require_totp: true, ..config(&database, Deployment::Production) };
    let it = TestService::start_on(database, strict, TestKeys::Off).await;
    let (_, key) = it.issue_admin().await;
    let refused = create(&it, &key, Some("123456")).await;
    assert_eq!(refused.problem(), (403, "totp_required".to_owned()));
    assert!(refused.json()["detail"].as_str().is_some_and(|text| text.contains("enrol")));
    assert_eq!(send(&it.admin, call("GET", KEYS, &key, None)).await.status, 200);
    let factor = Enrolled::new(&it, &key).await;
    assert_eq!(create(&it, &key, Some(&factor.next_code(&it))).await.status, 201);
    assert_eq!(reasons(&it).await, ["reason=not_enrolled"]);
}

#[tokio::test]
async fn a_factor_outlives_a_change_of_the_secret_key() {
    let it = TestService::start().await;
    let (_, key) = it.issue_admin().await;
    let factor = Enrolled::new(&it, &key).await;
    let database = it.stop().await;
    let old = config(&database, Deployment::Production);
    let new = || Some(SecretKey::from_random([0x3a; 32]));
    let rotating = Config {
        secret_key: new(),
        previous_secret_key: old.secret_key.clone(),
        ..config(&database, Deployment::Production)
    };
    let it = TestService::start_on(database, rotating, TestKeys::Off).await;
    assert_eq!(create(&it, &key, Some(&factor.next_code(&it))).await.status, 201);
    let kept = it.service.store.factors().await.expect("read");
    let current = it.service.store.setting(crate::store::credentials::SECRET_NAME).await;
    assert_eq!(Some(kept[0].1.sealed.with.to_string()), current.expect("read"));
    // The recovery codes are those that were shown.
    assert_eq!(create(&it, &key, Some(&factor.recovery[0])).await.status, 201);
}

#[tokio::test]
async fn neither_secret_nor_codes_are_anywhere_in_the_database() {
    let it = TestService::start().await;
    let (_, key) = it.issue_admin().await;
    let factor = Enrolled::new(&it, &key).await;
    assert_eq!(create(&it, &key, Some(&factor.recovery[0])).await.status, 201);
    let raw = totp_rs::Secret::try_from_base32(&factor.secret).expect("base 32");
    let folder = it.stop().await.folder;
    for entry in std::fs::read_dir(folder.path()).expect("a folder") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("a file");
        let mut needles = vec![factor.secret.as_bytes().to_vec(), raw.as_bytes().to_vec()];
        for code in &factor.recovery {
            needles.extend([code.clone().into_bytes(), code.replace('-', "").into_bytes()]);
        }
        for needle in needles {
            assert!(!bytes.windows(needle.len()).any(|window| window == needle));
        }
    }
}

#[tokio::test]
async fn a_flood_of_codes_leaves_a_few_rows_and_loses_none() {
    let it = TestService::start().await;
    let (_, key) = it.issue_admin().await;
    let factor = Enrolled::new(&it, &key).await;
    it.clock.advance_ms(120_000);
    let wrong = factor.wrong_code(&it);
    for _ in 0..50 {
        create(&it, &key, Some(&wrong)).await;
    }
    let expected = ["wrong_code"; 5].into_iter().chain(["too_many_attempts"]);
    let expected: Vec<_> = expected.map(|it| format!("reason={it}")).collect();
    assert_eq!(reasons(&it).await, expected);
    it.clock.advance_ms(60_000);
    let due = it.service.admin_denials.due(it.clock.now());
    assert!(due[0].event.details.ends_with("reason=too_many_attempts more_in_that_minute=44"));
}
