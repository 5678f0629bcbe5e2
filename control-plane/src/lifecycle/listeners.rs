//! The two listeners: where they listen, and what they let a connection do.

use axum::Router;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::TcpListener;

use super::DRAIN;
use crate::{
    clock::Clock,
    config::{self, ConfigError, ServeConfig, TlsFiles},
    http::{activity::IdleLimits, server::Server, tls::Tls},
};

const ADMIN_HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// It also ends idle connections, and Envoy's pools keep theirs for an hour: ours must be kept
/// longer, or a filter's call meets a connection that is just being closed.
const EDGE_HEADER_TIMEOUT: Duration = Duration::from_mins(65);
/// Administrators come and go, and so do those who look at health and metrics.
const ADMIN_IDLE: IdleLimits =
    IdleLimits { stranger: Duration::from_secs(75), trusted: Duration::from_secs(75) };
/// Only a filter that has shown its token may keep a connection for its pool.
const EDGE_IDLE: IdleLimits =
    IdleLimits { stranger: Duration::from_secs(15), trusted: EDGE_HEADER_TIMEOUT };
const ADMIN_CONNECTIONS: usize = 1024;
const EDGE_CONNECTIONS: usize = 8192;

/// What one of the two lets its connections do.
pub(super) struct Manners {
    name: &'static str,
    /// What watches its certificate.
    tls_task: &'static str,
    setting: &'static str,
    max_connections: usize,
    header_timeout: Duration,
    idle: IdleLimits,
}

pub(super) const ADMIN: Manners = Manners {
    name: "admin",
    tls_task: "admin TLS files",
    setting: "KEYGATE_LISTEN",
    max_connections: ADMIN_CONNECTIONS,
    header_timeout: ADMIN_HEADER_TIMEOUT,
    idle: ADMIN_IDLE,
};
pub(super) const EDGE: Manners = Manners {
    name: "edge",
    tls_task: "edge TLS files",
    setting: "KEYGATE_EDGE_LISTEN",
    max_connections: EDGE_CONNECTIONS,
    header_timeout: EDGE_HEADER_TIMEOUT,
    idle: EDGE_IDLE,
};

/// A listener that is bound, before it is known what answers there.
pub(super) struct Bound {
    manners: Manners,
    tls: Option<Tls>,
    listener: TcpListener,
}

impl Bound {
    /// Where it listens.
    pub(super) fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The name of the task that watches its certificate.
    pub(super) fn tls_task(&self) -> &'static str {
        self.manners.tls_task
    }

    /// The server that answers there, and the certificate that has to be watched.
    pub(super) fn server(self, router: Router) -> (Server, Option<Tls>) {
        let Self { manners, tls, listener } = self;
        let server = Server {
            name: manners.name,
            listener,
            tls: tls.as_ref().map(Tls::acceptor),
            router,
            max_connections: manners.max_connections,
            header_timeout: manners.header_timeout,
            idle: manners.idle,
            drain: DRAIN,
        };
        (server, tls)
    }
}

/// Says what keeps filters out, and what lets others listen in.
pub(super) fn report_edge_access(serving: &ServeConfig) {
    let certified = serving.edge_tls.as_ref().is_some_and(|it| it.client_authorities.is_some());
    if serving.edge_token.is_none() && !certified {
        tracing::error!(
            "KEYGATE_EDGE_TOKEN is not set, nor is KEYGATE_EDGE_TLS_CLIENT_CA_FILE: every \
             call of a filter is refused (make a token: openssl rand -hex 32)"
        );
    }
    let listeners = [
        ("KEYGATE_LISTEN", serving.listen, serving.tls.is_some()),
        ("KEYGATE_EDGE_LISTEN", serving.edge_listen, serving.edge_tls.is_some()),
    ];
    for (setting, address, secured) in listeners {
        if !secured && !address.ip().is_loopback() {
            tracing::warn!(
                %address,
                "{setting} is reachable from other machines without TLS: keys cross the network \
                 readable (docs/tls.md)"
            );
        }
    }
}

/// Binds a listener, or says which setting to change.
pub(super) async fn bind(
    manners: Manners,
    address: SocketAddr,
    files: Option<TlsFiles>,
    clock: &Arc<dyn Clock>,
) -> Result<Bound, ConfigError> {
    let tls = match files {
        Some(files) => Some(Tls::load(manners.name, files, Arc::clone(clock)).await?),
        None => None,
    };
    let listener = TcpListener::bind(address).await.map_err(|error| {
        let why = match error.kind() {
            std::io::ErrorKind::AddrInUse => "the port is taken by another program".to_owned(),
            _ => error.to_string(),
        };
        config::wrong(manners.setting, format!("cannot listen on {address}: {why}"))
    })?;
    Ok(Bound { manners, tls, listener })
}
