//! From the settings to a connection.

use ::redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo,
    IntoConnectionInfo, RedisConnectionInfo, RedisResult, TlsCertificates, TlsMode,
    cluster::{ClusterClient, ClusterClientBuilder},
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use secrecy::ExposeSecret;
use std::time::Duration;
use tokio::time::timeout;

use super::{MAX_CALLS, PROBE_TIMEOUT, RedisFault, link::Link};
use crate::config::{NamedFile, RedisConfig, RedisLogin, RedisTls, Topology, wrong};

/// What one server may take to be connected to.
const ONE_CONNECT: Duration = Duration::from_secs(1);
/// What all of it may take: some of the servers may be gone.
const CONNECT: Duration = Duration::from_secs(5);

/// Makes connections.
pub(super) struct Connector {
    config: RedisConfig,
}

/// A connection, and whom to ask whether it is still the right one.
pub(super) struct Connected {
    pub(super) link: Link,
    pub(super) primary: Option<Primary>,
}

/// The primary that the Sentinels named.
pub(super) struct Primary {
    sentinels: SentinelClient,
    address: ConnectionAddr,
}

impl Primary {
    /// Whether the Sentinels name another by now. When they do not answer, it stays the one.
    pub(super) async fn has_moved(&mut self) -> bool {
        match timeout(CONNECT, self.sentinels.async_get_client()).await {
            Ok(Ok(client)) => *client.get_connection_info().addr() != self.address,
            Ok(Err(_)) | Err(_) => false,
        }
    }
}

impl Connector {
    pub(super) fn new(config: RedisConfig) -> Self {
        Self { config }
    }

    /// Where Redis is, for the log.
    pub(super) fn place(&self) -> String {
        self.config.url.to_string()
    }

    /// Connects, and makes sure that the connection can be used.
    pub(super) async fn connect(&self) -> Result<Connected, RedisFault> {
        let connecting = async {
            let certificates = match &self.config.tls {
                Some(files) => Some(read(files).await?),
                None => None,
            };
            let connected = self.connect_with(certificates).await?;
            match timeout(PROBE_TIMEOUT, connected.link.clone().probe()).await {
                Ok(result) => result?,
                Err(_) => return Err(RedisFault::TimedOut(PROBE_TIMEOUT)),
            }
            Ok(connected)
        };
        timeout(CONNECT, connecting).await.unwrap_or(Err(RedisFault::TimedOut(CONNECT)))
    }

    async fn connect_with(&self, certificates: Option<TlsCertificates>) -> RedisResult<Connected> {
        match &self.config.url.topology {
            Topology::Single => {
                let client = self.single(certificates)?;
                Ok(Connected { link: to_server(&client).await?, primary: None })
            }
            Topology::Sentinel { service, login } => {
                let mut sentinels = self.sentinels(service, login, certificates)?;
                let client = sentinels.async_get_client().await?;
                let address = client.get_connection_info().addr().clone();
                let link = to_server(&client).await?;
                Ok(Connected { link, primary: Some(Primary { sentinels, address }) })
            }
            Topology::Cluster => {
                let link = self.cluster(certificates)?.get_async_connection().await?;
                Ok(Connected { link: Link::Cluster(link), primary: None })
            }
        }
    }

    fn single(&self, certificates: Option<TlsCertificates>) -> RedisResult<Client> {
        let Some(server) = self.addresses().into_iter().next() else {
            // A URL without a server is refused.
            return Err(::redis::ErrorKind::InvalidClientConfig)
                .map_err(|kind| (kind, "no server").into());
        };
        let server = self.with_login(server)?;
        match certificates {
            Some(certificates) => Client::build_with_tls(server, certificates),
            None => Client::open(server),
        }
    }

    fn sentinels(
        &self,
        service: &str,
        login: &RedisLogin,
        certificates: Option<TlsCertificates>,
    ) -> RedisResult<SentinelClient> {
        let url = &self.config.url;
        let mut builder =
            SentinelClientBuilder::new(self.addresses(), service, SentinelServerType::Master)?
                .set_client_to_redis_db(url.database);
        if let Some(user) = &url.login.user {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = &url.login.password {
            builder = builder.set_client_to_redis_password(password.expose_secret());
        }
        if let Some(user) = &login.user {
            builder = builder.set_client_to_sentinel_username(user);
        }
        if let Some(password) = &login.password {
            builder = builder.set_client_to_sentinel_password(password.expose_secret());
        }
        if let Some(certificates) = certificates {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_tls_mode(TlsMode::Secure)
                .set_client_to_sentinel_certificates(certificates);
        }
        builder.build()
    }

    fn cluster(&self, certificates: Option<TlsCertificates>) -> RedisResult<ClusterClient> {
        let nodes = self.addresses().into_iter().map(|address| self.with_login(address));
        let mut builder = ClusterClientBuilder::new(nodes.collect::<RedisResult<Vec<_>>>()?)
            .connection_timeout(ONE_CONNECT)
            .response_timeout(PROBE_TIMEOUT)
            // For a slot that has moved, and for a node that has just given way to another. Who
            // calls does not wait longer for it.
            .retries(3)
            .min_retry_wait(5)
            .max_retry_wait(50)
            .connection_concurrency_limit(MAX_CALLS);
        if let Some(certificates) = certificates {
            builder = builder.certs(certificates);
        }
        builder.build()
    }

    fn addresses(&self) -> Vec<ConnectionAddr> {
        let secure = self.config.tls.is_some();
        let address = |(host, port): &(String, u16)| {
            let (host, port) = (host.clone(), *port);
            if secure {
                ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
            } else {
                ConnectionAddr::Tcp(host, port)
            }
        };
        self.config.url.servers.iter().map(address).collect()
    }

    fn with_login(&self, address: ConnectionAddr) -> RedisResult<ConnectionInfo> {
        let RedisLogin { user, password } = &self.config.url.login;
        let mut settings = RedisConnectionInfo::default()
            .set_db(self.config.url.database)
            .set_lib_name("keygate", env!("CARGO_PKG_VERSION"));
        if let Some(user) = user {
            settings = settings.set_username(user);
        }
        if let Some(password) = password {
            settings = settings.set_password(password.expose_secret());
        }
        Ok(address.into_connection_info()?.set_redis_settings(settings))
    }
}

async fn to_server(client: &Client) -> RedisResult<Link> {
    let settings = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(ONE_CONNECT))
        .set_response_timeout(Some(PROBE_TIMEOUT))
        .set_concurrency_limit(MAX_CALLS);
    client.get_multiplexed_async_connection_with_config(&settings).await.map(Link::Server)
}

async fn read(files: &RedisTls) -> Result<TlsCertificates, RedisFault> {
    let root_cert = match &files.authorities {
        Some(file) => Some(read_file(file).await?),
        None => None,
    };
    let client_tls = match &files.own {
        Some((certificate, key)) => Some(ClientTlsConfig {
            client_cert: read_file(certificate).await?,
            client_key: read_file(key).await?,
        }),
        None => None,
    };
    Ok(TlsCertificates { client_tls, root_cert })
}

async fn read_file(file: &NamedFile) -> Result<Vec<u8>, RedisFault> {
    let content = tokio::fs::read(&file.path).await;
    Ok(content.map_err(|error| {
        wrong(file.setting, format!("its file {} cannot be read: {error}", file.path.display()))
    })?)
}
