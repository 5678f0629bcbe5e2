//! The beginning of a connection: whether it comes to TLS, and with whom.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};
use std::{io, time::Duration};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{Current, validity::not_after};
use crate::clock::Clock;

/// Far more than a handshake takes across the world.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A connection after its handshake.
pub(in crate::http) struct Secured {
    pub(in crate::http) stream: TlsStream<TcpStream>,
    /// Whether the other end has shown a certificate that we trust.
    pub(in crate::http) is_known: bool,
    /// When to ask for another handshake.
    pub(in crate::http) expiry: Expiry,
}

/// What ends a connection that was secured: other files have come, or the client's certificate is
/// over.
pub(in crate::http) struct Expiry {
    replaced: CancellationToken,
    /// How long the client's certificate was still good.
    left: Option<Duration>,
}

impl Expiry {
    /// Waits for it.
    pub(in crate::http) async fn passed(self) {
        let over = async {
            match self.left {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! { () = self.replaced.cancelled() => {}, () = over => {} }
    }
}

/// Why there was no TLS: a word for the metric, and a sentence for the log.
pub(in crate::http) struct Refusal {
    pub(in crate::http) outcome: &'static str,
    pub(in crate::http) why: String,
}

pub(super) async fn shake(
    stream: TcpStream,
    current: &Current,
    clock: &dyn Clock,
) -> Result<Secured, Refusal> {
    let acceptor = TlsAcceptor::from(current.config.clone());
    let shaken = tokio::time::timeout(TIMEOUT, acceptor.accept(stream)).await;
    let stream = match shaken {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(explain(&error)),
        Err(_) => {
            let why = format!("it took longer than {} s", TIMEOUT.as_secs());
            return Err(Refusal { outcome: "timeout", why });
        }
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let left = shown.and_then(|shown| not_after(shown)).map(|end| {
        let left = end.duration_since(clock.now());
        left.try_into().unwrap_or(Duration::ZERO)
    });
    let is_known = shown.is_some();
    Ok(Secured { stream, is_known, expiry: Expiry { replaced: current.replaced.clone(), left } })
}

fn explain(error: &io::Error) -> Refusal {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let (outcome, why) = match inner {
        Some(Error::NoCertificatesPresented) => {
            ("no_certificate", "it showed no certificate, and has to".to_owned())
        }
        Some(Error::InvalidCertificate(fault)) => {
            ("certificate_refused", format!("its certificate is refused: {}", plain(fault)))
        }
        Some(Error::AlertReceived(alert)) if is_distrust(*alert) => {
            ("distrusted", format!("it does not accept our certificate ({alert:?})"))
        }
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => (
            "not_tls",
            "it speaks no TLS: an http:// URL, or a cluster without a transport_socket?".to_owned(),
        ),
        Some(other) => ("failed", other.to_string()),
        None => ("closed", error.to_string()),
    };
    Refusal { outcome, why }
}

fn plain(fault: &CertificateError) -> String {
    match fault {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet (do the clocks agree?)".to_owned()
        }
        CertificateError::UnknownIssuer => {
            "none of KEYGATE_EDGE_TLS_CLIENT_CA_FILE has signed it".to_owned()
        }
        other => other.to_string(),
    }
}

fn is_distrust(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(
        alert,
        A::UnknownCA
            | A::BadCertificate
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::CertificateRevoked
            | A::UnsupportedCertificate
    )
}
