//! Where settings come from, and which are refused.

use edge_protocol::Deployment;
use proptest::prelude::*;
use std::collections::HashMap;

use super::{
    Config, ConfigError, DatabaseUrl, Flags, LogFormat, ServeConfig, Settings, TestKeys, load,
    sources::NAMES,
};

const KEY: &str = "3f9a1c77e0d25b8846f1029c6be87d145aa3c2e9178f604db35e7891f2ac0d66";
const TOKEN: &str = "0123456789abcdef0123";

fn from(flags: &Flags, variables: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    load(flags, false, &|name| variables.get(name).map(|value| (*value).into()))
}

fn with(variables: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    from(&Flags::default(), variables)
}

fn toml(text: &str) -> (tempfile::TempDir, Flags) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keygate.toml");
    std::fs::write(&file, text).expect("written");
    (folder, Flags { config: Some(file), ..Flags::default() })
}

fn config(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::new(&with(variables).expect("settings"))
}

/// What `serve` makes of it.
fn serve(variables: &[(&str, &str)]) -> Result<ServeConfig, ConfigError> {
    let settings = with(variables).expect("settings");
    ServeConfig::new(&settings, &Config::new(&settings)?)
}

fn refused<T>(result: Result<T, ConfigError>) -> String {
    // With all that is behind it, as it is printed.
    format!("{:#}", anyhow::Error::from(result.err().expect("refused")))
}

#[test]
fn a_forgotten_setting_is_the_safe_one() {
    let settings = with(&[]).expect("defaults");
    assert_eq!(settings.listen, "127.0.0.1:8080");
    assert_eq!(settings.edge_listen, "127.0.0.1:8081");
    assert_eq!(settings.environment, Deployment::Production);
    assert_eq!(settings.log_format, LogFormat::Text);
    assert!(!settings.migrate);
    let config = Config::new(&settings).expect("config");
    assert_eq!(config.database, DatabaseUrl::Sqlite("keygate.db".into()));
    assert_eq!(config.test_keys(&settings), TestKeys::Off);
}

#[test]
fn flags_win_over_the_file_and_the_file_over_variables() {
    let (_folder, mut flags) = toml("listen = '127.0.0.1:2'\nlog = 'debug'\nmigrate = true");
    flags.log = Some("trace".to_owned());
    let variables = [
        ("KEYGATE_LISTEN", "127.0.0.1:1"),
        ("KEYGATE_EDGE_LISTEN", "127.0.0.1:9"),
        ("KEYGATE_LOG", "warn"),
    ];
    let settings = from(&flags, &variables).expect("settings");
    assert_eq!(settings.listen, "127.0.0.1:2");
    assert_eq!(settings.edge_listen, "127.0.0.1:9");
    assert_eq!(settings.log.as_deref(), Some("trace"));
    assert!(settings.migrate);
}

#[test]
fn the_file_may_be_named_by_a_variable() {
    let (_folder, flags) = toml("key_prefix = 'acme'");
    let file = flags.config.expect("a file");
    let settings = with(&[("KEYGATE_CONFIG", file.to_str().expect("text"))]).expect("settings");
    assert_eq!(settings.key_prefix, "acme");
    let missing = refused(with(&[("KEYGATE_CONFIG", "/nowhere/keygate.toml")]));
    assert!(missing.contains("/nowhere/keygate.toml"), "{missing}");
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let settings =
        with(&[("KEYGATE_LISTEN", ""), ("KEYGATE_SECRET_KEY", ""), ("KEYGATE_CONFIG", "")]);
    let settings = settings.expect("settings");
    assert_eq!(settings.listen, "127.0.0.1:8080");
    assert!(settings.secret_key.is_none());
}

#[test]
fn what_is_wrong_is_said_with_where_it_came_from() {
    let text = refused(with(&[("KEYGATE_ENVIRONMENT", "prod")]));
    assert!(text.contains("KEYGATE_ENVIRONMENT") && text.contains("production"), "{text}");
    let text = refused(with(&[("KEYGATE_ENABLE_TEST_API_KEYS", "maybe")]));
    assert!(
        text.contains("KEYGATE_ENABLE_TEST_API_KEYS") && text.contains("true or false"),
        "{text}"
    );

    let (_folder, flags) = toml("environment = 'prod'");
    let text = refused(from(&flags, &[]));
    assert!(text.contains("keygate.toml") && text.contains("environment"), "{text}");
    let flags = Flags { deployment: Some("prod".to_owned()), ..Flags::default() };
    let text = refused(from(&flags, &[]));
    assert!(text.contains("--deployment"), "{text}");
}

