//! Administrators, and the book that each keeps of what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::scene::{Scene, lock};
use crate::client::{Answer, Ask, Client, Silence};
use crate::wait;

/// How long the control plane may be too busy to answer, on a machine that is.
const PATIENCE: Duration = Duration::from_secs(30);
/// As many keys are kept in use by each; then old ones are revoked.
const MOST_KEYS: usize = 30;

const KEYS: &str = "/api/v1/admin/api-keys/";
/// A call that is sent again under the same one is made once.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A change, with all that is needed to ask for the very same again.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// `word` is its `Idempotency-Key`.
    Create {
        word: String,
        name: String,
    },
    Update {
        id: String,
        description: String,
    },
    Rotate {
        id: String,
        word: String,
    },
    Revoke {
        id: String,
    },
}

/// What is known of a key for certain.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) description: Option<String>,
    pub(super) ended: bool,
    pub(super) superseded_by: Option<String>,
}

/// What one administrator knows for certain.
#[derive(Default)]
pub(super) struct Book {
    name: String,
    next: u32,
    pub(super) keys: BTreeMap<String, Facts>,
    /// How many audit rows there must be of each event and key.
    pub(super) rows: BTreeMap<(&'static str, String), u64>,
    /// Changes of which nobody knows whether they were made.
    pub(super) doubts: Vec<Change>,
    /// Keys that were changed since the last look at them.
    pub(super) touched: BTreeSet<String>,
    /// Changes that were acknowledged.
    pub(super) acknowledged: u64,
    /// Changes that were in doubt, and had been made.
    pub(super) made_unheard: u64,
    /// Changes that were in doubt, and had not been made.
    pub(super) not_made: u64,
}

/// Changes keys at random until everything ends, with a pause after each change. Whoever holds the book keeps it from changing.
pub(super) fn run(scene: &Scene, book: &Mutex<Book>, pace: Duration, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut client = Client::new(scene.admin);
    while !scene.is_over() {
        {
            let mut book = lock(book);
            let change = book.think_of(&mut random);
            book.make(scene, &mut client, change);
        }
        std::thread::sleep(pace);
    }
}

/// Asks the admin API, with one more header field.
pub(super) fn ask(
    scene: &Scene,
    client: &mut Client,
    method: &str,
    path: &str,
    more: Option<(&str, &str)>,
    body: Option<&Value>,
) -> Result<Answer, Silence> {
    let mut fields = vec![("x-api-key", scene.admin_key.as_str())];
    fields.extend(more);
    client.send(&Ask { method, path, fields, body })
}

impl Change {
    fn send(&self, scene: &Scene, client: &mut Client) -> Result<Answer, Silence> {
        match self {
            Self::Create { word, name } => {
                let body = json!({"name": name, "scope": "read", "owner": "soak"});
                ask(scene, client, "POST", KEYS, Some((IDEMPOTENCY_KEY, word)), Some(&body))
            }
            Self::Update { id, description } => {
                let body = json!({"description": description});
                // Nobody else changes it.
                let any = Some(("if-match", "*"));
                ask(scene, client, "PUT", &format!("{KEYS}{id}"), any, Some(&body))
            }
            Self::Rotate { id, word } => {
                let body = json!({"overlap_seconds": 0});
                let path = format!("{KEYS}{id}/rotate");
                ask(scene, client, "POST", &path, Some((IDEMPOTENCY_KEY, word)), Some(&body))
            }
            Self::Revoke { id } => ask(scene, client, "DELETE", &format!("{KEYS}{id}"), None, None),
        }
    }

    /// The key that it changes.
    fn key(&self) -> Option<&str> {
        match self {
            Self::Create { .. } => None,
            Self::Update { id, .. } | Self::Rotate { id, .. } | Self::Revoke { id } => Some(id),
        }
    }
}

impl Book {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// A change of a key that can be changed, or a new key.
    fn think_of(&mut self, random: &mut fastrand::Rng) -> Change {
        self.next += 1;
        let word = format!("{}-{}", self.name, self.next);
        let doubtful: Vec<_> = self.doubts.iter().filter_map(Change::key).collect();
        let usable: Vec<_> = self
            .keys
            .iter()
            .filter(|(id, facts)| !facts.ended && !doubtful.contains(&id.as_str()))
            .map(|(id, _)| id.clone())
            .collect();
        let id = random.choice(&usable).cloned();
        match (id, random.u8(..10)) {
            (Some(id), 0..=3) => Change::Update { id, description: word },
            (Some(id), 4..=5) => Change::Rotate { id, word },
            (Some(id), 6..=7) => Change::Revoke { id },
            (Some(id), _) if usable.len() >= MOST_KEYS => Change::Revoke { id },
            _ => Change::Create { name: word.clone(), word },
        }
    }

    fn make(&mut self, scene: &Scene, client: &mut Client, change: Change) {
        let ends = matches!(change, Change::Rotate { .. } | Change::Revoke { .. });
        let id = change.key().map(str::to_owned);
        let note = |ending: bool| {
            if let (true, Some(id)) = (ends, &id) {
                scene.note(id, |held| held.ending = ending);
            }
        };
        note(true);
        match change.send(scene, client) {
            Ok(answer) if answer.is_success() => {
                self.acknowledged += 1;
                if let Err(error) = self.enter(scene, &change, &answer.json()) {
                    scene.fault(format!("{change:?} was answered with {answer:?}: {error}"));
                }
            }
            // It says that it could not, not that it did not.
            Ok(answer) if answer.status >= 500 => self.doubts.push(change),
            Ok(answer) => scene.fault(format!("{change:?} was refused: {answer:?}")),
            Err(Silence::NotSent) => note(false),
            Err(Silence::Unknown) => self.doubts.push(change),
        }
    }

