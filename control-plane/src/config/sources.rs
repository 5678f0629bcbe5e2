//! Where settings come from.

use figment::{
    Figment, Metadata, Profile, Provider, Source,
    error::Kind,
    providers::{Format, Toml},
    value::{Dict, Map, Value},
};
use std::{collections::BTreeMap, ffi::OsString, path::PathBuf};

use super::{ConfigError, Settings, settings::LogFormat, wrong};

/// All settings by the names they have in a TOML file.
pub(super) const NAMES: &[&str] = &[
    "listen",
    "edge_listen",
    "database_url",
    "database_url_file",
    "database_connections",
    "redis_url",
    "redis_url_file",
    "redis_ca_file",
    "redis_cert_file",
    "redis_key_file",
    "environment",
    "enable_test_api_keys",
    "secret_key",
    "secret_key_file",
    "secret_key_previous",
    "secret_key_previous_file",
    "pbkdf2_iterations",
    "audit_signing_key",
    "audit_signing_key_file",
    "audit_trusted_keys",
    "audit_checkpoint_minutes",
    "audit_retention_days",
    "require_totp",
    "usage_retention_days",
    "admin_rate_limit",
    "admin_failure_limit",
    "edge_token",
    "edge_token_file",
    "tls_cert_file",
    "tls_key_file",
    "edge_tls_cert_file",
    "edge_tls_key_file",
    "edge_tls_client_ca_file",
    "migrate",
    "log",
    "log_format",
    "otlp_endpoint",
    "otlp_sample_ratio",
    "sentry_dsn",
    "sentry_dsn_file",
    "key_prefix",
];

