//! Questions that come while others are being answered wait, and are then answered together: the
//! busier it is, the less each of them costs. Whoever asks alone is answered at once.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};
use tokio_util::task::TaskTracker;

/// What can answer many questions in one go.
pub trait AnswersMany: Send + Sync + 'static {
    /// What is asked.
    type Question: Send + 'static;
    /// What is told.
    type Answer: Send + 'static;

    /// How much of a round a question takes.
    fn weight(_question: &Self::Question) -> usize {
        1
    }

    /// Answers all of them, in their order.
    fn answer(
        &self,
        questions: Vec<Self::Question>,
    ) -> impl Future<Output = Vec<Self::Answer>> + Send;
}

/// Whoever was answering panicked, or the runtime ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it was given up before there was an answer")]
pub struct GivenUp;

/// How much at once, and how long one round holds up the next.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// What the questions of a round may weigh together. One alone may weigh more.
    pub weight: usize,
    /// Whether a round that takes long is left to itself.
    pub spare: Option<Spare>,
}

/// More rounds, for when one takes long or more wait than fit in one. Otherwise there is one at a time:
/// the more questions share a round, the less each of them costs.
#[derive(Clone, Copy, Debug)]
pub struct Spare {
    /// A round that has taken this long no longer holds up those who wait.
    pub after: Duration,
    /// So many rounds may be under way then.
    pub rounds: usize,
}

/// Gathers questions for one that answers many.
///
/// Rounds are tasks of their own: an asker who goes away cuts off nobody else's answer. The
/// question is dropped if its round has not begun. So what answers has to come to an end by itself:
/// nobody ends it from outside.
pub struct Gather<T: AnswersMany> {
    shared: Arc<Shared<T>>,
}

struct Shared<T: AnswersMany> {
    answering: T,
    bounds: Bounds,
    rounds: TaskTracker,
    state: Mutex<State<T>>,
}

struct State<T: AnswersMany> {
    waiting: VecDeque<Waiting<T>>,
    /// Rounds under way.
    under_way: usize,
    /// How many have begun.
    begun: u64,
    /// When the last of them did; none, once that is over.
    latest: Option<Instant>,
    /// Whether somebody watches how long they take.
    watched: bool,
}

struct Waiting<T: AnswersMany> {
    question: T::Question,
    tell: oneshot::Sender<T::Answer>,
}

impl<T: AnswersMany> Gather<T> {
    /// Nobody has asked yet.
    #[must_use]
    pub fn new(answering: T, bounds: Bounds) -> Self {
        let waiting = VecDeque::new();
        let state = State { waiting, under_way: 0, begun: 0, latest: None, watched: false };
        let (rounds, state) = (TaskTracker::new(), Mutex::new(state));
        Self { shared: Arc::new(Shared { answering, bounds, rounds, state }) }
    }

    /// Asks, alone or with others.
    ///
    /// # Errors
    /// When there will be no answer.
    pub async fn ask(&self, question: T::Question) -> Result<T::Answer, GivenUp> {
        let (tell, told) = oneshot::channel();
        let watches = {
            let mut state = self.shared.state();
            // However long a round takes, those who have gone away meanwhile take no room for long:
            // they came before those who are still there.
            while state.waiting.front().is_some_and(|it| it.tell.is_closed()) {
                state.waiting.pop_front();
            }
            state.waiting.push_back(Waiting { question, tell });
            let watches = !state.watched && state.under_way > 0;
            self.shared.bounds.spare.filter(|_| watches).inspect(|_| state.watched = true)
        };
        self.shared.go_on();
        if let Some(spare) = watches {
            self.shared.rounds.spawn(Arc::clone(&self.shared).watch(spare));
        }
        told.await.map_err(|_| GivenUp)
    }

    /// Waits until no round is under way, whoever waits for it. Nobody may ask any more.
    pub async fn end(&self) {
        self.shared.rounds.close();
        self.shared.rounds.wait().await;
    }
}

