//! Questions that come while others are being answered wait, and are then answered together: the
//! busier it is, the less each of them costs. Whoever asks alone is answered at once.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot;
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

/// How much at once, and in how many rounds that are under way at the same time.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// What the questions of a round may weigh together. One alone may weigh more.
    pub weight: usize,
    /// Rounds at the same time. One: questions are answered in the order in which they came.
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
    runners: usize,
}

struct Waiting<T: AnswersMany> {
    question: T::Question,
    tell: oneshot::Sender<T::Answer>,
}

impl<T: AnswersMany> Gather<T> {
    /// Nobody has asked yet.
    #[must_use]
    pub fn new(answering: T, bounds: Bounds) -> Self {
        let state = Mutex::new(State { waiting: VecDeque::new(), runners: 0 });
        Self { shared: Arc::new(Shared { answering, bounds, rounds: TaskTracker::new(), state }) }
    }

    /// Asks, alone or with others.
    ///
    /// # Errors
    /// When there will be no answer.
    pub async fn ask(&self, question: T::Question) -> Result<T::Answer, GivenUp> {
        let (tell, told) = oneshot::channel();
        let wants_runner = {
            let mut state = self.shared.state();
            // However long a round takes, those who have gone away meanwhile take no room for long:
            // they came before those who are still there.
            while state.waiting.front().is_some_and(|it| it.tell.is_closed()) {
                state.waiting.pop_front();
            }
            state.waiting.push_back(Waiting { question, tell });
            let wants_runner = state.runners < self.shared.bounds.rounds;
            state.runners += usize::from(wants_runner);
            wants_runner
        };
        if wants_runner {
            let runner = Runner { shared: Arc::clone(&self.shared), counted: true };
            self.shared.rounds.spawn(runner.run());
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
}

/// One that answers until nobody waits any more.
struct Runner<T: AnswersMany> {
    shared: Arc<Shared<T>>,
    /// Whether it is counted among the runners.
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

    /// The next round. When there is none, this runner is no longer counted, so that whoever asks
    /// from now on brings another one.
    fn next_round(&mut self) -> Option<Round<T>> {
        let mut state = self.shared.state();
        state.waiting.retain(|it| !it.tell.is_closed());
        let mut weight = 0;
        let fitting = state.waiting.iter().take_while(|it| {
            weight += T::weight(&it.question);
            weight <= self.shared.bounds.weight
        });
        let count = fitting.count().max(1).min(state.waiting.len());
        if count == 0 {
            state.runners -= 1;
            self.counted = false;
            return None;
        }
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
        state.runners -= 1;
        if state.runners == 0 {
            state.waiting.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{sync::Semaphore, task::JoinSet};

    /// A question that weighs more than a round may.
    const HEAVY: u32 = 50;

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
            assert!(!questions.contains(&0), "asked for nothing");
            let size = questions.len();
            questions.into_iter().map(|question| (question, size)).collect()
        }
    }

    struct Asked {
        gather: Arc<Gather<Sizes>>,
        may: Arc<Semaphore>,
        askers: JoinSet<Result<(u32, usize), GivenUp>>,
    }

    impl Asked {
        fn new(weight: usize, rounds: usize) -> Self {
            let may = Arc::new(Semaphore::new(0));
            let sizes = Sizes { may: Arc::clone(&may) };
            let gather = Arc::new(Gather::new(sizes, Bounds { weight, rounds }));
            Self { gather, may, askers: JoinSet::new() }
        }

        /// Asks, and waits until the question is among those that wait or in a round.
        async fn ask(&mut self, question: u32) {
            let gather = Arc::clone(&self.gather);
            self.askers.spawn(async move { gather.ask(question).await });
            // A runtime of one thread: it runs until all wait for something.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
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
        let mut it = Asked::new(10, 1);
        for question in 1..=4 {
            it.ask(question).await;
        }
        assert_eq!(it.told().await, [Ok((1, 1)), Ok((2, 3)), Ok((3, 3)), Ok((4, 3))]);
    }

    #[tokio::test]
    async fn rounds_are_no_larger_and_no_more_than_they_may_be() {
        let mut it = Asked::new(2, 2);
        for question in 1..=6 {
            it.ask(question).await;
        }
        let told = it.told().await;
        let sizes: Vec<_> = told.iter().map(|it| it.expect("told").1).collect();
        assert_eq!(sizes, [1, 1, 2, 2, 2, 2]);
    }

    #[tokio::test]
    async fn a_question_that_weighs_too_much_has_a_round_of_its_own() {
        let mut it = Asked::new(2, 1);
        for question in [1, 2, HEAVY, 51, 52] {
            it.ask(question).await;
        }
        let sizes = [(1, 1), (2, 1), (HEAVY, 1), (51, 2), (52, 2)];
        assert_eq!(it.told().await, sizes.map(Ok));
    }

    #[tokio::test]
    async fn an_asker_who_goes_away_takes_nobody_elses_answer_along() {
        let mut it = Asked::new(10, 1);
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
        let mut it = Asked::new(10, 1);
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
        let mut it = Asked::new(1, 1);
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
        let mut it = Asked::new(7, 3);
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