#[test]
fn a_setting_that_does_not_exist_is_refused_in_the_file() {
    let (_folder, flags) = toml("listen_on = '127.0.0.1:1'");
    let text = refused(from(&flags, &[]));
    assert!(text.contains("listen_on") && text.contains("keygate.toml"), "{text}");
}

#[test]
fn no_error_shows_a_secret() {
    const CANARY: &str = "canary";
    for text in [
        "secret_key = 'canary'\nlisten_on = 1",
        "secret_key = canary",
        "secret_key = 'canary\nlisten = 'x'",
        "edge_token = { canary = 1 }",
    ] {
        let (_folder, flags) = toml(text);
        let error = refused(from(&flags, &[]));
        assert!(!error.replace("keygate.toml", "").contains(CANARY), "{error}");
    }
    let (_folder, flags) = toml("secret_key = 1234567");
    let error = refused(from(&flags, &[]));
    assert!(!error.contains("1234567") && error.contains("secret_key"), "{error}");

    let secrets = [
        ("KEYGATE_SECRET_KEY", "canary"),
        ("KEYGATE_EDGE_TOKEN", "canary"),
        ("KEYGATE_REDIS_URL", "redis://:canary@x"),
    ];
    let settings = with(&secrets).expect("settings");
    assert!(!format!("{settings:?}").contains(CANARY), "{settings:?}");
    assert!(!refused(Config::new(&settings)).contains(CANARY));
    for secret in &secrets[..2] {
        assert!(!refused(serve(&[*secret])).contains(CANARY));
    }
    let url = refused(config(&[("KEYGATE_DATABASE_URL", "postgres://user:canary@db")]));
    assert!(!url.contains(CANARY), "{url}");
}

#[test]
fn a_place_or_a_prefix_of_another_form_is_refused() {
    for url in
        ["mysql://db", "keygate.db", "sqlite://", "sqlite://:memory:", "sqlite://a.db?mode=ro"]
    {
        assert!(refused(config(&[("KEYGATE_DATABASE_URL", url)])).contains("KEYGATE_DATABASE_URL"));
    }
    assert!(refused(config(&[("KEYGATE_KEY_PREFIX", "KG")])).contains("KEYGATE_KEY_PREFIX"));
}

#[test]
fn production_needs_a_strong_secret_key_and_takes_no_short_token() {
    let good = serve(&[("KEYGATE_SECRET_KEY", KEY), ("KEYGATE_EDGE_TOKEN", TOKEN)]).expect("good");
    assert!(good.edge_token.is_some());

    let text = refused(serve(&[("KEYGATE_EDGE_TOKEN", TOKEN)]));
    assert!(text.contains("KEYGATE_SECRET_KEY") && text.contains("openssl rand -hex 32"), "{text}");
    let zeros = "0".repeat(64);
    for weak in [zeros.as_str(), "deadbeef", "changeme"] {
        let text = refused(serve(&[("KEYGATE_SECRET_KEY", weak), ("KEYGATE_EDGE_TOKEN", TOKEN)]));
        assert!(
            text.contains("KEYGATE_SECRET_KEY") && text.contains("openssl rand -hex 32"),
            "{text}"
        );
    }
    let text = refused(serve(&[("KEYGATE_SECRET_KEY", KEY), ("KEYGATE_EDGE_TOKEN", "short")]));
    assert!(text.contains("16 characters"), "{text}");
}

#[test]
fn a_blank_secret_counts_as_not_set_wherever_it_is_written() {
    for blank in ["", "  "] {
        let (_folder, flags) = toml(&format!(
            "environment = 'development'\nedge_token = '{blank}'\nsecret_key = '{blank}'"
        ));
        let settings = from(&flags, &[]).expect("settings");
        let config = Config::new(&settings).expect("config");
        assert!(config.secret_key.is_none());
        assert!(ServeConfig::new(&settings, &config).expect("good").edge_token.is_none());
    }
}

