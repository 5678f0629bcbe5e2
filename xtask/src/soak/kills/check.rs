//! What must hold after each round, while the administrators hold still.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::DerefMut;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::rounds::Rounds;
use crate::client::Client;
use crate::soak::admin::{self, Book, Facts};
use crate::soak::load::passes;
use crate::soak::scene::{REVOKED_WITHIN, Scene, Told};
use crate::wait;

/// How many of the keys that have ended are tried after each round, the latest.
const ENDED_KEYS: usize = 10;
/// Each of them on so many connections: a worker takes each.
const CONNECTIONS: usize = 3;
/// How long it may take until a filter has told everything: it asks again after 8 s at most.
const TOLD_WITHIN: Duration = Duration::from_secs(30);
/// An Envoy that is killed takes with it what it has not told, and it tells what is older than this
/// while the control plane is there: a batch that was not taken is sent again within 8 s.
const TELLS_WITHIN: Duration = Duration::from_secs(10);

/// The audit log, as far as it is looked at.
struct Log {
    /// Rows of changes by administrators, by event and key.
    changes: BTreeMap<(String, String), u64>,
    /// Clients of the gate that were refused for having no key.
    refused: BTreeSet<String>,
    rows: u64,
}

impl Rounds<'_> {
    /// Looks at what must hold: at what was changed since the last look, or at everything.
    pub(super) fn look(
        &mut self,
        mut books: Vec<impl DerefMut<Target = Book>>,
        deep: bool,
    ) -> Result<()> {
        // The connection of the last look may have ended with the control plane.
        self.client = Client::new(self.scene.admin);
        for book in &mut books {
            book.resolve(self.scene, &mut self.client)?;
            for id in std::mem::take(&mut book.touched) {
                check_facts(book, &id, &admin::look(self.scene, &mut self.client, &id)?)?;
                check_rows(self.scene, &mut self.client, book, &id)?;
            }
        }
        self.try_ended_keys()?;
        if deep {
            self.look_at_keys(&books)?;
            self.look_at_log(&books)?;
        }
        let sum = |of: fn(&Book) -> u64| books.iter().map(|book| of(book)).sum();
        self.report.acknowledged_changes = sum(|book| book.acknowledged);
        self.report.unheard_changes_made = sum(|book| book.made_unheard);
        self.report.unheard_changes_not_made = sum(|book| book.not_made);
        self.report.events = u64::try_from(self.scene.told().len()).unwrap_or(u64::MAX);
        let faults = self.scene.faults();
        if !faults.is_empty() {
            bail!("what must hold does not:\n{}", faults.join("\n"));
        }
        Ok(())
    }

    /// Keys that have ended are refused by every worker.
    fn try_ended_keys(&mut self) -> Result<()> {
        for held in self.scene.ended(ENDED_KEYS) {
            for _ in 0..CONNECTIONS {
                let mut client = Client::new(self.scene.gateway);
                let start = self.scene.now();
                // It passes or does not; or it cannot be told just now.
                let refused = wait::until(TOLD_WITHIN, || {
                    let sent = self.scene.now();
                    let passes = passes(self.scene, &mut client, &held.text);
                    if passes == Some(true) && sent > start + REVOKED_WITHIN {
                        bail!("key {} has ended, and still passes", held.id);
                    }
                    Ok((passes == Some(false)).then_some(()))
                })?;
                if refused.is_none() {
                    bail!("key {} has ended, and is not refused", held.id);
                }
                self.report.ended_keys_tried += 1;
            }
        }
        Ok(())
    }

    /// All keys: each is as its book says, and there is none that is in no book.
    fn look_at_keys(&mut self, books: &[impl DerefMut<Target = Book>]) -> Result<()> {
        let views = admin::all_keys(self.scene, &mut self.client)?;
        let mut found = BTreeSet::new();
        for view in &views {
            let text = |name: &str| view.get(name).and_then(Value::as_str).unwrap_or_default();
            let id = text("key_id");
            match books.iter().find(|book| book.keys.contains_key(id)) {
                Some(book) => check_facts(book, id, view)?,
                None if text("scope") == "admin" => {}
                None => bail!("nobody has made key {id}: {view}"),
            }
            found.insert(id.to_owned());
        }
        let missing =
            books.iter().flat_map(|book| book.keys.keys()).find(|id| !found.contains(*id));
        if let Some(id) = missing {
            bail!("key {id} was acknowledged, and is not there");
        }
        Ok(())
    }

    /// The whole log: its chain, what administrators did, what filters have told.
    fn look_at_log(&mut self, books: &[impl DerefMut<Target = Book>]) -> Result<()> {
        let told = self.scene.told();
        let keygate = self.stack.control_plane.keygate();
        let mut log = None;
        let all_told = wait::until(TOLD_WITHIN, || {
            let read = read_log(&keygate.run(&["audit", "export"])?)?;
            let complete = told.iter().all(|it| !self.must_be_there(it) || read.has(it));
            log = Some(read);
            Ok(complete.then_some(()))
        })?;
        let log = log.context("the log was not read")?;
        if all_told.is_none() {
            let missing = told.iter().filter(|it| self.must_be_there(it) && !log.has(it));
            let missing: Vec<_> = missing.take(5).collect();
            bail!("events of an Envoy that was not killed are lost, such as {missing:?}");
        }
        self.count_lost(&told, &log)?;
        let mut wanted = BTreeMap::new();
        for ((event, id), count) in books.iter().flat_map(|book| &book.rows) {
            wanted.insert(((*event).to_owned(), id.clone()), *count);
        }
        if let Some(row) = difference(&wanted, &log.changes) {
            bail!("the audit log and what was acknowledged differ: {row}");
        }
        keygate.run_json(&["audit", "verify", "--json"]).context("the chain is broken")?;
        self.report.chain_verified += 1;
        self.report.audit_rows = log.rows;
        Ok(())
    }

    /// Whether the Envoy that has decided this had time to tell of it, whatever came later.
    fn must_be_there(&self, told: &Told) -> bool {
        let end = usize::try_from(told.life).ok().and_then(|life| self.ends.get(life));
        end.is_none_or(|end| end.killed_at.is_none())
    }

    /// What killed Envoys took with them is bounded, and counted.
    fn count_lost(&mut self, told: &[Told], log: &Log) -> Result<()> {
        let mut lost: BTreeMap<u32, Vec<Duration>> = BTreeMap::new();
        for it in told.iter().filter(|it| !self.must_be_there(it) && !log.has(it)) {
            let life = usize::try_from(it.life).unwrap_or(usize::MAX);
            let Some(end) = self.ends.get(life) else { continue };
            let killed_at = end.killed_at.unwrap_or_default();
            lost.entry(it.life).or_default().push(killed_at.saturating_sub(it.at));
            // While the control plane was away, nothing could be told.
            let heard = end.up_since.map(|up| killed_at.saturating_sub(up.max(it.at)));
            if heard.is_some_and(|time| time > TELLS_WITHIN) {
                bail!("{it:?} was lost, though Envoy had {heard:?} to tell of it");
            }
        }
        let report = &mut self.report;
        (report.events_lost, report.events_lost_most, report.events_lost_oldest_ms) = (0, 0, 0);
        for ages in lost.values() {
            report.lost(ages);
        }
        Ok(())
    }
}

