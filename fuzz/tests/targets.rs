//! Every target for a moment, from a seed that is always the same; and every input that is kept.

use std::collections::BTreeSet;
use std::time::Duration;

use fuzz::{TARGETS, Target, corpus, random};

/// All inputs that are tried in a test, and how long that may take on a busy machine.
const INPUTS: u64 = 3000;
const TIME: Duration = Duration::from_secs(4);
/// The longest that an input may take: far more than any does.
const SLOWEST: Duration = Duration::from_secs(5);

macro_rules! each {
    ($($test:ident $name:literal),+ $(,)?) => {
        $(
            #[test]
            fn $test() {
                let ran = random::run(Target::named($name).unwrap(), 7, TIME, INPUTS, &mut |_| {});
                let kept = u64::try_from(corpus::inputs($name).len()).unwrap();
                assert!(ran.inputs >= kept.max(10) && ran.slowest < SLOWEST, "{ran:?}");
            }
        )+

        #[test]
        fn each_target_is_tested_and_has_a_corpus() {
            let tested = BTreeSet::from([$($name),+]);
            let there: BTreeSet<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(tested, there);
            for target in TARGETS {
                assert!(!corpus::inputs(target.name).is_empty(), "{}", target.name);
            }
        }
    };
}

each! {
    key_text "key-text",
    filter_configuration "filter-configuration",
    fleet "fleet",
    gate_answers "gate-answers",
    limits "limits",
    slots "slots",
    paths "paths",
    addresses "addresses",
    networks "networks",
    header_pairs "header-pairs",
    messages "messages",
    cursors "cursors",
    urls "urls",
    settings "settings",
    backup "backup",
    edge_calls "edge-calls",
    admin_calls "admin-calls",
}
