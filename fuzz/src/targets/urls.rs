//! Where databases and Redis are, with names and passwords in it.

use std::fmt::Write as _;

use arbitrary::{Result, Unstructured};
use keygate::config::{DatabaseUrl, RedisUrl};
use secrecy::ExposeSecret;

pub(crate) fn run(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        let _ = RedisUrl::parse(text).map(|(url, _)| format!("{url} {url:?}"));
        let _ = text.parse::<DatabaseUrl>().map(|url| format!("{url} {url:?}"));
    }
    let _ = encoded(&mut Unstructured::new(data));
}

fn encoded(input: &mut Unstructured<'_>) -> Result<()> {
    let (user, word): (String, String) = (input.arbitrary()?, input.arbitrary()?);
    let user = format!("u{user}");
    // Something that is in no URL by chance.
    let password = format!("pa55w0rd-{word}");
    let login = format!("{}:{}", percent(&user), percent(&password));

    let (url, _) = RedisUrl::parse(&format!("redis://{login}@127.0.0.1:6379/3"))
        .unwrap_or_else(|error| panic!("{login:?} is refused: {error}"));
    assert_eq!(url.login.user.as_deref(), Some(user.as_str()));
    let read = url.login.password.as_ref().map(|it| it.expose_secret().to_owned());
    assert_eq!(read.as_deref(), Some(password.as_str()));
    assert_eq!((url.servers.as_slice(), url.database), (&[("127.0.0.1".to_owned(), 6379)][..], 3));
    hides(&format!("{url} {url:?}"));

    let text = format!("postgres://{login}@127.0.0.1:5432/keygate");
    match text.parse::<DatabaseUrl>() {
        Ok(DatabaseUrl::Postgres(config)) => {
            assert_eq!(config.connect_options().get_username(), user);
            hides(&format!("{config} {config:?}"));
        }
        Ok(DatabaseUrl::Sqlite(_)) => panic!("another database"),
        Err(error) => panic!("{login:?} is refused: {error}"),
    }
    // A mistake in it does not show it either.
    let broken = format!("redis://{login}@127.0.0.1:99999");
    hides(&RedisUrl::parse(&broken).expect_err("no such port").to_string());
    let broken = format!("postgres://{login}@127.0.0.1:99999/x");
    if let Err(error) = broken.parse::<DatabaseUrl>() {
        hides(&error.to_string());
    }
    Ok(())
}

fn hides(shown: &str) {
    assert!(!shown.contains("pa55w0rd"), "a password is shown: {shown}");
}

/// Every byte but letters and digits (RFC 3986, section 2.1).
fn percent(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
