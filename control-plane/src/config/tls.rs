//! The files that make a listener speak TLS.

use std::path::{Path, PathBuf};

use super::{ConfigError, Settings, wrong};

/// A file, and the setting that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// For messages.
    pub setting: &'static str,
    /// Where it is.
    pub path: PathBuf,
}

impl NamedFile {
    pub(super) fn of(setting: &'static str, path: Option<&Path>) -> Option<Self> {
        let path = path.filter(|path| !path.as_os_str().is_empty())?;
        Some(Self { setting, path: path.to_path_buf() })
    }
}

/// What a listener needs for TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Its certificate and those between it and a root, in PEM, its own first.
    pub certificate: NamedFile,
    /// The private key, in PEM.
    pub key: NamedFile,
    /// Who may sign the certificates of clients, in PEM. With it, every client has to show one.
    pub client_authorities: Option<NamedFile>,
}

impl TlsFiles {
    /// Those of the admin listener, if it is to speak TLS.
    ///
    /// # Errors
    /// When one of the two is missing.
    pub fn admin(settings: &Settings) -> Result<Option<Self>, ConfigError> {
        pair(
            NamedFile::of("KEYGATE_TLS_CERT_FILE", settings.tls_cert_file.as_deref()),
            NamedFile::of("KEYGATE_TLS_KEY_FILE", settings.tls_key_file.as_deref()),
            ("KEYGATE_TLS_CERT_FILE", "KEYGATE_TLS_KEY_FILE"),
        )
    }

    /// Those of the listener for filters.
    ///
    /// # Errors
    /// When one of the two is missing, or both are and clients are to show certificates.
    pub fn edge(settings: &Settings) -> Result<Option<Self>, ConfigError> {
        const AUTHORITIES: &str = "KEYGATE_EDGE_TLS_CLIENT_CA_FILE";
        let files = pair(
            NamedFile::of("KEYGATE_EDGE_TLS_CERT_FILE", settings.edge_tls_cert_file.as_deref()),
            NamedFile::of("KEYGATE_EDGE_TLS_KEY_FILE", settings.edge_tls_key_file.as_deref()),
            ("KEYGATE_EDGE_TLS_CERT_FILE", "KEYGATE_EDGE_TLS_KEY_FILE"),
        )?;
        let authorities = NamedFile::of(AUTHORITIES, settings.edge_tls_client_ca_file.as_deref());
        match (files, authorities) {
            (None, Some(_)) => Err(wrong(
                AUTHORITIES,
                "is set, but the listener speaks no TLS: set KEYGATE_EDGE_TLS_CERT_FILE and \
                 KEYGATE_EDGE_TLS_KEY_FILE too",
            )),
            (files, authorities) => {
                Ok(files.map(|files| Self { client_authorities: authorities, ..files }))
            }
        }
    }
}

fn pair(
    certificate: Option<NamedFile>,
    key: Option<NamedFile>,
    (of_certificate, of_key): (&'static str, &'static str),
) -> Result<Option<TlsFiles>, ConfigError> {
    let missing = |missing, present| {
        Err(wrong(missing, format!("is not set, but {present} is; TLS needs both or neither")))
    };
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => {
            Ok(Some(TlsFiles { certificate, key, client_authorities: None }))
        }
        (Some(_), None) => missing(of_key, of_certificate),
        (None, Some(_)) => missing(of_certificate, of_key),
    }
}
