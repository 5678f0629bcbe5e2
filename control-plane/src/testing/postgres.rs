//! Databases on a real `PostgreSQL`: each test gets a copy of one that was migrated once.

use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::sync::OnceCell;

use crate::{
    config::DatabaseUrl,
    random::{Random, SystemRandom},
    store,
};

/// The digits of a name: enough for no two to be the same.
const NAME_DIGITS: usize = 12;

/// A database of a test's own.
pub(crate) struct Scratch {
    name: String,
    pub(crate) url: DatabaseUrl,
}

impl Scratch {
    /// One with its tables.
    pub(crate) async fn migrated() -> Self {
        static TEMPLATE: OnceCell<String> = OnceCell::const_new();
        let template = TEMPLATE.get_or_init(make_template).await;
        Self::create(&format!("TEMPLATE \"{template}\"")).await
    }

    /// One without any.
    pub(crate) async fn empty() -> Self {
        Self::create("").await
    }

    async fn create(how: &str) -> Self {
        let name = random_name();
        let mut admin = administrator().await;
        admin.execute(sql(format!("CREATE DATABASE \"{name}\" {how}"))).await.expect("made");
        Self { url: url(&name), name }
    }

    /// A connection that is under no rules but the database's.
    pub(crate) async fn connect(&self) -> PgConnection {
        let DatabaseUrl::Postgres(config) = &self.url else { panic!("another database") };
        PgConnection::connect_with(&config.connect_options()).await.expect("a connection")
    }
}

impl Drop for Scratch {
    /// What is left of hundreds of tests would fill a disk.
    fn drop(&mut self) {
        let statement = format!("DROP DATABASE IF EXISTS \"{}\" WITH (FORCE)", self.name);
        // The test's own runtime may be ending. Whether it works is of no interest: all goes with
        // the server.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map(|it| {
                it.block_on(async { administrator().await.execute(sql(statement)).await.map(drop) })
            })
        });
    }
}

pub(crate) fn url(database: &str) -> DatabaseUrl {
    let url = xtask::servers::postgres::shared_url(database).expect("PostgreSQL");
    url.parse().expect("a URL")
}

fn sql(text: String) -> AssertSqlSafe<String> {
    AssertSqlSafe(text)
}

async fn administrator() -> PgConnection {
    // Starting the server blocks; a test's runtime may have only this thread, and nothing to do.
    let DatabaseUrl::Postgres(config) = url("postgres") else { panic!("another database") };
    PgConnection::connect_with(&config.connect_options()).await.expect("a connection")
}

/// Makes the database that the others are copies of, if no other process has.
async fn make_template() -> String {
    let migrations = sqlx::migrate!("../migrations/postgres");
    let mut hasher = Sha256::new();
    for migration in migrations.iter() {
        hasher.update(&*migration.checksum);
    }
    let mut digest = hex::encode(hasher.finalize());
    digest.truncate(NAME_DIGITS);
    let name = format!("template_{digest}");

    let mut admin = administrator().await;
    admin.execute("SELECT pg_advisory_lock(1)").await.expect("a turn");
    let there: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)")
            .bind(&name)
            .fetch_one(&mut admin)
            .await
            .expect("an answer");
    if !there {
        // Under its name it is there only when it is whole.
        let draft = random_name();
        admin.execute(sql(format!("CREATE DATABASE \"{draft}\""))).await.expect("made");
        store::migrate(&url(&draft)).await.expect("migrations");
        admin
            .execute(sql(format!("ALTER DATABASE \"{draft}\" RENAME TO \"{name}\"")))
            .await
            .expect("renamed");
    }
    admin.close().await.expect("closed");
    name
}

fn random_name() -> String {
    let mut bytes = [0; NAME_DIGITS / 2];
    SystemRandom.fill(&mut bytes).expect("randomness");
    format!("test_{}", hex::encode(bytes))
}