#[test]
fn production_takes_no_token_of_one_character_over_and_over() {
    let token = "a".repeat(32);
    let text = refused(serve(&[("KEYGATE_SECRET_KEY", KEY), ("KEYGATE_EDGE_TOKEN", &token)]));
    assert!(text.contains("KEYGATE_EDGE_TOKEN") && !text.contains(&token), "{text}");
}

#[test]
fn outside_production_both_may_be_missing() {
    let loose = serve(&[("KEYGATE_ENVIRONMENT", "development")]).expect("good");
    assert!(loose.edge_token.is_none());
    // But what is set must still be a key.
    let text = refused(config(&[("KEYGATE_ENVIRONMENT", "testing"), ("KEYGATE_SECRET_KEY", "ab")]));
    assert!(text.contains("32 bytes"), "{text}");
}

#[test]
fn secrets_may_come_from_files_but_not_from_two_places() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("key");
    std::fs::write(&file, format!("{KEY}\n")).expect("written");
    let name = file.to_str().expect("text");
    let from_file = config(&[("KEYGATE_SECRET_KEY_FILE", name)]).expect("a key");
    let direct = config(&[("KEYGATE_SECRET_KEY", KEY)]).expect("a key");
    assert_eq!(
        from_file.secret_key.expect("a key").expose(),
        direct.secret_key.expect("a key").expose()
    );
    let text = refused(config(&[("KEYGATE_SECRET_KEY", KEY), ("KEYGATE_SECRET_KEY_FILE", name)]));
    assert!(text.contains("only one"), "{text}");
    let text = refused(config(&[("KEYGATE_SECRET_KEY_FILE", "/nowhere/key")]));
    assert!(text.contains("/nowhere/key"), "{text}");
}

#[test]
fn a_database_url_hides_its_password_wherever_it_comes_from() {
    let url = "postgres://app:hush-hush@db.example:6432/keys?sslmode=verify-full";
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("url");
    std::fs::write(&file, url).expect("written");
    for variables in [
        [("KEYGATE_DATABASE_URL", url)],
        [("KEYGATE_DATABASE_URL_FILE", file.to_str().expect("text"))],
    ] {
        let settings = with(&variables).expect("settings");
        let database = Config::new(&settings).expect("config").database;
        assert_eq!(database.to_string(), "postgres://app@db.example:6432/keys");
        let DatabaseUrl::Postgres(config) = &database else { panic!("{database:?}") };
        assert!(!config.is_exposed());
        for shown in [format!("{settings:?}"), format!("{database:?}"), format!("{config}")] {
            assert!(!shown.contains("hush"), "{shown}");
        }
    }
    for wrong in [
        "postgres://app:hush-hush@db",
        "postgres://app:hush-hush@db/k?sslmode=no",
        "postgres://a:hush-hush@[/",
    ] {
        let text = refused(config(&[("KEYGATE_DATABASE_URL", wrong)]));
        assert!(text.contains("KEYGATE_DATABASE_URL") && !text.contains("hush"), "{text}");
    }
}

#[test]
fn what_goes_to_a_database_on_another_machine_is_to_be_sealed() {
    for (url, exposed) in [
        ("postgres://db.example/k", true),
        ("postgres://db.example/k?sslmode=require", true),
        ("postgres://db.example/k?sslmode=verify-ca", false),
        ("postgres://127.0.0.1/k", false),
        ("postgres://localhost/k", false),
        ("postgres://%2Frun%2Fpostgresql/k", false),
    ] {
        let database = config(&[("KEYGATE_DATABASE_URL", url)]).expect("good").database;
        let DatabaseUrl::Postgres(config) = database else { panic!("{url}") };
        assert_eq!(config.is_exposed(), exposed, "{url}");
    }
}

#[test]
fn connections_to_the_database_have_bounds() {
    let pool = |connections| {
        let url = ("KEYGATE_DATABASE_URL", "postgres://localhost/k");
        let more = ("KEYGATE_DATABASE_CONNECTIONS", connections);
        config(&[url, more]).map(|config| match config.database {
            DatabaseUrl::Postgres(config) => config.connections(),
            DatabaseUrl::Sqlite(_) => 0,
        })
    };
    assert_eq!(pool("").expect("the default"), 20);
    assert_eq!(pool("50").expect("the most"), 50);
    for wrong in ["0", "1", "51"] {
        assert!(refused(pool(wrong)).contains("KEYGATE_DATABASE_CONNECTIONS"));
    }
}

