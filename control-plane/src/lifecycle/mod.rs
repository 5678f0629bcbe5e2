//! Starting, running and ending the service.

mod hash_cost;
mod listeners;
mod signals;
mod start;
mod tasks;
mod upkeep;

#[cfg(test)]
mod tests;

use anyhow::Context;
use std::{sync::Arc, time::Duration};

use crate::{audit::chain::checkpoint::Reason, config::Settings, metrics, service::Service};
use signals::Signals;
use tasks::Tasks;

/// How long what is under way may still take when the service is told to end.
const DRAIN: Duration = Duration::from_secs(10);
/// How long what writes may take after that. With the last checkpoint, and a second to let go of
/// connections, an end takes less than the 30 s after which container runtimes kill.
const LAST_WRITES: Duration = Duration::from_secs(5);
/// How long the last checkpoint may take.
const LAST_CHECKPOINT: Duration = Duration::from_secs(3);
/// How long connections to the database may take to end.
const LAST_CONNECTIONS: Duration = Duration::from_secs(1);

/// Runs the service until it is told to end by SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start, or a part of it has failed.
pub async fn serve(settings: &Settings) -> anyhow::Result<()> {
    // First of all: who ends us while we start must not have to wait, or to kill.
    let mut signals = Signals::new()?;
    let prometheus = metrics::install().context("metrics")?;
    let running = tokio::select! {
        running = start::start(settings, prometheus) => running?,
        name = signals.next() => {
            tracing::info!(signal = name, "ended before it had started");
            return Ok(());
        }
    };
    running.until_told(&mut signals).await
}

/// The service while it runs.
struct Running {
    service: Arc<Service>,
    /// What answers and reports.
    tasks: Tasks,
    /// What writes; it must outlive what reports.
    writers: Tasks,
    /// Where the admin listener listens.
    #[cfg(test)]
    admin: std::net::SocketAddr,
}

impl Running {
    /// Runs until a signal, or until a part fails; then ends everything in order.
    async fn until_told(mut self, signals: &mut Signals) -> anyhow::Result<()> {
        let result = tokio::select! {
            name = signals.next() => {
                tracing::info!(
                    signal = name,
                    "ending: what is under way may take {} s",
                    DRAIN.as_secs()
                );
                Ok(())
            }
            name = self.tasks.first_lost() => Err(lost(name)),
            name = self.writers.first_lost() => Err(lost(name)),
        };
        tokio::select! {
            () = self.end() => tracing::info!("ended"),
            name = signals.next() => tracing::warn!(signal = name, "ended at once: told so twice"),
        }
        result
    }

    /// Kills a task, as a bug would, when it is told to.
    #[cfg(test)]
    fn handle(&self, name: &str) -> tokio::task::AbortHandle {
        let found = self.tasks.handle(name).or_else(|| self.writers.handle(name));
        found.expect("a task of that name")
    }

    async fn end(&mut self) {
        self.tasks.end(DRAIN + Duration::from_secs(1)).await;
        let changes = &self.service.changes;
        changes.close();
        // What is being stored is stored, though its filter may no longer wait for it.
        let changing = async { tokio::join!(changes.wait(), self.service.event_writer.end()) };
        if tokio::time::timeout(LAST_WRITES, changing).await.is_err() {
            tracing::warn!(left = changes.len(), "changes or events were cut off");
        }
        // What was refused while the listeners came to their end is told too.
        for entry in self.service.admin_denials.rest(self.service.clock.now()) {
            self.service.recorder.record(entry).await;
        }
        self.writers.end(LAST_WRITES).await;
        // Last of all, when nobody writes any more.
        let vouch = self.service.audit_keeper.checkpoint(Reason::Shutdown);
        match tokio::time::timeout(LAST_CHECKPOINT, vouch).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::error!(%error, "the last checkpoint cannot be written"),
            Err(_) => tracing::error!("the last checkpoint was cut off"),
        }
        if tokio::time::timeout(LAST_CONNECTIONS, self.service.store.close()).await.is_err() {
            tracing::warn!("connections to the database were cut off");
        }
    }
}

fn lost(task: &str) -> anyhow::Error {
    anyhow::anyhow!("the task `{task}` died; the log says why")
}
