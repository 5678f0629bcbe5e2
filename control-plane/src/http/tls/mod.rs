//! TLS at a listener, and certificates that can be replaced while it runs.
//!
//! The files are looked at every few seconds, by content, so it does not matter how they are
//! replaced. When they make sense, new connections use them and old ones are asked to come again,
//! so that whoever is no longer trusted is out; while they do not, what was loaded before stays.

mod handshake;
mod load;
mod validity;

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use std::{sync::Arc, time::Duration};
use tokio::{net::TcpStream, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    config::{ConfigError, TlsFiles},
    metrics,
};
pub(super) use handshake::{Refusal, Secured};
use load::{Content, Loaded};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// A certificate that ends sooner is said so in the log.
const SOON: Duration = Duration::from_hours(14 * 24);

/// The other end has shown a certificate that one of our authorities has signed.
#[derive(Clone, Copy, Debug)]
pub struct ClientCertificate;

/// What the next connections are served with.
struct Current {
    config: Arc<rustls::ServerConfig>,
    /// Cancelled when others have come.
    replaced: CancellationToken,
}

/// TLS of one listener.
pub struct Tls {
    listener: &'static str,
    files: TlsFiles,
    clock: Arc<dyn Clock>,
    current: watch::Sender<Arc<Current>>,
    digest: [u8; 32],
}

/// When the certificate in these files ends, which must be such that a listener could serve with
/// them; none, when its end cannot be read.
///
/// # Errors
/// When one of them cannot be read or used; names the setting.
pub async fn expiry(files: &TlsFiles) -> Result<Option<Timestamp>, ConfigError> {
    Ok(Content::read(files).await?.load(files)?.expires)
}

/// What accepts connections of one listener in TLS.
#[derive(Clone)]
pub struct TlsAcceptor {
    current: watch::Receiver<Arc<Current>>,
    clock: Arc<dyn Clock>,
}

impl Tls {
    /// Reads the files of a listener for the first time.
    ///
    /// # Errors
    /// When one of them cannot be read or used; names the setting.
    pub async fn load(
        listener: &'static str,
        files: TlsFiles,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConfigError> {
        let content = Content::read(&files).await?;
        let loaded = content.load(&files)?;
        report(listener, &loaded, clock.now());
        let current = Current { config: loaded.config, replaced: CancellationToken::new() };
        let (current, _) = watch::channel(Arc::new(current));
        Ok(Self { listener, files, clock, current, digest: content.digest() })
    }

    /// What the listener accepts with; it follows every change.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor { current: self.current.subscribe(), clock: Arc::clone(&self.clock) }
    }

    /// Follows changes of the files until `stop`.
    pub async fn watch(mut self, stop: CancellationToken) {
        let mut failing = None;
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => return,
            }
            let problem = self.look().await.err().map(|error| error.to_string());
            if let Some(problem) = problem.as_ref().filter(|_| problem != failing) {
                tracing::error!(listener = self.listener, "new TLS files are not used: {problem}");
            }
            metrics_unusable(self.listener, problem.is_some());
            failing = problem;
        }
    }

    async fn look(&mut self) -> Result<(), ConfigError> {
        let content = Content::read(&self.files).await?;
        let digest = content.digest();
        if digest == self.digest {
            return Ok(());
        }
        let loaded = content.load(&self.files)?;
        self.digest = digest;
        report(self.listener, &loaded, self.clock.now());
        let new = Current { config: loaded.config, replaced: CancellationToken::new() };
        self.current.send_replace(Arc::new(new)).replaced.cancel();
        Ok(())
    }
}

impl TlsAcceptor {
    pub(super) async fn accept(&self, stream: TcpStream) -> Result<Secured, Refusal> {
        let current = Arc::clone(&self.current.borrow());
        handshake::shake(stream, &current, &*self.clock).await
    }
}

fn report(listener: &'static str, loaded: &Loaded, now: Timestamp) {
    metrics_unusable(listener, false);
    let Some(expires) = loaded.expires else {
        tracing::info!(listener, "TLS files are loaded");
        return;
    };
    #[expect(clippy::cast_precision_loss, reason = "seconds since the epoch are far below 2^52")]
    ::metrics::gauge!(metrics::TLS_EXPIRES, "listener" => listener).set(expires.as_second() as f64);
    let left = expires.duration_since(now);
    if left.is_negative() {
        tracing::error!(listener, %expires, "the certificate has expired: clients refuse it");
    } else if left.unsigned_abs() < SOON {
        tracing::warn!(listener, %expires, "TLS files are loaded; the certificate ends soon");
    } else {
        tracing::info!(listener, %expires, "TLS files are loaded");
    }
}

fn metrics_unusable(listener: &'static str, unusable: bool) {
    ::metrics::gauge!(metrics::TLS_UNUSABLE, "listener" => listener)
        .set(f64::from(u8::from(unusable)));
}
