//! Tasks that all belong to the service. One that dies is started again, or ends the service.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    time::Duration,
};
use tokio::{
    task::{Id, JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::metrics;

/// Before a task that died is started again; it doubles with each death.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// A task that dies more often than this within [`TOO_SOON`] will die again: the service ends, and
/// whatever runs it starts it anew.
const MAX_DEATHS: usize = 5;
const TOO_SOON: Duration = Duration::from_mins(1);

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;
type Begin = Box<dyn Fn() -> Work + Send + Sync>;

struct Task {
    name: &'static str,
    /// How it is started again; none: the service cannot do without it, nor begin it anew.
    begin: Option<Begin>,
    /// When it died, of late.
    deaths: VecDeque<Instant>,
}

impl Task {
    /// How long to wait before it is started again; none: it is given up.
    fn pause(&mut self, now: Instant) -> Option<Duration> {
        self.begin.as_ref()?;
        self.deaths.retain(|at| now.duration_since(*at) < TOO_SOON);
        let earlier = self.deaths.len();
        self.deaths.push_back(now);
        let doublings = u32::try_from(earlier).ok()?;
        (earlier < MAX_DEATHS).then(|| FIRST_PAUSE * 2_u32.saturating_pow(doublings))
    }
}

/// Tasks that are watched, and ended together.
pub(super) struct Tasks {
    running: JoinSet<()>,
    known: HashMap<Id, Task>,
    stop: CancellationToken,
    #[cfg(test)]
    handles: HashMap<&'static str, tokio::task::AbortHandle>,
}

impl Tasks {
    /// No tasks yet. They end when `stop` is cancelled.
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self {
            running: JoinSet::new(),
            known: HashMap::new(),
            stop,
            #[cfg(test)]
            handles: HashMap::new(),
        }
    }

    /// Starts a task that cannot be started twice: when it dies, the service ends.
    pub(super) fn spawn(
        &mut self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        show(name, true);
        self.run(Task { name, begin: None, deaths: VecDeque::new() }, work);
    }

    /// Starts a task that is started again when it dies.
    pub(super) fn spawn_again_and_again<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        name: &'static str,
        begin: impl Fn() -> F + Send + Sync + 'static,
    ) {
        let work = begin();
        let begin: Begin = Box::new(move || Box::pin(begin()));
        show(name, true);
        // From zero on, or the first restart would be no increase.
        ::metrics::counter!(metrics::TASK_RESTARTS, "task" => name).increment(0);
        self.run(Task { name, begin: Some(begin), deaths: VecDeque::new() }, work);
    }

    fn run(&mut self, task: Task, work: impl Future<Output = ()> + Send + 'static) {
        let handle = self.running.spawn(work);
        #[cfg(test)]
        self.handles.insert(task.name, handle.clone());
        self.known.insert(handle.id(), task);
    }

    /// Watches over them, and starts again what can be. Gives the name of the first that has died
    /// for good.
    pub(super) async fn first_lost(&mut self) -> &'static str {
        loop {
            let Some(ended) = self.running.join_next_with_id().await else {
                return std::future::pending().await;
            };
            let id = match &ended {
                Ok((id, ())) => *id,
                Err(error) => error.id(),
            };
            let Some(mut task) = self.known.remove(&id) else { continue };
            show(task.name, false);
            if self.stop.is_cancelled() {
                continue;
            }
            let pause = task.pause(Instant::now());
            report(task.name, ended.err().as_ref(), pause);
            let (Some(pause), Some(begin)) = (pause, &task.begin) else {
                return task.name;
            };
            let work = begin();
            ::metrics::counter!(metrics::TASK_RESTARTS, "task" => task.name).increment(1);
            let (stop, name) = (self.stop.clone(), task.name);
            self.run(task, async move {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => {}
                }
                show(name, true);
                // Even when it is told to end: what writes has to write what is left.
                work.await;
            });
        }
    }

    /// Tells all to end, and waits until they have, or for so long.
    pub(super) async fn end(&mut self, patience: Duration) {
        self.stop.cancel();
        let all = async {
            while let Some(ended) = self.running.join_next_with_id().await {
                if let Err(error) = ended {
                    let name = self.known.get(&error.id()).map_or("unnamed", |task| task.name);
                    tracing::error!(task = name, %error, "a task failed while it was ending");
                }
            }
        };
        if tokio::time::timeout(patience, all).await.is_err() {
            tracing::warn!(left = self.running.len(), "tasks were cut off");
            self.running.shutdown().await;
        }
    }

    /// Kills a task, as a bug would, when it is told to.
    #[cfg(test)]
    pub(super) fn handle(&self, name: &str) -> Option<tokio::task::AbortHandle> {
        self.handles.get(name).cloned()
    }
}

/// Whether a task is at work, for the metrics.
fn show(task: &'static str, up: bool) {
    ::metrics::gauge!(metrics::TASK_UP, "task" => task).set(f64::from(u8::from(up)));
}

fn report(name: &str, error: Option<&JoinError>, pause: Option<Duration>) {
    let error = error.map_or_else(|| "it ended by itself".to_owned(), ToString::to_string);
    if let Some(pause) = pause {
        let pause_ms = pause.as_millis();
        tracing::error!(task = name, error, pause_ms, "a task died, and is started again");
    } else {
        tracing::error!(task = name, error, "a task died, and with it the service ends");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    #[tokio::test(start_paused = true)]
    async fn a_task_that_dies_now_and_then_is_started_again_for_ever() {
        let mut tasks = Tasks::new(CancellationToken::new());
        let begun = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&begun);
        tasks.spawn_again_and_again("clumsy", move || {
            let count = Arc::clone(&count);
            async move {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(TOO_SOON / 2).await;
                panic!("clumsy");
            }
        });
        let watched = tokio::time::timeout(TOO_SOON * 20, tasks.first_lost()).await;
        assert!(watched.is_err(), "{watched:?}");
        assert!(begun.load(Ordering::SeqCst) > 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_dies_at_once_again_and_again_ends_the_service() {
        let mut tasks = Tasks::new(CancellationToken::new());
        let begun = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&begun);
        tasks.spawn_again_and_again("doomed", move || {
            count.fetch_add(1, Ordering::SeqCst);
            async { panic!("doomed") }
        });
        assert_eq!(tasks.first_lost().await, "doomed");
        assert_eq!(begun.load(Ordering::SeqCst), 1 + MAX_DEATHS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_waits_to_be_started_again_still_does_its_last_work_when_all_ends() {
        let stop = CancellationToken::new();
        let mut tasks = Tasks::new(stop.clone());
        let begun = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&begun);
        tasks.spawn_again_and_again("writer", move || {
            let (count, stop) = (Arc::clone(&count), stop.clone());
            async move {
                assert!(stop.is_cancelled(), "there is nothing to write yet");
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        let half = tokio::time::timeout(FIRST_PAUSE / 2, tasks.first_lost()).await;
        assert!(half.is_err());
        tasks.end(Duration::from_secs(1)).await;
        assert_eq!(begun.load(Ordering::SeqCst), 1);
    }
}