    /// Writes down what was made.
    fn enter(&mut self, scene: &Scene, change: &Change, view: &Value) -> Result<()> {
        match change {
            Change::Create { .. } => self.enter_new(scene, view)?,
            Change::Update { id, description } => {
                self.count("KEY_UPDATED", id);
                self.facts(id).description = Some(description.clone());
            }
            Change::Rotate { id, .. } => {
                let new = text(view, "key_id")?;
                self.count("KEY_ROTATED", id);
                let description = self.facts(id).description.clone();
                let facts = self.facts(id);
                (facts.ended, facts.superseded_by) = (true, Some(new.clone()));
                scene.note(id, |held| held.ended = Some(scene.now()));
                self.enter_new(scene, view)?;
                self.facts(&new).description = description;
            }
            Change::Revoke { id } => {
                self.count("KEY_REVOKED", id);
                self.facts(id).ended = true;
                scene.note(id, |held| held.ended = Some(scene.now()));
            }
        }
        Ok(())
    }

    fn enter_new(&mut self, scene: &Scene, view: &Value) -> Result<()> {
        let id = text(view, "key_id")?;
        self.count("KEY_CREATED", &id);
        // The text of some was lost with the answer.
        if let Some(key) = view.get("api_key").and_then(Value::as_str) {
            scene.hold(&id, key);
        }
        self.facts(&id);
        Ok(())
    }

    fn facts(&mut self, id: &str) -> &mut Facts {
        self.touched.insert(id.to_owned());
        self.keys.entry(id.to_owned()).or_default()
    }

    fn count(&mut self, event: &'static str, id: &str) {
        *self.rows.entry((event, id.to_owned())).or_default() += 1;
    }

    /// Finds out what became of the changes that nobody has acknowledged. What can be asked for
    /// again under its name is: it is made now, or was made before, and never twice.
    pub(super) fn resolve(&mut self, scene: &Scene, client: &mut Client) -> Result<()> {
        for change in std::mem::take(&mut self.doubts) {
            match &change {
                Change::Create { .. } | Change::Rotate { .. } => {
                    let answer = heard(|| change.send(scene, client))?;
                    if !answer.is_success() {
                        bail!("{change:?}, sent again after a crash, was refused: {answer:?}");
                    }
                    let made_before = answer.status == 200;
                    self.made_unheard += u64::from(made_before);
                    self.not_made += u64::from(!made_before);
                    self.enter(scene, &change, &answer.json())?;
                }
                Change::Update { id, description } => {
                    let view = look(scene, client, id)?;
                    let made = view.get("description").and_then(Value::as_str)
                        == Some(description.as_str());
                    self.settle(scene, &change, made)?;
                }
                Change::Revoke { id } => {
                    let view = look(scene, client, id)?;
                    let made = view.get("revoked_at").is_some_and(|at| !at.is_null());
                    if !made {
                        scene.note(id, |held| held.ending = false);
                    }
                    self.settle(scene, &change, made)?;
                }
            }
        }
        Ok(())
    }

    fn settle(&mut self, scene: &Scene, change: &Change, made: bool) -> Result<()> {
        self.touched.extend(change.key().map(str::to_owned));
        if made {
            self.made_unheard += 1;
            return self.enter(scene, change, &Value::Null);
        }
        self.not_made += 1;
        Ok(())
    }
}

/// What is known of a key.
pub(super) fn look(scene: &Scene, client: &mut Client, id: &str) -> Result<Value> {
    get(scene, client, &format!("{KEYS}{id}"))
}

/// A good answer to a GET.
pub(super) fn get(scene: &Scene, client: &mut Client, path: &str) -> Result<Value> {
    let answer = heard(|| ask(scene, client, "GET", path, None, None))?;
    if !answer.is_success() {
        bail!("GET {path}: {} {}", answer.status, answer.json());
    }
    Ok(answer.json())
}

/// All keys that there are.
pub(super) fn all_keys(scene: &Scene, client: &mut Client) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    let mut path = format!("{KEYS}?limit=200");
    loop {
        let page = get(scene, client, &path)?;
        let items = page.get("items").and_then(Value::as_array);
        all.extend(items.context("a page has items")?.iter().cloned());
        match page.get("next_cursor").and_then(Value::as_str) {
            Some(cursor) => path = format!("{KEYS}?limit=200&cursor={cursor}"),
            None => return Ok(all),
        }
    }
}

/// The answer to what may be asked again, once the control plane has time for it.
fn heard(mut ask: impl FnMut() -> Result<Answer, Silence>) -> Result<Answer> {
    let answer = wait::until(PATIENCE, || match ask() {
        Ok(answer) if answer.status == 503 => Ok(None),
        Ok(answer) => Ok(Some(answer)),
        Err(silence) => bail!("the control plane gives no answer: {silence:?}"),
    })?;
    answer.context("the control plane is overloaded all the time")
}

fn text(view: &Value, field: &str) -> Result<String> {
    let value = view.get(field).and_then(Value::as_str);
    value.map(str::to_owned).with_context(|| format!("the answer has no {field}"))
}
