//! Writes the control plane's own events that are no part of a change: refused admin calls,
//! violations, reads. Those who report one at the same time share a transaction, so a flood of
//! refused calls costs a few writes a second, and each caller still knows its event is safe before
//! it answers. What nobody waits for gathers for a second, so that reads cost one write a second.

use edge_protocol::EventKind;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{AuditEntry, waiting::Waiting};
use crate::{clock::Clock, metrics, store::Store};

/// Events that may wait to be written.
const QUEUE: usize = 2048;
/// Of these, how many may be such as nobody waits for: reads must not keep refusals out.
const UNHURRIED: usize = QUEUE / 2;
/// For how long what nobody waits for gathers before it is written.
const GATHER: Duration = Duration::from_millis(if cfg!(test) { 2 } else { 1000 });
/// Events in a transaction.
const BATCH: usize = 500;
/// How long a caller waits for its event to be safe; its log line is written in any case. A filter
/// that asks waits a second for its answer, and must get one.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between attempts while the database cannot be written.
const RETRY_EVERY: Duration = Duration::from_millis(250);
/// How long to go on trying when the service ends.
const LAST_TRY: Duration = Duration::from_secs(3);

struct Report {
    entry: AuditEntry,
    /// Who waits for it to be written, if anybody does.
    written: Option<oneshot::Sender<()>>,
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
        if self.send(Report { entry, written: Some(written) }) {
            // Whether it was written in time or not, the caller has its own answer to give.
            let _ = tokio::time::timeout(PATIENCE, done).await;
        }
    }

    /// Logs an event, and has it written within about a second. Nobody waits for it, so a database
    /// that fails keeps nobody up. It is counted where there is no room, as the others are.
    pub fn note(&self, entry: AuditEntry) {
        entry.log();
        self.send(Report { entry, written: None });
    }

    /// Puts it into the queue, or counts it; says whether there was room.
    fn send(&self, report: Report) -> bool {
        let sent = self.waiting.join(|| {
            let queued = QUEUE.saturating_sub(self.reports.capacity());
            let room = report.written.is_some() || queued < UNHURRIED;
            room && self.reports.try_send(report).is_ok()
        });
        if !sent {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            ::metrics::counter!(metrics::AUDIT_DROPPED).increment(1);
        }
        sent
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
            gather(&mut inbox, &mut batch, &stop).await;
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
        for written in waiting.into_iter().flatten() {
            // The caller may have lost its patience.
            let _ = written.send(());
        }
    }
}

/// Adds what comes within [`GATHER`] to what nobody waits for; ends when somebody does.
async fn gather(
    inbox: &mut mpsc::Receiver<Report>,
    batch: &mut Vec<Report>,
    stop: &CancellationToken,
) {
    let until = Instant::now() + GATHER;
    while batch.len() < BATCH && batch.iter().all(|report| report.written.is_none()) {
        let room = BATCH - batch.len();
        tokio::select! {
            count = inbox.recv_many(batch, room) => if count == 0 { return },
            () = tokio::time::sleep_until(until) => return,
            () = stop.cancelled() => return,
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
        // Both are written by the next attempt; a caller's patience may have ended before.
        let written = async {
            while it.service.recorder.backlog().events > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), written).await.expect("written at last");
        let details: Vec<_> = it.audit().await.into_iter().map(|(_, details)| details).collect();
        assert_eq!(details, ["n=1", "n=2"]);
        assert_eq!(health(&it).await["status"], "healthy");
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_written_together_and_leaves_room_for_refusals() {
        let it = TestService::start().await;
        let recorder = Recorder::new(Arc::clone(&it.service.store), Arc::clone(&it.service.clock));
        for _ in 0..UNHURRIED + 5 {
            recorder.note(entry(&it, "read"));
        }
        assert_eq!(recorder.dropped.load(Ordering::Relaxed), 5);
        let refused = entry(&it, "refused");
        let mut refused = Box::pin(recorder.record(refused));
        let _ = tokio::time::timeout(Duration::ZERO, refused.as_mut()).await;
        assert_eq!(recorder.dropped.load(Ordering::Relaxed), 5, "a refusal finds room");
        let stop = CancellationToken::new();
        // It is written without waiting for more.
        let written = async {
            refused.await;
            while recorder.backlog().events > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = recorder.run(stop) => panic!("it ended"),
            () = written => {}
        }
        let filter = crate::store::AuditFilter::default();
        let rows = it.service.store.audit_rows(&filter, 5000).await.expect("rows");
        assert_eq!(rows.len(), UNHURRIED + 2);
        assert_eq!(rows.iter().filter(|row| row.entry.event.details == "count=5").count(), 1);
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
