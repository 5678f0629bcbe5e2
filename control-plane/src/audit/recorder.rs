//! Writes the control plane's own events that are no part of a change: refused admin calls,
//! violations. Those who report one at the same time share a transaction, so a flood of refused
//! calls costs a few writes a second, and each caller still knows its event is safe before it
//! answers.

use edge_protocol::EventKind;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{AuditEntry, waiting::Waiting};
use crate::{clock::Clock, metrics, store::Store};

/// Events that may wait to be written.
const QUEUE: usize = 2048;
/// Events in a transaction.
const BATCH: usize = 500;
/// How long a caller waits for its event to be safe; its log line is written in any case.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between attempts while the database cannot be written.
const RETRY_EVERY: Duration = Duration::from_millis(500);
/// How long to go on trying when the service ends.
const LAST_TRY: Duration = Duration::from_secs(3);

struct Report {
    entry: AuditEntry,
    written: oneshot::Sender<()>,
}

/// What is not written yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// How many events.
    pub events: u64,
    /// For how long the oldest of them has waited.
    pub age: Duration,
}

/// Takes events, and writes them in batches.
pub struct Recorder {
    reports: mpsc::Sender<Report>,
    inbox: Mutex<mpsc::Receiver<Report>>,
    /// Since when each event waits that is not written yet, in the order of the queue.
    waiting: Waiting,
    dropped: AtomicU64,
    failing: AtomicBool,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

impl Recorder {
    /// A recorder with nothing to do; [`Self::run`] does the writing.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        let (reports, inbox) = mpsc::channel(QUEUE);
        Self {
            reports,
            inbox: Mutex::new(inbox),
            waiting: Waiting::default(),
            dropped: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            store,
            clock,
        }
    }

    /// Logs an event and waits until it is in the database, but not for ever. When there is no
    /// room it is only counted, and the count becomes an event of its own.
    pub async fn record(&self, entry: AuditEntry) {
        entry.log();
        let (written, done) = oneshot::channel();
        let report = Report { entry, written };
        if !self.waiting.join(|| self.reports.try_send(report).is_ok()) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            ::metrics::counter!(metrics::AUDIT_DROPPED).increment(1);
            return;
        }
        // Whether it was written in time or not, the caller has its own answer to give.
        let _ = tokio::time::timeout(PATIENCE, done).await;
    }

    /// What is not written yet.
    #[must_use]
    pub fn backlog(&self) -> Backlog {
        self.waiting.backlog()
    }

    /// Whether the last attempt to write failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Writes until `stop`, and then what is left.
    pub async fn run(&self, stop: CancellationToken) {
        let mut inbox = self.inbox.lock().await;
        // What an earlier run had taken out when it died is lost to the database.
        self.waiting.keep_last(|| inbox.len());
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                count = inbox.recv_many(&mut batch, BATCH) => if count == 0 { return },
                () = stop.cancelled() => break,
            }
            self.write(batch, &stop).await;
        }
        inbox.close();
        let mut rest = Vec::new();
        while inbox.recv_many(&mut rest, QUEUE).await > 0 {}
        if !rest.is_empty()
            && tokio::time::timeout(LAST_TRY, self.write(rest, &stop)).await.is_err()
        {
            tracing::error!("the last audit events could not be written; the log has them");
        }
    }

    async fn write(&self, batch: Vec<Report>, stop: &CancellationToken) {
        let count = batch.len();
        let (mut entries, waiting): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|report| (report.entry, report.written)).unzip();
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let entry = AuditEntry::of(
                EventKind::EventsDropped,
                self.clock.now(),
                format!("count={dropped}"),
            );
            entry.log();
            entries.push(entry);
        }
        let mut last = false;
        while let Err(error) = self.store.append(&entries).await {
            self.failing.store(true, Ordering::Relaxed);
            tracing::error!(%error, events = entries.len(), "the audit log cannot be written");
            if last {
                self.waiting.leave(count);
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY_EVERY) => {}
                () = stop.cancelled() => last = true,
            }
        }
        self.failing.store(false, Ordering::Relaxed);
        self.waiting.leave(count);
        for written in waiting {
            // The caller may have lost its patience.
            let _ = written.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};

    use super::*;
    use crate::testing::{Database, TestService, on_each_database, send};

    fn entry(it: &TestService, details: &str) -> AuditEntry {
        AuditEntry::of(EventKind::AdminDenied, it.clock.now(), details)
    }

    async fn health(it: &TestService) -> serde_json::Value {
        let request = Request::get("/health").body(Body::empty()).expect("a request");
        send(&it.admin, request).await.json()
    }

    on_each_database!(events_are_kept_while_the_log_cannot_be_written_and_the_service_says_so);

    async fn events_are_kept_while_the_log_cannot_be_written_and_the_service_says_so(
        database: Database,
    ) {
        let it = TestService::start_at(database).await;
        it.database.execute("ALTER TABLE api_key_audit_log RENAME TO elsewhere").await;
        it.service.recorder.record(entry(&it, "n=1")).await;
        let degraded = health(&it).await;
        assert_eq!(
            (&degraded["status"], &degraded["database"]),
            (&"degraded".into(), &"connected".into())
        );

        it.database.execute("ALTER TABLE elsewhere RENAME TO api_key_audit_log").await;
        it.service.recorder.record(entry(&it, "n=2")).await;
        let details: Vec<_> = it.audit().await.into_iter().map(|(_, details)| details).collect();
        assert_eq!(details, ["n=1", "n=2"]);
        assert_eq!(health(&it).await["status"], "healthy");
    }

    #[tokio::test]
    async fn what_finds_no_room_is_counted_and_the_count_is_an_event() {
        let it = TestService::start().await;
        let recorder = Recorder::new(Arc::clone(&it.service.store), Arc::clone(&it.service.clock));
        // Nobody writes yet: each waits until its patience ends.
        let reports = (0..QUEUE + 3).map(|_| Box::pin(recorder.record(entry(&it, "x"))));
        let mut waiting: Vec<_> = reports.collect();
        for report in &mut waiting {
            let _ = tokio::time::timeout(Duration::ZERO, report.as_mut()).await;
        }
        assert_eq!(recorder.dropped.load(Ordering::Relaxed), 3);
        let stop = CancellationToken::new();
        stop.cancel();
        recorder.run(stop).await;
        let audit = it.service.store.audit_rows(&crate::store::AuditFilter::default(), 5000).await;
        let rows = audit.expect("rows");
        assert_eq!(rows.len(), QUEUE + 1);
        let dropped = rows.iter().find(|row| row.entry.event.kind == EventKind::EventsDropped);
        assert_eq!(dropped.expect("an event").entry.event.details, "count=3");
    }
}
