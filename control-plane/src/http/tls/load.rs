//! From files to what rustls serves with.

use jiff::Timestamp;
use rustls::{
    Error, RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier},
};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use zeroize::Zeroizing;

use super::validity::not_after;
use crate::config::{ConfigError, NamedFile, TlsFiles, wrong};

/// What both HTTP versions are called in TLS (RFC 7301), the better one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The content of the files, as it was at one time.
pub(super) struct Content {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    client_authorities: Option<Vec<u8>>,
}

/// What a listener serves with.
pub(super) struct Loaded {
    pub(super) config: Arc<ServerConfig>,
    /// When the listener's own certificate ends.
    pub(super) expires: Option<Timestamp>,
}

impl Content {
    pub(super) async fn read(files: &TlsFiles) -> Result<Self, ConfigError> {
        Ok(Self {
            certificate: read(&files.certificate).await?,
            key: Zeroizing::new(read(&files.key).await?),
            client_authorities: match &files.client_authorities {
                Some(file) => Some(read(file).await?),
                None => None,
            },
        })
    }

    /// Tells one content from another without keeping the key.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for part in
            [&self.certificate, &*self.key, self.client_authorities.as_ref().unwrap_or(&Vec::new())]
        {
            digest.update(Sha256::digest(part));
        }
        digest.finalize().into()
    }

    /// Makes of it what rustls serves with.
    pub(super) fn load(&self, files: &TlsFiles) -> Result<Loaded, ConfigError> {
        let chain = certificates(&files.certificate, &self.certificate)?;
        let expires = chain.first().and_then(|own| not_after(own));
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| {
            of(&files.key, "has no private key in PEM (PKCS #8, PKCS #1 or SEC 1, not encrypted)")
        })?;
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| of(&files.certificate, &format!("cannot be served: {error}")))?;
        let client_authorities =
            files.client_authorities.as_ref().zip(self.client_authorities.as_ref());
        let builder = match client_authorities {
            Some((file, content)) => {
                let roots = roots(file, content)?;
                let provider = Arc::new(aws_lc_rs::default_provider());
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder
                    .with_client_cert_verifier(verifier.map_err(|error| of(file, &reason(&error)))?)
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
            Error::InconsistentKeys(_) => of(
                &files.key,
                &format!(
                    "does not belong to the certificate in {}",
                    files.certificate.path.display()
                ),
            ),
            error => of(&files.certificate, &format!("cannot be served: {error}")),
        })?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        if client_authorities.is_some() {
            // A session that is taken up again is not checked again: a certificate that has ended
            // since would still be good.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Loaded { config: Arc::new(config), expires })
    }
}

async fn read(file: &NamedFile) -> Result<Vec<u8>, ConfigError> {
    tokio::fs::read(&file.path).await.map_err(|error| of(file, &format!("cannot be read: {error}")))
}

fn certificates(file: &NamedFile, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(of(file, "has no certificate in PEM (-----BEGIN CERTIFICATE-----)")),
        Err(error) => Err(of(file, &format!("is no PEM: {error}"))),
    }
}

fn roots(file: &NamedFile, pem: &[u8]) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(file, pem)? {
        roots.add(authority).map_err(|error| {
            of(file, &format!("has a certificate that cannot be used: {error}"))
        })?;
    }
    Ok(roots)
}

fn reason(error: &VerifierBuilderError) -> String {
    format!("cannot be used to check clients: {error}")
}

fn of(file: &NamedFile, problem: &str) -> ConfigError {
    wrong(file.setting, format!("its file {} {problem}", file.path.display()))
}
