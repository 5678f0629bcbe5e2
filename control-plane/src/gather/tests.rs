//! How questions share rounds, and who waits for whom.

use super::*;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep},
};

const SPARE: Spare = Spare { after: Duration::from_millis(20), rounds: 3 };

const QUICK: Spare = Spare { after: Duration::from_millis(1), rounds: 3 };

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
        if questions.iter().any(|it| *it > 1000 && it % 40 == 0) {
            sleep(2 * QUICK.after).await;
        }
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

    /// The next so many are told that nobody answers them.
    async fn gives_up(&mut self, askers: usize) {
        for _ in 0..askers {
            let told = self.askers.join_next().await.expect("an asker").expect("no panic");
            assert_eq!(told, Err(GivenUp));
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
    it.gives_up(2).await;
    it.ask(2).await;
    assert_eq!(it.told().await, [Ok((2, 1))]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_beside_a_round_that_is_stuck_is_told_to_those_who_wait() {
    let mut it = Asked::new(1, Some(Spare { rounds: 2, ..SPARE }));
    it.may.add_permits(1);
    it.ask(STUCK).await;
    sleep(SPARE.after * 3 / 2).await;
    it.ask(0).await;
    it.ask(1).await;
    it.may.add_permits(1);
    it.gives_up(2).await;
    it.may.add_permits(1000);
    assert_eq!(it.gather.ask(2).await, Ok((2, 1)));
}

#[test]
fn a_runtime_that_ends_leaves_nobody_counted() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("one");
    let it = runtime.block_on(async {
        let mut it = Asked::new(1, Some(SPARE));
        it.ask(1).await;
        it.ask(2).await;
        it
    });
    let gather = Arc::clone(&it.gather);
    drop(it);
    drop(runtime);
    let state = gather.shared.state();
    assert_eq!((state.under_way, state.fresh, state.waiting.len()), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_many_askers_is_told_what_it_asked_for() {
    let mut it = Asked::new(7, Some(QUICK));
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
