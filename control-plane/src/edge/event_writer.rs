//! Writing down what filters report: batches that come while others are written wait, and go into
//! the next transaction together.
//!
//! All that is added to the audit log goes through the end of its chain, one transaction after the
//! other, so they wait in any case; together they wait for the disk once, and take one round trip
//! for each statement, however many filters there are.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    gather::{AnswersMany, Bounds, Gather, GivenUp},
    keys::last_used::LastUsed,
    metrics,
    store::{BatchOutcome, FilterBatch, Store, StoreError},
    usage::{Uses, ingest},
};

/// Events and counts of a transaction: so few that nobody waits long for another's batch.
/// One transaction at a time: batches of a filter are stored in the order in which they come.
const BOUNDS: Bounds = Bounds { weight: 2048, spare: None };

/// Writes filters' batches.
pub struct EventWriter(Gather<Writer>);

impl EventWriter {
    /// One that has nothing to write yet.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, last_used: Arc<LastUsed>) -> Self {
        Self(Gather::new(Writer { store, last_used }, BOUNDS))
    }

    /// Writes a batch, with others or alone. It may be stored even though its filter no longer waits;
    /// then it counts as repeated when it comes again.
    ///
    /// # Errors
    /// When it is not stored, or nobody knows.
    pub async fn write(&self, batch: FilterBatch) -> Result<BatchOutcome, StoreError> {
        self.0.ask(batch).await?
    }

    /// Waits until all is written that somebody waits for, and what is being written in any case. Nobody
    /// may bring any more; filters bring again what they have not heard of.
    pub async fn end(&self) {
        self.0.end().await;
    }
}

struct Writer {
    store: Arc<dyn Store>,
    last_used: Arc<LastUsed>,
}

type Written = Result<BatchOutcome, StoreError>;

impl AnswersMany for Writer {
    type Question = FilterBatch;
    type Answer = Written;

    fn weight(batch: &FilterBatch) -> usize {
        (batch.entries.len() + batch.usage.len()).max(1)
    }

    async fn answer(&self, batches: Vec<FilterBatch>) -> Vec<Written> {
        // By the place of the batch.
        let mut written: BTreeMap<usize, Written> = BTreeMap::new();
        let mut failed: HashMap<&str, StoreError> = HashMap::new();
        let mut left: Vec<(usize, &FilterBatch)> = batches.iter().enumerate().collect();
        while !left.is_empty() {
            // A filter's next batch after its last one.
            let mut sources = HashSet::new();
            let (mut group, later): (Vec<_>, _) =
                left.into_iter().partition(|(_, batch)| sources.insert(&batch.source));
            group.sort_by(|(_, one), (_, other)| one.source.cmp(&other.source));
            let (places, group): (Vec<_>, Vec<_>) = group.into_iter().unzip();
            let outcomes = self.write(&group).await;
            for (batch, outcome) in group.iter().zip(&outcomes) {
                if let Err(error) = outcome {
                    failed.insert(&batch.source, error.clone());
                }
            }
            written.extend(places.into_iter().zip(outcomes));
            // And not without it.
            left = later;
            left.retain(|(place, batch)| match failed.get(batch.source.as_str()) {
                Some(error) => written.insert(*place, Err(error.clone())).is_some(),
                None => true,
            });
        }
        written.into_values().collect()
    }
}

impl Writer {
    /// Writes batches of different filters, and notes what is to be noted of those that are stored:
    /// here, since whoever brought one may have gone.
    async fn write(&self, group: &[&FilterBatch]) -> Vec<Written> {
        let written = match self.store.append_batches(group).await {
            Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
            // One that cannot be stored must not keep the others out.
            Err(error) if group.len() > 1 && error.is_about_values() => {
                self.write_each(group).await
            }
            Err(error) => vec![Err(error); group.len()],
        };
        for (batch, written) in group.iter().zip(&written) {
            if let Ok(outcome) = written {
                self.note(batch, *outcome);
            }
        }
        written
    }

    /// Each in a transaction of its own, until the database fails.
    async fn write_each(&self, group: &[&FilterBatch]) -> Vec<Written> {
        let mut written: Vec<Written> = Vec::with_capacity(group.len());
        for batch in group {
            let one = match written.last() {
                Some(Err(error)) if !error.is_about_values() => Err(error.clone()),
                _ => self.store.append_batches(&[batch]).await.and_then(|outcomes| {
                    outcomes.first().copied().ok_or(StoreError::GivenUp(GivenUp))
                }),
            };
            written.push(one);
        }
        written
    }

    fn note(&self, batch: &FilterBatch, outcome: BatchOutcome) {
        // Of a repeated one too: when nobody heard that it was stored, nobody has noted it. Uses may
        // be noted any number of times, but events be counted only once.
        ingest::note_uses(&batch.usage, &self.last_used);
        let label = match outcome {
            BatchOutcome::Stored => {
                measure(batch);
                "stored"
            }
            BatchOutcome::Repeated => "repeated",
        };
        ::metrics::counter!(metrics::EVENT_BATCHES, "outcome" => label).increment(1);
    }
}

