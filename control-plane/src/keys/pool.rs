//! The threads on which keys are hashed.
//!
//! Hashing is milliseconds of pure CPU. On the runtime's own threads a burst of it would stop
//! everything else, health checks and revocations included; on tokio's blocking pool it would be
//! bounded only by 512 threads. So it has a few threads of its own, a bounded queue, and a limit
//! on how long a key may wait for its turn.

#[cfg(test)]
use std::sync::atomic::AtomicU64;
use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{digest::PresentedKey, hashing::HashRecipe};
use crate::metrics;

/// Who finds no thread is told so within this time of their arrival, unless its look-up alone took
/// longer than [`QUEUE_DEADLINE`]. A filter gives up after a second; an answer in good time lets it say
/// 503 itself.
pub const ANSWER_WITHIN: Duration = Duration::from_millis(250);

/// How long a key waits in any case, though the database took most of the time: an idle thread
/// must get it.
const LEAST_WAIT: Duration = Duration::from_millis(50);

/// How long after its request's arrival a key waits for a thread: what is left of [`ANSWER_WITHIN`]
/// is for the answer, on a machine that has too much to do.
pub const QUEUE_DEADLINE: Duration = ANSWER_WITHIN.saturating_sub(LEAST_WAIT);

/// How long a key waits that is made: by an administrator, a command, or as the service starts. A
/// machine that is busy for a moment is no reason to fail.
pub const MAKER_WAITS: Duration = Duration::from_secs(5);

/// Until when a key waits that is queued now.
fn deadline(now: Instant, arrived: Instant) -> Instant {
    (arrived + QUEUE_DEADLINE).max(now + LEAST_WAIT)
}

/// Keys waiting per thread. At 12 ms a hash some 20 can be served within the deadline; hosts
/// without SHA-NI reach the deadline first.
const QUEUE_PER_THREAD: usize = 32;

/// There are more keys to hash than the machine can bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many keys are waiting to be hashed")]
pub struct Overloaded;

struct Job {
    key: Arc<PresentedKey>,
    recipe: HashRecipe,
    /// Set by whoever decides first: a thread that starts, or the caller who gives up.
    taken: Arc<AtomicBool>,
    reply: oneshot::Sender<[u8; 32]>,
    /// Since when it waits.
    since: Instant,
}

struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
    capacity: usize,
    #[cfg(test)]
    hashed: AtomicU64,
    failed: CancellationToken,
    #[cfg(test)]
    busy: AtomicU64,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing can panic while the queue is locked, and it is sound at every moment.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.queue();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                gauge_depth(queue.jobs.len());
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            queue = self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work(&self) {
        // A thread that panics must stop the service, not quietly halve its capacity.
        let guard = self.failed.clone().drop_guard();
        while let Some(job) = self.next() {
            if job.taken.swap(true, Ordering::AcqRel) || job.reply.is_closed() {
                continue;
            }
            ::metrics::histogram!(metrics::HASH_WAIT).record(job.since.elapsed());
            #[cfg(test)]
            self.busy.fetch_add(1, Ordering::AcqRel);
            let begun = Instant::now();
            let digest = job.recipe.hash(job.key.expose());
            #[cfg(test)]
            self.busy.fetch_sub(1, Ordering::AcqRel);
            #[cfg(test)]
            self.hashed.fetch_add(1, Ordering::Relaxed);
            ::metrics::histogram!(metrics::HASH_DURATION).record(begun.elapsed());
            ::metrics::counter!(metrics::HASHES).increment(1);
            // The caller may be gone; that is its business.
            let _ = job.reply.send(digest);
        }
        guard.disarm();
    }
}

#[expect(clippy::cast_precision_loss, reason = "a queue is far shorter than 2^52")]
fn gauge_depth(depth: usize) {
    ::metrics::gauge!(metrics::HASH_QUEUE_DEPTH).set(depth as f64);
}

