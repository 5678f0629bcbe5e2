//! Copies of a `PostgreSQL` database, made and put back by its own programs.

use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use std::{
    ffi::OsStr,
    io,
    path::Path,
    process::{Command, Stdio},
};

use super::{PostgresStore, StoreError, audit};
use crate::{
    audit::AuditEntry,
    config::{PostgresConfig, percent},
    store::backup::BackupStore,
};

/// How long `pg_dump` waits for a table that somebody changes the form of.
const LOCK_WAIT: &str = "--lock-wait-timeout=60s";

/// Why one of the programs did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It is not there.
    #[error(
        "{0} is not installed; it comes with PostgreSQL's client programs (Debian: apt-get install \
         postgresql-client), of the server's version or a later one"
    )]
    Missing(&'static str),
    /// It cannot be run.
    #[error("{0} cannot be run: {1}")]
    Run(&'static str, io::Error),
    /// It has failed, and says why.
    #[error("{0} has failed: {1}")]
    Failed(&'static str, String),
}

/// Copies the database as it is at one moment, while others write to it.
///
/// # Errors
/// When `pg_dump` is missing, or fails.
pub fn dump(config: &PostgresConfig, to: &Path) -> Result<(), ToolError> {
    let mut command = program("pg_dump", config);
    command.args(["--format=custom", "--no-owner", "--no-privileges", LOCK_WAIT]);
    command.arg("--file").arg(to).stdin(Stdio::null());
    finish("pg_dump", command, |_| Ok(()))
}

/// Fills an empty database with a copy; all of it or nothing.
///
/// # Errors
/// When `pg_restore` is missing, or fails.
pub fn load(config: &PostgresConfig, copy: &mut dyn io::Read) -> Result<(), ToolError> {
    let mut command = program("pg_restore", config);
    command.args(["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges"]);
    command.arg("--dbname").arg(config.connect_options().get_database().unwrap_or_default());
    command.stdin(Stdio::piped());
    finish("pg_restore", command, |input| io::copy(copy, input).map(drop))
}

/// Whether there is nothing in the database.
///
/// # Errors
/// When it cannot be reached.
pub async fn is_empty(config: &PostgresConfig) -> Result<bool, StoreError> {
    let mut connection = PgConnection::connect_with(&config.connect_options()).await?;
    let empty = sqlx::query_scalar(
        "SELECT NOT EXISTS (
            SELECT 1 FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
            WHERE nspname <> 'information_schema' AND nspname NOT LIKE 'pg\\_%')",
    )
    .fetch_one(&mut connection)
    .await?;
    connection.close().await?;
    Ok(empty)
}

/// The program, told where the database is by its environment: what stands on a command line,
/// everyone on the machine can read.
fn program(name: &str, config: &PostgresConfig) -> Command {
    let options = config.connect_options();
    let mut command = Command::new(name);
    let mut set = |name: &str, value: &OsStr| {
        command.env(name, value);
    };
    match options.get_socket() {
        Some(socket) => set("PGHOST", socket.as_os_str()),
        None => set("PGHOST", options.get_host().as_ref()),
    }
    set("PGPORT", options.get_port().to_string().as_ref());
    set("PGUSER", options.get_username().as_ref());
    set("PGDATABASE", options.get_database().unwrap_or_default().as_ref());
    set("PGAPPNAME", "keygate backup".as_ref());
    for (name, value) in secrets(&options) {
        set(name, value.as_ref());
    }
    command
}

/// What the options tell only as a URL: password, and how TLS is spoken.
fn secrets(options: &PgConnectOptions) -> Vec<(&'static str, String)> {
    let url = options.to_url_lossy();
    let mut found = Vec::new();
    if let Some(password) = url.password().and_then(percent::decode) {
        found.push(("PGPASSWORD", password));
    }
    for (name, value) in url.query_pairs() {
        let variable = match &*name {
            "sslmode" => "PGSSLMODE",
            "sslrootcert" => "PGSSLROOTCERT",
            "sslcert" => "PGSSLCERT",
            "sslkey" => "PGSSLKEY",
            _ => continue,
        };
        found.push((variable, value.into_owned()));
    }
    found
}

/// Runs it to its end. What goes wrong while it is fed is its own to say.
fn finish(
    name: &'static str,
    mut command: Command,
    feed: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
) -> Result<(), ToolError> {
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ToolError::Missing(name),
        _ => ToolError::Run(name, error),
    })?;
    let input_ended = process.stdin.take().map_or(Ok(()), |mut input| feed(&mut input));
    let output = process.wait_with_output().map_err(|error| ToolError::Run(name, error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(ToolError::Failed(name, said));
    }
    input_ended.map_err(|error| ToolError::Run(name, error))
}

impl PostgresStore {
    async fn try_begin_anew(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::query(
            "UPDATE settings SET value = replace(gen_random_uuid()::text, '-', '')
             WHERE name = 'feed_epoch'",
        )
        .execute(&mut *transaction)
        .await?;
        audit::insert(&mut transaction, std::slice::from_ref(entry)).await?;
        self.finish(transaction).await
    }
}

#[async_trait::async_trait]
impl BackupStore for PostgresStore {
    async fn begin_anew(&self, audit: &AuditEntry) -> Result<(), StoreError> {
        self.writes.noted(self.try_begin_anew(audit).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_reaches_the_programs_as_it_was_written() {
        let options: PgConnectOptions =
            "postgres://u:p%40%25%C3%A9@h/d?sslmode=verify-full".parse().expect("options");
        let found = secrets(&options);
        assert!(found.contains(&("PGPASSWORD", "p@%é".to_owned())), "{found:?}");
        assert!(found.contains(&("PGSSLMODE", "verify-full".to_owned())), "{found:?}");
    }
}
