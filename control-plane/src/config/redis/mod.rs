//! Where Redis is, and how it is spoken to.

mod url;

#[cfg(test)]
mod tests;

use secrecy::ExposeSecret;

use super::{ConfigError, NamedFile, Settings, settings::SecretText, text_or_file, wrong};

pub use url::{RedisLogin, RedisUrl, Topology};

/// The setting that a mistake in the URL is told with.
pub(crate) const SETTING: &str = "KEYGATE_REDIS_URL";
const CA_FILE: &str = "KEYGATE_REDIS_CA_FILE";
const CERT_FILE: &str = "KEYGATE_REDIS_CERT_FILE";
const KEY_FILE: &str = "KEYGATE_REDIS_KEY_FILE";

/// Redis, as it is configured.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// Where it is.
    pub url: RedisUrl,
    /// What TLS goes by; none: connections are plain.
    pub tls: Option<RedisTls>,
}

/// The files that TLS goes by. They are read at every connect, so new ones need no restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// Who may sign the servers' certificates, in PEM; none: whom the system trusts.
    pub authorities: Option<NamedFile>,
    /// Our own certificate and its key, in PEM, for servers that ask for one.
    pub own: Option<(NamedFile, NamedFile)>,
}

impl RedisConfig {
    /// Checks the settings; none, when there is no Redis.
    ///
    /// # Errors
    /// A URL of no form that is known, a file that cannot be read, or files for TLS with a URL that
    /// asks for none.
    pub fn new(settings: &Settings) -> Result<Option<Self>, ConfigError> {
        let text = text_or_file(
            SETTING,
            settings.redis_url.as_ref().map(SecretText::expose),
            settings.redis_url_file.as_deref(),
        )?;
        let file = |setting, path: &Option<_>| NamedFile::of(setting, path.as_deref());
        let authorities = file(CA_FILE, &settings.redis_ca_file);
        let own = match (
            file(CERT_FILE, &settings.redis_cert_file),
            file(KEY_FILE, &settings.redis_key_file),
        ) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => return Err(needs_both(KEY_FILE, CERT_FILE)),
            (None, Some(_)) => return Err(needs_both(CERT_FILE, KEY_FILE)),
        };
        let files = authorities.iter().chain(own.iter().flat_map(|(one, other)| [one, other]));
        let Some(text) = text else {
            return files.into_iter().next().map_or(Ok(None), |file| {
                Err(wrong(file.setting, format!("is set, but {SETTING} is not")))
            });
        };
        let (url, secure) = RedisUrl::parse(text.expose_secret())?;
        for file in files {
            if !secure {
                return Err(wrong(
                    file.setting,
                    format!("is set, but {SETTING} asks for no TLS: it must begin with rediss"),
                ));
            }
            // What is missing at the start is a mistake; what goes missing later is only told.
            std::fs::File::open(&file.path).map_err(|error| {
                let place = file.path.display();
                wrong(file.setting, format!("its file {place} cannot be read: {error}"))
            })?;
        }
        Ok(Some(Self { url, tls: secure.then_some(RedisTls { authorities, own }) }))
    }
}

fn needs_both(missing: &'static str, present: &str) -> ConfigError {
    wrong(missing, format!("is not set, but {present} is; a certificate needs its key"))
}
