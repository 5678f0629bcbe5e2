//! Whether the database answers, is up to date, whole, and can be written.

mod postgres;
mod sqlite;

use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout};

use super::{
    clock::Reading,
    finding::{Check, Finding, milliseconds},
};
use crate::{
    clock::Clock,
    config::{Config, DatabaseUrl},
    store::{self, OpenError, Store},
};

/// Longer than any database takes that is of use to a service.
const PATIENCE: Duration = Duration::from_secs(10);
/// A look-up is a trip to the database; a filter waits a second for it.
const SLOW: Duration = Duration::from_millis(50);
/// The quickest of so many trips counts: the first one may open a connection.
const TRIPS: usize = 3;

/// What was found.
pub(super) struct Examined {
    pub(super) findings: Vec<Finding>,
    /// The store, if it can be opened.
    pub(super) store: Option<Arc<dyn Store>>,
    /// What time it is there, where that is another machine.
    pub(super) reading: Option<Reading>,
}

impl Examined {
    fn unusable(finding: Finding) -> Self {
        Self { findings: vec![finding], store: None, reading: None }
    }
}

pub(super) async fn examine(config: &Config, clock: &dyn Clock) -> Examined {
    let opened = timeout(PATIENCE, store::open(&config.database)).await;
    let store = match opened {
        Ok(Ok(store)) => store,
        Ok(Err(error)) => return Examined::unusable(unusable(&error)),
        Err(_) => {
            let what =
                format!("{} does not answer within {} s", config.database, PATIENCE.as_secs());
            let mend = "see whether it runs, and whether this machine can reach it";
            return Examined::unusable(Finding::failed(Check::Database, what, mend));
        }
    };
    let mut findings = vec![answers(&*store, config).await];
    let (found, reading) = match &config.database {
        DatabaseUrl::Sqlite(path) => (sqlite::examine(path).await, None),
        DatabaseUrl::Postgres(config) => postgres::examine(config, clock).await,
    };
    findings.extend(found);
    Examined { findings, store: Some(store), reading }
}

fn unusable(error: &OpenError) -> Finding {
    let mend = match error {
        OpenError::Missing(_) | OpenError::Pending { .. } => "keygate migrate",
        OpenError::Foreign { .. } => "run the version of keygate that made it, or a newer one",
        OpenError::Unreachable { .. } => {
            "see whether it runs, and whether KEYGATE_DATABASE_URL names it and who may use it"
        }
        OpenError::Migration { .. } | OpenError::Store(_) => {
            "see the database's own log; docs/incident-runbook.md"
        }
    };
    Finding::failed(Check::Database, error.to_string(), mend)
}

async fn answers(store: &dyn Store, config: &Config) -> Finding {
    let mut quickest: Option<Duration> = None;
    for _ in 0..TRIPS {
        let started = Instant::now();
        match timeout(PATIENCE, store.ping()).await {
            Ok(Ok(())) => {
                let took = started.elapsed();
                quickest = Some(quickest.map_or(took, |known| known.min(took)));
            }
            Ok(Err(error)) => {
                let mend = "see the database's own log";
                return Finding::failed(Check::Database, error.to_string(), mend);
            }
            Err(_) => break,
        }
    }
    judge_latency(&config.database.to_string(), quickest)
}

fn judge_latency(database: &str, quickest: Option<Duration>) -> Finding {
    match quickest {
        None => Finding::failed(
            Check::Database,
            format!("{database} is open and does not answer"),
            "see what keeps it busy",
        ),
        Some(took) if took > SLOW => Finding::warning(
            Check::Database,
            format!("{database} is up to date; a trip to it takes {}", milliseconds(took)),
            "put it nearer, or see what keeps it busy: each new key costs such a trip",
        ),
        Some(took) => Finding::ok(
            Check::Database,
            format!("{database} is up to date; a trip to it takes {}", milliseconds(took)),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::SystemClock,
        doctor::finding::Status,
        testing::{Database, config},
    };
    use edge_protocol::Deployment;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_database_that_is_not_there_is_a_failure_and_migrate_mends_it() {
        let database = Database::new().await;
        let mut config = config(&database, Deployment::Production);
        config.database = DatabaseUrl::Sqlite(database.path.with_extension("missing"));
        let Examined { findings, store, .. } = examine(&config, &SystemClock).await;
        assert!(store.is_none());
        assert_eq!(findings[0].status, Status::Failed);
        assert_eq!(findings[0].mend.as_deref(), Some("keygate migrate"));
        assert!(!database.path.with_extension("missing").exists(), "looking made it");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_good_database_is_well() {
        let database = Database::new().await;
        let config = config(&database, Deployment::Production);
        let Examined { findings, store, .. } = examine(&config, &SystemClock).await;
        assert!(store.is_some());
        assert!(findings.iter().all(|it| it.status <= Status::Ok), "{findings:?}");
    }

    #[test]
    fn a_slow_database_is_told_and_a_silent_one_is_a_failure() {
        for (took, status) in
            [(Some(1), Status::Ok), (Some(80), Status::Warning), (None, Status::Failed)]
        {
            let found = judge_latency("sqlite://x", took.map(Duration::from_millis));
            assert_eq!(found.status, status, "{took:?}");
        }
    }
}
