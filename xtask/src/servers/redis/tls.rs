//! Certificates for a server on this machine.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use crate::private_file;

/// An authority, and what it vouches for: a server at 127.0.0.1 and `localhost`.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The authority's certificate, as clients need it.
    pub authority: PathBuf,
    /// The server's certificate.
    pub certificate: PathBuf,
    /// The server's key.
    pub key: PathBuf,
}

impl Certificates {
    /// Makes them, in that folder.
    ///
    /// # Errors
    /// When they cannot be made or written.
    pub fn make(folder: &Path) -> Result<Self> {
        let authority_key = KeyPair::generate()?;
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.distinguished_name.push(DnType::CommonName, "an authority for tests");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority_certificate = authority.self_signed(&authority_key)?;
        let issuer = Issuer::new(authority, authority_key);

        let key = KeyPair::generate()?;
        let mut server = CertificateParams::new(vec!["localhost".to_owned()])?;
        server.subject_alt_names.push(SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()));
        let certificate = server.signed_by(&key, &issuer)?;

        let written = |name: &str, text: &str| {
            let path = folder.join(name);
            private_file::write(&path, text).map(|()| path)
        };
        Ok(Self {
            authority: written("authority.pem", &authority_certificate.pem())?,
            certificate: written("server.pem", &certificate.pem())?,
            key: written("server.key", &key.serialize_pem())?,
        })
    }
}
