//! Which URLs are taken, and what is said of the others.

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::{RedisLogin, RedisUrl, Topology};

fn parsed(url: &str) -> (RedisUrl, bool) {
    RedisUrl::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"))
}

fn login(user: Option<&str>, password: &str) -> RedisLogin {
    RedisLogin { user: user.map(str::to_owned), password: Some(password.into()) }
}

#[test]
fn every_form_is_taken() {
    let (url, secure) = parsed("redis://cache");
    assert_eq!((url.topology, url.database, secure), (Topology::Single, 0, false));
    assert_eq!(url.servers, [("cache".to_owned(), 6379)]);
    assert_eq!(url.login, RedisLogin::default());

    let (url, secure) = parsed("rediss://keygate:p%40ss%2Fw%C3%B6rd@10.0.0.1:7000/3");
    assert!(secure);
    assert_eq!(url.servers, [("10.0.0.1".to_owned(), 7000)]);
    assert_eq!((url.login, url.database), (login(Some("keygate"), "p@ss/wörd"), 3));

    let (url, _) = parsed("redis://:a@b@[::1]:7/");
    assert_eq!(url.servers, [("::1".to_owned(), 7)]);
    assert_eq!(url.login, login(None, "a@b"));

    let (url, _) = parsed(
        "redis+sentinel://:data@a,b:7,[fe80::1]/main/2?sentinel_user=s&sentinel_password=w%26",
    );
    let service = "main".to_owned();
    assert_eq!(url.topology, Topology::Sentinel { service, login: login(Some("s"), "w&") });
    assert_eq!((url.login, url.database), (login(None, "data"), 2));
    let ports: Vec<_> = url.servers.iter().map(|(_, port)| *port).collect();
    assert_eq!(ports, [26379, 7, 26379]);

    let (url, secure) = parsed("rediss+cluster://u:p@a:1,b:2,c");
    assert!(secure);
    assert_eq!(url.topology, Topology::Cluster);
    assert_eq!(url.servers.len(), 3);
}

#[test]
fn another_form_is_refused_with_the_right_ones_and_without_what_was_written() {
    for url in [
        "canary",
        "http://canary",
        "redis+canary://a",
        "redis://",
        "redis://:canary@",
        "redis://:canary@a:0",
        "redis://:canary@a:70000",
        "redis://:canary@a:canary",
        "redis://canary@a",
        "redis://:canary@a,b",
        "redis://:canary@a/x",
        "redis://:canary@a/1/2",
        "redis://:can#ary@a",
        "redis://:can?ary@a",
        "redis://a?db=canary",
        "redis://:canary%4@a",
        "redis://:canary%ff@a",
        "redis://[canary]",
        "redis://[::1",
        "redis+sentinel://:canary@a",
        "redis+sentinel://a/main?canary=1",
        "redis+sentinel://a/main/canary",
        "redis+cluster://:canary@a/1",
    ] {
        let error = RedisUrl::parse(url).expect_err(url).to_string();
        assert!(error.starts_with("KEYGATE_REDIS_URL: "), "{error}");
        assert!(error.contains("redis+sentinel://[USER:PASSWORD@]HOST"), "{error}");
        assert!(!error.contains("canary"), "{url}: {error}");
    }
}

#[test]
fn what_is_logged_has_no_password() {
    for url in ["redis://u:canary@a/1", "redis+sentinel://a/m?sentinel_password=canary"] {
        let (url, _) = parsed(url);
        assert!(!format!("{url} {url:?}").contains("canary"), "{url:?}");
    }
    let (url, _) = parsed("redis+sentinel://u:canary@a,b:1/main");
    assert_eq!(url.to_string(), "main of Sentinels a:26379,b:1");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,60}", scheme in "redis|rediss|redis\\+sentinel|redis\\+cluster") {
        let _ = RedisUrl::parse(&text);
        let _ = RedisUrl::parse(&format!("{scheme}://{text}"));
    }

    #[test]
    fn any_password_can_be_written(password in "\\PC{1,30}") {
        let encoded = password.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02X}"));
        let (url, _) = parsed(&format!("redis://:{encoded}@a"));
        let found = url.login.password.expect("a password");
        prop_assert_eq!(found.expose_secret(), password);
    }
}