impl<T: AnswersMany> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has another one answer if it is time. It is not spawned with the state in hand: a runtime that
    /// ends drops it at once, and its end takes that too.
    fn go_on(self: &Arc<Self>) {
        let number = {
            let mut state = self.state();
            if !state.is_time(&self.bounds) {
                return;
            }
            state.under_way += 1;
            state.begin()
        };
        let runner = Runner { shared: Arc::clone(self), number, counted: true };
        self.rounds.spawn(runner.run());
    }

    /// Looks whether it is time for another one, for as long as somebody waits.
    async fn watch(self: Arc<Self>, spare: Spare) {
        loop {
            let due = {
                let mut state = self.state();
                if state.waiting.is_empty() {
                    state.watched = false;
                    return;
                }
                let now = Instant::now();
                let due = state.latest.map_or(now, |begun| begun + spare.after);
                due.max(now + spare.after / 4)
            };
            self.go_on();
            sleep_until(due).await;
        }
    }
}

impl<T: AnswersMany> State<T> {
    /// Whether a round is to begin beside those that are under way.
    fn is_time(&self, bounds: &Bounds) -> bool {
        if self.waiting.is_empty() || self.under_way == 0 {
            return !self.waiting.is_empty();
        }
        bounds.spare.is_some_and(|spare| {
            let take_long = self.latest.is_none_or(|begun| begun.elapsed() >= spare.after);
            self.under_way < spare.rounds && (take_long || self.is_full(bounds))
        })
    }

    /// Whether more wait than fit in one round.
    fn is_full(&self, bounds: &Bounds) -> bool {
        // None weighs less than one.
        self.waiting.len() > bounds.weight
    }

    /// The number of a round that begins now.
    fn begin(&mut self) -> u64 {
        self.begun += 1;
        self.latest = Some(Instant::now());
        self.begun
    }
}

/// One that answers until nobody waits any more, or another one does.
struct Runner<T: AnswersMany> {
    shared: Arc<Shared<T>>,
    /// Which round it is at, of all.
    number: u64,
    /// Whether it is counted among those under way.
    counted: bool,
}

/// The questions of a round, and whom to tell, in the same order.
type Round<T> =
    (Vec<<T as AnswersMany>::Question>, Vec<oneshot::Sender<<T as AnswersMany>::Answer>>);

impl<T: AnswersMany> Runner<T> {
    async fn run(mut self) {
        while let Some((questions, tell)) = self.next_round() {
            let answers = self.shared.answering.answer(questions).await;
            for (tell, answer) in tell.into_iter().zip(answers) {
                // Whoever has gone away meanwhile does not want it any more.
                tell.send(answer).ok();
            }
        }
    }

    /// The next round. When there is none, or one that began later can do it alone, this runner is no
    /// longer counted: whoever asks from now on brings a new one.
    fn next_round(&mut self) -> Option<Round<T>> {
        let mut state = self.shared.state();
        state.waiting.retain(|it| !it.tell.is_closed());
        let overtaken = self.number != state.begun && state.under_way > 1;
        if state.waiting.is_empty() || (overtaken && !state.is_full(&self.shared.bounds)) {
            state.under_way -= 1;
            if self.number == state.begun {
                // What is left was overtaken, and holds up nobody.
                state.latest = None;
            }
            self.counted = false;
            return None;
        }
        self.number = state.begin();
        let mut weight = 0;
        let fitting = state.waiting.iter().take_while(|it| {
            weight += T::weight(&it.question);
            weight <= self.shared.bounds.weight
        });
        let count = fitting.count().max(1);
        Some(state.waiting.drain(..count).map(|it| (it.question, it.tell)).unzip())
    }
}