fn measure(batch: &FilterBatch) {
    let events = u64::try_from(batch.entries.len()).unwrap_or(u64::MAX);
    ::metrics::counter!(metrics::EVENTS_INGESTED).increment(events);
    metrics::decisions::count_reported(batch.entries.iter().map(|entry| &entry.event));
    for Uses { of, count } in &batch.usage {
        ::metrics::counter!(metrics::USAGE, "outcome" => of.outcome.as_str()).increment(*count);
    }
    if !batch.usage.is_empty() {
        let age = Duration::from_millis(ingest::age_ms(&batch.usage, batch.at));
        ::metrics::gauge!(metrics::USAGE_AGE).set(age.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use edge_protocol::{EventKind, UsageMethod, UsageOutcome};
    use key_policy::KeyId;
    use sqlx::{Connection, Executor, PgConnection, SqliteConnection};
    use tokio::task::JoinSet;

    use super::*;
    use crate::{
        audit::AuditRow,
        clock::unix_ms,
        config::DatabaseUrl,
        store::{
            AuditFilter,
            conformance::{batch_of, entry},
            sqlite,
        },
        testing::{Database, START, at, on_each_database},
        usage::{
            Minute, Use,
            period::{Interval, Period},
        },
    };

    on_each_database!(
        those_that_come_while_one_is_written_go_into_one_link_of_the_chain,
        a_filter_that_gives_up_loses_nothing_and_takes_nobody_along,
        one_that_cannot_be_stored_keeps_no_others_out,
        two_batches_of_a_filter_are_stored_in_their_order,
    );

    /// Keeps everybody from writing to the database for as long as it is there.
    enum Hold {
        Sqlite(SqliteConnection),
        Postgres(PgConnection),
    }

    impl Hold {
        async fn on(database: &Database) -> Self {
            match &database.url {
                DatabaseUrl::Sqlite(path) => {
                    let options = sqlite::options(path);
                    let mut connection =
                        SqliteConnection::connect_with(&options).await.expect("a connection");
                    connection.execute("BEGIN IMMEDIATE").await.expect("held");
                    Self::Sqlite(connection)
                }
                DatabaseUrl::Postgres(_) => {
                    let mut connection = database.connect_to_postgres().await;
                    let held = "BEGIN; LOCK TABLE edge_sources IN EXCLUSIVE MODE";
                    connection.execute(held).await.expect("held");
                    Self::Postgres(connection)
                }
            }
        }

        async fn let_go(self) {
            match self {
                Self::Sqlite(mut connection) => connection.execute("COMMIT").await.map(drop),
                Self::Postgres(mut connection) => connection.execute("COMMIT").await.map(drop),
            }
            .expect("let go");
        }
    }

    struct Desk {
        store: Arc<dyn Store>,
        last_used: Arc<LastUsed>,
        writer: Arc<EventWriter>,
        bringers: JoinSet<(String, Written)>,
    }

    impl Desk {
        async fn new(database: &Database) -> Self {
            let store = database.open().await;
            let last_used = Arc::new(LastUsed::default());
            let writer = EventWriter::new(Arc::clone(&store), Arc::clone(&last_used));
            Self { store, last_used, writer: Arc::new(writer), bringers: JoinSet::new() }
        }

        /// Brings a batch, and waits until it is with those that wait or under way.
        async fn bring(&mut self, batch: FilterBatch) {
            let writer = Arc::clone(&self.writer);
            let name = format!("{} {}", batch.source, batch.batch);
            self.bringers.spawn(async move { (name, writer.write(batch).await) });
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        }

        /// What came of each, by their names.
        async fn told(&mut self) -> Vec<(String, Option<BatchOutcome>)> {
            let mut told = Vec::new();
            while let Some(one) = self.bringers.join_next().await {
                let (name, written) = one.expect("no panic");
                told.push((name, written.ok()));
            }
            told.sort_by(|(one, _), (other, _)| one.cmp(other));
            told
        }

        /// The sources of the log's rows, oldest first, and the link of the chain that each is in.
        async fn rows(&self) -> Vec<(String, u64)> {
            let rows = self.store.audit_rows(&AuditFilter::default(), 1000).await.expect("rows");
            let batches = self.store.chain_batches(0, 1000).await.expect("links");
            let link = |id: i64| batches.iter().find(|it| (it.first_id..=it.last_id).contains(&id));
            let row = |row: &AuditRow| (row.source.clone(), link(row.id).expect("a link").sequence);
            rows.iter().rev().map(row).collect()
        }
    }

    /// The one key that a filter of this name lets through.
    fn key_of(source: &str) -> KeyId {
        KeyId::from_u64(source.bytes().map(u64::from).sum())
    }

    /// A batch of one event, and of so many uses of the filter's key.
    fn batch(source: &str, number: u64, count: u64) -> FilterBatch {
        let (method, outcome) = (UsageMethod::Get, UsageOutcome::Allowed);
        let minute = Minute::of(unix_ms(at(START)));
        let of = Use { key_id: key_of(source), minute, method, outcome };
        let events = [entry(EventKind::IpDenied, 0)];
        FilterBatch {
            usage: vec![Uses { of, count }],
            ..batch_of(source, number, at(START), &events)
        }
    }

    async fn uses(desk: &Desk) -> u64 {
        let period = Period::new(None, None, Interval::Day, at(START)).expect("a period");
        let mut uses = 0;
        for source in ["a", "b", "c", "d", "unfit"] {
            let sums = desk.store.usage(key_of(source), &period).await.expect("read");
            uses += sums.iter().map(|it| it.count).sum::<u64>();
        }
        uses
    }

    async fn those_that_come_while_one_is_written_go_into_one_link_of_the_chain(
        database: Database,
    ) {
        let mut desk = Desk::new(&database).await;
        let hold = Hold::on(&database).await;
        for source in ["c", "b", "d", "a"] {
            desk.bring(batch(source, 1, 2)).await;
        }
        hold.let_go().await;
        let stored = ["a 1", "b 1", "c 1", "d 1"];
        let stored = stored.map(|name| (name.to_owned(), Some(BatchOutcome::Stored)));
        assert_eq!(desk.told().await, stored);
        let links = [("c", 1), ("a", 2), ("b", 2), ("d", 2)];
        assert_eq!(desk.rows().await, links.map(|(source, link)| (source.to_owned(), link)));
        assert_eq!(uses(&desk).await, 8);
    }

    async fn a_filter_that_gives_up_loses_nothing_and_takes_nobody_along(database: Database) {
        let mut desk = Desk::new(&database).await;
        let hold = Hold::on(&database).await;
        desk.bring(batch("a", 1, 1)).await;
        desk.bring(batch("b", 1, 1)).await;
        // The one whose transaction waits, and one that waits for its turn.
        desk.bringers.abort_all();
        while desk.bringers.join_next().await.is_some() {}
        desk.bring(batch("c", 1, 1)).await;
        hold.let_go().await;
        assert_eq!(desk.told().await, [("c 1".to_owned(), Some(BatchOutcome::Stored))]);
        // They come again, as they do. What was stored unheard was noted all the same.
        assert_eq!(desk.last_used.waits(), 2);
        for source in ["a", "b"] {
            desk.bring(batch(source, 1, 1)).await;
        }
        let told = [("a 1", BatchOutcome::Repeated), ("b 1", BatchOutcome::Stored)];
        assert_eq!(desk.told().await, told.map(|(name, it)| (name.to_owned(), Some(it))));
        assert_eq!((uses(&desk).await, desk.rows().await.len()), (3, 3));
    }

    async fn one_that_cannot_be_stored_keeps_no_others_out(database: Database) {
        let mut desk = Desk::new(&database).await;
        let hold = Hold::on(&database).await;
        for source in ["a", "b", "unfit", "c"] {
            let count = if source == "unfit" { u64::MAX } else { 1 };
            desk.bring(batch(source, 1, count)).await;
        }
        hold.let_go().await;
        let stored = Some(BatchOutcome::Stored);
        let told = [("a 1", stored), ("b 1", stored), ("c 1", stored), ("unfit 1", None)];
        assert_eq!(desk.told().await, told.map(|(name, it)| (name.to_owned(), it)));
        assert_eq!((uses(&desk).await, desk.rows().await.len()), (3, 3));
    }

    async fn two_batches_of_a_filter_are_stored_in_their_order(database: Database) {
        let mut desk = Desk::new(&database).await;
        let hold = Hold::on(&database).await;
        // One that cannot be stored, and the next of its filter, which must not be stored without it.
        let unfit = [("d", 1, u64::MAX), ("d", 2, 1)];
        for (source, number, count) in
            [("b", 1, 1), ("a", 1, 1), ("a", 2, 1), ("a", 2, 1)].into_iter().chain(unfit)
        {
            desk.bring(batch(source, number, count)).await;
        }
        hold.let_go().await;
        let (stored, repeated) = (Some(BatchOutcome::Stored), Some(BatchOutcome::Repeated));
        let told = desk.told().await;
        let names = told.iter().map(|(name, it)| (name.as_str(), *it)).collect::<Vec<_>>();
        assert!(
            names.contains(&("a 2", repeated)) && names.contains(&("a 2", stored)),
            "{names:?}"
        );
        assert!(names.contains(&("d 1", None)) && names.contains(&("d 2", None)), "{names:?}");
        assert_eq!((uses(&desk).await, desk.rows().await.len()), (3, 3));
    }
}
