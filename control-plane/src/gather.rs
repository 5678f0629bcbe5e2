//! Questions that come while others are being answered wait, and are then answered together: the
//! busier it is, the less each of them costs. Whoever asks alone is answered at once.

use std::{
    collections::VecDeque,
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::oneshot, time::timeout};
use tokio_util::task::TaskTracker;

#[cfg(test)]
mod tests;

/// What can answer many questions in one go.
pub trait AnswersMany: Send + Sync + 'static {
    /// What is asked.
    type Question: Send + 'static;
    /// What is told.
    type Answer: Send + 'static;

    /// How much of a round a question takes, at least 1.
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
    /// Those of them that have not taken long.
    fresh: usize,
}

struct Waiting<T: AnswersMany> {
    question: T::Question,
    tell: oneshot::Sender<T::Answer>,
}

impl<T: AnswersMany> Gather<T> {
    /// Nobody has asked yet.
    #[must_use]
    pub fn new(answering: T, bounds: Bounds) -> Self {
        let state = Mutex::new(State { waiting: VecDeque::new(), under_way: 0, fresh: 0 });
        Self { shared: Arc::new(Shared { answering, bounds, rounds: TaskTracker::new(), state }) }
    }

    /// Asks, alone or with others.
    ///
    /// # Errors
    /// When there will be no answer.
    pub async fn ask(&self, question: T::Question) -> Result<T::Answer, GivenUp> {
        let (tell, told) = oneshot::channel();
        {
            let mut state = self.shared.state();
            // However long a round takes, those who have gone away meanwhile take no room for long:
            // they came before those who are still there.
            while state.waiting.front().is_some_and(|it| it.tell.is_closed()) {
                state.waiting.pop_front();
            }
            state.waiting.push_back(Waiting { question, tell });
        }
        self.shared.go_on();
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
        {
            let mut state = self.state();
            let most = self.bounds.spare.map_or(1, |spare| spare.rounds);
            if state.under_way == most || !state.wants_round(&self.bounds) {
                return;
            }
            state.under_way += 1;
            state.fresh += 1;
        }
        let runner =
            Runner { shared: Arc::clone(self), fresh: true, counted: true, tell: Vec::new() };
        self.rounds.spawn(runner.run());
    }
}

impl<T: AnswersMany> State<T> {
    /// Whether somebody waits for more than the rounds that have not taken long.
    fn wants_round(&self, bounds: &Bounds) -> bool {
        // No question weighs less than one.
        let more_than_fit = self.waiting.len() > bounds.weight;
        !self.waiting.is_empty() && (self.fresh == 0 || more_than_fit)
    }
}

/// One that answers until nobody waits any more, or another one does.
struct Runner<T: AnswersMany> {
    shared: Arc<Shared<T>>,
    /// Whether its round has not taken long.
    fresh: bool,
    /// Whether it is counted among those under way.
    counted: bool,
    /// Whom to tell. When it panics they hear of it only after it is no longer counted.
    tell: Vec<oneshot::Sender<T::Answer>>,
}

impl<T: AnswersMany> Runner<T> {
    async fn run(mut self) {
        while let Some(questions) = self.next_round() {
            let answers = self.answers(questions).await;
            for (tell, answer) in self.tell.drain(..).zip(answers) {
                // Whoever has gone away meanwhile does not want it any more.
                tell.send(answer).ok();
            }
        }
    }

    /// The answers of a round. When they take long, another one goes on meanwhile.
    async fn answers(&mut self, questions: Vec<T::Question>) -> Vec<T::Answer> {
        let shared = Arc::clone(&self.shared);
        let mut answers = pin!(shared.answering.answer(questions));
        if let Some(spare) = shared.bounds.spare {
            if let Ok(answers) = timeout(spare.after, &mut answers).await {
                return answers;
            }
            self.fresh = false;
            shared.state().fresh -= 1;
            shared.go_on();
        }
        answers.await
    }

    /// The next round. When nobody waits, or others can do it alone, this runner is no longer counted:
    /// whoever asks from now on brings a new one.
    fn next_round(&mut self) -> Option<Vec<T::Question>> {
        let mut state = self.shared.state();
        state.waiting.retain(|it| !it.tell.is_closed());
        state.fresh -= usize::from(self.fresh);
        self.fresh = state.wants_round(&self.shared.bounds);
        if !self.fresh {
            state.under_way -= 1;
            self.counted = false;
            return None;
        }
        state.fresh += 1;
        let mut weight = 0;
        let fitting = state.waiting.iter().take_while(|it| {
            weight += T::weight(&it.question);
            weight <= self.shared.bounds.weight
        });
        let count = fitting.count().max(1);
        let round = state.waiting.drain(..count).map(|it| (it.question, it.tell));
        let (questions, tell) = round.unzip();
        self.tell = tell;
        Some(questions)
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
        state.fresh -= usize::from(self.fresh);
        if state.fresh == 0 {
            // Nobody else would tell them soon.
            state.waiting.clear();
        }
    }
}