impl<T: AnswersMany> Drop for Runner<T> {
    fn drop(&mut self) {
        if !self.counted {
            return;
        }
        // It has panicked, which the log says, or the runtime ends.
        let mut state = self.shared.state();
        state.under_way -= 1;
        if state.under_way == 0 {
            state.waiting.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{sync::Semaphore, task::JoinSet, time::sleep};

    const SPARE: Spare = Spare { after: Duration::from_millis(20), rounds: 3 };

    /// A question that weighs more than a round may.
    const HEAVY: u32 = 50;
    /// One whose round takes for ever.
    const STUCK: u32 = u32::MAX;

    /// Answers with the size of the round, when it may; panics when it is asked for 0.
    struct Sizes {
        may: Arc<Semaphore>,
    }

    impl AnswersMany for Sizes {
        type Question = u32;
        type Answer = (u32, usize);

        fn weight(question: &u32) -> usize {
            if *question == HEAVY { 100 } else { 1 }
        }

        async fn answer(&self, questions: Vec<u32>) -> Vec<(u32, usize)> {
            self.may.acquire().await.expect("open").forget();
            if questions.contains(&STUCK) {
                std::future::pending::<()>().await;
            }
            assert!(!questions.contains(&0), "asked for nothing");
            let size = questions.len();
            questions.into_iter().map(|question| (question, size)).collect()
        }
    }

    /// A runtime of one thread: it runs until all wait for something.
    async fn settle() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    struct Asked {
        gather: Arc<Gather<Sizes>>,
        may: Arc<Semaphore>,
        askers: JoinSet<Result<(u32, usize), GivenUp>>,
    }

    impl Asked {
        fn new(weight: usize, spare: Option<Spare>) -> Self {
            let may = Arc::new(Semaphore::new(0));
            let sizes = Sizes { may: Arc::clone(&may) };
            let gather = Arc::new(Gather::new(sizes, Bounds { weight, spare }));
            Self { gather, may, askers: JoinSet::new() }
        }

        /// Asks, and waits until the question is among those that wait or in a round.
        async fn ask(&mut self, question: u32) {
            let gather = Arc::clone(&self.gather);
            self.askers.spawn(async move { gather.ask(question).await });
            settle().await;
        }

        /// How many rounds are, and how many wait for one.
        fn under_way(&self) -> (usize, usize) {
            let state = self.gather.shared.state();
            (state.under_way, state.waiting.len())
        }

        async fn told(mut self) -> Vec<Result<(u32, usize), GivenUp>> {
            self.may.add_permits(1000);
            let mut told = Vec::new();
            while let Some(answer) = self.askers.join_next().await {
                told.push(answer.expect("no panic"));
            }
            told.sort_by_key(|it| it.map_or(0, |(question, _)| question));
            told
        }
    }

    #[tokio::test]
    async fn whoever_asks_alone_is_answered_alone_and_those_who_come_meanwhile_together() {
        let mut it = Asked::new(10, None);
        for question in 1..=4 {
            it.ask(question).await;
        }
        assert_eq!(it.told().await, [Ok((1, 1)), Ok((2, 3)), Ok((3, 3)), Ok((4, 3))]);
    }

    #[tokio::test]
    async fn rounds_are_no_larger_than_they_may_be() {
        let mut it = Asked::new(2, None);
        for question in 1..=5 {
            it.ask(question).await;
        }
        assert_eq!(it.told().await, [(1, 1), (2, 2), (3, 2), (4, 2), (5, 2)].map(Ok));
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_that_takes_long_holds_up_nobody_else_and_no_more_take_part_than_may() {
        let mut it = Asked::new(10, Some(SPARE));
        for question in 1..=4 {
            it.ask(question).await;
        }
        assert_eq!(it.under_way(), (1, 3));
        sleep(SPARE.after * 3 / 2).await;
        assert_eq!(it.under_way(), (2, 0));
        it.ask(5).await;
        it.ask(6).await;
        assert_eq!(it.under_way(), (2, 2));
        sleep(SPARE.after * 3 / 2).await;
        assert_eq!(it.under_way(), (3, 0));
        it.ask(7).await;
        sleep(SPARE.after * 10).await;
        assert_eq!(it.under_way(), (3, 1));
        let sizes = [(1, 1), (2, 3), (3, 3), (4, 3), (5, 2), (6, 2), (7, 1)];
        let gather = Arc::clone(&it.gather);
        assert_eq!(it.told().await, sizes.map(Ok));
        gather.end().await;
        assert_eq!(gather.shared.state().under_way, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn another_round_begins_at_once_when_more_wait_than_fit_in_one() {
        let mut it = Asked::new(2, Some(SPARE));
        for (question, under_way) in
            (1..).zip([(1, 0), (1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3)])
        {
            it.ask(question).await;
            assert_eq!(it.under_way(), under_way, "{question}");
        }
        let sizes = [(1, 1), (2, 2), (3, 2), (4, 2), (5, 2), (6, 2), (7, 2), (8, 1)];
        assert_eq!(it.told().await, sizes.map(Ok));
    }

    #[tokio::test(start_paused = true)]
    async fn once_no_round_takes_long_there_is_one_at_a_time_again() {
        let mut it = Asked::new(10, Some(SPARE));
        it.ask(1).await;
        it.ask(2).await;
        sleep(SPARE.after * 3 / 2).await;
        it.ask(3).await;
        assert_eq!(it.under_way(), (2, 1));
        // The first is over. It leaves the third to the one that has begun after it.
        it.may.add_permits(1);
        settle().await;
        assert_eq!(it.under_way(), (1, 1));
        assert_eq!(it.told().await, [(1, 1), (2, 1), (3, 1)].map(Ok));
    }

    #[tokio::test(start_paused = true)]
    async fn beside_a_round_that_is_stuck_nobody_waits_who_asks_alone() {
        let mut it = Asked::new(10, Some(SPARE));
        it.may.add_permits(1000);
        it.ask(STUCK).await;
        it.ask(1).await;
        sleep(SPARE.after * 3 / 2).await;
        assert_eq!(it.under_way(), (1, 0));
        let asked = Instant::now();
        assert_eq!(it.gather.ask(2).await, Ok((2, 1)));
        assert_eq!(asked.elapsed(), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_question_that_weighs_too_much_has_a_round_of_its_own() {
        let mut it = Asked::new(2, None);
        for question in [1, 2, HEAVY, 51, 52] {
            it.ask(question).await;
        }
        let sizes = [(1, 1), (2, 1), (HEAVY, 1), (51, 2), (52, 2)];
        assert_eq!(it.told().await, sizes.map(Ok));
    }

    #[tokio::test]
    async fn an_asker_who_goes_away_takes_nobody_elses_answer_along() {
        let mut it = Asked::new(10, None);
        it.ask(1).await;
        it.ask(2).await;
        // The one whose round is under way, and one who waits.
        it.askers.abort_all();
        while it.askers.join_next().await.is_some() {}
        it.ask(3).await;
        it.ask(4).await;
        assert_eq!(it.told().await, [Ok((3, 2)), Ok((4, 2))]);
    }

    #[tokio::test]
    async fn whoever_has_gone_takes_no_room_while_a_round_is_stuck() {
        let mut it = Asked::new(10, None);
        for question in 1..=100 {
            it.ask(question).await;
            if question > 1 {
                it.askers.abort_all();
                while it.askers.join_next().await.is_some() {}
            }
        }
        assert!(it.gather.shared.state().waiting.len() <= 2);
        it.may.add_permits(1000);
        it.gather.end().await;
    }

    #[tokio::test]
    async fn a_panic_is_told_to_those_who_wait_and_to_nobody_after_them() {
        let mut it = Asked::new(1, None);
        it.ask(0).await;
        it.ask(1).await;
        it.may.add_permits(1);
        for _ in 0..2 {
            let told = it.askers.join_next().await.expect("an asker").expect("no panic");
            assert_eq!(told, Err(GivenUp));
        }
        it.ask(2).await;
        assert_eq!(it.told().await, [Ok((2, 1))]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn each_of_many_askers_is_told_what_it_asked_for() {
        let mut it = Asked::new(7, Some(SPARE));
        it.may.add_permits(100_000);
        for asker in 0..50 {
            let gather = Arc::clone(&it.gather);
            it.askers.spawn(async move {
                for question in (1..=200).map(|it| asker * 1000 + it) {
                    assert_eq!(gather.ask(question).await?.0, question);
                }
                Ok((asker, 0))
            });
        }
        assert!(it.told().await.iter().all(Result::is_ok));
    }
}