impl Log {
    fn has(&self, told: &Told) -> bool {
        self.refused.contains(&told.client.to_string())
    }
}

/// Reads an export. No event of a client is in it twice.
fn read_log(export: &str) -> Result<Log> {
    let mut log = Log { changes: BTreeMap::new(), refused: BTreeSet::new(), rows: 0 };
    let mut seen = BTreeSet::new();
    for line in export.lines() {
        let row: Value = serde_json::from_str(line).context("a line of the export")?;
        let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
        let (event, client) = (text("event"), text("client_ip"));
        log.rows += 1;
        match event {
            "KEY_CREATED" | "KEY_UPDATED" | "KEY_ROTATED" | "KEY_REVOKED" => {
                if text("actor") != "cli" {
                    let change = (event.to_owned(), text("key_id").to_owned());
                    *log.changes.entry(change).or_default() += 1;
                }
                continue;
            }
            "EVENTS_DROPPED" | "USAGE_DROPPED" => bail!("a filter ran out of room: {row}"),
            "MISSING_API_KEY" => {
                log.refused.insert(client.to_owned());
            }
            _ => {}
        }
        // Clients of the load have an address of their own for each request.
        let is_client = client.starts_with("10.") || client.starts_with("11.");
        if is_client && !seen.insert((event.to_owned(), client.to_owned())) {
            bail!("an event is there twice: {row}");
        }
    }
    Ok(log)
}

