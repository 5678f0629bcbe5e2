//! The service behind the gate, as a person names it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use axum::http::Uri;
use serde_json::{Value, json};

/// `http://host:port` or `https://host:port`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Upstream {
    /// Reads a URL of scheme, host and port.
    ///
    /// # Errors
    /// When it is none; the message says what is expected.
    pub fn parse(url: &str) -> Result<Self> {
        let uri: Uri = url.parse().ok().with_context(|| expected(url))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => bail!(expected(url)),
        };
        let authority = uri.authority().with_context(|| expected(url))?;
        let is_whole_service = uri.path() == "/" && uri.query().is_none();
        if !is_whole_service || authority.as_str().contains('@') || authority.host().is_empty() {
            bail!(expected(url));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None if tls => 443,
            None => 80,
        };
        Ok(Self { tls, host, port })
    }

    /// The URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        if self.host.contains(':') {
            format!("{scheme}://[{}]:{}", self.host, self.port)
        } else {
            format!("{scheme}://{}:{}", self.host, self.port)
        }
    }

    /// Whether it is named by an IP address.
    pub(super) fn is_address(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok()
    }

    /// TLS towards it: its certificate must be valid for the host, by the system's authorities.
    pub(super) fn transport_socket(&self, authorities: &Path) -> Value {
        let name_kind = if self.is_address() { "IP_ADDRESS" } else { "DNS" };
        let mut context = json!({
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": {
                "validation_context": {
                    "trusted_ca": {"filename": authorities},
                    "match_typed_subject_alt_names": [
                        {"san_type": name_kind, "matcher": {"exact": self.host}},
                    ],
                },
            },
        });
        // Server names are DNS names (RFC 6066 section 3).
        if name_kind == "DNS"
            && let Some(fields) = context.as_object_mut()
        {
            fields.insert("sni".to_owned(), self.host.clone().into());
        }
        json!({"name": "envoy.transport_sockets.tls", "typed_config": context})
    }
}

/// The file of the system's certificate authorities: `SSL_CERT_FILE`, or where Debian, Fedora,
/// SUSE and Alpine keep it. Envoy's own `system_root_certs` cannot be joined with a check of the
/// certificate's name (1.40 refuses that).
pub(super) fn authorities() -> Result<PathBuf> {
    const PLACES: [&str; 4] = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ];
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let found = named.or_else(|| PLACES.map(PathBuf::from).into_iter().find(|file| file.is_file()));
    found.context("no certificate authorities to check the upstream by: set SSL_CERT_FILE")
}

fn expected(url: &str) -> String {
    format!("the upstream {url:?} is no URL of the kind http://host:port or https://host:port")
}

#[cfg(test)]
mod tests {
    use super::Upstream;

    #[test]
    fn scheme_host_and_port_are_taken_apart() {
        for (url, tls, host, port) in [
            ("http://127.0.0.1:3000", false, "127.0.0.1", 3000),
            ("http://localhost/", false, "localhost", 80),
            ("https://[::1]:8443", true, "::1", 8443),
            ("https://api.example.test", true, "api.example.test", 443),
        ] {
            assert_eq!(
                Upstream::parse(url).unwrap(),
                Upstream { tls, host: host.to_owned(), port }
            );
        }
    }

    #[test]
    fn what_is_more_or_less_than_a_service_is_refused() {
        for url in
            ["", "localhost:3000", "ftp://a:1", "http://a:1/path", "http://u:p@a", "http://a?x=1"]
        {
            let error = Upstream::parse(url).unwrap_err().to_string();
            assert!(error.contains("http://host:port"), "{url}: {error}");
        }
    }
}
