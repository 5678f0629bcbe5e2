//! A listener with TLS, spoken to by real clients.

use super::*;
use crate::{
    clock::testing::ManualClock,
    config::NamedFile,
    http::{activity::IdleLimits, server::Server},
};
use axum::{Router, extract::Request, routing::get};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{net::SocketAddr, path::PathBuf};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const NAME: &str = "control-plane.test";
const NOW: &str = "2026-11-25T12:00:00Z";

/// A certificate and its key, in PEM.
#[derive(Clone)]
struct Pair {
    certificate: String,
    key: String,
}

/// One who signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    fn sign_until(&self, year: i32) -> Pair {
        let mut params = CertificateParams::new([NAME.to_owned()]).expect("params");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    fn sign(&self) -> Pair {
        self.sign_until(2099)
    }
}

struct Listener {
    folder: TempDir,
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Listener {
    async fn start(own: &Pair, clients: Option<&Authority>) -> Self {
        let folder = TempDir::new().expect("a folder");
        let file = |setting, name: &str| NamedFile { setting, path: folder.path().join(name) };
        let files = TlsFiles {
            certificate: file("KEYGATE_EDGE_TLS_CERT_FILE", "cert.pem"),
            key: file("KEYGATE_EDGE_TLS_KEY_FILE", "key.pem"),
            client_authorities: clients.map(|_| file("KEYGATE_EDGE_TLS_CLIENT_CA_FILE", "ca.pem")),
        };
        put(&folder, own, clients);
        let clock = Arc::new(ManualClock::at(NOW));
        let tls = Tls::load("test", files, clock).await.expect("TLS");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().route(
            "/",
            get(|request: Request| async move {
                format!("known: {}", request.extensions().get::<ClientCertificate>().is_some())
            }),
        );
        let stop = CancellationToken::new();
        let idle = Duration::from_mins(1);
        let server = Server {
            name: "test",
            listener,
            tls: Some(tls.acceptor()),
            router,
            max_connections: 3,
            header_timeout: idle,
            idle: IdleLimits { stranger: idle, trusted: idle },
            drain: Duration::from_secs(1),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(server.run(stop.clone()));
        tasks.spawn(tls.watch(stop));
        Self { folder, address, _tasks: tasks }
    }

    /// A connection whose client trusts `server` and shows `own`.
    async fn connect(
        &self,
        server: &Authority,
        own: Option<&Pair>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&server.certificate)).expect("a root");
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match own {
            Some(pair) => builder
                .with_client_auth_cert(
                    vec![certificate(&pair.certificate)],
                    PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key"),
                )
                .expect("a client certificate"),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(NAME).expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// What a client is answered, or why it is not.
    async fn ask(&self, server: &Authority, own: Option<&Pair>) -> std::io::Result<String> {
        let mut stream = self.connect(server, own).await?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}

fn put(folder: &TempDir, own: &Pair, clients: Option<&Authority>) {
    let write =
        |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    write("cert.pem", &own.certificate);
    write("key.pem", &own.key);
    if let Some(clients) = clients {
        write("ca.pem", &clients.certificate);
    }
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")
}

/// Asks until the answer is as it should be: files are looked at every now and then.
async fn until(mut asked: impl AsyncFnMut() -> bool) {
    for _ in 0..200 {
        if asked().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not within ten seconds");
}

#[tokio::test]
async fn http2_is_chosen_where_the_client_speaks_it_and_nobody_needs_a_certificate_unless_told() {
    let authority = Authority::new();
    let it = Listener::start(&authority.sign(), None).await;
    let stream = it.connect(&authority, None).await.expect("connected");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    drop(stream);
    let answer = it.ask(&authority, None).await.expect("an answer");
    assert!(answer.ends_with("known: false"), "{answer}");
}

#[tokio::test]
async fn where_clients_have_to_show_a_certificate_only_a_good_one_gets_an_answer() {
    let (servers, clients, others) = (Authority::new(), Authority::new(), Authority::new());
    let it = Listener::start(&servers.sign(), Some(&clients)).await;
    let answer = it.ask(&servers, Some(&clients.sign())).await.expect("an answer");
    assert!(answer.ends_with("known: true"), "{answer}");
    for refused in [None, Some(others.sign()), Some(clients.sign_until(2021)), Some(servers.sign())]
    {
        let answer = it.ask(&servers, refused.as_ref()).await;
        assert!(!answer.as_ref().is_ok_and(|it| it.contains("200")), "{answer:?}");
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_come_keeps_nobody_waiting() {
    let authority = Authority::new();
    let it = Listener::start(&authority.sign(), None).await;
    // As many as may be connected, less one; they say nothing.
    let silent = TcpStream::connect(it.address).await.expect("connected");
    let mut plain = TcpStream::connect(it.address).await.expect("connected");
    let asked = tokio::time::timeout(Duration::from_secs(2), it.ask(&authority, None)).await;
    assert!(asked.expect("at once").is_ok());
    // One who speaks no TLS is told so, in TLS's way, and is not kept.
    plain.write_all(b"GET / HTTP/1.0\r\n\r\n").await.expect("sent");
    let mut said = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(2), plain.read_to_end(&mut said)).await;
    ended.expect("in time").ok();
    assert!(!said.windows(4).any(|it| it == b"HTTP"), "{said:?}");
    drop(silent);
}

#[tokio::test]
async fn a_silent_connection_is_dropped_after_the_time_for_a_handshake() {
    let authority = Authority::new();
    let it = Listener::start(&authority.sign(), None).await;
    let mut silent = TcpStream::connect(it.address).await.expect("connected");
    let mut said = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(9), silent.read_to_end(&mut said)).await;
    assert!(ended.is_ok(), "it is still open");
}

#[tokio::test]
async fn new_files_are_used_without_a_restart_and_old_connections_are_ended() {
    let (first, second) = (Authority::new(), Authority::new());
    let it = Listener::start(&first.sign(), Some(&first)).await;
    let mut old = it.connect(&first, Some(&first.sign())).await.expect("connected");
    old.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    let mut some = [0; 16];
    old.read_exact(&mut some).await.expect("an answer");

    put(&it.folder, &second.sign(), Some(&second));
    let own = second.sign();
    until(async || it.ask(&second, Some(&own)).await.is_ok_and(|it| it.contains("200"))).await;
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(5), old.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "who was let in before is still connected");
    let answer = it.ask(&second, Some(&first.sign())).await;
    assert!(!answer.as_ref().is_ok_and(|it| it.contains("200")), "{answer:?}");
}

#[tokio::test]
async fn files_that_make_no_sense_change_nothing_until_they_do() {
    let authority = Authority::new();
    let it = Listener::start(&authority.sign(), None).await;
    let next = authority.sign();
    // A certificate without its key: the moment between two writes.
    std::fs::write(it.folder.path().join("cert.pem"), &next.certificate).expect("written");
    tokio::time::sleep(LOOK + Duration::from_millis(500)).await;
    assert!(it.ask(&authority, None).await.is_ok());
    std::fs::write(it.folder.path().join("key.pem"), &next.key).expect("written");
    let expected = certificate(&next.certificate);
    until(async || {
        let stream = it.connect(&authority, None).await.expect("connected");
        stream.get_ref().1.peer_certificates().expect("shown").first() == Some(&expected)
    })
    .await;
}

#[tokio::test]
async fn a_connection_ends_with_the_certificate_it_was_opened_by() {
    let authority = Authority::new();
    let folder = TempDir::new().expect("a folder");
    let files = files_of(folder.path(), &authority);
    let tls = Tls::load("test", files, Arc::new(ManualClock::at(NOW))).await.expect("TLS");
    // A second before the end of the year 2098, by the listener's clock.
    let clock = Arc::new(ManualClock::at("2098-12-31T23:59:59Z"));
    let acceptor = TlsAcceptor { clock, ..tls.acceptor() };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let it = Listener {
        folder,
        address: listener.local_addr().expect("an address"),
        _tasks: JoinSet::new(),
    };
    let own = authority.sign();
    let (client, secured) = tokio::join!(it.connect(&authority, Some(&own)), async {
        let (stream, _) = listener.accept().await.expect("a connection");
        acceptor.accept(stream).await
    });
    let secured = secured.ok().expect("secured");
    assert!(secured.is_known && client.is_ok());
    let over = tokio::time::timeout(Duration::from_secs(5), secured.expiry.passed()).await;
    assert!(over.is_ok());
}

fn files_of(folder: &std::path::Path, authority: &Authority) -> TlsFiles {
    let own = authority.sign();
    let write = |setting, name: &str, text: &str| {
        let path: PathBuf = folder.join(name);
        std::fs::write(&path, text).expect("written");
        NamedFile { setting, path }
    };
    TlsFiles {
        certificate: write("KEYGATE_EDGE_TLS_CERT_FILE", "cert.pem", &own.certificate),
        key: write("KEYGATE_EDGE_TLS_KEY_FILE", "key.pem", &own.key),
        client_authorities: Some(write(
            "KEYGATE_EDGE_TLS_CLIENT_CA_FILE",
            "ca.pem",
            &authority.certificate,
        )),
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_file_is_said_with_its_setting_and_never_with_its_content() {
    let authority = Authority::new();
    let folder = TempDir::new().expect("a folder");
    let other = authority.sign();
    let cases: [(&str, &str, &str); 7] = [
        ("cert.pem", "", "has no certificate"),
        ("cert.pem", &other.key, "has no certificate"),
        ("key.pem", "canary", "has no private key"),
        ("key.pem", &other.certificate, "has no private key"),
        ("key.pem", &other.key, "does not belong to the certificate"),
        ("ca.pem", "canary", "has no certificate"),
        (
            "ca.pem",
            "-----BEGIN CERTIFICATE-----\nY2FuYXJ5\n-----END CERTIFICATE-----\n",
            "cannot be used",
        ),
    ];
    for (name, text, problem) in cases {
        let files = files_of(folder.path(), &authority);
        std::fs::write(folder.path().join(name), text).expect("written");
        let error = Tls::load("test", files, Arc::new(ManualClock::at(NOW))).await;
        let error = error.err().expect("refused").to_string();
        assert!(error.contains(problem) && error.contains(name), "{error}");
        assert!(error.starts_with("KEYGATE_EDGE_TLS_") && !error.contains("canary"), "{error}");
    }
    let files = files_of(folder.path(), &authority);
    std::fs::remove_file(folder.path().join("key.pem")).expect("removed");
    let error = Tls::load("test", files, Arc::new(ManualClock::at(NOW))).await;
    let error = error.err().expect("refused").to_string();
    assert!(error.starts_with("KEYGATE_EDGE_TLS_KEY_FILE") && error.contains("cannot be read"));
}

#[tokio::test]
async fn who_is_no_longer_trusted_is_cut_off_though_it_does_not_answer_the_farewell() {
    let authority = Authority::new();
    let it = Listener::start(&authority.sign(), Some(&authority)).await;
    let mut old = it.connect(&authority, Some(&authority.sign())).await.expect("connected");
    // HTTP/2 (RFC 9113, section 3.4): the preface, and settings without any. No ping of the
    // server's is ever answered, so no farewell of its own comes to an end.
    old.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.expect("sent");
    let mut frame = [0; 9];
    old.read_exact(&mut frame).await.expect("the server's settings");

    put(&it.folder, &authority.sign(), None);
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(9), old.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "it is still connected");
}
