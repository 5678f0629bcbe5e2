//! The settings as they are written, before they are checked.

use edge_protocol::Deployment;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, de};
use std::{fmt, path::PathBuf};

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// All settings. In the environment each has the prefix `KEYGATE_`, and is written in capitals.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the admin API, health and metrics listen.
    #[serde(default = "default_listen")]
    pub listen: String,
    /// Where filters call.
    #[serde(default = "default_edge_listen")]
    pub edge_listen: String,
    /// Where the database is, for `PostgreSQL` with a password if it asks for one;
    /// `sqlite://keygate.db` unless set.
    #[serde(default)]
    pub database_url: Option<SecretText>,
    /// A file that holds that URL.
    #[serde(default)]
    pub database_url_file: Option<PathBuf>,
    /// How many connections to `PostgreSQL` at most; 20 unless set.
    #[serde(default, deserialize_with = "number")]
    pub database_connections: Option<u32>,
    /// Where Redis is, for what several control planes share; none: each has its own memory.
    #[serde(default)]
    pub redis_url: Option<SecretText>,
    /// A file that holds that URL.
    #[serde(default)]
    pub redis_url_file: Option<PathBuf>,
    /// Who may sign Redis' certificates, in PEM; none: whom the system trusts.
    #[serde(default)]
    pub redis_ca_file: Option<PathBuf>,
    /// Our certificate for a Redis that asks for one, in PEM.
    #[serde(default)]
    pub redis_cert_file: Option<PathBuf>,
    /// Its private key, in PEM.
    #[serde(default)]
    pub redis_key_file: Option<PathBuf>,
    /// What kind of deployment this is.
    #[serde(default)]
    pub environment: Deployment,
    /// Whether keys of the test environment pass.
    #[serde(default, deserialize_with = "switch")]
    pub enable_test_api_keys: Option<bool>,
    /// 32 bytes, in hex or base64.
    #[serde(default)]
    pub secret_key: Option<SecretText>,
    /// A file that holds them.
    #[serde(default)]
    pub secret_key_file: Option<PathBuf>,
    /// The secret key before this one, while keys still depend on it.
    #[serde(default)]
    pub secret_key_previous: Option<SecretText>,
    /// A file that holds it.
    #[serde(default)]
    pub secret_key_previous_file: Option<PathBuf>,
    /// How many iterations of PBKDF2-HMAC-SHA256 a new key's hash takes; keys with fewer are
    /// hashed anew when they are used; 100000 unless set. At least that in production.
    #[serde(default, deserialize_with = "number")]
    pub pbkdf2_iterations: Option<u32>,
    /// 32 bytes, in hex or base64: the seed of the Ed25519 key that the audit log's checkpoints are
    /// signed with. Without one it is derived from the secret key.
    #[serde(default)]
    pub audit_signing_key: Option<SecretText>,
    /// A file that holds it.
    #[serde(default)]
    pub audit_signing_key_file: Option<PathBuf>,
    /// Public keys that the audit log's checkpoints were signed with before, separated by commas.
    #[serde(default)]
    pub audit_trusted_keys: Option<String>,
    /// How many minutes the audit log may grow without a signed checkpoint; 5 unless set.
    #[serde(default, deserialize_with = "number")]
    pub audit_checkpoint_minutes: Option<u32>,
    /// How many days audit rows are kept; 90 unless set.
    #[serde(default, deserialize_with = "number")]
    pub audit_retention_days: Option<u32>,
    /// Whether admin keys need a second factor to change something.
    #[serde(default, deserialize_with = "plain_switch")]
    pub require_totp: bool,
    /// How many days usage is kept; 400 unless set.
    #[serde(default, deserialize_with = "number")]
    pub usage_retention_days: Option<u32>,
    /// How many calls a minute one admin key may make; 600 unless set.
    #[serde(default, deserialize_with = "number")]
    pub admin_rate_limit: Option<u32>,
    /// How many refused admin calls a minute one address may make; 30 unless set.
    #[serde(default, deserialize_with = "number")]
    pub admin_failure_limit: Option<u32>,
    /// What filters show.
    #[serde(default)]
    pub edge_token: Option<SecretText>,
    /// A file that holds it.
    #[serde(default)]
    pub edge_token_file: Option<PathBuf>,
    /// The certificate of the admin listener and those between it and a root, in PEM. With it and
    /// its key the listener speaks TLS. Read again when it changes.
    #[serde(default)]
    pub tls_cert_file: Option<PathBuf>,
    /// The private key of the admin listener, in PEM.
    #[serde(default)]
    pub tls_key_file: Option<PathBuf>,
    /// The certificate of the listener for filters and those between it and a root, in PEM. Read
    /// again when it changes.
    #[serde(default)]
    pub edge_tls_cert_file: Option<PathBuf>,
    /// The private key of the listener for filters, in PEM.
    #[serde(default)]
    pub edge_tls_key_file: Option<PathBuf>,
    /// Who may sign the certificates of filters' Envoys, in PEM. With it every one of them has to
    /// show one, and `KEYGATE_EDGE_TOKEN` may be left out; when it is set as well, both are needed.
    #[serde(default)]
    pub edge_tls_client_ca_file: Option<PathBuf>,
    /// Whether to migrate the database before serving.
    #[serde(default, deserialize_with = "plain_switch")]
    pub migrate: bool,
    /// Which log lines are written, as a filter of the `tracing` crate; info unless set.
    #[serde(default)]
    pub log: Option<String>,
    /// How they are written.
    #[serde(default)]
    pub log_format: LogFormat,
    /// Where traces go: the base address of a collector that takes OTLP over HTTP.
    #[serde(default)]
    pub otlp_endpoint: Option<String>,
    /// The part of the requests that are traced, 0 to 1, where no caller has decided; 0.1 unless
    /// set.
    #[serde(default, deserialize_with = "number_text")]
    pub otlp_sample_ratio: Option<String>,
    /// Where errors and panics are reported: the DSN of a Sentry project.
    #[serde(default)]
    pub sentry_dsn: Option<SecretText>,
    /// A file that holds it.
    #[serde(default)]
    pub sentry_dsn_file: Option<PathBuf>,
    /// The word that our keys begin with.
    #[serde(default = "default_key_prefix")]
    pub key_prefix: String,
}

