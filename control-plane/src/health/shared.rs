//! One answer for all who ask at the same time.

use std::future::Future;
use tokio::{sync::Mutex, time::Instant};

/// Asks once for many: whoever may ask without being known must not be able to take a connection
/// for each question. An answer is only given to who asked before it was looked for, so none is
/// older than its question.
#[derive(Debug)]
pub(crate) struct Shared<T>(Mutex<Option<(Instant, T)>>);

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Copy> Shared<T> {
    /// The answer to `look`, or the one that was looked for in the meantime. Who asks when a look has
    /// just begun waits for that one and for the next.
    pub(crate) async fn ask<F: Future<Output = T>>(&self, look: impl FnOnce() -> F) -> T {
        let asked = Instant::now();
        let mut last = self.0.lock().await;
        if let Some((looked, answer)) = *last
            && looked >= asked
        {
            return answer;
        }
        let looked = Instant::now();
        let answer = look().await;
        *last = Some((looked, answer));
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::Shared;
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
        time::Duration,
    };

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_at_once_share_an_answer_and_none_is_older_than_its_question() {
        let shared = Arc::new(Shared::default());
        let looks = Arc::new(AtomicU32::new(0));
        let ask = || {
            let (shared, looks) = (Arc::clone(&shared), Arc::clone(&looks));
            async move {
                let look = || async {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    looks.fetch_add(1, Ordering::Relaxed) + 1
                };
                shared.ask(look).await
            }
        };
        assert_eq!(ask().await, 1);
        tokio::time::advance(Duration::from_millis(1)).await;
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..100 {
            asking.spawn(ask());
        }
        let answers = asking.join_all().await;
        assert!(answers.iter().all(|it| *it > 1));
        assert!(looks.load(Ordering::Relaxed) <= 3, "{answers:?}");
    }
}
