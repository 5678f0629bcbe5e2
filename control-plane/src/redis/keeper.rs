//! The task that connects, watches, and connects again.

use std::{convert::Infallible, sync::atomic::Ordering, time::Duration};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Redis, RedisFault, State,
    connect::{Connected, Primary},
};
use crate::metrics;

/// How often Redis is probed while all seems well.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// After a call failed it is probed sooner; so many fail at once that not each can be asked about.
const ALARM_PAUSE: Duration = Duration::from_millis(20);
/// How often the Sentinels are asked whether the primary is still the one: who is cut off together
/// with an old primary is told by nobody else.
const ASK_SENTINELS_EVERY: Duration = Duration::from_secs(5);
/// Before it is tried again to connect; it doubles with each failure, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A connection that lasts as long was a good one: the next pause is the first again.
const LASTED: Duration = Duration::from_secs(10);

/// How long to wait before the next attempt.
struct Backoff {
    failures: u32,
}

impl Backoff {
    /// At least half of it is left to chance, so that control planes do not come all at once.
    fn pause(&mut self, fraction: f64) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1);
        pause.min(LONGEST_PAUSE).mul_f64(0.5 + 0.5 * fraction)
    }
}

impl Redis {
    /// Keeps the connection until `stop`. Calls that are under way then go on.
    pub async fn run(&self, stop: CancellationToken) {
        tokio::select! {
            never = self.keep() => match never {},
            () = stop.cancelled() => {}
        }
    }

    async fn keep(&self) -> Infallible {
        let mut backoff = Backoff { failures: 0 };
        // What was said last: the same again and again would only fill the log.
        let mut said = String::new();
        loop {
            let begun = Instant::now();
            let fault = match self.connector.connect().await {
                Ok(connected) => {
                    said.clear();
                    count_connect("ok");
                    tracing::info!(redis = self.connector.place(), "Redis is connected");
                    let Connected { link, mut primary } = connected;
                    self.enter(State::Up(link));
                    let fault = self.watch(primary.as_mut()).await;
                    if begun.elapsed() >= LASTED {
                        backoff.failures = 0;
                    }
                    fault
                }
                Err(fault) => {
                    count_connect("failed");
                    fault
                }
            };
            self.enter(State::Down);
            let text = fault.to_string();
            if text != said {
                tracing::warn!(
                    redis = self.connector.place(),
                    error = text,
                    "Redis is disconnected; until it is back, each control plane counts by itself"
                );
                said = text;
            }
            sleep(backoff.pause(self.fraction())).await;
        }
    }

    fn enter(&self, state: State) {
        if matches!(state, State::Up(_)) {
            self.connections.fetch_add(1, Ordering::Relaxed);
        }
        self.state.send_replace(state);
        self.show();
    }

    /// Watches over the connection; gives what ended it.
    async fn watch(&self, mut primary: Option<&mut Primary>) -> RedisFault {
        let mut asked = Instant::now();
        loop {
            tokio::select! {
                () = sleep(PROBE_EVERY) => {}
                () = self.alarm.notified() => sleep(ALARM_PAUSE).await,
            }
            if let Err(fault) = self.probe().await {
                return fault;
            }
            if let Some(primary) = &mut primary
                && asked.elapsed() >= ASK_SENTINELS_EVERY
            {
                if primary.has_moved().await {
                    return RedisFault::PrimaryMoved;
                }
                asked = Instant::now();
            }
        }
    }
}

fn count_connect(outcome: &'static str) {
    ::metrics::counter!(metrics::REDIS_CONNECTS, "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_five_seconds_and_no_further() {
        let mut backoff = Backoff { failures: 0 };
        let pauses: Vec<_> = (0..100).map(|_| backoff.pause(1.0)).collect();
        assert_eq!(pauses[..3], [100, 200, 400].map(Duration::from_millis));
        assert!(pauses[6..].iter().all(|pause| *pause == LONGEST_PAUSE));
        assert_eq!(Backoff { failures: 3 }.pause(0.0), Duration::from_millis(400));
    }
}
