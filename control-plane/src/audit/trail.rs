//! What an admin call has left in the audit log so far, so that one place can add what is missing.
//!
//! The trail goes along with the call, also into the tasks in which changes are completed. Whatever
//! writes an entry marks it by doing so ([`AuditEntry::log`](super::AuditEntry::log)); no endpoint has
//! to think of it.

use key_policy::KeyId;
use std::sync::{Arc, Mutex, PoisonError};

use super::Actor;

tokio::task_local! {
    static CURRENT: Trail;
}

/// What is known of a call.
#[derive(Clone, Debug, Default)]
pub struct Steps {
    /// Whose call it is, once that is certain.
    pub caller: Option<Actor>,
    /// The key that it is about.
    pub about: Option<KeyId>,
    /// Whether there is an entry about what became of it, or it was counted for one.
    pub told: bool,
}

/// The steps of one call, shared by the tasks that work on it.
#[derive(Clone, Debug, Default)]
pub struct Trail(Arc<Mutex<Steps>>);

impl Trail {
    /// Has the future leave this trail.
    pub async fn follow<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }

    /// What is known by now.
    #[must_use]
    pub fn steps(&self) -> Steps {
        self.change(|steps| steps.clone())
    }

    fn change<T>(&self, change: impl FnOnce(&mut Steps) -> T) -> T {
        // Each change is whole.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The trail of the call that is being worked on, for tasks of its own.
#[must_use]
pub fn current() -> Option<Trail> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Outside of a call nobody asks.
fn note(change: impl FnOnce(&mut Steps)) {
    let _ = CURRENT.try_with(|trail| trail.change(change));
}

/// It is certain whose call it is.
pub fn called_by(caller: Actor) {
    note(|steps| steps.caller = Some(caller));
}

/// The call is about this key.
pub fn is_about(key_id: KeyId) {
    note(|steps| steps.about = Some(key_id));
}

/// What became of the call is told in the log, or counted for an entry of many.
pub fn told() {
    note(|steps| steps.told = true);
}