fn default_listen() -> String {
    "127.0.0.1:8080".to_owned()
}

fn default_edge_listen() -> String {
    "127.0.0.1:8081".to_owned()
}

fn default_key_prefix() -> String {
    "kg".to_owned()
}

/// A secret as it was written. No error and no debug output shows it, even when it is of the
/// wrong type.
#[derive(Debug)]
pub struct SecretText(SecretString);

impl SecretText {
    /// The text.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        // serde's own words for a value of another type would repeat the value.
        macro_rules! refuse {
            ($($method:ident: $type:ty),*) => {
                $(fn $method<E: de::Error>(self, _: $type) -> Result<SecretText, E> {
                    Err(E::custom("expected a string in quotes"))
                })*
            };
        }

        impl de::Visitor<'_> for Visitor {
            type Value = SecretText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretText, E> {
                Ok(SecretText(SecretString::from(text)))
            }

            refuse!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_i128: i128, visit_u128: u128);
        }

        deserializer.deserialize_str(Visitor)
    }
}

/// `true` or `false`, also as the text that an environment variable is.
fn switch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    plain_switch(deserializer).map(Some)
}

/// A number, also as the text that an environment variable is.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    struct Visitor;

    impl de::Visitor<'_> for Visitor {
        type Value = Option<u32>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number")
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<Option<u32>, E> {
            let fits = u32::try_from(number).map(Some);
            fits.map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<Option<u32>, E> {
            let fits = u32::try_from(number).map(Some);
            fits.map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Option<u32>, E> {
            let digits = text.replace('_', "");
            let number = digits.parse().map(Some);
            number.map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
        }
    }

    deserializer.deserialize_any(Visitor)
}

/// A number that may have a fraction, as the text that it was or would be written as.
fn number_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    struct Visitor;

    impl de::Visitor<'_> for Visitor {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number")
        }

        fn visit_f64<E: de::Error>(self, number: f64) -> Result<Option<String>, E> {
            Ok(Some(number.to_string()))
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<Option<String>, E> {
            Ok(Some(number.to_string()))
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<Option<String>, E> {
            Ok(Some(number.to_string()))
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Option<String>, E> {
            Ok(Some(text.to_owned()))
        }
    }

    deserializer.deserialize_any(Visitor)
}

fn plain_switch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    struct Visitor;

    impl de::Visitor<'_> for Visitor {
        type Value = bool;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("true or false")
        }

        fn visit_bool<E: de::Error>(self, value: bool) -> Result<bool, E> {
            Ok(value)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<bool, E> {
            match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Ok(true),
                "false" | "0" | "no" | "off" => Ok(false),
                _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
            }
        }
    }

    deserializer.deserialize_any(Visitor)
}