/// The settings that have no flag, as `keygate serve --help` tells them.
pub const WITHOUT_FLAG: &str = "\
Settings without a flag, as variables or, in lower case and without the prefix, in the TOML file:
  KEYGATE_SECRET_KEY                32 bytes in hex or base64; needed in production
  KEYGATE_SECRET_KEY_PREVIOUS       The one before it, while keys still depend on it; also ..._FILE
  KEYGATE_EDGE_TOKEN                What filters show
  KEYGATE_REQUIRE_TOTP              Refuse changes by admin keys without a second factor [default: false]
  KEYGATE_TLS_CERT_FILE             Certificate of the admin listener, PEM
  KEYGATE_TLS_KEY_FILE              Its private key, PEM
  KEYGATE_EDGE_TLS_CERT_FILE        Certificate of the listener for filters, PEM
  KEYGATE_EDGE_TLS_KEY_FILE         Its private key, PEM
  KEYGATE_EDGE_TLS_CLIENT_CA_FILE   Who may sign the certificates of filters' Envoys, PEM
  KEYGATE_DATABASE_CONNECTIONS      Connections to PostgreSQL at most, up to 50 [default: 20]
  KEYGATE_PBKDF2_ITERATIONS         Cost of a new key's hash [default: 100000]
  KEYGATE_AUDIT_SIGNING_KEY         Seed of the key that signs the audit log, 32 bytes in hex or base64;
                                    also ..._FILE [default: derived from the secret key]
  KEYGATE_AUDIT_TRUSTED_KEYS        Public keys that signed it before, separated by commas
  KEYGATE_AUDIT_CHECKPOINT_MINUTES  Longest time without a signature [default: 5]
  KEYGATE_AUDIT_RETENTION_DAYS      How long audit entries are kept [default: 90]
  KEYGATE_USAGE_RETENTION_DAYS      How long usage is kept [default: 400]
  KEYGATE_ADMIN_RATE_LIMIT          Calls a minute with one admin key [default: 600]
  KEYGATE_ADMIN_FAILURE_LIMIT       Refused admin calls a minute from one address (IPv6: one /64)
                                    [default: 30]
  KEYGATE_REDIS_URL                 Redis, for what control planes share: redis://, redis+sentinel:// or
                                    redis+cluster://; rediss for TLS; also ..._FILE [default: memory]
  KEYGATE_REDIS_CA_FILE             Who may sign its certificates, PEM [default: the system's]
  KEYGATE_REDIS_CERT_FILE           Our certificate, where it asks for one, PEM
  KEYGATE_REDIS_KEY_FILE            Its private key, PEM
  KEYGATE_OTLP_ENDPOINT             Collector of traces (OTLP over HTTP), such as http://127.0.0.1:4318
  KEYGATE_OTLP_SAMPLE_RATIO         Part of the requests that are traced, 0 to 1, where no caller has
                                    decided [default: 0.1]
  KEYGATE_SENTRY_DSN                Where errors and panics are reported; also ..._FILE";

/// Settings on the command line. Secrets are none of them: everyone on the machine can read a
/// command line.
#[expect(clippy::doc_markdown, reason = "clap shows it as it stands")]
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// TOML file with settings; unknown ones are refused [env: KEYGATE_CONFIG]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Settings")]
    pub config: Option<PathBuf>,
    /// Address of the admin API, health and metrics [env: KEYGATE_LISTEN] [default: 127.0.0.1:8080]
    #[arg(long, global = true, value_name = "ADDRESS", help_heading = "Settings")]
    pub listen: Option<String>,
    /// Address of the API that filters call [env: KEYGATE_EDGE_LISTEN] [default: 127.0.0.1:8081]
    #[arg(long, global = true, value_name = "ADDRESS", help_heading = "Settings")]
    pub edge_listen: Option<String>,
    /// Database, as sqlite://path or postgres://user@host/database; a password belongs in the variable or the file [env: KEYGATE_DATABASE_URL] [default: sqlite://keygate.db]
    #[arg(long, global = true, value_name = "URL", help_heading = "Settings")]
    pub database_url: Option<String>,
    /// File that holds the database's URL [env: KEYGATE_DATABASE_URL_FILE]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Settings")]
    pub database_url_file: Option<PathBuf>,
    /// development, testing, staging or production [env: KEYGATE_ENVIRONMENT] [default: production]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Settings")]
    pub deployment: Option<String>,
    /// Accept keys of the test environment; never in production [env: KEYGATE_ENABLE_TEST_API_KEYS] [default: accepted outside production]
    #[arg(long, global = true, value_name = "BOOL", help_heading = "Settings")]
    pub enable_test_api_keys: Option<String>,
    /// File that holds the 32 bytes of the secret key, in hex or base64 [env: KEYGATE_SECRET_KEY_FILE, or the key itself in KEYGATE_SECRET_KEY]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Settings")]
    pub secret_key_file: Option<PathBuf>,
    /// File that holds the token that filters show [env: KEYGATE_EDGE_TOKEN_FILE, or the token itself in KEYGATE_EDGE_TOKEN]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Settings")]
    pub edge_token_file: Option<PathBuf>,
    /// First word of the keys made here [env: KEYGATE_KEY_PREFIX] [default: kg]
    #[arg(long, global = true, value_name = "WORD", help_heading = "Settings")]
    pub key_prefix: Option<String>,
    /// Which log lines are written, such as `info` or `keygate=debug` [env: KEYGATE_LOG] [default: info]
    #[arg(long, global = true, value_name = "FILTER", help_heading = "Settings")]
    pub log: Option<String>,
    /// How log lines are written [env: KEYGATE_LOG_FORMAT] [default: text]
    #[arg(long, global = true, value_enum, value_name = "FORMAT", help_heading = "Settings")]
    pub log_format: Option<LogFormat>,
}

impl Flags {
    fn values(&self, migrate: bool) -> BTreeMap<&'static str, String> {
        let path =
            |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned());
        let format = self.log_format.map(|format| match format {
            LogFormat::Text => "text".to_owned(),
            LogFormat::Json => "json".to_owned(),
        });
        [
            ("listen", self.listen.clone()),
            ("edge_listen", self.edge_listen.clone()),
            ("database_url", self.database_url.clone()),
            ("database_url_file", path(&self.database_url_file)),
            ("environment", self.deployment.clone()),
            ("enable_test_api_keys", self.enable_test_api_keys.clone()),
            ("secret_key_file", path(&self.secret_key_file)),
            ("edge_token_file", path(&self.edge_token_file)),
            ("key_prefix", self.key_prefix.clone()),
            ("log", self.log.clone()),
            ("log_format", format),
            ("migrate", migrate.then(|| "true".to_owned())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }
}