fn shed(reason: &'static str) -> Overloaded {
    ::metrics::counter!(metrics::HASH_SHED, "reason" => reason).increment(1);
    Overloaded
}

/// A bounded pool of hashing threads.
pub struct HashPool {
    shared: Arc<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl HashPool {
    /// Starts `threads` threads.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn start(threads: NonZeroUsize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue { jobs: VecDeque::new(), closed: false }),
            arrived: Condvar::new(),
            capacity: threads.get().saturating_mul(QUEUE_PER_THREAD),
            #[cfg(test)]
            hashed: AtomicU64::new(0),
            failed: CancellationToken::new(),
            #[cfg(test)]
            busy: AtomicU64::new(0),
        });
        let threads = (0..threads.get())
            .map(|index| {
                let shared = Arc::clone(&shared);
                thread::Builder::new().name(format!("hash-{index}")).spawn(move || shared.work())
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { shared, threads })
    }

    /// As many threads as the machine has cores but one, and at least one: the last core is for
    /// everything else.
    #[must_use]
    pub fn default_threads() -> NonZeroUsize {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        NonZeroUsize::new(cores.saturating_sub(1)).unwrap_or(NonZeroUsize::MIN)
    }

    /// How many threads there are.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads.len()
    }

    /// How many keys have been hashed.
    #[cfg(test)]
    #[must_use]
    pub fn hashed(&self) -> u64 {
        self.shared.hashed.load(Ordering::Relaxed)
    }

    /// Whether a thread is at work just now.
    #[cfg(test)]
    pub(crate) fn busy(&self) -> bool {
        self.shared.busy.load(Ordering::Acquire) > 0
    }

    /// Hashes `key` by `recipe` when its turn comes: for whoever makes keys and can wait.
    ///
    /// # Errors
    /// [`Overloaded`] when the queue is full, or when no thread was free within [`MAKER_WAITS`].
    pub async fn hash(
        &self,
        key: Arc<PresentedKey>,
        recipe: HashRecipe,
    ) -> Result<[u8; 32], Overloaded> {
        self.hash_until(Instant::now() + MAKER_WAITS, key, recipe).await
    }

    /// The same for a request that arrived a while ago, and whose client wants an answer.
    ///
    /// # Errors
    /// [`Overloaded`] when the queue is full, or when no thread was free within
    /// [`QUEUE_DEADLINE`] of the request's arrival.
    pub async fn hash_for(
        &self,
        arrived: Instant,
        key: Arc<PresentedKey>,
        recipe: HashRecipe,
    ) -> Result<[u8; 32], Overloaded> {
        self.hash_until(deadline(Instant::now(), arrived), key, recipe).await
    }

    async fn hash_until(
        &self,
        deadline: Instant,
        key: Arc<PresentedKey>,
        recipe: HashRecipe,
    ) -> Result<[u8; 32], Overloaded> {
        let (reply, mut answer) = oneshot::channel();
        let taken = Arc::new(AtomicBool::new(false));
        {
            let mut queue = self.shared.queue();
            if queue.closed || queue.jobs.len() >= self.shared.capacity {
                return Err(shed("queue_full"));
            }
            let since = Instant::now();
            queue.jobs.push_back(Job { key, recipe, taken: Arc::clone(&taken), reply, since });
            gauge_depth(queue.jobs.len());
        }
        self.shared.arrived.notify_one();

        if let Ok(answer) = tokio::time::timeout_at(deadline, &mut answer).await {
            return answer.map_err(|_| Overloaded);
        }
        if taken.swap(true, Ordering::AcqRel) {
            // A thread has begun: the answer is at most one hash away.
            answer.await.map_err(|_| Overloaded)
        } else {
            Err(shed("deadline"))
        }
    }

    /// Waits until a thread has died; the pool is not to be trusted any more.
    pub async fn failed(&self) {
        self.shared.failed.cancelled().await;
    }
}

