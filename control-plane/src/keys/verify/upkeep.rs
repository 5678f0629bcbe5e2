//! Keeping a key's row up to date when it is used: only then is the key at hand that a dearer
//! hash, or a digest under another secret key, is made from. It happens after the answer, one key
//! at a time, and never takes more than half of a hashing thread's time. What is left undone is
//! done when the key is used again.

use key_policy::KeyId;
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    sync::{Mutex as Inbox, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::Verifier;
use crate::{
    keys::{
        StoredKey,
        digest::PresentedKey,
        hashing::{HashRecipe, SecretHash},
    },
    metrics, random,
    store::credentials::LookupPlace,
};

/// Keys that may wait. Beyond it a key is left as it is; its next use will do.
const QUEUE: usize = 256;

struct Task {
    key: Arc<PresentedKey>,
    stored: StoredKey,
}

/// Keys whose rows are to be brought up to date.
pub(super) struct Upkeep {
    tasks: mpsc::Sender<Task>,
    inbox: Inbox<mpsc::Receiver<Task>>,
    /// A key that is used a thousand times a second waits once.
    waiting: Mutex<HashSet<KeyId>>,
}

impl Default for Upkeep {
    fn default() -> Self {
        let (tasks, inbox) = mpsc::channel(QUEUE);
        Self { tasks, inbox: Inbox::new(inbox), waiting: Mutex::default() }
    }
}

/// A key in the set of those that wait; it leaves it also when the work on it panics.
struct Waiting<'a> {
    upkeep: &'a Upkeep,
    key_id: KeyId,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.upkeep.waiting().remove(&self.key_id);
    }
}

impl Upkeep {
    fn waiting(&self) -> MutexGuard<'_, HashSet<KeyId>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Verifier {
    fn is_outdated(&self, stored: &StoredKey) -> bool {
        stored.lookup_secret != self.lookup.name || self.is_cheap(&stored.secret)
    }

    fn is_cheap(&self, secret: &SecretHash) -> bool {
        secret.recipe.iterations() < self.iterations.get()
    }

    /// Notes that a key was found right, in case its row is not as a new one would be.
    pub(super) fn note_right(&self, key: &Arc<PresentedKey>, stored: &StoredKey) {
        if !self.is_outdated(stored) || !self.upkeep.waiting().insert(stored.key.key_id) {
            return;
        }
        let task = Task { key: Arc::clone(key), stored: stored.clone() };
        if self.upkeep.tasks.try_send(task).is_err() {
            self.upkeep.waiting().remove(&stored.key.key_id);
        }
    }

    /// Brings the rows of used keys up to date until `stop`.
    pub async fn run_upkeep(&self, stop: CancellationToken) {
        let mut inbox = self.upkeep.inbox.lock().await;
        loop {
            let task = tokio::select! {
                task = inbox.recv() => task,
                () = stop.cancelled() => None,
            };
            let Some(task) = task else { return };
            let key_id = task.stored.key.key_id;
            let started = Instant::now();
            let waiting = Waiting { upkeep: &self.upkeep, key_id };
            let done = self.bring_up_to_date(&task).await;
            drop(task);
            drop(waiting);
            if let Err(error) = done {
                tracing::debug!(%key_id, %error, "a row is left as it is until its key is used again");
            }
            // As long a rest as the work was: hashing is for those who wait for an answer.
            tokio::select! {
                () = tokio::time::sleep(started.elapsed()) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn bring_up_to_date(&self, task: &Task) -> anyhow::Result<()> {
        let Task { key, stored } = task;
        let key_id = stored.key.key_id;
        if stored.lookup_secret != self.lookup.name {
            let digest = self.lookup.lookup.lookup(key.expose());
            let to = LookupPlace { digest, secret: self.lookup.name };
            if self.store.move_lookup(key_id, &stored.lookup, &to).await? {
                ::metrics::counter!(metrics::KEYS_MOVED).increment(1);
                tracing::debug!(%key_id, "the key is looked up by the current secret key now");
            }
        }
        if self.is_cheap(&stored.secret) {
            let recipe = HashRecipe::current(self.iterations, random::bytes(&*self.random)?);
            let digest = self.pool.hash(Arc::clone(key), recipe).await?;
            let new = SecretHash { recipe, digest };
            if self.store.replace_hash(key_id, &stored.secret, &new).await? {
                // Or the next use would hash it again.
                self.memory.insert(self.remembered_as(key, &new), ()).await;
                ::metrics::counter!(metrics::KEYS_REHASHED).increment(1);
                tracing::debug!(%key_id, iterations = self.iterations.get(), "hashed anew");
            }
        }
        Ok(())
    }
}