#[test]
fn test_keys_pass_only_outside_production() {
    let found = |environment, enable| {
        let settings =
            with(&[("KEYGATE_ENVIRONMENT", environment), ("KEYGATE_ENABLE_TEST_API_KEYS", enable)]);
        let settings = settings.expect("settings");
        Config::new(&settings).expect("config").test_keys(&settings)
    };
    assert_eq!(found("production", ""), TestKeys::Off);
    assert_eq!(found("production", "false"), TestKeys::Off);
    assert_eq!(found("production", "true"), TestKeys::RefusedInProduction);
    for environment in ["development", "testing", "staging"] {
        assert_eq!(found(environment, ""), TestKeys::On);
        assert_eq!(found(environment, "1"), TestKeys::On);
        assert_eq!(found(environment, "false"), TestKeys::Off);
    }
}

#[test]
fn the_two_listeners_have_addresses_of_their_own() {
    let text = refused(serve(&[
        ("KEYGATE_ENVIRONMENT", "testing"),
        ("KEYGATE_EDGE_LISTEN", "127.0.0.1:8080"),
    ]));
    assert!(text.contains("KEYGATE_EDGE_LISTEN"), "{text}");
    let text =
        refused(serve(&[("KEYGATE_ENVIRONMENT", "testing"), ("KEYGATE_LISTEN", "localhost")]));
    assert!(text.contains("KEYGATE_LISTEN"), "{text}");
}

/// What a mistake in the file is answered with: all settings that there are.
fn settings_of_the_file() -> String {
    let (_folder, flags) = toml("no_such_setting = 1");
    refused(from(&flags, &[]))
}

#[test]
fn every_setting_can_be_a_variable_too_and_the_help_names_it() {
    use clap::CommandFactory;

    let there_are = settings_of_the_file();
    let listed = there_are.split("there are ").nth(1).expect("a list");
    let listed = listed.split(" (in ").next().expect("a list").split(", ");
    let listed: std::collections::BTreeSet<_> = listed.collect();
    assert_eq!(listed, NAMES.iter().copied().collect());

    let mut cli = crate::cli::Cli::command();
    let help = cli.find_subcommand_mut("serve").expect("serve").render_long_help().to_string();
    let flags = crate::cli::Cli::command().render_long_help().to_string();
    for name in NAMES {
        let variable = format!("KEYGATE_{}", name.to_ascii_uppercase());
        let base = variable.trim_end_matches("_FILE");
        assert!(help.contains(base) || flags.contains(base), "{variable}");
    }
}

#[test]
fn production_takes_no_cheaper_hash_than_the_standard_one() {
    let cheaper = ("KEYGATE_PBKDF2_ITERATIONS", "99999");
    let text = refused(config(&[cheaper]));
    assert!(text.contains("KEYGATE_PBKDF2_ITERATIONS") && text.contains("100000"), "{text}");
    let testing = config(&[cheaper, ("KEYGATE_ENVIRONMENT", "testing")]).expect("config");
    assert_eq!(testing.iterations.get(), 99_999);
    assert_eq!(
        config(&[("KEYGATE_PBKDF2_ITERATIONS", "100_000")]).expect("config").iterations.get(),
        100_000
    );
}

#[test]
fn usage_is_kept_as_many_days_as_are_set() {
    const SETTING: &str = "KEYGATE_USAGE_RETENTION_DAYS";
    let days = |value: &str| config(&[(SETTING, value)]).map(|config| config.usage.retention_days);
    assert_eq!((days("").expect("good"), days("31").expect("good")), (400, 31));
    for bad in ["0", "36501"] {
        assert!(refused(days(bad)).contains(SETTING), "{bad}");
    }
}

proptest! {
    #[test]
    fn no_value_of_any_variable_makes_it_panic(name in 0..NAMES.len(), value in ".{0,60}") {
        let variable = format!("KEYGATE_{}", NAMES[name].to_ascii_uppercase());
        if let Ok(settings) = with(&[(&variable, &value)]) {
            let _ = Config::new(&settings).and_then(|config| ServeConfig::new(&settings, &config));
        }
    }
}