impl Drop for HashPool {
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.arrived.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has been reported by `failed`.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::hashing::HashAlgorithm;

    fn recipe(iterations: u32) -> HashRecipe {
        HashRecipe::new(HashAlgorithm::Pbkdf2HmacSha256, iterations, [1; 16]).expect("enough")
    }

    fn key() -> Arc<PresentedKey> {
        Arc::new(PresentedKey::new(b"a key".as_slice()).expect("short enough"))
    }

    #[tokio::test]
    async fn a_key_is_hashed_as_its_recipe_says() {
        let pool = HashPool::start(NonZeroUsize::MIN).expect("threads");
        assert_eq!(pool.hash(key(), recipe(1000)).await, Ok(recipe(1000).hash(b"a key")));
    }

    /// Keeps the pool's one thread busy for seconds; returns when it has begun.
    fn keep_busy(pool: &Arc<HashPool>) -> tokio::task::JoinSet<Result<[u8; 32], Overloaded>> {
        let (reply, answer) = oneshot::channel();
        let taken = Arc::new(AtomicBool::new(false));
        let job = Job {
            key: key(),
            recipe: recipe(10_000_000),
            taken: Arc::clone(&taken),
            reply,
            since: Instant::now(),
        };
        pool.shared.queue().jobs.push_back(job);
        pool.shared.arrived.notify_one();
        while !taken.load(Ordering::Acquire) {
            thread::sleep(Duration::from_millis(1));
        }
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { answer.await.map_err(|_| Overloaded) });
        tasks
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_refuses_at_once() {
        let pool = Arc::new(HashPool::start(NonZeroUsize::MIN).expect("threads"));
        let _busy = keep_busy(&pool);
        let started = Instant::now();
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..QUEUE_PER_THREAD {
            let pool = Arc::clone(&pool);
            waiting.spawn(async move { pool.hash_for(Instant::now(), key(), recipe(1000)).await });
        }
        while pool.shared.queue().jobs.len() < QUEUE_PER_THREAD {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.hash_for(Instant::now(), key(), recipe(1000)).await, Err(Overloaded));
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_finds_no_thread_is_told_so_within_a_quarter_of_a_second_of_their_arrival() {
        let pool = Arc::new(HashPool::start(NonZeroUsize::MIN).expect("threads"));
        let _busy = keep_busy(&pool);
        // As long as it took to get here: to read the body, to look the key up.
        for before in [0, 1, 100, 199, 200] {
            let arrived = Instant::now();
            tokio::time::advance(Duration::from_millis(before)).await;
            let answer = pool.hash_for(arrived, key(), recipe(1000)).await;
            assert_eq!(answer, Err(Overloaded));
            let took = arrived.elapsed();
            // tokio's clock has a millisecond's grain.
            assert!(took <= ANSWER_WITHIN + Duration::from_millis(1), "{before}: {took:?}");
        }
    }

    #[test]
    fn an_idle_thread_takes_a_key_whose_look_up_took_long() {
        let now = Instant::now();
        assert_eq!(deadline(now, now - Duration::from_secs(10)), now + LEAST_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_no_longer_than_the_deadline_for_its_turn() {
        let pool = Arc::new(HashPool::start(NonZeroUsize::MIN).expect("threads"));
        let mut busy = keep_busy(&pool);
        let started = Instant::now();
        assert_eq!(pool.hash_for(Instant::now(), key(), recipe(1000)).await, Err(Overloaded));
        let waited = started.elapsed();
        assert!(waited >= QUEUE_DEADLINE && waited < QUEUE_DEADLINE * 2, "{waited:?}");
        // The one that had begun is answered all the same, and the one that gave up is not hashed.
        assert!(busy.join_next().await.expect("a task").expect("no panic").is_ok());
        tokio::time::resume();
        assert_eq!(pool.hash_for(Instant::now(), key(), recipe(1000)).await.map(drop), Ok(()));
        assert_eq!(pool.hashed(), 2);
    }
}