/// The first row that one side has and the other has not.
fn difference(
    wanted: &BTreeMap<(String, String), u64>,
    found: &BTreeMap<(String, String), u64>,
) -> Option<String> {
    let all: BTreeSet<_> = wanted.keys().chain(found.keys()).collect();
    let count = |of: &BTreeMap<_, u64>, row: &(String, String)| of.get(row).copied().unwrap_or(0);
    let row = all.into_iter().find(|row| count(wanted, row) != count(found, row))?;
    Some(format!("{row:?}: {} acknowledged, {} found", count(wanted, row), count(found, row)))
}

/// A key is as its book says.
fn check_facts(book: &Book, id: &str, view: &Value) -> Result<()> {
    let facts = book.keys.get(id).context("a key of the book")?;
    let is = |name: &str, wanted: Option<&String>| {
        view.get(name).and_then(Value::as_str) == wanted.map(String::as_str)
    };
    let Facts { description, ended, superseded_by } = facts;
    let is_set = |name: &&str| view.get(*name).is_some_and(|it| !it.is_null());
    // One that was rotated without an overlap ends by its time.
    let has_ended = ["revoked_at", "rotated_at"].iter().any(is_set);
    if !is("description", description.as_ref())
        || !is("superseded_by", superseded_by.as_ref())
        || has_ended != *ended
    {
        bail!("key {id} is not as acknowledged: {facts:?}, found {view}");
    }
    Ok(())
}

/// The rows of a key's changes are there, each once.
fn check_rows(scene: &Scene, client: &mut Client, book: &Book, id: &str) -> Result<()> {
    // What it was used for is in the log as well, and more than a page of it.
    let by = scene.admin_key.split('_').nth(2).context("an admin key of our own form")?;
    let path = format!("/api/v1/admin/audit-log?key_id={id}&actor={by}&limit=200");
    let log = admin::get(scene, client, &path)?;
    let rows = log.get("items").and_then(Value::as_array).context("a page has items")?;
    for event in ["KEY_CREATED", "KEY_UPDATED", "KEY_ROTATED", "KEY_REVOKED"] {
        let found = rows.iter().filter(|row| row.get("event").is_some_and(|it| it == event));
        let wanted = book.rows.get(&(event, id.to_owned())).copied().unwrap_or(0);
        if u64::try_from(found.count()).unwrap_or(u64::MAX) != wanted {
            bail!("key {id} has another number of {event} than the {wanted} acknowledged");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{difference, read_log};

    const LOG: &str = r#"{"event":"KEY_CREATED","key_id":"a","actor":"cli","client_ip":null}
{"event":"KEY_CREATED","key_id":"b","actor":"a","client_ip":"127.0.0.1"}
{"event":"KEY_UPDATED","key_id":"b","actor":"a","client_ip":"127.0.0.1"}
{"event":"MISSING_API_KEY","client_ip":"10.0.0.1"}
"#;

    #[test]
    fn the_log_is_compared_with_what_was_acknowledged() {
        let log = read_log(LOG).unwrap();
        assert_eq!((log.rows, log.refused.len()), (4, 1));
        let row = |event: &str| ((event.to_owned(), "b".to_owned()), 1);
        let mut wanted = [row("KEY_CREATED"), row("KEY_UPDATED")].into();
        assert_eq!(difference(&wanted, &log.changes), None);
        wanted.extend([row("KEY_REVOKED")]);
        assert!(difference(&wanted, &log.changes).is_some_and(|it| it.contains("KEY_REVOKED")));
    }

    #[test]
    fn an_event_that_is_there_twice_and_one_that_was_dropped_are_faults() {
        let twice = format!("{LOG}{}", LOG.lines().last().unwrap());
        assert!(read_log(&twice).is_err_and(|error| error.to_string().contains("twice")));
        let dropped = r#"{"event":"EVENTS_DROPPED","details":"count=1"}"#;
        assert!(read_log(dropped).is_err());
    }
}