/// Settings that are all text, as in an environment: `1234` stays text where text is wanted.
struct Texts {
    values: BTreeMap<&'static str, String>,
    source: &'static str,
    spell: fn(&str) -> String,
}

impl Provider for Texts {
    fn metadata(&self) -> Metadata {
        let spell = self.spell;
        Metadata::named(self.source).interpolater(move |_: &Profile, keys: &[&str]| {
            keys.iter().map(|key| spell(key)).collect::<String>()
        })
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let dict = self
            .values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Value::from(value.clone())));
        Ok(Map::from([(Profile::Default, dict.collect())]))
    }
}

fn variable(name: &str) -> String {
    format!("KEYGATE_{}", name.to_ascii_uppercase())
}

/// Says what is wrong, with which setting, and where it was set. The error itself goes no further:
/// about a file's syntax it quotes the line it is in, and that line may be a secret's.
fn explain(error: &figment::Error) -> String {
    let problem = match &error.kind {
        Kind::UnknownVariant(found, expected) => {
            format!("`{found}` is none of {}", expected.join(", "))
        }
        Kind::UnknownField(_, expected) => {
            format!("there is no such setting; there are {}", expected.join(", "))
        }
        other => {
            let text = other.to_string();
            let is_quotation = |line: &&str| {
                line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ').starts_with('|')
            };
            text.lines().filter(|line| !is_quotation(line)).collect::<Vec<_>>().join(": ")
        }
    };
    let metadata = error.metadata.as_ref();
    let file = metadata.and_then(|it| it.source.as_ref()).and_then(Source::file_path);
    let (setting, place) = match (file, metadata, &error.profile) {
        (Some(file), _, _) => (error.path.join("."), file.display().to_string()),
        (None, Some(it), Some(profile)) => {
            (it.interpolate(profile, &error.path), it.name.to_string())
        }
        _ => (error.path.join("."), "the settings".to_owned()),
    };
    if setting.is_empty() {
        format!("{place}: {problem}")
    } else {
        format!("{setting}: {problem} (in {place})")
    }
}

/// Gathers the settings: the environment, over it the TOML file, over it the flags. An empty
/// variable counts as not set.
///
/// # Errors
/// A value of the wrong form, with where it came from; a variable that is no text; a file that cannot be read; in the file,
/// a setting that does not exist.
pub fn load(
    flags: &Flags,
    migrate: bool,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Settings, ConfigError> {
    let mut variables = BTreeMap::new();
    for name in NAMES {
        let variable = variable(name);
        if let Some(value) = environment(&variable).filter(|value| !value.is_empty()) {
            // The value is not shown: it may be a secret.
            let value = value
                .into_string()
                .map_err(|_| ConfigError::Source(format!("{variable}: is not UTF-8")))?;
            variables.insert(*name, value);
        }
    }
    let mut figment = Figment::new().merge(Texts {
        values: variables,
        source: "the environment",
        spell: variable,
    });

    let named = environment("KEYGATE_CONFIG").filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(file) = flags.config.clone().or(named) {
        if !file.is_file() {
            return Err(wrong("KEYGATE_CONFIG", format!("there is no file {}", file.display())));
        }
        figment = figment.merge(Toml::file_exact(file));
    }
    figment = figment.merge(Texts {
        values: flags.values(migrate),
        source: "the command line",
        spell: |name| match name {
            "environment" => "--deployment".to_owned(),
            _ => format!("--{}", name.replace('_', "-")),
        },
    });
    figment.extract().map_err(|error| ConfigError::Source(explain(&error)))
}
