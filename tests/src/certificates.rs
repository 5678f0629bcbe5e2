//! Certificates for both ends between Envoy and the control plane.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use tempfile::TempDir;

use crate::GateBuilder;

/// The name that the control plane's certificate has.
const NAME: &str = "keygate-control-plane";

/// One who signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// A new one.
    #[must_use]
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Names of their own: a certificate whose issuer has its name looks self-signed.
        params.distinguished_name.push(DnType::CommonName, "an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// A certificate for this name until that year, and its key.
    #[must_use]
    pub fn sign(&self, name: &str, until: i32) -> (String, String) {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        (certificate, key.serialize_pem())
    }
}

/// The certificates of both ends, each in a folder of its own.
pub struct Certificates {
    folder: TempDir,
    /// Who has signed them.
    pub authority: Authority,
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}

impl Certificates {
    /// Good ones, `tls.pem` and `tls.key` with the authority's `ca.pem`, in the folders `server` and
    /// `client`.
    #[must_use]
    pub fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let authority = Authority::new();
        for side in ["server", "client"] {
            fs::create_dir(folder.path().join(side)).unwrap();
        }
        let it = Self { folder, authority };
        it.put("server", &it.authority.sign(NAME, 2099));
        it.put("client", &it.authority.sign("envoy", 2099));
        for side in ["server", "client"] {
            fs::write(it.path(side, "ca.pem"), &it.authority.certificate).unwrap();
        }
        it
    }

    /// A file of one end.
    #[must_use]
    pub fn path(&self, side: &str, file: &str) -> PathBuf {
        self.folder.path().join(side).join(file)
    }

    /// Replaces one end's certificate: the files are moved into place, the certificate last.
    pub fn put(&self, side: &str, (certificate, key): &(String, String)) {
        for (name, text) in [("tls.key", key), ("tls.pem", certificate)] {
            let part = self.folder.path().join("part");
            fs::write(&part, text).unwrap();
            fs::rename(part, self.path(side, name)).unwrap();
        }
    }

    /// The folder of both ends' folders.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Lets the control plane of a gate ask for certificates, and know no token.
    pub fn asked_for_by(&self, gate: GateBuilder) -> GateBuilder {
        let file = |name| self.path("server", name).to_string_lossy().into_owned();
        gate.env("KEYGATE_EDGE_TOKEN", "")
            .env("KEYGATE_EDGE_TLS_CERT_FILE", &file("tls.pem"))
            .env("KEYGATE_EDGE_TLS_KEY_FILE", &file("tls.key"))
            .env("KEYGATE_EDGE_TLS_CLIENT_CA_FILE", &file("ca.pem"))
    }
}
